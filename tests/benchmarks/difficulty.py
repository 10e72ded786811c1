"""Difficulty for five levels from one gradual run against five runs: cost and agreement.

    python -m tests.benchmarks.difficulty                 MiniLM, generated pairs, five seeds

The same configuration as `difficulty: {mode: both}`; the gradual run and each independent run have
the same number of epochs, so the gradual one is expected to cost a fifth of the training. What
each sub-network says of train and id_dev is evaluated on both sides.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from rc_core.config import TrialConfig
from rc_core.difficulty._base import rank_correlation
from rc_core.difficulty.loss_variance import scores
from rc_core.stages import prune_levels
from rc_core.teacher import teacher
from rc_core.workspace import Workspace
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup

LEVELS = (0.2, 0.35, 0.5, 0.65, 0.85)


def measure(config: TrialConfig, workspace: Workspace, mode: Any) -> tuple[float, torch.Tensor]:
    """Return the processor seconds and the scores of the training pairs."""
    task = workspace.data(config).task
    started = time.process_time()
    parts = []
    for found in prune_levels(config, workspace, LEVELS, mode=mode, epochs=1.0, learning_rate=None):
        parts.append(torch.from_numpy(found.predict(task.train)))
        found.predict(task.id_dev)
    seconds = time.process_time() - started
    return seconds, scores(torch.stack(parts), torch.from_numpy(task.train.labels))


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(
        __doc__, model=setup.MINILM, pairs=240, dev=60, epochs=3.0, threads=1, first_seed=0
    )
    torch.set_num_threads(given.threads)
    figures = harness.Figures(given.append)
    task = setup.generated(train=given.pairs, dev=given.dev)
    for seed in range(given.first_seed, given.first_seed + given.repeats):
        with tempfile.TemporaryDirectory() as name:
            workspace = Workspace(Path(name))
            training = {"epochs": given.epochs, "batch_size": 16, "seed": seed}
            rmc = {"name": "rmc"}
            config = setup.trial(given.model, task, training=training, loss=rmc)
            teacher(config, workspace)
            gradual, independent = (
                measure(config, workspace, mode) for mode in ("gradual", "independent")
            )
            # Another seed of the gradual run says how much of a disagreement is chance.
            changed = {"seed": seed + 1000}
            other = setup.trial(given.model, task, training=training, teacher=changed, loss=rmc)
            again = measure(other, workspace, "gradual")
        figures.add("seconds", independent=independent[0], gradual=gradual[0])
        figures.add(
            "rank correlation",
            both=rank_correlation(gradual[1], independent[1]),
            seeds=rank_correlation(gradual[1], again[1]),
        )
    found = figures.rows["rank correlation"]
    harness.say(
        __doc__,
        f"{given.model}, {given.pairs} generated pairs, teacher of {given.epochs:g} epochs, levels "
        f"{LEVELS} of one epoch each (gradual: one in all).",
        figures.table("independent", "gradual", "processor s", digits=1),
        f"Rank correlation of the difficulty of training pairs: gradual with independent "
        f"{harness.spread(found['both'])}; gradual with gradual of another seed (teacher "
        f"included) {harness.spread(found['seeds'])}.",
    )


if __name__ == "__main__":
    main()
