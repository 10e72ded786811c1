"""Right and wrong answers of trials, sample by sample, with the clusters the samples hang in.

Read from the predictions beside each record. Which sample belongs to which subcase only the task
knows; of the dev roles that is kept beside a sweep (`clusters.json`), so that a table needs neither
data nor torch.
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

# Slices whose values are clusters, the finest first: sentences of one pattern are not independent.
# In a suite without one, samples that share a text are a cluster (a premise with its hypotheses,
# the claims of one passage), and any other sample is one by itself.
CLUSTER_SLICES = ("template", "subcase")
# More say no more; neighbours go together, as they may have been made together.
_MAX_CLUSTERS = 500
Part = Literal["headline", "rest", "all"]


@dataclass(frozen=True)
class SplitClusters:
    """How the samples of one split hang together.

    Attributes:
        suite: of the split.
        label_names: the suite's.
        collapse: suite label of each task label, -1 for none.
        clusters: (n,) names; unique over the role.
        strata: (n,) names; of the label where each cluster has one label, else of the suite.
        headline: (n,) whether the role's own figures count the sample.
    """

    suite: str
    label_names: Sequence[str]
    collapse: Sequence[int]
    clusters: Sequence[str]
    strata: Sequence[str]
    headline: Sequence[bool]

    def rows(self, part: Part) -> NDArray[np.bool_]:
        """Return which samples a part holds: the headline, the rest, or all."""
        headline = np.asarray(self.headline, dtype=np.bool_)
        if part == "all":
            return np.ones_like(headline)
        return headline if part == "headline" else ~headline


Clusters = Mapping[str, Sequence[SplitClusters]]


def clusters_of(task: Task, roles: Iterable[Role]) -> dict[str, list[SplitClusters]]:
    """Return role -> its splits' clusters; roles without a split are left out."""
    found = {role: [_clusters(task, split) for split in task.of_role(role)] for role in roles}
    return {role: splits for role, splits in found.items() if splits}


def write_clusters(path: Path, clusters: Clusters) -> None:
    """Keep clusters beside a sweep."""
    write_json(path, {role: [asdict(each) for each in splits] for role, splits in clusters.items()})


def read_clusters(path: Path) -> dict[str, list[SplitClusters]]:
    """Return what `write_clusters` wrote, empty where there is nothing. Raises StorageError."""
    found = read_json(
        path,
        lambda raw: {role: [SplitClusters(**each) for each in s] for role, s in raw.items()},
        what="which dev samples hang together",
        advice="remove it: rc-sweep confirm and rc-sweep test write it anew, and until then "
        "intervals take seeds alone",
    )
    return found or {}


def answers(
    folder: TrialFolder, role: str, splits: Sequence[SplitClusters], part: Part = "headline"
) -> NDArray[np.bool_] | None:
    """Return which samples a trial got right, suite after suite; None without predictions."""
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
    """Return clusters and strata of a role's samples, in the order of `answers`."""
    clusters = [np.asarray(split.clusters)[split.rows(part)] for split in splits]
    strata = [np.asarray(split.strata)[split.rows(part)] for split in splits]
    return np.concatenate(clusters), np.concatenate(strata)


def _by_text(split: Split) -> list[int]:
    """Return a cluster's number for each sample: the same for samples that a text connects."""
    rows = np.arange(len(split))
    nodes: list[NDArray[np.int64]] = []
    for texts in (split.first, split.second):
        # A row points to the first one with its text: rows are connected through those.
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
