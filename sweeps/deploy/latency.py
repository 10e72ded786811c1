"""Times a sweep's models beside the dense reference, after the sweep has ended.

The form that `rc-sweep export` writes is timed, as it gets deployed. If the trial's own model/ has
other shapes (removed heads are missing there, but zeros in the export), both are timed. Records are
not changed; see sweeps/selection/measured.py for what is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from rich.table import Table
from rich.text import Text
from torch import nn

from rc_core.atomic import write_json
from rc_core.config import decode
from rc_core.errors import InputError, Problem, StorageError, did_you_mean
from rc_core.metrics.latency import (
    MILLISECONDS,
    RELATIVE,
    SAMPLES_PER_SECOND,
    intervals,
    latency,
    time_models,
)
from rc_core.model_facts import model_facts
from rc_core.models import load_model
from rc_core.record import TrialRecord
from rc_core.workspace import Workspace
from sweeps.commands import command
from sweeps.deploy.export import stock_form, stock_note
from sweeps.folder import check_weights
from sweeps.rows import size_note
from sweeps.sections import check_list
from sweeps.selection.confirmed import confirmed
from sweeps.selection.mean_rows import candidates, front
from sweeps.selection.measured import SCHEMA_VERSION, conditions_text, read_latency, wide_notes
from sweeps.shown_values import millions
from sweeps.stored_sweep import StoredSweep
from sweeps.tables import render

# Models in memory at once besides the reference (one more if the last has two forms); each group is
# timed together with the reference.
GROUP = 8
EXPORTED, OWN = "exported", "own"
Key = tuple[str, str]


def measure_latency(
    sweep: StoredSweep,
    *,
    batch: int = 1,
    length: int = 64,
    rounds: int = 30,
    threads: int = 1,
    trials: Sequence[str] = (),
    every: bool = False,
    device: str | None = None,
) -> dict[str, Any]:
    """Time models beside the dense reference, write latency.json and return what it holds.

    Earlier measurements under the same conditions are kept, all others dropped.

    Args:
        sweep: that has ended.
        batch: samples per batch.
        length: tokens per sample.
        rounds: timed calls of each model.
        threads: of torch.
        trials: ids; by default those that may be chosen, and the confirmed ones.
        every: whether to time all finished trials.
        device: torch's name for it; by default the first GPU, else the CPU.

    Raises:
        StorageError: the sweep or its confirmation is running, the reference or a trial has no
            model, or the sweep's folder cannot be written.
        InputError: more tokens than an encoder has positions, a number below 1, no such trial, or
            no such device.
    """
    check_list("trials", trials, "t0001")
    numbers = {"batch": batch, "length": length, "rounds": rounds, "threads": threads}
    low = [name for name, number in numbers.items() if number < 1]
    if low:
        raise InputError(
            Problem(f"--{name}", f"must be at least 1, but is {numbers[name]}") for name in low
        )
    records = _chosen(sweep, trials, every)
    for record in records:
        most = model_facts(str(sweep.folder.trial(record.id).model)).max_positions
        if length > most:
            raise InputError(
                Problem("--length", f"must be at most {most} for {record.id}, but is {length}")
            )
    sweep.folder.check_writable()
    workspace = Workspace(sweep.folder.artifacts, device=_device(device))
    conditions = {
        "batch": batch,
        "length": length,
        "rounds": rounds,
        "threads": threads,
        "device": workspace.device.type,
        "processor": workspace.processor,
        "torch": torch.__version__,
    }
    before = read_latency(sweep.folder)
    kept = before["trials"] if before is not None and before["conditions"] == conditions else {}
    reference, others = records[0], records[1:]
    base = stock_form(decode(reference.config), load_model(sweep.folder.trial(reference.id).model))
    when = time.time()
    forms: dict[Key, dict[str, Any]] = {}
    total: list[float] = []
    for group in _groups(sweep, others):
        seconds = time_models(
            {"dense": base, **{f"{trial} {form}": m for (trial, form), m in group.items()}},
            batch=batch,
            length=length,
            rounds=rounds,
            threads=threads,
            device=workspace.device,
        )
        beside = seconds["dense"]
        total += beside
        for (trial, form), model in group.items():
            forms[trial, form] = _entry(seconds[f"{trial} {form}"], beside, batch, model)
    forms[reference.id, EXPORTED] = _entry(total, total, batch, base)
    found = {
        trial: entry
        | {"when": when}
        | ({"own_form": forms[trial, OWN]} if (trial, OWN) in forms else {})
        for (trial, form), entry in forms.items()
        if form == EXPORTED
    }
    document = {
        "schema_version": SCHEMA_VERSION,
        "conditions": conditions,
        "trials": dict(sorted({**kept, **found}.items())),
    }
    write_json(sweep.folder.latency, document)
    return document


def latency_table(sweep: StoredSweep, document: dict[str, Any]) -> str:
    """Return the measurements as text, the fastest first."""
    table = Table(title="latency, measured side by side", title_justify="left")
    for title in ("id", "name"):
        table.add_column(title, no_wrap=title != "name")
    for title in ("ms", "relative to dense", "samples / s", "parameters", "non-zero"):
        table.add_column(title, justify="right", no_wrap=True)
    known = {record.id: record for record in sweep.records}
    sized = {row.id: row for row in sweep.rows}
    entries = {i: entry for i, entry in document["trials"].items() if i in known}
    for trial in sorted(entries, key=lambda i: float(entries[i]["metrics"][RELATIVE])):
        record, entry = known[trial], entries[trial]
        nonzero = millions(sized[trial].size)
        # As Text, so that brackets in a name are not read as markup.
        name = Text(f"{record.name} (dense reference)" if record.reference else record.name)
        table.add_row(trial, name, *_cells(entry, dense=record.reference), nonzero)
        if "own_form" in entry:
            own = Text("  its own model/, not exported")
            table.add_row("", own, *_cells(entry["own_form"]), nonzero, style="dim")
    notes = [
        f"{conditions_text(document['conditions'])}; in parentheses: 95 % intervals over rounds.",
        "The form that rc-sweep export writes is timed; --where refers to it.",
        "Zeros are computed like other numbers: masks alone save no time here.",
        *size_note(sized[trial] for trial in entries),
        *wide_notes(entries),
    ]
    # A note may depend on settings, such as the number of bits.
    stock = {
        (record.config["compression"]["name"], stock_note(decode(record.config)))
        for record in map(known.__getitem__, entries)
    }
    notes += [f"As exported, {name}: {note}" for name, note in sorted(stock) if note]
    table.caption, table.caption_justify = Text("\n".join(notes)), "left"
    return render(table)


def _cells(entry: Mapping[str, Any], *, dense: bool = False) -> list[str]:
    """Return the cells of one form: time, ratio, speed and size."""
    metrics, ends = entry["metrics"], entry["intervals"][RELATIVE]
    around = "few rounds" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
    return [
        f"{metrics[MILLISECONDS]:.2f}",
        "1" if dense else f"{metrics[RELATIVE]:.2f} ({around})",
        f"{metrics[SAMPLES_PER_SECOND]:.0f}",
        millions(entry["parameters"]),
    ]


def _groups(sweep: StoredSweep, records: Sequence[TrialRecord]) -> Iterator[dict[Key, nn.Module]]:
    """Yield the models to time in groups; without trials, one empty group."""
    group: dict[Key, nn.Module] = {}
    for number, record in enumerate(records):
        group |= _forms(sweep, record)
        if len(group) >= GROUP and number < len(records) - 1:
            yield group
            # A new dict: the caller may still hold the old one.
            group = {}
    yield group


def _forms(sweep: StoredSweep, record: TrialRecord) -> dict[Key, nn.Module]:
    """Return a trial's model as exported, and its own model if that has other shapes."""
    folder = sweep.folder.trial(record.id).model
    own = load_model(folder)
    before = _shapes(own)
    stock = stock_form(decode(record.config), own)
    found = {(record.id, EXPORTED): stock}
    return found if _shapes(stock) == before else {**found, (record.id, OWN): load_model(folder)}


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in model.named_parameters()}


