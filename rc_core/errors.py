"""Every error this project raises on purpose; all of them can be pickled between processes.

`exit_code` is what `rc-sweep` and `python -m rc_core.trial` return for an error: 2 if the user's
input is at fault, 1 if the work itself failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from unicodedata import normalize


class RobustCompressionError(Exception):
    """Root of the project's errors. Messages say what must hold, what was given, and what to do."""

    exit_code: int = 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the user's input.

    Attributes:
        where: dotted place in the configuration, a file, or an option ("" for the whole input).
        message: what must hold, what was given, what to do.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class InputError(RobustCompressionError):
    """The user's input is wrong. Carries every problem that was found, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = [Problem("", problems)]
        elif isinstance(problems, Problem):
            problems = [problems]
        self.problems: list[Problem] = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[Problem]]]:
        return type(self), (self.problems,)


class ConfigError(InputError):
    """A configuration (YAML, `--set`, or a trial handed in) does not validate."""


class DataError(InputError):
    """A data file, its columns, labels or splits are not what the configuration says."""


class ModelError(InputError):
    """A model cannot be loaded, or a compression does not support its architecture."""


class StorageError(InputError):
    """A sweep, a trial or an artifact is not where it was expected, or cannot be written."""


class ArtifactError(RobustCompressionError):
    """A stored artifact is damaged and could not be rebuilt."""


class TrialError(RobustCompressionError):
    """A trial could not finish: training diverged, or a compression missed its target."""


class DivergedError(TrialError):
    """The training loss is no longer finite; callers that train something else than a trial say so.

    Attributes:
        where: `is nan between steps 0 and 4`.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(
            f"training loss must stay finite, but {where}; lower training.learning_rate or the "
            "sparsity"
        )

    def __reduce__(self) -> tuple[type[DivergedError], tuple[str]]:
        return type(self), (self.where,)


class DifficultyError(TrialError):
    """Difficulty cannot be estimated as asked: a level diverged, or texts or steps are missing."""

    exit_code = 2


class StaleAttemptError(RobustCompressionError):
    """A worker of an earlier attempt tried to commit after a newer driver took over the sweep."""


@contextmanager
def collecting(problems: list[Problem], kind: type[InputError]) -> Iterator[None]:
    """Add the problems of an error of this kind to a list instead of raising it, and continue."""
    try:
        yield
    except kind as error:
        problems.extend(error.problems)


def did_you_mean(given: str, options: Sequence[str]) -> str:
    """Return `did you mean 'x'? ` if an option is similar, then the list of all options."""
    near = get_close_matches(given, options, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'? " if near else ""
    if alike := looks_alike(given, options):
        hint = f"{alike}. "
    return f"{hint}available: {', '.join(options) if options else '(none)'}"


def looks_alike(given: str, options: Iterable[str]) -> str:
    """Return a message if an option differs from what was given only in its Unicode form, else "".

    Both would be printed the same, so without it nobody could find out what is wrong.
    """
    form = normalize("NFC", given)
    for option in options:
        if option != given and normalize("NFC", option) == form:
            return (
                f"'{option}' looks the same but is in another Unicode form (an accent is part of "
                "its letter in one, a character of its own in the other): copy it as it is there"
            )
    return ""
