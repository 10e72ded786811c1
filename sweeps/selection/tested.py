"""What the opened test shows for each row: mean and interval over seeds, drop from dev to test.

No torch here: answers are read from the predictions beside the records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rc_core.record import TrialFolder, TrialRecord
from sweeps.selection.answers import Part
from sweeps.selection.compared import Reader, accuracy, difference, excess_drop, relative_bias
from sweeps.selection.one_start import has_one_start
from sweeps.selection.statistics import Estimate, beside_one_freedom, verdict

_DEV = ("id_dev", "ood_dev")
_TEST = ("id_test", "ood_test")


@dataclass(frozen=True)
class Group:
    """One row: a configuration with its seeds.

    Attributes:
        id: of the searched trial.
        name: of the searched trial.
        reference: whether it is the dense, vanilla row.
        selected: whether it was chosen.
        keys: seed -> key in test.json.
        trials: seed -> folder.
        records: seed -> record.
    """

    id: str
    name: str
    reference: bool
    selected: bool
    keys: Mapping[int, str]
    trials: Mapping[int, TrialFolder]
    records: Mapping[int, TrialRecord]


def summary(groups: Sequence[Group], reader: Reader) -> dict[str, Any]:
    """Return {"rows", "optimism", "pair_deviation"} as plain JSON values.

    A row: {"id", "name", "reference", "selected", "seeds", "trials": keys, "accuracy": {"id",
    "ood", "ood_seen"}, "suites": {suite: accuracy}, "id_difference", "ood_difference",
    "relative_bias", "bias_reason", "verdict", "dev": {"id", "ood"}, "drop": {"id", "ood"}}; an
    estimate is {"mean", "low", "high", "n"} or None; differences and drops are in points, the rest
    shares. "ood_seen": on subcases that ood_dev has too, if the test separates them; the drop is
    then from ood_dev to these.

    "verdict": `better`, `worse` or `open`, for OOD against dense: a difference is shown only if the
    interval excludes zero, the seeds can detect that much (80 % power), and they do not all share
    one start (`sweeps.selection.one_start`).
    """
    reference = next((group for group in groups if group.reference), None)
    rows = [_row(group, reference, reader) for group in groups]
    deviation, df = _pair_deviation(groups, reference, reader)
    for group, row in zip(groups, rows, strict=True):
        row["verdict"] = _verdict(row["ood_difference"], deviation, df)
        if row["verdict"] is not None and has_one_start(group.records.values()):
            row["verdict"] = "open"
    return {
        "rows": rows,
        "pair_deviation": None if math.isnan(deviation) else deviation,
        "optimism": _optimism(groups, reference, reader),
    }


def estimate_json(found: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as plain JSON values."""
    if found is None or math.isnan(found.mean):
        return None
    known = not math.isnan(found.low)
    return {
        "mean": found.mean,
        "low": found.low if known else None,
        "high": found.high if known else None,
        "n": found.n,
    }


def _row(group: Group, reference: Group | None, reader: Reader) -> dict[str, Any]:
    seen: Part | None = "rest" if _tells_apart(reader) else None
    figures = {
        "id": accuracy(reader, group.trials, "id_test"),
        "ood": accuracy(reader, group.trials, "ood_test"),
        "ood_seen": accuracy(reader, group.trials, "ood_test", seen) if seen else None,
    }
    dev = {where: accuracy(reader, group.trials, f"{where}_dev") for where in ("id", "ood")}
    row: dict[str, Any] = {
        "id": group.id,
        "name": group.name,
        "reference": group.reference,
        "selected": group.selected,
        "seeds": sorted(group.trials),
        "trials": [group.keys[seed] for seed in sorted(group.keys)],
        "accuracy": {key: estimate_json(each) for key, each in figures.items()},
        "suites": _suites(group, reader),
        "dev": {where: each.mean if each else None for where, each in dev.items()},
        "drop": {},
        "id_difference": None,
        "ood_difference": None,
        "relative_bias": None,
        "bias_reason": None,
    }
    for where in ("id", "ood"):
        before, after = dev[where], figures["ood_seen" if where == "ood" and seen else where]
        known = before is not None and after is not None
        row["drop"][where] = 100 * (before.mean - after.mean) if known else None  # type: ignore[union-attr]
    if reference is None:
        return row
    bias = relative_bias(reader, group.trials, reference.trials, "test")
    if bias is not None:
        # The dense row's is 1, or undefined where its own gap is not meaningful.
        row["relative_bias"], row["bias_reason"] = estimate_json(bias[0]), bias[1]
    if group is reference:
        return row
    for where, role in zip(("id", "ood"), _TEST, strict=True):
        found = difference(reader, group.trials, reference.trials, role)
        row[f"{where}_difference"] = estimate_json(found)
    return row


def _verdict(found: Mapping[str, Any] | None, deviation: float, df: int) -> str | None:
    if found is None:
        return None
    low, high = (math.nan if found[key] is None else found[key] for key in ("low", "high"))
    return verdict(found["mean"], low, high, found["n"], deviation, df=df)


def _suites(group: Group, reader: Reader) -> dict[str, Any]:
    """Return suite -> accuracy of the whole suite; empty unless OOD has several."""
    splits = reader.clusters.get("ood_test", ())
    return {
        split.suite: estimate_json(
            accuracy(Reader({"ood_test": [split]}), group.trials, "ood_test", "all")
        )
        for split in (splits if len(splits) > 1 else ())
    }


def _optimism(
    groups: Sequence[Group], reference: Group | None, reader: Reader
) -> dict[str, Any] | None:
    """Return how much more the chosen lose from dev to test than the dense row, in points."""
    chosen = [group.trials for group in groups if group.selected]
    if reference is None or not chosen:
        return None
    outside: Part = "rest" if _tells_apart(reader) else "headline"
    parts: dict[str, Part] = {"id": "headline", "ood": outside}
    return {
        where: estimate_json(
            excess_drop(reader, chosen, reference.trials, (dev, test), parts[where])
        )
        for where, dev, test in zip(("id", "ood"), _DEV, _TEST, strict=True)
    }


def _tells_apart(reader: Reader) -> bool:
    """Tell whether the OOD test has samples beyond its headline: subcases that dev has too."""
    return any(not all(split.headline) for split in reader.clusters.get("ood_test", ()))


def _pair_deviation(
    groups: Sequence[Group], reference: Group | None, reader: Reader
) -> tuple[float, int]:
    """Return the standard deviation of one seed's OOD difference to dense, in points, and its df.

    Every difference contains the dense row's noise: see `beside_one_freedom`.
    """
    squares, df = 0.0, 0
    shared = []
    for group in groups:
        if reference is None or group is reference:
            continue
        pair = reader.pair(group.trials, reference.trials, "ood_test")
        if pair is not None:
            ours, theirs = (np.asarray(each).mean(axis=1) for each in pair.correct)
            values = 100 * (ours - theirs)
            squares += float(((values - values.mean()) ** 2).sum())
            df += len(values) - 1
            shared.append(set(group.trials) & set(reference.trials))
    return (math.sqrt(squares / df), beside_one_freedom(shared)) if df else (math.nan, 0)
