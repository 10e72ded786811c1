"""What is committed is plain text in order, and holds nothing of one person's machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 2_000_000
BINARY = {".png", ".jpg", ".gif", ".ico", ".parquet", ".pdf", ".safetensors", ".gz", ".zip"}
LICENCE = "LICENSE"

# Written in pieces, so that this file does not find itself.
UNWANTED = {
    "a path of one machine": r"/(?:ho" + r"me|Use" + r"rs|ro" + r"ot|wo" + r"rk|op" + r"t)/\w",
    "a Windows path": r"\b[A-Za-z]:" + r"\\Users\\",
    "a package index": r"--(?:extra-)?ind" + r"ex-url|--find-l" + r"inks|--trusted-h" + r"ost",
    "a private address": r"\b(?:192\.1" + r"68|10\.\d{1,3}|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIV" + r"ATE KEY",
    "a token": r"\b(?:hf_[A-Za-z0-9]{30,}|ghp_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16}|sk-\w{30,})\b",
}
CONFLICT = re.compile(r"^(?:<{7}|>{7}|={7})(?: |$)", re.MULTILINE)


def committed() -> list[Path]:
    """Return what git would commit: tracked files and new ones that it does not ignore."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> dict[str, str]:
    """Return the text of every committed file that is not binary, by its path."""
    return {
        str(path.relative_to(ROOT)): path.read_bytes().decode("utf-8")
        for path in committed()
        if path.suffix not in BINARY
    }


def problems(name: str, text: str) -> list[str]:
    """Return what is wrong with one text file."""
    found = [
        f"{name}:{number}: {what}"
        for what, pattern in UNWANTED.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(pattern, line)
    ]
    if "\r" in text:
        found.append(f"{name}: lines must end in LF")
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        found.append(f"{name}: must end in one newline")
    found += [
        f"{name}:{number}: ends in white space"
        for number, line in enumerate(text.split("\n"), start=1)
        if line != line.rstrip()
    ]
    if CONFLICT.search(text):
        found.append(f"{name}: holds a merge conflict")
    if name.endswith(".py") and not text.isascii():
        found.append(f"{name}: must be ASCII; write other characters as escapes")
    return found


def test_files_are_in_order() -> None:
    found = [
        line for name, text in texts().items() if name != LICENCE for line in problems(name, text)
    ]
    assert not found, "\n".join(found)


def test_files_are_small() -> None:
    found = [path.name for path in committed() if path.stat().st_size > MAX_BYTES]
    assert found == [], f"larger than {MAX_BYTES / 1e6:g} MB"


def test_no_result_or_cache_is_committed() -> None:
    unwanted = {"__pycache__", "rc_storage", "mlruns", ".venv", "build", "dist", "node_modules"}
    found = [p for p in committed() if unwanted & set(p.relative_to(ROOT).parts)]
    assert found == []


def test_the_licence_is_apache() -> None:
    text = (ROOT / LICENCE).read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fine\n", 0),
        ("", 0),
        ("no newline", 1),
        ("two newlines\n\n", 1),
        ("trailing \n", 1),
        ("windows\r\n", 2),
        ("caf\u00e9\n", 1),
        ("<" * 7 + " ours\n", 1),
        ("path = '/" + "home/someone/data'\n", 1),
        ("path = '/" + "root/data'\n", 1),
        ("a ratio of work/hour and /home\n", 0),
        ("pip install --ind" + "ex-url x\n", 1),
        ("server 192.1" + "68.0.7\n", 1),
        ("bind to 127.0.0.1, version 10.2.1\n", 0),
    ],
)
def test_the_check_itself(text: str, expected: int) -> None:
    assert len(problems("a.py", text)) == expected
