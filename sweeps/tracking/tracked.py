"""What is sent to tracking about trials, data and the front, as plain values. No MLflow here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rc_core.config import decode, seedless
from rc_core.data._task import ROLES
from rc_core.errors import ConfigError
from rc_core.record import TrialRecord
from rc_core.yaml_files import lookup
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.pareto import knee
from sweeps.rows import Row, size_note
from sweeps.shown_values import in_millions, metric_text, number
from sweeps.tracking.shown import changed_values, shown_keys, shown_values

_SWEEP_PARAMS = (
    "model",
    "task.name",
    "design",
    "search.name",
    "search.trials",
    "search.seed",
    "scheduler.name",
    "training.epochs",
    "training.seed",
)
# MLflow would cut a longer description in the middle of its table.
_SUMMARY_SHOWN = 30
_TITLES = {"id_dev/accuracy": "ID", "ood_dev/accuracy": "OOD"}
_ACCURACIES = ("accuracy", "calibration_error", "difference", "relative_bias")


def sweep_params(sweep: SweepConfig) -> dict[str, str]:
    """Return the parameters of the sweep's run, by which sweeps are compared."""
    return shown_values(sweep.as_dict(), _SWEEP_PARAMS)


class TrialFacts:
    """What is sent about each trial of one sweep when it starts."""

    def __init__(self, sweep: SweepConfig, folder: SweepFolder) -> None:
        self._keys = shown_keys(sweep)
        self._searched: dict[str, str] = {}
        self._confirms: str | None = None
        name = sweep.settings.confirm.sweep
        if name is not None:
            other = SweepFolder(folder.path.with_name(name))
            self._confirms = read_sweep_id(other)
            for record in other.records():
                if record.status == "finished":
                    self._searched.setdefault(seedless(record.config), record.id)

    @property
    def parent(self) -> dict[str, Any] | None:
        """Parent of the sweep's own run: the sweep that it confirms; None for any other sweep."""
        return {"sweep_id": self._confirms, "trial_id": None} if self._confirms else None

    def of(self, trial_id: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the run's name, its parameters, what is not default, and the trial it repeats."""
        try:
            changed = changed_values(decode(config))
        except ConfigError:
            # A version with other keys wrote it; it is shown without this.
            changed = {}
        facts: dict[str, Any] = {
            "name": f"{trial_id} {name}",
            "params": shown_values(config, self._keys),
            "changed": changed,
        }
        repeated = self._searched.get(seedless(config))
        if self._confirms and repeated:
            facts["parent"] = {"sweep_id": self._confirms, "trial_id": repeated}
            facts["name"] = f"{repeated} {name} seed={lookup(config, 'training.seed')}"
        return facts


def read_sweep_id(folder: SweepFolder) -> str | None:
    """Return a sweep's id for tracking, None if it was never tracked."""
    path = folder.path / "sweep_id"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def datasets(data: Mapping[str, Any], task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the splits that a trial read, each with role, digest and size.

    Args:
        data: as `TrialRecord.data`: keys `<role>.<suite>`, among others.
        task: the task's configuration, given as the data's source.
    """
    source = json.dumps(task, sort_keys=True)
    return [
        {
            "name": name,
            "role": name.partition(".")[0],
            "digest": facts["digest"],
            "samples": facts["samples"],
            "source": source,
        }
        for name, facts in data.items()
        if name.partition(".")[0] in ROLES and isinstance(facts, Mapping)
    ]


def measured(
    metrics: Mapping[str, float | None], data: Sequence[Mapping[str, Any]], step: int
) -> list[dict[str, Any]]:
    """Return a model's main metrics, each with its split if it was measured on exactly one.

    These are the figures of roles and suites and the footprint; slices are only in the run.

    Args:
        metrics: of a record; None: undefined.
        data: as `datasets` returns it.
        step: optimizer step to report.
    """
    found = []
    for key, value in metrics.items():
        role, *middle = key.split("/")[:-1] or [""]
        splits = [each for each in data if each["role"] == role]
        if middle:
            # A role with one suite has the same figures under the role's name.
            splits = splits if len(splits) > 1 else []
            splits = [each for each in splits if each["name"] == f"{role}.{middle[0]}"]
        plain = key.rpartition("/")[2] in _ACCURACIES and len(middle) <= 1
        if value is None or value != value or not (role == "footprint" or (splits and plain)):
            continue
        one = splits[0] if len(splits) == 1 else {}
        found.append(
            {
                "key": key,
                "value": value,
                "step": step,
                "dataset": one.get("name"),
                "digest": one.get("digest"),
            }
        )
    return found


def front_models(
    found: Sequence[Row],
    records: Mapping[str, TrialRecord],
    folder: SweepFolder,
    keys: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Return the models to choose from: the front with and without the dense reference."""
    models = []
    for row in found:
        record = records[row.id]
        path = folder.trials / row.id / "model"
        if not (row.on_front or row.candidate) or not path.is_dir():
            continue
        step = int(record.steps.get("own", 0))
        data = datasets(record.data, record.config["task"])
        models.append(
            {
                "trial_id": row.id,
                "name": f"{folder.name} {row.id} {row.name}",
                "pareto": row.on_front,
                "params": shown_values(record.config, keys),
                "metrics": measured(_finite(record), data, step),
                "time": record.finished or record.started,
                "tags": {
                    "compression": row.compression,
                    "loss": row.loss,
                    "path": str(path),
                    "export": f"rc-sweep export {folder.name} --pick {row.id} --out DIR",
                },
            }
        )
    return models


def summary(
    found: Sequence[Row], objectives: Mapping[str, str], *, kind: str = "one seed each"
) -> str:
    """Return the description of the sweep's run: a sentence on the knee, the front as a table.

    It is Markdown. MLflow shows only the first lines until the user asks for more.

    Args:
        found: rows of the sweep; for a fixed design over seeds, one per configuration.
        objectives: metric -> direction.
        kind: what the rows' figures are, say `means over new seeds`.
    """
    chosen = [row for row in found if row.on_front or row.candidate or row.reference]
    first, direction = next(iter(objectives.items()))
    chosen.sort(key=lambda row: row.values[first], reverse=direction == "max")
    names = list(objectives)
    titles = [_TITLES.get(name, name) for name in names]
    lines = [
        *_knee(found, objectives),
        f"Pareto front (* on it, + on it without the dense reference), {kind}:",
        "",
        "| | trial | " + " | ".join(titles) + " | OOD vs dense, points | non-zero M |",
        "|---|---|" + "---|" * len(names) + "---|---|",
    ]
    for row in chosen[:_SUMMARY_SHOWN]:
        mark = "*" if row.on_front else "+" if row.candidate else ""
        role = " (dense reference)" if row.reference else ""
        values = " | ".join(metric_text(name, row.values[name]) for name in names)
        lines.append(
            f"| {mark} | {row.id} {row.name}{role} | {values} | "
            f"{number(row.ood_difference, '+z.1f')} | {in_millions(row.size)} |"
        )
    if len(chosen) > _SUMMARY_SHOWN:
        lines += ["", f"and {len(chosen) - _SUMMARY_SHOWN} more: see front.json"]
    lines += [text for note in size_note(chosen) for text in ("", note)]
    return "\n".join(lines)


def _knee(found: Sequence[Row], objectives: Mapping[str, str]) -> list[str]:
    """Return a sentence on the knee of the front and the dense reference; empty without a knee."""
    candidates = [row for row in found if row.candidate]
    if not candidates:
        return []
    points = [[row.values[name] for name in objectives] for row in candidates]
    best = candidates[knee(points, list(objectives.values()))]

    def values(row: Row) -> str:
        return ", ".join(
            f"{_TITLES.get(name, name)} {metric_text(name, row.values[name])}"
            for name in objectives
        )

    dense = next((row for row in found if row.reference and row.drawn), None)
    beside = f"; dense: {values(dense)}" if dense is not None else ""
    return [f"Knee: **{best.id} {best.name}**: {values(best)}{beside}.", ""]


def _finite(record: TrialRecord) -> dict[str, float]:
    return {key: value for key, value in record.metrics.items() if value == value}
