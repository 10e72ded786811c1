"""MNLI, three-way inference, with HANS out of distribution (McCoy et al. 2019).

train, id_dev: MNLI train. id_test: validation_matched (the paper's "dev"). ood_dev: HANS train, 15
of the 30 subcases, five of each heuristic, drawn with `seed`. ood_test: HANS evaluation; its
headline is the 15 subcases that ood_dev does not hold (`seen.unseen`). A predicted neutral or
contradiction counts as non-entailment. `data_dir: null` reads from the data hub.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from rc_core.data._assemble import assemble, limited
from rc_core.data._overlap import overlap_entails_or_neutral
from rc_core.data._parts import Part, PublicConfig, overriding, read_part
from rc_core.data._task import Role, Split, Task
from rc_core.errors import DataError, Problem

TEXTS = ("premise", "hypothesis")
LABELS = {"0": "entailment", "1": "neutral", "2": "contradiction"}
HANS_LABELS = {"0": "entailment", "1": "non_entailment"}
MERGE = {"neutral": "non_entailment", "contradiction": "non_entailment"}

_TRAIN = Part(
    file="mnli/train.parquet",
    hub="nyu-mll/glue",
    subset="mnli",
    split="train",
    revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    hub_text=("premise", "hypothesis"),
)
_ID_TEST = _TRAIN.model_copy(
    update={"file": "mnli/dev_matched.parquet", "split": "validation_matched"}
)
# HANS is published with a loading script; the hub's own conversion to parquet has no commit that
# could be pinned.
_OOD_DEV = Part(
    file="hans/train.parquet",
    hub="jhu-cogsci/hans",
    split="train",
    revision="refs/convert/parquet",
    hub_text=("premise", "hypothesis"),
)
_OOD_TEST = _OOD_DEV.model_copy(update={"file": "hans/eval.parquet", "split": "validation"})


class Config(PublicConfig):
    """Where the data is, and how much of it is used; see also `PublicConfig`.

    Attributes:
        train, id_test, ood_dev, ood_test: the parts; keys given override the defaults.
        ood_dev_limit: number of samples of ood_dev, with equal shares of its subcases.
        test_limit: number of samples of id_test and of ood_test.
    """

    name: Literal["mnli"] = "mnli"
    train: Annotated[Part, BeforeValidator(overriding(_TRAIN))] = _TRAIN
    id_test: Annotated[Part, BeforeValidator(overriding(_ID_TEST))] = _ID_TEST
    ood_dev: Annotated[Part, BeforeValidator(overriding(_OOD_DEV))] = _OOD_DEV
    ood_test: Annotated[Part, BeforeValidator(overriding(_OOD_TEST))] = _OOD_TEST
    ood_dev_limit: Annotated[int, Field(ge=30)] | None = 3_000
    test_limit: Annotated[int, Field(ge=60)] | None = None


def load(config: Config) -> Task:
    """Read every part. Raises DataError: see `_parts.read_part` and `_assemble.assemble`."""
    problems: list[Problem] = []
    splits: list[Split] = []
    wanted: tuple[tuple[Role, Part], ...] = (
        ("train", config.train),
        ("id_test", config.id_test),
        ("ood_dev", config.ood_dev),
        ("ood_test", config.ood_test),
    )
    for role, part in wanted:
        try:
            read = _hans if role.startswith("ood") else _mnli
            splits.append(read(config, role, part))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    train, id_test, ood_dev, ood_test = splits
    chosen = choose_subcases(ood_dev, config.seed)
    rows = [i for i, value in enumerate(ood_dev.slices["subcase"]) if value in chosen]
    ood_dev = ood_dev.take(np.array(rows, dtype=np.int64))
    seen = ["seen" if value in chosen else "unseen" for value in ood_test.slices["subcase"]]
    ood_test = replace(
        ood_test, slices={**ood_test.slices, "seen": seen}, headline=("seen", "unseen")
    )
    return assemble(
        "mnli",
        tuple(LABELS.values()),
        [
            train,
            limited(id_test, config.test_limit, seed=config.seed),
            limited(ood_dev, config.ood_dev_limit, seed=config.seed, by="subcase"),
            limited(ood_test, config.test_limit, seed=config.seed, by="subcase"),
        ],
        seed=config.seed,
        limit=config.limit,
        allow_overlap=config.allow_overlap,
        notes={"ood_dev/subcases": len(chosen)},
        heuristic=overlap_entails_or_neutral,
    )


def choose_subcases(hans: Split, seed: int) -> set[str]:
    """Return half of each heuristic's subcases, drawn with `seed`, balanced by label.

    A subcase of HANS has one label only; of the ten subcases of a heuristic, five are entailed.

    Args:
        hans: with slices `heuristic` and `subcase`.
        seed: for the draw.
    """
    generator = np.random.default_rng([seed, 3])
    chosen: set[str] = set()
    extra = int(generator.integers(2))
    of: dict[str, dict[int, list[str]]] = {}
    triples = zip(hans.slices["heuristic"], hans.slices["subcase"], hans.labels, strict=True)
    for heuristic, subcase, label in triples:
        names = of.setdefault(heuristic, {}).setdefault(int(label), [])
        if subcase not in names:
            names.append(subcase)
    for heuristic in sorted(of):
        for label in sorted(of[heuristic]):
            names = sorted(of[heuristic][label])
            # Of an odd number of subcases, the two labels take turns in getting the larger half.
            count = (len(names) + (len(names) % 2) * ((label + extra) % 2)) // 2
            chosen.update(np.array(names)[generator.permutation(len(names))[:count]].tolist())
        extra += 1
    return chosen


def _mnli(config: Config, role: Role, part: Part) -> Split:
    rows = read_part(part, config.data_dir, LABELS | {name: name for name in LABELS.values()})
    return Split(
        role=role,
        suite="mnli",
        first=rows.first,
        second=rows.second,
        labels=rows.labels,
        label_names=tuple(LABELS.values()),
    )


def _hans(config: Config, role: Role, part: Part) -> Split:
    labels = HANS_LABELS | {"entailment": "entailment", "non-entailment": "non_entailment"}
    rows = read_part(part, config.data_dir, labels, extra=("heuristic", "subcase"))
    return Split(
        role=role,
        suite="hans",
        first=rows.first,
        second=rows.second,
        labels=rows.labels,
        label_names=tuple(HANS_LABELS.values()),
        merge=MERGE,
        slices=rows.extra,
    )
