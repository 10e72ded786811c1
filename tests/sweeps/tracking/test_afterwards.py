"""A confirmation in tracking: means over new seeds, of the search's configurations."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from sweeps.api import Sweep
from sweeps.config import SweepConfig
from sweeps.selection.confirmed import confirmed
from sweeps.selection.mean_rows import mean_rows
from sweeps.tracking.afterwards import tell_confirmed, tell_unconfirmed
from sweeps.tracking.events import SweepEvents
from sweeps.tracking.mlflow_store import NOTE, default_uri
from sweeps.tracking.mlflow_writer import MlflowWriter
from sweeps.tracking.outbox import Outbox
from tests.sweeps._made_sweep import make_sweep
from tests.sweeps.reporting._made import confirm_made, made_sweep, write_record
from tests.sweeps.tracking.test_events import NoDrain


@pytest.fixture
def confirmation(tmp_path: Path) -> Sweep:
    """Return the new seeds of the sweep `made`."""
    sweep = made_sweep(tmp_path, trials=8)
    confirm_made(sweep)
    found = Sweep.load("made.confirm", storage=tmp_path)
    assert found.searched.name == "made" and found.searched.searched is not found
    return found


def events_of(sweep: Sweep, kind: str) -> list[dict[str, Any]]:
    return [dict(event) for event in Outbox(sweep.folder.outbox).events() if event["kind"] == kind]


def front_of_means(sweep: Sweep) -> tuple[set[str], list[str]]:
    """Return the configurations whose means are on the front, and the names of the compressed."""
    found = confirmed(sweep)
    assert found is not None and not found.own
    means = mean_rows(found, sweep.rows, sweep.objectives)
    return {row.id for row in means if row.on_front}, [r.name for r in means if r.candidate]


def test_a_confirmation_ends_with_means_and_without_models_of_its_seeds(
    confirmation: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    teacher = confirmation.searched.records[0]
    best = {**teacher.metrics, "id_dev/accuracy": 1.0, "ood_dev/accuracy": 1.0}
    write_record(confirmation.folder, teacher.model_copy(update={"metrics": best}))
    for record in confirmation.records:
        (confirmation.folder.trials / record.id / "model").mkdir()
    SweepEvents(SweepConfig(confirmation.config), confirmation.folder).sweep_ended("finished", 1.0)
    (ended,) = events_of(confirmation, "sweep_ended")
    front, compressed = front_of_means(confirmation.searched)
    assert "means over new seeds" in ended["summary"] and ended["models"] == []
    knee = ended["summary"].splitlines()[0]
    assert knee.startswith("Knee: **") and any(name in knee for name in compressed)
    found = confirmed(confirmation.searched)
    assert found is not None
    # The searched teacher, which every confirmation holds, is no new seed of anything.
    assert "t0000" not in ended["front"]
    seeds = {t.id for row in found.rows if row.id in front for t in row.trials.values()}
    assert set(ended["front"]) == seeds, "every seed of what is on the front of means"


def test_a_driver_that_goes_on_meanwhile_sends_what_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two senders would each make a run of a trial that has just begun."""
    sweep = Sweep(make_sweep(tmp_path, "made", trials=8))
    confirm_made(sweep)
    monkeypatch.setattr("sweeps.tracking.events.Drain", sender := Mock())
    with sweep.folder.driving():
        tell_confirmed(sweep)
    assert len(events_of(sweep, "confirmed")) == 1 and not sender.called
    tell_confirmed(sweep)
    assert sender.called


def test_mlflow_shows_the_searched_sweep_by_its_means(tmp_path: Path) -> None:
    sweep = Sweep(make_sweep(tmp_path, "made", trials=8))
    confirm_made(sweep)
    tell_confirmed(sweep)
    assert Outbox(sweep.folder.outbox).pending() == 0
    front, compressed = front_of_means(sweep)
    writer = MlflowWriter(default_uri(tmp_path), storage=tmp_path, sweep_id=_sweep_id(sweep))
    client = writer._client
    parent = client.get_run(writer._parent)
    assert "means over new seeds" in parent.data.tags[NOTE]
    assert any(name in parent.data.tags[NOTE] for name in compressed)
    tags = {i: client.get_run(run).data.tags for i, run in writer._children.items()}
    assert {i for i, each in tags.items() if each["pareto"] == "true"} == front
    left_out = set(tags) - {row.id for row in confirmed(sweep).rows}
    assert left_out and not any("rank" in tags[i] for i in left_out)

    confirmation = sweep.confirmation
    assert confirmation is not None
    shutil.rmtree(confirmation.path)
    tell_unconfirmed(sweep)
    note = client.get_run(writer._parent).data.tags[NOTE]
    assert "one seed each" in note and "means over new seeds" not in note
    tags = {i: client.get_run(run).data.tags for i, run in writer._children.items()}
    searched = {row.id: row.rank for row in sweep.rows if row.rank is not None}
    assert {i: int(each["rank"]) for i, each in tags.items() if "rank" in each} == searched


def _sweep_id(sweep: Sweep) -> str:
    return (sweep.path / "sweep_id").read_text().strip()


def test_what_cannot_be_told_stops_no_confirmation(
    confirmation: Sweep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = confirmation.searched
    Outbox(sweep.folder.outbox).append("sweep_started")
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    monkeypatch.setattr(NoDrain, "close", lambda self, patience, most: 3)
    tell_confirmed(sweep)
    assert "3 tracking events are kept in" in caplog.text
    (told,) = events_of(sweep, "confirmed")
    assert "means over new seeds" in told["summary"]

    def full(*arguments: Any, **payload: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Outbox, "append", full)
    tell_confirmed(sweep)
    assert "the means over new seeds could not be written" in caplog.text
