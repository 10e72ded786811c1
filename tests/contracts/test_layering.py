"""Each layer imports only those before it; read from the source, so nothing is imported here."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 350

# One line is one layer, from the bottom up. A name that ends in `.*` is a package of plugins: its
# modules may import each other; any other two modules of one line may not.
LAYERS = """
rc_core rc_core.errors rc_core.labels rc_core.atomic rc_core.former rc_core.memory
rc_core.plugins rc_core.schema rc_core.yaml_files
rc_core.config rc_core.record
rc_core.artifacts
rc_core.model_facts
rc_core.compression._layers
rc_core.models rc_core.layout
rc_core.encoders
rc_core.data.*
rc_core.difficulty.*
rc_core.losses.* rc_core.compression.*
rc_core.metrics.* rc_core.cpu_steps rc_core.first_token rc_core.feeds
rc_core.cuda_steps rc_core.forward
rc_core.train_step
rc_core.training
rc_core.precision
rc_core.workspace rc_core.checkpoint
rc_core.evaluation
rc_core.teacher
rc_core.importance
rc_core.stages
rc_core.estimates
rc_core.assembly
rc_core.alpha
rc_core.preparation
rc_core.trial_run
rc_core.trial rc_core.throughput rc_core.job_list
rc_core.pool
rc_core.batch
sweeps.engine sweeps.tracking sweeps.selection sweeps.views sweeps.deploy sweeps.simulation
sweeps.doctor sweeps.verification
sweeps.objectives sweeps.constraints sweeps.space sweeps.pareto sweeps.starters
sweeps.comparable sweeps.json_files sweeps.space_section sweeps.cores
sweeps.shown_values
sweeps.exclusion
sweeps.rows
sweeps.engine.ranking
sweeps.engine.rungs sweeps.engine.live_front
sweeps.plugin_configs sweeps.plugin_texts
sweeps.settings sweeps.sections
sweeps.remote sweeps.remote.address sweeps.remote.files sweeps.fixed_design
sweeps.selection.one_start sweeps.trial_count
sweeps.views.paper_results sweeps.views.paper_rows
sweeps.remote.objects
sweeps.remote.steps
sweeps.remote.pulling sweeps.remote.pushing
sweeps.remote.artifacts
sweeps.remote.mirror
sweeps.attempt_note
sweeps.storages sweeps.failure sweeps.prepared
sweeps.names
sweeps.remote.lease sweeps.remote.trials sweeps.remote.worker
sweeps.remote.shelf sweeps.remote.uploads
sweeps.config sweeps.folder sweeps.selection.statistics sweeps.local_port
sweeps.commands sweeps.ending
sweeps.selection.measured
sweeps.selection.bootstrap sweeps.selection.answers sweeps.selection.choose
sweeps.selection.chances
sweeps.selection.compared sweeps.selection.explain
sweeps.floors sweeps.tables sweeps.artifact_uses sweeps.short_training
sweeps.inventory
sweeps.selection.budgets sweeps.selection.tested sweeps.selection.opened_data
sweeps.engine.data_check sweeps.engine.address
sweeps.engine.shares sweeps.engine.step_shares sweeps.engine._internals sweeps.engine.rough_time
sweeps.search.* sweeps.schedulers.* sweeps.tracking.outbox
sweeps.engine.health_gate
sweeps.engine.trainable sweeps.engine.cluster sweeps.engine.budget sweeps.engine.warm_start
sweeps.tracking.shown sweeps.engine.left_open
sweeps.engine.assignments sweeps.engine.ray_scheduler sweeps.engine.slots sweeps.engine.ray_tasks
sweeps.tracking.tracked
sweeps.tracking.mlflow_store sweeps.engine.retry sweeps.engine.listed
sweeps.tracking.mlflow_models sweeps.tracking.mlflow_view sweeps.engine.wanted sweeps.removal
sweeps.tracking.mlflow_writer
sweeps.views.paper_table sweeps.simulation.replay
sweeps.views.placing
sweeps.views.picture_names
sweeps.views.picture sweeps.simulation.simulate
sweeps.simulation.simulated
sweeps.views.live
sweeps.stored_sweep
sweeps.selection.noise
sweeps.selection.confirmed
sweeps.selection.mean_rows
sweeps.tracking.events
sweeps.tracking.afterwards
sweeps.views.watch
sweeps.views.progress
sweeps.engine.ray_bridge sweeps.engine.prepare sweeps.engine.packing
sweeps.deploy.texts
sweeps.selection.stamp sweeps.selection.options
sweeps.deploy.model_card
sweeps.selection.confirmed_text sweeps.selection.tested_text
sweeps.views.notebook_picture
sweeps.views.notebook
sweeps.reporting.*
sweeps.doctor.services
sweeps.doctor.storage
sweeps.doctor.checks
sweeps.engine.resuming sweeps.engine.relocating sweeps.engine.attempt sweeps.engine.launch_check
sweeps.engine.runner sweeps.engine.adopt sweeps.engine.dry_run
sweeps.verification.sealed sweeps.deploy.export sweeps.views.status
sweeps.verification.confirm sweeps.deploy.latency
sweeps.api
sweeps.launching
sweeps
sweeps.cli.options sweeps.cli.unforeseen sweeps.cli.interrupted
sweeps.cli.results sweeps.cli.artifacts sweeps.cli.engine sweeps.cli.doctor sweeps.cli.report
sweeps.cli.latency sweeps.cli.storage sweeps.cli.listing sweeps.cli.elsewhere
sweeps.cli.entry
sweeps.cli
sweeps.cli.__main__
"""

# Folders of `sweeps`, from the bottom up: what lies in one imports from those before it only. (What
# lies in none is at the bottom or at the top: LAYERS says where.)
ROOMS = ["remote", "selection", "search", "views", "tracking", "deploy", "reporting", "doctor"]
ROOMS += ["engine", "schedulers", "simulation", "verification", "cli"]

# Imports that point upwards; each is inside a function, so that importing the module is quick.
UPWARD: set[tuple[str, str]] = set()

# Libraries that may be imported in the named places only.
CONFINED = {
    "ray": {
        "sweeps.engine._internals",
        "sweeps.engine.cluster",
        "sweeps.engine.packing",
        "sweeps.engine.ray_bridge",
        "sweeps.engine.ray_scheduler",
        "sweeps.engine.runner",
        "sweeps.engine.ray_tasks",
        "sweeps.engine.trainable",
    },
    "optuna": {"sweeps.search.*"},
    "mlflow": {
        "sweeps.tracking.mlflow_models",
        "sweeps.tracking.mlflow_store",
        "sweeps.tracking.mlflow_view",
        "sweeps.tracking.mlflow_writer",
    },
    "pyarrow.fs": {"sweeps.remote.objects"},
    "importlib.import_module": {"rc_core.plugins"},
}
# What a machine that only runs trials need not have; rc_core may not know of these at all.
NOT_IN_CORE = ("sweeps", "ray", "optuna", "mlflow", "typer", "rich", "plotly", "matplotlib")


@dataclass(frozen=True)
class Import:
    """One imported name: `from a import b` is `a.b`."""

    module: str
    target: str
    line: int
    in_function: bool


def module_name(path: Path, root: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path) -> dict[str, Path]:
    """Return every module of both packages."""
    files = [path for package in ("rc_core", "sweeps") for path in (root / package).rglob("*.py")]
    return {module_name(path, root): path for path in sorted(files)}


def imports(module: str, source: str) -> Iterator[Import]:
    """Yield what a module imports, but for what only runs as a script."""

    def walk(node: ast.AST, in_function: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, in_function)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports must be absolute"
            for alias in node.names:
                yield Import(module, f"{node.module}.{alias.name}", node.lineno, in_function)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("importlib.import_module", "import_module", "__import__"):
                yield Import(module, "importlib.import_module", node.lineno, in_function)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(ast.parse(source), False)


def matches(module: str, pattern: str) -> bool:
    """Return whether a layer's entry covers a module."""
    package = pattern.removesuffix(".*")
    return module == package or (package != pattern and module.startswith(f"{package}."))


