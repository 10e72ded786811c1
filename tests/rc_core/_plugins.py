"""Plugins that a test writes: found beside those of the project, and gone after it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LOSS = '''"""Cross-entropy."""

from torch.nn import functional

from rc_core.config import PluginConfig


class Config(PluginConfig):
    """No settings."""


class Loss:
    """Cross-entropy."""

    needs = frozenset({"difficulty"})

    def __init__(self, config):
        self.config = config

    def rows(self, context):
        return {}

    def __call__(self, logits, labels, rows):
        return functional.cross_entropy(logits, labels)
'''

COMPRESSION = '''"""Nothing is removed."""

from rc_core.config import CompressionConfig


class Config(CompressionConfig):
    """No settings."""


def problems(config, facts):
    return []


class Compression:
    """Nothing is removed."""

    def __init__(self, config):
        self.config = config

    def prepare(self, model, context):
        return model

    def after_step(self, model, progress):
        pass

    def finalize(self, model):
        return model

    def to_stock(self, model):
        return model

    def report(self, model):
        return {}
'''

TASK = '''"""That of another plugin."""

from rc_core.config import PluginConfig
from rc_core.data import shortcut_nli


class Config(PluginConfig):
    """No settings."""


def load(config):
    return shortcut_nli.load(shortcut_nli.Config(name="shortcut_nli"))
'''

DIFFICULTY = '''"""Every model is of the same opinion."""

import torch

from rc_core.config import PluginConfig
from rc_core.difficulty._base import Outputs

USES_TEACHER, LIGHT = False, True


class Config(PluginConfig):
    """No settings."""


def outputs(config, context):
    parts = {"train": context.task.train, "id_dev": context.task.id_dev}
    log_probs = {
        name: torch.full((1, len(part), 2), 0.5).log() for name, part in parts.items()
    }
    return Outputs(log_probs, {})


def scores(log_probs, labels):
    return 1.0 - log_probs[0, :, 0].double().exp()


def hard(log_probs, labels):
    return labels == 0


def title(config):
    return "difficulty: mine"


def summary(log_probs, labels, config):
    return {}
'''

WHOLE = {
    "rc_core.compression": COMPRESSION,
    "rc_core.data": TASK,
    "rc_core.difficulty": DIFFICULTY,
    "rc_core.losses": LOSS,
}


class WrittenPlugins:
    """Plugin files in a folder that is one more place of each plugin package."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._modules: set[str] = set()

    def write(self, package: str, text: str, name: str = "mine") -> Path:
        """Write a plugin's file, or another text into it as if this were a new process."""
        folder = self._root / package
        found = importlib.import_module(package).__path__
        if str(folder) not in found:
            folder.mkdir()
            found.append(str(folder))
        self._forget(f"{package}.{name}")
        self._modules.add(f"{package}.{name}")
        file = folder / f"{name}.py"
        file.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return file

    def remove(self) -> None:
        """Leave the packages as they were."""
        for module in self._modules:
            self._forget(module)
            package = module.rpartition(".")[0]
            found = sys.modules[package].__path__
            found[:] = [folder for folder in found if folder != str(self._root / package)]
        importlib.invalidate_caches()

    def _forget(self, module: str) -> None:
        package, _, name = module.rpartition(".")
        sys.modules.pop(module, None)
        vars(sys.modules[package]).pop(name, None)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WrittenPlugins]:
    """Yield what writes plugins."""
    # A compiled file of the same second and size would be taken for the edited one's.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "plugins").mkdir()
    plugins = WrittenPlugins(tmp_path / "plugins")
    yield plugins
    plugins.remove()
