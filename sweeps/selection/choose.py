"""Choosing one configuration among many: picks and constraints.

Works on options: configurations with their metrics, which are means over new seeds if a
confirmation has any. Only compressed models on the front of those that meet every constraint can be
chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rc_core.data._task import DEV_ROLES
from rc_core.errors import ConfigError, Problem, StorageError, did_you_mean
from rc_core.metrics.robustness import difference_in_points, guarded_relative_bias
from rc_core.record import TrialRecord
from sweeps.constraints import Constraint, Interval, parse
from sweeps.exclusion import Figures, missed
from sweeps.objectives import ID_KEY, OOD_KEY, check_choice
from sweeps.pareto import SIGNS, knee, pareto_front
from sweeps.sections import check_list

PICKS = {
    "knee": "gives up least for what it gains",
    "best-id": "highest in-distribution accuracy",
    "best-ood": "highest out-of-distribution accuracy",
    "least-ood-loss": "smallest loss against the dense reference on its worst suite",
    "lowest-relative-bias": "lowest F_bias, among models where it is defined",
    "weighted": "highest weighted sum of the objectives, scaled to the front's ranges (--weight)",
}
_UNPAIRED = "it shares no seed with the dense reference"


@dataclass(frozen=True)
class Option:
    """One configuration.

    Attributes:
        id: of the searched trial.
        name: of the searched trial.
        reference: whether it is the dense reference.
        metrics: means over new seeds, or the search's values.
        seeds: number of new seeds averaged; 0: the metrics are of the search's own seed.
        by_seed: new seed -> its metrics.
        spread: metric -> interval, for metrics measured with one (latency).
        bias: F_bias and why it is undefined, as in the tables; None: computed from the metrics.
        undefined: metric -> why it has no value.
        excluded: why it has no figures to choose by (failed, stopped, no new seeds), else None;
            constraints are checked by `sieve`.
    """

    id: str
    name: str
    reference: bool
    metrics: Mapping[str, float]
    seeds: int = 0
    excluded: str | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)
    by_seed: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    bias: tuple[float, str | None] | None = None
    spread: Mapping[str, Interval] = field(default_factory=dict)

    def metric(self, key: str) -> float:
        """Return a metric, NaN where it was not measured."""
        return self.metrics.get(key, math.nan)

    def point(self, objectives: Mapping[str, str]) -> list[float]:
        return [self.metric(name) for name in objectives]


def check_wheres(texts: Iterable[str]) -> list[Constraint]:
    """Parse the user's constraints. Raises ConfigError, also for metrics of test roles."""
    check_list("wheres", texts, "id_dev/accuracy >= 0.8")
    found, problems = [], []
    for text in texts:
        try:
            constraint = parse(text)
        except ConfigError as error:
            problems += [Problem("--where", problem.message) for problem in error.problems]
            continue
        reason = check_choice(constraint.metric)
        if reason is not None:
            problems.append(Problem("--where", f"'{text}': {reason}"))
        found.append(constraint)
    if problems:
        raise ConfigError(problems)
    return found


def parse_weights(texts: Iterable[str], objectives: Mapping[str, str]) -> dict[str, float]:
    """Parse `metric=weight`; objectives that are not named have weight 1.

    Raises:
        ConfigError: not an objective, not a number, a negative weight, or all weights zero.
    """
    check_list("weights", texts, "ood_dev/accuracy=2")
    weights = dict.fromkeys(objectives, 1.0)
    problems = []
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name not in objectives:
            known = did_you_mean(name, list(objectives))
            problems.append(Problem("--weight", f"'{name}' must be an objective: {known}"))
        elif not 0 <= number < math.inf:
            problems.append(
                Problem("--weight", f"must be METRIC=NUMBER, at least 0, but is {text}")
            )
        else:
            weights[name] = number
    if not problems and not any(weights.values()):
        problems.append(Problem("--weight", "at least one weight must be above 0"))
    if problems:
        raise ConfigError(problems)
    return weights


