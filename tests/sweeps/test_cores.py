"""Cores that are there but may not be used are not counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rc_core.errors import ConfigError
from rc_core.yaml_files import merge
from sweeps import cores
from sweeps.config import SweepConfig
from sweeps.cores import usable_cores
from sweeps.engine import cluster
from sweeps.engine.launch_check import check_launch
from tests.sweeps.test_config import RAW


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of control groups without a limit, on a machine with eight cores."""
    monkeypatch.setattr(cores, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    (tmp_path / "cgroup/cpu").mkdir(parents=True)
    return tmp_path / "cgroup"


def test_all_cores_of_a_machine_without_limits_are_usable(groups: Path) -> None:
    assert usable_cores() == 8


def test_an_affinity_limits_them(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7})
    assert usable_cores() == 3


def test_a_system_without_affinity_has_all_its_cores(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("350000 100000\n", 3),  # whole cores only
        ("50000 100000\n", 1),  # less than one is still one
        ("1600000 100000\n", 8),  # more than there are
        ("unknown\n", 8),
    ],
)
def test_a_container_s_limit_counts(groups: Path, limit: str, expected: int) -> None:
    (groups / "cpu.max").write_text(limit)
    assert usable_cores() == expected


@pytest.mark.parametrize(("limit", "expected"), [("-1\n", 8), ("400000\n", 4)])
def test_so_does_that_of_older_control_groups(groups: Path, limit: str, expected: int) -> None:
    (groups / "cpu/cpu.cfs_quota_us").write_text(limit)
    (groups / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores() == expected


def test_a_launch_refuses_what_the_usable_cores_cannot_hold(
    groups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    asked = merge(RAW, {"resources": {"cpu": 4}})
    storage = tmp_path / "storage"
    with pytest.raises(ConfigError, match=r"may use 3 cores, but asks for 4; lower it, or join"):
        check_launch(SweepConfig(asked), storage, stem="x", name=None, address="local")
    fits = SweepConfig(merge(RAW, {"resources": {"cpu": 3}}))
    assert check_launch(fits, storage, stem="x", name=None, address="local").name


def test_ray_on_this_machine_counts_as_a_launch_does(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    given: list[dict[str, object]] = []
    monkeypatch.setattr(cluster, "_init", given.append)
    for address in ("local", "auto"):
        cluster._start(address)
    here, joined = given
    assert here["num_cpus"] == 3 and "num_cpus" not in joined, "a cluster's nodes count their own"
