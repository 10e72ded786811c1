"""Reports what happens in a sweep to the outbox (from there to MLflow) and front.json.

Runs in the driver. Records are the truth, and these are only views of them, so a failure here (a
full disk) is logged as a warning and the sweep goes on.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rc_core.atomic import write_json, write_text
from rc_core.config import decode
from rc_core.errors import RobustCompressionError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.rows import Row, front_json, reference_lines, rows
from sweeps.selection.confirmed import Confirmed, confirmed
from sweeps.selection.mean_rows import mean_rows, with_ranks_of
from sweeps.stored_sweep import StoredSweep
from sweeps.tracking.mlflow_store import default_uri
from sweeps.tracking.mlflow_view import view_state
from sweeps.tracking.mlflow_writer import MlflowWriter
from sweeps.tracking.outbox import Drain, Outbox
from sweeps.tracking.shown import common_keys, shown_keys, size_metric
from sweeps.tracking.tracked import (
    TrialFacts,
    datasets,
    front_models,
    read_sweep_id,
    summary,
    sweep_params,
)
from sweeps.views.picture import front_picture

_logger = logging.getLogger(__name__)
# front.json holds every trial, so writing it takes longer as trials come in. It is written again
# only after a pause of this many times the last write, and when the sweep ends.
_PAUSE_PER_WRITE = 20.0
# The last drain gives up after CLOSE_SECONDS without a delivery, or after CLOSE_SECONDS in total (a
# finished sweep: CLOSE_SECONDS_FINISHED). Events are kept.
CLOSE_SECONDS = 60.0
CLOSE_SECONDS_FINISHED = 1800.0
# Trials per event: one event for all would take too long without counting as a delivery.
_RANKS_AT_ONCE = 200


@contextmanager
def going_on(what: str) -> Iterator[None]:
    """Turn any error into a warning that names what was not written."""
    try:
        yield
    # No error of a disk, a picture or a record of another version is a reason to lose a sweep.
    except Exception as error:
        _logger.warning(
            "%s could not be written for tracking; the sweep goes on: %s: %s",
            what,
            type(error).__name__,
            error,
        )


class SweepEvents:
    """The driver's events, in order. Only the constructor raises."""

    def __init__(self, sweep: SweepConfig, folder: SweepFolder) -> None:
        """Read the records, and start delivering.

        Raises:
            StorageError: a record cannot be read.
            OSError: the sweep's folder cannot be written.
        """
        self._sweep = sweep
        self._folder = folder
        # Until `sweep_started` sets this driver's own: the file may be another driver's by then.
        self._attempt = folder.attempt()
        self._outbox = Outbox(folder.outbox)
        self._lock = threading.Lock()
        self._announced: set[str] = set()
        # Trials whose start could not be written; without it their end would be refused.
        self._unannounced: set[str] = set()
        self._ended: set[str] = set()
        self._records = {record.id: record for record in folder.records()}
        self._next_write = 0.0
        self._facts = TrialFacts(sweep, folder)
        self._drain = drain_of(sweep, folder, self._outbox)

    def sweep_started(self, attempt: int) -> None:
        self._attempt = attempt
        with going_on("the start of the sweep"):
            values = OmegaConf.create(self._sweep.as_dict())
            self._outbox.append(
                "sweep_started",
                sweep=self._folder.name,
                config=OmegaConf.to_yaml(values, sort_keys=False),
                attempt=attempt,
                tags={
                    "rc.task": self._sweep.base["task"]["name"],
                    "rc.model": self._sweep.base["model"],
                },
                params=sweep_params(self._sweep),
                view=view_state(
                    sweep_id(self._folder),
                    self._folder.name,
                    list(self._sweep.settings.objectives),
                    shown_keys(self._sweep),
                    common_keys(self._sweep),
                    size_metric(self._sweep),
                ),
                parent=self._facts.parent,
            )
        with going_on("what an earlier driver left out"):
            self._catch_up()

    def _catch_up(self) -> None:
        """Report trials of an earlier driver that ended after it was killed, from their records."""
        started: set[str] = set()
        ended: dict[str, str] = {}
        for event in self._outbox.events():
            if event["kind"] == "trial_started":
                started.add(event["trial_id"])
            elif event["kind"] == "trial_ended":
                ended[event["trial_id"]] = event["status"]
        for record in list(self._records.values()):
            # A trial reported as failed may have finished since: run again, or adopted.
            if record.status in ("running", ended.get(record.id)):
                continue
            if record.id not in started:
                self.trial_started(record)
            self.trial_ended(record)

    def trial_started(self, record: TrialRecord) -> None:
        """Report the start of a trial that already has a record (the reference)."""
        self._start(record.id, record.name, record.config, reference=record.reference)

    def trial_assigned(self, trial_id: str, config: Mapping[str, Any]) -> None:
        self._start(trial_id, None, config, reference=False)

    def rung(self, trial_id: str, result: Mapping[str, Any]) -> None:
        with going_on(f"a rung of trial {trial_id}"):
            metrics = {key: value for key, value in result.items() if key.startswith("rung/")}
            step = int(result.get("steps", result.get("training_iteration", 0)))
            self._outbox.append("rung", trial_id=trial_id, step=step, metrics=metrics)

    def trial_ended(self, record: TrialRecord) -> None:
        with self._lock:
            if record.id in self._ended:
                return
            self._ended.add(record.id)
            self._records[record.id] = record
        if record.id in self._unannounced:
            self._announced.discard(record.id)
            self.trial_started(record)
        with going_on(f"the end of trial {record.id}"):
            self._outbox.append(
                "trial_ended",
                trial_id=record.id,
                status=record.status,
                record=json.loads(record.model_dump_json()),
                datasets=datasets(record.data, record.config["task"]),
            )
        started = time.monotonic()
        if started >= self._next_write:
            with going_on("front.json"):
                write_json(self._folder.front, self._front())
            now = time.monotonic()
            self._next_write = now + _PAUSE_PER_WRITE * (now - started)

    def sweep_ended(self, status: str, seconds: float, *, report: Path | None = None) -> int:
        """Write the final views and drain the outbox; return how many events are left in it.

        Args:
            status: finished, interrupted or failed.
            seconds: since the command began.
            report: the page of `rc-sweep report` if it was written, with the picture of the front
                beside it.
        """
        left = 0
        try:
            with going_on("the end of the sweep"):
                self._end(status, seconds, report)
        finally:
            most = CLOSE_SECONDS_FINISHED if status == "finished" else CLOSE_SECONDS
            with going_on("the delivered events"):
                left = self._drain.close(CLOSE_SECONDS, most)
        return left

    def _end(self, status: str, seconds: float, report: Path | None) -> None:
        settings = self._sweep.settings
        records = list(self._records.values())
        found = rows(records, settings.objectives, constraints=settings.constraints)
        # A design over several seeds and a confirmation are shown by means, as everywhere.
        over_seeds, shown, kind = self._over_seeds(), found, "one seed each"
        if over_seeds is not None:
            means, of = over_seeds
            shown = mean_rows(means, of, settings.objectives)
            found = with_ranks_of(found, shown, means)
            kind = f"means over {means.seeds_are}"
        document = self._front(() if shown is found else shown)
        with going_on("front.json"):
            write_json(self._folder.front, document)
        artifacts = [self._folder.path / "sweep.yaml", self._folder.front]
        if report is None and any(row.on_front for row in shown):
            with going_on("the picture of the front"):
                front_picture(
                    shown,
                    settings.objectives,
                    self._folder.picture,
                    title=self._folder.name,
                    lines=reference_lines(records),
                )
        artifacts += [self._folder.picture, *([report] if report is not None else [])]
        front = [row.id for row in found if row.on_front]
        with going_on("the ranks of the trials"):
            ranks = {row.id: row.rank for row in found if row.rank is not None}
            tell_ranks(self._outbox, {*self._announced, *self._records}, front, ranks)
        self._outbox.append(
            "sweep_ended",
            attempt=self._attempt,
            status=status,
            seconds=seconds,
            front=front,
            hypervolume=document["hypervolume"],
            summary=summary(shown, settings.objectives, kind=kind),
            # A confirmation's trial is not a model to choose; its sweep's models are sent again.
            models=[]
            if settings.confirm.sweep is not None
            else front_models(shown, self._records, self._folder, shown_keys(self._sweep)),
            artifacts=[str(path) for path in artifacts if path.is_file()],
        )

    def _over_seeds(self) -> tuple[Confirmed, list[Row]] | None:
        """Return means over seeds and the rows that they belong to; None for a search.

        The rows of a fixed design are its own; those of a confirmation are of its sweep.
        """
        if self._sweep.settings.design != "fixed":
            return None
        try:
            sweep = StoredSweep(self._folder).still()
            searched = sweep.searched
            found = confirmed(searched)
            if found is None or not found.rows or found.own != (searched is sweep):
                return None
            return found, searched.rows
        except (RobustCompressionError, OSError) as error:
            _logger.warning("means over seeds could not be read: %s", error)
            return None

    def _start(
        self, trial_id: str, name: str | None, config: Mapping[str, Any], *, reference: bool
    ) -> None:
        with self._lock:
            if trial_id in self._announced:
                return
            self._announced.add(trial_id)
            self._unannounced.add(trial_id)
        with going_on(f"the start of trial {trial_id}"):
            label = decode(config).label() if name is None else name
            self._outbox.append(
                "trial_started",
                trial_id=trial_id,
                config=dict(config),
                attempt=self._attempt,
                reference=reference,
                **self._facts.of(trial_id, label, config),
            )
            with self._lock:
                self._unannounced.discard(trial_id)

    def _front(self, means: Sequence[Row] = ()) -> dict[str, Any]:
        settings = self._sweep.settings
        return front_json(
            list(self._records.values()),
            settings.objectives,
            sweep=self._folder.name,
            constraints=settings.constraints,
            means=means,
        )


