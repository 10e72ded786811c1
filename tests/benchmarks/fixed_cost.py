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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune

import sweeps
from sweeps.cluster import _RAY_SETTINGS
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


def plain_ray(trials: int, storage: Path, *, reuse: bool) -> tuple[float, float]:
    """Return the seconds that plain Ray Tune takes for empty trials, and its processor seconds."""
    tuner = tune.Tuner(
        tune.with_resources(_Empty, {"cpu": 1}),
        param_space={"x": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=str(storage), verbose=0),
    )
    return _timed(tuner.fit)


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return seconds and processor seconds of this process, Ray's driver."""
    started, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - started, time.process_time() - cpu


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


def our_sweep(trials: int, storage: Path, name: str) -> tuple[float, float]:
    """Return the seconds that our sweep spends in Ray Tune for as many trials; see `plain_ray`."""
    spent: list[tuple[float, float]] = []
    fit = tune.Tuner.fit

    def timed(tuner: tune.Tuner) -> None:
        spent.append(_timed(lambda: fit(tuner)))

    tune.Tuner.fit = timed  # type: ignore[method-assign]
    try:
        sweep = sweeps.launch(our_config(trials), name=name, storage=storage)
    finally:
        tune.Tuner.fit = fit  # type: ignore[method-assign]
    statuses = [record.status for record in sweep.records]
    assert statuses == ["finished"] * (trials + 1), statuses
    return sum(wall for wall, _ in spent), sum(cpu for _, cpu in spent)


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
                for row, part in (("seconds per trial", 0), ("of the driver's processor", 1)):
                    values = {k: each.result[part] / given.trials for k, each in found.items()}
                    figures.add(row, **values)
        finally:
            ray.shutdown()
    tables = [figures.table(other, "ours", "s") for other in ("new", "reused")]
    ours = harness.spread(figures.rows["seconds per trial"]["ours"], 3)
    harness.say(__doc__, f"{given.trials} trials, {SLOTS} at a time; ours {ours} s.", *tables)


if __name__ == "__main__":
    main()
