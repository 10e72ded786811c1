"""One trial against transformers.Trainer at its sensible best.

    python -m tests.benchmarks.trial                      MiniLM on FEVER pairs, a few minutes
    python -m tests.benchmarks.trial --model tiny:bert --pairs 64 --dev 32 --repeats 2

Both sides start from the encoder's files and end with saved weights and an evaluation; texts are
tokenised before, on both sides. Ours writes its record, checkpoint and predictions as well.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from rc_core.assembly import fit_compressed, prepare_loss
from rc_core.config import TrialConfig
from rc_core.data._encoding import length_bucketed_batches
from rc_core.data._task import Role
from rc_core.losses._base import ModelLoss
from rc_core.record import TrialFolder
from rc_core.training import FitPoint
from rc_core.trial import run_trial
from rc_core.workspace import Workspace
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup
from tests.benchmarks import _trainer as rival

# What is compared: a name, and the sections of the trial's configuration.
CASES: dict[str, dict[str, Any]] = {
    "magnitude 50 %, vanilla": {"compression": {"name": "magnitude", "sparsity": 0.5}},
    "magnitude 50 %, distil": {
        "compression": {"name": "magnitude", "sparsity": 0.5},
        "loss": {"name": "distil"},
    },
    "student of 3 layers, distil": {
        "compression": {"name": "student", "num_layers": 3},
        "loss": {"name": "distil"},
    },
}


def ours(config: TrialConfig, workspace: Workspace, folder: Path) -> rival.Result:
    """Run a trial as a sweep's worker does."""
    cpu = 0.0

    def timed(*args: Any, **rest: Any) -> Iterator[FitPoint]:
        nonlocal cpu
        points = fit_compressed(*args, **rest)
        while True:
            started = time.process_time()
            point = next(points, None)
            cpu += time.process_time() - started
            if point is None:
                return
            yield point

    with mock.patch("rc_core.trial_run.fit_compressed", timed):
        record = run_trial(config, workspace, TrialFolder(folder), trial_id="t0001")
    roles: tuple[Role, ...] = ("id_dev", "ood_dev")
    accuracy: dict[Role, float] = {role: record.metrics[f"{role}/accuracy"] for role in roles}
    return rival.Result(cpu, record.seconds["train"], record.seconds["total"], accuracy)


def theirs(config: TrialConfig, workspace: Workspace, folder: Path) -> rival.Result:
    """Run the same trial with Trainer; the teacher's outputs are at hand, as for ours."""
    data = workspace.data(config)
    prepared = prepare_loss(config, workspace)
    loss = prepared.loss
    assert not isinstance(loss, ModelLoss), "Trainer is given losses on logits only"
    function = None if config.loss.name == "vanilla" else loss
    return rival.run(config, data, folder, loss=function, rows=dict(prepared.rows))


def measure(
    case: str,
    task: dict[str, Any],
    model: str,
    folder: Path,
    figures: harness.Figures,
    *,
    repeats: int,
    training: dict[str, Any],
) -> None:
    """Measure one case; the seed is the number of the repetition, on both sides."""
    workspace = Workspace(folder / "artifacts")

    def config(seed: int) -> TrialConfig:
        sections = {"training": training | {"seed": seed}, "teacher": {"seed": 0}}
        return setup.trial(model, task, **CASES[case], **sections)

    def side(function: Any, name: str) -> Any:
        return lambda seed: function(config(seed), workspace, folder / f"{case}-{name}-{seed}")

    # Preparation that both sides have behind them: tokens, the teacher and its outputs.
    side(ours, "warm")(10_000)
    sides = {"Trainer": side(theirs, "trainer"), "ours": side(ours, "ours")}
    for found in harness.alternate(sides, repeats):
        parts = {
            "whole trial": {name: each.result.seconds for name, each in found.items()},
            "whole trial, processor": {name: each.cpu for name, each in found.items()},
            "training steps, processor": {k: each.result.train_cpu for k, each in found.items()},
            "training steps": {k: each.result.train_seconds for k, each in found.items()},
        }
        for part, values in parts.items():
            figures.add(f"{case}: {part}", **values)
        for role in ("id_dev", "ood_dev"):
            values = {name: 100 * each.result.accuracy[role] for name, each in found.items()}
            figures.add(f"accuracy {role}: {case}", **{f"{k} %": v for k, v in values.items()})


