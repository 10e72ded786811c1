"""Where something is in a data file, as a user sees it there, and why a file cannot be read.

Used only once something is wrong: a file is then read again, line by line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from rc_core.labels import count_of

# Long texts are allowed; the csv module's default limit is 128 KiB.
csv.field_size_limit((1 << 31) - 1)
TEXT_SUFFIXES = (".jsonl", ".csv", ".tsv")
_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "vertical bars"}
# Byte order marks, longer ones first: UTF-32's begins with UTF-16's.
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_OTHERS = {
    b"PAR1": "a parquet file; name it .parquet",
    b"PK\x03\x04": "a zip archive (as .xlsx files are); save it as .csv in UTF-8",
    b"\x1f\x8b": "compressed with gzip; unpack it",
}


def place(path: Path, row: int) -> str:
    """Return where a row is: `line 7 (the header is line 1)`, `line 6`.

    Lines count from 1, as in editors, including empty ones and those within a value. For parquet,
    and if a file cannot be read line by line, it is `row 5 (counted from 0, without a header)`.

    Args:
        path: of the file.
        row: its position among the rows as they are read, from 0.
    """
    suffix = path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        records = _json_lines(path) if suffix == ".jsonl" else ((n, 0) for n, _ in _records(path))
        skip = 0 if suffix == ".jsonl" else 1
        try:
            line, _ = next(islice(records, row + skip, None), (0, 0))
        except (OSError, UnicodeDecodeError, csv.Error):
            line = 0
        if line:
            return f"line {line}{' (the header is line 1)' if skip else ''}"
    return f"row {row} (counted from 0, without a header)"


def other_separator(path: Path, columns: Sequence[str]) -> str | None:
    """Return a message if a CSV or TSV looks like it is separated by something else.

    Args:
        path: of the file.
        columns: that it must have.
    """
    try:
        _, header = next(_records(path, errors="replace"), (0, []))
    except csv.Error:
        return None
    found = [mark for mark in _SEPARATORS if len(header) == 1 and mark in header[0]]
    own = _separator(path)
    if not found or set(columns) <= set(header) or found == [own]:
        return None
    mark = max((each for each in found if each != own), key=header[0].count)
    return (
        f"a {path.suffix[1:]} file must be separated by {_SEPARATORS[own]}, but its header is one "
        f"column, {header[0]!r:.80}, as if separated by {_SEPARATORS[mark]}; save it again, "
        f"e.g. pandas.read_csv({path.name!r}, sep={mark!r}).to_csv('new.csv', index=False)"
    )


def unreadable(path: Path, error: Exception) -> str:
    """Return why a file cannot be read, and what to do, instead of a library's own words."""
    if isinstance(error, PermissionError):
        return "Permission denied; make it readable for the user who runs this"
    found = foreign(path)
    if found is None and path.suffix.lower() in TEXT_SUFFIXES:
        found = _not_utf8(path)
    if found is None and path.suffix.lower() in (".csv", ".tsv"):
        found = _uneven(path)
    return found or str(error).splitlines()[0]


def foreign(path: Path) -> str | None:
    """Return what a text file really is, judging by its first bytes; None if it is text."""
    if path.suffix.lower() not in TEXT_SUFFIXES:
        return None
    with path.open("rb") as stream:
        head = stream.read(1_000)
    named = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if named is None and head and head.count(0) >= len(head) / 4:
        named = "UTF-16" if head.count(0) <= 0.6 * len(head) else "UTF-32"
        named += "LE" if head[0] else "BE"
    if named is not None:
        convert = f"iconv -f {named} -t UTF-8 {path.name} > new{path.suffix}"
        return f"it is {named} (as Excel's 'Unicode text'); convert it: {convert}"
    other = next((name for mark, name in _OTHERS.items() if head.startswith(mark)), None)
    return None if other is None else f"it is {other}"


def _not_utf8(path: Path) -> str | None:
    """Return the line on which a file is not UTF-8; None if all of it is."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    wrong = line[max(error.start - 12, 0) : error.start + 4]
                    convert = f"iconv -f WINDOWS-1252 -t UTF-8 {path.name} > new{path.suffix}"
                    return (
                        f"line {number} is not UTF-8 ({wrong!r}); if the file is Excel's or an old "
                        f"Windows', convert it: {convert}"
                    )
    except OSError:
        pass
    return None


def _uneven(path: Path) -> str | None:
    """Return which record does not have as many values as the header."""
    quotes = "put double quotes around values that hold a comma, and write one within as two"
    advice = quotes if path.suffix.lower() == ".csv" else "a value may hold no tab and no line end"
    try:
        records = _records(path)
        _, header = next(records, (0, []))
        for number, values in records:
            if len(values) != len(header):
                return (
                    f"line {number} has {count_of(len(values), 'value')}, but the header (line 1) "
                    f"has {len(header)}; {advice}"
                )
    except (OSError, UnicodeDecodeError, csv.Error):
        pass
    return None


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _json_lines(path: Path) -> Iterator[tuple[int, int]]:
    with path.open(encoding="utf-8-sig") as stream:
        yield from ((number, 0) for number, line in enumerate(stream, start=1) if line.strip())


def _records(path: Path, *, errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each record begins, and its values; the header is the first.

    Empty lines are not records, as in `rc_core.data._sources`.
    """
    quoted = path.suffix.lower() != ".tsv"
    with path.open(encoding="utf-8-sig", errors=errors, newline="") as stream:
        reader = csv.reader(
            stream,
            delimiter=_separator(path),
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )
        before = 0
        for values in reader:
            if values:
                yield before + 1, values
            before = reader.line_num
