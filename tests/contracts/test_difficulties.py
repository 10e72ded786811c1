"""What every estimate of difficulty must hold, for every plugin found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rc_core import plugins
from rc_core.config import PluginConfig
from rc_core.data._splits import split_keys
from rc_core.data._task import Split, Task
from rc_core.difficulty._base import DifficultyContext, Predict, PrunedLevel
from rc_core.difficulty._text import folds
from rc_core.errors import ConfigError, DifficultyError
from rc_core.schema import validate_section
from tests.rc_core._data import LABELS, split

PACKAGE = "rc_core.difficulty"
NAMES = plugins.available(PACKAGE)
# Only where a `Config` cannot be had from its name alone.
EXAMPLES: dict[str, dict[str, Any]] = {}

over_difficulties = pytest.mark.parametrize("name", NAMES)


def config_of(name: str, **values: Any) -> Any:
    module = plugins.load(PACKAGE, name)
    return validate_section(module.Config, {"name": name, **EXAMPLES.get(name, {}), **values})


def judge(seed: int) -> Predict:
    """Return a model that says the same of the same text, and what depends on nothing else."""

    def predict(given: Split) -> NDArray[np.float32]:
        texts = zip(given.first, given.second or (), strict=True)
        rows = [
            np.random.default_rng([seed, *f"{a}|{b}".encode()]).normal(size=2) for a, b in texts
        ]
        return torch.from_numpy(np.stack(rows)).log_softmax(-1).float().numpy()

    return predict


def noisy(given: Split) -> Split:
    """Turn every seventh label, so that no text tells them all; and make every pair another one."""
    labels = given.labels.copy()
    labels[::7] = 1 - labels[::7]
    first = [f"{text} {i}" for i, text in enumerate(given.first)]
    return replace(given, labels=labels, first=first)


def context() -> tuple[DifficultyContext, list[NDArray[np.int64]]]:
    """Return a context of made-up models, and a list that collects what each was trained on."""
    task = Task(
        name="words",
        label_names=LABELS,
        splits=(noisy(split(80, 0)), noisy(split(30, 1, "id_dev")), split(30, 2, "ood_dev")),
    )
    trained: list[NDArray[np.int64]] = []

    def prune(levels: tuple[float, ...], **_: Any) -> Iterator[PrunedLevel]:
        for i, level in enumerate(levels):
            yield PrunedLevel(level, judge(i), 1.0)

    def fit_dense(
        rows: NDArray[np.int64], *, epochs: float | None = None, seed: int | None = None
    ) -> Predict:
        trained.append(rows)
        return judge(100 + len(trained))

    def fit_points(rows: NDArray[np.int64], *, points: int, **_: Any) -> Iterator[Predict]:
        trained.append(rows)
        return (judge(200 + 10 * len(trained) + point) for point in range(points))

    given = DifficultyContext(
        task, prune, fit_dense, seed=0, teacher=judge(99), fit_points=fit_points
    )
    return given, trained


def test_plugins_are_found() -> None:
    assert {"loss_variance", "level_errors", "hypothesis_only", "teacher_errors"} <= set(NAMES)


@over_difficulties
def test_outputs_scores_and_halves_have_the_stated_shapes(name: str) -> None:
    module, (given, _) = plugins.load(PACKAGE, name), context()
    found = module.outputs(config_of(name), given)
    for key, part in (("train", given.task.train), ("id_dev", given.task.id_dev)):
        outputs = found.log_probs[key]
        labels = torch.from_numpy(part.labels)
        assert outputs.ndim == 3 and outputs.shape[1:] == (len(part), 2)
        np.testing.assert_allclose(outputs.exp().sum(-1).numpy(), 1.0, atol=1e-4)
        scores = module.scores(outputs, labels)
        assert scores.shape == (len(part),) and scores.dtype == torch.float64
        assert bool(torch.isfinite(scores).all()) and float(scores.max()) > float(scores.min())
        hard = module.hard(outputs, labels)
        assert hard.dtype == torch.bool and 0 < int(hard.sum()) < len(part)
        # Hard samples have the higher scores.
        assert scores[hard].mean() > scores[~hard].mean()
    labels = torch.from_numpy(given.task.train.labels)
    assert isinstance(module.summary(found.log_probs["train"], labels, config_of(name)), dict)
    assert module.title(config_of(name)).startswith("difficulty: ")


@pytest.mark.parametrize("name", ["hypothesis_only", "teacher_errors"])
def test_cross_fitting_learns_nothing_from_repeated_texts(name: str) -> None:
    """Labels at random: what judges a text must not have seen the same text with its label."""
    generator = np.random.default_rng(0)
    size, words = 240, [f"word{i}" for i in range(60)]
    texts = [" ".join(generator.choice(words, 6)) for _ in range(size)]
    labels = generator.integers(2, size=size)
    twice = Split(
        role="train",
        suite="words",
        first=[*texts, *(f"{text}." for text in texts)],
        second=[*texts, *(text.upper() for text in texts)],
        labels=np.concatenate([labels, labels]).astype(np.int64),
        label_names=LABELS,
    )

    def fit_dense(
        rows: NDArray[np.int64], *, epochs: float | None = None, seed: int | None = None
    ) -> Predict:
        """Return a model that remembers what it saw, in spite of case and punctuation."""
        seen = {twice.first[i].strip("."): twice.labels[i] for i in rows.tolist()}

        def predict(given: Split) -> NDArray[np.float32]:
            known = [seen.get(text.strip("."), -1) for text in given.first]
            found = [[0.9 if y == 0 else 0.1, 0.9 if y == 1 else 0.1] for y in known]
            return np.log(np.array(found, np.float32))

        return predict

    task = Task("words", LABELS, (twice, replace(split(30, 1, "id_dev")), split(30, 2, "ood_dev")))
    given = DifficultyContext(task, context()[0].prune_levels, fit_dense, seed=0)
    module = plugins.load(PACKAGE, name)
    found = module.outputs(config_of(name), given).log_probs["train"]
    accuracy = float((found[0].argmax(dim=1).numpy() == twice.labels).mean())
    assert 0.35 < accuracy < 0.65
    once = folds(labels.astype(np.int64), texts, 5, 0)
    keys = split_keys(twice)
    assert folds(twice.labels, keys, 5, 0).tolist() == [*once, *once], "and the halves alike"


def test_folds_without_repeats_are_what_they_were() -> None:
    labels = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0])
    generator = np.random.default_rng(3)
    expected = np.empty(12, dtype=np.int64)
    for label in (0, 1):
        rows = generator.permutation(np.flatnonzero(labels == label))
        expected[rows] = np.arange(len(rows)) % 3
    assert folds(labels, list("abcdefghijkl"), 3, 3).tolist() == expected.tolist()
    with pytest.raises(DifficultyError, match="each of 3 folds, but its 2 fill only 1"):
        folds(labels, list("aabbbaabbbaa"), 3, 3)


@over_difficulties
def test_the_same_seed_gives_the_same_outputs(name: str) -> None:
    module = plugins.load(PACKAGE, name)
    first, second = (module.outputs(config_of(name), context()[0]).log_probs for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in ("train", "id_dev"))


@over_difficulties
def test_only_open_in_distribution_data_is_looked_at(name: str) -> None:
    module, (given, _) = plugins.load(PACKAGE, name), context()
    expected = module.outputs(config_of(name), given).log_probs
    fewer = Task(name="words", label_names=LABELS, splits=given.task.splits[:2])
    anew = context()[0]
    again = replace(given, task=fewer, fit_dense=anew.fit_dense, fit_points=anew.fit_points)
    found = module.outputs(config_of(name), again).log_probs
    assert all(torch.equal(found[key], expected[key]) for key in ("train", "id_dev"))


@over_difficulties
def test_config_is_a_strict_section(name: str) -> None:
    config = config_of(name)
    assert isinstance(config, PluginConfig)
    assert validate_section(type(config), config.as_dict()) == config
    with pytest.raises(ConfigError, match="unknown key 'levls'"):
        config_of(name, levls=[0.5])


def test_teacher_errors_judges_no_sample_by_a_model_that_saw_it() -> None:
    module, (given, trained) = plugins.load(PACKAGE, "teacher_errors"), context()
    found = module.outputs(config_of("teacher_errors", folds=4), given).log_probs["train"][0]
    assert len(trained) == 4
    train = given.task.train
    for number, rows in enumerate(trained, start=1):
        held = np.setdiff1d(np.arange(len(train)), rows)
        np.testing.assert_array_equal(found[held].numpy(), judge(100 + number)(train.take(held)))
        # Folds keep the labels' shares.
        share = train.labels[held].mean()
        assert abs(share - train.labels.mean()) < 0.1
    held_out = np.concatenate([np.setdiff1d(np.arange(80), rows) for rows in trained])
    assert sorted(held_out.tolist()) == list(range(80))


def test_teacher_errors_judges_id_dev_by_the_folds_mean_probability() -> None:
    """By hand: 0.99 and 0.5 are 0.745 together; their logs' mean, normalised, would be 0.909."""
    rights = iter((0.99, 0.5))

    def fit_dense(
        rows: NDArray[np.int64], *, epochs: float | None = None, seed: int | None = None
    ) -> Predict:
        right = next(rights)
        said = np.log(np.array([right, 1 - right], np.float32))
        return lambda given: np.tile(said, (len(given), 1))

    module, given = plugins.load(PACKAGE, "teacher_errors"), context()[0]
    found = module.outputs(config_of("teacher_errors"), replace(given, fit_dense=fit_dense))
    np.testing.assert_allclose(
        found.log_probs["id_dev"].exp().numpy(), np.tile([0.745, 0.255], (1, 30, 1)), rtol=1e-5
    )


