"""Which values of a CSV are several rows that a stray quotation mark has joined.

If no other mark follows, the value extends to the end of the file. Otherwise it begins within one
row and ends within another, in the same column, or the file would have uneven rows. So its lines
contain as many commas as these parts of rows, and labels stand where labels should. A letter that
begins with "Dear all," is a text of several lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

# Bytes at the end of a file that are searched for its last quotation marks.
_TAIL = 4_096


def joined_rows(values: Mapping[str, Sequence[str]], name: str, names: Sequence[str]) -> list[int]:
    """Return the positions of a column's values that look like several rows.

    Args:
        values: of the columns that are read, N each.
        name: of the column, one of these.
        names: of all columns of the file, in order.
    """
    found = {}
    for i, value in enumerate(values[name]):
        if "\n" in value and len(names) > 1:
            rows = _as_rows(value, names.index(name), len(names))
            if rows is not None:
                found[i] = rows
    others = [each for each in values if each != name]
    if not found or not others:
        return list(found)
    # The label column: no other column repeats its values so often.
    label = min(others, key=lambda each: len(set(values[each])))
    known, position = set(values[label]), names.index(label)
    return [i for i, rows in found.items() if _are_known(rows, position, known)]


def is_unclosed(path: Path, last: bytes) -> bool:
    """Tell whether a CSV ends within quotes, so that all after the opening mark is one value.

    Such a value is in the last column, or its row would have too few values. A value of several
    lines is in quotes; if they are closed, the file ends with an odd number of marks, because a
    mark within a value is written as two.

    Args:
        path: of the file.
        last: value of the last column in the last row.
    """
    if not {*b"\r\n"} & {*last}:
        return False
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL))
        end = stream.read().rstrip()
    return (len(end) - len(end.rstrip(b'"'))) % 2 == 0


def _as_rows(value: str, start: int, num_columns: int) -> list[list[str | None]] | None:
    """Return a value's lines as rows, the first without its beginning, the last without its end.

    None if their commas do not match rows.

    Args:
        value: of several lines.
        start: index of its column.
        num_columns: of the file.
    """
    lines: list[list[str | None]] = [[*line.split(",")] for line in value.split("\n")]
    missing: list[str | None] = [None] * num_columns
    lines[0] = missing[:start] + lines[0]
    lines[-1] += missing[start + 1 :]
    return lines if all(len(line) == num_columns for line in lines) else None


def _are_known(rows: Sequence[Sequence[str | None]], position: int, known: set[str]) -> bool:
    """Tell whether most values in a column also occur in that column in other rows."""
    there = [value.strip() for row in rows if (value := row[position]) is not None]
    return 2 * sum(value in known for value in there) > len(there)
