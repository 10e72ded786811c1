"""What is said of the dense reference before the first trial, and where that stops the sweep."""

from __future__ import annotations

from collections.abc import Callable

from rc_core.data._doubts import against_cuts, cut_texts
from rc_core.errors import TrialError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.failure import HEALTH_GATE


def report_health(
    sweep: SweepConfig,
    record: TrialRecord,
    majority: float,
    warnings: list[str],
    say: Callable[[str], None],
) -> None:
    """Say what the reference reached, and what may be wrong with it or its data.

    Args:
        sweep: says whether the gate stops it (`health_gate`).
        record: of the reference.
        majority: share of the majority class on id_dev, in [0, 1].
        warnings: of `rc_core.teacher.health`.
        say: told.

    Raises:
        TrialError: there are warnings, and the gate is `stop`.
    """
    accuracies = {role: 100 * record.metric(f"{role}/accuracy") for role in ("id_dev", "ood_dev")}
    say(
        f"dense reference: ID {accuracies['id_dev']:.1f} %, OOD {accuracies['ood_dev']:.1f} % "
        f"(majority class on id_dev {100 * majority:.1f} %)"
    )
    reason = record.undefined.get("ood_dev/relative_bias")
    if reason is not None:
        say(f"note: relative bias is undefined in this sweep: {reason}")
    asked = sweep.reference().training.max_length
    for line in cut_texts(record.data, asked):
        say(f"note: {line}; {against_cuts(record.data, asked)}")
    if warnings and sweep.settings.health_gate == "stop":
        raise TrialError(
            f"{HEALTH_GATE}{'; '.join(warnings)}. Corrected it is another sweep: launch that. To "
            "go on with this one all the same, resume it: --set health_gate=warn"
        )
    for warning in warnings:
        say(f"warning: {warning}")