def sweep_id(folder: SweepFolder) -> str:
    """Return the sweep's id for tracking: made once, independent of the storage's location."""
    known = read_sweep_id(folder)
    # After a kill the file may be empty, which is no id.
    if known:
        return known
    made = f"{folder.name}-{int(time.time())}-{uuid.uuid4().hex[:8]}"
    write_text(folder.path / "sweep_id", f"{made}\n")
    return made


def tell_ranks(
    outbox: Outbox, trials: Iterable[str], front: Sequence[str], ranks: Mapping[str, int]
) -> None:
    """Report the rank of each trial, once all trials are known.

    Args:
        outbox: of the sweep.
        trials: all trials of the sweep.
        front: trials on the front.
        ranks: trial -> rank, for trials that have one.
    """
    everyone = sorted(trials)
    for start in range(0, len(everyone), _RANKS_AT_ONCE):
        some = everyone[start : start + _RANKS_AT_ONCE]
        known = {each: ranks[each] for each in some if ranks.get(each, -1) >= 0}
        outbox.append("ranked", trials=some, front=sorted({*some} & {*front}), ranks=known)


def drain_of(sweep: SweepConfig, folder: SweepFolder, outbox: Outbox) -> Drain:
    """Return a running drain that delivers a sweep's events to its MLflow."""
    uri = sweep.settings.tracking.uri or default_uri(folder.storage)
    # Not in the drain's thread: two threads could each make an id for a new sweep.
    made = sweep_id(folder)
    return Drain(outbox, lambda: MlflowWriter(uri, storage=folder.storage, sweep_id=made))
