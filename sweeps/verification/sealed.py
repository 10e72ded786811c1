"""Opens the test roles: after selection, once, with a stamp of when and for which configurations.

`id_test` and `ood_test` are evaluated nowhere else, except for trials of a fixed design that ran
under `rc_core.trial --test`; their predictions are read here. With `design: search` the test is
opened only for the chosen configurations and the rows they are compared with. After a confirmation
these are the confirmed configurations, the dense row and the vanilla rows, with all new seeds;
without one, the front, the dense row and the vanilla rows of the search. With `design: fixed`
nothing was chosen, so the test is opened for every trial.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rc_core.atomic import write_json
from rc_core.config import decode, seedless
from rc_core.data._task import DEV_ROLES, TEST_ROLES
from rc_core.errors import StorageError
from rc_core.record import TrialFolder, TrialRecord
from sweeps.commands import command
from sweeps.ending import was_interrupted
from sweeps.engine.data_check import check_digest
from sweeps.engine.relocating import asking_where
from sweeps.folder import REFERENCE_ID, check_weights
from sweeps.selection.answers import clusters_of, write_clusters
from sweeps.selection.compared import Reader
from sweeps.selection.confirmed import Confirmed, ConfirmedRow, confirmed
from sweeps.selection.opened_data import opened_data
from sweeps.selection.stamp import read_test, selection, stamp_of
from sweeps.selection.tested import Group, summary
from sweeps.stored_sweep import StoredSweep
from sweeps.tracking.afterwards import tell_test

if TYPE_CHECKING:
    from rc_core.workspace import TaskData

# Keys of test.json's trials that belong to the confirmation.
_CONFIRM = "confirm/"


@dataclass(frozen=True)
class _Trial:
    """One trial to open: its key in test.json, its folder and its record."""

    key: str
    folder: TrialFolder
    record: TrialRecord


def open_tests(sweep: StoredSweep, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Evaluate the test roles and write test.json; trials opened before are not evaluated again.

    Args:
        sweep: that has ended.
        say: receives a line for each trial, and warnings.

    Returns:
        {"opened": time, "design", "basis": "confirmed" or "search" or "fixed", "selection": [ids at
        the first opening], "openings": [{"when", "selection"}], "trials": {key: {"name",
        "metrics", "undefined", "opened"}}, "rows": see `tested.summary`, "optimism",
        "changed_after_opening": [ids chosen later], "left_after_opening", "data": {split:
        see `opened_data.opened_data`}, "floors": {role: {line: accuracy}}}. A
        key is a trial's id, after `confirm/` for one of the confirmation's.

    Raises:
        StorageError: the task has no test split, nothing finished, a trial's weights are elsewhere,
            the folder cannot be written, the sweep or its confirmation is running, a search or the
            confirmation was interrupted, the sweep is itself a confirmation, or the test's samples
            are not those on which some of its trials were opened.
        DataError: the train or dev data is not what its trials were trained on.
    """
    confirms = sweep.config.get("confirm", {}).get("sweep")
    if confirms is not None:
        # Its configurations were selected; only the sweep itself knows from which.
        raise StorageError(
            f"the test must be opened for a sweep itself, but {sweep.name} is the confirmation of "
            f"{confirms}; run: rc-sweep test {confirms}"
        )
    if sweep.folder.is_running():
        raise StorageError(f"sweep {sweep.name} is running; test it when it has ended")
    searches = sweep.config.get("design") != "fixed"
    if searches and was_interrupted(sweep.path, sweep.config, sweep.records):
        raise StorageError(
            f"the search {sweep.name} must have ended before its test is opened, but was "
            f"interrupted; finish it first: {command(sweep.folder, 'resume')}"
        )
    found = _finished_confirmation(sweep)
    groups, alone = _groups(sweep, found)
    trials = [*alone, *(trial for group in groups for trial in group.values())]
    now = selection(sweep, found)
    basis = "confirmed" if found else sweep.config.get("design", "search")
    document = read_test(sweep)
    before = json.dumps(document)
    when = time.time()
    if document is None:
        document = {
            "opened": when,
            "design": sweep.config.get("design", "search"),
            "basis": basis,
            "selection": now,
            "openings": [],
            "trials": {},
        }
    if "openings" not in document:
        # Written by a version that kept the first opening only.
        document["openings"] = [{"when": document["opened"], "selection": document["selection"]}]
    missing = [trial for trial in trials if trial.key not in document["trials"]]
    openings = document["openings"]
    if missing or "rows" not in document:
        for each in (sweep, sweep.confirmation):
            if each is not None:
                each.folder.check_writable()
        data, measure = _measuring(sweep, missing, groups)
        # The choice, and each drop from dev to test, must be on the data of the launch.
        check_digest(data.task, [trial.record for trial in trials])
        # The rows are made again: a confirmation may have been added or removed meanwhile.
        document["basis"] = basis
        document["data"] = opened_data(data.task, document, [trial.record for trial in trials])
        # Continuing an interrupted opening (no rows yet) does not count as another one.
        if not openings or "rows" in document or openings[-1]["selection"] != now:
            openings.append({"when": when, "selection": now})
        dense = {_teacher(trial): trial.key for trial in trials if trial.record.reference}
        _evaluate(sweep, missing, dense, data, measure, groups, now, document, when, say)
    state = stamp_of(document, now, {r.id for r in sweep.records if r.reference})
    document["changed_after_opening"] = list(state.joined)
    document["left_after_opening"] = list(state.left)
    changed = json.dumps(document) != before
    if changed:
        write_json(sweep.folder.test, document)
    for each, prefix in ((sweep, ""), (sweep.confirmation, _CONFIRM)):
        if each is not None:
            left = tell_test(each, document, prefix=prefix)
            if left:
                say(f"warning: {left} tracking events are kept in {each.folder.outbox}")
            if changed or left is not None:
                each.folder.share()
    return document


