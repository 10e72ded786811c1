"""Messages and exit codes for OSErrors that no command handles itself.

An error on a path that was named on the command line, or on the storage, is wrong input (2). With
anything else, above all a full disk, the work has failed (1). The same holds for a file missing
inside a named folder: it may have been moved, or be a bug of ours, so the message says where in the
code it happened. A missing path that nobody has named keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeps.storages import DEFAULT_STORAGE

_ROOT = Path(__file__).parents[2]
_DENIED = "run it as the owner, or ask for the permission"
_FULL = (
    "free some space and run the command again (a sweep: rc-sweep resume); finished trials are kept"
)
_FILES = "raise the limit of open files (ulimit -n) and run the command again"
# Missing permissions on any path, and what to do.
_OF_RIGHTS = {
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "name another place, which can be written to",
}
# Mistakes in a path that the user has named, and what to do.
_OF_NAMES = {
    errno.ENOENT: "check whether it was moved or removed",
    errno.ENOTDIR: "a part of the path is a file; check the path",
    errno.EISDIR: "it is a folder, but a file is needed; check the path",
    errno.EEXIST: "it exists already; check the path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links form a loop; check the path",
}
# Errors that, inside a named folder, are not about the named path itself.
_OF_PARTS = (errno.ENOENT, errno.EEXIST, errno.EISDIR)
_MOVED = "if nobody moved or created it, this is a bug in rc-sweep: please report it"
_OF_MACHINES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EIO: "the disk, or the service behind it, is failing: check it",
    errno.ESTALE: "the mounted folder is gone; mount it again",
}


def told(error: OSError, arguments: Sequence[str]) -> tuple[str, int] | None:
    """Return the message and exit code of an error; None if it may be our own mistake.

    Args:
        error: what no command has handled.
        arguments: those of the command line.
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
    """Yield the paths that the user may have named: arguments, option values, the storage."""
    words = [*arguments, os.environ.get("RC_STORAGE", ""), DEFAULT_STORAGE]
    for word in words:
        for part in {word, word.partition("=")[2]}:
            if part and not part.startswith("-"):
                yield Path(os.path.abspath(os.path.expanduser(part)))


def _is_on_the_way(path: Path, given: Sequence[Path]) -> bool:
    """Tell whether a path was given, leads to a given one, or lies in one that is missing."""
    path = Path(os.path.abspath(path))
    return any(
        path == each or path in each.parents or (each in path.parents and not each.exists())
        for each in given
    )


def _place(error: OSError) -> str:
    """Return where in our code an error was raised: file, line and function."""
    place = "a library"
    for frame in traceback.extract_tb(error.__traceback__):
        package, _, file = frame.filename.removeprefix(f"{_ROOT}{os.sep}").partition(os.sep)
        if package in ("rc_core", "sweeps"):
            place = f"{package}/{file}:{frame.lineno}, {frame.name}"
    return place


def _is_of(path: Path, given: Sequence[Path]) -> bool:
    """Tell whether a path was given, lies in a given one, or is a folder on the way to it."""
    path = Path(os.path.abspath(path))
    return any(path == each or path in each.parents or each in path.parents for each in given)
