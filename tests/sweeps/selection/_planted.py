"""Trials whose answers are made by hand: what a Reader would read of their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from rc_core.record import TrialFolder
from sweeps.selection import compared
from sweeps.selection.answers import Clusters, Part, SplitClusters
from sweeps.selection.compared import Reader


def whole(accuracies: Sequence[float], samples: int = 1_000) -> list[Any]:
    """Return one seed's answers after the other, of exactly these accuracies."""
    return [np.arange(samples) < round(each * samples) for each in accuracies]


class Planted:
    """Rows of trials with planted answers, and the Reader that finds them.

    Args:
        monkeypatch: answers are no longer read from files.
        clusters: role -> the cluster of each sample.
        suites: role -> of each suite which samples are its headline, for roles that have several;
            the role's samples lie suite after suite.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        clusters: Mapping[str, ArrayLike],
        suites: Mapping[str, Mapping[str, ArrayLike]] | None = None,
    ) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.clusters = {role: [_split(np.asarray(each))] for role, each in clusters.items()}
        for role, headlines in (suites or {}).items():
            parts, start = [], 0
            for suite, headline in headlines.items():
                chosen = [bool(each) for each in np.asarray(headline)]
                found = np.asarray(clusters[role])[start : start + len(chosen)]
                parts.append(replace(_split(found), suite=suite, headline=chosen))
                start += len(chosen)
            self.clusters[role] = parts
        monkeypatch.setattr(compared, "answers", self._answers)

    def reader(self) -> Reader:
        """Return one that has read nothing yet."""
        return Reader(self.clusters)

    def row(self, name: str, **roles: Sequence[ArrayLike]) -> dict[int, TrialFolder]:
        """Return seed -> trial of a row, with the answers of each seed on each role."""
        trials: dict[int, TrialFolder] = {}
        for role, seeds in roles.items():
            for seed, each in enumerate(seeds):
                trials[seed] = TrialFolder(Path(name) / f"t{seed:04d}")
                self.answers[str(trials[seed].path), role] = np.asarray(each)
        return trials

    def _answers(self, trial: TrialFolder, role: str, splits: Clusters, part: Part) -> Any:
        found = self.answers.get((str(trial.path), role))
        if found is None:
            return None
        kept, start = [], 0
        for split in self.clusters[role]:
            mine = found[start : start + len(split.clusters)]
            start += len(split.clusters)
            headline = np.asarray(split.headline)
            rows = {"headline": headline, "rest": ~headline, "all": np.ones(len(mine), bool)}
            kept += [mine[rows[part]]] if split in splits else []
        return np.concatenate(kept)


def _split(clusters: Any) -> SplitClusters:
    samples = len(clusters)
    return SplitClusters(
        suite="made",
        label_names=["a", "b"],
        collapse=[0, 1],
        clusters=list(map(str, clusters)),
        strata=["made"] * samples,
        headline=[True] * samples,
    )
