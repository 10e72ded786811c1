"""How many trials at once: what is measured, what is chosen, what each may take of a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from rc_core.errors import ConfigError
from rc_core.schema import validate_section
from sweeps.engine.shares import (
    CONTEXT_BYTES,
    best,
    cpu_candidates,
    gpu_candidates,
    gpu_share,
    memory_fraction,
    numbers,
)
from sweeps.settings import ResourcesConfig, SweepSettings

GB = 10**9


@pytest.mark.parametrize(
    ("cores", "memory", "peak", "expected"),
    [
        (1, 8 * GB, GB, [(1, 1)]),
        (2, 8 * GB, GB, [(1, 2), (2, 1)]),
        (8, 64 * GB, GB, [(1, 8), (2, 4), (4, 2), (8, 1)]),
        (6, 64 * GB, GB, [(1, 6), (2, 3), (3, 2), (6, 1)]),
        # Two of 3 GB (and a fifth) fit into nine tenths of 8 GB; four do not.
        (8, 8 * GB, 3 * GB, [(1, 8), (2, 4)]),
        # One trial is tried however little memory there is.
        (4, GB, 3 * GB, [(1, 4)]),
    ],
)
def test_cpu_candidates(
    cores: int, memory: int, peak: int, expected: list[tuple[int, int]]
) -> None:
    assert cpu_candidates(cores, memory, peak) == expected


@pytest.mark.parametrize(
    ("cores", "total", "peak", "gpus", "expected"),
    [
        (
            16,
            80 * GB,
            2 * GB,
            1,
            [(1, 16), (2, 8), (3, 5), (4, 4), (6, 2), (8, 2), (12, 1), (16, 1)],
        ),
        # 24 GB / (0.6 + 1.2 x 4) = 4.4
        (16, 24 * GB, 4 * GB, 1, [(1, 16), (2, 8), (3, 5), (4, 4)]),
        # Each of eight GPUs has two cores: no more than two trials on one.
        (16, 80 * GB, 2 * GB, 8, [(1, 2), (2, 1)]),
        (4, 8 * GB, 20 * GB, 1, [(1, 4)]),
    ],
)
def test_gpu_candidates(
    cores: int, total: int, peak: int, gpus: int, expected: list[tuple[int, int]]
) -> None:
    found = gpu_candidates(cores, total, peak, gpus)
    assert found == expected
    for count, _ in found[1:]:
        # What was let in fits into the cap that each gets, with room to grow.
        assert 1.1 * peak < memory_fraction(gpu_share(count), total) * total


def measured(*rates: tuple[int, int, float]) -> list[dict[str, Any]]:
    return [
        {"at_once": at_once, "threads": threads, "samples_per_second": rate}
        for at_once, threads, rate in rates
    ]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([(1, 2, 100.0), (2, 1, 130.0)], 2),
        ([(1, 2, 100.0), (2, 1, 90.0)], 1),
        # As good as the same: the search knows more when fewer run at once.
        ([(1, 8, 99.0), (2, 4, 100.0), (4, 2, 97.9)], 1),
        ([(1, 8, 50.0), (2, 4, 99.0), (4, 2, 100.0)], 2),
        ([(1, 1, 3.0)], 1),
    ],
)
def test_the_fewest_at_once_of_those_near_the_best(
    rates: list[tuple[int, int, float]], expected: int
) -> None:
    chosen = best(measured(*rates))
    assert chosen["at_once"] == expected
    top = max(rate for _, _, rate in rates)
    assert chosen["samples_per_second"] >= 0.95 * top


@pytest.mark.parametrize("at_once", range(1, 17))
def test_so_many_shares_fit_on_a_gpu_and_one_more_does_not(at_once: int) -> None:
    share = gpu_share(at_once)
    assert at_once * share <= 1 < (at_once + 1) * share


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.0625])
def test_the_caps_of_all_trials_and_their_contexts_fit_into_the_memory(share: float) -> None:
    for total in (8 * GB, 24 * GB, 80 * GB):
        cap = memory_fraction(share, total)
        assert 0 < cap < share
        if share * total > 2 * CONTEXT_BYTES:
            assert round(1 / share) * (cap * total + CONTEXT_BYTES) <= 1.0001 * total


def test_numbers_take_the_place_of_auto() -> None:
    asked = ResourcesConfig(auto=True, retries=5)
    on_cpu = numbers({"measured": measured((1, 8, 10.0), (4, 2, 20.0))}, asked, 8, 0)
    assert (on_cpu.cpu, on_cpu.gpu, on_cpu.auto, on_cpu.retries) == (2, 0, False, 5)
    on_gpu = numbers({"measured": measured((1, 8, 10.0), (3, 2, 20.0))}, asked, 16, 2)
    assert (on_gpu.cpu, on_gpu.gpu) == (2, 0.3333)


def test_auto_has_a_short_form_and_numbers_win_over_it() -> None:
    short = validate_section(SweepSettings, {"resources": "auto"})
    assert short.resources.auto
    assert validate_section(SweepSettings, short.as_dict()) == short
    given = validate_section(SweepSettings, {"resources": {"cpu": 2, "gpu": 0.5}})
    assert not given.resources.auto
    with pytest.raises(ConfigError, match="either auto or cpu and gpu as numbers"):
        validate_section(SweepSettings, {"resources": {"auto": True, "cpu": 2}})
    with pytest.raises(ConfigError, match="resources"):
        validate_section(SweepSettings, {"resources": "automatic"})
