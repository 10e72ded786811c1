"""Building blocks of HTML; all text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sweeps.reporting.style import Figure, escaped


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: its id.
        title: heading.
        body: HTML.
        figures: those that the page's script draws in it.
        link: name in the navigation, by default the title.
    """

    anchor: str
    title: str
    body: str
    figures: Sequence[Figure] = field(default=())
    link: str | None = None

    def html(self) -> str:
        return (
            f'<section id="{self.anchor}" aria-labelledby="{self.anchor}-title">'
            f'<h2 id="{self.anchor}-title">{escaped(self.title)}</h2>{self.body}</section>'
        )


@dataclass(frozen=True)
class Raw:
    """A table cell that is HTML already."""

    html: str


Cell = str | Raw
_NAME_CELL = '<td class="name">'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{escaped(text)}</p>' if kind else f"<p>{escaped(text)}</p>"


def note(text: str) -> str:
    """Return a paragraph of small print."""
    return paragraph(text, "note")


def copy_button(command: str) -> str:
    """Return a button that copies a command."""
    text = escaped(command)
    return f'<button type="button" class="copy" data-copy="{text}"><code>{text}</code></button>'


def name_cell(name: str) -> Raw:
    """Return the cell of a configuration's name."""
    return Raw(f"{_NAME_CELL}{escaped(name)}</td>")


def table(
    titles: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    numbers: Iterable[int] = (),
    strong: Iterable[int] = (),
    kind: str = "",
    caption: str = "",
) -> str:
    """Return a table that scrolls by itself on a narrow page.

    There, a column of names (`name_cell`) is hidden and shown below the column before it.

    Args:
        titles: of the columns.
        rows: cells, plain text or `Raw`.
        numbers: columns that hold numbers.
        strong: rows in bold.
        kind: class of the table.
        caption: for screen readers.
    """
    right, bold = set(numbers), set(strong)
    rows = list(rows)
    names = {i for row in rows for i, cell in enumerate(row) if _is_name(cell)}
    head = "".join(
        f'<th scope="col"{_class("n", i in right)}{_class("name", i in names)}>'
        f"{escaped(title)}</th>"
        for i, title in enumerate(titles)
    )
    body = "".join(
        f"<tr{_class('chosen', number in bold)}>"
        + "".join(
            cell.html
            if isinstance(cell, Raw) and cell.html.startswith("<td")
            else f"<td{_class('n', i in right)}>{_cell(cell)}{_under(row, i + 1)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for number, row in enumerate(rows)
    )
    label = f' aria-label="{escaped(caption)}"' if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region"{label}><table{_class(kind, bool(kind))}>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(drawn: Figure) -> str:
    """Return the element in which the script draws a figure."""
    style = f"min-height:{int(drawn['height'] * 0.7)}px"
    if "min_width" in drawn:
        style += f";min-width:{drawn['min_width']}px"
    place = (
        f'<div class="figure" id="{drawn["id"]}" role="img" aria-label="{escaped(drawn["label"])}" '
        f'style="{style}"></div>'
    )
    return f'<div class="scroll">{place}</div>' if "min_width" in drawn else place


def figures(drawn: Sequence[Figure]) -> str:
    """Return several figures side by side where there is room."""
    return '<div class="figures">' + "".join(f"<div>{figure(f)}</div>" for f in drawn) + "</div>"


def _is_name(cell: Cell) -> bool:
    return isinstance(cell, Raw) and cell.html.startswith(_NAME_CELL)


def _under(row: Sequence[Cell], place: int) -> str:
    """Return the name in a cell, to go below the cell before it; empty if that is not one."""
    if place == len(row) or not _is_name(row[place]):
        return ""
    name = _cell(row[place]).removeprefix(_NAME_CELL).removesuffix("</td>")
    return f'<small class="under">{name}</small>'


def _cell(cell: Cell) -> str:
    return cell.html if isinstance(cell, Raw) else escaped(cell)


def _class(name: str, given: bool) -> str:
    return f' class="{name}"' if given else ""
