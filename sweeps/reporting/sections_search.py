"""How the search went: which settings matter, hypervolume, cost, failures."""

from __future__ import annotations

import math

from rc_core.labels import count_of
from sweeps.reporting.cost import cost
from sweeps.reporting.facts import Facts, varied
from sweeps.reporting.figures import MOST_LINES, hypervolume_figures, parallel_figure
from sweeps.reporting.importance import Importance, importance
from sweeps.reporting.markup import Raw, Section, figure, figures, name_cell, note, paragraph, table
from sweeps.reporting.style import Style, escaped, variable
from sweeps.shown_values import duration, number, percent

_MOST_FAILURES = 50
_BUSY_PRECISION = 0.995


def parallel_section(facts: Facts, style: Style) -> Section | None:
    """Return parallel coordinates and the importance of each setting."""
    drawn = parallel_figure(facts, style)
    if drawn is None:
        return None
    picture, count = drawn
    total = sum(not row.reference for row in facts.finished)
    body = paragraph(
        "Each line is one trial: its settings on the left, its results on the right. Thick lines "
        "are on the front of compressed models, in the colours of the first figure."
    )
    body += figure(picture)
    if count < total:
        body += note(
            f"{count} of {total} finished trials are drawn (at most {MOST_LINES}): the whole front "
            "and an even selection of the rest."
        )
    body += _importances(facts)
    return Section("settings", "Which settings matter", body, [picture], link="Settings")


def importances(facts: Facts) -> dict[str, Importance]:
    """Return objective -> importance of the settings by a random forest (compressed models)."""
    done = [row for row in facts.finished if not row.reference]
    records = {record.id: record for record in facts.records}
    settings = varied([records[row.id] for row in done])
    settings = {key: column for key, column in settings.items() if not key.endswith("seed")}
    return {
        name: importance(settings, [row.values[name] for row in done]) for name in facts.objectives
    }


def _importances(facts: Facts) -> str:
    parts = ["<h3>Importance for each objective</h3>", '<div class="figures">']
    found = importances(facts)
    for name, result in found.items():
        parts.append(f"<div><b>{escaped(name)}</b>")
        if result.problem is not None:
            parts.append(note(f"Not shown: {result.problem}."))
        else:
            largest = max(result.shares.values(), default=1.0) or 1.0
            bars = "".join(
                f'<b>{escaped(key)}</b><i style="width:{100 * share / largest:.0f}%"></i>'
                f"<span>{100 * share:.0f} %</span>"
                for key, share in list(result.shares.items())[:8]
            )
            parts.append(f'<div class="shares">{bars}</div>')
            parts.append(
                note(f"The forest explains {percent(result.explained, 0)} of the variance of "
                     f"held-out trials ({count_of(result.trials, 'trial')}).")
            )  # fmt: skip
        parts.append("</div>")
    parts.append("</div>")
    parts.append(
        note(
            "Permutation importance of a random forest (scikit-learn), measured on held-out "
            "trials: how much worse it predicts when a setting's values are shuffled, as a share "
            "of the total. It is a hint from these trials, not a causal effect: some settings "
            "exist only with one compression, a search does not spread its points evenly, and with "
            "fewer than about 50 trials the order of the smaller shares is chance."
        )
    )
    return "".join(parts)


def volume_section(facts: Facts) -> Section | None:
    """Return the hypervolume over time, which shows whether more trials would have helped.

    None for a design over seeds: it searches nothing, and its single trials depend on luck.
    """
    drawn = [] if facts.own_seeds else hypervolume_figures(facts)
    if not drawn:
        return None
    worst = ", ".join(
        f"{name} {number(value)}" for name, value in zip(facts.objectives, facts.worst, strict=True)
    )
    key = "".join(
        f'<span><i style="background:{variable(colour)}"></i>{text}</span>'
        for colour, text in (
            ("c0", "compressed models"),
            ("ink", "with the dense reference (dotted)"),
            ("soft", "the dense reference alone (dashes)"),
        )
    )
    body = (
        paragraph(
            "The hypervolume is the volume that the front dominates. It grows with every better "
            "trade-off and stays flat when the search finds no more of them."
        )
        + f'<div class="key">{key}</div>'
        + figures(drawn)
        + note(
            f"Measured from: {worst}. Times when no trial ran and the preparation of shared files "
            "are left out."
        )
    )
    return Section(
        "volume", "Was the search still finding better models?", body, drawn, link="Progress"
    )


