"""What Ray Tune runs next, and our early stopping, as Ray `TrialScheduler`s.

Ray's own schedulers know one metric, and it does not save their rungs: what was decided is rebuilt
from the records (see assignments.py), and nothing of this is pickled with Ray's state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rc_core.config import decode
from sweeps.engine.rungs import Decision, RungRule, is_settled, rung_of

# A trial that waits for longer waits for room: its process would have started.
_START_SECONDS = 60.0
_DECISIONS = {
    Decision.CONTINUE: TrialScheduler.CONTINUE,
    Decision.PAUSE: TrialScheduler.NOOP,
    Decision.STOP: TrialScheduler.STOP,
}


class InOrderScheduler(FIFOScheduler):
    """In order; no worker process is dropped while it starts.

    To Ray a trial whose process is starting is one that waits, and a process that has become free
    goes to whatever waits and is chosen here: the starting one would be ended, and a slot whose
    process takes longer to start than a trial takes to run would never be used.

    Nothing starts once a limit of the sweep is reached: trials that wait are taken from Ray.
    """

    def __init__(
        self, slots: Callable[[int], int], *, over: Callable[[], bool] = lambda: False
    ) -> None:
        """Store what is given.

        Args:
            slots: how many trials there is room for, told how many run (see slots.py).
            over: tells whether a limit of the sweep is reached: nothing starts or is gone on with
                then, but for what runs already.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._slots = slots
        self._over = over
        self._live: dict[str, Trial] = {}
        self._added: dict[str, float] = {}

    def has_room(self) -> bool:
        """Tell whether Ray should be given another trial: one more than there are slots.

        The one more asks a cluster that grows by itself for the next node.
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
        """Return the oldest trial that waits and has no process starting; None: there is none.

        Processes start for the oldest, in as many slots as are not in use. One of these is the
        process that has just become free, if one has; without it nothing comes of the choice.
        Where others have taken slots that were counted, the oldest wait for room: these go first
        after a minute.
        """
        running, waiting = self._counted()
        if waiting and self._over():
            # One whose worker was lost is among those that run: it goes on.
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
    """Stops, pauses and goes on with trials as a rule says; else in order.

    A paused trial leaves its actor to others. Its folder holds a checkpoint, so going on is an
    ordinary start of the same trial, on whatever actor is free.
    """

    # Every rung is decided on before the next one begins.
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
            rule: decides; shared with whoever restores it.
            slots: as for `InOrderScheduler`.
            exhausted: tells whether no new trial will come.
            over: as for `InOrderScheduler`.
            on_pause: called with our id of a trial that pauses.
            on_leave: called with that of a trial that Ray stops while it is paused.
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
            # Ray's own PAUSE saves a checkpoint first, in a folder of the driver's that other nodes
            # need not have: the trial would fail there. Its own checkpoint is written already.
            tune_controller.pause_trial(trial, should_checkpoint=False)
        return _DECISIONS[decision]

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a paused trial that is promoted, else one that waits for its start.

        Once nothing is left but paused trials, none of which is promoted, Ray stops them: it would
        wait for them for ever. To the rule they stay paused: a trial that an earlier driver paused
        may go on after them, reach a rung, and be what promotes one.
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
        """Return the paused trial to go on with. Asking again changes nothing until Ray has it."""
        if self._chosen is not None:
            trial = self._live.get(self._chosen)
            if trial is not None and trial.status == Trial.PAUSED:
                return trial
            # Ray has taken it.
            self._rule.resumed(self._chosen)
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
        if _id(trial) in self._live:
            self._rule.resumed(_id(trial))
        super()._forget(trial)


def _id(trial: Trial) -> str:
    """Return our id of a trial."""
    found: str = trial.config["trial_id"]
    return found