def test_hypothesis_only_reads_nothing_but_the_second_text() -> None:
    module, (given, _) = plugins.load(PACKAGE, "hypothesis_only"), context()
    expected = module.outputs(config_of("hypothesis_only"), given).log_probs["train"]
    # No pair becomes another's repetition.
    changed = [replace(s, first=[f"other{i}" for i in range(len(s))]) for s in given.task.splits]
    task = Task(name="words", label_names=LABELS, splits=tuple(changed))
    again = DifficultyContext(
        task, given.prune_levels, given.fit_dense, seed=0, teacher=given.teacher
    )
    found = module.outputs(config_of("hypothesis_only"), again).log_probs["train"]
    assert torch.equal(found, expected)
    # The second word decides six of seven labels.
    hard = module.hard(found, torch.from_numpy(given.task.train.labels))
    assert float(hard.double().mean()) < 0.25
    # Of two labels the likelier has more than a half.
    outputs = module.outputs(config_of("hypothesis_only"), given)
    for name, part in (("train", given.task.train), ("id_dev", given.task.id_dev)):
        chosen = outputs.log_probs[name][0].exp()[torch.arange(len(part)), part.labels]
        assert outputs.report[f"{name}_accuracy"] == float((chosen > 0.5).double().mean())


def test_level_errors_call_hard_what_every_level_gets_wrong() -> None:
    """Loss variance does not: such losses are large and alike."""
    right, wrong = [[-0.1, -2.4]], [[-2.4, -0.1]]
    # Three samples of label 0: right everywhere, wrong everywhere, wrong at the last level only.
    levels = torch.tensor([[*right, *wrong, *right], [*right, *wrong, *wrong]])
    labels = torch.zeros(3, dtype=torch.int64)
    errors, variance = (
        plugins.load(PACKAGE, name).scores(levels, labels).tolist()
        for name in ("level_errors", "loss_variance")
    )
    assert errors[0] < errors[2] < errors[1]
    assert variance[0] == variance[1] < variance[2]
    report = plugins.load(PACKAGE, "level_errors").summary(
        levels, labels, config_of("level_errors")
    )
    assert report == {"wrong_at_every_level": pytest.approx(1 / 3)}