def place(module: str, layers: Sequence[Sequence[str]]) -> tuple[int, str] | None:
    """Return the layer of a module and the entry that covers it."""
    for level, entries in enumerate(layers):
        for entry in entries:
            if matches(module, entry):
                return level, entry
    return None


def violations(root: Path, table: str, upward: Set[tuple[str, str]] = frozenset()) -> list[str]:
    """Return a line for each module without a place and each import that points upwards."""
    layers = [line.split() for line in table.strip().splitlines()]
    modules = sources(root)
    found: list[str] = []
    for module, path in modules.items():
        own = place(module, layers)
        if own is None:
            found.append(f"{module} has no layer: place it in LAYERS of {Path(__file__).name}")
            continue
        for item in imports(module, path.read_text(encoding="utf-8")):
            target = item.target
            while target and target not in modules:
                parent = target.rpartition(".")[0]
                # A name inside a module is not a module of the package beside it.
                if parent not in modules and place(target, layers) is not None:
                    break
                target = parent
            other = place(target, layers) if target else None
            if other is None or other[0] < own[0] or target == module:
                continue
            if other == own and own[1].endswith(".*"):
                continue
            if item.in_function and (module, target) in upward:
                continue
            found.append(
                f"{module}:{item.line} imports {target}, which is not below it: move what both "
                "need down, or the caller up"
            )
    return found


