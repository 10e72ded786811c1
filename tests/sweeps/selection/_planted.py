"""Trials whose answers are made by hand: what a Reader would read of their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clusters: Mapping[str, ArrayLike]) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.clusters = {role: [_split(np.asarray(each))] for role, each in clusters.items()}
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
        return self.answers.get((str(trial.path), role))


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
