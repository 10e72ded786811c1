"""Every format gives the same values, and every damaged file a message that names it."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path
from typing import Any
from unicodedata import normalize
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rc_core.data._places import place
from rc_core.data._sources import label_ids, label_names, raw_label, read_columns, texts
from rc_core.errors import DataError

ROWS = [
    {"text": 'He said "hi", twice', "label": 0, "other": 1.5},
    {"text": "na\u00efve, caf\u00e9", "label": 1, "other": 2.5},
    {"text": "NA", "label": 1, "other": 3.5},
]
COMPOSED, DECOMPOSED = (normalize(form, "v\u00e9rit\u00e9") for form in ("NFC", "NFD"))


def write(folder: Path, suffix: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"data{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def message(path: Path, columns: list[str]) -> str:
    with pytest.raises(DataError) as caught:
        read_columns(path, columns)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_every_format_round_trips(tmp_path: Path, suffix: str) -> None:
    columns = read_columns(write(tmp_path, suffix), ["text", "label"])
    assert list(columns) == ["text", "label"]
    assert columns["text"] == [row["text"] for row in ROWS]
    assert [raw_label(value) for value in columns["label"]] == ["0", "1", "1"]


def test_csv_values_may_hold_line_breaks_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('\ufefftext,label\n"two\nlines",1\n"say ""x""",0\n', encoding="utf-8")
    columns = read_columns(path, ["text", "label"])
    assert columns == {"text": ["two\nlines", 'say "x"'], "label": ["1", "0"]}


