"""A sweep of 12 rmc configurations against what a user would otherwise write.

    python -m tests.benchmarks.sweep                      MiniLM on generated pairs
    python -m tests.benchmarks.sweep --no-a               without (a), which takes most of the time

(a) plain Ray Tune with a Trainer-based trainable in which every trial makes its own teacher and its
own difficulty; (b) a careful user who makes both once, with Trainer, and hands them to Ray Tune.
Both reuse their actors' processes, prune and train exactly what ours does (difficulty from one
gradual run, although the paper trains five), tokenise once per process, and save weights. Seconds
run from the user's call to the last result, Ray's start included.
"""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

import sweeps
from rc_core.config import TrialConfig, decode
from rc_core.difficulty._base import degrees
from rc_core.difficulty.loss_variance import scores
from rc_core.losses._degrees import smooth_log_probs
from rc_core.losses.rmc import Loss
from rc_core.models import load_encoder
from rc_core.workspace import TaskData, Workspace
from sweeps.engine.cluster import _RAY_SETTINGS
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup
from tests.benchmarks import _trainer as rival

SLOTS = 2
LEVELS = (0.2, 0.35, 0.5, 0.65, 0.85)
SPARSITY, ALPHA, LAMBDA = (0.4, 0.6), (0.2, 0.3, 0.5), (0.5, 0.9)
Prepared = tuple[torch.Tensor, torch.Tensor]


def base(
    model: str, pairs: int, dev: int, epochs: float = 1.0, precision: str = "fp32"
) -> dict[str, Any]:
    """Return what every trial of the sweep shares."""
    return {
        "model": model,
        "task": setup.generated(train=pairs, dev=dev),
        "training": {"epochs": epochs, "batch_size": 16, "precision": precision, "rungs": 2},
        "compression": {"name": "magnitude", "sparsity": 0.5},
        "loss": {"name": "rmc"},
        "difficulty": {"name": "loss_variance", "levels": list(LEVELS), "epochs": 1.0},
    }


def points() -> list[dict[str, Any]]:
    """Return the 12 configurations."""
    keys = ("compression.sparsity", "loss.alpha", "loss.lambda")
    return [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(SPARSITY, ALPHA, LAMBDA)
    ]


def trial_config(shared: dict[str, Any], point: dict[str, Any]) -> TrialConfig:
    """Return one trial's configuration."""
    compression = {**shared["compression"], "sparsity": point["compression.sparsity"]}
    loss = {"name": "rmc", "alpha": point["loss.alpha"], "lambda": point["loss.lambda"]}
    return decode(shared | {"compression": compression, "loss": loss})


def ours(shared: dict[str, Any], storage: Path, name: str) -> tuple[float, float]:
    """Return the sweep's seconds, and the share of slots x time of the trials spent computing."""
    values = shared | {
        "space": {
            "compression.sparsity": {"choice": list(SPARSITY)},
            "loss.alpha": {"choice": list(ALPHA)},
            "loss.lambda": {"choice": list(LAMBDA)},
        },
        # The first point is tried by itself with the vanilla loss: left out of the rivals' time.
        "search": {"name": "grid", "trials": 14, "seed": 0},
        "resources": {"cpu": 1, "gpu": 0},
        "health_gate": "warn",
    }
    started = time.perf_counter()
    sweep = sweeps.launch(values, name=name, storage=storage)
    seconds = time.perf_counter() - started
    trials = [record for record in sweep.records if not record.reference]
    assert len([r for r in trials if r.config["loss"]["name"] == "rmc"]) == 12, "12 rmc trials"
    busy = sum(r.seconds["train"] + r.seconds["evaluate"] for r in trials)
    ended = max(record.finished or 0.0 for record in trials)
    span = ended - min(record.started for record in trials)
    return seconds, busy / (SLOTS * span)