def strays(root: Path, confined: Mapping[str, set[str]]) -> list[str]:
    """Return a line for each confined library that is imported elsewhere."""
    return [
        f"{module}:{item.line} imports {item.target}; only {', '.join(sorted(places))} may"
        for module, path in sources(root).items()
        for item in imports(module, path.read_text(encoding="utf-8"))
        for library, places in confined.items()
        if item.target == library or item.target.startswith(f"{library}.")
        if not any(matches(module, entry) for entry in places)
    ]


def test_each_layer_imports_only_those_before_it() -> None:
    assert len(sources(ROOT)) > 30, "the packages were not found"
    found = violations(ROOT, LAYERS, UPWARD)
    assert not found, "\n".join(found)


def test_rooms_stand_on_each_other() -> None:
    """Or two of them would be one: LAYERS alone lets files of two rooms alternate."""

    def room(module: str) -> str | None:
        package, _, rest = module.partition(".")
        name = rest.partition(".")[0]
        return name if package == "sweeps" and (ROOT / "sweeps" / name).is_dir() and name else None

    modules = sources(ROOT)
    assert {found for each in modules if (found := room(each))} == set(ROOMS)
    wrong = [
        f"{module}:{item.line} imports {item.target}, of a room above or beside it"
        for module, path in modules.items()
        for item in imports(module, path.read_text(encoding="utf-8"))
        if (own := room(module)) and (other := room(item.target)) and own != other
        if ROOMS.index(other) > ROOMS.index(own)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_exceptions_are_still_needed() -> None:
    found = {
        (module, edge[1])
        for module, path in sources(ROOT).items()
        for item in imports(module, path.read_text(encoding="utf-8"))
        for edge in UPWARD
        if module == edge[0] and item.target.startswith(edge[1])
    }
    assert found == UPWARD


def test_libraries_stay_in_their_room() -> None:
    found = strays(ROOT, CONFINED)
    assert not found, "\n".join(found)


def test_rc_core_knows_nothing_of_the_sweep() -> None:
    core = {name: path for name, path in sources(ROOT).items() if name.startswith("rc_core")}
    found = [
        f"{module}:{item.line} imports {item.target}"
        for module, path in core.items()
        for item in imports(module, path.read_text(encoding="utf-8"))
        if item.target.split(".")[0] in NOT_IN_CORE
    ]
    assert not found, "\n".join(found)


def test_a_plugin_is_one_file() -> None:
    """What two share starts with an underscore; one that scores another's outputs names it."""
    packages = {line.removesuffix(".*") for line in LAYERS.split() if line.endswith(".*")}
    plugins = {
        module: path
        for module, path in sources(ROOT).items()
        if module.rpartition(".")[0] in packages - {"sweeps.reporting", "rc_core.metrics"}
        and not module.rpartition(".")[2].startswith("_")
    }
    assert {"rc_core.losses.rmc", "sweeps.search.random"} <= set(plugins)
    found = []
    for module, path in plugins.items():
        source = path.read_text(encoding="utf-8")
        for item in imports(module, source):
            package, _, _name = item.target.rpartition(".")
            other = item.target if item.target in plugins else package
            same_kind = other.rpartition(".")[0] == module.rpartition(".")[0]
            scored = f'OUTPUTS_OF = "{other.rpartition(".")[2]}"' in source
            if other in plugins and same_kind and not scored:
                found.append(f"{module}:{item.line} imports {other}")
    assert not found, "\n".join(found)


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *extras["quickstart"], *extras["cluster"]]
    declared = {_canonical(requirement) for requirement in required}
    distributions = importlib.metadata.packages_distributions()
    missing = set()
    for module, path in sources(ROOT).items():
        for item in imports(module, path.read_text(encoding="utf-8")):
            top = item.target.split(".")[0]
            if top in sys.stdlib_module_names or top in ("rc_core", "sweeps"):
                continue
            owners = {_canonical(name) for name in distributions.get(top, [])}
            if not owners & declared:
                missing.add(f"{module} imports {top}: add it to the dependencies in pyproject.toml")
    assert not missing, "\n".join(sorted(missing))