def sieve(
    options: Sequence[Option], objectives: Mapping[str, str], wheres: Sequence[Constraint] = ()
) -> tuple[list[Option], dict[str, str]]:
    """Return the options that take part, and id -> reason for all others."""
    reference = next((o for o in options if o.reference), None)
    kept, why = [], {}
    for option in options:
        reason = option.excluded or missed(_figures(option, reference), objectives, wheres)
        if reason is None:
            kept.append(option)
        else:
            why[option.id] = reason
    return kept, why


def _figures(option: Option, reference: Option | None) -> Figures:
    ours, base = (option, None) if reference is None else paired(option, reference)
    figures = Figures(
        option.metrics if base is None else {**option.metrics, **_beside(option, ours, base)},
        (ours.metrics, base.metrics if base else {}),
        option.undefined,
        spread=(option.spread, reference.spread if reference is not None else {}),
    )
    return replace(figures, unpaired=_UNPAIRED) if option.by_seed else figures


def _beside(option: Option, ours: Option, reference: Option) -> dict[str, float]:
    """Return the metrics relative to the reference over shared seeds, as in the tables.

    In the records of a confirmation they are relative to the search's reference, whose seed was
    used to choose.

    Args:
        option: any.
        ours, reference: the option and the dense reference, as from `paired`.
    """
    if not option.by_seed:
        return {}
    found = {
        f"{role}/difference": difference_in_points(
            ours.metric(f"{role}/accuracy"), reference.metric(f"{role}/accuracy")
        )
        for role in DEV_ROLES
    }
    found["ood_dev/relative_bias"] = scores_bias(option, reference)[0]
    return {key: value for key, value in found.items() if key in option.metrics}


def front(options: Sequence[Option], objectives: Mapping[str, str]) -> list[Option]:
    """Return the front of the options, best on the first objective first."""
    if not options:
        return []
    mask = pareto_front([o.point(objectives) for o in options], list(objectives.values()))
    chosen = [option for option, inside in zip(options, mask, strict=True) if inside]
    first, direction = next(iter(objectives.items()))
    return sorted(chosen, key=lambda o: o.metric(first), reverse=direction == "max")


def choose(
    options: Sequence[Option],
    objectives: Mapping[str, str],
    which: str,
    *,
    wheres: Sequence[Constraint] = (),
    weights: Mapping[str, float] | None = None,
) -> Option:
    """Return one compressed model from the front of those that meet the constraints.

    Args:
        options: all, including the dense reference.
        objectives: metric -> "max" or "min".
        which: a key of `PICKS`.
        wheres: more constraints.
        weights: of the objectives, for `weighted`; None: all 1.

    Raises:
        StorageError: nothing is left to choose from, with the reasons.
    """
    kept, why = sieve(options, objectives, wheres)
    left = front([option for option in kept if not option.reference], objectives)
    if not left:
        compressed = {option.id for option in options if not option.reference}
        reasons = [f"{i}: {reason}" for i, reason in why.items() if i in compressed]
        raise StorageError(
            "there is no compressed model to choose from"
            + ("; " + "; ".join(reasons[:6]) if reasons else "")
            + (f"; and {len(reasons) - 6} more" if len(reasons) > 6 else "")
        )
    reference = next((option for option in options if option.reference), None)
    if which == "knee":
        points = [option.point(objectives) for option in left]
        return left[knee(points, list(objectives.values()))]
    if which == "weighted":
        scores = _scaled(left, objectives) @ np.array(
            [(weights or {}).get(name, 1.0) for name in objectives]
        )
        return left[int(scores.argmax())]
    if which in ("best-id", "best-ood"):
        key = ID_KEY if which == "best-id" else OOD_KEY
        return max(left, key=lambda option: option.metric(key))
    if reference is None:
        raise StorageError(f"{which} compares with the dense reference, which has not finished")
    if which == "least-ood-loss":
        losses = {option.id: worst_loss(option, reference) for option in left}
        if all(map(math.isnan, losses.values())):
            raise StorageError(f"{which} needs a model to compare, but for each one: {_UNPAIRED}")
        return min(left, key=lambda each: (math.isnan(losses[each.id]), losses[each.id]))
    return _lowest_bias(left, reference)


