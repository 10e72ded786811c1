"""The report as Markdown, for an issue, a pull request or a README."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.reporting.facts import Facts
from sweeps.reporting.health import health
from sweeps.reporting.verdict import markdown, verdict
from sweeps.rows import size_note
from sweeps.shown_values import millions, points, share

_MOST_ROWS = 30


def summary(facts: Facts, pictures: Sequence[str]) -> str:
    """Return the verdict, the front, the findings and the pictures.

    Args:
        facts: of the sweep.
        pictures: file names beside the summary.
    """
    parts = [f"# {plain(facts.name)}", markdown_safe(markdown(verdict(facts)))]
    if "front.png" in pictures:
        parts.append("![every trial, in-distribution against out-of-distribution](front.png)")
    parts += ["## Front", _front(facts), "## Can this be trusted?"]
    parts.append(
        "\n".join(
            f"- {check.level}: {markdown_safe(check.title)} {markdown_safe(check.found)}."
            + (f" Do: {markdown_safe(check.action)}" if check.action else "")
            for check in health(facts)
        )
    )
    others = [name for name in pictures if name != "front.png"]
    if others:
        parts += [
            "## Pictures",
            "\n\n".join(f"![{name.removesuffix('.png')}]({name})" for name in others),
        ]
    return "\n\n".join(parts) + "\n"


def _front(facts: Facts) -> str:
    rows = [row for row in facts.units if row.on_front and not row.candidate] + facts.candidates
    reference = facts.reference
    if reference is not None and reference not in rows:
        rows.append(reference)
    lines = [
        "| trial | configuration | ID % | OOD % | OOD vs dense | non-zero |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows[:_MOST_ROWS]:
        name = f"{row.name} (dense reference)" if row.reference else row.name
        difference = "" if row.reference else points(row.ood_difference)
        values = map(share, (row.id_accuracy, row.ood_accuracy))
        lines.append(
            f"| {row.id} | {plain(name)} | {' | '.join(values)} | {difference} | "
            f"{millions(row.size)} |"
        )
    sizes = size_note(rows[:_MOST_ROWS])
    return "\n".join([*lines, *(["", *sizes] if sizes else [])])


def plain(text: str) -> str:
    """Return text that cannot end a table cell or a line."""
    return markdown_safe(" ".join(text.split()).replace("|", "\\|"))


def markdown_safe(text: str) -> str:
    """Return text in which HTML tags are escaped."""
    return text.replace("<", "&lt;")
