"""Every YAML that is shipped validates, as `rc-sweep validate` would."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc_core.yaml_files import read_yaml
from sweeps.config import SweepConfig, load_sweep
from sweeps.views.paper_results import ALPHA, PaperRow, row_beside

FOLDER = Path(__file__).resolve().parents[2] / "tune_configs"
# A fragment is no sweep by itself; a cluster's file belongs to Ray.
LOCAL = ["model=packaged:all-MiniLM-L6-v2"]
NOT_SWEEPS = ("parts", "cluster")


def found(folder: Path) -> list[Path]:
    """Return every YAML below a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml"))


def first_part(path: Path) -> str:
    return path.relative_to(FOLDER).parts[0]


def included(path: Path) -> set[Path]:
    """Return the files that a YAML includes, directly or not."""
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [
        name.strip(" '\"")
        for line in lines
        if line.startswith("include:")
        for name in line.partition(":")[2].partition("#")[0].strip(" []").split(",")
    ]
    direct = {(path.parent / name).resolve() for name in names if name}
    return direct.union(*(included(target) for target in direct))


SWEEPS = [path for path in found(FOLDER) if first_part(path) not in NOT_SWEEPS]
PARTS = [path for path in found(FOLDER) if first_part(path) == "parts"]
PAPER = [path for path in SWEEPS if FOLDER / "parts/paper.yaml" in included(path)]


def test_there_are_configurations() -> None:
    assert FOLDER / "quickstart.yaml" in SWEEPS


def test_all_have_one_suffix() -> None:
    assert [path.name for path in found(FOLDER) if path.suffix != ".yaml"] == []


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_sweep_validates(path: Path) -> None:
    # A hub id's facts need a download: such a sweep is validated on an encoder that is here.
    overrides = [] if str(read_yaml(path)["model"]).startswith("packaged:") else LOCAL
    sweep = load_sweep(path, overrides)
    assert SweepConfig(sweep.as_dict()).as_dict() == sweep.as_dict()
    # A fixed design may list the dense reference among its rows.
    rows = {sweep.trial(point).fingerprint() for point in sweep.first_points()}
    assert sweep.settings.search.trials >= len(rows | {sweep.reference().fingerprint()})


@pytest.mark.parametrize("path", PARTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_part_is_included_by_a_sweep_that_validates(path: Path) -> None:
    read_yaml(path)
    assert any(path.resolve() in included(sweep) for sweep in SWEEPS), (
        f"nothing includes {path.name}, so nothing validates it: use it or remove it"
    )


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_a_table_of_the_paper_has_its_alpha_and_a_teacher_for_each_seed(path: Path) -> None:
    sweep = load_sweep(path, LOCAL)
    trials = [sweep.trial(point) for point in sweep.first_points()]
    assert {each.training.seed for each in trials} == {0, 1, 2}
    # The dense row of a seed is the teacher of that seed: it is trained once.
    dense = {each.reference().fingerprint() for each in trials}
    rows = {each.fingerprint() for each in trials}
    assert len(dense) == 3 and sweep.settings.search.trials == len(rows | dense)
    found = {each.loss.as_dict()["alpha"] for each in trials if each.loss.name == "rmc"}
    assert found <= {ALPHA[sweep.base["task"]["name"]]}
    # Another task given on the command line would keep the alpha of the file.
    offered = "--set task=" in path.read_text(encoding="utf-8")
    assert not (offered and found)


def test_there_are_the_paper_s_tables() -> None:
    assert {path.stem.partition("_")[0] for path in PAPER} == {
        "table1", "table2", "table3", "table4", "table5", "figure1", "figure3"
    }  # fmt: skip
    tasks = {load_sweep(p, LOCAL).base["task"]["name"] for p in PAPER if "table4" in p.stem}
    assert tasks == set(ALPHA)


@pytest.mark.parametrize(
    "path", [p for p in PAPER if p.stem[:6] in ("table1", "table2", "table3", "table4")],
    ids=lambda path: path.stem,
)  # fmt: skip
def test_each_row_of_a_table_has_the_paper_s_beside_it(path: Path) -> None:
    sweep = load_sweep(path, LOCAL)
    task = sweep.base["task"]["name"]
    for point in sweep.first_points():
        trial = sweep.trial(point)
        compression = trial.compression
        loss = trial.label().removeprefix(f"{compression.label()} ")
        beside = row_beside(task, compression.label(), compression.model_dump(), loss)
        assert isinstance(beside, PaperRow), (trial.label(), beside)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("model: x", set()),
        ("include: [b.yaml, sub/c.yaml]", {"b.yaml", "sub/c.yaml", "sub/d.yaml"}),
        ("include: b.yaml  # why", {"b.yaml"}),
        ("include: ['b.yaml']", {"b.yaml"}),
    ],
)
def test_includes_are_found(tmp_path: Path, text: str, names: set[str]) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.yaml").write_text("seed: 0")
    (tmp_path / "sub/c.yaml").write_text("include: [d.yaml]")
    (tmp_path / "sub/d.yaml").write_text("seed: 0")
    (tmp_path / "a.yaml").write_text(text)
    assert included(tmp_path / "a.yaml") == {(tmp_path / name).resolve() for name in names}
