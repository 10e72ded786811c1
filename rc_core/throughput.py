"""How many samples per second several concurrent training runs achieve on this machine.

    python -m rc_core.throughput        (a worker: one JSON object per line in, one out)

Each worker is a separate process, as a trial is, and trains the dense reference on the sweep's own
batches. The first one runs alone and reports its peak memory and the time of a step. Then as many
as a candidate asks for run at the same time. The measurements are stored, once per machine and
model.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from rc_core.artifacts import ArtifactKey
from rc_core.config import TrialConfig, decode, fingerprint
from rc_core.errors import TrialError
from rc_core.models import load_encoder
from rc_core.training import fit_vanilla, num_steps
from rc_core.workspace import Workspace

THROUGHPUT_VERSION = 1
# (concurrent trials, threads of each)
Candidate = tuple[int, int]
_WARM_STEPS = 3
_LEAST_SECONDS, _MOST_SECONDS, _STEPS = 3.0, 20.0, 10
# Time for the order to reach every worker before they all start.
_LEAD_SECONDS = 0.3
# Length of one training run; another one follows it.
_MANY_STEPS = 20_000


def throughput_key(config: TrialConfig, workspace: Workspace, cores: int) -> ArtifactKey:
    """Return the key of the measurements for a configuration's dense reference."""
    reference = config.reference()
    training = reference.training.model_dump(
        mode="json", include={"batch_size", "max_length", "precision"}
    )
    cuda = workspace.device.type == "cuda"
    inputs = {
        "processor": workspace.processor,
        "memory": torch.cuda.get_device_properties(0).total_memory if cuda else memory_bytes(),
        "cores": cores,
        "torch": torch.__version__,
        "model": reference.model,
        "task": fingerprint(reference.task.as_dict()),
        "training": training,
    }
    return ArtifactKey("throughput", THROUGHPUT_VERSION, inputs)


def measure(
    config: TrialConfig,
    workspace: Workspace,
    cores: int,
    candidates: Callable[[int], Sequence[Candidate]],
) -> dict[str, Any]:
    """Return the measurements, from the store if they are there.

    Args:
        config: its dense reference, the largest model of a sweep, is trained.
        workspace: names the device; nothing is computed in this process.
        cores: number of cores that may be used.
        candidates: takes the peak bytes of one training run and returns what to measure, fewest
            concurrent trials first.

    Returns:
        `peak_bytes`, `step_seconds`, and `measured`: `at_once`, `threads`, `samples_per_second`.

    Raises:
        TrialError: not even one training run could be measured.
    """
    key = throughput_key(config, workspace, cores)

    def build(folder: Path) -> None:
        order = {
            "config": config.reference().as_dict(),
            "artifacts": str(workspace.store.root),
            "device": workspace.device.type,
            "threads": cores,
        }
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(_Worker(order))]
            alone = workers[0].answer()
            if "error" in alone:
                raise _failed(alone["error"])
            wanted = candidates(int(alone["peak_bytes"]))
            while len(workers) < max((each[0] for each in wanted), default=1):
                workers.append(stack.enter_context(_Worker(order)))
            for worker in workers[1:]:
                worker.answer()
            seconds = min(_MOST_SECONDS, max(_LEAST_SECONDS, _STEPS * alone["step_seconds"]))
            tried = [_measure(workers, candidate, seconds) for candidate in wanted]
        measured = [each for each in tried if each is not None]
        if not measured:
            # An empty result must not be stored: every later sweep on this machine would find it.
            raise _failed("no training run finished its measurement (out of memory?)")
        report = {
            "peak_bytes": alone["peak_bytes"],
            "step_seconds": alone["step_seconds"],
            "measured": measured,
        }
        (folder / "throughput.json").write_text(json.dumps(report, indent=1))

    workspace.store.build(key, build)
    found = stored_measurements(config, workspace, cores)
    assert found is not None
    return found


def _failed(why: str) -> TrialError:
    return TrialError(
        f"resources: auto must run a few steps of the dense reference, but they failed: {why}; "
        "give resources.cpu and resources.gpu as numbers"
    )


