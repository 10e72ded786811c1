"""Duplicate questions (QQP) with PAWS out of distribution (Zhang et al. 2019).

train, id_dev: QQP train. id_test: validation. ood_dev: PAWS-wiki dev. ood_test: PAWS-wiki test, and
PAWS-qqp if there is a file (it may not be distributed, so no hub has it). QQP has a few rows with
one question only: they are left out and counted. Tested only on small files of the same form, not
on the real QQP.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from rc_core.data._assemble import assemble, limited
from rc_core.data._overlap import overlap_duplicates
from rc_core.data._parts import Part, PublicConfig, is_wanted, overriding, read_part
from rc_core.data._task import Role, Split, Task
from rc_core.errors import DataError, Problem

TEXTS = ("question1", "question2")
LABELS = ("not_duplicate", "duplicate")
_MEANS = {"0": "not_duplicate", "1": "duplicate"}

_TRAIN = Part(
    file="qqp/train.parquet",
    hub="nyu-mll/glue",
    subset="qqp",
    split="train",
    revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    hub_text=("question1", "question2"),
)
_ID_TEST = _TRAIN.model_copy(update={"file": "qqp/dev.parquet", "split": "validation"})
_OOD_DEV = Part(
    file="paws_wiki/dev.parquet",
    hub="google-research-datasets/paws",
    subset="labeled_final",
    split="validation",
    revision="161ece9501cf0a11f3e48bd356eaa82de46d6a09",
)
_WIKI = _OOD_DEV.model_copy(update={"file": "paws_wiki/test.parquet", "split": "test"})
_PAWS_QQP = Part(file="paws_qqp/dev_and_test.tsv")


class Config(PublicConfig):
    """Where the data is, and how much of it is used; see also `PublicConfig`.

    Attributes:
        train, id_test, ood_dev, paws_wiki_test, paws_qqp: the parts; keys given override the
            defaults. paws_qqp is left out if its file is missing, unless it was configured.
        ood_dev_limit: number of samples of ood_dev.
        test_limit: number of samples of id_test and of each ood_test suite.
    """

    name: Literal["qqp"] = "qqp"
    train: Annotated[Part, BeforeValidator(overriding(_TRAIN))] = _TRAIN
    id_test: Annotated[Part, BeforeValidator(overriding(_ID_TEST))] = _ID_TEST
    ood_dev: Annotated[Part, BeforeValidator(overriding(_OOD_DEV))] = _OOD_DEV
    paws_wiki_test: Annotated[Part, BeforeValidator(overriding(_WIKI))] = _WIKI
    paws_qqp: Annotated[Part, BeforeValidator(overriding(_PAWS_QQP))] = _PAWS_QQP
    ood_dev_limit: Annotated[int, Field(ge=10)] | None = 3_000
    test_limit: Annotated[int, Field(ge=10)] | None = None


def load(config: Config) -> Task:
    """Read every part. Raises DataError: see `_parts.read_part` and `_assemble.assemble`."""
    wanted: list[tuple[Role, str, Part, int | None]] = [
        ("train", "qqp", config.train, None),
        ("id_test", "qqp", config.id_test, config.test_limit),
        ("ood_dev", "paws_wiki", config.ood_dev, config.ood_dev_limit),
        ("ood_test", "paws_wiki", config.paws_wiki_test, config.test_limit),
    ]
    if is_wanted(config.paws_qqp, _PAWS_QQP, config.data_dir):
        wanted.append(("ood_test", "paws_qqp", config.paws_qqp, config.test_limit))
    splits: list[Split] = []
    problems: list[Problem] = []
    notes: dict[str, float] = {}
    for role, suite, part, size in wanted:
        try:
            rows = read_part(part, config.data_dir, _MEANS)
        except DataError as error:
            problems += error.problems
            continue
        split = Split(
            role=role,
            suite=suite,
            first=rows.first,
            second=rows.second,
            labels=rows.labels,
            label_names=LABELS,
        )
        both = [i for i, pair in enumerate(split.texts()) if all(map(str.strip, pair))]
        if len(both) < len(split):
            notes[f"without_text/{split.name}"] = len(split) - len(both)
            split = split.take(np.array(both, dtype=np.int64))
        splits.append(limited(split, size, seed=config.seed))
    if problems:
        raise DataError(problems)
    return assemble(
        "qqp",
        LABELS,
        splits,
        seed=config.seed,
        limit=config.limit,
        allow_overlap=config.allow_overlap,
        notes=notes,
        heuristic=overlap_duplicates,
    )
