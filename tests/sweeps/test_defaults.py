"""Defaults of a later version change no sweep that goes on, and its trials stay its trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES, current_fingerprint, decode_recorded, fingerprint
from rc_core.errors import StorageError
from rc_core.former import FORMER
from rc_core.record import TrialFolder, TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.adopt import adopt_trials
from sweeps.engine.assignments import Assignments
from sweeps.engine.launch_check import check_confirmed
from sweeps.engine.resuming import changed
from sweeps.engine.warm_start import known_trials
from sweeps.folder import SweepFolder
from sweeps.plugin_configs import recorded_defaults
from sweeps.search import race, random
from sweeps.selection.confirmed import confirmed
from sweeps.stored_sweep import StoredSweep
from sweeps.verification.confirm import confirmation

VALUES: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 100},
    "compression": {"name": "magnitude"},
    "space": {
        "compression.name": {"choice": ["magnitude", "heads"]},
        "compression.remove": {"choice": [0.1, 0.2], "when": {"compression.name": "heads"}},
    },
    "search": {"name": "random", "trials": 6},
}
HEADS = {"compression.name": "heads", "compression.remove": 0.1}
CONFIGS = PLUGIN_PACKAGES["compression"]


def later(monkeypatch: pytest.MonkeyPatch, name: str, **defaults: Any) -> None:
    """Give a compression the defaults of a later version, for keys that there are or are not."""
    module = plugins.load(CONFIGS, name)
    types = {key: type(value) for key, value in defaults.items()}
    fields = {"__annotations__": types, "__module__": module.__name__, **defaults}
    monkeypatch.setattr(module, "Config", type("Config", (module.Config,), fields))


def without_later(config: dict[str, Any]) -> dict[str, Any]:
    """Return a record's configuration as the first version wrote it."""
    compression = config["compression"]
    first = {k: v for k, v in compression.items() if k != "normalisation"}
    return {**config, "compression": first}


def record_of(trial_id: str, config: dict[str, Any], accuracy: float = 0.9) -> TrialRecord:
    return TrialRecord(
        id=trial_id,
        status="finished",
        config=config,
        fingerprint=fingerprint(config),
        reference=trial_id == "t0000",
        started=0.0,
        metrics={"id_dev/accuracy": accuracy, "ood_dev/accuracy": accuracy},
    )


