"""A trial as a Ray actor: `step()` advances `rc_core.trial.trial_steps` by one rung.

A class, not a function: a scheduler's stop, pause and reset are plain calls, and actors are reused,
so torch and transformers are imported, and data tokenised, once per actor.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from ray import tune

from rc_core.config import decode
from rc_core.record import RungRecord, TrialRecord
from rc_core.trial import trial_steps
from rc_core.workspace import Workspace
from sweeps.folder import SweepFolder
from sweeps.rungs import rung_of

_WORKSPACES: dict[str, Workspace] = {}


def workspace(artifacts: str, device: str | None = None) -> Workspace:
    """Return this process's workspace over an artifact store."""
    return _WORKSPACES.setdefault(f"{artifacts}|{device}", Workspace(artifacts, device=device))


class TrialTrainable(tune.Trainable):
    """Runs the trial that its config names: trial_id, config, sweep, attempt, threads, gpu."""

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Advance to the next rung; the last step returns the full evaluation."""
        try:
            rung = next(self._steps)
        except StopIteration as end:
            record: TrialRecord = end.value
            return {**record.metrics, "trial": record.id, "done": True}
        # Ray's own count of iterations starts anew with every driver.
        number = rung_of(rung.progress, self._config)
        values = {"trial": self._trial_id, "progress": rung.progress, "rung": number}
        return {**rung.metrics, **values}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        # The trial's own folder holds its checkpoint; Ray has nothing to carry.
        del checkpoint_dir
        return {"trial": self._trial_id}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        del checkpoint

    def cleanup(self) -> None:
        self._steps.close()

    def _begin(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(config["threads"])
        folder = SweepFolder(config["sweep"])
        self._trial_id: str = config["trial_id"]
        self._config = decode(config["config"])
        device = None if config["gpu"] else "cpu"
        self._steps: Generator[RungRecord, None, TrialRecord] = trial_steps(
            self._config,
            workspace(str(folder.artifacts), device),
            folder.trial(self._trial_id),
            trial_id=self._trial_id,
            attempt=config["attempt"],
        )
