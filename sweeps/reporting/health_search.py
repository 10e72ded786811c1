"""Health of the search: its space, constraints, length, early stopping, failures, splits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy import stats

from rc_core.labels import count_of
from rc_core.metrics.footprint import NONZERO, PACKED
from rc_core.yaml_files import lookup
from sweeps.constraints import parse
from sweeps.objectives import OOD_KEY
from sweeps.plugin_texts import mixed, texts_of
from sweeps.reporting.check import Check
from sweeps.reporting.cost import cost, timeline
from sweeps.reporting.facts import Facts, last_rung, most_common_reason
from sweeps.selection.stamp import changed_line, named
from sweeps.shown_values import percent
from sweeps.space import Parameter
from sweeps.space_section import read_space

# A value within this share of its range from an end is at the edge.
_EDGE = 0.03
# The front was still growing if it grew in this last share of the trials.
_LATE = 0.2
_FAILED_SHARE = 0.1
# Rungs that order trials worse than this (Kendall's tau) are a poor reason to stop them.
_LEAST_TAU = 0.4


def search_checks(facts: Facts) -> Iterator[Check]:
    """Yield the findings on the search itself."""
    for check in (
        _edges,
        _constraints,
        _still_growing,
        _early_stopping,
        _failures,
        _comparable,
        _untried,
        _sealed,
    ):
        yield from check(facts)


def _edges(facts: Facts) -> Iterator[Check]:
    """Find ranges whose end holds most of the front: the best value may lie outside them."""
    space = _parameters(facts.config)
    front = facts.candidates
    records = {record.id: record for record in facts.records}
    # Fewer bits per parameter do not lower the number of parameters.
    size = PACKED if any(row.rounded for row in facts.rows) else NONZERO
    for parameter in space:
        if parameter.kind == "choice":
            continue
        values = [
            value
            for row in front
            if isinstance(value := lookup(records[row.id].config, parameter.key), int | float)
            and parameter.active(_point(records[row.id].config, space), _base(facts.config))
        ]
        for end, side in ((parameter.low, "lower"), (parameter.high, "upper")):
            near = [value for value in values if _near(value, end, parameter)]
            if len(values) >= 2 and len(near) >= 2 and 2 * len(near) > len(values):
                yield Check(
                    "warn",
                    f"Is the best at the edge of the space? {parameter.key}",
                    f"{len(near)} of {len(values)} front models lie at the {side} end, {end:g}",
                    f"the best may lie beyond: widen space.{parameter.key}, or, where smaller "
                    "models are wanted, make the size an objective "
                    f"({size}: min)",
                )


def _constraints(facts: Facts) -> Iterator[Check]:
    reference = next((record for record in facts.records if record.reference), None)
    base = dict(reference.metrics) if reference is not None else {}
    done = [r for r in facts.records if r.status == "finished" and not r.reference]
    for text in facts.constraints:
        misses = [parse(text).violation(record.metrics, base) for record in done]
        met = sum(miss <= 0 for miss in misses)
        title = f"Can the constraint be met? {text}"
        if not done or met == len(done):
            continue
        if met:
            yield Check("note", title, f"{met} of {len(done)} compressed models meet it")
            continue
        least = min((miss for miss in misses if not math.isnan(miss)), default=math.nan)
        yield Check(
            "bad",
            title,
            f"none of {len(done)} compressed models meets it; the closest misses by {least:.3g}",
            "loosen it, or search where it can be met (less compression or longer training)",
        )


def _still_growing(facts: Facts) -> Iterator[Check]:
    points = {
        row.id: [row.values[name] for name in facts.objectives]
        for row in facts.rows
        if row.rank is not None and not row.reference
    }
    if facts.config.get("design") == "fixed" or len(points) < 10:
        return
    directions = list(facts.objectives.values())
    planned = int(facts.config["search"]["trials"])
    steps = timeline(facts.records, facts.config, points, facts.worst, directions)
    border = max(math.ceil(len(steps) * (1 - _LATE)), 1)
    before, after = steps[border - 1].volume, steps[-1].volume
    title = "Was it stopped too early?"
    late = len(steps) - border
    growth = (after - before) / before if before else 0.0
    if growth <= 1e-3:
        yield Check(
            "good",
            title,
            f"the front of compressed models did not grow in the last {count_of(late, 'trial')}",
        )
        return
    yield Check(
        "warn",
        title,
        f"the front of compressed models still grew by {percent(growth)} of its hypervolume in the "
        f"last {count_of(late, 'trial')}",
        "more trials may find better models; this continues and keeps all results: "
        + facts.command("resume", "--set", f"search.trials={2 * max(len(steps), planned)}"),
    )


def _early_stopping(facts: Facts) -> Iterator[Check]:
    spent = cost(facts.records, facts.config)
    if not spent.stopped:
        return
    title = "Did early stopping stop the right trials?"
    pairs = [
        (rung.get(OOD_KEY, math.nan), record.metric(OOD_KEY))
        for record in facts.records
        if record.status == "finished" and not record.reference and (rung := last_rung(record))
    ]
    pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
    if len(pairs) < 5:
        yield Check("note", title, f"{_were_stopped(spent.stopped)}; too few finished to judge")
        return
    tau = float(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
    if math.isnan(tau):
        alike = "the finished ones are equal at the last rung or at the end: nothing to judge by"
        yield Check("note", title, f"{_were_stopped(spent.stopped)}; {alike}")
        return
    found = (
        f"{_were_stopped(spent.stopped)}; among the {len(pairs)} that finished, OOD accuracy at "
        f"the last rung and at the end agree in order with Kendall's tau {tau:.2f}"
    )
    if tau >= _LEAST_TAU:
        yield Check("good", title, found)
    else:
        yield Check("warn", title, found, "stop later, or not at all (scheduler.name: none)")


def _were_stopped(count: int) -> str:
    return f"{count_of(count, 'trial was', 'trials were')} stopped"


def _failures(facts: Facts) -> Iterator[Check]:
    failed = [record for record in facts.records if record.status == "failed"]
    if not failed:
        return
    share = len(failed) / len(facts.records)
    yield Check(
        "bad" if share > 0.5 else "warn" if share > _FAILED_SHARE else "note",
        "Did trials fail?",
        f"{len(failed)} of {len(facts.records)} did: {most_common_reason(failed)}",
        "see all reasons under Failures; a failed trial says nothing about its configuration",
    )


def _comparable(facts: Facts) -> Iterator[Check]:
    done = [record for record in facts.records if record.status == "finished"]
    for what, values in (
        ("data", {r.data.get("digest") for r in done}),
        ("precision", {r.training.get("precision") for r in done if r.training}),
        ("device", {r.environment.get("processor") for r in done if r.environment}),
        ("optimizer steps", {r.steps.get("own") for r in done if r.steps}),
    ):
        if len(values) > 1:
            shown = ", ".join(sorted(map(str, values)))
            yield Check(
                "bad" if what == "data" else "warn",
                f"Are all trials comparable? {what}",
                f"the finished trials differ: {shown}",
                "do not attribute differences between them to the compression or the loss alone",
            )
    for plugin, others in mixed(texts_of(facts.records)):
        yield Check(
            "bad",
            f"Are all trials comparable? {plugin}",
            f"its file was changed during the sweep: {named(others)} and the other trials did not "
            "run the same code",
            "launch a new sweep under a new name: here one configuration has two meanings",
        )


def _untried(facts: Facts) -> Iterator[Check]:
    done = [record for record in facts.records if record.status == "finished"]
    left = {}
    for parameter in _parameters(facts.config) if len(done) > 1 else ():
        if parameter.kind != "choice":
            continue
        # Compare values, not their text: a trial may have 2.0 epochs where the space says 2.
        seen = [lookup(record.config, parameter.key) for record in done]
        missing = [str(value) for value in parameter.values if value not in seen]
        if missing:
            left[parameter.key] = missing
    if left:
        found = "; ".join(f"{key}: {', '.join(values)}" for key, values in left.items())
        action = "draw no conclusion about these from this page"
        yield Check("note", "Was everything tried?", f"no finished trial has {found}", action)


def _sealed(facts: Facts) -> Iterator[Check]:
    line = changed_line(facts.seal)
    if line is not None:
        action = "report only the selection of the first opening, or test on fresh data"
        yield Check("bad", "Is the sealed test still clean?", line, action)


def _parameters(config: Mapping[str, Any]) -> Sequence[Parameter]:
    raw = config.get("space") or {}
    # The launch checked the conditions; here `base` holds the sweep's own values.
    return read_space(raw, _base(config))[0].parameters if raw else ()


def _base(config: Mapping[str, Any]) -> Any:
    return lambda key: lookup(config, key)


def _point(config: Mapping[str, Any], space: Sequence[Parameter]) -> dict[str, Any]:
    return {parameter.key: lookup(config, parameter.key) for parameter in space}


def _near(value: float, end: float, parameter: Parameter) -> bool:
    if parameter.kind == "int":
        return value == end
    if parameter.kind == "log_uniform":
        return abs(math.log(value / end)) <= _EDGE * math.log(parameter.high / parameter.low)
    return bool(abs(value - end) <= _EDGE * (parameter.high - parameter.low))
