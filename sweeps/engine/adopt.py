"""Adopting trial folders that `python -m rc_core.trial` made elsewhere, say on a GPU machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rc_core import plugins
from rc_core.config import (
    TrainingConfig,
    TrialConfig,
    current_fingerprint,
    decode_recorded,
    fingerprint,
    without_place,
)
from rc_core.errors import ConfigError, Problem, StorageError
from rc_core.former import completed
from rc_core.record import TrialFolder, TrialRecord, read_records
from sweeps.comparable import COMPARED, flat
from sweeps.config import SweepConfig
from sweeps.ending import ending_of, keep_ending
from sweeps.engine.listed import listed, why_not_listed
from sweeps.folder import REFERENCE_ID, SweepFolder
from sweeps.names import check_new
from sweeps.plugin_configs import recorded_defaults
from sweeps.remote.files import is_locked
from sweeps.remote.lease import check_free
from sweeps.selection.stamp import named
from sweeps.stored_sweep import StoredSweep

_PARTS = ("model", "predictions")
_SAME = "; give the same --config and --set as for rc-sweep trials"


@dataclass(frozen=True)
class Adopted:
    """What was adopted.

    Attributes:
        trials: (id there, id here) of each adopted trial.
        completed: ids here of existing trials that got their weights or test results now.
        missing: ids of the sweep's trials that have not ended here, as far as they are known.
        bare: ids here of adopted trials without weights.
    """

    trials: list[tuple[str, str]]
    completed: list[str]
    missing: list[str]
    bare: list[str]


def adopt_new(
    config: SweepConfig, name: str, storage: Path, source: Path
) -> tuple[StoredSweep, Adopted]:
    """Create a sweep's folder as a launch does, without running anything, and adopt trials.

    Args:
        config: the sweep's; encoders and data may be missing on this machine.
        name: the sweep's.
        storage: folder of all sweeps.
        source: as for `adopt_trials`.

    Raises:
        StorageError: the name is taken or invalid; as for `adopt_trials`. No folder is left then.
    """
    check_new(storage, name, confirms=config.settings.confirm.sweep)
    folder = SweepFolder.create(storage, name, name)
    try:
        folder.write_config(config.as_dict())
        if why_not_listed(config) is None:
            # So that a grid's points have the ids of a launch, in a resumed sweep too.
            listed(config, folder.study)
        sweep = StoredSweep(folder)
        return sweep, adopt_trials(sweep, source)
    except BaseException:
        shutil.rmtree(folder.path)
        raise


def adopt_trials(sweep: StoredSweep, source: Path) -> Adopted:
    """Copy finished trials into a sweep: under the id that a launch gives them, else a new one.

    Trials that the sweep has already (same fingerprint) are skipped, except that missing weights or
    predictions of the test roles are added. A trial that did not finish here (failed, stopped,
    interrupted) is replaced under its id; its record is kept beside the new one, as
    `trials/<id>/<status>-<n>.json`. The location of the data on the other machine is replaced by
    the sweep's.

    Args:
        sweep: a sweep that is not running.
        source: a folder with `trials/<id>/record.json`; `model/` may be missing.

    Raises:
        StorageError: no finished trial there; a record's fingerprint is not that of its
            configuration; another model, task or data; a reference that the sweep does not have;
            the sweep is running, here or on another machine.
    """
    folder = sweep.folder
    if folder.mirror is not None and not is_locked(folder.path):
        # Before a new attempt starts here, which would fence off another machine's workers.
        check_free(folder.mirror, folder.path)
    records = [r for r in read_records(source / "trials") if r.status == "finished"]
    if not records:
        raise StorageError(
            f"{source} must hold finished trials (trials/<id>/record.json), but has none"
        )
    ending = ending_of(folder.path)
    with folder.driving() as attempt:
        if ending is not None:
            # This attempt trains nothing, so the last driver's note on the end still holds. Written
            # first, so that it is there even if this attempt is killed.
            keep_ending(folder.path, attempt, ending)
        here = sweep.records
        values = recorded_defaults(sweep.config, (record.config for record in here))
        config = SweepConfig(values, elsewhere=True)
        coming = _coming(config, folder)
        problems = _all_problems(records, here, config, coming)
        if problems:
            raise StorageError(problems)
        # Of two trials with one fingerprint, the finished one counts.
        ordered = sorted(here, key=lambda record: record.status == "finished")
        existing = {current_fingerprint(record.config): record for record in ordered}
        own: dict[str, str] = {}
        for trial_id, trial in coming.items():
            own.setdefault(trial.fingerprint(), trial_id)
        taken = {record.id for record in here}
        number = max([int(i[1:]) for i in {*taken, *coming} if i[1:].isdigit()], default=0)
        adopted, completed = [], []
        for old in records:
            record = _moved(old, config)
            place = TrialFolder(source / "trials" / old.id)
            known = existing.get(record.fingerprint)
            if known is not None and known.status == "finished":
                if _complete(place, folder.trial(known.id), record, known):
                    completed.append(known.id)
                continue
            new = own.get(record.fingerprint)
            if new is None and record.reference and _same_training(record, config):
                # The reference; its fingerprint differs only by keys it does not use (difficulty).
                new = REFERENCE_ID
            if known is not None:
                new = known.id
                _set_aside(folder.trial(new), known)
            elif new is None or new in taken:
                number += 1
                new = f"t{number:04d}"
            taken.add(new)
            record = record.model_copy(update={"id": new, "attempt": attempt})
            existing[record.fingerprint] = record
            target = folder.trial(new)
            _copy(place, target)
            # Last, as only a trial with a record counts.
            target.commit(record)
            target.forget_checkpoint()
            adopted.append((old.id, new))
        return _summary(sweep, adopted, completed, own)


def _coming(config: SweepConfig, folder: SweepFolder) -> dict[str, TrialConfig]:
    """Return the trials that the sweep starts with, and those it has handed out already."""
    found = {REFERENCE_ID: config.reference()}
    found |= {i: config.trial(point) for i, point in config.first_trials().items()}
    if folder.study.is_file():
        search = plugins.load("sweeps.search", config.settings.search.name)
        proposed = search.proposals(config, folder.study).unfinished()
        found |= {i: config.trial(p) for i, p in proposed.items() if i not in found}
    return found


def _summary(
    sweep: StoredSweep,
    adopted: list[tuple[str, str]],
    completed: list[str],
    own: Mapping[str, str],
) -> Adopted:
    ended = {current_fingerprint(r.config) for r in sweep.records if r.status != "running"}
    return Adopted(
        trials=adopted,
        completed=completed,
        missing=[trial_id for key, trial_id in own.items() if key not in ended],
        bare=[i for _, i in adopted if not sweep.folder.trial(i).model.is_dir()],
    )


def _all_problems(
    records: Sequence[TrialRecord],
    here: Sequence[TrialRecord],
    config: SweepConfig,
    coming: Mapping[str, TrialConfig],
) -> list[Problem]:
    base = config.reference()
    # Seeds of a fixed design may have a teacher each.
    references = [trial.reference().training for trial in coming.values()]
    digest = next((r.data.get("digest") for r in [*here, *records] if r.data), None)
    found: list[Problem] = []
    # Differences are mostly the same for all trials, so report each once.
    trials: dict[tuple[str, str], list[str]] = {}
    for record in records:
        try:
            own = decode_recorded(record.config)
        except ConfigError as error:
            found += [Problem(f"{record.id}.{p.where}", p.message) for p in error.problems]
            continue
        # As written; decoding by this version may add keys.
        written = fingerprint(record.config)
        if written != record.fingerprint:
            found.append(
                Problem(
                    record.id,
                    f"fingerprint must be that of its configuration, {written}, but is "
                    f"{record.fingerprint}; the record was changed",
                )
            )
            continue
        differing = [*_differing(record, base)]
        if own.reference().training not in references:
            differing += _no_reference(own, references)
        if not differing and record.data.get("digest") != digest:
            got = record.data.get("digest")
            differing.append(("data", f"must be the sweep's ({digest}), but is {got}"))
        for each in differing:
            trials.setdefault(each, []).append(record.id)
    found += [
        Problem(f"{where} ({named(ids)})", f"{message}{_SAME}")
        for (where, message), ids in trials.items()
    ]
    return found


def _no_reference(
    trial: TrialConfig, references: Sequence[TrainingConfig]
) -> Iterator[tuple[str, str]]:
    """Yield why a trial's dense reference is none of the sweep's."""
    wanted = trial.reference().training
    seeds = sorted({each.seed for each in references if _with_seed(each, wanted.seed) == wanted})
    if seeds:
        known = ", ".join(map(str, seeds))
        yield (
            "teacher.seed",
            f"must be one of the configuration's ({known}), but is {wanted.seed}; add it under "
            "space (training.seed, teacher.seed), or leave these trials out of the folder",
        )
        return
    own, sweeps = wanted.as_dict(), references[0].as_dict()
    for key in own:
        if key != "seed" and own[key] != sweeps[key]:
            yield (
                f"training.{key}",
                f"of the dense reference must be the sweep's {sweeps[key]!r}, but is {own[key]!r}",
            )


def _with_seed(training: TrainingConfig, seed: int) -> TrainingConfig:
    return training.model_copy(update={"seed": seed})


def _differing(record: TrialRecord, base: TrialConfig) -> Iterator[tuple[str, str]]:
    """Yield each key that must be the sweep's, but is not, with both values."""
    wanted = base.as_dict()
    for section in COMPARED:
        own, sweeps = (
            flat(section, without_place(each[section]))
            for each in (completed(record.config), wanted)
        )
        for key in dict.fromkeys([*sweeps, *own]):
            mine, other = sweeps.get(key, "not there"), own.get(key, "not there")
            if mine != other:
                yield key, f"must be the sweep's {mine!r}, but is {other!r}"


