"""Early stopping at rungs, without Ray: the rule that schedulers and the simulator share.

A rung is a quick evaluation after an equal part of training. At each one the trials that reached
it are ranked, and about one in `eta` continues:

- `stopping`: a trial is judged once, when it arrives. It continues if it is among the best
  ceil(n / eta) of the n that have arrived so far, or as good as one of them; otherwise it stops.
  Ties count because a rung's small sample gives few different accuracies, and the newest of equal
  trials is the one judged: if ties lost, only one of eight equal trials would continue.
- `promotion`: a trial pauses unless it is among the best floor(n / eta) now, and continues once it
  is. Trials that are never promoted stop when nothing else is left to run. Of equal trials the
  earlier one ranks higher, as the others may still be promoted later.

Rungs count from the end of a compression's ramp. Gradual pruning removes weights over the first
part of training, so until then its accuracy is that of a larger model and says little: a trial
passes these rungs unjudged, and others are not ranked against it there.
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
    """Decides at each rung which trials continue."""

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
            ranking: makes the ranking of one rung.
            metrics: rung metric -> "max" or "min", in the order of the ranking's costs.
            eta: about one in eta trials continues past a rung; > 1.
            grace: the first rung that decides, from 1.
            variant: see the module's docstring.
        """
        self._make = ranking
        self._metrics = dict(metrics)
        self._eta = eta
        self._grace = grace
        self.variant = variant
        self._rungs: dict[int, Ranking] = {}
        self._paused: dict[str, int] = {}
        # Cached, as it is needed at every step of the driver; changes only when a trial arrives,
        # pauses or continues.
        self._next: str | None = None
        self._stale = False

    def report(
        self, trial_id: str, rung: int, values: Mapping[str, float], *, settled: bool
    ) -> Decision:
        """Take in that a trial reached a rung, and decide on it.

        Args:
            trial_id: the trial's.
            rung: from 1; the end of training is not a rung.
            values: metrics of the rung.
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
        """Take in a rung that an earlier driver has decided on; tell whether the trial is ranked.

        It is not if an earlier version did not measure the metrics that count now.
        """
        return self.counts(rung, settled=settled) and self._enter(trial_id, rung, values)

    def park(self, trial_id: str, rung: int) -> None:
        """Take in that a trial pauses at a rung where it was ranked."""
        self._paused[trial_id] = rung
        self._stale = True

    def next_promotion(self) -> str | None:
        """Return the paused trial to continue, the best of the highest rung, or None."""
        if self._stale:
            self._next = self._find_promotion()
            self._stale = False
        return self._next

    def resumed(self, trial_id: str) -> None:
        """Take in that a paused trial continues, or has ended."""
        if self._paused.pop(trial_id, None) is not None:
            self._stale = True

    def _enter(self, trial_id: str, rung: int, values: Mapping[str, float]) -> bool:
        """Rank a trial unless one of its values is undefined; tell whether it is ranked."""
        costs = [SIGNS[way] * values.get(name, math.nan) for name, way in self._metrics.items()]
        if not all(map(math.isfinite, costs)):
            return False
        ranking = self._rungs.setdefault(rung, self._make())
        # A trial resumed from a checkpoint before the rung reaches it again.
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