def test_tsv_has_no_quoting(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text('text\tlabel\n"open quote\t1\nan inch: 1"\t0\n', encoding="utf-8")
    assert read_columns(path, ["text"])["text"] == ['"open quote', 'an inch: 1"']


def test_a_dictionary_column_of_parquet_gives_its_values(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    label = pa.array(["no", "yes", "no"]).dictionary_encode()
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": label}), path)
    assert read_columns(path, ["label"])["label"] == ["no", "yes", "no"]


def test_blank_lines_of_jsonl_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('\ufeff{"text": "a"}\n\n{"text": "b"}\n', encoding="utf-8")
    assert read_columns(path, ["text"]) == {"text": ["a", "b"]}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_a_missing_column_is_named_with_its_neighbours(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix)
    with pytest.raises(DataError) as caught:
        read_columns(path, ["texts", "label", "gold"])
    first, second = map(str, caught.value.problems)
    assert "must have a column 'texts': did you mean 'text'? available: text, label" in first
    assert "must have a column 'gold': available: " in second


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_a_missing_file_a_folder_and_binary_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    assert "no such file; check data_dir" in message(path, ["text"])
    path.mkdir()
    assert "is a folder" in message(path, ["text"])
    path.rmdir()
    path.write_bytes(b"\xff\xfe\x00\x81" * 40)
    assert "cannot be read" in message(path, ["text"]) or "column 'text'" in message(path, ["text"])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
@pytest.mark.parametrize("of_folder", [False, True])
def test_a_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, of_folder: bool
) -> None:
    path = write(tmp_path, suffix)
    # Who runs the tests may read everything.
    denied = Mock(side_effect=PermissionError(errno.EACCES, "Permission denied", str(path)))
    if of_folder:
        monkeypatch.setattr(Path, "is_file", denied)
    else:
        monkeypatch.setattr(Path, "open", denied)
        monkeypatch.setattr("rc_core.data._sources.pa.parquet.read_schema", denied)
    assert "cannot be read: Permission denied; make it readable" in message(path, ["text"])


@pytest.mark.parametrize(
    ("name", "content"),
    [("data.csv", "text,label\n"), ("data.tsv", "text\tlabel\n"), ("data.jsonl", "\n")],
)
def test_a_file_without_rows(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert "must hold rows, but has none" in message(path, ["text", "label"])


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_a_file_of_no_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    path.touch()
    assert "cannot be read" in message(path, ["text"]) or "has none" in message(path, ["text"])


def test_a_wrong_number_of_fields_says_where(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\na,0\nb,1,extra\n", encoding="utf-8")
    assert "line 3 has 3 values, but the header (line 1) has 2" in message(path, ["text"])
    # A value over two lines, and an empty line: the lines are an editor's.
    path.write_text('text,label\n"a\nb",0\n\nc,1,extra\n', encoding="utf-8")
    assert "line 5 has 3 values" in message(path, ["text"])
    path = tmp_path / "data.tsv"
    path.write_text("text\tlabel\na\tb\t0\n", encoding="utf-8")
    assert "line 2 has 3 values" in message(path, ["text"])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("semi.csv", "text;label\na, b;1\n",
         "must be separated by commas, but its header is one column, 'text;label', as if separated "
         "by semicolons; save it again, e.g. pandas.read_csv('semi.csv', sep=';')"),
        ("tab.csv", "text\tlabel\na\t1\n", "as if separated by tabs"),
        ("comma.tsv", "text,label\na,1\n",
         "must be separated by tabs, but its header is one column, 'text,label', as if separated "
         "by commas"),
    ],
)  # fmt: skip
def test_another_separator_is_told(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert told in message(tmp_path / name, ["text", "label"])


def test_a_column_whose_name_holds_another_separator_is_read(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("te;xt\na\n", encoding="utf-8")
    assert read_columns(tmp_path / "data.csv", ["te;xt"]) == {"te;xt": ["a"]}


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.jsonl"])
@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        (
            "utf-16",
            "it is UTF-16 (as Excel's 'Unicode text'); convert it: iconv -f UTF-16 -t UTF-8",
        ),
        ("utf-16-be", "it is UTF-16BE "),
        ("utf-32", "it is UTF-32 "),
        ("cp1252", "line 2 is not UTF-8 (b'"),
    ],
)
def test_another_encoding_is_told_with_its_conversion(
    tmp_path: Path, name: str, encoding: str, told: str
) -> None:
    header, row = {
        "data.csv": ("text,label", "caf\u00e9,1"),
        "data.tsv": ("text\tlabel", "caf\u00e9\t1"),
        "data.jsonl": ('{"text": "a", "label": 1}', '{"text": "caf\u00e9", "label": 1}'),
    }[name]
    (tmp_path / name).write_bytes(f"{header}\n{row}\n".encode(encoding))
    found = message(tmp_path / name, ["text", "label"])
    assert "in UTF-8, but cannot be read: " in found and told in found
    assert f"-t UTF-8 {name} > new" in found


def test_another_format_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, ".parquet").rename(tmp_path / "data.csv")
    assert "it is a parquet file; name it .parquet" in message(path, ["text"])


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", 'text\na\n"b\nb"\n\nc\n', [(0, 2), (1, 3), (2, 6)]),
        ("a.tsv", 'text\n"a\n\nb\n', [(0, 2), (1, 4)]),
        ("a.jsonl", '\n{"text": "a"}\n\n{"text": "b"}\n', [(0, 2), (1, 4)]),
    ],
)
def test_places_are_the_lines_of_an_editor(
    tmp_path: Path, name: str, content: str, found: list[tuple[int, int]]
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert len(read_columns(tmp_path / name, ["text"])["text"]) == len(found)
    header = "" if name == "a.jsonl" else " (the header is line 1)"
    for row, line in found:
        assert place(tmp_path / name, row) == f"line {line}{header}"
    assert place(tmp_path / name, 9) == "row 9 (counted from 0, without a header)"
    assert place(tmp_path / "a.parquet", 2) == "row 2 (counted from 0, without a header)"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{text: 1}", "data.jsonl:2: must be JSON, but is not"),
        ("[1]", "data.jsonl:2: must be a JSON object, but is [1]"),
        ('{"label": 1}', "data.jsonl:2: must have a column 'text': available: label"),
    ],
)
def test_a_bad_line_of_jsonl_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f'{{"text": "a"}}\n{line}\n', encoding="utf-8")
    assert expected in message(path, ["text"])