def _moved(record: TrialRecord, config: SweepConfig) -> TrialRecord:
    """Return the record with the sweep's own place of the data, so that it counts as its trial."""
    moved = decode_recorded({**record.config, "task": config.base["task"]})
    return record.model_copy(update={"config": moved.as_dict(), "fingerprint": moved.fingerprint()})


def _same_training(record: TrialRecord, config: SweepConfig) -> bool:
    return decode_recorded(record.config).training == config.reference().training


def _complete(there: TrialFolder, here: TrialFolder, other: TrialRecord, own: TrialRecord) -> bool:
    """Add weights or test results that a trial was adopted without; tell whether any were added."""
    if (other.started, other.finished) != (own.started, own.finished):
        return False
    weights = there.model.is_dir() and not here.model.is_dir()
    test = there.tested_splits() is not None and here.tested_splits() is None
    if weights or test:
        _copy(there, here)
    return weights or test


def _set_aside(trial: TrialFolder, record: TrialRecord) -> None:
    """Keep the record of a trial that did not finish; remove its model and predictions, if any."""
    number = len(list(trial.path.glob(f"{record.status}-*.json"))) + 1
    shutil.copyfile(trial.record_file, trial.path / f"{record.status}-{number}.json")
    for part in _PARTS:
        shutil.rmtree(trial.path / part, ignore_errors=True)


def _copy(there: TrialFolder, here: TrialFolder) -> None:
    for part in _PARTS:
        if (there.path / part).is_dir():
            shutil.copytree(there.path / part, here.path / part, dirs_exist_ok=True)
