"""Taking in trial folders that `python -m rc_core.trial` made elsewhere, say on a GPU machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rc_core import plugins
from rc_core.config import decode
from rc_core.errors import ConfigError, Problem, StorageError
from rc_core.record import TrialFolder, TrialRecord, read_records
from sweeps.config import SweepConfig
from sweeps.engine.assignments import REFERENCE_ID
from sweeps.sweep import Sweep

# What must be equal for two trials to be compared at all.
_COMPARED = ("model", "task")


def adopt_trials(sweep: Sweep, source: Path) -> list[tuple[str, str]]:
    """Copy finished trials into a sweep under ids of its own.

    Trials that the sweep has already (same fingerprint) are passed over. A reference takes the
    sweep's t0000 where it has none.

    Args:
        sweep: the sweep; not running.
        source: a folder with `trials/<id>/record.json`.

    Returns:
        (id there, id here) of each adopted trial.

    Raises:
        StorageError: no finished trial there; a record's fingerprint is not that of its
            configuration; another model, task, data or reference; the sweep is running.
    """
    folder = sweep.folder
    records = [r for r in read_records(source / "trials") if r.status == "finished"]
    if not records:
        raise StorageError(
            f"{source} must hold finished trials (trials/<id>/record.json), but has none"
        )
    with folder.driving() as attempt:
        existing = {record.fingerprint: record for record in sweep.records}
        problems = [p for record in records for p in _problems(record, sweep, records)]
        if problems:
            raise StorageError(problems)
        taken = _taken(sweep)
        number = max([int(i[1:]) for i in taken if i[1:].isdigit()], default=0)
        adopted = []
        for record in records:
            if record.fingerprint in existing:
                continue
            if record.reference and REFERENCE_ID not in taken:
                new = REFERENCE_ID
            else:
                number += 1
                new = f"t{number:04d}"
            taken.add(new)
            _copy(
                TrialFolder(source / "trials" / record.id), folder.trial(new), record, new, attempt
            )
            adopted.append((record.id, new))
    return adopted


def _taken(sweep: Sweep) -> set[str]:
    """Return the ids of the trials that the sweep has, has handed out, or will begin with."""
    config, study = SweepConfig(sweep.config), sweep.folder.study
    taken = {record.id for record in sweep.records} | set(config.first_trials())
    if study.is_file():
        search = plugins.load("sweeps.search", config.settings.search.name)
        taken |= set(search.proposals(config, study).unfinished())
    return taken


def _problems(record: TrialRecord, sweep: Sweep, records: list[TrialRecord]) -> list[Problem]:
    where = f"{record.id}"
    try:
        config = decode(record.config)
    except ConfigError as error:
        return [Problem(f"{where}.{p.where}", p.message) for p in error.problems]
    if config.fingerprint() != record.fingerprint:
        return [
            Problem(
                where,
                f"fingerprint must be that of its configuration, {config.fingerprint()}, but is "
                f"{record.fingerprint}; the record was changed",
            )
        ]
    base = SweepConfig(sweep.config).reference().as_dict()
    found = [
        Problem(
            f"{where}.{key}", f"must be the sweep's {base[key]!r}, but is {record.config[key]!r}"
        )
        for key in _COMPARED
        if _without_place(record.config[key]) != _without_place(base[key])
    ]
    if config.reference().as_dict()["training"] != base["training"]:
        found.append(
            Problem(where, "must be compared with the sweep's dense reference, but is not")
        )
    mine = next((r.data.get("digest") for r in [*sweep.records, *records] if r.data), None)
    if not found and record.data.get("digest") != mine:
        found.append(
            Problem(
                where, f"must have the sweep's data ({mine}), but has {record.data.get('digest')}"
            )
        )
    return found


def _without_place(section: Any) -> Any:
    """Leave out where the files lie, which differs between machines; the data's digest decides."""
    if isinstance(section, Mapping):
        return {key: value for key, value in section.items() if key != "data_dir"}
    return section


def _copy(
    old: TrialFolder, new: TrialFolder, record: TrialRecord, trial_id: str, attempt: int
) -> None:
    for part in ("model", "predictions"):
        if (old.path / part).is_dir():
            shutil.copytree(old.path / part, new.path / part, dirs_exist_ok=True)
    # Last: only a trial with a record counts.
    new.commit(record.model_copy(update={"id": trial_id, "attempt": attempt}))
