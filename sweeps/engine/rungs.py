"""Early stopping at rungs, free of Ray: what a scheduler and the simulator both ask.

A rung is a quick evaluation after an equal part of training. At each one the trials that reached
it are ranked, and about one of `eta` goes on:

- `stopping`: a trial is judged once, when it arrives; it goes on if it is among the best
  ceil(n / eta) of the n that arrived so far, or as good as one of them, and is stopped otherwise.
  A rung's sample gives few different accuracies, and of equal trials the newest is the one judged:
  were a tie lost, of eight equal ones one would go on.
- `promotion`: a trial pauses unless it is among the best floor(n / eta) now; it goes on when it
  becomes one of them. What is never promoted is stopped when nothing else is left to run. Of equal
  ones the earlier is better: it may still be promoted later.

Rungs count from the end of a compression's ramp. Gradual pruning removes weights over the first
part of training, so until then its accuracy is that of a larger model and says little; it passes
these rungs unjudged and is not among what others are ranked against there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Literal

from rc_core.config import TrialConfig
from rc_core.record import RungRecord
from sweeps.engine.ranking import Ranking
from sweeps.pareto import SIGNS

Variant = Literal["stopping", "promotion"]


class Decision(Enum):
    """What becomes of a trial at a rung."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


class RungRule:
    """Decides at each rung which trials go on."""

    def __init__(
        self,
        ranking: Callable[[], Ranking],
        metrics: Mapping[str, str],
        *,
        eta: float,
        grace: int,
        variant: Variant,
    ) -> None:
        """Store what is given.

        Args:
            ranking: makes the order of one rung.
            metrics: rung value -> "max" or "min", in the order of the ranking's costs.
            eta: about one of so many goes on at a rung, > 1.
            grace: the first rung that counts, from 1.
            variant: see the module.
        """
        self._make = ranking
        self._metrics = dict(metrics)
        self._eta = eta
        self._grace = grace
        self.variant = variant
        self._rungs: dict[int, Ranking] = {}
        self._paused: dict[str, int] = {}
        # Changes only when a trial arrives, pauses or goes on; asked at every step of the driver.
        self._next: str | None = None
        self._stale = False

    def report(
        self, trial_id: str, rung: int, values: Mapping[str, float], *, settled: bool
    ) -> Decision:
        """Take in that a trial reached a rung, and decide on it.

        Args:
            trial_id: ours.
            rung: from 1; the end of training is none.
            values: of the rung.
            settled: whether its compression has reached its final structure.
        """
        if not self.counts(rung, settled=settled):
            return Decision.CONTINUE
        if not self._enter(trial_id, rung, values):
            return Decision.STOP
        if self._among_best(trial_id, rung):
            return Decision.CONTINUE
        if self.variant == "stopping":
            return Decision.STOP
        self.park(trial_id, rung)
        return Decision.PAUSE

    def counts(self, rung: int, *, settled: bool) -> bool:
        """Tell whether a trial is judged at a rung."""
        return settled and rung >= self._grace

    def restore(
        self, trial_id: str, rung: int, values: Mapping[str, float], *, settled: bool
    ) -> bool:
        """Take in a rung that an earlier driver has decided on; tell whether it was ranked there.

        It was not where an earlier version did not measure what counts now.
        """
        return self.counts(rung, settled=settled) and self._enter(trial_id, rung, values)

    def park(self, trial_id: str, rung: int) -> None:
        """Take in that a trial pauses at a rung where it was ranked."""
        self._paused[trial_id] = rung
        self._stale = True

    def next_promotion(self) -> str | None:
        """Return the paused trial to go on with: the best of the highest rung; None: none yet."""
        if self._stale:
            self._next = self._find_promotion()
            self._stale = False
        return self._next

    def resumed(self, trial_id: str) -> None:
        """Take in that a paused trial goes on, or has ended."""
        if self._paused.pop(trial_id, None) is not None:
            self._stale = True

    def _enter(self, trial_id: str, rung: int, values: Mapping[str, float]) -> bool:
        """Rank a trial; one with an undefined value is ranked nowhere."""
        costs = [SIGNS[way] * values.get(name, math.nan) for name, way in self._metrics.items()]
        if not all(map(math.isfinite, costs)):
            return False
        ranking = self._rungs.setdefault(rung, self._make())
        # A trial that was resumed from a checkpoint before the rung reaches it again.
        if trial_id not in ranking:
            ranking.add(trial_id, costs)
            self._stale = True
        return True

    def _among_best(self, trial_id: str, rung: int) -> bool:
        ranking = self._rungs[rung]
        quota = self._quota(len(ranking))
        return ranking.among_best(trial_id, quota, ties=self.variant == "stopping")

    def _quota(self, arrived: int) -> int:
        share = arrived / self._eta
        return math.floor(share) if self.variant == "promotion" else math.ceil(share)

    def _find_promotion(self) -> str | None:
        if not self._paused:
            return None
        for rung in sorted(set(self._paused.values()), reverse=True):
            ranking = self._rungs[rung]
            for trial_id in ranking.best(self._quota(len(ranking))):
                if self._paused.get(trial_id) == rung:
                    return trial_id
        return None


def rung_of(progress: float, config: TrialConfig) -> int:
    """Return the number of the rung at which a trial is, from 1."""
    return round(progress * config.training.rungs)


def is_settled(progress: float, config: TrialConfig) -> bool:
    """Tell whether a trial's compression has reached its final structure."""
    return progress >= config.compression.settled() - 1e-9


def restore(
    rule: RungRule, trial_id: str, config: TrialConfig, rungs: tuple[RungRecord, ...]
) -> int | None:
    """Tell a rule of a record's rungs; return the last one where the trial was judged."""
    last = None
    for reached in rungs:
        number = rung_of(reached.progress, config)
        settled = is_settled(reached.progress, config)
        ranked = rule.restore(trial_id, number, reached.metrics, settled=settled)
        last = number if ranked else None
    return last
