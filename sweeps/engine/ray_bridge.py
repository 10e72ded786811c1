"""The two places where Ray Tune calls us: what to run next, and what just happened.

Both hold live objects (locks, SQLite) that Ray must not pickle with its experiment state. They
pickle as empty, as resuming does not use Ray's state (sweeps/engine/assignments.py).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.exceptions import OutOfMemoryError
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from rc_core.errors import RobustCompressionError
from sweeps.commands import command
from sweeps.engine.assignments import Assignments
from sweeps.engine.budget import SAVE_SECONDS
from sweeps.folder import SweepFolder
from sweeps.tracking.events import SweepEvents
from sweeps.views.progress import Progress

_logger = logging.getLogger(__name__)
_MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
_LOST = "its worker process died, and so did those that continued it (killed, or out of memory)"


@contextmanager
def many_may_wait() -> Iterator[None]:
    """Let Ray Tune hold as many waiting trials as its searcher provides.

    By default it holds one if there is a searcher, so worker processes would start one by one.
    """
    before = os.environ.get(_MAX_PENDING)
    os.environ[_MAX_PENDING] = "1000000"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_MAX_PENDING]
        else:
            os.environ[_MAX_PENDING] = before


class AssignmentSearcher(Searcher):
    """Hands `Assignments` to Ray as trial configs, and closes each trial when it ends."""

    def __init__(
        self,
        assignments: Assignments,
        common: Mapping[str, Any],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """Store what is given.

        Args:
            assignments: what runs next.
            common: part of every trial's config (sweep folder, attempt, threads).
            has_room: tells whether Ray should get another trial now; one proposed later uses more
                results.
        """
        super().__init__(metric=None, mode=None)
        self._has_room = has_room
        self._assignments = assignments
        self._common = dict(common)
        self._ours: dict[str, str] = {}
        self.exhausted = False

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        del metric, mode, config, spec
        return True

    def suggest(self, trial_id: str) -> Any:
        if not self._has_room():
            return None
        assignment = self._assignments.next()
        if assignment is None:
            self.exhausted = True
            return Searcher.FINISHED
        self._ours[trial_id] = assignment.trial_id
        return {
            **self._common,
            "trial_id": assignment.trial_id,
            "config": assignment.config.as_dict(),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        # A worker that raised has written its reason, if it could; one that was killed could not.
        found = result or {}
        reason = _LOST if error else found.get("error")
        if "unshared" in found:
            ours = self._ours[trial_id]
            _logger.warning(
                "trial %s has ended, but its results are only on its node: %s",
                ours,
                found["unshared"],
            )
        self._assignments.usage.ended(self._ours[trial_id])
        self._assignments.close(self._ours[trial_id], error=reason, ended=_ended(found))

    def save(self, checkpoint_path: str) -> None:
        del checkpoint_path

    def restore(self, checkpoint_path: str) -> None:
        del checkpoint_path

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        del checkpoint_dir, session_str

    def __getstate__(self) -> dict[str, Any]:
        return {}


class DriverCallback(Callback):
    """Turns Ray's trial events into tracking events and progress."""

    def __init__(self, assignments: Assignments, events: SweepEvents, progress: Progress) -> None:
        self._assignments = assignments
        self._events = events
        self._progress = progress

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        del iteration, trials, info
        self._assignments.usage.started(trial.config["trial_id"])
        self._events.trial_assigned(trial.config["trial_id"], trial.config["config"])
        self._progress.trial_started(trial.config["trial_id"], trial.config["config"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        del iteration, trials, info
        # A driver killed during a long trial must not lose the time since its start.
        self._assignments.usage.save(every=SAVE_SECONDS)
        # At the rung where a scheduler stops a trial, Ray says "done"; report that rung too.
        if "progress" in result:
            self._events.rung(trial.config["trial_id"], result)
            self._progress.trial_advanced(trial.config["trial_id"], result)

    def paused(self, trial_id: str) -> None:
        """Take in that a trial releases its resources until it is promoted."""
        self._assignments.usage.ended(trial_id)
        self._progress.trial_paused(trial_id)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        del iteration, trials, info
        result = trial.last_result or {}
        self._close(trial, result.get("error"), ended=_ended(result))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        del iteration, trials, info
        self._close(trial, _LOST)

    def _close(self, trial: Trial, error: str | None, *, ended: bool = False) -> None:
        record = self._assignments.close(trial.config["trial_id"], error=error, ended=ended)
        if record is not None:
            self._progress.trial_ended(record)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _ended(result: Mapping[str, Any]) -> bool:
    """Tell whether a trial's last result is its end, as `sweeps.engine.trainable` returns it."""
    return bool(result.get("ended"))


class OutOfMemory(RobustCompressionError):
    """Ray killed a trial's process for lack of memory, which ended the attempt."""


@contextmanager
def memory_told(folder: SweepFolder) -> Iterator[None]:
    """Replace Ray's error on memory running out.

    Ray Tune counts such a process neither as lost nor its trial as failed, but ends the driver.

    Raises:
        OutOfMemory: instead of what Ray raised.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OutOfMemoryError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        fewer = command(folder, "resume", "--set", "resources.cpu=N")
        raise OutOfMemory(
            "the trials that run at once must fit into memory, but it ran out and Ray killed one; "
            "no finished trial is lost. Continue with fewer at once, each holding more cores: "
            f"{fewer}"
        ) from error