def make_teacher(config: TrialConfig, data: TaskData, folder: Path) -> Prepared:
    """Train the teacher and prune it through the levels; return its outputs and the scores."""
    reference = config.reference()
    names = data.task.label_names
    model = load_encoder(config.model, label_names=names, seed=reference.training.seed)
    train = rival.samples(data, data.task.train)
    trainer = rival.make_trainer(model, data, reference.training, train, folder)
    trainer.train()
    outputs = torch.from_numpy(rival.log_probs(trainer, train))
    training = reference.training.model_copy(update={"epochs": 1.0})
    found = rival.prune_through(model, data, training, LEVELS, train, folder)
    levels = torch.stack([torch.from_numpy(each) for each in found])
    return outputs, scores(levels, torch.from_numpy(data.task.train.labels))


def one_trial(config: TrialConfig, data: TaskData, prepared: Prepared, folder: Path) -> float:
    """Train one rmc trial with Trainer; return its OOD accuracy."""
    loss: Any = config.loss
    outputs, difficulty = prepared
    soft = smooth_log_probs(outputs, degrees(difficulty, loss.alpha))
    result = rival.run(config, data, folder, loss=Loss(loss), rows={"soft_targets": soft})
    return result.accuracy["ood_dev"]


_DATA: dict[str, TaskData] = {}


def _data(config: TrialConfig, folder: str) -> TaskData:
    if folder not in _DATA:
        _DATA[folder] = Workspace(folder).data(config)
    return _DATA[folder]


class Rival(tune.Trainable):
    """A trial as a user writes it; `prepared` None makes teacher and difficulty by itself."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        config = trial_config(self.config["shared"], self.config["point"])
        data = _data(config, self.config["folder"])
        reference = self.config["prepared"]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepared = ray.get(reference[0]) if reference else make_teacher(config, data, folder)
            return {"ood": one_trial(config, data, prepared, folder), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}


def plain(shared: dict[str, Any], folder: Path, *, once: bool) -> float:
    """Return the seconds of the rivals' sweep: (b) if `once`, else (a)."""
    started = time.perf_counter()
    _start_ray()
    try:
        prepared: list[Any] = []
        if once:
            torch.set_num_threads(SLOTS)
            config = trial_config(shared, points()[0])
            data = _data(config, str(folder))
            prepared = [ray.put(make_teacher(config, data, folder / "teacher"))]
        tuner = tune.Tuner(
            tune.with_resources(Rival, {"cpu": 1}),
            param_space={
                "shared": shared,
                "folder": str(folder),
                "prepared": prepared,
                "point": tune.grid_search(points()),
            },
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
        )
        results = tuner.fit()
        assert not results.errors and len(results) == 12, results.errors
    finally:
        ray.shutdown()
        _DATA.clear()
    return time.perf_counter() - started


def _start_ray() -> None:
    ray.init(
        address="local",
        num_cpus=SLOTS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(
        __doc__, model=setup.MINILM, pairs=100, dev=60, epochs=1.0, precision="fp32", a=True
    )
    os.environ.update(_RAY_SETTINGS)
    figures = harness.Figures(given.append)
    shared = base(given.model, given.pairs, given.dev, given.epochs, given.precision)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides = {
            "ours": lambda i: ours(shared, folder / f"ours-{i}", f"s-{i}"),
            "(a)": lambda i: plain(shared, folder / f"a-{i}", once=False),
            "(b)": lambda i: plain(shared, folder / f"b-{i}", once=True),
        }
        if not given.a:
            del sides["(a)"]
        for found in harness.alternate(sides, given.repeats):
            seconds, busy = found["ours"].result
            rest = {side: each.result for side, each in found.items() if side != "ours"}
            figures.add("sweep", ours=seconds, **rest)
            figures.add("busy", share=100 * busy)
    harness.say(
        __doc__,
        f"{given.model}, {given.pairs} generated pairs, {given.epochs:g} epochs in batches of 16, "
        f"{given.precision}, two trials of one thread at a time. Ours runs the 12, and a 13th "
        "trial (vanilla).",
        figures.table("(a)", "ours", "s", digits=1) if given.a else "(a) was left out.",
        figures.table("(b)", "ours", "s", digits=1),
        f"Training and evaluation, share of slots x time of our trials: "
        f"{harness.spread(figures.rows['busy']['share'], 0)} %.",
    )


if __name__ == "__main__":
    main()