def _finished_confirmation(sweep: StoredSweep) -> Confirmed | None:
    """Return the confirmation, None if there is none. Raises StorageError if it is not usable."""
    other = sweep.confirmation
    found = confirmed(sweep)
    if other is None or found is None:
        return None
    go_on = command(other.folder, "resume")
    if other.folder.is_running():
        raise StorageError(f"the confirmation {other.name} is running; test when it has ended")
    if was_interrupted(other.path, other.config, other.records):
        raise StorageError(
            f"the confirmation {other.name} was interrupted; finish it first: {go_on}"
        )
    compressed = [row for row in found.rows if not row.reference]
    if compressed and all(row.excluded for row in compressed):
        raise StorageError(
            f"the confirmation {other.name} must have confirmed a configuration before the test is "
            "opened for it, but by means over new seeds none meets the constraints (rc-sweep "
            "pareto --why TRIAL says which one it misses)"
        )
    if not any(row.confirmed for row in found.rows):
        raise StorageError(
            f"the confirmation {other.name} must have confirmed a configuration before the test is "
            f"opened for it, but none has two new seeds; go on with: {go_on}"
        )
    return found


def _groups(
    sweep: StoredSweep, found: Confirmed | None
) -> tuple[list[dict[int, _Trial]], list[_Trial]]:
    """Return the trials whose test results may be seen: seed -> trial per row, and single ones.

    The single ones are the search's own trials of confirmed configurations, which get exported.
    """
    finished = [record for record in sweep.records if record.status == "finished"]
    if not finished:
        raise StorageError(f"sweep {sweep.name} has no finished trial to test")
    trials = {r.id: _Trial(r.id, sweep.folder.trial(r.id), r) for r in finished}
    if found is not None:
        other = sweep.confirmation
        assert other is not None
        groups = [
            {
                seed: _Trial(f"{_CONFIRM}{record.id}", other.folder.trial(record.id), record)
                for seed, record in sorted(row.trials.items())
            }
            for row in found.rows
            if row.confirmed or row.reference or _vanilla(row)
        ]
        own = [REFERENCE_ID, *(row.id for row in found.rows if row.confirmed)]
        return groups, [trials[i] for i in own if i in trials]
    if sweep.config.get("design") == "fixed":
        rows: dict[str, dict[int, _Trial]] = {}
        for record in finished:
            seed = record.config["training"]["seed"]
            rows.setdefault(seedless(record.config), {})[seed] = trials[record.id]
        return list(rows.values()), []
    chosen = set(selection(sweep, None))
    kept = [
        record
        for record in finished
        if record.id in chosen or record.reference or record.config["loss"]["name"] == "vanilla"
    ]
    return [{r.config["training"]["seed"]: trials[r.id]} for r in kept], []


def _vanilla(row: ConfirmedRow) -> bool:
    return all(record.config["loss"]["name"] == "vanilla" for record in row.trials.values())


