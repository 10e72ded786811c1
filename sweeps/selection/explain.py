"""Why a configuration is on the front or not: what beats it and by how much, what excluded it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rc_core.errors import StorageError, did_you_mean
from sweeps.constraints import Constraint
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.pareto import costs_of, dominates
from sweeps.selection.choose import Option, front, sieve
from sweeps.shown_values import metric_text


def explain(
    options: Sequence[Option],
    objectives: Mapping[str, str],
    trial_id: str,
    *,
    wheres: Sequence[Constraint] = (),
    alike: Callable[[str, str], bool] | None = None,
) -> str:
    """Say why a trial is on the front or not: what dominates it and by how much.

    Args:
        options: all of the sweep.
        objectives: metric -> direction.
        trial_id: whose place is asked for.
        wheres: more constraints.
        alike: tells whether the seeds at hand cannot tell two configurations apart.

    Raises:
        StorageError: no such trial.
    """
    known = {option.id: option for option in options}
    if trial_id not in known:
        raise StorageError(f"no trial '{trial_id}': {did_you_mean(trial_id, list(known))}")
    option = known[trial_id]
    kept, why = sieve(options, objectives, wheres)
    title = f"{option.id} {option.name}"
    if option.reference:
        title += " (dense reference)"
    if trial_id in why:
        return f"{title}: not on the front: {why[trial_id]}"
    compressed = [each for each in kept if not each.reference]
    best = {each.id for each in front(compressed, objectives)}
    beaten = [each for each in compressed if _dominates(each, option, objectives)]
    beaten.sort(key=lambda each: each.id not in best)
    dense = [e for e in kept if e.reference and _dominates(e, option, objectives)]
    lines = []
    if not beaten and not option.reference:
        lines.append(f"{title}: on the front: no other compressed model beats it on everything")
    elif not beaten:
        lines.append(f"{title}: on the front: no compressed model beats it on everything")
    else:
        lines.append(f"{title}: not on the front: beaten by {_models(len(beaten))}")
    for each in beaten[:5]:
        mark = "" if each.id in best else " (itself beaten)"
        lines.append(f"  {each.id} {each.name}{mark}: {_margins(each, option, objectives)}")
        if alike is not None and alike(each.id, option.id):
            lines.append("    the seeds at hand cannot tell the two apart: that may be luck")
    if len(beaten) > 5:
        lines.append(f"  and {len(beaten) - 5} more")
    for each in dense:
        lines.append(f"the dense reference beats it: {_margins(each, option, objectives)}")
    basis = (
        f"means over {option.seeds} seeds"
        if option.seeds
        else "one training seed, the one the search saw: a few points may be luck"
    )
    lines.append(f"its own figures are {basis}")
    return "\n".join(lines)


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
        amount = f"{100 * abs(a - b):.1f} points" if name.endswith("accuracy") else f"{a - b:+.4g}"
        parts.append(f"{label} {metric_text(name, a)} against {metric_text(name, b)} ({amount})")
    return "; ".join(parts)
