"""Terminal view of a sweep: counts, running trials and the front as a plot in characters.

Drawn from a `Snapshot` made by the driver (progress.py) or by a reader of the sweep's files
(watch.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rc_core.labels import count_of
from sweeps.rows import Row
from sweeps.shown_values import clock, column_title, metric_number

_FRONT_SHOWN, _RUNNING_SHOWN, _FAILED_SHOWN = 5, 8, 2
_LABEL = 14
# Minimum columns for the plot to stand beside the lists, and for running trials to have bars.
_WIDE = 110
_BARS = 56
_MARKS = {  # kind of point -> its character and style; later kinds are drawn over earlier ones
    "dominated": ("o", "dim"),
    "front without dense": ("+", "cyan"),
    "front": ("*", "bold green"),
    "dense": ("D", "bold magenta"),
}


@dataclass(frozen=True)
class RunningTrial:
    """A trial that has not ended.

    Attributes:
        progress: share of its training done, in [0, 1].
        seconds: since it started; None if no driver is running it.
        rung: (ID, OOD) accuracy at its newest rung, in [0, 1]; None before the first.
    """

    id: str
    name: str
    progress: float
    seconds: float | None
    rung: tuple[float, float] | None = None


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
        total: number of trials the sweep will have.
        at_most: whether `total` is only an upper bound.
        counts: status -> number of trials.
        rows: one for each trial with a record (sweeps.rows.rows).
        seconds: since this driver began; None if no driver runs.
        trial_seconds: mean over ended trials except the reference; None before the first.
        unit: amount and name of the resource that one running trial holds: (1.0, "CPU").
        cluster: use of the machines, if known.
        note: text below the view.
    """

    sweep: str
    total: int
    counts: Mapping[str, int]
    running: Sequence[RunningTrial]
    rows: Sequence[Row]
    objectives: Mapping[str, str]
    seconds: float | None
    trial_seconds: float | None
    unit: tuple[float, str] = (1.0, "CPU")
    cluster: str | None = None
    note: str = ""
    at_most: bool = False

    @property
    def done(self) -> int:
        return sum(count for state, count in self.counts.items() if state != "running")

    @property
    def work_left(self) -> float | None:
        """Estimated seconds of work left on one trial's resources; None if it cannot be known."""
        if self.trial_seconds is None or self.at_most:
            return None
        begun = sum(trial.progress for trial in self.running)
        return max(self.total - self.done - begun, 0.0) * self.trial_seconds

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds left if as many trials keep running in parallel as now."""
        work = self.work_left
        return None if work is None else work / max(len(self.running), 1)


def view(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """Return the view for a terminal of `width` columns and `height` lines."""
    # The names in the lists need the room more than the plot does.
    picture_width = min(max(width - 74, 40), 64) if width >= _WIDE else min(width - 2, 72)
    room = width - picture_width - 6 if width >= _WIDE else width
    lists: list[RenderableType] = [_running(snapshot, room)] if snapshot.running else []
    front = _front(snapshot, room)
    if front is not None:
        lists.append(front)
    head, foot = _head(snapshot, width), _failures(snapshot)
    if snapshot.note:
        foot.append(Text(snapshot.note, style="dim", overflow="ellipsis", no_wrap=True))
    # The head has three lines.
    left = height - 3 - len(foot)
    if width >= _WIDE:
        # A terminal line is about twice as high as a character is wide.
        high = max(min(left - 1, picture_width // 2), 6)
        body = Table.grid(padding=(0, 3), expand=True)
        body.add_column(ratio=1)
        body.add_column(width=picture_width)
        picture = scatter(snapshot.rows, snapshot.objectives, picture_width, high)
        body.add_row(Group(*lists), picture)
        return Group(head, body, *foot)
    high = min(left - _lines(snapshot), picture_width // 3)
    picture = scatter(snapshot.rows, snapshot.objectives, picture_width, high)
    return Group(head, *lists, *([picture] if high >= 6 else []), *foot)


def _lines(snapshot: Snapshot) -> int:
    """Return how many lines the lists take, with their titles and `and N more` lines."""
    sizes = (
        (len(snapshot.running), _RUNNING_SHOWN),
        (sum(row.on_front or row.candidate for row in snapshot.rows), _FRONT_SHOWN),
    )
    return sum(min(size, shown + 1) + 1 for size, shown in sizes if size)


def scatter(
    rows: Sequence[Row], objectives: Mapping[str, str], width: int, height: int
) -> RenderableType:
    """Plot the first two objectives against each other, one character per trial.

    Args:
        width: columns available.
        height: lines available, axes and legend included; with fewer than 6 nothing is drawn.
    """
    names = list(objectives)[:2]
    points = [(row, [row.values[name] for name in names]) for row in rows if row.drawn]
    points = [(row, at) for row, at in points if all(map(math.isfinite, at))]
    if len(names) < 2 or len(points) < 2 or height < 6:
        return Text("")
    labels = [name.removesuffix("/accuracy") for name in names]
    limits = [_limits([at[i] for _, at in points]) for i in range(2)]
    ticks = [[metric_number(name, edge) for edge in limits[i]] for i, name in enumerate(names)]
    margin = max(map(len, ticks[1])) + 1
    columns, lines = width - margin - 2, height - 4
    grid: list[list[tuple[str, str]]] = [[(" ", "")] * columns for _ in range(lines)]
    order = list(_MARKS)
    for row, at in sorted(points, key=lambda each: order.index(_kind(each[0]))):
        column, line = (_cell(at[i], limits[i], (columns, lines)[i]) for i in range(2))
        grid[lines - 1 - line][column] = _MARKS[_kind(row)]
    text = Text(no_wrap=True)
    text.append(f"{labels[1]} (up) against {labels[0]} (right)\n", style="bold")
    for i, line_cells in enumerate(grid):
        tick = ticks[1][1] if i == 0 else ticks[1][0] if i == lines - 1 else ""
        text.append(f"{tick:>{margin - 1}} |", style="dim")
        for character, style in line_cells:
            text.append(character, style=style)
        text.append("\n")
    text.append(" " * margin + "+" + "-" * columns + "\n", style="dim")
    gap = columns - len(ticks[0][0]) - len(ticks[0][1]) + 1
    text.append(" " * margin + ticks[0][0] + " " * gap + ticks[0][1] + "\n", style="dim")
    present = {_kind(row) for row, _ in points}
    for kind in reversed(order):
        if kind in present:
            text.append(f"{_MARKS[kind][0]} ", style=_MARKS[kind][1])
            text.append(f"{kind}  ", style="dim")
    return text


def _head(snapshot: Snapshot, width: int) -> RenderableType:
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(f"{snapshot.sweep}: ", style="bold")
    title.append(_amounts(snapshot, width - len(snapshot.sweep) - 2))
    states = [f"{count} {state}" for state, count in sorted(snapshot.counts.items())]
    second = Text(
        ", ".join(states) or "no trial yet", style="dim", no_wrap=True, overflow="ellipsis"
    )
    if snapshot.cluster:
        second.append(f"   {snapshot.cluster}")
    bar = ProgressBar(
        # Without a known end the bar only shows activity.
        total=None if snapshot.at_most else max(snapshot.total, 1),
        completed=snapshot.done + sum(trial.progress for trial in snapshot.running),
        width=width,
    )
    # A bar by itself does not end its line.
    line = Table.grid()
    line.add_row(bar)
    return Group(title, line, second)


def _amounts(snapshot: Snapshot, room: int) -> str:
    """Return trials done, time taken, time and cost left: as much as fits in `room` columns."""
    most = "up to " if snapshot.at_most else ""
    done = f"{snapshot.done} of {most}{count_of(snapshot.total, 'trial')}"
    taken = f", {clock(snapshot.seconds)} so far" if snapshot.seconds is not None else ""
    work, left = snapshot.work_left, snapshot.seconds_left
    if not snapshot.running or work is None or left is None:
        return done + taken
    amount, unit = snapshot.unit
    cost = work * amount / 60
    spent = f"{cost / 60:.1f} {unit} hours"
    if cost < 120:
        spent = f"{cost:.0f} {unit} minute{'' if round(cost) == 1 else 's'}"
    rest = f", about {clock(left)} left"
    choices = (f"{done}{taken}{rest} ({spent})", done + taken + rest, done + rest)
    return next((text for text in choices if len(text) <= room), done)


def _running(snapshot: Snapshot, room: int) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    # A narrow terminal has no bars, only the percentages.
    bars = room >= _BARS
    others = (10, 4, 7, 8) if bars else (4, 7, 8)
    table.add_column(no_wrap=True, width=5)
    # Where a line is too long, only the name is shortened.
    wide = min(max(room - 5 - sum(others) - len(others) - 1, 8), 36)
    table.add_column(no_wrap=True, overflow="ellipsis", width=wide)
    for each in others:
        table.add_column(no_wrap=True, justify="right", width=each)
    shown = list(snapshot.running)[:_RUNNING_SHOWN]
    if any(trial.rung for trial in shown):
        gaps = [""] * (len(others) - 1)
        table.add_row("", Text("running", style="bold"), *gaps, Text("ID/OOD %", style="bold"))
    for trial in shown:
        rung = "/".join(f"{100 * share:.0f}" for share in trial.rung) if trial.rung else ""
        table.add_row(
            trial.id,
            Text(trial.name),
            *([ProgressBar(total=1.0, completed=trial.progress, width=10)] if bars else []),
            f"{100 * trial.progress:.0f}%",
            "" if trial.seconds is None else clock(trial.seconds),
            rung,
        )
    more = len(snapshot.running) - len(shown)
    return Group(table, Text(f"and {more} more", style="dim")) if more > 0 else table


def _front(snapshot: Snapshot, room: int) -> RenderableType | None:
    first, direction = next(iter(snapshot.objectives.items()))
    chosen = [row for row in snapshot.rows if row.on_front or row.candidate]
    if not chosen:
        return None
    chosen.sort(key=lambda row: row.values[first], reverse=direction == "max")
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    labels = [_label(name) for name in snapshot.objectives]
    widths = [max(len(label), 7) for label in labels]
    table.add_column("", no_wrap=True, width=1)
    table.add_column("", no_wrap=True, width=5)
    wide = min(max(room - 6 - sum(widths) - 3 - len(widths), 8), 36)
    table.add_column("front so far", no_wrap=True, overflow="ellipsis", width=wide)
    for label, each in zip(labels, widths, strict=True):
        table.add_column(label, justify="right", no_wrap=True, width=each)
    for row in chosen[:_FRONT_SHOWN]:
        values = [metric_number(name, row.values[name]) for name in snapshot.objectives]
        table.add_row("*" if row.on_front else "+", row.id, Text(row.name), *values)
    more = len(chosen) - _FRONT_SHOWN
    return Group(table, Text(f"and {more} more", style="dim")) if more > 0 else table


def _label(metric: str) -> str:
    """Return an objective's title for a narrow column."""
    known = column_title(metric)
    # The end of an unknown metric's name tells the most.
    return known if len(known) <= _LABEL else metric.removesuffix("/accuracy")[-_LABEL:]


def _failures(snapshot: Snapshot) -> list[RenderableType]:
    failed = [row for row in snapshot.rows if row.status == "failed"]
    return [
        Text(f"{row.id} {row.name}: {row.excluded}", style="red", no_wrap=True, overflow="ellipsis")
        for row in failed[-_FAILED_SHOWN:]
    ]


def _kind(row: Row) -> str:
    if row.reference:
        return "dense"
    return "front" if row.on_front else "front without dense" if row.candidate else "dominated"


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or max(abs(high), 1e-6) * 0.01
    return low - margin, high + margin


def _cell(value: float, limits: tuple[float, float], count: int) -> int:
    low, high = limits
    return min(max(round((value - low) / (high - low) * (count - 1)), 0), count - 1)
