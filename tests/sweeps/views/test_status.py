"""How far a sweep is, of files alone: after a confirmation."""

from __future__ import annotations

from pathlib import Path

from sweeps.api import Sweep
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
