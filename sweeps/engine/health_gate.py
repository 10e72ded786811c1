"""The report on the dense reference before the first trial, which may stop the sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rc_core.errors import TrialError
from sweeps.config import SweepConfig
from sweeps.failure import HEALTH_GATE


@dataclass(frozen=True)
class Judged:
    """The results of the dense reference.

    Attributes:
        metrics: those of the dev roles.
        undefined: metric -> why it is undefined.
        majority: share of the majority class on id_dev, in [0, 1].
        warnings: from `rc_core.teacher.health`.
    """

    metrics: Mapping[str, float]
    undefined: Mapping[str, str]
    majority: float
    warnings: Sequence[str] = ()


def report_health(sweep: SweepConfig, found: Judged, say: Callable[[str], None]) -> None:
    """Report the reference's accuracy, and what may be wrong with it.

    Args:
        sweep: its `health_gate` decides whether warnings stop it.
        found: the reference's results.
        say: called with each line.

    Raises:
        TrialError: there are warnings, and the gate is `stop`.
    """
    in_distribution, out = (
        100 * found.metrics.get(f"{role}/accuracy", math.nan) for role in ("id_dev", "ood_dev")
    )
    say(
        f"dense reference: ID {in_distribution:.1f} %, OOD {out:.1f} % "
        f"(majority class on id_dev {100 * found.majority:.1f} %)"
    )
    reason = found.undefined.get("ood_dev/relative_bias")
    if reason is not None:
        say(f"note: relative bias is undefined in this sweep: {reason}")
    if found.warnings and sweep.settings.health_gate == "stop":
        raise TrialError(
            f"{HEALTH_GATE}{'; '.join(found.warnings)}. Correct the configuration and launch it "
            "as a new sweep. To continue this one anyway, resume it with --set health_gate=warn"
        )
    for warning in found.warnings:
        say(f"warning: {warning}")
