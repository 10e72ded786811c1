"""What a trial costs besides itself: sleeping trials through our whole path, and through Ray alone.

    python -m tests.benchmarks.scale [--trials 100 1000] [--sampler 2000]

Every trial sleeps for a second and holds 0.125 CPU, on 2 CPUs of Ray's counting, so that 16 run at
once. Three ways, each in a process of its own, one after another in the same run:

- `ray`: Ray Tune with its own random search; nothing else.
- `searcher`: the same behind Ray's interface for searchers, with which Ray lets one trial wait.
- `ours`: `sweeps.launch` with random search: assignments, the study, records on disk, the outbox
  and MLflow's SQLite, the front. Only what a trial and the preparation do is replaced.

Prints one row for each; then what the driver's bookkeeping takes of the processor, without Ray, as
trials come in; then the time of the sampler by itself (TPE).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from ray import tune
from ray.tune.search import Searcher

CPUS, SHARE, SECONDS = 2, 0.125, 1.0
SWEEP: dict[str, Any] = {
    "model": "tiny:bert",
    "compression": {"name": "magnitude", "sparsity": 0.5},
    "space": {
        "compression.name": {"choice": ["magnitude", "student"]},
        "compression.sparsity": {"uniform": [0.1, 0.9], "when": {"compression.name": "magnitude"}},
        "compression.num_layers": {"int": [1, 3], "when": {"compression.name": "student"}},
        "training.learning_rate": {"log_uniform": [1.0e-5, 1.0e-3]},
        "loss.name": {"choice": ["vanilla", "distil"]},
    },
    "resources": {"cpu": SHARE},
    "health_gate": "warn",
}


class Sleeper(tune.Trainable):
    """Sleeps, then reports two numbers."""

    def setup(self, config: dict[str, Any]) -> None:
        self._config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(SECONDS)
        return {"first": 0.5, "second": 0.5, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        pass


class RecordingSleeper(Sleeper):
    """Sleeps between the two commits of a trial of ours."""

    def step(self) -> dict[str, Any]:
        from sweeps.folder import SweepFolder

        trial_id, values = self._config["trial_id"], self._config["config"]
        folder = SweepFolder(self._config["sweep"]).trial(trial_id)
        running = record(trial_id, values, self._config["attempt"])
        folder.commit(running)
        time.sleep(SECONDS)
        rng = Random(trial_id)
        metrics = {f"{role}/accuracy": rng.random() for role in ("id_dev", "ood_dev")}
        folder.commit(running.model_copy(update={"metrics": metrics}).sealed("finished"))
        return {**metrics, "trial": trial_id, "done": True}


class OneByOne(Searcher):
    """A searcher that has nothing to think about."""

    def __init__(self, trials: int) -> None:
        super().__init__(metric=None, mode=None)
        self._left = trials

    def set_search_properties(self, *unused: Any, **others: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if not self._left:
            return Searcher.FINISHED
        self._left -= 1
        return {"x": self._left}

    def on_trial_complete(self, *unused: Any, **others: Any) -> None:
        pass


def record(trial_id: str, values: dict[str, Any], attempt: int, reference: bool = False) -> Any:
    """Return a record as a trial begins with."""
    from rc_core.config import fingerprint
    from rc_core.record import TrialRecord

    return TrialRecord(
        id=trial_id,
        status="running",
        name=f"{values['compression']['name']} {values['loss']['name']}",
        config=values,
        fingerprint=fingerprint(values),
        reference=reference,
        attempt=attempt,
        started=time.time(),
        environment={"versions": {"torch": "none"}, "threads": 1},
    )


def run_plain(trials: int, folder: Path, searcher: bool) -> float:
    """Run Ray Tune alone; return the seconds of its experiment."""
    from sweeps.engine.cluster import connected

    with connected("local"):
        tuner = tune.Tuner(
            tune.with_resources(Sleeper, {"cpu": SHARE}),
            param_space=None if searcher else {"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(
                search_alg=OneByOne(trials) if searcher else None,
                num_samples=-1 if searcher else trials,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
        )
        started = time.monotonic()
        tuner.fit()
        return time.monotonic() - started


def run_ours(trials: int, folder: Path) -> tuple[float, float]:
    """Run a sweep; return the seconds of its search, and of what comes after the last trial."""
    from rich.console import Console

    from sweeps.engine import runner
    from sweeps.views.progress import Progress

    def prepare(sweep: Any, place: Any, attempt: int, *, say: Any) -> Any:
        reference = record("t0000", sweep.reference().as_dict(), attempt, reference=True)
        metrics = {"id_dev/accuracy": 0.5, "ood_dev/accuracy": 0.5}
        done = reference.model_copy(update={"metrics": metrics}).sealed("finished")
        place.trial("t0000").commit(done)
        return done

    spans: list[tuple[float, float]] = []
    search = runner._search

    def timed(*arguments: Any, **others: Any) -> Any:
        started = time.monotonic()
        try:
            return search(*arguments, **others)
        finally:
            spans.append((started, time.monotonic()))

    replaced: Any = runner
    replaced.prepare, replaced.TrialTrainable, replaced._search = prepare, RecordingSleeper, timed
    raw = {**SWEEP, "search": {"name": "random", "trials": trials + 1, "seed": 0}}
    quiet = Progress(Console(file=(folder / "log").open("w")))
    runner.launch(raw, name="scale", storage=folder, progress=quiet)
    ended = time.monotonic()
    records = list((folder / "scale" / "trials").glob("*/record.json"))
    assert len(records) == trials + 1, f"{len(records)} records of {trials + 1}"
    return sum(end - start for start, end in spans), ended - spans[-1][1]


def run_sampler(asks: int, folder: Path) -> dict[int, float]:
    """Ask and tell TPE without Ray; return processor seconds after each tenth of the asks."""
    from sweeps.config import SweepConfig
    from sweeps.search import tpe
    from sweeps.search._base import Outcome

    sweep = SweepConfig({**SWEEP, "search": {"name": "tpe", "trials": asks, "seed": 0}})
    proposals = tpe.proposals(sweep, folder / "study.journal")
    started, found = time.process_time(), {}
    for number in range(1, asks + 1):
        trial_id = f"t{number:04d}"
        proposals.propose(trial_id)
        rng = Random(trial_id)
        values = {f"{role}/accuracy": rng.random() for role in ("id_dev", "ood_dev")}
        proposals.tell(trial_id, Outcome("finished", values, {}, {}))
        if number % (asks // 10) == 0:
            found[number] = round(time.process_time() - started, 2)
    return found


def run_driver(trials: int, folder: Path) -> dict[str, list[float]]:
    """Take trials through the driver's bookkeeping without Ray and without MLflow.

    Returns:
        For each fifth of the trials, processor time of the driver's thread per trial, milliseconds,
        of all that happens for a trial: proposed, announced, closed, told, shown.
    """
    from rich.console import Console

    from sweeps.config import SweepConfig
    from sweeps.engine.assignments import Assignments
    from sweeps.folder import SweepFolder
    from sweeps.search import random, tpe
    from sweeps.tracking import events
    from sweeps.views.progress import Progress

    class NoDrain:
        def __init__(self, *unused: Any) -> None:
            pass

    events.Drain = NoDrain  # type: ignore[assignment, attr-defined]
    found: dict[str, list[float]] = {}
    for module in (random, tpe):
        name = module.__name__.rpartition(".")[2]
        sweep = SweepConfig({**SWEEP, "search": {"name": name, "trials": trials + 1, "seed": 0}})
        place = SweepFolder.create(folder, name, name)
        place.write_config(sweep.as_dict())
        told = events.SweepEvents(sweep, place)
        assignments = Assignments(
            sweep, place, module.proposals(sweep, place.study), 0, on_record=told.trial_ended
        )
        progress = Progress(Console(file=(folder / "log").open("w")))
        progress.start(assignments, sweep)
        found[name], spent = [], 0.0
        for number in range(1, trials + 1):
            clock = time.thread_time()
            assigned = assignments.next()
            assert assigned is not None
            values = assigned.config.as_dict()
            told.trial_assigned(assigned.trial_id, values)
            progress.trial_started(assigned.trial_id, values)
            spent += time.thread_time() - clock
            # What the trial itself does is not the driver's.
            rng = Random(assigned.trial_id)
            metrics = {f"{role}/accuracy": rng.random() for role in ("id_dev", "ood_dev")}
            done = record(assigned.trial_id, values, 0).model_copy(update={"metrics": metrics})
            place.trial(assigned.trial_id).commit(done.sealed("finished"))
            clock = time.thread_time()
            closed = assignments.close(assigned.trial_id)
            assert closed is not None
            progress.trial_ended(closed)
            spent += time.thread_time() - clock
            if number % (trials // 5) == 0:
                found[name].append(round(1000 * spent / (trials // 5), 1))
                spent = 0.0
    return found


def run(way: str, trials: int) -> dict[str, Any]:
    """Run one way in this process; return what was measured."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if way == "sampler":
            return {"seconds": run_sampler(trials, folder)}
        if way == "driver":
            return run_driver(trials, folder)
        after = 0.0
        if way == "ours":
            seconds, after = run_ours(trials, folder)
        else:
            seconds = run_plain(trials, folder, way == "searcher")
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(seconds, 2),
        "after": round(after, 2),
        "driver_cpu": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--ways", nargs="*", default=["ray", "searcher", "ours"])
    parser.add_argument("--sampler", type=int, default=2000)
    parser.add_argument("--driver", type=int, default=1000)
    parser.add_argument("--run", nargs=2, metavar=("WAY", "TRIALS"), help="in this process")
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(options.run[0], int(options.run[1]))))
        return
    print("| trials | way | s | floor s | over floor, ms a trial | against ray | after s | "
          "driver CPU s | driver peak MB |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for trials in options.trials:
        floor = trials * SECONDS * SHARE / CPUS
        base = None
        for way in options.ways:
            found = child(way, trials)
            base = base or found["seconds"]
            each = 1000 * (found["seconds"] - floor) / trials
            print(
                f"| {trials} | {way} | {found['seconds']:.1f} | {floor:.1f} | {each:.0f} | "
                f"{found['seconds'] / base:.3f} | {found['after']:.1f} | {found['driver_cpu']} | "
                f"{found['peak_mb']} |",
                flush=True,
            )
    if options.driver:
        for name, each in child("driver", options.driver).items():
            print(f"driver's bookkeeping, {name}, ms of processor time a trial in each fifth of "
                  f"{options.driver}: {', '.join(map(str, each))}")  # fmt: skip
    if options.sampler:
        seconds = child("sampler", options.sampler)["seconds"]
        print("TPE, asks and tells without Ray, processor seconds in all: "
              + ", ".join(f"{asks}: {total}" for asks, total in seconds.items()))  # fmt: skip


def child(way: str, trials: int) -> Any:
    """Run one way in a process of its own, so that memory is counted from nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.scale", "--run", way, str(trials)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
