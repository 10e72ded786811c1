"""Every YAML that is shipped validates, as `rc-sweep validate` would."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc_core.yaml_files import read_yaml
from sweeps.config import load_sweep

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


def test_there_are_configurations() -> None:
    assert FOLDER / "quickstart.yaml" in SWEEPS


def test_all_have_one_suffix() -> None:
    assert [path.name for path in found(FOLDER) if path.suffix != ".yaml"] == []


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_sweep_validates(path: Path) -> None:
    # A hub id's facts need a download: such a sweep is validated on an encoder that is here.
    overrides = [] if str(read_yaml(path)["model"]).startswith("packaged:") else LOCAL
    sweep = load_sweep(path, overrides)
    assert load_sweep(path, overrides).fingerprint() == sweep.fingerprint()
    # A fixed design may list the dense reference among its rows.
    rows = {sweep.trial(point).fingerprint() for point in sweep.first_points()}
    assert sweep.settings.search.trials >= len(rows | {sweep.reference().fingerprint()})


@pytest.mark.parametrize("path", PARTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_part_is_included_by_a_sweep_that_validates(path: Path) -> None:
    read_yaml(path)
    assert any(path.resolve() in included(sweep) for sweep in SWEEPS), (
        f"nothing includes {path.name}, so nothing validates it: use it or remove it"
    )


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
