"""What a trial costs besides its training: records, tracking and the front on.

    python -m tests.benchmarks.fixed_cost                 40 trials, three ways, a few minutes

Ours: trials of one optimizer step of a tiny encoder, two at a time, with records, checkpoints,
predictions, weights, MLflow and front.json. Plain Ray: trials that import torch and transformers
and do nothing, with new processes for each trial and with reused ones. Seconds are those of
`Tuner.fit` divided by the trials; the rest of a sweep (Ray's start, preparation) is left out.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

import sweeps
from sweeps.runner import _RAY_SETTINGS
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup

SLOTS = 2


class _Empty(tune.Trainable):  # type: ignore[misc]
    """Imports what a trial imports, and ends."""

    def setup(self, config: dict[str, Any]) -> None:
        import torch
        import transformers

        del torch, transformers

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        return {"value": self.config["x"], "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}


def plain_ray(trials: int, storage: Path, *, reuse: bool) -> float:
    """Return the seconds that plain Ray Tune takes for empty trials."""
    tuner = tune.Tuner(
        tune.with_resources(_Empty, {"cpu": 1}),
        param_space={"x": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=str(storage), verbose=0),
    )
    started = time.perf_counter()
    tuner.fit()
    return time.perf_counter() - started


def our_config(trials: int) -> dict[str, Any]:
    """Return a sweep of trials that differ in sparsity and take one optimizer step each."""
    return {
        "model": setup.TINY,
        "task": setup.generated(train=100, dev=60),
        "training": {"epochs": 0.01, "batch_size": 16, "precision": "fp32", "rungs": 1},
        "compression": {"name": "magnitude", "sparsity": 0.5},
        "space": {"compression.sparsity": {"uniform": [0.1, 0.9]}},
        "search": {"name": "random", "trials": trials + 1, "seed": 0},
        "health_gate": "warn",
        "resources": {"cpu": 1, "gpu": 0},
    }


def our_sweep(trials: int, storage: Path, name: str) -> float:
    """Return the seconds that our sweep spends in Ray Tune for as many trials."""
    spent: list[float] = []
    fit = tune.Tuner.fit

    def timed(tuner: tune.Tuner) -> Any:
        started = time.perf_counter()
        try:
            return fit(tuner)
        finally:
            spent.append(time.perf_counter() - started)

    tune.Tuner.fit = timed  # type: ignore[method-assign]
    try:
        sweep = sweeps.launch(our_config(trials), name=name, storage=storage)
    finally:
        tune.Tuner.fit = fit  # type: ignore[method-assign]
    statuses = [record.status for record in sweep.records]
    assert statuses == ["finished"] * (trials + 1), statuses
    return sum(spent)


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(__doc__, trials=40, fresh=True)
    os.environ.update(_RAY_SETTINGS)
    figures = harness.Figures(given.append)
    with tempfile.TemporaryDirectory() as name:
        storage = Path(name)
        ray.init(
            address="local",
            num_cpus=SLOTS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
        )
        try:
            sides = {
                "ours": lambda i: our_sweep(given.trials, storage / "ours", f"s-{i}"),
                "reused": lambda i: plain_ray(given.trials, storage / f"r-{i}", reuse=True),
            }
            if given.fresh:
                sides["new"] = lambda i: plain_ray(given.trials, storage / f"n-{i}", reuse=False)
            for found in harness.alternate(sides, given.repeats):
                seconds = {name: each.result / given.trials for name, each in found.items()}
                figures.add("seconds per trial", **seconds)
        finally:
            ray.shutdown()
    tables = [figures.table(other, "ours", "s") for other in ("new", "reused")]
    ours = harness.spread(figures.rows["seconds per trial"]["ours"], 3)
    harness.say(__doc__, f"{given.trials} trials, {SLOTS} at a time; ours {ours} s.", *tables)


if __name__ == "__main__":
    main()
