"""What the health check says of the search, where a sweep's numbers leave little to say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rc_core.errors import InputError
from sweeps.reporting.facts import Facts
from sweeps.reporting.health import health
from sweeps.reporting.sections_search import volume_section
from tests.sweeps.reporting._made import made_sweep


def test_what_was_tried_is_not_denied_because_a_record_spells_it_as_a_float(tmp_path: Path) -> None:
    space = {
        "training.epochs": {"choice": [1, 2]},
        "training.weight_decay": {"choice": [0, 0.1]},
        "difficulty.levels": {"choice": [[0.2, 0.5], [0.3, 0.6]]},
        "loss.name": {"choice": ["vanilla", "distil", "poe"]},
    }
    facts = Facts.read(made_sweep(tmp_path, trials=20, space=space))
    used = {record.config["training"]["epochs"] for record in facts.records}
    assert used == {1.0, 2.0}
    done = [record for record in facts.records if record.config["loss"]["name"] != "poe"]
    rows = [row for row in facts.rows if row.loss != "poe"]
    checks = health(dataclasses.replace(facts, records=done, rows=rows))
    found = [check.found for check in checks if check.title == "Was everything tried?"]
    assert found == ["no finished trial has loss.name: poe"]


def test_where_nothing_finished_no_seeds_are_asked_for_and_no_progress_is_drawn(
    tmp_path: Path,
) -> None:
    sweep = made_sweep(tmp_path, trials=6, failed=6)
    facts = Facts.read(sweep)
    assert not [check for check in health(facts) if "confirm" in check.action]
    assert volume_section(facts) is None
    alone = Facts.read(made_sweep(tmp_path, trials=1, name="alone"))
    assert not [check for check in health(alone) if "confirm" in check.action]
    with pytest.raises(InputError, match="compressed model to be confirmed"):
        sweep.confirm()


def test_rungs_that_are_all_alike_do_not_condemn_early_stopping(tmp_path: Path) -> None:
    facts = Facts.read(made_sweep(tmp_path, trials=10, stopped=2))
    rungs = [
        tuple(r.model_copy(update={"metrics": {"rung/ood_dev/accuracy": 0.5}}) for r in each.rungs)
        for each in facts.records
    ]
    records = [
        record.model_copy(update={"rungs": own})
        for record, own in zip(facts.records, rungs, strict=True)
    ]
    checks = health(dataclasses.replace(facts, records=records))
    check = next(each for each in checks if each.title.startswith("Did early stopping"))
    assert check.level == "note" and "nothing to judge by" in check.found
    assert "nan" not in check.found and not check.action


def test_a_plugin_that_was_changed_in_the_middle_is_told(tmp_path: Path) -> None:
    """The last trial was of a plugin that did something else, and led the front."""
    facts = Facts.read(made_sweep(tmp_path, trials=6))
    title = "Are all trials comparable? "

    def found(changed: dict[str, str]) -> list[tuple[str, str, str]]:
        records = []
        for record in facts.records:
            texts = {"loss": "a" * 16} | (changed if record.id == "t0004" else {})
            environment = record.environment | {"plugins": texts}
            records.append(record.model_copy(update={"environment": environment}))
        checks = health(dataclasses.replace(facts, records=records))
        return [(c.level, c.title, c.found) for c in checks if c.title.startswith(title)]

    assert found({}) == []
    ((level, told, text),) = found({"loss": "b" * 16})
    loss = next(r for r in facts.records if r.id == "t0004").config["loss"]["name"]
    assert (level, told) == ("bad", f"{title}loss {loss}") and "t0004" in text
    # A difficulty is read through artifacts that are stored under its text.
    assert found({"difficulty": "b" * 16}) == []
