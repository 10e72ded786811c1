"""How far a sweep is, of files alone: after a confirmation."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc_core.errors import StorageError, TrialError
from sweeps.api import Sweep
from sweeps.failure import HEALTH_GATE, keep_failure
from sweeps.names import check_free
from sweeps.views.status import status_document, status_text
from tests.sweeps.reporting._made import confirm_made, made_sweep


def test_status_of_a_confirmed_search_says_where_its_means_are(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=8)
    assert "confirmation" not in status_text(sweep)
    confirm_made(sweep)
    assert "what new seeds leave of it: rc-sweep pareto made" in status_text(sweep)
    assert status_document(sweep)["confirmed"]


def test_status_of_a_confirmation_has_no_front_of_single_seeds(tmp_path: Path) -> None:
    confirm_made(made_sweep(tmp_path, trials=8))
    found = Sweep.load("made.confirm", storage=tmp_path)
    assert status_document(found)["front"] == []
    text = status_text(found)
    assert "holds the new seeds of made; what they show: rc-sweep pareto made" in text
    assert "front:" not in text and "sealed" not in text


@pytest.mark.parametrize(
    ("test", "told"), [({"ood.x": "12ab"}, "test roles sealed"), ({}, "no test roles")]
)
def test_a_task_without_a_test_is_not_called_sealed(
    tmp_path: Path, test: dict[str, str], told: str
) -> None:
    sweep = made_sweep(tmp_path, trials=3)
    for record in sweep.records:
        data = {"data": record.data | {"sealed": test}}
        sweep.folder.trial(record.id).commit(record.model_copy(update=data))
    assert told in status_text(sweep)


def test_what_a_health_gate_asks_for_is_no_resume(tmp_path: Path) -> None:
    """A resume changes neither training nor data: with these it would stop there again."""
    sweep = made_sweep(tmp_path, trials=1)
    with sweep.folder.driving() as attempt:
        pass
    keep_failure(sweep.path, attempt, TrialError(f"{HEALTH_GATE}it did not learn"))
    text = status_text(sweep)
    assert "launch a corrected one under another name; to go on with this one: " in text
    assert "rc-sweep resume made --set health_gate=warn" in text and "mended" not in text
    told = (
        r"was stopped: health gate: it did not learn\. For a corrected one, choose another --name"
    )
    with pytest.raises(StorageError, match=told):
        check_free(tmp_path, "made")
    keep_failure(sweep.path, attempt, StorageError("the disk is full"))
    assert "once that is fixed, go on with: rc-sweep resume made" in status_text(sweep)
