"""Errors of files that no command has an error of its own for: whose they are, in words.

Of what was named on the command line, or of the storage, it is the user's input (2); of anything
else, a full disk above all, the work has failed (1). So it has where something is missing within
what was named: it may have been moved, or be a mistake of ours, and is told with its place. What is
missing, or of another kind, where nobody has named it keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeps.storages import DEFAULT_STORAGE

_ROOT = Path(__file__).parents[2]
_DENIED = "do it as the user whose it is, or ask for the right to it"
_FULL = "free space there and run the same again; what has finished stays (rc-sweep resume)"
_FILES = "raise the limit of open files (ulimit -n) and run the same again"
# What keeps somebody out of any path, and what to do about it.
_OF_RIGHTS = {
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "nothing can be written there; name another place",
}
# What a path may be wrong by that somebody has named.
_OF_NAMES = {
    errno.ENOENT: "look whether it was moved or removed",
    errno.ENOTDIR: "a part of it is a file; look at the path",
    errno.EISDIR: "it is a folder where a file is needed; look at the path",
    errno.EEXIST: "it is there already; look at the path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links lead in a circle; look at the path",
}
# Those that say nothing of what was named itself where they are of a part of it.
_OF_PARTS = (errno.ENOENT, errno.EEXIST, errno.EISDIR)
_MOVED = "if nobody has moved or made it, that is a mistake in rc-sweep: please report it"
_OF_MACHINES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EIO: "the disk, or the service behind it, fails: look at that",
    errno.ESTALE: "the mounted folder is gone; mount it again",
}


def told(error: OSError, arguments: Sequence[str]) -> tuple[str, int] | None:
    """Return what to say of an error and the exit code; None where that may be our own mistake.

    Args:
        error: that nothing has caught.
        arguments: of the command line.
    """
    code = error.errno or 0
    advice = (_OF_RIGHTS | _OF_NAMES | _OF_MACHINES).get(code)
    named = [os.fsdecode(each) for each in (error.filename, error.filename2)
             if isinstance(each, str | bytes | os.PathLike)]  # fmt: skip
    if advice is None or not (named or code in _OF_MACHINES):
        return None
    given = [*_given(arguments)]
    own = code not in _OF_MACHINES and any(_is_of(Path(each), given) for each in named)
    if code in _OF_NAMES and not own:
        return None
    where = f"{' -> '.join(named)}: " if named else ""
    if code in _OF_PARTS and not any(_is_on_the_way(Path(each), given) for each in named):
        return f"{where}{error.strerror} (in {_place(error)}); {_MOVED}", 1
    return f"{where}{error.strerror}; {advice}", 2 if own else 1


def _given(arguments: Sequence[str]) -> Iterator[Path]:
    """Yield what the user has named, if it is a path: arguments, values of options, the storage."""
    words = [*arguments, os.environ.get("RC_STORAGE", ""), DEFAULT_STORAGE]
    for word in words:
        for part in {word, word.partition("=")[2]}:
            if part and not part.startswith("-"):
                yield Path(os.path.abspath(os.path.expanduser(part)))


def _is_on_the_way(path: Path, given: Sequence[Path]) -> bool:
    """Tell whether a path is one that was given, leads to it, or lies in one that is not there."""
    path = Path(os.path.abspath(path))
    return any(
        path == each or path in each.parents or (each in path.parents and not each.exists())
        for each in given
    )


def _place(error: OSError) -> str:
    """Return where in our code an error arose: file, line and function."""
    place = "a library"
    for frame in traceback.extract_tb(error.__traceback__):
        package, _, file = frame.filename.removeprefix(f"{_ROOT}{os.sep}").partition(os.sep)
        if package in ("rc_core", "sweeps"):
            place = f"{package}/{file}:{frame.lineno}, {frame.name}"
    return place


def _is_of(path: Path, given: Sequence[Path]) -> bool:
    """Tell whether a path is one that was given, lies in it, or is a folder on the way to it."""
    path = Path(os.path.abspath(path))
    return any(path == each or path in each.parents or each in path.parents for each in given)