def _chosen(sweep: StoredSweep, trials: Sequence[str], every: bool) -> list[TrialRecord]:
    """Return the records to time, the dense reference first. Raises StorageError, InputError."""
    for each in (sweep, sweep.confirmation):
        if each is not None and each.folder.is_running():
            raise StorageError(
                f"sweep {each.name} is running, which would distort the times; measure when it has "
                "ended"
            )
    finished = {record.id: record for record in sweep.records if record.status == "finished"}
    if not finished:
        raise StorageError(f"sweep {sweep.name} has no finished trial to time")
    reference = next((record for record in finished.values() if record.reference), None)
    if reference is None:
        raise StorageError(
            "latencies are compared with the dense reference, which has not finished; go on with: "
            f"{command(sweep.folder, 'resume')}"
        )
    unknown = [
        Problem("--trial", f"no finished trial '{i}': {did_you_mean(i, list(finished))}")
        for i in trials
        if i not in finished
    ]
    if unknown:
        raise InputError(unknown)
    if every:
        wanted = list(finished)
    elif trials:
        wanted = list(trials)
    else:
        found = confirmed(sweep)
        if found is not None and found.own:
            # The front of single seeds would favour lucky ones.
            wanted = [row.id for row in found.rows if row.confirmed]
        else:
            seeded = [row.id for row in found.rows] if found is not None else []
            wanted = [*(r.id for r in [*front(sweep), *candidates(sweep)]), *seeded]
    chosen = [reference, *(finished[i] for i in dict.fromkeys(wanted) if i != reference.id)]
    check_weights({record.id: sweep.folder.trial(record.id) for record in chosen}, "timed")
    return chosen


def _device(name: str | None) -> str | None:
    if name is None:
        return None
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = False
    with suppress(RuntimeError):
        device = torch.device(name)
        known = (device.index or 0) < {"cpu": 1, "cuda": gpus}.get(device.type, 0)
    if not known:
        raise InputError(
            Problem("--device", f"must be cpu, or cuda where there is a GPU, but is {name}")
        )
    return name


def _entry(
    seconds: Sequence[float], reference: Sequence[float], batch: int, model: nn.Module
) -> dict[str, Any]:
    return {
        "metrics": latency(seconds, reference, batch),
        "intervals": intervals(seconds, reference, batch),
        "parameters": sum(each.numel() for each in model.parameters()),
    }
