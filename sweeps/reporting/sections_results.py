"""Sections on what compression did: losses, subcases, new seeds, the sealed test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.reporting.facts import Facts
from sweeps.reporting.figures import removed, sparsity_figures
from sweeps.reporting.markup import Raw, Section, figures, name_cell, note, paragraph, table
from sweeps.reporting.opened_rows import opened_rows
from sweeps.reporting.sections_top import legend
from sweeps.reporting.style import Style
from sweeps.rows import Row
from sweeps.selection.confirmed_text import (
    bias_text,
    dense_text,
    notes,
    points_text,
    share_text,
)
from sweeps.selection.opened_data import has_test
from sweeps.selection.stamp import changed_line, stamp_lines
from sweeps.selection.tested_text import VERDICTS
from sweeps.shown_values import points, share

_MOST_SLICES = 60
# A trend needs at least this many models and this Kendall's tau.
_LEAST_MODELS, _CLEAR_TAU = 6, 0.4
# Slices with this difference from the reference, in points, or a lower one are marked.
_LARGE_LOSS = -10.0


def sparsity_section(facts: Facts, style: Style) -> Section | None:
    """Return the effect of compression on OOD accuracy, relative bias and the easy/hard gap."""
    drawn = sparsity_figures(facts, style)
    if not drawn:
        return None
    body = (
        paragraph(
            f"{_trend(facts)}Compare equal settings: the same compression, at the same strength, "
            "with different losses. Dotted: the dense reference."
        )
        + legend(facts, style, by_loss=True)
        + figures(drawn)
        + note(
            "Relative bias (Du et al. 2023) is (ID - OOD) / ID, divided by the same ratio of the "
            "dense reference. It is shown only where it is meaningful: the reference has a gap of "
            "at least 2 points, and the model is within 3 ID points of it. Easy and hard are the "
            "two halves of id_dev by estimated difficulty."
        )
    )
    return Section("sparsity", "What compression costs, by loss", body, drawn, link="Losses")


def _trend(facts: Facts) -> str:
    """Say how OOD accuracy changes with what was removed; empty for too few models."""
    pairs = [
        (removed(row, facts.reference), row.ood_accuracy)
        for row in facts.compared
        if not row.reference
    ]
    pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
    if len(pairs) < _LEAST_MODELS:
        return ""
    # Imported here because the other sections do not need SciPy.
    from scipy import stats

    tau = float(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
    if math.isnan(tau):
        return ""
    goes = (
        "the more parameters are removed, the lower the OOD accuracy tends to be"
        if tau <= -_CLEAR_TAU
        else "the more parameters are removed, the higher the OOD accuracy tends to be"
        if tau >= _CLEAR_TAU
        else "the share of parameters removed says little about the OOD accuracy"
    )
    return f"Among these {len(pairs)} compressed models, {goes} (Kendall's tau {tau:.2f}). "


def slices_section(facts: Facts) -> Section | None:
    """Return OOD accuracy by subcase as a heat map: the reference against the chosen models."""
    models = heat_models(facts)
    slices = heat_slices(facts, models)
    if not slices:
        return None
    body = paragraph(
        "Where the chosen model loses accuracy and where it does not: percent correct on each "
        "slice of ood_dev, largest loss first. An average can hide that a model gets a whole "
        "subcase wrong."
    )
    for kind, found in slices.items():
        titles = [kind, *(f"{role} {row.id}" for role, row in models)]
        titles.insert(3, "chosen - dense")
        rows = []
        for name, values in found[:_MOST_SLICES]:
            cells: list[str | Raw] = [name, *map(_heat, values)]
            cells.insert(3, _lost(100 * (values[1] - values[0])))
            rows.append(cells)
        caption = f"OOD accuracy by {kind}"
        body += table(titles, rows, numbers=range(1, len(titles)), kind="heat", caption=caption)
        if len(found) > _MOST_SLICES:
            body += note(
                f"{len(found) - _MOST_SLICES} more slices, with smaller losses, are not shown."
            )
    body += note(
        "Small slices vary widely by chance; each trial's record gives their sample counts. Every "
        "figure comes from one training run."
    )
    return Section("subcases", "Out of distribution, subcase by subcase", body, link="Subcases")


def heat_models(facts: Facts) -> list[tuple[str, Row]]:
    """Return the models in the heat map: the reference, the chosen one, the best OOD."""
    found = []
    if facts.reference is not None:
        found.append(("dense", facts.reference))
    if facts.chosen is not None:
        found.append(("chosen", facts.chosen))
        best = facts.best_outside or facts.chosen
        if best.id != facts.chosen.id:
            found.append(("best OOD", best))
    return found if facts.reference is not None and len(found) > 1 else []


def heat_slices(
    facts: Facts, models: Sequence[tuple[str, Row]]
) -> dict[str, list[tuple[str, Sequence[float]]]]:
    """Return kind of slice -> (slice, accuracy per model), by the second's loss, largest first.

    The kind with the most slices comes first.
    """
    records = [facts.record(row.id) for _, row in models]
    keys = [
        key
        for key in (records[0].metrics if records else ())
        if key.startswith("ood_dev/") and key.endswith("/accuracy") and key.count("/") == 3
    ]
    several = len({key.split("/")[1] for key in keys}) > 1
    found: dict[str, list[tuple[str, Sequence[float]]]] = {}
    for key in keys:
        _, suite, part, _ = key.split("/")
        kind, _, value = part.partition(".")
        name = f"{suite} {value or kind}" if several else value or kind
        found.setdefault(kind, []).append((name, [record.metric(key) for record in records]))

    def loss(item: tuple[str, Sequence[float]]) -> float:
        difference = item[1][1] - item[1][0]
        return math.inf if math.isnan(difference) else difference

    return {
        kind: sorted(items, key=loss)
        for kind, items in sorted(found.items(), key=lambda each: -len(each[1]))
    }


def _heat(value: float) -> Raw:
    if math.isnan(value):
        return Raw('<td class="n">-</td>')
    return Raw(f'<td class="v" style="--v:{value:.3f}">{100 * value:.0f}</td>')


def _lost(points: float) -> str | Raw:
    if math.isnan(points):
        return "-"
    kind = "n bad" if points <= _LARGE_LOSS else "n"
    return Raw(f'<td class="{kind}">{points:+.0f}</td>')


def confirmed_section(facts: Facts) -> Section | None:
    """Return what the new seeds showed, or the seeds of a fixed design."""
    if facts.confirmation is None:
        return None
    rows = []
    for row in facts.confirmed_rows:
        ood, inside = row.estimates[OOD_KEY], row.estimates[ID_KEY]
        rows.append(
            [
                "*" if row.confirmed else "",
                row.id,
                name_cell(row.name + (" (dense reference)" if row.reference else "")),
                str(row.seeds),
                share_text(inside),
                share_text(ood),
                *([] if facts.own_seeds else [share(row.searched[OOD_KEY])]),
                points_text(row.against_reference),
                dense_text(row, facts.confirmation),
                bias_text(row),
                "" if row.chance is None else f"{100 * row.chance:.0f} %",
            ]
        )  # fmt: skip
    said = [] if facts.own_seeds else ["search said"]
    titles = ["", "trial", "configuration", "seeds", "ID %", "OOD %", *said, "OOD vs dense",
              "OOD is", "F_bias", "on front"]  # fmt: skip
    body = paragraph(
        "One row per configuration: the mean over the design's seeds with its 95 % interval, and "
        "the probability that no other compressed model is better on every objective."
        if facts.own_seeds
        else "Means over new training seeds, which played no part in the choice, with 95 % "
        "intervals. `search said` is the value of the one seed that was chosen for being high."
    )
    body += table(titles, rows, numbers=range(3, len(titles)), caption="confirmation")
    body += "".join(note(line.strip()) for line in notes(facts.confirmation))
    title = "Means over seeds" if facts.own_seeds else "Confirmed with new seeds"
    return Section("confirmed", title, body, link="Seeds")


def _predicted(facts: Facts) -> bool:
    """Return whether trials kept their test predictions; the first trial stands for all."""
    folders = [facts.folder.trial(record.id) for record in facts.records]
    places = [folder.path / "predictions" for folder in folders[:1]]
    return any(next(place.glob("*_test.*"), None) is not None for place in places)


def sealed_section(facts: Facts) -> Section:
    """Return the sealed test: its results with the drop from dev, or a line that it is sealed."""
    if facts.tested is None:
        line = "Not opened. No trial and no choice on this page has seen its splits."
        if _predicted(facts):
            line = (
                "Not opened. Trials that ran with --test keep their predictions on it, but no "
                "choice on this page has read them."
            )
        if not has_test(facts.records):
            line = (
                "This task has no test split, so nothing here shows how much of the chosen model's "
                "accuracy is the luck of the choice. Give the sweep an id_test and an ood_test."
            )
        return Section("test", "The sealed test", paragraph(line), link="Test")
    found = opened_rows(facts)
    seen = any(not math.isnan(row.seen) for row in found)
    titles = ["", "trial", "configuration", "seeds", "ID test %", "OOD test %"]
    titles += ["seen subcases %"] * seen + ["drop from dev", "OOD is"]
    rows = [
        [
            "*" if row.selected else "",
            row.id,
            name_cell(row.name),
            str(row.seeds),
            share(row.inside),
            share(row.outside, row.half),
            *[share(row.seen)] * seen,
            points(row.fall),
            VERDICTS[row.verdict],
        ]
        for row in found
    ]
    body = paragraph(
        "A drop from dev to test can come from the choice (the highest of many is too high by "
        "luck) or from a harder test: compare it with the drop of the dense reference."
    )
    body += table(titles, rows, numbers=range(3, len(titles)), caption="sealed test")
    if seen:
        body += note(
            "OOD test %: subcases that no dev split has. Seen subcases: those that ood_dev has "
            "too; the drop is measured on these."
        )
    changed = changed_line(facts.seal)
    for line in stamp_lines(facts.seal):
        text = line[:1].upper() + line[1:] + "."
        body += paragraph(text, "bad") if line == changed else note(text)
    return Section("test", "The sealed test", body, link="Test")
