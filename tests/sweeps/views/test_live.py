"""The live view is a picture: what stands where, at the widths of real terminals."""

from __future__ import annotations

import fcntl
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from sweeps.folder import SweepFolder
from sweeps.shown_values import clock
from sweeps.stored_sweep import StoredSweep
from sweeps.views.live import RunningTrial, Snapshot, scatter, view
from sweeps.views.watch import Watcher, shown_rung, watch
from tests.sweeps._made_sweep import make_sweep

OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}


def drawn(content: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    storage = tmp_path_factory.mktemp("live")
    return make_sweep(storage, "demo", trials=40, running=3, track=False, status="running")


@pytest.fixture
def driven(folder: SweepFolder) -> Iterator[SweepFolder]:
    """Hold the lock as a driver elsewhere would."""
    with (folder.path / ".lock").open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield folder


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 50), (120, 30), (200, 60)])
def test_the_view_fits_and_says_what_is_going_on(
    driven: SweepFolder, width: int, height: int
) -> None:
    lines = drawn(view(Watcher(StoredSweep(driven)).snapshot(), width, height), width)
    assert max(map(len, lines)) <= width and len(lines) <= height
    text = "\n".join(lines)
    assert "demo: 37 of 40 trials" in text and "left" in lines[0]
    assert "2 failed, 32 finished, 3 running, 3 stopped" in text
    for trial in ("t0037", "t0038", "t0039"):
        (line,) = [line for line in lines if line.startswith(trial)]
        assert "50%" in line and "/" in line, "progress and rung values"
    assert "* t0000 dense vanilla" in text
    assert "ood_dev (up) against id_dev (right)" in text and "D dense" in text
    assert "t0034 student-1 distil lambda=0.5: failed: loss is not finite" in text


@pytest.mark.parametrize(("width", "height"), [(60, 24), (40, 20)])
def test_a_narrow_terminal_leaves_out_what_counts_least(
    driven: SweepFolder, width: int, height: int
) -> None:
    snapshot = replace(Watcher(StoredSweep(driven)).snapshot(), cluster="2/2 CPU in use")
    lines = drawn(view(snapshot, width, height), width)
    assert max(map(len, lines)) <= width and len(lines) <= height
    # The cost goes first, then the time so far; what is left stays.
    assert "37 of 40 trials" in lines[0] and lines[0].endswith("left")
    assert ("so far" in lines[0]) == (width == 60)
    assert lines[2].startswith("2 failed, 32 finished") and not lines[3].startswith("CPU")
    for trial in ("t0037", "t0038", "t0039"):
        (line,) = [line for line in lines if line.startswith(trial)]
        assert "50%" in line and line.rstrip()[-1].isdigit(), "progress and rung values"
    # The picture needs lines that 20 do not leave.
    assert ("ood_dev (up) against id_dev (right)" in "\n".join(lines)) == (height == 24)


def test_names_have_room_beside_the_picture(driven: SweepFolder) -> None:
    snapshot = Watcher(StoredSweep(driven)).snapshot()
    name = "magnitude-35.4 rmc alpha=0.5"
    running = [replace(trial, name=name) for trial in snapshot.running]
    lines = drawn(view(replace(snapshot, running=running), 120, 40), 120)
    assert sum(name in line for line in lines) == len(running)
    assert max(map(len, lines)) <= 120 and len(lines) <= 40


def test_objectives_of_one_s_own_are_told_apart_in_narrow_columns(driven: SweepFolder) -> None:
    snapshot = Watcher(StoredSweep(driven)).snapshot()
    names = [f"{role}_dev/balanced_accuracy" for role in ("id", "ood")]
    rows = [
        replace(row, values=dict(zip(names, row.values.values(), strict=True)))
        for row in snapshot.rows
    ]
    own = replace(snapshot, rows=rows, objectives=dict.fromkeys(names, "max"))
    (titles,) = [line for line in drawn(view(own, 100, 50), 100) if "front so far" in line]
    assert titles.split()[-6:] == ["ID", "balanced", "%", "OOD", "balanced", "%"]


@pytest.mark.parametrize(
    ("objectives", "shown"),
    [
        (["id_dev/accuracy", "ood_dev/accuracy"], (0.9, 0.8)),
        (["id_dev/balanced_accuracy", "ood_dev/balanced_accuracy"], (0.7, 0.6)),
        (["id_dev/accuracy", "ood_dev/balanced_accuracy"], (0.9, 0.6)),
    ],
)
def test_of_a_rung_the_objectives_accuracies_are_shown(
    objectives: list[str], shown: tuple[float, float]
) -> None:
    rung = {"rung/id_dev/accuracy": 0.9, "rung/ood_dev/accuracy": 0.8}
    rung |= {"rung/id_dev/balanced_accuracy": 0.7, "rung/ood_dev/balanced_accuracy": 0.6}
    assert shown_rung(rung, objectives) == shown
    assert shown_rung({"rung/id_dev/accuracy": 0.9}, objectives) is None


