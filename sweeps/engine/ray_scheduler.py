"""Our early stopping as a Ray `TrialScheduler`: the rule decides, this carries it out.

Ray's own schedulers know one metric, and it does not save their rungs: what was decided is rebuilt
from the records (see assignments.py), and nothing of this is pickled with Ray's state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rc_core.config import decode
from sweeps.engine.rungs import Decision, RungRule, is_settled, rung_of

_DECISIONS = {
    Decision.CONTINUE: TrialScheduler.CONTINUE,
    Decision.PAUSE: TrialScheduler.NOOP,
    Decision.STOP: TrialScheduler.STOP,
}


class RungScheduler(FIFOScheduler):
    """Stops, pauses and goes on with trials as a rule says; else first in, first out.

    A paused trial leaves its actor to others. Its folder holds a checkpoint, so going on is an
    ordinary start of the same trial, on whatever actor is free.
    """

    # Every rung is decided on before the next one begins.
    _supports_buffered_results = False

    def __init__(
        self,
        rule: RungRule,
        *,
        exhausted: Callable[[], bool],
        over: Callable[[], bool],
        on_pause: Callable[[str], None] = lambda trial_id: None,
        on_leave: Callable[[str], None] = lambda trial_id: None,
    ) -> None:
        """Store what is given.

        Args:
            rule: decides; shared with whoever restores it.
            exhausted: tells whether no new trial will come.
            over: tells whether a limit of the sweep is reached: nothing is gone on with then.
            on_pause: called with our id of a trial that pauses.
            on_leave: called with that of a trial that Ray stops while it is paused.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule = rule
        self._exhausted = exhausted
        self._over = over
        self._on_pause = on_pause
        self._on_leave = on_leave
        self._live: dict[str, Trial] = {}
        self._waiting: dict[str, Trial] = {}
        self._chosen: str | None = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._live[_id(trial)] = self._waiting[_id(trial)] = trial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        config = decode(trial.config["config"])
        progress = float(result["progress"])
        decision = self._rule.report(
            _id(trial), rung_of(progress, config), result, settled=is_settled(progress, config)
        )
        if decision is Decision.PAUSE:
            self._on_pause(_id(trial))
            # Ray's own PAUSE saves a checkpoint first, in a folder of the driver's that other nodes
            # need not have: the trial would fail there. Its own checkpoint is written already.
            tune_controller.pause_trial(trial, should_checkpoint=False)
        return _DECISIONS[decision]

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._forget(trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._forget(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._forget(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a paused trial that is promoted, else the oldest one that waits for its start.

        Once nothing is left but paused trials, none of which is promoted, Ray stops them: it would
        wait for them for ever. To the rule they stay paused: a trial that an earlier driver paused
        may go on after them, reach a rung, and be what promotes one.
        """
        promoted = self._promoted()
        if promoted is not None:
            return promoted
        for key, trial in list(self._waiting.items()):
            if trial.status == Trial.PENDING:
                return trial
            del self._waiting[key]
        if self._exhausted() or self._over():
            left = dict(self._live)
            if left and all(trial.status == Trial.PAUSED for trial in left.values()):
                self._live.clear()
                for key, trial in left.items():
                    self._on_leave(key)
                    tune_controller.stop_trial(trial)
        return None

    def debug_string(self) -> str:
        return f"RungScheduler ({self._rule.variant})"

    def _promoted(self) -> Trial | None:
        """Return the paused trial to go on with. Asking again changes nothing until Ray has it."""
        if self._chosen is not None:
            trial = self._live.get(self._chosen)
            if trial is not None and trial.status == Trial.PAUSED:
                return trial
            # Ray has taken it.
            self._rule.resumed(self._chosen)
            if trial is not None:
                self._waiting[self._chosen] = trial
            self._chosen = None
        if self._over():
            return None
        candidate = self._rule.next_promotion()
        trial = self._live.get(candidate) if candidate is not None else None
        # What an earlier driver paused is not Ray's to start.
        if trial is None or trial.status != Trial.PAUSED:
            return None
        self._chosen = candidate
        return trial

    def _forget(self, trial: Trial) -> None:
        key = _id(trial)
        self._waiting.pop(key, None)
        if self._live.pop(key, None) is not None:
            self._rule.resumed(key)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _id(trial: Trial) -> str:
    """Return our id of a trial."""
    found: str = trial.config["trial_id"]
    return found