def cost_section(facts: Facts) -> Section | None:
    """Return time per stage, machine utilisation, and what early stopping saved."""
    if not facts.records:
        return None
    spent = cost(facts.records, facts.config)
    names = {"prepare": "c4", "train": "c0", "evaluate": "c2", "other": "c6"}
    total = sum(spent.stages.values()) or 1.0
    bar = "".join(
        f'<i style="width:{100 * value / total:.1f}%;background:{variable(names[stage])}"></i>'
        for stage, value in spent.stages.items()
    )
    key = "".join(
        f'<span><i style="background:{variable(names[stage])}"></i>'
        f"{stage} {duration(value)} ({percent(value / total, 0)})</span>"
        for stage, value in spent.stages.items()
    )
    first = [record.started for record in facts.records if not record.reference]
    rows = [
        ("Trials, one after the other", duration(spent.trial_seconds)),
        ("Wall-clock time with trials running", duration(spent.busy_seconds)),
        ("Trials at once", f"{spent.concurrent:.2f} on average, {spent.most} at most"),
        (f"{spent.unit} time", duration(spent.device_seconds)),
        *_cores(facts, spent.concurrent),
    ]
    if first and not math.isnan(facts.began) and min(first) > facts.began:
        rows.append(("From launch to the first trial (shared preparation)",
                     duration(min(first) - facts.began)))  # fmt: skip
    if spent.failed_seconds:
        rows.append(("Lost to failed trials", duration(spent.failed_seconds)))
    if spent.stopped:
        rows.append(
            (
                f"Saved by stopping {count_of(spent.stopped, 'trial')} early",
                duration(spent.saved_seconds),
            )
        )
    else:
        rows.append(("Saved by early stopping", "nothing: no trial was stopped"))
    body = f'<div class="bar" aria-hidden="true">{bar}</div><div class="key">{key}</div>'
    body += table(["", ""], rows, caption="cost")
    body += note(
        "The dense reference's training counts as a trial of its own. Time saved by early "
        "stopping: what each stopped trial would still have taken at its own pace."
    )
    return Section("cost", "What it cost", body, link="Cost")


def _cores(facts: Facts, concurrent: float) -> list[tuple[str, str]]:
    cores = max(
        (r.environment.get("cores") or 0 for r in facts.records if r.environment), default=0
    )
    held = float(facts.config.get("resources", {}).get("cpu", 1) or 1)
    if not cores or (facts.config.get("resources", {}).get("gpu") or 0) > 0:
        return []
    used = concurrent * held / cores
    text = f"{percent(min(used, 1.0), 0)} of {cores} cores held by trials while trials ran"
    return [("Utilisation", text if used >= _BUSY_PRECISION else f"{text}; no trial held the rest")]


def failures_section(facts: Facts) -> Section | None:
    """Return what failed or was left out, with the reasons."""
    out = facts.left_out
    if not out:
        return None
    rows: list[list[str | Raw]] = [
        [row.id, name_cell(row.name), row.status,
         why.removeprefix(f"{row.status}: ")[:400]]
        for row, why in out[:_MOST_FAILURES]
    ]  # fmt: skip
    body = table(["trial", "configuration", "state", "reason"], rows, caption="failures")
    if len(out) > _MOST_FAILURES:
        body += note(f"{len(out) - _MOST_FAILURES} more: see rc-sweep status or their record.json.")
    return Section("failures", "What failed or was left out", body, link="Failures")
