"""What the README shows of the Python API, run as it stands there, with a tiny sweep of own files.

The files are named relative to where the user stands.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rc_core.record import TrialFolder
from tests.e2e._sweeps import call_here, records, write_config

ROOT = Path(__file__).resolve().parents[2]
# The last line of the README's code is for a notebook, which asks it for this.
SHOWN = """
assert sweep._repr_html_().count("<table") >= 1
print("front:", [record.id for record in sweep.front])
"""

TASK = """
task: {name: files, data_dir: data, text: text, label: label, labels: {0: bad, 1: good},
  roles: {train: train.jsonl, ood_dev: {x: ood.jsonl}, ood_test: {y: test.jsonl}}}
"""


def write_data(folder: Path) -> None:
    folder.mkdir()
    for name, size in (("train", 240), ("ood", 60), ("test", 60)):
        rows = [
            {"text": f"{name} says {'yes' if i % 2 else 'no'} {i}", "label": i % 2}
            for i in range(size)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def readme_code() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^## Python\n\n```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(code)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readmes_code_launches_a_sweep_and_exports_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = readme_code()
    config = write_config(tmp_path, trials=9)
    text, count = re.subn(r"^task: .*\n", TASK, config.read_text(), flags=re.MULTILINE)
    assert count == 1
    config.write_text(text)
    write_data(tmp_path / "data")
    for shown, ours in (
        ('"tune_configs/quickstart.yaml"', repr(str(config))),
        ("search.trials=8", "search.trials=3"),
        ("seeds=5", "seeds=2"),
        ("relative <= 0.7", "relative <= 9"),
    ):
        assert code.count(shown) == 1
        code = code.replace(shown, ours)
    script = tmp_path / "api.py"
    script.write_text(code + SHOWN)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True, text=True, timeout=280, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # Nothing of it names a storage or the sweep: these are the defaults.
    found = records(tmp_path / "rc_storage", "tiny-1")
    assert list(found) == ["t0000", "t0001", "t0002"], "the override holds"
    kept = tmp_path / "rc_storage" / "tiny-1"
    assert (kept / "test.json").is_file() and (kept / "latency.json").is_file()
    assert len(records(kept.parent, "tiny-1.confirm")) > 2
    assert {record["status"] for record in found.values()} == {"finished"}
    table, front = done.stdout.rsplit("front:", 1)
    assert re.findall(r"t\d{4}", front) and all(trial in table for trial in found)
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    # From elsewhere the files are found all the same, opened anew.
    (kept / "test.json").unlink()
    for folder in kept.parent.glob("tiny-1*/trials/*"):
        TrialFolder(folder).forget_test()
    tested = call_here(capsys, kept.parent, "test", "tiny-1")
    assert tested.returncode == 0, tested.stderr
    opened = json.loads((kept / "test.json").read_text())["trials"]
    assert opened and all("ood_test/accuracy" in trial["metrics"] for trial in opened.values())
