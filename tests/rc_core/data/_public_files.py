"""Small files in the shape of MNLI, HANS, FEVER, its symmetric sets, QQP and PAWS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write(path: Path, rows: list[dict[str, Any]], names: dict[int, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if names:
        table = table.replace_schema_metadata({"label_names": json.dumps(names)})
    pq.write_table(table, path)


def pairs(tag: str, size: int, labels: int) -> list[dict[str, Any]]:
    return [
        {"sentence1": f"{tag} text {i}", "sentence2": f"claim {tag} {i}", "label": i % labels}
        for i in range(size)
    ]


def hans(tag: str) -> list[dict[str, Any]]:
    return [
        {"sentence1": f"{tag} {h} {s} {i}", "sentence2": f"{s} {i}", "label": s % 2,
         "heuristic": h, "subcase": f"{h}{s}"}
        for h in ("lexical", "subsequence", "constituent") for s in range(10) for i in range(6)
    ]  # fmt: skip


def write_public(folder: Path) -> Path:
    """Write every part that the public tasks read below `folder`, and return it."""
    nli = {0: "entailment", 1: "neutral", 2: "contradiction"}
    write(folder / "mnli/train.parquet", pairs("train", 300, 3), nli)
    write(folder / "mnli/dev_matched.parquet", pairs("dev", 60, 3))
    write(folder / "hans/train.parquet", hans("a"), {0: "entailment", 1: "non-entailment"})
    write(folder / "hans/eval.parquet", hans("b"))
    write(folder / "fever/train.parquet", pairs("ftrain", 300, 3))
    write(folder / "fever/dev.parquet", pairs("fdev", 60, 3))
    symmetric = [row | {"label": 2 * (i % 2)} for i, row in enumerate(pairs("sym", 40, 2))]
    write(folder / "fever/symmetric_v02_dev.parquet", symmetric[:20])
    write(folder / "fever/symmetric_v01_generated.parquet", symmetric[10:])
    write(folder / "qqp/train.parquet", pairs("qtrain", 200, 2))
    write(folder / "qqp/dev.parquet", pairs("qdev", 40, 2))
    paws = {0: "not_paraphrase", 1: "paraphrase"}
    write(folder / "paws_wiki/dev.parquet", pairs("wdev", 40, 2), paws)
    write(folder / "paws_wiki/test.parquet", pairs("wtest", 40, 2), paws)
    return folder