def padding(task: dict[str, Any], model: str, folder: Path, batch_size: int) -> dict[str, float]:
    """Return which share of what each side computes in an epoch is padding: mean of five orders."""
    config = setup.trial(model, task, training={"batch_size": batch_size})
    data = Workspace(folder / "artifacts").data(config)
    lengths = data.encoded(data.task.train).lengths
    shares: dict[str, list[float]] = {"Trainer": [], "ours": []}
    for seed in range(5):
        order = get_length_grouped_indices(
            lengths.tolist(), batch_size, generator=torch.Generator().manual_seed(seed)
        )
        theirs = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        own = length_bucketed_batches(lengths, batch_size, np.random.default_rng([seed, 0]))
        for name, found in (("Trainer", theirs), ("ours", own)):
            computed = sum(len(rows) * int(lengths[rows].max()) for rows in found)
            shares[name].append(1 - int(lengths.sum()) / computed)
    return {name: statistics.fmean(found) for name, found in shares.items()}


def per_token(figures: harness.Figures, shares: dict[str, float]) -> str:
    """Return the ratio of training steps as if both sides had no padding.

    Trainer groups a small training set over few batches: its share of padding is a matter of the
    set's size, and comes close to ours with some thousand samples.
    """
    lines = [
        f"Padding among the tokens computed: Trainer {100 * shares['Trainer']:.1f} %, ours "
        f"{100 * shares['ours']:.1f} %. Training steps without it:",
        "",
    ]
    scale = (1 - shares["Trainer"]) / (1 - shares["ours"])
    for row in figures.rows:
        if row.endswith(("training steps, processor", "training steps")):
            ratios = [scale * ratio for ratio in figures.ratios(row, "Trainer", "ours")]
            lines.append(f"- {row}: Trainer / ours {harness.spread(ratios)}")
    return "\n".join(lines)


def accuracy_table(figures: harness.Figures) -> str:
    """Return the mean accuracies and the mean difference with its standard error."""
    lines = [
        "| accuracy, % | Trainer | ours | ours - Trainer (standard error) |",
        "|---|---|---|---|",
    ]
    for row, sides in figures.rows.items():
        if "ours %" in sides:
            pairs = list(zip(sides["ours %"], sides["Trainer %"], strict=True))
            gaps = [a - b for a, b in pairs]
            error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
            means = [statistics.fmean(sides[name]) for name in ("Trainer %", "ours %")]
            lines.append(
                f"| {row.removeprefix('accuracy ')} | {means[0]:.1f} | {means[1]:.1f} "
                f"| {statistics.fmean(gaps):+.1f} ({error:.1f}) |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(
        __doc__,
        model=setup.MINILM,
        pairs=256,
        dev=96,
        threads=1,
        epochs=1.0,
        batch_size=32,
        precision="fp32",
        cases="all",
        generated=False,
    )
    torch.set_num_threads(given.threads)
    figures = harness.Figures(given.append)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.generated:
            task = setup.generated(train=given.pairs, dev=given.dev)
        else:
            task = setup.fever(folder / "data", train=given.pairs, dev=given.dev)
        training: dict[str, Any] = {"epochs": given.epochs, "precision": given.precision}
        training["batch_size"] = given.batch_size
        shares = padding(task, given.model, folder, given.batch_size)
        for case in CASES:
            if given.cases in ("all", case):
                measure(
                    case,
                    task,
                    given.model,
                    folder,
                    figures,
                    repeats=given.repeats,
                    training=training,
                )
    harness.say(
        __doc__,
        f"{given.model}, {given.pairs} pairs, {given.epochs:g} epochs, {given.precision}, "
        f"{given.threads} threads, batches of {given.batch_size}.",
        figures.table("Trainer", "ours", "s"),
        per_token(figures, shares),
        accuracy_table(figures),
    )


if __name__ == "__main__":
    main()
