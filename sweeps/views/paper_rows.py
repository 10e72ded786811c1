"""The rows of a fixed design, and which of them may be compared with each other.

Start, steps and data order move out-of-distribution accuracy by more than any loss does, so rows
are compared only if they have these in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rc_core.config import seedless
from rc_core.labels import short
from rc_core.metrics.footprint import has_rounded, packed_bytes
from rc_core.record import TrialRecord
from sweeps.selection.one_start import has_one_start


@dataclass(frozen=True)
class Row:
    """One configuration over its seeds.

    Attributes:
        name: compression and loss, and what else distinguishes it from other rows.
        dense: whether it is a dense row with the vanilla loss.
        reference: whether the sweep's dense reference is one of its trials.
        compression, loss: labels.
        config: of its first trial.
        metrics: one mapping per seed.
        seeds: `training.seed` of each.
        ids: its trials, one per seed.
        one_start: whether all its seeds start from one dense model; see `has_one_start`.
    """

    name: str
    dense: bool
    reference: bool
    compression: str
    loss: str
    config: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    ids: frozenset[str]
    one_start: bool

    def setting(self, *left_out: str, of_teacher: bool = False) -> str:
        """Return its configuration as text, without seeds, loss, difficulty and other sections.

        Args:
            left_out: the other sections.
            of_teacher: with the dense reference's training instead of its own.
        """
        values = dict(self.config)
        if of_teacher:
            values["training"] = {**values["training"], **values.get("teacher", {})}
        apart = ("loss", "difficulty", *left_out)
        return seedless({key: value for key, value in values.items() if key not in apart})

    def by_seed(self, key: str) -> dict[int, float]:
        """Return seed -> value for the seeds that have one."""
        pairs = zip(self.seeds, (m.get(key) for m in self.metrics), strict=True)
        return {seed: float(v) for seed, v in pairs if v is not None and not math.isnan(v)}

    def values(self, key: str) -> list[float]:
        found = [m.get(key) for m in self.metrics]
        return [float(v) for v in found if v is not None and not math.isnan(v)]

    def mean(self, key: str) -> float:
        values = self.values(key)
        return sum(values) / len(values) if values else math.nan

    @property
    def size(self) -> float:
        """Return the model's size: non-zero parameters, with rounded ones counted by their bits."""
        sizes = [packed_bytes(metrics) / 4 for metrics in self.metrics]
        known = [size for size in sizes if not math.isnan(size)]
        return sum(known) / len(known) if known else math.nan

    @property
    def rounded(self) -> bool:
        """Whether some parameters are rounded, so that `size` counts bits."""
        return any(has_rounded(metrics) for metrics in self.metrics)


def rows_of(records: Sequence[TrialRecord], tested: Mapping[str, Any] | None) -> list[Row]:
    """Return a row per configuration (ignoring seeds), dense rows first, else in order of records.

    Args:
        records: of the sweep.
        tested: content of test.json, to take metrics of the test roles too; None for dev alone.
    """
    grouped: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.status == "finished" and (tested is None or record.id in tested["trials"]):
            grouped.setdefault(seedless(record.config), []).append(record)
    found = []
    for group in grouped.values():
        first = group[0]
        compressed, loss_name = first.config["compression"], first.config["loss"]["name"]
        # `magnitude-40 scope=layer rmc alpha=0.3`: the loss begins with its name.
        head, name, rest = first.name.partition(f" {loss_name}")
        metrics = [
            {**r.metrics, **(tested["trials"][r.id]["metrics"] if tested else {})} for r in group
        ]
        fresh = compressed["name"] == "dense" and compressed.get("init") != "teacher"
        row = Row(
            name=first.name,
            dense=fresh and loss_name == "vanilla",
            reference=any(record.reference for record in group),
            compression=head,
            loss=f"{name}{rest}".strip(),
            config=first.config,
            metrics=tuple(metrics),
            seeds=tuple(int(record.config["training"]["seed"]) for record in group),
            ids=frozenset(record.id for record in group),
            one_start=has_one_start(group),
        )
        found.append(row)
    return sorted((_named(row, found) for row in found), key=lambda row: not row.dense)


def _named(row: Row, found: Sequence[Row]) -> Row:
    """Return the row under a unique name: trial names leave out most of the configuration."""
    same = [_flat(other.config) for other in found if other.name == row.name]
    parts = [
        f"{key}={short(value)}"
        for key, value in _flat(row.config).items()
        if any(other.get(key) != value for other in same)
    ]
    return replace(row, name=" ".join([row.name, *parts]))


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `section.key` -> value, without seeds."""
    return {
        f"{section}.{key}": value
        for section, values in config.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
        if key != "seed"
    }


def vanilla_of(row: Row, found: Sequence[Row]) -> Row | None:
    """Return the vanilla row with the same compression, start and training."""
    like = (r for r in found if r.config["loss"]["name"] == "vanilla")
    return next((r for r in like if r.setting() == row.setting()), None)


def dense_of(row: Row, found: Sequence[Row]) -> Row | None:
    """Return the dense row with the same training, else with the training of the row's teacher."""
    apart = ("compression", "teacher")
    wanted = [row.setting(*apart), row.setting(*apart, of_teacher=True)]
    dense = [(r, r.setting(*apart)) for r in found if r.dense]
    return next((r for want in wanted for r, setting in dense if setting == want), None)
