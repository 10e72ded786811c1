"""Texts that were cut are told in the report, where they are many; and trainings of few steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from rc_core.record import TrialRecord
from sweeps.reporting.facts import Facts
from sweeps.reporting.health_data import data_checks


def facts_of(data: dict[str, Any]) -> Facts:
    begun = TrialRecord(id="t0000", status="running", config={}, fingerprint="", started=0.0)
    record = begun.model_copy(
        update={"id": "t0001", "data": data, "config": {"training": {"max_length": 64}}}
    )
    return cast(Facts, SimpleNamespace(records=[begun, record], reference=None))


def test_what_was_cut_is_said_with_what_to_do() -> None:
    data = {
        "digest": "x",
        "train.a": {"samples": 1000, "truncated": 0},
        "id_dev.a": {"samples": 100, "truncated": 25},
        "ood_dev.b": {"samples": 100, "truncated": 40},
    }
    (check,) = data_checks(facts_of(data))
    assert check.level == "note" and "training.max_length" in check.action
    assert check.found == (
        "25 % of the samples of id_dev.a are longer than 64 tokens and are cut; "
        "40 % of the samples of ood_dev.b are longer than 64 tokens and are cut"
    )


def test_where_the_encoder_is_the_limit_another_one_is_what_helps() -> None:
    data = {"ood_dev.b": {"samples": 100, "truncated": 40}, "max_length": 32, "positions": 32}
    (check,) = data_checks(facts_of(data))
    assert check.action.startswith("take an encoder with more positions")
    assert check.found == (
        "40 % of the samples of ood_dev.b are longer than 32 tokens, which the encoder takes at "
        "most, and are cut"
    )


def test_a_sweep_that_lost_nothing_or_has_nothing_yet_has_no_check() -> None:
    assert not [*data_checks(facts_of({"train.a": {"samples": 1000, "truncated": 3}}))]
    assert not [*data_checks(facts_of({}))]


@pytest.mark.parametrize(("steps", "epochs"), [(40, 10), (199, 3), (200, None), (300, None)])
def test_a_training_of_few_steps_is_told_with_the_epochs_it_wants(
    steps: int, epochs: int | None
) -> None:
    record = TrialRecord(
        id="t0000", status="finished", fingerprint="", started=0.0,
        config={"training": {"epochs": 2.0, "max_length": 64}}, steps={"own": steps},
    )  # fmt: skip
    reference = SimpleNamespace(id="t0000")
    found = list(data_checks(cast(Facts, SimpleNamespace(records=[record], reference=reference))))
    assert [check.level for check in found] == (["warn"] if epochs else [])
    if epochs:
        assert f"{steps} optimizer steps are few" in found[0].found
        assert f"training.epochs (to {epochs}, say)" in found[0].action
