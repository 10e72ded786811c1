"""What a trial costs besides its training: records, tracking and the front on.

    python -m tests.benchmarks.fixed_cost                 40 trials, three ways, a few minutes

Ours: trials of one optimizer step of a tiny encoder, two at a time, with records, checkpoints,
predictions, weights, MLflow and front.json. Plain Ray: trials that import torch and transformers
and do nothing, with new processes for each trial and with reused ones. Seconds are those of
`Tuner.fit` divided by the trials; the rest of a sweep (Ray's start, preparation) is left out.
The start of the first processes is in there, so few trials look dear: what one more trial costs is
the time between the ends of trials, from the third on. Our trials do train and evaluate a little;
by their records that is told apart.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import ray
from ray import tune

import sweeps
from sweeps.engine.cluster import _RAY_SETTINGS
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup

SLOTS = 2


@dataclass(frozen=True)
class Spent:
    """What `Tuner.fit` took: seconds, the driver's processor seconds, seconds between ends.

    `busy` is what one trial trained and evaluated, by its record, shared out to the slots.
    """

    seconds: float
    cpu: float
    between: float
    busy: float = 0.0


class _Ends(tune.Callback):
    """Notes when trials end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.times.append(time.time())


class _Empty(tune.Trainable):
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


def plain_ray(trials: int, storage: Path, *, reuse: bool) -> Spent:
    """Return what plain Ray Tune takes for empty trials."""
    ends = _Ends()
    tuner = tune.Tuner(
        tune.with_resources(_Empty, {"cpu": 1}),
        param_space={"x": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=str(storage), verbose=0, callbacks=[ends]),
    )
    seconds, cpu = _timed(tuner.fit)
    return Spent(seconds, cpu, _between(ends.times))


def _between(ends: Sequence[float]) -> float:
    """Return the mean seconds between ends; the first two wait for their processes to start."""
    ordered = sorted(ends)
    return (ordered[-1] - ordered[1]) / (len(ordered) - 2)


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


def our_sweep(trials: int, storage: Path, name: str) -> Spent:
    """Return what our sweep spends in Ray Tune for as many trials."""
    spent: list[tuple[float, float]] = []
    fit = tune.Tuner.fit

    def timed(tuner: tune.Tuner) -> Any:
        spent.append(_timed(lambda: fit(tuner)))

    tune.Tuner.fit = timed  # type: ignore[assignment, method-assign]
    try:
        sweep = sweeps.launch(our_config(trials), name=name, storage=storage)
    finally:
        tune.Tuner.fit = fit  # type: ignore[method-assign]
    statuses = [record.status for record in sweep.records]
    assert statuses == ["finished"] * (trials + 1), statuses
    trials_only = [record for record in sweep.records if not record.reference]
    ends = [record.finished or 0.0 for record in trials_only]
    # Medians: the first of each process pays for what torch does once.
    busy = median(r.seconds["train"] + r.seconds["evaluate"] for r in trials_only) / SLOTS
    seconds, cpu = (sum(each) for each in zip(*spent, strict=True))
    return Spent(seconds, cpu, _between(ends), busy)


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
            logging_level=logging.ERROR,
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
                spent = {side: each.result for side, each in found.items()}
                each_of = {side: value.seconds / given.trials for side, value in spent.items()}
                figures.add("seconds per trial", **each_of)
                driver = {side: value.cpu / given.trials for side, value in spent.items()}
                figures.add("of the driver's processor", **driver)
                figures.add("one more trial", **{k: v.between for k, v in spent.items()})
                figures.add(
                    "one more, but for training and evaluation",
                    **{k: v.between - v.busy for k, v in spent.items()},
                )
        finally:
            ray.shutdown()
    tables = [figures.table(other, "ours", "s") for other in ("new", "reused")]
    harness.say(
        __doc__,
        f"{given.trials} trials, {SLOTS} at a time. Ours, "
        + "; ".join(
            f"{row}: {harness.spread(figures.rows[row]['ours'], 3)} s"
            for row in figures.rows
            if row.startswith("one more")
        ),
        *tables,
    )


if __name__ == "__main__":
    main()
