"""The live view's picture of a sweep, taken while the driver goes on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from sweeps.config import SweepConfig
from sweeps.remote.objects import UnreachableError
from sweeps.stored_sweep import StoredSweep
from sweeps.views.progress import Progress
from sweeps.views.watch import watch
from tests.sweeps._made_sweep import make_sweep
from tests.sweeps.test_config import RAW


class Changing(dict[str, Any]):
    """Another thread puts something in as soon as its items are asked for."""

    def items(self) -> Any:
        found = super().items()
        later = iter(found)

        def changed() -> Any:
            yield next(later)
            self["later"] = 1
            yield from later

        return changed()


def test_who_watches_reads_what_the_launch_said(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, "made", trials=9, track=False)
    shown = []
    for watched in (False, True):
        out = io.StringIO()
        console = Console(file=out, soft_wrap=True)
        if watched:
            watch(StoredSweep(folder), console)
        else:
            progress = Progress(console)
            progress.start(Mock(records={}, total=9), SweepConfig(folder.read_config()))
            for record in folder.records():
                progress.trial_ended(record)
        shown.append([line[9:] for line in out.getvalue().splitlines() if "/9] " in line])
    assert shown[0] == shown[1] and len(shown[0]) == 9
    first = folder.records()[0]
    assert shown[0][0] == (
        f"[1/9] t0000 {first.name}: id_dev/accuracy {100 * first.metric('id_dev/accuracy'):.1f}, "
        f"ood_dev/accuracy {100 * first.metric('ood_dev/accuracy'):.1f} (18 s)"
    )
    assert shown[0][7].startswith("[8/9] t0007 ") and shown[0][7].endswith(": stopped at 50 %")


def test_who_watches_goes_on_where_the_storage_does_not_answer_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = StoredSweep(make_sweep(tmp_path, "made", trials=3, track=False))
    # What is known here of the driver is too old meanwhile.
    running = Mock(side_effect=[True, False, False])
    asked = Mock(side_effect=[UnreachableError("busy"), None])
    monkeypatch.setattr(sweep.folder, "is_running", running)
    monkeypatch.setattr(sweep.folder, "refresh", asked)
    monkeypatch.setattr("sweeps.views.watch.has_ended", lambda *_: True)
    out = io.StringIO()
    watch(sweep, Console(file=out, soft_wrap=True), interval=0.0)
    assert asked.call_count == 2 and out.getvalue().count("it has ended") == 1


def test_a_trial_may_start_and_end_while_the_view_is_drawn() -> None:
    sweep = SweepConfig(RAW)
    progress = Progress(Console(file=io.StringIO()))
    progress.start(Mock(records={}, total=3), sweep)
    for trial_id in ("t0001", "t0002"):
        progress.trial_started(trial_id, sweep.reference().as_dict())
    progress._states = Changing({"finished": 1, "failed": 2})
    progress._running = Changing(progress._running)
    found = progress.snapshot()
    assert found.counts == {"finished": 1, "failed": 2, "running": 2}
    assert [trial.id for trial in found.running] == ["t0001", "t0002"]


def test_how_long_it_took_has_the_unit_of_the_clock() -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, width=200))
    progress.finished(725.0, 80.0)
    progress.finished(3_725.0, 600.0)
    assert "done in 12:05 min, 80 s of it preparation" in stream.getvalue()
    assert "done in 1:02:05 h, 10.0 min of it preparation" in stream.getvalue()
