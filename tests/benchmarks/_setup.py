"""What the benchmarks train on: a slice of FEVER in files, generated pairs, tiny words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rc_core.config import TrialConfig, decode
from rc_core.yaml_files import merge
from tests.benchmarks._harness import ROOT

MINILM = "packaged:all-MiniLM-L6-v2"
TINY = "tiny:bert"


def data_folder() -> Path:
    """Return the folder of the public data sets: RC_TEST_DATA, else ../shared/data."""
    given = os.environ.get("RC_TEST_DATA")
    folder = Path(given).expanduser() if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        raise SystemExit(f"{folder} must hold the public data sets; name it in RC_TEST_DATA")
    return folder.resolve()


def fever(folder: Path, *, train: int, dev: int) -> dict[str, Any]:
    """Write a slice of FEVER below `folder` and return the task section that reads it.

    Args:
        folder: made if need be.
        train: pairs to train on; of all three labels, mean length about 57 tokens.
        dev: pairs of id_dev, and of ood_dev.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "train": ("fever/train.parquet", 0, train),
        "id_dev": ("fever/dev.parquet", 0, dev),
        "id_test": ("fever/dev.parquet", dev, 32),
        "ood_dev": ("fever/symmetric_v02_dev.parquet", 0, dev),
    }
    for role, (name, start, count) in parts.items():
        table = pq.read_table(data_folder() / name, columns=["sentence1", "sentence2", "label"])
        pq.write_table(table.slice(start, count), folder / f"{role}.parquet")
    labels = {"0": "SUPPORTS", "1": "NOT ENOUGH INFO", "2": "REFUTES"}
    return {
        "name": "files",
        "data_dir": str(folder),
        "text": ["sentence1", "sentence2"],
        "label": "label",
        "labels": labels,
        "roles": {
            "train": "train.parquet",
            "id_dev": "id_dev.parquet",
            "id_test": "id_test.parquet",
            "ood_dev": {"symmetric": "ood_dev.parquet"},
        },
        "allow_overlap": True,
    }


def generated(*, train: int, dev: int, seed: int = 0) -> dict[str, Any]:
    """Return a task section of generated pairs, mean length about 25 tokens."""
    sizes = {"train_size": train, "dev_size": dev, "test_size": 60}
    return {"name": "shortcut_nli", "seed": seed, **sizes}


def trial(model: str, task: dict[str, Any], **sections: Any) -> TrialConfig:
    """Return a trial's configuration: one epoch in batches of 32, fp32 unless sections say else."""
    base: dict[str, Any] = {
        "model": model,
        "task": task,
        "training": {"epochs": 1.0, "batch_size": 32, "precision": "fp32", "rungs": 2},
    }
    return decode(merge(base, sections))