def _measuring(
    sweep: StoredSweep, trials: Sequence[_Trial], groups: Sequence[Mapping[int, _Trial]]
) -> tuple[TaskData, Callable[[_Trial], dict[str, float]]]:
    """Return the task with its test roles, and a function that returns a trial's metrics on them.

    Raises:
        StorageError: there is no test role, or a trial has neither weights here nor stored test
            predictions. Nothing was opened then.
    """
    from rc_core.trial import evaluate_saved
    from rc_core.workspace import Workspace

    workspace = Workspace(sweep.folder.artifacts, sealed=False)
    first = next(iter(groups[0].values())).record
    with asking_where(sweep.folder, sweep.config):
        data = workspace.data(decode(first.config))
    if not any(data.task.of_role(role) for role in TEST_ROLES):
        raise StorageError(
            f"a sealed test needs an id_test or ood_test split, but the task of sweep {sweep.name} "
            "has neither; a new sweep can (task.roles of own files: docs/configuration.md)"
        )
    stored = _stored(trials, data)

    def measure(trial: _Trial) -> dict[str, float]:
        if trial.key in stored:
            return stored[trial.key]
        return evaluate_saved(decode(trial.record.config), workspace, trial.folder)

    return data, measure


def _stored(trials: Sequence[_Trial], data: TaskData) -> dict[str, dict[str, float]]:
    """Return test metrics of trials without weights. Raises StorageError if one has none stored."""
    from rc_core.evaluation import stored_metrics

    found, bare = {}, {}
    for trial in trials:
        if trial.folder.model.is_dir():
            continue
        metrics = stored_metrics(data, TEST_ROLES, trial.folder)
        if metrics is None:
            bare[trial.key] = trial.folder
        else:
            found[trial.key] = metrics
    check_weights(bare, "tested")
    return found


def _teacher(trial: _Trial) -> str | None:
    """Return the artifact key of the dense reference that a trial is, or is compared with."""
    return trial.record.artifacts.get("teacher")


def _evaluate(
    sweep: StoredSweep,
    missing: Sequence[_Trial],
    dense: Mapping[str | None, str],
    data: TaskData,
    measure: Callable[[_Trial], dict[str, float]],
    groups: Sequence[Mapping[int, _Trial]],
    chosen: Sequence[str],
    document: dict[str, Any],
    when: float,
    say: Callable[[str], None],
) -> None:
    from rc_core.evaluation import counted_sizes, relative_metrics
    from rc_core.metrics._floors import floors

    if "floors" not in document:
        document["floors"] = floors(data.task, TEST_ROLES)
    sizes = counted_sizes(data.task, "test")
    # References first: the other trials are compared with them, maybe each seed with its own.
    for trial in sorted(missing, key=lambda each: not each.record.reference):
        metrics = measure(trial)
        own = trial.key if trial.record.reference else dense.get(_teacher(trial))
        reference = metrics if own == trial.key else document["trials"].get(own, {}).get("metrics")
        relative, undefined = (
            ({}, {})
            if reference is None
            else relative_metrics(metrics, reference, "test", sizes=sizes)
        )
        values = {k: None if math.isnan(v) else v for k, v in (metrics | relative).items()}
        document["trials"][trial.key] = {
            "name": trial.record.name,
            "seed": trial.record.config["training"]["seed"],
            "metrics": values,
            "undefined": undefined,
            "opened": when,
        }
        # Written after each trial, before its line is printed: an interruption loses nothing, and
        # no opened test goes unrecorded.
        write_json(sweep.folder.test, document)
        say(f"{trial.key} {trial.record.name}: tested")
    clusters = clusters_of(data.task, (*DEV_ROLES, *TEST_ROLES))
    write_clusters(
        sweep.folder.clusters, {r: each for r, each in clusters.items() if r in DEV_ROLES}
    )
    document |= summary(_named_groups(sweep, groups, chosen), Reader(clusters))


def _named_groups(
    sweep: StoredSweep, groups: Sequence[Mapping[int, _Trial]], chosen: Sequence[str]
) -> list[Group]:
    """Return the rows of the table; those of a confirmation are named after the search's trial.

    In a search over seeds each trial is a row of its own, with its own id.
    """
    known: dict[str, TrialRecord] = {}
    for record in sweep.records:
        if record.status == "finished":
            known.setdefault(seedless(record.config), record)
    fixed = sweep.config.get("design") == "fixed"
    found = []
    for group in groups:
        first = next(iter(group.values()))
        confirms = first.key.startswith(_CONFIRM)
        record = known[seedless(first.record.config)] if confirms else first.record
        found.append(
            Group(
                id=record.id,
                name=record.name,
                reference=record.reference or any(t.record.reference for t in group.values()),
                selected=not fixed and record.id in chosen,
                keys={seed: trial.key for seed, trial in group.items()},
                trials={seed: trial.folder for seed, trial in group.items()},
                records={seed: trial.record for seed, trial in group.items()},
            )
        )
    return sorted(found, key=lambda each: (not each.selected, each.reference))