def _canonical(requirement: str) -> str:
    name = requirement
    for mark in "[<>=!~; ":
        name = name.split(mark)[0]
    return name.lower().replace("_", "-").replace(".", "-")


@pytest.mark.parametrize("path", sources(ROOT).values(), ids=sources(ROOT).keys())
def test_modules_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.name} has {lines} lines: cut it where the subject changes"


SMALL = """
rc_core rc_core.low
rc_core.parts.*
rc_core.high
sweeps
"""


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("rc_core/low.py", "import json", None),
        ("rc_core/high.py", "from rc_core import low", None),
        ("rc_core/high.py", "from rc_core.low import value", None),
        ("rc_core/low.py", "from rc_core.high import value", "rc_core.low:1 imports rc_core.high"),
        ("rc_core/low.py", "from rc_core import high", "rc_core.low:1 imports rc_core.high"),
        ("rc_core/low.py", "import rc_core.high", "rc_core.low:1 imports rc_core.high"),
        ("rc_core/low.py", "def f():\n    import rc_core.high", "rc_core.low:2 imports"),
        ("rc_core/low.py", "if __name__ == '__main__':\n    import rc_core.high", None),
        ("rc_core/parts/a.py", "from rc_core.parts import b", None),
        ("rc_core/parts/a.py", "from rc_core.high import value", "rc_core.parts.a:1 imports"),
        ("rc_core/new.py", "", "rc_core.new has no layer"),
    ],
)
def test_the_check_itself(tmp_path: Path, module: str, source: str, expected: str | None) -> None:
    for name in ("__init__", "low", "high", "parts/__init__", "parts/b"):
        path = tmp_path / "rc_core" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("value = 1\n")
    (tmp_path / module).write_text(source)
    found = violations(tmp_path, SMALL)
    assert len(found) == (expected is not None)
    assert expected is None or found[0].startswith(expected)


def test_an_exception_holds_only_inside_a_function(tmp_path: Path) -> None:
    (tmp_path / "rc_core").mkdir()
    (tmp_path / "rc_core/high.py").write_text("")
    allowed = {("rc_core.low", "rc_core.high")}
    (tmp_path / "rc_core/low.py").write_text("def f():\n    import rc_core.high")
    assert violations(tmp_path, SMALL, allowed) == []
    (tmp_path / "rc_core/low.py").write_text("import rc_core.high")
    assert len(violations(tmp_path, SMALL, allowed)) == 1


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import mlflow", 1),
        ("from mlflow.tracking import MlflowClient", 1),
        ("import mlflow_other", 0),
        ("import importlib\nimportlib.import_module('mlflow')", 1),
        ("def f():\n    import mlflow", 1),
    ],
)
def test_the_confinement_check_itself(tmp_path: Path, source: str, count: int) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/report.py").write_text(source)
    assert len(strays(tmp_path, CONFINED)) == count
    (tmp_path / "sweeps/tracking").mkdir()
    (tmp_path / "sweeps/report.py").rename(tmp_path / "sweeps/tracking/mlflow_store.py")
    confined = {"mlflow": CONFINED["mlflow"]}
    assert strays(tmp_path, confined) == []
