"""The rows of a fixed design, and which of them may be compared with which.

Start, steps and data order move accuracy out of distribution by more than any loss does: rows are
compared only where these are equal.
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
        name: compression and loss, and what else tells it from rows of the same.
        dense: whether it is a dense, vanilla row.
        reference: whether the sweep's dense reference is one of its trials.
        compression, loss: labels.
        config: of its first trial.
        metrics: one mapping per seed.
        seeds: `training.seed` of each.
        ids: one trial per seed.
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
        """Return what its trials share, without loss, difficulty and other sections.

        Args:
            left_out: sections.
            of_teacher: with the training of the dense reference, where that has its own.
        """
        values = dict(self.config)
        if of_teacher:
            values["training"] = {**values["training"], **values.get("teacher", {})}
        apart = ("loss", "difficulty", *left_out)
        return seedless({key: value for key, value in values.items() if key not in apart})

    def by_seed(self, key: str) -> dict[int, float]:
        """Return seed -> value, of the seeds that have one."""
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
        """Return how large the model is: non-zero parameters, rounded ones by their bits."""
        sizes = [packed_bytes(metrics) / 4 for metrics in self.metrics]
        known = [size for size in sizes if not math.isnan(size)]
        return sum(known) / len(known) if known else math.nan

    @property
    def rounded(self) -> bool:
        """Whether weights count by their bits."""
        return any(has_rounded(metrics) for metrics in self.metrics)


def rows_of(records: Sequence[TrialRecord], tested: Mapping[str, Any] | None) -> list[Row]:
    """Return a row per configuration but for its seed, in order of appearance."""
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
    """Return the row with a name that no other has: names leave out training."""
    same = [_flat(other.config) for other in found if other.name == row.name]
    parts = [
        f"{key}={short(value)}"
        for key, value in _flat(row.config).items()
        if any(other.get(key) != value for other in same)
    ]
    return replace(row, name=" ".join([row.name, *parts]))


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `training.epochs` -> value, without the seeds."""
    return {
        f"{section}.{key}": value
        for section, values in config.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
        if key != "seed"
    }


def vanilla_of(row: Row, found: Sequence[Row]) -> Row | None:
    """Return the vanilla row of the same compression, start and training."""
    like = (r for r in found if r.config["loss"]["name"] == "vanilla")
    return next((r for r in like if r.setting() == row.setting()), None)


def dense_of(row: Row, found: Sequence[Row]) -> Row | None:
    """Return the dense row of the same training, else of the reference's that the row names."""
    apart = ("compression", "teacher")
    wanted = [row.setting(*apart), row.setting(*apart, of_teacher=True)]
    dense = [(r, r.setting(*apart)) for r in found if r.dense]
    return next((r for want in wanted for r, setting in dense if setting == want), None)
