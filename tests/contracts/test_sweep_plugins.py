"""Search algorithms and schedulers: whole ones load, unfinished ones are told by file and name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rc_core import plugins
from rc_core.errors import ConfigError
from sweeps.config import SweepConfig
from sweeps.search._checked import check_first, check_point, made_proposals
from tests.rc_core._plugins import WrittenPlugins, written

__all__ = ["written"]

SEARCH = '''"""Nothing is proposed."""


def proposals(sweep, study_file):
    raise NotImplementedError
'''
WHOLE_SEARCH = '''"""The middle of the space, again and again."""


class Middle:
    exhaustive = False
    choose = None

    def __init__(self, sweep):
        self._space = sweep.space

    def propose(self, trial_id, point=None):
        return self._space.center({})

    def tell(self, trial_id, outcome):
        pass

    def discard(self, trial_id):
        pass

    def know(self, known):
        pass

    def unfinished(self):
        return {}


def proposals(sweep, study_file):
    return Middle(sweep)
'''
SCHEDULER = '''"""Nothing is stopped."""

from sweeps.settings import SchedulerConfig


class Config(SchedulerConfig):
    """Nothing to set."""


def problems(config, objectives):
    return []


def build(config, objectives):
    return None
'''


@pytest.mark.parametrize("package", ["sweeps.search", "sweeps.schedulers"])
def test_all_of_ours_are_whole(package: str) -> None:
    names = plugins.available(package)
    assert len(names) > 3
    for name in names:
        plugins.check(package, name, plugins.load(package, name))
        assert plugins.summary(package, name)


@pytest.mark.parametrize(
    ("package", "text"), [("sweeps.search", SEARCH), ("sweeps.schedulers", SCHEDULER)]
)
def test_one_that_is_written_is_found(written: WrittenPlugins, package: str, text: str) -> None:
    written.write(package, text)
    assert "mine" in plugins.available(package)
    assert plugins.load(package, "mine").__name__ == f"{package}.mine"


@pytest.mark.parametrize(
    ("package", "text", "change", "told"),
    [
        (
            "sweeps.search",
            SEARCH,
            lambda text: text.replace("proposals", "propose"),
            "must define proposals(), but lacks proposals()",
        ),
        (
            "sweeps.schedulers",
            SCHEDULER,
            lambda text: text.replace("def build", "def make"),
            "must define problems(), build(), but lacks build()",
        ),
        (
            "sweeps.schedulers",
            SCHEDULER,
            lambda text: text.replace("Config(SchedulerConfig)", "Config"),
            "Config must be derived from SchedulerConfig, but is from object",
        ),
    ],
)
def test_what_one_lacks_is_told(
    written: WrittenPlugins, package: str, text: str, change: Callable[[str], str], told: str
) -> None:
    written.write(package, change(text))
    with pytest.raises(ConfigError) as found:
        plugins.load(package, "mine")
    assert f"{package.replace('.', '/')}/mine.py" in str(found.value)
    assert told in str(found.value) and "_base.py" in str(found.value)


SWEEP: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli"},
    "space": {
        "compression.name": {"choice": ["magnitude", "dense"]},
        "compression.sparsity": {"uniform": [0.2, 0.6], "when": {"compression.name": "magnitude"}},
        "compression.num_prunings": {"int": [8, 16], "when": {"compression.name": "magnitude"}},
        "training.learning_rate": {"log_uniform": [1.0e-5, 1.0e-3]},
    },
    "search": {"name": "mine", "trials": 6},
}
MIDDLE = "return self._space.center({})"
WITH = f"{MIDDLE} | {{%s}}"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("def know", "def learn"), r"must also have know\(\), but Middle does not"),
        (("choose = None", "pass"), "must also have choose"),
        (("return Middle(sweep)", "return None"), r"propose\(\), tell.*but NoneType does not"),
        (
            ("return Middle(sweep)", "return sweep.nothing"),
            "raised AttributeError",
        ),
        ((MIDDLE, "raise KeyError('x')"), r"must return a point or None, but raised KeyError: 'x'"),
        ((MIDDLE, "return [1]"), r"must return a dict of dotted keys, or None, but got \[1\]"),
        (
            (MIDDLE, f"{MIDDLE} | {{'loss.name': 'rmc'}}"),
            "has loss.name, though it is not searched",
        ),
        (
            (MIDDLE, WITH % "'compression.name': 'dense'"),
            "has compression.*, though its condition does not hold",
        ),
        ((MIDDLE, WITH % "'compression.num_prunings': 8.5"), "not in whole numbers 8 to 16"),
        (
            (MIDDLE, f"{MIDDLE} | {{'compression.sparsity': 0.7}}"),
            "is 0.7, which is not in 0.2 to 0.6",
        ),
        ((MIDDLE, WITH % "'compression.name': 'ffn'"), "none of .'magnitude', 'dense'."),
        ((MIDDLE, "return {}"), "lacks compression.name"),
    ],
)
def test_a_search_that_cannot_work_is_told_before_anything_is_started(
    written: WrittenPlugins, change: tuple[str, str], told: str
) -> None:
    assert change[0] in WHOLE_SEARCH
    written.write("sweeps.search", WHOLE_SEARCH.replace(*change))
    with pytest.raises(ConfigError, match=f"sweeps/search/mine.py: .*{told}"):
        check_first(SweepConfig(SWEEP))


@pytest.mark.parametrize("name", ["mine", "gp", "nsga2", "qmc", "random", "tpe"])
def test_a_whole_search_is_let_be(written: WrittenPlugins, name: str) -> None:
    written.write("sweeps.search", WHOLE_SEARCH)
    sweep = SweepConfig(SWEEP | {"search": {"name": name, "trials": 6}})
    check_first(sweep)
    proposals = made_proposals(sweep, None)
    for number in range(30):
        check_point(name, proposals.propose(f"t{number:04d}"), sweep.space)


def test_a_range_s_end_that_a_logarithm_has_moved_is_in_it() -> None:
    sweep = SweepConfig(SWEEP | {"search": {"name": "random", "trials": 6}})
    point = sweep.space.center({}) | {"training.learning_rate": 1.0e-3 * (1 + 1e-12)}
    assert not sweep.space.contains(point)
    check_point("random", point, sweep.space)
