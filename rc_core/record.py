"""The result of one trial: typed, versioned, JSON. Files are the truth; everything else is a view.

    trials/<id>/record.json                      this
    trials/<id>/model/                           weights, tokenizer (rc_core.models)
    trials/<id>/predictions/<role>.<suite>.parquet   idx, label, one log-probability per task label
    trials/<id>/checkpoint/                      only while unfinished

This module does not import torch, because `rc-sweep status` and `pareto` read records.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from rc_core.atomic import write_json
from rc_core.errors import StaleAttemptError, StorageError

SCHEMA_VERSION = 1
Status = Literal["running", "finished", "stopped", "failed"]


def _none_is_nan(value: Any) -> Any:
    return math.nan if value is None else value


# JSON has no NaN: an undefined metric is null in the file and NaN in Python.
MetricValue = Annotated[float, BeforeValidator(_none_is_nan)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class RungRecord(_Part):
    """A quick evaluation during training, on a fixed sample of the dev roles.

    Attributes:
        step: optimizer steps done.
        progress: share of all steps done, in (0, 1].
        seconds: training time of the trial so far.
        metrics: keys `rung/id_dev/accuracy`, `rung/id_dev/balanced_accuracy`, ... and
            `rung/train_loss`.
    """

    step: int
    progress: float
    seconds: float
    metrics: dict[str, MetricValue]


class TrialRecord(_Part):
    """Everything known about one trial.

    Attributes:
        id: our own, `t0007`; Ray's and MLflow's ids are tied to it.
        status: running (valid after each rung), finished, stopped by a scheduler, or failed.
        name: short, made of what differs from the defaults: `magnitude-70 rmc alpha=0.3`.
        config: the resolved configuration (`rc_core.config.decode` reads it back).
        fingerprint: of `config`.
        reference: True for the dense, vanilla trial that *is* the teacher.
        attempt: fencing token of the driver under which this was written (0: no driver).
        metrics: full evaluations only, with keys as in the docs: `ood_dev/hans/accuracy`. NaN:
            undefined.
        undefined: metric -> why it is NaN.
        rungs: quick evaluations during training.
        seconds: per stage: prepare, train, evaluate, over all processes that worked on it; total:
            their sum.
        steps: `own` optimizer steps, and `counted` ones (with the teacher's, if it starts there).
        data: sizes, digests, overlap removed, texts truncated, tokens kept (`max_length`) and the
            most that the encoder accepts (`positions`).
        compression: what was asked for and what was measured.
        loss: what the loss reports (degree histogram, ...).
        training: training loss by rung, throughput, precision.
        artifacts: kind -> key of every shared artifact used.
        environment: versions, device, threads; `plugins`: section -> digest of the plugin's file.
        error: why it failed.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    status: Status
    name: str = ""
    config: dict[str, Any]
    fingerprint: str
    reference: bool = False
    attempt: int = 0
    started: float
    finished: float | None = None
    metrics: dict[str, MetricValue] = {}
    undefined: dict[str, str] = {}
    rungs: tuple[RungRecord, ...] = ()
    seconds: dict[str, float] = {}
    steps: dict[str, int] = {}
    data: dict[str, Any] = {}
    compression: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    training: dict[str, Any] = {}
    artifacts: dict[str, str] = {}
    environment: dict[str, Any] = {}
    error: str | None = None

    def metric(self, key: str) -> float:
        """Return a metric, NaN if it was not measured."""
        return self.metrics.get(key, math.nan)

    @property
    def taken(self) -> float:
        """Return the seconds that the trial took; if it was cut short, as far as they are known."""
        if "total" in self.seconds:
            return self.seconds["total"]
        if self.rungs:
            # It may have been paused for hours before it was sealed.
            return self.rungs[-1].seconds
        return max(self.finished - self.started, 0.0) if self.finished is not None else 0.0

    def sealed(self, status: Status, error: str | None = None) -> TrialRecord:
        """Return the record in its final state."""
        return self.model_copy(update={"status": status, "error": error, "finished": time.time()})


def sealed_digests(records: Iterable[TrialRecord]) -> dict[str, str]:
    """Return the digests of the test splits, by `seal_name`, as read when trials were trained."""
    found: dict[str, str] = {}
    for record in records:
        found |= record.data.get("sealed", {})
    return found


def counted_samples(data: Mapping[str, Any], stage: str) -> tuple[int, int] | None:
    """Return how many samples `id_<stage>` and `ood_<stage>` figures count, None if unknown.

    Args:
        data: of a record, or of test.json, which states it if a headline counts only a part.
        stage: `dev` or `test`.
    """
    found = [
        sum(
            int(facts.get("counted", facts.get("samples", 0)))
            for name, facts in data.items()
            if name.startswith(f"{role}_{stage}.")
        )
        for role in ("id", "ood")
    ]
    return (found[0], found[1]) if all(found) else None


class TrialFolder:
    """The folder of one trial; commits are atomic, and rejected for a superseded attempt."""

    def __init__(self, path: str | Path, *, fence: Callable[[], int] | None = None) -> None:
        """Store the settings.

        Args:
            path: `.../trials/<id>`.
            fence: returns the newest attempt of the sweep; records of older attempts are rejected.
        """
        self.path = Path(path)
        self._fence = fence

    @property
    def record_file(self) -> Path:
        return self.path / "record.json"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def checkpoint_before(self) -> Path:
        """Where the previous checkpoint is while a new one takes its place."""
        return self.path / ".checkpoint.before"

    @property
    def checkpoint_next(self) -> Path:
        """Where the next checkpoint is written."""
        return self.path / ".checkpoint.tmp"

    def has_checkpoint(self) -> bool:
        """Tell whether there is one to resume from, even if a kill came while it was replaced."""
        return self.checkpoint.is_dir() or self.checkpoint_before.is_dir()

    def forget_checkpoint(self) -> None:
        """Remove the checkpoint, and partial ones that a kill left behind."""
        for path in (self.checkpoint, self.checkpoint_before, self.checkpoint_next):
            shutil.rmtree(path, ignore_errors=True)

    def predictions(self, role: str, suite: str) -> Path:
        return self.path / "predictions" / f"{role}.{suite}.parquet"

    @property
    def _test_stamp(self) -> Path:
        return self.path / "predictions" / "tested.json"

    def stamp_test(self, splits: Mapping[str, str]) -> None:
        """Record that this run predicted test splits, name -> digest of each; written last.

        Does nothing without a trial record: there would be no run to tie the predictions to.
        """
        record = self.read()
        if record is not None:
            self._test_stamp.parent.mkdir(parents=True, exist_ok=True)
            run = {"started": record.started, "finished": record.finished}
            write_json(self._test_stamp, {**run, "splits": dict(splits)})

    def tested_splits(self) -> dict[str, str] | None:
        """Return the test splits that this very run predicted, name -> digest; None: not tested."""
        record = self.read()
        try:
            stamp = json.loads(self._test_stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        run = None if record is None else (record.started, record.finished)
        if (stamp.get("started"), stamp.get("finished")) != run:
            return None
        splits: dict[str, str] = stamp["splits"]
        return splits

    def forget_test(self) -> None:
        """Remove what an earlier run of the trial predicted on the test roles."""
        self._test_stamp.unlink(missing_ok=True)
        for path in (self.path / "predictions").glob("*_test.*.parquet"):
            path.unlink()

    def read(self) -> TrialRecord | None:
        """Return the record, or None if there is none yet."""
        return read_record(self.record_file) if self.record_file.exists() else None

    def commit(self, record: TrialRecord) -> None:
        """Write the record: temporary file, flush to disk, rename. Raises as `check`."""
        self.check(record)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.record_file, json.loads(record.model_dump_json()))

    def check(self, record: TrialRecord) -> None:
        """Check that the writer of this record still owns the trial.

        Raises:
            StaleAttemptError: a newer driver has taken over the sweep.
        """
        if self._fence is not None and self._fence() > record.attempt:
            raise StaleAttemptError(
                f"trial {record.id}: attempt {record.attempt} was superseded by {self._fence()}; "
                "its result is not written"
            )


def read_record(path: Path) -> TrialRecord:
    """Read one record.

    Raises:
        StorageError: not a record, or of a newer schema than this version knows.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StorageError(
            f"{path} must be a trial record, but cannot be read: {error}; restore it, or remove "
            "its folder: `rc-sweep resume` then runs that trial again"
        ) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} must have schema_version <= {SCHEMA_VERSION}, but has {version!r}; "
            "read it with the version that wrote it"
        )
    try:
        return TrialRecord.model_validate(raw)
    except ValidationError as error:
        raise StorageError(f"{path} is not a valid trial record: {error}") from None


def read_records(trials: Path) -> list[TrialRecord]:
    """Return the records below a `trials/` folder, ordered by id.

    Raises:
        StorageError: as `read_record`; names all that cannot be read.
    """
    found, problems = [], []
    for path in sorted(_record_files(trials)):
        try:
            found.append(read_record(path))
        except StorageError as error:
            problems += error.problems
    if problems:
        raise StorageError(problems)
    return found


def _record_files(trials: Path) -> Iterator[Path]:
    return trials.glob("*/record.json")
