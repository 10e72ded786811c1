"""Comparison of sweeps: fronts, hypervolumes from a common point, best rows, what differs.

Accuracies of two sweeps can be compared only if they were measured on the same data, so what
differs is reported first. A sweep that was confirmed is compared by its means over new seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from rc_core.errors import InputError
from sweeps.pareto import hypervolume, pareto_front
from sweeps.reporting.facts import Facts
from sweeps.rows import Row, size_note
from sweeps.shown_values import millions, null, number, percent, points, share
from sweeps.tables import render


@dataclass(frozen=True)
class Side:
    """One sweep in a comparison.

    Attributes:
        label: the sweep's name, numbered if two have the same.
        facts: of the sweep.
        volume: hypervolume of compressed models, from the common point.
        with_reference: the same with the dense reference.
        beaten: share of its front (compressed models) that some compressed model of another sweep
            dominates; NaN without a front.
    """

    label: str
    facts: Facts
    volume: float
    with_reference: float
    beaten: float

    def best(self) -> dict[str, Row]:
        """Return the compressed models to choose from: knee, best ID, best OOD."""
        chosen = self.facts.chosen
        if chosen is None:
            return {}
        # Constraints on single trials may leave the front empty although there is a choice.
        found = self.facts.candidates or [chosen]
        return {
            "knee": chosen,
            "best ID": max(found, key=lambda row: row.id_accuracy),
            "best OOD": max(found, key=lambda row: row.ood_accuracy),
        }


@dataclass(frozen=True)
class Comparison:
    """Several sweeps, compared.

    Attributes:
        sides: in the order given.
        objectives: those that all sweeps have.
        worst: the point from which every hypervolume is measured, one value per objective.
        warnings: what makes the sweeps' numbers incomparable, most serious first.
    """

    sides: Sequence[Side]
    objectives: Mapping[str, str]
    worst: Sequence[float]
    warnings: Sequence[str]


def compare(found: Sequence[Facts]) -> Comparison:
    """Compare sweeps.

    The common point is 0 for accuracies and, for any other objective, the worst value in any sweep.

    Raises:
        InputError: fewer than two sweeps, or no objective in common.
    """
    if len(found) < 2:
        raise InputError(f"a comparison needs two sweeps or more, but got {len(found)}")
    objectives = {
        name: way
        for name, way in found[0].objectives.items()
        if all(facts.objectives.get(name) == way for facts in found)
    }
    if not objectives:
        asked = "; ".join(f"{facts.name}: {', '.join(facts.objectives)}" for facts in found)
        raise InputError(f"the sweeps must have an objective in common, but have {asked}")
    found = [facts.over_seeds() for facts in found]
    directions = list(objectives.values())
    points = [_points(facts, objectives, reference=True) for facts in found]
    alone = [_points(facts, objectives, reference=False) for facts in found]
    worst = _worst(points, objectives)
    sides = [
        Side(
            label=label,
            facts=facts,
            volume=hypervolume(mine, worst, directions) if mine else 0.0,
            with_reference=hypervolume(whole, worst, directions) if whole else 0.0,
            beaten=_beaten(
                mine, [p for j, other in enumerate(alone) if j != i for p in other], directions
            ),
        )
        for i, (label, facts, whole, mine) in enumerate(
            zip(_labels(found), found, points, alone, strict=True)
        )
    ]
    return Comparison(sides, objectives, worst, list(_differences(sides)))


def _labels(found: Sequence[Facts]) -> list[str]:
    names = [facts.name for facts in found]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]


def _points(facts: Facts, objectives: Mapping[str, str], *, reference: bool) -> list[list[float]]:
    return [
        [row.values[name] for name in objectives]
        for row in facts.units
        if row.rank is not None and (reference or not row.reference)
    ]


def _worst(
    points: Sequence[Sequence[Sequence[float]]], objectives: Mapping[str, str]
) -> list[float]:
    every = np.array([point for each in points for point in each]).reshape(-1, len(objectives))
    worst = []
    for column, (name, way) in zip(every.T, objectives.items(), strict=True):
        if way == "max" and name.endswith("accuracy"):
            worst.append(0.0)
        else:
            pick = np.nanmin if way == "max" else np.nanmax
            worst.append(float(pick(column)) if column.size else 0.0)
    return worst


def _beaten(
    mine: Sequence[Sequence[float]], others: Sequence[Sequence[float]], directions: Sequence[str]
) -> float:
    """Return the share of a front's points that leave it once the others' points are added."""
    front = [
        point
        for point, on in zip(mine, pareto_front(mine, directions), strict=True)
        if on
    ] if mine else []  # fmt: skip
    if not front:
        return math.nan
    joined = pareto_front([*front, *others], directions)
    return 1 - float(joined[: len(front)].mean())


def _differences(sides: Sequence[Side]) -> Iterator[str]:
    """Yield what differs between the sweeps, most serious first."""
    seen: set[str] = set()
    for what, consequence, values in _aspects(sides):
        shown = {label: value for label, value in values.items() if value}
        if len(set(shown.values())) < 2 or what in seen:
            continue
        seen.add(what)
        listed = "; ".join(f"{label}: {value}" for label, value in shown.items())
        yield f"{what} differ: {consequence} ({listed})"


def _aspects(sides: Sequence[Side]) -> Iterator[tuple[str, str, dict[str, str]]]:
    def of(read: Any) -> dict[str, str]:
        return {side.label: read(side.facts) for side in sides}

    no_accuracy = "their accuracies cannot be compared"
    yield "tasks", no_accuracy, of(lambda f: str(f.config.get("task", {}).get("name", "")))
    yield "data", no_accuracy, of(lambda f: _joined(f, lambda r: r.data.get("digest")))
    yield "split sizes", no_accuracy, of(lambda f: _joined(f, _sizes))
    yield (
        "encoders",
        "so do their dense references: compare each sweep with its own",
        of(lambda f: str(f.config.get("model", ""))),
    )
    yield "objectives", "only those in common are compared", of(lambda f: ", ".join(f.objectives))
    yield (
        "optimizer steps",
        "longer training is not a better method",
        of(lambda f: _joined(f, lambda r: r.steps.get("own"))),
    )
    yield (
        "training seeds",
        "a difference may be due to the seed",
        of(lambda f: _joined(f, lambda r: r.config.get("training", {}).get("seed"))),
    )
    yield (
        "precisions",
        "small differences may be rounding",
        of(lambda f: _joined(f, lambda r: r.training.get("precision"))),
    )
    yield (
        "devices",
        "times cannot be compared",
        of(lambda f: _joined(f, lambda r: r.environment.get("processor"))),
    )
    yield "designs", "a fixed design selects nothing", of(lambda f: str(f.config.get("design", "")))
    yield (
        "numbers of trials",
        "the best of more trials is higher by luck alone",
        of(lambda f: str(len(f.finished))),
    )


def _joined(facts: Facts, read: Any) -> str:
    values = {read(record) for record in facts.records if record.status == "finished"} - {None, ""}
    return ", ".join(sorted(map(str, values)))


def _sizes(record: Any) -> str:
    return " ".join(
        f"{key}={value['samples']}"
        for key, value in sorted(record.data.items())
        if isinstance(value, Mapping) and "samples" in value
    )


def comparison_text(found: Comparison) -> str:
    """Return the comparison for a terminal: warnings, sweeps, best rows."""
    table = Table(title="sweeps compared", title_justify="left")
    table.add_column("sweep", overflow="fold")
    for title in ("trials", "front", "hypervolume", "with dense", "dense ID / OOD", "beaten"):
        table.add_column(title, justify="right", no_wrap=True)
    for side in found.sides:
        reference = side.facts.reference
        table.add_row(
            Text(side.label),
            f"{len(side.facts.finished)}/{len(side.facts.rows)}",
            str(len(side.facts.candidates)),
            f"{side.volume:.4f}",
            f"{side.with_reference:.4f}",
            "-"
            if reference is None
            else f"{percent(reference.id_accuracy)} / {percent(reference.ood_accuracy)}",
            percent(side.beaten, 0),
        )
    best = Table(title="models to choose from (compressed)", title_justify="left")
    for title in ("pick", "sweep", "trial", "configuration"):
        best.add_column(title, overflow="fold")
    for title in ("ID %", "OOD %", "OOD vs dense", "non-zero"):
        best.add_column(title, justify="right", no_wrap=True)
    for cells in best_rows(found):
        best.add_row(*map(Text, cells))
    lines = [f"warning: {text}" for text in found.warnings]
    return "\n".join([*lines, render(table), *notes(found), "", render(best)])


def best_rows(found: Comparison) -> list[list[str]]:
    """Return the best rows of all sweeps as texts, pick by pick."""
    rows = []
    for pick in ("knee", "best ID", "best OOD"):
        for side in found.sides:
            row = side.best().get(pick)
            if row is None:
                continue
            rows.append(
                [
                    pick,
                    side.label,
                    row.id,
                    row.name,
                    share(row.id_accuracy),
                    share(row.ood_accuracy),
                    points(row.ood_difference),
                    millions(row.size),
                ]
            )
    return rows


def notes(found: Comparison) -> list[str]:
    """Return how to read the numbers."""
    point = ", ".join(
        f"{name} {number(value)}" for name, value in zip(found.objectives, found.worst, strict=True)
    )
    return [
        f"hypervolume: of compressed models, all sweeps measured from {point}",
        "beaten: share of the sweep's front that a compressed model of another sweep dominates",
        *size_note(row for side in found.sides for row in side.best().values()),
        basis(found),
    ]


def basis(found: Comparison) -> str:
    """Say what the figures are: single seeds, or means over new seeds or a design's own."""
    of: dict[str, list[str]] = {}
    for side in found.sides:
        of.setdefault(_basis(side.facts), []).append(side.label)
    said = [f"{', '.join(labels)}: {text}" for text, labels in of.items()] if len(of) > 1 else of
    luck = ""
    if len(of) > 1 and _SINGLE in of:
        luck = " (the best of single seeds is high by luck)"
    return f"{'; '.join(said)}{luck}: no difference between sweeps is shown to be real"


_SINGLE = "one seed each"


def _basis(facts: Facts) -> str:
    if facts.confirmation is None:
        return _SINGLE
    return f"means over {facts.seeds_are}"


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Return the comparison as plain JSON values (NaN as null)."""
    return {
        "objectives": dict(found.objectives),
        "hypervolume_reference": list(found.worst),
        "warnings": list(found.warnings),
        "sweeps": [
            {
                "sweep": side.label,
                "front_is_of": "trials" if side.facts.confirmation is None else _basis(side.facts),
                "finished": len(side.facts.finished),
                "trials": len(side.facts.rows),
                "hypervolume": side.volume,
                "hypervolume_with_reference": side.with_reference,
                "beaten": null(side.beaten),
                "front": [row.id for row in side.facts.candidates],
                "best": {pick: row.id for pick, row in side.best().items()},
            }
            for side in found.sides
        ],
    }
