"""Reading columns of parquet, JSON Lines, CSV and TSV files, and what the labels in them mean.

Everything that is wrong with a file is a `DataError` that names the file; nothing is guessed.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray
from pydantic import AfterValidator

from rc_core.data._joined import is_unclosed, joined_rows
from rc_core.data._places import foreign, other_separator, place, unreadable
from rc_core.errors import DataError, Problem, did_you_mean, looks_alike
from rc_core.labels import count_of

_logger = logging.getLogger(__name__)
_WHOLE_NUMBER = re.compile(r"-?\d+\.0+")

# Bytes of a text file that pyarrow parses at a time: its default, and the most that 32 bits allow.
_BLOCK, _LARGEST_BLOCK = 1 << 20, (1 << 31) - 1
_MANY = 100  # Line ends within a value.
SUFFIXES = (".parquet", ".jsonl", ".csv", ".tsv")


def _of_known_suffix(value: str) -> str:
    if Path(value).suffix.lower() not in SUFFIXES:
        raise ValueError(f"must be a file that ends in one of {', '.join(SUFFIXES)}")
    return value


# What a configuration may name as a file.
DataFile = Annotated[str, AfterValidator(_of_known_suffix)]
# YAML 1.1 reads yes, no, on and off as booleans.
BOOLEAN_HINT = "YAML reads yes, no, on and off as booleans; put them in quotes to mean the words"


class MissingColumnError(DataError):
    """A file lacks columns that it was asked for."""


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of some columns, each a list with one entry per row.

    The suffix determines the format: `.parquet`; `.jsonl`, one object per line; `.csv`,
    comma-separated with double quotes around values if needed, line breaks allowed inside; `.tsv`,
    tab-separated without any quoting (like GLUE's files: a quotation mark is just a character). CSV
    and TSV have a header line, and their values are strings. All but parquet are UTF-8, with or
    without a byte order mark; nothing else is guessed.

    Raises:
        MissingColumnError: columns are missing.
        DataError: there is no such file, it is not of its format, it has no rows, or a column
            occurs twice or holds half a character.
    """
    readers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _delimited, ".tsv": _delimited}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(Problem(str(path), f"must end in one of {', '.join(SUFFIXES)}"))
    kind = f"must be a {path.suffix[1:]} file"
    form = kind if reader is _parquet else f"{kind} in UTF-8"
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no such file"
            raise DataError(Problem(str(path), f"{kind}, but is {what}; check data_dir"))
        other = foreign(path)
        if other is not None:
            raise DataError(Problem(str(path), f"{form}, but cannot be read: {other}"))
        values = reader(path, columns)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = unreadable(path, error)
        raise DataError(Problem(str(path), f"{form}, but cannot be read: {reason}")) from error
    if not values[columns[0]]:
        raise DataError(Problem(str(path), "must hold rows, but has none"))
    return values


def texts(path: Path, column: str, values: Sequence[Any], rows: Sequence[int]) -> list[str]:
    """Return a column as texts; missing values become empty texts.

    Args:
        path: of the file.
        column: its name.
        values: N of them.
        rows: N positions in the file, in the order in which rows are read.

    Raises:
        DataError: a value is not a text.
    """
    wrong = [i for i, value in enumerate(values) if not isinstance(value, str | None)]
    if wrong:
        first = values[wrong[0]]
        raise DataError(
            Problem(
                str(path),
                f"column '{column}' must hold texts, but "
                f"{count_of(len(wrong), 'row does', 'rows do')} not "
                f"(first: {place(path, rows[wrong[0]])}, {first!r})",
            )
        )
    return [value or "" for value in values]


def raw_label(value: Any) -> str:
    """Return how a label is spelled in a `labels` map: 1, 1.0, "1" and "1.0" are all `1`.

    Booleans, and strings that look like them, are `true` and `false`; a missing label is "".
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    # Labels that were floating-point numbers before they were written as strings.
    if _WHOLE_NUMBER.fullmatch(text):
        return text.partition(".")[0]
    return text.lower() if text.lower() in ("true", "false") else text


def label_ids(
    path: Path,
    column: str,
    values: Sequence[Any],
    *,
    labels: Mapping[str, str],
    drop: Sequence[str] = (),
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which rows to keep, and their labels.

    Args:
        path: of the file.
        column: name of the label column.
        values: N labels as they are in the file.
        labels: raw label -> name; ids number the names in order of first occurrence.
        drop: raw labels whose rows are left out.

    Returns:
        Rows (K,) and ids (K,).

    Raises:
        DataError: labels that are in neither, each with its count.
    """
    ids = {name: i for i, name in enumerate(label_names(labels))}
    raw = [raw_label(value) for value in values]
    unknown = Counter(label for label in raw if label not in labels and label not in drop)
    if unknown:
        hint = f" ({BOOLEAN_HINT})" if {"true", "false"} & {*labels, *unknown} else ""
        alike = next(filter(None, (looks_alike(label, [*labels, *drop]) for label in unknown)), "")
        hint += f" ({alike})" if alike else ""
        first = place(path, next(i for i, label in enumerate(raw) if label in unknown))
        raise DataError(
            Problem(
                str(path),
                f"column '{column}' holds labels that the map does not know: "
                + ", ".join(
                    f"{label!r} in {count_of(count, 'row')}"
                    for label, count in unknown.most_common(8)
                )
                + (", ..." if len(unknown) > 8 else "")
                + f"; known are {list(labels)}; add them to labels, or to drop_labels{hint}; the "
                f"first is in {first}",
            )
        )
    rows = [i for i, label in enumerate(raw) if label in labels]
    return np.array(rows, np.int64), np.array([ids[labels[raw[i]]] for i in rows], np.int64)


