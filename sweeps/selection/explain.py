"""Why a configuration is on the front or not: what beats it, by how much, or what excludes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rc_core.errors import StorageError, did_you_mean
from sweeps.constraints import Constraint
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.pareto import costs_of, dominates
from sweeps.selection.choose import Option, front, sieve
from sweeps.shown_values import metric_text, null, number


@dataclass(frozen=True)
class Winner:
    """A configuration that beats another on some objective and is as good on all others.

    Attributes:
        option: the configuration.
        on_front: whether no compressed model beats it in turn.
        alike: whether the available seeds cannot tell the two apart.
    """

    option: Option
    on_front: bool
    alike: bool = False


@dataclass(frozen=True)
class Standing:
    """Where a configuration stands.

    Attributes:
        option: the configuration.
        objectives: metric -> direction.
        excluded: why it is left out, None if it is not.
        winners: the compressed models that beat it, those on the front first.
        dense: the dense reference if that beats it, else None.
    """

    option: Option
    objectives: Mapping[str, str]
    excluded: str | None
    winners: Sequence[Winner] = ()
    dense: Option | None = None

    @property
    def on_front(self) -> bool:
        return self.excluded is None and not self.winners

    def text(self) -> str:
        """Return it as text that names at most five winners."""
        title = f"{self.option.id} {self.option.name}"
        if self.option.reference:
            title += " (dense reference)"
        if self.excluded is not None:
            return f"{title}: not on the front: {self.excluded}"
        lines = []
        if self.winners:
            lines.append(f"{title}: not on the front: beaten by {_models(len(self.winners))}")
        else:
            who = "no compressed model" if self.option.reference else "no other compressed model"
            lines.append(f"{title}: on the front: {who} beats it")
        for winner in self.winners[:5]:
            mark = "" if winner.on_front else " (itself beaten)"
            margins = _margins(winner.option, self.option, self.objectives)
            lines.append(f"  {winner.option.id} {winner.option.name}{mark}: {margins}")
            if winner.alike:
                lines.append("    the available seeds do not show a difference: this may be luck")
        if len(self.winners) > 5:
            lines.append(f"  and {len(self.winners) - 5} more")
        if self.dense is not None:
            margins = _margins(self.dense, self.option, self.objectives)
            lines.append(f"the dense reference beats it: {margins}")
        basis = (
            f"means over {self.option.seeds} seeds"
            if self.option.seeds
            else "from one training seed, that of the search: a few points may be luck"
        )
        lines.append(f"its figures are {basis}")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Return it for JSON, units as in `rows.UNITS`; without new seeds, the search's values."""
        return {
            **self._values(self.option),
            "reference": self.option.reference,
            "new_seeds": self.option.seeds,
            "on_front": self.on_front,
            "excluded": self.excluded,
            "beaten_by": [
                self._values(each.option) | {"on_front": each.on_front, "alike": each.alike}
                for each in self.winners
            ],
            "beaten_by_reference": None if self.dense is None else self._values(self.dense),
        }

    def _values(self, option: Option) -> dict[str, Any]:
        values = {name: null(option.metric(name)) for name in self.objectives}
        return {"id": option.id, "name": option.name, "values": values}


def standing(
    options: Sequence[Option],
    objectives: Mapping[str, str],
    trial_id: str,
    *,
    wheres: Sequence[Constraint] = (),
    alike: Callable[[str, str], bool] | None = None,
) -> Standing:
    """Say why a trial is on the front or not: what beats it and by how much.

    Args:
        options: all options of the sweep.
        objectives: metric -> direction.
        trial_id: the trial to explain.
        wheres: more constraints.
        alike: returns whether the available seeds cannot tell two configurations apart.

    Raises:
        StorageError: no such trial.
    """
    known = {option.id: option for option in options}
    if trial_id not in known:
        raise StorageError(f"no trial '{trial_id}': {did_you_mean(trial_id, list(known))}")
    option = known[trial_id]
    kept, why = sieve(options, objectives, wheres)
    if trial_id in why:
        return Standing(option, objectives, why[trial_id])
    compressed = [each for each in kept if not each.reference]
    best = {each.id for each in front(compressed, objectives)}
    beaten = [each for each in compressed if _dominates(each, option, objectives)]
    beaten.sort(key=lambda each: each.id not in best)
    winners = [
        Winner(each, each.id in best, alike is not None and alike(each.id, trial_id))
        for each in beaten
    ]
    dense = (each for each in kept if each.reference and _dominates(each, option, objectives))
    return Standing(option, objectives, None, winners, next(dense, None))


def _models(count: int) -> str:
    return "1 compressed model" if count == 1 else f"{count} compressed models"


def _dominates(first: Option, second: Option, objectives: Mapping[str, str]) -> bool:
    ways = list(objectives.values())
    ours, theirs = (costs_of(each.point(objectives), ways) for each in (first, second))
    return bool(dominates(ours, theirs))


def _margins(first: Option, second: Option, objectives: Mapping[str, str]) -> str:
    """Say by how much the first is better, objective by objective."""
    parts = []
    for name in objectives:
        a, b = first.metric(name), second.metric(name)
        label = {ID_KEY: "ID", OOD_KEY: "OOD"}.get(name, name)
        if a == b:
            parts.append(f"{label} {metric_text(name, a)}, the same")
            continue
        amount = (
            f"{100 * abs(a - b):.1f} points" if name.endswith("accuracy") else number(a - b, "+.4g")
        )
        parts.append(f"{label} {metric_text(name, a)} against {metric_text(name, b)} ({amount})")
    return "; ".join(parts)