def test_half_a_character_of_jsonl_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "\\ud83d\\ude00"}\n{"text": "cut \\ud83d"}\n', encoding="utf-8")
    found = message(path, ["text"])
    assert "data.jsonl:2: column 'text' must hold whole characters" in found
    assert found.encode()


def test_rows_that_stray_quotes_join_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "data.csv"
    path.write_text('id,text,label\n1,fine,0\n2,"an inch,0\n3,b,1\n4,c",1\n', encoding="utf-8")
    assert len(read_columns(path, ["text"])["text"]) == 2
    assert "the lines of 1 value of column 'text' are like rows of the file" in caplog.text
    assert "(first: line 3 (the header is line 1), 'an inch,0" in caplog.text
    caplog.clear()
    path.write_text('id,text,label\n1,"Dear all,\nwhat, now?\nYours",0\n', encoding="utf-8")
    assert read_columns(path, ["text"])["text"] == ["Dear all,\nwhat, now?\nYours"]
    assert not caplog.text


@pytest.mark.parametrize(
    ("header", "row", "joined"),
    [
        ("text,label", '"Dear all,\nwhat now?",0', False),
        ("text,label", '"one, two\nand three, four\nfive",1', False),
        ("label,text", '0,"Dear all\nwell, now"', False),
        ("text,label,source", '"a, b, c\nd, e, f\ng",0,web', False),
        ("text,label", '"an inch,0\nanother,1\na third",0', True),
        ("text,label", '"an inch,0\r\na second",0', True),
        ("label,text", '0,"an inch\n1,another\n0,third"', True),
        ("text,label,source", '"an inch,0,web\nanother",1,web', True),
    ],
)
def test_a_text_of_several_lines_is_taken_for_rows_only_where_labels_are_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, header: str, row: str, joined: bool
) -> None:
    path = tmp_path / "data.csv"
    plain = {"text": "plain {}", "label": "{}", "source": "web"}
    rows = [",".join(plain[name].format(i) for name in header.split(",")) for i in (0, 1)]
    path.write_bytes("\n".join([header, *rows, row, ""]).encode())
    assert len(read_columns(path, ["text", "label"])["text"]) == 3
    assert ("are like rows of the file (first: line 4" in caplog.text) == joined


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('label,text\n1,good\n0,"bad\n1,third\n0,fourth\n', 3),
        ('label,text\r\n1,good\r\n0,"bad ""so""\r\n1,so ""it"" is', 3),
        ('label,text,source\n1,good,web\n0,bad,"web\n1,third,web\n', 3),
        ('text,label\ngood,1\n\n"bad\nthird",0\n', None),
        ('label,text\n1,"Dear ""all"",\nso ""it is""" \n\n', None),
        ('label,text\n1,an inch"\n', None),
    ],
)
def test_a_quotation_mark_that_nobody_closed_takes_no_rows_away(
    tmp_path: Path, content: str, line: int | None
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content.encode())
    if line is None:
        assert read_columns(path, ["text", "label"])["text"]
    else:
        expected = f"that of the last value in line {line} (the header is line 1) ("
        assert expected in message(path, ["text", "label"])


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_column_there_twice_is_refused(tmp_path: Path, separator: str) -> None:
    path = tmp_path / ("data.csv" if separator == "," else "data.tsv")
    path.write_text("text,label,label,x,x\na,0,1,2,3\n".replace(",", separator))
    assert "must have one column 'label', but has 2" in message(path, ["text", "label"])
    assert read_columns(path, ["text"])["text"] == ["a"], "what is not read may be twice"


def test_an_unknown_suffix(tmp_path: Path) -> None:
    path = tmp_path / "data.xlsx"
    path.touch()
    assert "must end in one of .parquet, .jsonl, .csv, .tsv" in message(path, ["text"])


