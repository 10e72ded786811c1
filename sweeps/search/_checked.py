"""Checks what a search algorithm's file returns, before anything is started and point by point.

Otherwise a sweep might find a missing method only among its trials, with a teacher trained in vain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rc_core import plugins
from rc_core.errors import ConfigError, InputError, Problem
from sweeps.config import SweepConfig
from sweeps.search._base import Proposals
from sweeps.shown_values import number
from sweeps.space import Parameter, Space

_PACKAGE = "sweeps.search"
# Relative tolerance at the ends of a range, as exp(log(x)) is not exact.
_EXACT = 1e-9


def made_proposals(sweep: SweepConfig, study_file: Path | None) -> Proposals:
    """Return the proposals of a sweep's search.

    Args:
        sweep: names the search.
        study_file: as for `proposals` in the contract.

    Raises:
        ConfigError: they lack what the contract requires, or cannot be made.
    """
    name = sweep.settings.search.name
    proposals = plugins.load(_PACKAGE, name).proposals
    with _told(name, "proposals() must return an object that proposes points"):
        found: Proposals = proposals(sweep, study_file)
    methods = [k for k, v in vars(Proposals).items() if callable(v) and not k.startswith("_")]
    lacks = [f"{k}()" for k in methods if not callable(getattr(found, k, None))]
    lacks += [k for k in Proposals.__annotations__ if not hasattr(found, k)]
    if lacks:
        raise _wrong(
            name,
            f"the object that proposals() returns must also have {', '.join(lacks)}, but "
            f"{type(found).__name__} does not",
        )
    return found


def check_first(sweep: SweepConfig) -> None:
    """Check a search by letting it propose a point, which is not stored.

    Raises:
        ConfigError: as for `made_proposals`, or the point is invalid or outside the space.
    """
    name, proposals = sweep.settings.search.name, made_proposals(sweep, None)
    with _told(name, "propose() must return a point or None"):
        point = proposals.propose("t0000")
    if point is not None:
        check_point(name, point, sweep.space)


def check_point(name: str, point: object, space: Space) -> None:
    """Check that a proposed point lies in the space.

    Args:
        name: the search's.
        point: as returned by `propose`.
        space: the sweep's.

    Raises:
        ConfigError: it is not a mapping, its keys are not the active ones, or a value is outside.
    """
    if not isinstance(point, Mapping):
        raise _wrong(
            name, f"propose() must return a dict of dotted keys, or None, but got {point!r}"
        )
    wrong = [*_outside(point, space)]
    if wrong:
        raise _wrong(name, f"propose() must return a point of the space, but {'; '.join(wrong)}")


def _outside(point: Mapping[str, Any], space: Space) -> Iterator[str]:
    known = {parameter.key: parameter for parameter in space.parameters}
    active = space.sample(lambda parameter: point.get(parameter.key)).keys()
    for key in sorted(point.keys() - active, key=str):
        why = "its condition does not hold" if key in known else "it is not searched"
        yield f"has {key}, though {why}"
    for key in sorted(active):
        if key not in point:
            yield f"lacks {key}"
        elif not _holds(known[key], point[key]):
            yield f"{key} is {point[key]!r}, {_values(known[key])}"


def _holds(parameter: Parameter, value: Any) -> bool:
    if parameter.contains(value) or parameter.kind in ("choice", "int"):
        return parameter.contains(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    near = _EXACT * max(abs(parameter.low), abs(parameter.high))
    return bool(parameter.low - near <= value <= parameter.high + near)


def _values(parameter: Parameter) -> str:
    if parameter.kind == "choice":
        return f"which is none of {list(parameter.values)}"
    whole = "whole numbers " if parameter.kind == "int" else ""
    return f"which is not in {whole}{number(parameter.low)} to {number(parameter.high)}"


@contextmanager
def _told(name: str, must: str) -> Iterator[None]:
    """Report any error raised by a search's file as a problem of that file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = f"{must}, but raised {type(error).__name__}: {error}"
        raise _wrong(name, said) from error


def _wrong(name: str, what: str) -> ConfigError:
    where = f"{_PACKAGE.replace('.', '/')}/{name}.py"
    return ConfigError(Problem(where, f"{what}; the contract is in sweeps/search/_base.py"))
