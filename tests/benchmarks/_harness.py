"""What the benchmarks share: two sides measured in turn, ratios with their spread, the machine.

Times differ between machines, and on one machine between hours; ratios of two things measured in
turn in one run differ little. So that is what is written down. Where one process does all the work
on one thread, its processor time is measured as well: others on the machine hardly change it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def options(description: str | None, **defaults: Any) -> argparse.Namespace:
    """Read the command line: --repeats, --append and one option for each default.

    Args:
        description: the module's docstring; its first line is shown.
        defaults: option -> default, whose type the option takes; True or False make a flag.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each side")
    parser.add_argument(
        "--append",
        type=Path,
        help="JSON Lines file that measurements are added to; the table is of all that it holds",
    )
    for name, default in defaults.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(flag, type=type(default), default=default)
    return parser.parse_args()


@dataclass
class Figures:
    """Measurements of one benchmark, row by row.

    Attributes:
        file: keeps them from one run of the benchmark to the next, if given.
        rows: row -> side -> values, in the order measured.
    """

    file: Path | None = None
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.is_file():
            for line in self.file.read_text().splitlines():
                entry = json.loads(line)
                self._take(entry["row"], entry["values"])

    def add(self, row: str, **values: float) -> None:
        """Take in one measurement of each side of a row."""
        self._take(row, values)
        if self.file is not None:
            with self.file.open("a") as stream:
                stream.write(json.dumps({"row": row, "values": values}) + "\n")

    def _take(self, row: str, values: Mapping[str, float]) -> None:
        for side, value in values.items():
            self.rows.setdefault(row, {}).setdefault(side, []).append(value)

    def ratios(self, row: str, above: str, below: str) -> list[float]:
        """Return above / below, measurement by measurement."""
        sides = self.rows[row]
        return [a / b for a, b in zip(sides[above], sides[below], strict=True)]

    def table(self, above: str, below: str, unit: str, *, digits: int = 2) -> str:
        """Return a Markdown table of both sides' medians and their ratio with its spread."""
        lines = [
            f"| | {above}, {unit} | {below}, {unit} | {above} / {below}: median (min to max) | n |",
            "|---|---|---|---|---|",
        ]
        for row, sides in self.rows.items():
            if above in sides and below in sides:
                found = self.ratios(row, above, below)
                lines.append(
                    f"| {row} | {statistics.median(sides[above]):.{digits}f} "
                    f"| {statistics.median(sides[below]):.{digits}f} | {spread(found)} "
                    f"| {len(found)} |"
                )
        return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return `median (smallest to largest)`."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


@dataclass(frozen=True)
class Measured:
    """One run of one side.

    Attributes:
        seconds: on the clock.
        cpu: processor seconds of this process, all threads together.
        result: what it returned.
    """

    seconds: float
    cpu: float
    result: Any


def alternate(
    sides: Mapping[str, Callable[[int], Any]], repeats: int
) -> Iterator[dict[str, Measured]]:
    """Run every side once per repetition, in an order that turns, and time each.

    Args:
        sides: name -> what is run, given the number of the repetition.
        repeats: how often.

    Yields:
        Per repetition what each side measured.
    """
    names = list(sides)
    for repetition in range(repeats):
        turn = repetition % len(names)
        measured: dict[str, Measured] = {}
        for name in names[turn:] + names[:turn]:
            started, cpu = time.perf_counter(), time.process_time()
            result = sides[name](repetition)
            seconds = time.perf_counter() - started
            measured[name] = Measured(seconds, time.process_time() - cpu, result)
            print(
                f"{repetition + 1}/{repeats} {name}: {seconds:.1f} s", file=sys.stderr, flush=True
            )
        yield measured


def matmul_peak(threads: int, *, size: int = 1024, repeats: int = 12) -> float:
    """Return the float32 matrix products this machine does at its best, in FLOP/s.

    Of processor time, so that others on the machine do not lower it.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        left, right = torch.randn(size, size), torch.randn(size, size)
        times = []
        for _ in range(repeats + 2):
            started = time.process_time()
            torch.mm(left, right)
            times.append((time.process_time() - started) / threads)
    finally:
        torch.set_num_threads(before)
    return float(2 * size**3 / min(times[2:]))


def line_fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Return intercept, slope and R^2 of the least-squares line."""
    fit = statistics.linear_regression(x, y)
    total = sum((value - statistics.fmean(y)) ** 2 for value in y)
    left = sum((b - fit.intercept - fit.slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return fit.intercept, fit.slope, 1 - left / total if total else 1.0


def machine() -> str:
    """Return date, processor and versions, for the head of a result."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":")[1].strip()
                break
    found = []
    for package in ("torch", "transformers", "ray", "optuna", "mlflow"):
        # What needs rc_core alone runs on machines that have no more.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{datetime.date.today()}; {os.cpu_count()} cores of {name} "
        f"({torch.backends.cpu.get_cpu_capability()}){gpu}; Python {platform.python_version()}, "
        f"{', '.join(found)}"
    )


def say(title: str | None, *parts: str) -> None:
    """Print a result as Markdown."""
    heading = (title or "").splitlines()[0]
    print("\n\n".join([f"### {heading}", machine(), *parts]), flush=True)