def label_names(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of a `labels` map, each once, in order of first occurrence."""
    return tuple(dict.fromkeys(labels.values()))


def _parquet(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    _require(path, columns, pa.parquet.read_schema(path).names)
    table = pa.parquet.read_table(path, columns=list(dict.fromkeys(columns)))
    return {name: table[name].to_pylist() for name in columns}


def _delimited(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    if path.suffix.lower() == ".tsv":
        parse = pa.csv.ParseOptions(delimiter="\t", quote_char=False)
    else:
        parse = pa.csv.ParseOptions(newlines_in_values=True)
    other = other_separator(path, columns)
    if other is not None:
        raise DataError(Problem(str(path), other))
    try:
        table, names = _parsed(path, columns, parse, _BLOCK)
    except pa.ArrowInvalid:
        # pyarrow rejects a row larger than a block, although nothing is wrong with it.
        size = min(path.stat().st_size + 1, _LARGEST_BLOCK)
        if size <= _BLOCK:
            raise
        table, names = _parsed(path, columns, parse, size)
    values = {name: table[name].to_pylist() for name in columns}
    _warn_of_stray_quotes(path, values, names)
    return values


def _parsed(
    path: Path, columns: Sequence[str], parse: pa.csv.ParseOptions, block: int
) -> tuple[pa.Table, list[str]]:
    """Return some columns as strings, and the names of all; `block`: bytes parsed at a time."""
    read = pa.csv.ReadOptions(block_size=block)
    with pa.csv.open_csv(path, read_options=read, parse_options=parse) as head:
        names = head.schema.names
    _require(path, columns, names)
    # As strings, a text such as "NA" or "1" stays as it is. The last column is read to see whether
    # quotes are closed; as bytes, because nobody may have asked for it.
    convert = pa.csv.ConvertOptions(
        include_columns=list(dict.fromkeys([*columns, names[-1]])),
        column_types={names[-1]: pa.binary()} | {name: pa.string() for name in columns},
        strings_can_be_null=False,
    )
    table = pa.csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    if parse.quote_char and names.count(names[-1]) == 1 and len(table):
        _check_closed(path, table[names[-1]][-1], len(table) - 1)
    return table, names


def _check_closed(path: Path, last: pa.Scalar, row: int) -> None:
    """Reject a file that ends within quotes. Raises DataError.

    Args:
        path: of the file.
        last: value of the last column in the last row.
        row: position of that row.
    """
    value: bytes = last.cast(pa.binary()).as_py()
    if is_unclosed(path, value):
        shown = value[:80].decode(errors="replace")
        raise DataError(
            Problem(
                str(path),
                f"an opening quotation mark must be followed by a closing one, but that of the "
                f"last value in {place(path, row)} ({shown!r}) is not, so everything after it is "
                "part of this value; close it, or double a mark that belongs to the value and put "
                "the value in quotes",
            )
        )


def _warn_of_stray_quotes(
    path: Path, values: Mapping[str, list[str]], names: Sequence[str]
) -> None:
    """Warn of values that look like several rows: a stray quote joins all rows up to the next one.

    Raises:
        DataError: one looks like a large part of the file.
    """
    for name, column in values.items():
        found = joined_rows(values, name, names)
        # A long text may hold line ends, but not this many with a row's values in each line.
        whole = [i for i in found if len(column[i]) > _BLOCK and column[i].count("\n") > _MANY]
        if whole:
            raise DataError(
                Problem(
                    str(path),
                    f"a value of column '{name}' must be one text, but that in "
                    f"{place(path, whole[0])} ({column[whole[0]][:80]!r}) holds "
                    f"{column[whole[0]].count(chr(10))} line ends, and its lines are like rows of "
                    "the file; a quotation mark is missing or too many there: write one within a "
                    "value as two",
                )
            )
        if found:
            many = count_of(len(found), "value")
            _logger.warning(
                "%s: the lines of %s of column '%s' are like rows of the file (first: %s, %r); if "
                "a quotation mark is missing or too many there, rows were joined: write one within "
                "a value as two",
                path,
                many,
                name,
                place(path, found[0]),
                column[found[0]][:80],
            )


def _jsonl(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {name: [] for name in columns}
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(Problem(where, f"must be JSON, but is not: {error}")) from error
            if not isinstance(row, dict):
                raise DataError(Problem(where, f"must be a JSON object, but is {row!r:.60}"))
            _require(Path(where), columns, list(row))
            for name in columns:
                _check_whole(where, name, row[name])
                values[name].append(row[name])
    return values


def _check_whole(where: str, name: str, value: Any) -> None:
    """Reject half a character, which JSON can spell but UTF-8 cannot. Raises DataError."""
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise DataError(
            Problem(
                where,
                f"column '{name}' must hold whole characters, but has half of one ({half!r}), as "
                "left by cutting a text in the middle of an emoji; remove it",
            )
        ) from error


def _require(where: Path, columns: Sequence[str], names: Sequence[str]) -> None:
    """Check that a file has each column exactly once. Raises DataError."""
    missing = [column for column in columns if column not in names]
    if missing:
        raise MissingColumnError(
            Problem(str(where), f"must have a column '{column}': {did_you_mean(column, names)}")
            for column in missing
        )
    twice = [column for column in columns if names.count(column) > 1]
    if twice:
        raise DataError(
            Problem(str(where), f"must have one column '{column}', but has {names.count(column)}")
            for column in dict.fromkeys(twice)
        )