def test_texts_must_be_texts_and_missing_ones_are_empty() -> None:
    assert texts(Path("f"), "t", ["a", None, ""], range(3)) == ["a", "", ""]
    with pytest.raises(DataError, match=r"2 rows do not \(first: row 7 \(counted from 0.*\), 5\)"):
        texts(Path("f"), "t", ["a", 5, ["x"]], [4, 7, 9])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "1"),
        (1.0, "1"),
        ("1", "1"),
        ("1.0", "1"),
        ("-2.00", "-2"),
        ("1.5", "1.5"),
        ("v1.0", "v1.0"),
        (" a b ", "a b"),
        (-1, "-1"),
        (True, "true"),
        ("False", "false"),
        (None, ""),
        (0.5, "0.5"),
        (np.int8(2), "2"),
    ],
)
def test_raw_labels_are_spelled_in_one_way(value: Any, expected: str) -> None:
    assert raw_label(value) == expected


def test_label_ids_count_names_in_the_order_given() -> None:
    labels = {"2": "no", "0": "yes", "1": "no"}
    assert label_names(labels) == ("no", "yes")
    rows, ids = label_ids(Path("f"), "l", ["0", 2, 1.0, -1], labels=labels, drop=["-1"])
    assert rows.tolist() == [0, 1, 2]
    assert ids.tolist() == [1, 0, 0]
    assert (rows.dtype, ids.dtype) == (np.int64, np.int64)


def test_unknown_labels_are_counted() -> None:
    with pytest.raises(DataError) as caught:
        label_ids(Path("d.csv"), "gold", ["-", "0", "-", None], labels={"0": "a", "1": "b"})
    text = str(caught.value)
    assert text.startswith("d.csv: column 'gold' holds labels that the map does not know: ")
    assert "'-' in 2 rows, '' in 1 row; known are ['0', '1']" in text
    assert text.endswith("the first is in row 0 (counted from 0, without a header)")
    assert "quotes" not in text


def test_booleans_of_yaml_are_explained() -> None:
    with pytest.raises(DataError, match="YAML reads yes, no, on and off as booleans"):
        label_ids(Path("d.csv"), "l", ["yes", "no"], labels={"true": "a", "false": "b"})


@pytest.mark.parametrize(("known", "drop"), [(DECOMPOSED, ()), ("other", (DECOMPOSED,))])
def test_a_label_in_another_unicode_form_is_told_from_its_like(
    known: str, drop: tuple[str, ...]
) -> None:
    labels = {known: "a", "non": "b"}
    with pytest.raises(DataError, match=f"\\('{DECOMPOSED}' looks the same but .* copy it"):
        label_ids(Path("d.csv"), "l", [COMPOSED, "non"], labels=labels, drop=drop)
    with pytest.raises(DataError) as caught:
        label_ids(Path("d.csv"), "l", ["verite", "non"], labels=labels, drop=drop)
    assert "looks the same" not in str(caught.value)


def test_a_column_in_another_unicode_form_is_told_from_its_like(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{DECOMPOSED},label\nx,0\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"'{DECOMPOSED}' looks the same but .* available: "):
        read_columns(path, [COMPOSED, "label"])


LONG = "long " * 300_000


@pytest.mark.parametrize(
    "content",
    [
        f"text,label\nx,0\n{LONG},1\ny,0\n",
        f'text,label\nx,0\n"{LONG}\nand {LONG}, too",1\ny,0\n',
        f"text,label\n{LONG},0\n{LONG},1\ny,0\n",
    ],
    ids=["plain", "quoted", "first"],
)
def test_a_value_of_more_than_a_megabyte_is_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    with path.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    found = read_columns(path, header)
    assert [list(row) for row in zip(*found.values(), strict=True)] == rows


def test_a_quote_that_joins_a_megabyte_of_rows_is_refused_with_its_line(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.csv", "".join(f"text {i},0\n" for i in range(120_000))
    path.write_text(f'text,label\nx,0\n"oops,1\n{rows}an "inch",0\n{rows}', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3 .*120001 line ends, .*quotation mark is missing"):
        read_columns(path, ["text", "label"])
    path.write_text(f'text,label\nx,0\n"oops,1\n{rows}', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3 has 1 value, but the header .* 2; put double"):
        read_columns(path, ["text", "label"])
