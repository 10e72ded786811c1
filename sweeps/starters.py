"""Copying the starter YAMLs out of the package, for those who installed the wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from rc_core.errors import StorageError, did_you_mean


def starters_folder() -> Path:
    """Return the folder of starter YAMLs: inside the wheel, or the checkout's tune_configs/."""
    inside = Path(__file__).parent / "_configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "tune_configs"


def copy_starters(name: str | None, out: Path) -> list[Path]:
    """Copy one starter with the fragments it may include, or all of them.

    Args:
        name: stem of one YAML; None for all.
        out: target folder, made where there is none.

    Returns:
        The files written.

    Raises:
        StorageError: no such starter, or a file is there already (nothing is overwritten).
    """
    source = starters_folder()
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    stems = sorted(path.stem for path in files if path.parent == Path("."))
    if name is not None:
        if name not in stems:
            raise StorageError(f"unknown starter '{name}': {did_you_mean(name, stems)}")
        files = [f for f in files if f.stem == name or f.parts[0] == "parts"]
    taken = [str(out / path) for path in files if (out / path).exists()]
    if taken:
        raise StorageError(
            f"nothing is overwritten, but {', '.join(taken)} exist; give another --out"
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
