"""Search algorithms and schedulers: whole ones load, unfinished ones are told by file and name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rc_core import plugins
from rc_core.errors import ConfigError
from tests.rc_core._plugins import WrittenPlugins, written

__all__ = ["written"]

SEARCH = '''"""Nothing is proposed."""


def proposals(sweep, study_file):
    raise NotImplementedError
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
