"""How many cores this process may use: an affinity or a container may allow fewer than exist.

Ray by itself respects a container's limit, but not an affinity (`taskset`, a batch system's share
of a node). It is started with this number, so that a launch checks what trials are placed by.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the number of cores, at least 1; a container's fractional limit is rounded down."""
    return max(1, math.floor(min(_allowed(), _quota())))


def _allowed() -> int:
    """Return the number of cores that this process may be scheduled on."""
    # macOS has no sched_getaffinity.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> float:
    """Return a container's limit in cores, infinity if there is none."""
    try:
        if (_GROUPS / "cpu.max").is_file():
            limit, period = (_GROUPS / "cpu.max").read_text().split()
        else:
            # Control groups v1; -1 means no limit.
            limit = (_GROUPS / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (_GROUPS / "cpu/cpu.cfs_period_us").read_text()
        return math.inf if limit in ("max", "-1") else int(limit) / int(period)
    except (OSError, ValueError):
        return math.inf
