"""Timing a sweep's models beside the dense reference, when nothing else of it runs.

Each trial's own small form is timed, as its folder holds it: removed heads are really missing.
Records are not changed; see sweeps/deploy/measured.py for what is written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from rc_core.atomic import write_json
from rc_core.config import decode
from rc_core.errors import InputError, Problem, StorageError, did_you_mean
from rc_core.metrics.latency import (
    MILLISECONDS,
    RELATIVE,
    SAMPLES_PER_SECOND,
    latency,
    quartiles,
    ratios,
    time_models,
)
from rc_core.model_facts import model_facts
from rc_core.models import load_model
from rc_core.record import TrialRecord
from rc_core.workspace import Workspace
from sweeps.deploy.export import stock_note
from sweeps.deploy.measured import SCHEMA_VERSION, conditions_text, read_latency
from sweeps.folder import check_weights
from sweeps.selection.confirmed import confirmed
from sweeps.selection.mean_rows import candidates, front
from sweeps.sweep import Sweep
from sweeps.views.commands import command
from sweeps.views.table import render

# Models in memory at once, the reference not counted; each group is timed beside it anew.
GROUP = 8


def measure_latency(
    sweep: Sweep,
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

    What was measured before under the same conditions stays; under others it is dropped.

    Args:
        sweep: that has ended.
        batch: text pairs at once.
        length: tokens of each.
        rounds: turns of each model.
        threads: of torch.
        trials: ids; by default what may be chosen, and the confirmed rows.
        every: all finished trials.
        device: as torch names it; by default the first GPU, else the CPU.

    Raises:
        StorageError: the sweep or its confirmation runs, the reference or a trial has no model.
        InputError: more tokens than an encoder has positions for, or no such device.
    """
    records = _chosen(sweep, trials, every)
    for record in records:
        most = model_facts(str(sweep.folder.trial(record.id).model)).max_positions
        if length > most:
            raise InputError(
                Problem("--length", f"must be at most {most} for {record.id}, but is {length}")
            )
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
    base = load_model(sweep.folder.trial(reference.id).model)
    when = time.time()
    found: dict[str, Any] = {}
    total: list[float] = []
    for start in range(0, max(len(others), 1), GROUP):
        group = others[start : start + GROUP]
        models = {r.id: load_model(sweep.folder.trial(r.id).model) for r in group}
        seconds = time_models(
            {reference.id: base, **models},
            batch=batch,
            length=length,
            rounds=rounds,
            threads=threads,
            device=workspace.device,
        )
        beside = seconds[reference.id]
        total += beside
        found |= {r.id: _entry(seconds[r.id], beside, batch, when) for r in group}
    found = {reference.id: _entry(total, total, batch, when), **found}
    document = {
        "schema_version": SCHEMA_VERSION,
        "conditions": conditions,
        "trials": dict(sorted({**kept, **found}.items())),
    }
    write_json(sweep.folder.latency, document)
    return document


def latency_table(sweep: Sweep, document: dict[str, Any]) -> str:
    """Return the measurements as text, the fastest first."""
    table = Table(title="latency, measured side by side", title_justify="left")
    for title in ("id", "name"):
        table.add_column(title, no_wrap=title != "name")
    for title in ("ms", "relative to dense", "pairs / s", "parameters M", "non-zero M"):
        table.add_column(title, justify="right", no_wrap=True)
    known = {record.id: record for record in sweep.records}
    entries = {i: entry for i, entry in document["trials"].items() if i in known}
    for trial in sorted(entries, key=lambda i: float(entries[i]["metrics"][RELATIVE])):
        record, metrics = known[trial], entries[trial]["metrics"]
        low, high = entries[trial]["quartiles"][RELATIVE]
        relative = f"{metrics[RELATIVE]:.2f} ({low:.2f} to {high:.2f})"
        table.add_row(
            trial,
            # As it is: brackets in a name are no markup.
            Text(f"{record.name} (dense reference)" if record.reference else record.name),
            f"{metrics[MILLISECONDS]:.2f}",
            "1" if record.reference else relative,
            f"{metrics[SAMPLES_PER_SECOND]:.0f}",
            *(
                f"{record.metric(f'footprint/{key}') / 1e6:.1f}"
                for key in ("parameters", "nonzero_parameters")
            ),
        )
    notes = [
        f"{conditions_text(document['conditions'])}; in brackets the quartiles over rounds.",
        "Zeros are computed like other numbers: masks alone save no time here.",
    ]
    stock = {
        record.config["compression"]["name"]: stock_note(decode(record.config))
        for record in map(known.__getitem__, entries)
    }
    notes += [f"As exported, {name}: {note}" for name, note in sorted(stock.items()) if note]
    table.caption, table.caption_justify = Text("\n".join(notes)), "left"
    return render(table)


def _chosen(sweep: Sweep, trials: Sequence[str], every: bool) -> list[TrialRecord]:
    """Return the records to time, the dense reference first. Raises StorageError, InputError."""
    for each in (sweep, sweep.confirmation):
        if each is not None and each.folder.is_running():
            raise StorageError(
                f"sweep {each.name} is running, which would slow down what is timed; measure when "
                "it has ended"
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
            # Fronts of single seeds would be fronts of lucky ones.
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
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            Problem("--device", f"must be cpu, or cuda where there is a GPU, but is {name}")
        )
    return name


def _entry(
    seconds: Sequence[float], reference: Sequence[float], batch: int, when: float
) -> dict[str, Any]:
    spread = {
        MILLISECONDS: quartiles([1000 * each for each in seconds]),
        RELATIVE: quartiles(ratios(seconds, reference)),
    }
    return {"metrics": latency(seconds, reference, batch), "quartiles": spread, "when": when}
