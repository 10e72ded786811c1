"""Copies the starter YAMLs out of the package, for users of the wheel."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path
from typing import Any

import yaml

from rc_core import plugins
from rc_core.errors import StorageError, did_you_mean
from rc_core.yaml_files import read_yaml


def starters_folder() -> Path:
    """Return the folder of starter YAMLs: inside the wheel, or the checkout's tune_configs/."""
    inside = Path(__file__).parent / "_configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "tune_configs"


def copy_starters(name: str | None, out: Path) -> list[Path]:
    """Copy one starter, its includes and all fragments it may include; or all starters.

    Args:
        name: stem of one YAML; None for all.
        out: target folder, created if missing.

    Returns:
        The files written; identical files that exist already are skipped.

    Raises:
        StorageError: no such starter, or a different file exists (nothing is overwritten).
    """
    source = starters_folder()
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    stems = sorted(path.stem for path in files if path.parent == Path("."))
    if name is not None:
        if name not in stems:
            raise StorageError(f"unknown starter '{name}': {did_you_mean(name, stems)}")
        wanted = _with_includes(source / f"{name}.yaml")
        # Resolved, as `_with_includes` returns them; the folder may be reached through a link.
        files = [f for f in files if (source / f).resolve() in wanted or f.parts[0] == "parts"]
    taken = [path for path in files if (out / path).exists()]
    files = [path for path in files if path not in taken]
    other = [str(out / path) for path in taken if not _same(source / path, out / path)]
    if other:
        raise StorageError(
            f"existing files are not overwritten, but {', '.join(other)} differ; give another --out"
        )
    written = []
    for path in files:
        target = out / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, target)
        except OSError as error:
            raise StorageError(f"{target} must be writable: {error.strerror}") from error
        written.append(target)
    return written


def launch_command(name: str, out: Path) -> str:
    """Return the command that runs a starter, with what the user must fill in."""
    command = f"rc-sweep launch {out / name}.yaml"
    task: dict[str, Any] = read_yaml(starters_folder() / f"{name}.yaml")["task"]
    if "data_dir" not in plugins.load("rc_core.data", task["name"]).Config.model_fields:
        return command
    train = task.get("roles", {}).get("train", "the data")
    return f"{command} --set task.data_dir=FOLDER   (your folder that holds {train})"


def _with_includes(path: Path) -> set[Path]:
    """Return a YAML and all its direct and indirect includes, with links resolved."""
    names = yaml.safe_load(path.read_text(encoding="utf-8")).get("include", [])
    # A single name is allowed, as in `read_yaml`.
    names = [names] if isinstance(names, str) else names
    return {path.resolve()}.union(*(_with_includes(path.parent / name) for name in names))


def _same(first: Path, second: Path) -> bool:
    return second.is_file() and filecmp.cmp(first, second, shallow=False)