@pytest.fixture(autouse=True)
def another_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give heads a default other than what was done before it had the key, to tell them apart."""
    later(monkeypatch, "heads", normalisation="layer")


@pytest.fixture
def old(tmp_path: Path) -> StoredSweep:
    """Return a sweep of the first version: no `defaults`, and heads without `normalisation`."""
    config = SweepConfig(VALUES)
    folder = SweepFolder.create(tmp_path, "old", "x")
    folder.write_config({k: v for k, v in config.as_dict().items() if k != "defaults"})
    trials = [config.reference(), config.trial({"compression.name": "magnitude"})]
    trials.append(config.trial(HEADS))
    for i, trial in enumerate(trials):
        record = record_of(f"t{i:04d}", without_later(trial.as_dict()), 0.9 - 0.1 * i)
        folder.trial(record.id).commit(record)
    return StoredSweep(folder)


def test_the_defaults_of_every_plugin_that_a_trial_may_have_are_written() -> None:
    points = [{"compression.name": "student", "compression.num_layers": 2, "loss.name": "poe"}]
    values = SweepConfig(VALUES | {"search": {"points": points}}).as_dict()
    found = values["defaults"]
    assert set(found["compression"]) == {"dense", "magnitude", "heads", "student"}
    assert set(found["loss"]) == {"vanilla", "poe"}
    assert found["compression"]["heads"]["normalisation"] == "layer"
    assert found["loss"]["poe"] == {
        "lambda": 0.9,
        "temperature": 1.0,
        "expert": {"level": 0.75},
        "beta": 1.0,
        "shuffled": False,
    }
    assert found["difficulty"]["loss_variance"]["levels"] == [0.2, 0.35, 0.5, 0.65, 0.85]
    assert SweepConfig(values).as_dict() == values


def test_another_default_of_a_later_version_changes_no_launched_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder.create(tmp_path, "launched", "x")
    folder.write_config(SweepConfig(VALUES).as_dict())
    before = SweepConfig(folder.read_config())
    first = [before.trial(point).fingerprint() for point in (HEADS, *before.first_points())]
    later(monkeypatch, "heads", num_batches=64)
    later(monkeypatch, "magnitude", ramp=0.9)
    after = changed(folder, [])
    assert [after.trial(p).fingerprint() for p in (HEADS, *after.first_points())] == first
    assert after.as_dict() == folder.read_config()
    fresh = SweepConfig(VALUES)
    assert fresh.trial(HEADS).compression.num_batches == 64  # type: ignore[attr-defined]
    # What the YAML or a point says itself is no default.
    said = SweepConfig(before.as_dict() | {"compression": {"name": "magnitude", "ramp": 0.7}})
    assert said.trial({}).compression.settled() == 0.7


def test_a_key_that_came_later_is_what_was_done_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder.create(tmp_path, "launched", "x")
    sweep = SweepConfig(VALUES)
    folder.write_config(sweep.as_dict())
    trained = sweep.trial(HEADS).as_dict()
    later(monkeypatch, "heads", order="by_layer")
    monkeypatch.setitem(FORMER, "compression.heads", {"normalisation": "none", "order": "all"})
    after = changed(folder, []).trial(HEADS)
    assert after.as_dict()["compression"]["order"] == "all"
    assert after.as_dict()["compression"]["normalisation"] == "layer", "as it was launched with"
    assert after.fingerprint() == current_fingerprint(trained)
    assert SweepConfig(VALUES).trial(HEADS).as_dict()["compression"]["order"] == "by_layer"


def test_a_sweep_of_the_first_version_goes_on_as_it_began(old: StoredSweep) -> None:
    sweep = changed(old.folder, [])
    assert sweep.trial(HEADS).as_dict()["compression"]["normalisation"] == "none"
    assert "normalisation" not in old.records[2].config["compression"]
    assert sweep.trial(HEADS).fingerprint() == current_fingerprint(old.records[2].config)
    driver = Assignments(sweep, old.folder, random.proposals(sweep, None), 2)
    given = []
    while (each := driver.next()) is not None:
        given.append(each.config.fingerprint())
    assert current_fingerprint(old.records[2].config) not in given, "it is not trained again"


@pytest.mark.parametrize("said", ["base", "space", "points"])
def test_a_default_that_became_another_is_what_it_was_in_a_sweep_of_before(said: str) -> None:
    values: dict[str, Any] = {
        "base": {"loss": {"name": "poe"}},
        "space": {"space": VALUES["space"] | {"loss.name": {"choice": ["vanilla", "poe"]}}},
        "points": {"search": VALUES["search"] | {"points": [{"loss.name": "poe"}]}},
    }[said]
    written = {k: v for k, v in SweepConfig(VALUES | values).as_dict().items() if k != "defaults"}
    before = SweepConfig(recorded_defaults(written, []))
    point = {"loss.name": "poe"}
    assert before.trial(point).as_dict()["loss"]["lambda"] == 0.5
    assert before.trial(point | {"loss.lambda": 0.7}).as_dict()["loss"]["lambda"] == 0.7
    assert SweepConfig(before.as_dict()).trial(point) == before.trial(point)
    assert SweepConfig(VALUES | values).trial(point).as_dict()["loss"]["lambda"] == 0.9


def test_an_unfinished_trial_of_before_goes_on_as_it_was_begun(old: StoredSweep) -> None:
    config = without_later(
        SweepConfig(VALUES).trial({**HEADS, "compression.remove": 0.2}).as_dict()
    )
    record = record_of("t0003", config).model_copy(update={"status": "running"})
    old.folder.trial("t0003").commit(record)
    sweep = changed(old.folder, [])
    given = Assignments(sweep, old.folder, random.proposals(sweep, None), 2).next()
    assert given is not None and given.trial_id == "t0003"
    assert given.config.as_dict()["compression"]["normalisation"] == "none"


def test_a_sweep_of_the_first_version_is_confirmed(old: StoredSweep) -> None:
    config = confirmation(old, seeds=2)
    check_confirmed(config, old.folder.storage)
    folder = SweepFolder.create(old.folder.storage, "old.confirm", "x")
    folder.write_config(config.as_dict())
    raced = race.proposals(config, folder.study)
    assert raced.choose([*config.first_trials()]) is not None
    heads = {i: t for i, t in ((i, config.trial(p)) for i, p in config.first_trials().items())
             if t.compression.name == "heads"}  # fmt: skip
    assert {t.as_dict()["compression"]["normalisation"] for t in heads.values()} == {"none"}
    for trial_id, trial in heads.items():
        folder.trial(trial_id).commit(record_of(trial_id, trial.as_dict()))
    found = confirmed(StoredSweep(old.folder))
    assert found is not None
    assert [row.seeds for row in found.rows if row.id == "t0002"] == [2]


def test_rows_that_were_not_searched_are_told_before_anything_starts(old: StoredSweep) -> None:
    config = confirmation(old, seeds=2)
    points = [p | {"compression.normalisation": "layer"} if p["compression.name"] == "heads" else p
              for p in config.settings.search.points]  # fmt: skip
    other = SweepConfig(config.as_dict() | {"search": {"name": "race", "points": points}})
    told = (
        r"finished trial of old, but these are none: t0005, t0006 \(nearest to t0005: "
        r"compression\.normalisation 'none' there, 'layer' here\).*remove old\.confirm"
    )
    with pytest.raises(StorageError, match=told):
        check_confirmed(other, old.folder.storage)


def test_good_trials_of_another_version_are_adopted(old: StoredSweep, tmp_path: Path) -> None:
    there = TrialFolder(tmp_path / "out" / "trials" / "t0001")
    there.commit(old.records[2].model_copy(update={"id": "t0001"}))
    launched = SweepFolder.create(tmp_path, "new", "x")
    launched.write_config(SweepConfig(VALUES).as_dict())
    adopted = adopt_trials(StoredSweep(launched), tmp_path / "out")
    assert len(adopted.trials) == 1
    (record,) = launched.records()
    assert record.config["compression"]["normalisation"] == "none", "as it was trained"
    assert record.fingerprint == fingerprint(record.config)
    assert adopt_trials(old, tmp_path / "out").trials == [], "it is here already"
    changed_by_hand = old.records[2].config | {"model": "tiny:roberta"}
    there.commit(old.records[2].model_copy(update={"id": "t0001", "config": changed_by_hand}))
    with pytest.raises(StorageError, match="the record was changed"):
        adopt_trials(StoredSweep(launched), tmp_path / "out")


def test_a_warm_start_knows_what_was_trained_as_it_would_be_here(old: StoredSweep) -> None:
    search = {"name": "random", "trials": 6, "warm_start": ["old"]}
    layer = SweepConfig(VALUES | {"search": search})
    found, _ = known_trials(layer, old.folder.storage)
    assert [known.source for known in found] == ["old/t0001"]
    none = VALUES["compression"] | {"normalisation": "none"}
    as_before = SweepConfig(VALUES | {"search": search, "compression": none})
    found, _ = known_trials(as_before, old.folder.storage)
    assert [known.source for known in found] == ["old/t0001", "old/t0002"]


def test_what_is_recorded_by_this_version_is_left_as_it_is() -> None:
    values = SweepConfig(VALUES).trial(HEADS).as_dict()
    assert current_fingerprint(values) == fingerprint(values)
    assert decode_recorded(values).as_dict() == values