def test_only_titles_are_bold(driven: SweepFolder) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(view(Watcher(StoredSweep(driven)).snapshot(), 80, 50))
    assert isinstance(console.file, io.StringIO)
    head = console.file.getvalue().splitlines()[0]
    assert head.startswith("\x1b[1mdemo: \x1b[0m37 of 40 trials")


def test_a_point_stands_where_its_values_are(folder: SweepFolder) -> None:
    """Reference: two corners and the middle, set by hand."""
    rows = StoredSweep(folder).rows[:3]
    values = [(0.5, 0.5), (0.9, 0.9), (0.7, 0.7)]
    placed = [
        replace(
            row,
            values=dict(zip(OBJECTIVES, each, strict=True)),
            rank=0 if each == (0.9, 0.9) else 1,
            candidate=False,
            reference=False,
        )
        for row, each in zip(rows, values, strict=True)
    ]
    lines = drawn(scatter(placed, OBJECTIVES, 46, 14), 60)
    field = [line[6:] for line in lines[1:11]]
    marks = {
        (x, y): mark for y, line in enumerate(field) for x, mark in enumerate(line) if mark in "*o"
    }
    assert sorted(marks.values()) == ["*", "o", "o"]
    (star,) = [at for at, mark in marks.items() if mark == "*"]
    others = sorted(at for at, mark in marks.items() if mark == "o")
    assert star[0] == max(x for x, _ in marks) and star[1] == min(y for _, y in marks)
    assert others[0][0] < others[1][0] and others[0][1] > others[1][1]
    assert abs(others[1][0] - (others[0][0] + star[0]) / 2) <= 1, "the middle is in the middle"


def test_time_and_cost_left_follow_from_what_trials_took() -> None:
    running = [RunningTrial("t0005", "a", 0.5, 3.0), RunningTrial("t0006", "b", 0.0, 1.0)]
    snapshot = Snapshot(
        sweep="s", total=10, counts={"finished": 4, "running": 2}, running=running, rows=[],
        objectives=OBJECTIVES, seconds=60.0, trial_seconds=20.0, unit=(2.0, "CPU"),
    )  # fmt: skip
    # Six trials are left, half of one is done: 5.5 x 20 s, two side by side.
    assert snapshot.work_left == pytest.approx(110) and snapshot.seconds_left == pytest.approx(55)
    head = drawn(view(snapshot, 80, 24), 80)[0]
    assert head == "s: 4 of 10 trials, 1:00 so far, about 0:55 left (4 CPU minutes)"
    last = replace(snapshot, total=6, trial_seconds=40.0, unit=(1.0, "CPU"))
    assert drawn(view(last, 80, 24), 80)[0].endswith("left (1 CPU minute)")
    assert replace(snapshot, trial_seconds=None).seconds_left is None
    assert (clock(59.9), clock(3661)) == ("0:59", "1:01:01")


def test_nothing_yet_is_no_error() -> None:
    empty = Snapshot("s", 5, {}, [], [], OBJECTIVES, 1.0, None, note="preparing")
    lines = drawn(view(empty, 80, 24), 80)
    assert "no trial yet" in lines[2] and lines[-1] == "preparing"


def test_watching_without_a_terminal_tells_each_end_once(folder: SweepFolder) -> None:
    console = Console(file=io.StringIO(), width=80)
    watch(StoredSweep(folder), console, interval=0.01)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert sum("t0003 magnitude" in line for line in lines) == 1
    assert sum("] t00" in line for line in lines) == 37
    assert "no driver is running it; go on with: rc-sweep resume demo --storage" in lines[-1]


def test_a_sweep_that_has_ended_is_not_to_be_resumed(tmp_path: Path) -> None:
    whole = make_sweep(tmp_path, "whole", trials=4, track=False)
    note = Watcher(StoredSweep(whole)).snapshot().note
    assert note == f"it has ended; see: rc-sweep pareto whole --storage {tmp_path}"


def test_watching_on_a_terminal_ends_with_the_driver(folder: SweepFolder) -> None:
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True)
    watch(StoredSweep(folder), console, interval=0.01)
    assert isinstance(console.file, io.StringIO)
    assert "37 of 40 trials" in console.file.getvalue()


def test_records_are_read_again_only_when_they_change(folder: SweepFolder) -> None:
    watcher = Watcher(StoredSweep(folder))
    watcher.snapshot()
    before = watcher._rows
    watcher.snapshot()
    assert watcher._rows is before
    record = folder.trial("t0003").read()
    assert record is not None
    folder.trial("t0003").commit(record.model_copy(update={"name": "renamed"}))
    assert any(row.name == "renamed" for row in watcher.snapshot().rows)
    folder.trial("t0003").commit(record)


def test_a_record_of_a_driver_that_died_is_unfinished_not_running(tmp_path: Path) -> None:
    dead = make_sweep(tmp_path, "dead", trials=4, running=1, track=False, status="running")
    snapshot = Watcher(StoredSweep(dead)).snapshot()
    assert snapshot.seconds is None and snapshot.running[0].seconds is None
    assert "resume dead" in snapshot.note
