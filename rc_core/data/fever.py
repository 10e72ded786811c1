"""FEVER claim verification with the symmetric sets out of distribution (Schuster et al. 2019).

First text: evidence, second: claim. train, id_dev: train. id_test: dev. ood_dev: Symmetric v2 dev.
ood_test: Symmetric v2 test if there is a file, else v1 without the pairs of v2 dev (which holds
half of v1's pairs). `labels: [SUPPORTS, REFUTES]` leaves out NOT ENOUGH INFO. With three labels,
the symmetric sets, which have no NOT ENOUGH INFO, are also reported with it masked.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from rc_core.data._assemble import assemble, limited
from rc_core.data._parts import Part, PublicConfig, check_places, is_wanted, overriding, read_part
from rc_core.data._splits import split_keys
from rc_core.data._task import Role, Split, Task
from rc_core.errors import DataError, Problem

TEXTS = ("evidence", "claim")
NAMES = ("SUPPORTS", "NOT ENOUGH INFO", "REFUTES")
# Integers as in local files; names as published.
RAW = {str(i): name for i, name in enumerate(NAMES)} | {name: name for name in NAMES}

# The columns are swapped on the hub: its `premise` is the claim.
_TRAIN = Part(
    file="fever/train.parquet",
    hub="pietrolesci/nli_fever",
    split="train",
    hub_text=("hypothesis", "premise"),
    hub_label="fever_gold_label",
)
_ID_TEST = _TRAIN.model_copy(update={"file": "fever/dev.parquet", "split": "dev"})
# No hub has the symmetric sets in a form that could be named here: local files only.
_V2_DEV = Part(file="fever/symmetric_v02_dev.parquet")
_V2_TEST = Part(file="fever/symmetric_v02_test.parquet")
_V1 = Part(file="fever/symmetric_v01_generated.parquet")


class Config(PublicConfig):
    """Where the data is, and how much of it is used; see also `PublicConfig`.

    Attributes:
        labels: the task's labels: all three, or [SUPPORTS, REFUTES].
        train, id_test: parts in distribution; keys given override the defaults.
        symmetric_v2_dev, symmetric_v2_test, symmetric_v1: parts out of distribution.
        ood_test: `auto` as above, with v2 test also if `symmetric_v2_test` was configured;
            `v2_test`; `v1_rest` (v1 without v2 dev's pairs); `v1_whole`; `both`, v1 whole and v2
            test as two suites, as in the paper's tables (a pair in both counts in each). v1 whole
            shares half of its pairs with v2 dev, so `v1_whole` and `both` are for `design: fixed`
            only, where nothing is selected, and need `allow_overlap`: ood_dev then loses those
            pairs.
        test_limit: number of samples of id_test.
    """

    name: Literal["fever"] = "fever"
    labels: tuple[str, ...] = NAMES
    train: Annotated[Part, BeforeValidator(overriding(_TRAIN))] = _TRAIN
    id_test: Annotated[Part, BeforeValidator(overriding(_ID_TEST))] = _ID_TEST
    symmetric_v2_dev: Annotated[Part, BeforeValidator(overriding(_V2_DEV))] = _V2_DEV
    symmetric_v2_test: Annotated[Part, BeforeValidator(overriding(_V2_TEST))] = _V2_TEST
    symmetric_v1: Annotated[Part, BeforeValidator(overriding(_V1))] = _V1
    ood_test: Literal["auto", "v2_test", "v1_rest", "v1_whole", "both"] = "auto"
    test_limit: Annotated[int, Field(ge=10)] | None = None

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value not in (NAMES, ("SUPPORTS", "REFUTES")):
            raise ValueError(f"labels must be {list(NAMES)} or [SUPPORTS, REFUTES]")
        return value


def load(config: Config) -> Task:
    """Read every part. Raises DataError: see `_parts.read_part` and `_assemble.assemble`."""
    notes: dict[str, float] = {}
    wanted: list[tuple[Role, str, Part]] = [
        ("train", "fever", config.train),
        ("id_test", "fever", config.id_test),
        ("ood_dev", "symmetric_v2_dev", config.symmetric_v2_dev),
        *(("ood_test", suite, part) for suite, part in _test_parts(config)),
    ]
    # Report missing symmetric sets before claims are fetched from the hub.
    check_places([part for _, _, part in wanted], config.data_dir)
    splits: list[Split] = []
    problems: list[Problem] = []
    for role, suite, part in wanted:
        try:
            splits.append(_read(config, role, suite, part, notes))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    train, id_test, ood_dev, *ood_tests = splits
    if ood_tests[0].suite == "symmetric_v1_rest":
        (whole,) = ood_tests
        excluded = set(split_keys(ood_dev))
        rows = [i for i, key in enumerate(split_keys(whole)) if key not in excluded]
        notes[f"excluded/{whole.name}"] = len(whole) - len(rows)
        ood_tests = [whole.take(np.array(rows, dtype=np.int64))]
    return assemble(
        "fever",
        config.labels,
        [train, limited(id_test, config.test_limit, seed=config.seed), ood_dev, *ood_tests],
        seed=config.seed,
        limit=config.limit,
        allow_overlap=config.allow_overlap,
        notes=notes,
    )


def _test_parts(config: Config) -> list[tuple[str, Part]]:
    """Return (suite, part) of each suite of ood_test."""
    which = config.ood_test
    if which == "auto":
        there = is_wanted(config.symmetric_v2_test, _V2_TEST, config.data_dir)
        which = "v2_test" if there else "v1_rest"
    v2_test = ("symmetric_v2_test", config.symmetric_v2_test)
    if which == "v2_test":
        return [v2_test]
    if which == "both":
        return [("symmetric_v1_whole", config.symmetric_v1), v2_test]
    return [(f"symmetric_{which}", config.symmetric_v1)]


def _read(config: Config, role: Role, suite: str, part: Part, notes: dict[str, float]) -> Split:
    kept = {raw: name for raw, name in RAW.items() if name in config.labels}
    drop = [raw for raw in RAW if raw not in kept]
    names = tuple(name for name in NAMES if name in config.labels)
    rows = read_part(part, config.data_dir, kept, drop=drop)
    if drop:
        notes[f"dropped_labels/{role}.{suite}"] = rows.dropped
    labels = rows.labels
    if role.startswith("ood") and len(names) == 3:
        # The symmetric sets have two labels; the third is outside them.
        names = ("SUPPORTS", "REFUTES")
        labels = np.array([names.index(NAMES[i]) if NAMES[i] in names else -1 for i in labels])
        if (labels < 0).any():
            raise DataError(
                Problem(
                    part.file,
                    f"a symmetric set has SUPPORTS and REFUTES only, but {(labels < 0).sum()} rows "
                    "are NOT ENOUGH INFO",
                )
            )
    return Split(
        role=role,
        suite=suite,
        first=rows.first,
        second=rows.second,
        labels=labels,
        label_names=names,
    )
