"""A trial as a Ray actor: `step()` advances `rc_core.trial.trial_steps` by one rung.

A class, not a function: a scheduler's stop, pause and reset are plain calls, and actors are reused,
so each imports torch and transformers, and tokenises the data, only once. This waits for the first
step, so that actors start quickly: Ray Tune may drop one that is still starting (ray_scheduler.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from rc_core.errors import InputError, RobustCompressionError
from rc_core.record import RungRecord, TrialRecord
from sweeps.engine.shares import memory_fraction
from sweeps.folder import artifacts_at, trial_at
from sweeps.remote.worker import NotSharedError

if TYPE_CHECKING:
    from rc_core.workspace import Workspace

_WORKSPACES: dict[str, Workspace] = {}


def workspace(artifacts: str, device: str) -> Workspace:
    """Return this process's workspace for an artifact store.

    Args:
        artifacts: the store's address, as SweepFolder writes it.
        device: `cpu` or `cuda`.

    Raises:
        InputError: `device` is `cuda` and torch sees no CUDA device in this process.
    """
    import torch

    from rc_core.workspace import Workspace

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "resources.gpu needs a CUDA device that torch can use on every node with GPUs, but "
            f"torch {torch.__version__} sees none here (CUDA_VISIBLE_DEVICES="
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}); install torch's CUDA build, or "
            "set resources.gpu=0"
        )
    found = _WORKSPACES.get(artifacts)
    if found is None or found.device.type != device:
        root, backing = artifacts_at(artifacts)
        found = _WORKSPACES[artifacts] = Workspace(root, device=device, backing=backing)
    return found


class TrialTrainable(tune.Trainable):
    """Runs the trial that its config names.

    The config has the keys trial_id, config, sweep, artifacts, attempt, threads, gpu, device.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Advance to the next rung; the last step returns the full evaluation and `ended`.

        A trial that fails returns the reason, as in its record, instead of raising: Ray would count
        an exception as a lost worker and run the trial again elsewhere.
        """
        try:
            rung = next(self._steps)
        except StopIteration as end:
            record: TrialRecord = end.value
            return {**record.metrics, "trial": record.id, "ended": True, "done": True}
        except NotSharedError as error:
            # Its record is on this node only, so the driver leaves the trial open.
            why = str(error)
            return {"trial": self._trial_id, "ended": True, "unshared": why, "done": True}
        except Exception as error:
            from rc_core.trial import reason

            return {"trial": self._trial_id, "error": reason(error), "done": True}
        # Ray's own iteration count starts again with every driver.
        shown = {"progress": rung.progress, "steps": rung.step}
        return {**rung.metrics, "trial": self._trial_id, **shown}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        # The checkpoint is in the trial's own folder; Ray has nothing to store.
        del checkpoint_dir
        return {"trial": self._trial_id}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        del checkpoint

    def cleanup(self) -> None:
        self._steps.close()

    def _begin(self, config: dict[str, Any]) -> None:
        self._trial_id: str = config["trial_id"]
        self._steps: Generator[RungRecord, None, TrialRecord] = _steps(config)


def _steps(config: dict[str, Any]) -> Generator[RungRecord, None, TrialRecord]:
    """Run a trial in this process; nothing happens before the first rung is requested."""
    import torch

    from rc_core.config import decode
    from rc_core.trial import trial_steps

    trial = decode(config["config"])
    trial_id, attempt, device = config["trial_id"], config["attempt"], config["device"]
    torch.set_num_threads(config["threads"])
    folder = trial_at(config["sweep"], trial_id)
    done = folder.read()
    if done is not None and (done.status, done.attempt) == ("finished", attempt):
        # Its worker was lost before the driver heard of the end; the upload may be incomplete.
        folder.commit(done)
        folder.forget_checkpoint()
        return done
    try:
        space = workspace(config["artifacts"], device)
        if device == "cuda" and config["gpu"] < 1:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(memory_fraction(config["gpu"], total))
    except RobustCompressionError as error:
        record = TrialRecord(
            id=trial_id,
            status="running",
            name=trial.label(),
            config=config["config"],
            fingerprint=trial.fingerprint(),
            attempt=attempt,
            started=time.time(),
        )
        folder.commit(record.sealed("failed", str(error)))
        raise
    context = ray.get_runtime_context()
    space.place = {"node": context.get_node_id()[:12], "gpus": context.get_accelerator_ids()["GPU"]}
    return (yield from trial_steps(trial, space, folder, trial_id=trial_id, attempt=attempt))
