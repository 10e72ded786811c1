"""The hub form of a task, through the real `datasets` library, against a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rc_core.data._hub_server import DATASET, REVISION, serving

SCRIPT = """
import json, sys
from datasets import ClassLabel, Dataset
from rc_core.data import mnli
from rc_core.errors import DataError
from rc_core.schema import validate_section

for given in json.loads(sys.argv[1]):
    try:
        task = mnli.load(validate_section(mnli.Config, {"name": "mnli", **given}))
        sizes = {s.name: len(s) for s in task.splits}
        print(json.dumps({"sizes": sizes, "labels": task.train.labels[:3].tolist()}))
    except DataError as error:
        print(json.dumps({"error": str(error)}))
"""

BUILD = """
import sys
from datasets import ClassLabel, Dataset
root = sys.argv[1]
nli = ClassLabel(names=["entailment", "neutral", "contradiction"])
hans = ClassLabel(names=["entailment", "non-entailment"])
wrong = ClassLabel(names=["contradiction", "neutral", "entailment"])
def write(name, rows, label):
    data = Dataset.from_list(rows).cast_column("label", label)
    data.to_parquet(f"{root}/{name}/train-00000-of-00001.parquet")
pairs = [
    {"premise": f"the {i} ran", "hypothesis": f"{i} ran {j}", "label": (i + j) % 3}
    for i in range(40) for j in range(3)
]
write("mnli", pairs, nli)
write("wrong", pairs, wrong)
for part in ("dev", "test"):
    write(f"hans_{part}", [
        {"premise": f"{part} {h} {s} {i}", "hypothesis": f"{s}", "label": s % 2,
         "heuristic": h, "subcase": f"{h}{s}"}
        for h in "abc" for s in range(10) for i in range(4)
    ], hans)
"""

CONFIGS = "\n".join(
    f"- config_name: {name}\n  data_files: [{{split: train, path: {name}/*.parquet}}]"
    for name in ("mnli", "wrong", "hans_dev", "hans_test")
)


def part(subset: str, **changes: Any) -> dict[str, Any]:
    base = {"hub": DATASET, "subset": subset, "split": "train", "revision": REVISION}
    return base | {"hub_text": ["premise", "hypothesis"]} | changes


GOOD: dict[str, Any] = {
    "train": part("mnli"),
    "id_test": part("mnli", hub_text=["hypothesis", "premise"]),
    "ood_dev": part("hans_dev"),
    "ood_test": part("hans_test"),
}
CASES: list[tuple[dict[str, Any], str | None]] = [
    (GOOD, None),
    (GOOD | {"train": part("mnli", revision="b" * 40)}, "check the id, the revision"),
    (GOOD | {"train": part("mnli", hub="own/other")}, "check the id, the revision"),
    (GOOD | {"train": part("mnli", split="validation")}, "split 'validation'"),
    (GOOD | {"train": part("mnli", hub_label="gold")}, "must have the columns ['gold']"),
    (GOOD | {"train": part("wrong")}, "its labels mean"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what one process says of every case; importing `datasets` is what takes long."""
    root = tmp_path_factory.mktemp("hub")
    home = tmp_path_factory.mktemp("home")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
    env |= {"HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"PYTHONPATH": str(Path(__file__).parents[3]), "HF_HUB_DOWNLOAD_TIMEOUT": "5"}
    for name in ("mnli", "wrong", "hans_dev", "hans_test"):
        (root / name).mkdir()
    subprocess.run([sys.executable, "-c", BUILD, str(root)], env=env, check=True, timeout=120)
    (root / "README.md").write_text(f"---\nconfigs:\n{CONFIGS}\n---\n# nli\n")
    with serving(root) as endpoint:
        cases = json.dumps([given for given, _ in CASES])
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, cases],
            env=env | {"HF_ENDPOINT": endpoint},
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_task_loads_from_a_pinned_revision(answers: list[dict[str, Any]]) -> None:
    sizes = answers[0]["sizes"]
    assert sizes["train.mnli"] + sizes["id_dev.mnli"] == 120
    assert sizes["ood_test.hans"] == 120 and sizes["ood_dev.hans"] == 60


@pytest.mark.parametrize("case", range(1, len(CASES)))
def test_what_is_wrong_at_the_hub_is_said(answers: list[dict[str, Any]], case: int) -> None:
    expected = CASES[case][1]
    assert expected is not None and expected in answers[case]["error"]
