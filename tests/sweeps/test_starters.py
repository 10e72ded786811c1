"""`rc-sweep init`: what it copies can be launched, one starter after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rc_core.errors import StorageError
from rc_core.yaml_files import read_yaml
from sweeps.cli import app
from sweeps.starters import copy_starters, starters_folder

NAMES = sorted(path.stem for path in starters_folder().glob("*.yaml"))


def test_every_starter_comes_with_what_it_includes_and_into_one_folder(tmp_path: Path) -> None:
    for name in NAMES:
        copy_starters(name, tmp_path / name)
        assert read_yaml(tmp_path / name / f"{name}.yaml")["model"]
        copy_starters(name, tmp_path / "all")
    assert copy_starters(NAMES[0], tmp_path / "all") == [], "what is the same is left alone"
    changed = tmp_path / "all" / "parts" / "minilm.yaml"
    changed.write_text("model: mine\n")
    with pytest.raises(StorageError, match=r"files are not overwritten, but .*minilm.yaml differ"):
        copy_starters(NAMES[0], tmp_path / "all")
    assert changed.read_text() == "model: mine\n"


@pytest.mark.parametrize(("name", "asked"), [("fever", True), ("quickstart", False)])
def test_the_command_it_prints_asks_for_the_data(tmp_path: Path, name: str, asked: bool) -> None:
    done = CliRunner().invoke(app, ["init", name, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    last = done.output.splitlines()[-1]
    assert f"rc-sweep launch {tmp_path}/{name}.yaml" in last
    assert ("--set task.data_dir=FOLDER" in last) is asked


def test_an_include_comes_along_through_a_link_and_where_it_is_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    (real / "shared").mkdir(parents=True)
    (real / "mine.yaml").write_text("include: shared/base.yaml\n")
    (real / "shared" / "base.yaml").write_text("include: [deep.yaml]\nmodel: tiny:bert\n")
    (real / "shared" / "deep.yaml").write_text("training: {epochs: 1}\n")
    (real / "shared" / "unused.yaml").write_text("model: other\n")
    (tmp_path / "link").symlink_to(real)
    monkeypatch.setattr("sweeps.starters.starters_folder", lambda: tmp_path / "link")
    out = tmp_path / "out"
    copied = [path.relative_to(out).as_posix() for path in copy_starters("mine", out)]
    assert copied == ["mine.yaml", "shared/base.yaml", "shared/deep.yaml"]
    assert read_yaml(out / "mine.yaml") == {"training": {"epochs": 1}, "model": "tiny:bert"}
