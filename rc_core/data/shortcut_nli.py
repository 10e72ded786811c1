"""Generated inference pairs in which word overlap predicts entailment, except for a set fraction.

Half of the pairs overlap: every word of the hypothesis is in the premise, and HANS's heuristics
(McCoy et al. 2019) say "entailment". In train and the in-distribution splits they are right except
for `bias_conflicting` of these pairs. In the other half, the hypotheses contain words that the
premise lacks; most are not entailed, so that little overlap predicts non-entailment. The
out-of-distribution splits contain overlapping pairs only, equally many entailed and not entailed
ones for each heuristic, so the shortcut says nothing there. Nor does any word: "never", "no", "if"
and "or" occur in the same premises with hypotheses that hold ("controls"). Labels are correct by
construction (`_nli_templates`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from rc_core.config import PluginConfig, Seed
from rc_core.data._nli_templates import HEURISTICS, SUBCASES, Draw, Subcase, changeable_slots
from rc_core.data._overlap import overlap_entails
from rc_core.data._task import Role, Split, Task, check_task, pair_key

TEXTS = ("premise", "hypothesis")
LABELS = ("entailment", "non_entailment")

# Whether the shortcut is right, wrong, or silent because the hypothesis has words of its own.
Bias = Literal["aligned", "conflicting", "novel"]

# Share of the pairs without overlap that are entailed anyway, by a synonym or a hypernym.
NOVEL_ENTAILED = 0.1

# Every split has its own stream of random numbers, so that its size affects no other split.
_STREAMS: dict[Role, int] = {"ood_test": 0, "id_test": 1, "ood_dev": 2, "id_dev": 3, "train": 4}


class Config(PluginConfig):
    """How much is generated, and how strong the shortcut is.

    Attributes:
        seed: fixes generation and splits; one per sweep.
        train_size: number of training pairs.
        dev_size: number of pairs of id_dev, and of ood_dev (there rounded up to a multiple of 6).
        test_size: number of pairs of id_test, and of ood_test (there rounded up to a multiple of
            12; half of them are of subcases that occur nowhere else).
        bias_conflicting: share of the overlapping pairs of train, id_dev and id_test that are not
            entailed, in [0, 0.5]: 0 is a perfect shortcut, 0.5 none.
    """

    name: Literal["shortcut_nli"] = "shortcut_nli"
    seed: Seed = 0
    train_size: Annotated[int, Field(ge=100, le=100_000)] = 3_000
    dev_size: Annotated[int, Field(ge=60, le=10_000)] = 600
    test_size: Annotated[int, Field(ge=60, le=10_000)] = 1_008
    bias_conflicting: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1

    def is_here(self) -> bool:
        """Return True: the data is generated."""
        return True


@dataclass(frozen=True)
class _Sample:
    premise: str
    hypothesis: str
    entailed: bool
    subcase: Subcase
    bias: Bias


def load(config: Config) -> Task:
    """Generate the task. The same configuration gives the same pairs in any process."""
    generators = {
        role: np.random.default_rng([config.seed, stream]) for role, stream in _STREAMS.items()
    }
    used: set[str] = set()
    # Each split avoids the pairs of those before it. Train comes last, so that no other split
    # depends on its size; the out-of-distribution splits come first, so that they do not depend on
    # the strength of the shortcut.
    ood_test = _balanced(-(-config.test_size // 12), True, generators["ood_test"], used)
    ood_test += _balanced(-(-config.test_size // 12), False, generators["ood_test"], used)
    ood_dev = _balanced(-(-config.dev_size // 6), True, generators["ood_dev"], used)
    id_test = _biased(config.test_size, config, generators["id_test"], used)
    id_dev = _biased(config.dev_size, config, generators["id_dev"], used)
    train = _biased(config.train_size, config, generators["train"], used)
    train = [train[i] for i in generators["train"].permutation(len(train))]
    return check_task(
        Task(
            name="shortcut_nli",
            label_names=LABELS,
            splits=(
                _id_split("train", train),
                _id_split("id_dev", id_dev),
                _ood_split("ood_dev", ood_dev),
                _id_split("id_test", id_test),
                _ood_split("ood_test", ood_test),
            ),
            bias_conflicting=np.array([sample.bias == "conflicting" for sample in train]),
            heuristic=overlap_entails,
        )
    )


def overlapping_pair(subcase: Subcase, generator: np.random.Generator) -> tuple[str, str]:
    """Return a premise, and a hypothesis made of its words."""
    premise, hypothesis = _template(subcase, generator)
    draw = Draw(generator)
    return draw.fill(premise), draw.fill(hypothesis)


def novel_pair(subcase: Subcase, entailed: bool, generator: np.random.Generator) -> tuple[str, str]:
    """Return a premise, and a hypothesis with words that the premise lacks.

    Args:
        subcase: provides premise and hypothesis; an entailed one if `entailed`.
        entailed: if true, one word of the hypothesis is replaced by one that follows from the
            premise's; otherwise, all its people and verbs are replaced by others.
        generator: is advanced.
    """
    premise, hypothesis = _template(subcase, generator)
    draw = Draw(generator)
    filled = draw.fill(premise)
    slots = changeable_slots(hypothesis)
    if not entailed:
        return filled, draw.fill(hypothesis, {slot: draw.novel(slot) for slot in slots})
    # A hypothesis always has a person, and a person always has a hypernym.
    implied = ((slot, draw.implied(slot)) for slot in generator.permutation(slots).tolist())
    slot, words = next((slot, words) for slot, words in implied if words is not None)
    return filled, draw.fill(hypothesis, {slot: words})


def _template(subcase: Subcase, generator: np.random.Generator) -> tuple[str, str]:
    return subcase.templates[int(generator.integers(0, len(subcase.templates)))]


def _balanced(
    per_cell: int, seen: bool, generator: np.random.Generator, used: set[str]
) -> list[_Sample]:
    """Return overlapping pairs: `per_cell` for each heuristic and label, half of them controls.

    The controls keep a model that ignores structure from succeeding with "not entailed if there is
    a cue word".
    """
    samples = []
    for heuristic in HEURISTICS:
        for entailed in (True, False):
            cell = [
                subcase
                for subcase in _subcases(entailed=entailed, seen=seen)
                if subcase.heuristic == heuristic
            ]
            controls = [subcase for subcase in cell if subcase.control]
            others = [subcase for subcase in cell if not subcase.control]
            num_controls = per_cell // 2 if controls else 0
            samples += _overlapping(controls, num_controls, generator, used)
            samples += _overlapping(others, per_cell - num_controls, generator, used)
    return samples


def _biased(
    size: int, config: Config, generator: np.random.Generator, used: set[str]
) -> list[_Sample]:
    """Return pairs of the training distribution."""
    overlapping = size // 2
    conflicting = round(config.bias_conflicting * overlapping)
    novel = size - overlapping
    novel_entailed = round(NOVEL_ENTAILED * novel)
    entailed_subcases = [s for s in _subcases(entailed=True, seen=True) if not s.control]
    conflicting_subcases = _subcases(entailed=False, seen=True)
    controls = [s for s in SUBCASES if s.control]
    # Each control occurs as often as the subcase that it controls.
    controlling = conflicting * len(controls) // len(conflicting_subcases)
    samples = _overlapping(conflicting_subcases, conflicting, generator, used)
    samples += _overlapping(controls, controlling, generator, used)
    aligned = overlapping - conflicting - controlling
    samples += _overlapping(entailed_subcases, aligned, generator, used)
    for entailed, count in ((True, novel_entailed), (False, novel - novel_entailed)):
        # Premises of both kinds: "if" or "never" alone must not predict whether words overlap.
        subcases = entailed_subcases if entailed else [s for s in SUBCASES if s.seen]
        for i in range(count):
            subcase = subcases[i % len(subcases)]
            pair = _fresh(partial(novel_pair, subcase, entailed, generator), used)
            samples.append(_Sample(*pair, entailed, subcase, "novel"))
    return samples


def _overlapping(
    subcases: Sequence[Subcase], count: int, generator: np.random.Generator, used: set[str]
) -> list[_Sample]:
    samples = []
    for i in range(count):
        subcase = subcases[i % len(subcases)]
        pair = _fresh(partial(overlapping_pair, subcase, generator), used)
        bias: Bias = "aligned" if subcase.entailed else "conflicting"
        samples.append(_Sample(*pair, subcase.entailed, subcase, bias))
    return samples


def _fresh(make: Callable[[], tuple[str, str]], used: set[str]) -> tuple[str, str]:
    """Return a pair that no split holds yet; there are far more than the sizes can ask for."""
    while True:
        pair = make()
        key = pair_key(*pair)
        if key not in used:
            used.add(key)
            return pair


def _subcases(*, entailed: bool, seen: bool) -> list[Subcase]:
    return [s for s in SUBCASES if s.entailed == entailed and s.seen == seen]


def _split(role: Role, suite: str, samples: Sequence[_Sample]) -> Split:
    return Split(
        role=role,
        suite=suite,
        first=[sample.premise for sample in samples],
        second=[sample.hypothesis for sample in samples],
        labels=np.array([0 if sample.entailed else 1 for sample in samples], dtype=np.int64),
        label_names=LABELS,
    )


def _id_split(role: Role, samples: Sequence[_Sample]) -> Split:
    split = _split(role, "shortcut_nli", samples)
    return replace(split, slices={"bias": [sample.bias for sample in samples]})


def _ood_split(role: Role, samples: Sequence[_Sample]) -> Split:
    slices: dict[str, Sequence[str]] = {
        "heuristic": [sample.subcase.heuristic for sample in samples],
        "subcase": [sample.subcase.name for sample in samples],
    }
    if role == "ood_dev":
        return replace(_split(role, "overlap", samples), slices=slices)
    slices["seen"] = ["seen" if sample.subcase.seen else "unseen" for sample in samples]
    headline = ("seen", "unseen")
    return replace(_split(role, "overlap", samples), slices=slices, headline=headline)
