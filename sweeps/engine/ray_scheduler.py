"""What Ray Tune runs next, and our early stopping, as Ray `TrialScheduler`s.

Ray's own schedulers handle one metric, and Ray does not save their rungs. Here decisions are
rebuilt from the records (see assignments.py), and nothing is pickled with Ray's state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rc_core.config import decode
from sweeps.engine.rungs import Decision, RungRule, is_settled, rung_of

# A process starts within this time, so a trial that waits longer is waiting for room.
_START_SECONDS = 60.0
_DECISIONS = {
    Decision.CONTINUE: TrialScheduler.CONTINUE,
    Decision.PAUSE: TrialScheduler.NOOP,
    Decision.STOP: TrialScheduler.STOP,
}


class InOrderScheduler(FIFOScheduler):
    """Runs trials in order, and drops no worker process while it starts.

    For Ray a trial whose process is starting is waiting, and a process that becomes free goes to
    the waiting trial chosen here. If that were a trial whose own process is starting, Ray would end
    that process, and a slot whose process takes longer to start than a trial takes to run would
    never be used.

    Once a limit of the sweep is reached, nothing starts: waiting trials are withdrawn from Ray.
    """

    def __init__(
        self, slots: Callable[[int], int], *, over: Callable[[], bool] = lambda: False
    ) -> None:
        """Store what is given.

        Args:
            slots: returns how many trials there is room for, given how many run (see slots.py).
            over: tells whether a limit of the sweep is reached; then only trials that are running
                already continue.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._slots = slots
        self._over = over
        self._live: dict[str, Trial] = {}
        self._added: dict[str, float] = {}

    def has_room(self) -> bool:
        """Tell whether Ray should get another trial; it may hold one more than there are slots.

        The extra one makes an autoscaling cluster add the next node.
        """
        running, waiting = self._counted()
        return running + len(waiting) <= self._slots(running)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._live[_id(trial)] = trial
        self._added[_id(trial)] = time.monotonic()

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._forget(trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._forget(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._forget(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the oldest waiting trial whose process is not starting; None if there is none.

        Processes are starting for the oldest trials, in as many slots as are free, less the one
        that has just become free; if none has, the choice has no effect. If others have taken
        counted slots, the oldest trials wait for room, and go first after a minute.
        """
        running, waiting = self._counted()
        if waiting and self._over():
            # A trial whose worker was lost counts as running, so it continues.
            for trial in [each for each in waiting if not each.num_failures]:
                tune_controller.stop_trial(trial)
            running, waiting = self._counted()
        if waiting and time.monotonic() - self._added[_id(waiting[0])] > _START_SECONDS:
            return waiting[0]
        starting = max(0, self._slots(running) - running - 1)
        return waiting[starting] if starting < len(waiting) else None

    def _counted(self) -> tuple[int, list[Trial]]:
        """Return how many trials run, and those that wait for their start, the oldest first."""
        live = self._live.values()
        running = sum(trial.status == Trial.RUNNING for trial in live)
        return running, [trial for trial in live if trial.status == Trial.PENDING]

    def _forget(self, trial: Trial) -> None:
        self._live.pop(_id(trial), None)
        self._added.pop(_id(trial), None)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class RungScheduler(InOrderScheduler):
    """Stops, pauses and resumes trials by a rule; otherwise runs them in order.

    A paused trial frees its actor. Its folder holds a checkpoint, so resuming it is an ordinary
    start of the same trial on any free actor.
    """

    # Every rung must be decided before the next one begins.
    _supports_buffered_results = False

    def __init__(
        self,
        rule: RungRule,
        slots: Callable[[int], int],
        *,
        exhausted: Callable[[], bool],
        over: Callable[[], bool],
        on_pause: Callable[[str], None] = lambda trial_id: None,
        on_leave: Callable[[str], None] = lambda trial_id: None,
    ) -> None:
        """Store what is given.

        Args:
            rule: decides; shared with the code that restores it.
            slots: as for `InOrderScheduler`.
            exhausted: tells whether there will be no new trials.
            over: as for `InOrderScheduler`.
            on_pause: called with our id of a trial that pauses.
            on_leave: called with our id of a trial that Ray stops while it is paused.
        """
        super().__init__(slots, over=over)
        self._rule = rule
        self._exhausted = exhausted
        self._on_pause = on_pause
        self._on_leave = on_leave
        self._chosen: str | None = None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        config = decode(trial.config["config"])
        progress = float(result["progress"])
        decision = self._rule.report(
            _id(trial), rung_of(progress, config), result, settled=is_settled(progress, config)
        )
        if decision is Decision.PAUSE:
            self._on_pause(_id(trial))
            # Ray's own PAUSE first saves a checkpoint in a folder of the driver, which other nodes
            # may not have, so the trial would fail. Its own checkpoint is written already.
            tune_controller.pause_trial(trial, should_checkpoint=False)
        return _DECISIONS[decision]

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a promoted paused trial, or else one that waits for its start.

        Once only paused trials are left and none is promoted, they are stopped in Ray, which would
        wait for them forever. For the rule they stay paused: a trial that an earlier driver paused
        may still continue, reach a rung, and so promote one of them.
        """
        promoted = self._promoted()
        if promoted is not None:
            return promoted
        waiting = super().choose_trial_to_run(tune_controller)
        if waiting is not None:
            return waiting
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
        """Return the paused trial to resume; the same one until Ray has started it."""
        if self._chosen is not None:
            trial = self._live.get(self._chosen)
            if trial is not None and trial.status == Trial.PAUSED:
                return trial
            # Ray has started it.
            self._rule.resumed(self._chosen)
            self._chosen = None
        if self._over():
            return None
        candidate = self._rule.next_promotion()
        trial = self._live.get(candidate) if candidate is not None else None
        # Ray does not know trials that an earlier driver paused.
        if trial is None or trial.status != Trial.PAUSED:
            return None
        self._chosen = candidate
        return trial

    def _forget(self, trial: Trial) -> None:
        if _id(trial) in self._live:
            self._rule.resumed(_id(trial))
        super()._forget(trial)


def _id(trial: Trial) -> str:
    """Return our id of a trial."""
    found: str = trial.config["trial_id"]
    return found