def stored_measurements(
    config: TrialConfig, workspace: Workspace, cores: int
) -> dict[str, Any] | None:
    """Return the stored measurements; None if `measure` would have to measure."""
    key = throughput_key(config, workspace, cores)
    if not workspace.store.has(key):
        return None
    path = workspace.store.get(key).path / "throughput.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def memory_bytes() -> int:
    """Return the machine's memory, or this process's control group limit if that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def _measure(
    workers: Sequence[_Worker], candidate: Candidate, seconds: float
) -> dict[str, Any] | None:
    """Return what the first workers achieve together; None if one of them failed."""
    at_once, threads = candidate
    start = time.time() + _LEAD_SECONDS
    for worker in workers[:at_once]:
        worker.ask({"threads": threads, "start": start, "seconds": seconds})
    answers = [worker.answer() for worker in workers[:at_once]]
    if any("error" in answer for answer in answers):
        return None
    rate = sum(answer["samples_per_second"] for answer in answers)
    return {"at_once": at_once, "threads": threads, "samples_per_second": round(rate, 2)}


class _Worker:
    """A worker process, seen from the process that owns it."""

    def __init__(self, order: dict[str, Any]) -> None:
        # The worker must be able to import whatever this process can.
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rc_core.throughput"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )
        self.ask(order)

    def ask(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        # A dead worker is noticed when its answer is read.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"the process ended with code {self._process.wait()}"}
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *unused: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def serve(orders: IO[str], answers: IO[str]) -> None:
    """Run as a worker: read the training run to set up, then orders to run it for a while."""

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    order = json.loads(orders.readline())
    try:
        torch.set_num_threads(order["threads"])
        config = decode(order["config"])
        space = Workspace(order["artifacts"], device=order["device"])
        progress = _endless_training(config, space)
        times = []
        for _ in range(1 + _WARM_STEPS):
            next(progress)
            times.append(time.perf_counter())
        step_seconds = (times[-1] - times[0]) / (_WARM_STEPS * _steps_at_once(space.device))
        answer({"peak_bytes": _peak_bytes(space.device), "step_seconds": step_seconds})
        for line in orders:
            answer(_run(progress, json.loads(line)))
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})


def _endless_training(config: TrialConfig, workspace: Workspace) -> Iterator[int]:
    """Train the dense model forever, yielding the samples seen so far every few steps."""
    data = workspace.data(config)
    model = load_encoder(config.model, label_names=data.task.label_names, seed=0)
    train = data.encoded(data.task.train)
    per_epoch = num_steps(len(train.labels), config.training.model_copy(update={"epochs": 1.0}))
    training = config.training.model_copy(
        update={
            "epochs": _MANY_STEPS / per_epoch,
            "rungs": _MANY_STEPS // _steps_at_once(workspace.device),
        }
    )
    precision = workspace.precision(config)
    model.to(workspace.device)
    before = 0
    while True:
        samples = 0
        for point in fit_vanilla(model, train, training, precision=precision):
            samples = point.samples
            yield before + samples
        before += samples


def _steps_at_once(device: torch.device) -> int:
    """Return the steps between two looks at the clock; each look waits for a GPU."""
    return 16 if device.type == "cuda" else 1


def _run(progress: Iterator[int], order: dict[str, Any]) -> dict[str, Any]:
    """Train for some seconds from a given moment on; return the rate, without the warm-up."""
    torch.set_num_threads(order["threads"])
    time.sleep(max(0.0, order["start"] - time.time()))
    begin = time.perf_counter()
    seen: list[tuple[float, int]] = []
    # The first step after a change of the number of threads starts them; it is not counted.
    next(progress)
    # A rate needs two looks, however long a step takes on a busy machine.
    while len(seen) < 2 or seen[-1][0] < begin + order["seconds"]:
        samples = next(progress)
        seen.append((time.perf_counter(), samples))
    (first, before), (last, after) = seen[0], seen[-1]
    rate = (after - before) / (last - first) if last > first else 0.0
    return {"samples_per_second": rate, "steps": len(seen)}


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


if __name__ == "__main__":
    # Answers go to the real stdout; whatever a library prints goes to stderr.
    with os.fdopen(os.dup(1), "w") as stream:
        os.dup2(2, 1)
        serve(sys.stdin, stream)