def paired(option: Option, reference: Option) -> tuple[Option, Option]:
    """Return both options with means over the new seeds that they share.

    The race gives configurations different seeds, and a seed moves both by several points, so they
    are compared over the same seeds. If they share none, only metrics that no seed changes remain
    (size, latency). Options of the search are returned unchanged.
    """
    if not option.by_seed:
        return option, reference
    shared = sorted(set(option.by_seed) & set(reference.by_seed))
    first, second = (_over(each, shared) for each in (option, reference))
    return first, second


def _over(option: Option, seeds: Sequence[int]) -> Option:
    kept = {k: v for k, v in option.metrics.items() if k.partition("/")[0] not in DEV_ROLES}
    found = [option.by_seed[seed] for seed in seeds]
    return replace(option, metrics={**means(found), **kept})


def over_seeds(record: TrialRecord, trials: Mapping[int, TrialRecord]) -> Option:
    """Return a configuration as means over its seeds.

    Args:
        record: of the trial that it is named after.
        trials: seed -> finished trial, at least one.
    """
    by_seed = {seed: trial.metrics for seed, trial in trials.items()}
    return Option(
        id=record.id,
        name=record.name,
        reference=record.reference,
        metrics=means(list(by_seed.values())),
        seeds=len(trials),
        undefined={key: why for each in trials.values() for key, why in each.undefined.items()},
        by_seed=by_seed,
    )


def means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means of the metrics that all mappings have."""
    keys = [key for key in found[0] if all(key in each for each in found)] if found else []
    return {key: float(np.mean([each[key] for each in found])) for key in keys}


def worst_loss(option: Option, reference: Option) -> float:
    """Return the largest loss of accuracy against the reference on any OOD suite, in points.

    With a single suite this is the loss of OOD accuracy.
    """
    option, reference = paired(option, reference)
    keys = [
        key
        for key in reference.metrics
        if key.startswith("ood_dev/")
        and key.endswith("/accuracy")
        and key.count("/") == 2
        and "." not in key.split("/")[1]
    ]
    losses = [100 * (reference.metric(k) - option.metric(k)) for k in keys or [OOD_KEY]]
    return max(losses)


def scores_bias(option: Option, reference: Option) -> tuple[float, str | None]:
    """Return F_bias and None, or NaN and why it is undefined."""
    if option.bias is not None:
        return option.bias
    option, reference = paired(option, reference)
    accuracies = [each.metric(key) for each in (option, reference) for key in (ID_KEY, OOD_KEY)]
    return guarded_relative_bias(*accuracies)


def _lowest_bias(left: Sequence[Option], reference: Option) -> Option:
    scored = [(option, *scores_bias(option, reference)) for option in left]
    defined = [(option, bias) for option, bias, reason in scored if reason is None]
    if not defined:
        reasons = dict.fromkeys(f"{o.id}: {reason}" for o, _, reason in scored)
        raise StorageError(
            "lowest-relative-bias needs a model whose relative bias is defined, but it is "
            "undefined for all on the front: " + "; ".join(list(reasons)[:4])
        )
    return min(defined, key=lambda pair: pair[1])[0]


def _scaled(options: Sequence[Option], objectives: Mapping[str, str]) -> NDArray[np.float64]:
    """Return the objectives scaled to [0, 1] over the options; 1 is best, equal values are 1."""
    points = np.array([option.point(objectives) for option in options], dtype=np.float64)
    points = points * [-SIGNS[direction] for direction in objectives.values()]
    low, high = points.min(axis=0), points.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    return np.where(high > low, (points - low) / spread, 1.0)
