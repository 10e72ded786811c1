"""include, overrides, and every way a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc_core.errors import ConfigError
from rc_core.yaml_files import lookup, merge, read_yaml


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("rate: 3e-5\n")
    assert read_yaml(tmp_path / "a.yaml") == {"rate": 3e-5}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a", 1),
        ("b.c", None),
        ("b.d.e", 2),
        ("b.d.e.f", None),
        ("x.y", None),
        ("b", {"d": {"e": 2}}),
    ],
)
def test_a_dotted_key_finds_its_value_or_none(key: str, expected: object) -> None:
    assert lookup({"a": 1, "b": {"d": {"e": 2}}}, key) == expected


def test_include_merges_deeply_and_local_keys_win(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "base.yaml").write_text("training: {epochs: 1, seed: 7}\nlist: [1, 2]\n")
    (tmp_path / "a.yaml").write_text(
        "include: [parts/base.yaml]\ntraining: {epochs: 3}\nlist: [9]\n"
    )
    assert read_yaml(tmp_path / "a.yaml") == {"training": {"epochs": 3, "seed": 7}, "list": [9]}


def test_override_reaches_nested_and_dotted_space_keys(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("training: {epochs: 1}\nspace: {loss.alpha: {choice: [1]}}\n")
    values = read_yaml(
        tmp_path / "a.yaml",
        ["training.epochs=2.5", "compression.name=student", "space.loss.alpha={choice: [0.3]}"],
    )
    assert values["training"] == {"epochs": 2.5}
    assert values["compression"] == {"name": "student"}
    assert values["space"] == {"loss.alpha": {"choice": [0.3]}}


def test_merge_does_not_change_its_arguments() -> None:
    base = {"a": {"b": 1}}
    assert merge(base, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"   \n", "is empty"),
        (b"- 1\n- 2\n", "must be a mapping"),
        (b"just words\n", "must be a mapping"),
        (b"42\n", "must be a mapping"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is binary"),
        (b"a: 1\x00", "is binary"),
        (
            b"a: 1\nb: caf\xe9\n",
            r"UTF-8, but line 2 is not \(byte 0xe9\); .*-f WINDOWS-1252 .* a.yaml",
        ),
        ("a: 1\n".encode("utf-16"), "UTF-8, but is UTF-16; convert it: iconv -f UTF-16 -t UTF-8"),
        (b"a: [1\n", "not valid YAML: while parsing a flow sequence at line 1, column 4"),
        (b"a:\n\tb: 1\n", "at line 2, column 1; it is a tab: indent with spaces"),
        (b"a:\n  b: 1\n\tc: 1\n", "at line 3, column 1; it is a tab: indent with spaces"),
        (b"a: @b\n", "column 4; it is @: put a value that begins with it in quotes"),
        (b"a: ${oc.env:HOME}\n", "is not supported"),
        (b"include: 5\n", "include must be a list"),
        (b"include: [missing.yaml]\n", "no such file"),
        (b"include: [a.yaml]\n", "must not be circular"),
    ],
)
def test_a_bad_file_is_a_config_error(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        read_yaml(path)


def test_a_missing_file_and_a_folder_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("override", ["epochs", "=3", "a..b=1", "a=[1"])
def test_a_bad_override_is_a_config_error(tmp_path: Path, override: str) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match="--set"):
        read_yaml(tmp_path / "a.yaml", [override])


def test_a_long_file_is_read_and_aliases_that_grow_are_not(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("points:\n" + "- {a: 1, b: 2, c: 3}\n" * 2_000)
    assert len(read_yaml(path)["points"]) == 2_000
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 6)]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="expansion"):
        read_yaml(path)
