"""Does loss variance find what is hard for others? Do one gradual run and five runs agree?

    python -m tests.benchmarks.hardness               MiniLM, MNLI, about 20 minutes on two cores

`bert_correct_of_100` says of every pair of MNLI's validation_matched how many of a hundred BERTs,
fine-tuned by others, were right. Our teacher and its pruned levels see a slice of train; their
scores of the validation pairs are compared with the share of BERTs that were wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from rc_core.config import TrialConfig, decode
from rc_core.data._task import Split
from rc_core.difficulty import loss_variance
from rc_core.difficulty._base import error_probability, rank_correlation
from rc_core.estimates import difficulty_artifact, hypothesis_only
from rc_core.evaluation import read_predictions
from rc_core.stages import level_artifact, load_outputs
from rc_core.teacher import teacher
from rc_core.workspace import Workspace
from rc_core.yaml_files import merge
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup

LEVELS = (0.2, 0.35, 0.5, 0.65, 0.85)
# Fewer right answers than this, of a hundred, and a pair counts as hard.
HARD_BELOW = 50


def mnli(folder: Path, *, train: int, dev: int) -> tuple[dict[str, Any], dict[Any, float]]:
    """Write slices below `folder`; return the task section, and pair -> share of BERTs wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    source = setup.data_folder() / "mnli"
    names = ["sentence1", "sentence2", "label"]
    pq.write_table(
        pq.read_table(source / "train.parquet", columns=names).slice(0, train),
        folder / "train.parquet",
    )
    judged = pq.read_table(source / "dev_matched.parquet")
    order = np.random.default_rng(0).permutation(len(judged))
    # A task must have samples out of distribution; nothing is read off these.
    pq.write_table(judged.take(order[dev : dev + 30]).select(names), folder / "other.parquet")
    judged = judged.take(np.sort(order[:dev]))
    pq.write_table(judged.select(names), folder / "dev.parquet")
    texts = zip(*(judged[name].to_pylist() for name in names[:2]), strict=True)
    right = judged["bert_correct_of_100"].to_numpy()
    wrong = dict(zip(texts, 1 - right / 100, strict=True))
    task = {
        "name": "files",
        "data_dir": str(folder),
        "text": names[:2],
        "label": "label",
        "labels": {"0": "entailment", "1": "neutral", "2": "contradiction"},
        "roles": {
            "train": "train.parquet",
            "id_dev": "dev.parquet",
            "ood_dev": {"other": "other.parquet"},
        },
        "allow_overlap": True,
    }
    return task, wrong


def scores_of_dev(config: TrialConfig, workspace: Workspace) -> dict[str, torch.Tensor]:
    """Return what each estimate says of the validation pairs; higher is harder."""
    split = workspace.data(config).task.id_dev
    labels = torch.from_numpy(split.labels)
    gradual = load_outputs(difficulty_artifact(config, workspace)).log_probs["id_dev"]
    alone = [
        load_outputs(level_artifact(config, workspace, level)).log_probs["id_dev"][0]
        for level in LEVELS
    ]
    words = load_outputs(difficulty_artifact(hypothesis_only(config), workspace)).log_probs
    dense = read_predictions(
        teacher(config, workspace).path / "predictions" / f"{split.name}.parquet"
    )
    return {
        "loss variance, one gradual run": loss_variance.scores(gradual, labels),
        "loss variance, five independent runs": loss_variance.scores(torch.stack(alone), labels),
        "1 - p(y) of the teacher": error_probability(torch.from_numpy(dense), labels),
        "mean 1 - p(y) of the gradual levels": torch.stack(
            [error_probability(each, labels) for each in gradual]
        ).mean(0),
        "1 - p(y) of a classifier of the hypothesis": error_probability(words["id_dev"][0], labels),
    }


def outside(split: Split, wrong: Mapping[Any, float]) -> NDArray[np.float64]:
    """Return the share of BERTs that were wrong, (M,), in the split's order."""
    assert split.second is not None
    return np.array([wrong[pair] for pair in zip(split.first, split.second, strict=True)])


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(
        __doc__, model=setup.MINILM, pairs=8000, dev=5000, epochs=2.0, threads=2, first_seed=0
    )
    torch.set_num_threads(given.threads)
    parts = []
    for seed in range(given.first_seed, given.first_seed + given.repeats):
        with tempfile.TemporaryDirectory() as name:
            task, wrong = mnli(Path(name) / "data", train=given.pairs, dev=given.dev)
            base = setup.trial(
                given.model,
                task,
                training={"epochs": given.epochs, "seed": seed, "precision": "auto", "rungs": 1},
                loss={"name": "rmc"},
            )
            config = decode(merge(base.as_dict(), {"difficulty": {"levels": list(LEVELS)}}))
            workspace = Workspace(Path(name) / "artifacts")
            found = scores_of_dev(config, workspace)
            split = workspace.data(config).task.id_dev
            share = outside(split, wrong)
            first, second = list(found.values())[:2]
            facts = read_predictions(
                teacher(config, workspace).path / "predictions" / f"{split.name}.parquet"
            )
            accuracy = float((facts.argmax(axis=1) == split.labels).mean())
        lines = [
            f"Seed {seed}: teacher right on {100 * accuracy:.1f} % of {len(share)} pairs; "
            f"{100 * float((share > 1 - HARD_BELOW / 100).mean()):.1f} % are hard (fewer than "
            f"{HARD_BELOW} of 100 BERTs right). Rank correlation of loss variance, gradual with "
            f"independent: {rank_correlation(first, second):.2f}.",
            "",
            "| score | rank correlation with the share of BERTs wrong | area under the curve |",
            "|---|---|---|",
        ]
        for title, scores in found.items():
            area = roc_auc_score(share > 1 - HARD_BELOW / 100, scores.numpy())
            rank = spearmanr(scores.numpy(), share).statistic
            lines.append(f"| {title} | {rank:.2f} | {area:.2f} |")
        parts.append("\n".join(lines))
        print(parts[-1], flush=True)
    harness.say(__doc__, f"{given.model}, {given.pairs} pairs, {given.epochs:g} epochs.", *parts)


if __name__ == "__main__":
    main()
