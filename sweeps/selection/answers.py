"""Right and wrong answers of trials per sample, and the clusters that the samples belong to.

Answers are read from the predictions beside each record. Only the task knows which subcase a sample
belongs to; for the dev roles this is stored beside the sweep (`clusters.json`), so that a table
needs neither data nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rc_core.atomic import write_json
from rc_core.data._task import Role, Split, Task
from rc_core.metrics.classification import collapsed_predictions
from rc_core.record import TrialFolder
from sweeps.json_files import read_json

# Slices whose values are clusters, finest first: sentences of one pattern are not independent. In a
# suite without such a slice, samples that share a text form a cluster (a premise with its
# hypotheses, the claims of one passage), and every other sample is its own cluster.
CLUSTER_SLICES = ("template", "subcase")
# More add no information; neighbours are merged, as they may have been written together.
_MAX_CLUSTERS = 500
Part = Literal["headline", "rest", "all"]


@dataclass(frozen=True)
class SplitClusters:
    """The clusters of one split's samples.

    Attributes:
        suite: name of the split's suite.
        label_names: of the suite.
        collapse: suite label of each task label, -1 for none.
        clusters: (n,) cluster names, unique within the role.
        strata: (n,) stratum names: the label if every cluster has a single one, else the suite.
        headline: (n,) whether the sample counts in the role's headline figures.
    """

    suite: str
    label_names: Sequence[str]
    collapse: Sequence[int]
    clusters: Sequence[str]
    strata: Sequence[str]
    headline: Sequence[bool]

    def rows(self, part: Part) -> NDArray[np.bool_]:
        """Return a mask (n,) of the samples in a part: the headline, the rest, or all."""
        headline = np.asarray(self.headline, dtype=np.bool_)
        if part == "all":
            return np.ones_like(headline)
        return headline if part == "headline" else ~headline


Clusters = Mapping[str, Sequence[SplitClusters]]


def clusters_of(task: Task, roles: Iterable[Role]) -> dict[str, list[SplitClusters]]:
    """Return role -> clusters of its splits, for the roles that have any."""
    found = {role: [_clusters(task, split) for split in task.of_role(role)] for role in roles}
    return {role: splits for role, splits in found.items() if splits}


def write_clusters(path: Path, clusters: Clusters) -> None:
    """Write clusters beside a sweep."""
    write_json(path, {role: [asdict(each) for each in splits] for role, splits in clusters.items()})


def read_clusters(path: Path) -> dict[str, list[SplitClusters]]:
    """Return what `write_clusters` wrote, empty without a file. Raises StorageError."""
    found = read_json(
        path,
        lambda raw: {role: [SplitClusters(**each) for each in s] for role, s in raw.items()},
        what="the clusters of the dev samples",
        advice="remove it: rc-sweep confirm and rc-sweep test write it again; until then "
        "intervals cover seeds only",
    )
    return found or {}


def answers(
    folder: TrialFolder, role: str, splits: Sequence[SplitClusters], part: Part = "headline"
) -> NDArray[np.bool_] | None:
    """Return whether each sample is right, suite after suite; None without predictions."""
    found = []
    for split in splits:
        path = folder.predictions(role, split.suite)
        if not path.is_file():
            return None
        table = pq.read_table(path)
        columns = [name for name in table.column_names if name.startswith("log_prob.")]
        log_probs = np.stack([table[name].to_numpy() for name in columns], axis=1)
        position = {label: i for i, label in enumerate(split.label_names)}
        labels = np.array([position[label] for label in table["label"].to_pylist()])
        right = collapsed_predictions(log_probs, np.asarray(split.collapse)) == labels
        found.append(right[split.rows(part)])
    return np.concatenate(found)


def flat(
    splits: Sequence[SplitClusters], part: Part = "headline"
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return the cluster and stratum of each sample of a role, in the order of `answers`."""
    clusters = [np.asarray(split.clusters)[split.rows(part)] for split in splits]
    strata = [np.asarray(split.strata)[split.rows(part)] for split in splits]
    return np.concatenate(clusters), np.concatenate(strata)


def _by_text(split: Split) -> list[int]:
    """Return a cluster number per sample; samples connected by shared texts have the same."""
    rows = np.arange(len(split))
    nodes: list[NDArray[np.int64]] = []
    for texts in (split.first, split.second):
        # Each row links to the first row with its text, which connects all rows that share it.
        first: dict[str, int] = {}
        found = [first.setdefault(t, row) if t else row for row, t in enumerate(texts or ())]
        nodes.append(np.array(found or rows, dtype=np.int64))
    links = np.concatenate(nodes)
    both = np.concatenate([rows, rows])
    graph = coo_array((np.ones(len(links)), (both, links)), shape=(len(split), len(split)))
    count, found_parts = connected_components(graph, directed=False)
    size = -(-count // _MAX_CLUSTERS)
    return [int(part) // size for part in found_parts]


def _clusters(task: Task, split: Split) -> SplitClusters:
    name = next((each for each in CLUSTER_SLICES if each in split.slices), None)
    values = [str(v) for v in (split.slices[name] if name else _by_text(split))]
    labels = [split.label_names[label] for label in split.labels]
    pure = name is not None and len(set(zip(values, labels, strict=True))) == len(set(values))
    return SplitClusters(
        suite=split.suite,
        label_names=list(split.label_names),
        collapse=split.collapse(task.label_names).tolist(),
        clusters=[f"{split.suite}/{value}" for value in values],
        strata=[f"{split.suite}/{label}" if pure else split.suite for label in labels],
        headline=split.headline_rows().tolist(),
    )
