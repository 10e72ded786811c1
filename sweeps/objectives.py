"""Which metrics may steer a search (dev roles, exact sizes), and which only a later choice."""

from __future__ import annotations

from rc_core.errors import did_you_mean
from rc_core.metrics import classification, easy_hard, footprint, latency, robustness

# What every sweep measures, and every table shows.
ID_KEY, OOD_KEY = "id_dev/accuracy", "ood_dev/accuracy"
_OBJECTIVE_ROLES = ("id_dev", "ood_dev")


def check_objective(name: str) -> str | None:
    """Return why a metric may not steer a sweep, or None if it may."""
    role, _, rest = name.partition("/")
    if role == "footprint":
        known = list(footprint.METRICS)
        return None if name in known else f"unknown metric: {did_you_mean(name, known)}"
    if role in _OBJECTIVE_ROLES and rest:
        known = [*classification.METRICS, *robustness.METRICS, *easy_hard.METRICS]
        metric = name.rpartition("/")[2]
        return None if metric in known else f"unknown metric: {did_you_mean(metric, known)}"
    if role in ("id_test", "ood_test"):
        return "test roles are sealed until the search is over; use id_dev or ood_dev"
    if role == "latency":
        return (
            "latency is measured separately, after training, so the search cannot use it; choose "
            "by it afterwards: rc-sweep latency SWEEP, then --where"
        )
    return f"must begin with id_dev/, ood_dev/ or footprint/, but got '{name}'"


def check_direction(name: str, direction: str) -> str | None:
    """Return why a metric that may steer a sweep may not have this direction, or None if it may.

    Metrics of easy and hard samples may have either direction.
    """
    known = {**footprint.METRICS, **classification.METRICS, **robustness.METRICS}
    metric = known.get(name) or known.get(name.rpartition("/")[2])
    if metric is None or metric.direction == direction:
        return None
    return (
        f"must be {metric.direction}, but is {direction}, which would prefer the worst models "
        f"({metric.name}: {metric.description})"
    )


def check_choice(name: str) -> str | None:
    """Return why a metric may not decide a choice after the sweep has ended, or None if it may."""
    if name.partition("/")[0] == "latency":
        known = list(latency.METRICS)
        return None if name in known else f"unknown metric: {did_you_mean(name, known)}"
    return check_objective(name)
