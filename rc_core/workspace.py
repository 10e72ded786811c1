"""What trials in one process share: the artifact store, the device, tokenised data.

A worker process keeps one workspace for all its trials, so data is read and tokenised once.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from rc_core import plugins
from rc_core.artifacts import ArtifactKey, ArtifactStore, Backing
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, fingerprint
from rc_core.data._encoding import Encoded, encode
from rc_core.data._task import DEV_ROLES, TEST_ROLES, Split, Task, check_task, seal_name
from rc_core.model_facts import (
    file_digest,
    locate,
    model_facts,
    model_kind,
    weights_digest,
)
from rc_core.models import load_encoder, load_model, load_tokenizer
from rc_core.precision import cuda_precision, timed_precision
from rc_core.training import Precision

# Quick evaluations use this many samples of each dev suite, the same ones in every trial.
RUNG_SAMPLES = 256
# Files that define a folder's model besides its weights: its shape and dropout, its tokenizer.
_MODEL_FILES = (
    "config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
)


@dataclass
class TaskData:
    """A task with its tokenised splits, which are made when first asked for.

    Attributes:
        task: texts and labels.
        tokenizer: the encoder's own.
        max_length: tokens kept per sample, never more than the encoder has positions.
        positions: the longest input that the encoder accepts, in tokens; None if unknown.
    """

    task: Task
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    positions: int | None = None
    _encoded: dict[str, Encoded] = field(default_factory=dict)
    _samples: dict[str, Split] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def digest(self, split: Split | None = None) -> str:
        """Return the digest of the task, or of one of its splits; computed only once."""
        key = "" if split is None else split.name
        if key not in self._digests:
            self._digests[key] = (self.task if split is None else split).digest()
        return self._digests[key]

    @property
    def open_splits(self) -> list[Split]:
        """The splits that a trial may be evaluated on: those of the dev roles."""
        return [split for role in DEV_ROLES for split in self.task.of_role(role)]

    def encoded(self, split: Split, *, sample: bool = False) -> Encoded:
        """Return the tokens of one of the task's splits, or of its `sample`; made once.

        Any other part of a split (`Split.take`) is tokenised anew at each call.
        """
        if not sample and not any(split is each for each in self.task.splits):
            return encode(split, self.tokenizer, self.max_length)
        name = f"{split.name}#{RUNG_SAMPLES}" if sample else split.name
        if name not in self._encoded:
            self._encoded[name] = encode(split, self.tokenizer, self.max_length)
        return self._encoded[name]

    def sample(self, split: Split) -> Split:
        """Return the fixed random sample of a split's headline that rungs are evaluated on."""
        if split.name not in self._samples:
            counted = np.flatnonzero(split.headline_rows())
            rows = np.random.default_rng(0).permutation(counted)[:RUNG_SAMPLES]
            self._samples[split.name] = split.take(np.sort(rows))
        return self._samples[split.name]

    def facts(self, splits: Sequence[Split]) -> dict[str, Any]:
        """Return what a record says about the data: sizes, digests, truncated texts, limits, notes.

        `sealed` holds the digests of the test splits, which the sealed test is checked against;
        empty if the task has none.
        """
        facts: dict[str, Any] = {"digest": self.digest(), "notes": dict(self.task.notes)}
        facts["max_length"] = self.max_length
        if self.positions is not None:
            facts["positions"] = self.positions
        for split in splits:
            encoded = self.encoded(split)
            facts[split.name] = {
                "samples": len(split),
                "digest": self.digest(split)[:16],
                "truncated": encoded.truncated,
                "mean_tokens": round(float(encoded.lengths.mean()), 1),
            }
        tests = [split for split in self.task.splits if split.role in TEST_ROLES]
        sealed = {**self.task.sealed, **{seal_name(s): self.digest(s)[:16] for s in tests}}
        return facts | {"sealed": sealed}


class Workspace:
    """The artifact store, the device and the data cache of one process."""

    def __init__(
        self,
        artifacts: str | Path,
        *,
        device: str | None = None,
        sealed: bool = True,
        backing: Backing | None = None,
    ) -> None:
        """Store the settings.

        Args:
            artifacts: root of the artifact store.
            device: as torch names it; by default the first GPU, else the CPU.
            sealed: leave the test roles out of every task; only the sealed test opens them.
            backing: where artifacts are kept beyond this machine.
        """
        self._sealed = sealed
        self.store = ArtifactStore(artifacts, backing)
        # Which node and accelerators of a cluster this process holds, if its caller says so.
        self.place: dict[str, Any] = {}
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._task: tuple[str, Task] | None = None
        self._data: dict[str, TaskData] = {}
        self._model: tuple[str, nn.Module] | None = None

    def encoder(self, spec: str, *, label_names: Sequence[str], seed: int) -> nn.Module:
        """Return a new copy of an encoder, see `load_encoder`; the last one is cached."""
        key = fingerprint([model_digest(spec), list(label_names), seed])
        return self._copy_of(key, lambda: load_encoder(spec, label_names=label_names, seed=seed))

    def stored_model(self, folder: Path) -> nn.Module:
        """Return a new copy of the model in an artifact's folder; the last one is cached."""
        return self._copy_of(str(folder), lambda: load_model(folder))

    def _copy_of(self, key: str, load: Callable[[], nn.Module]) -> nn.Module:
        """Return a copy of the cached model; only the last model is cached, on the CPU."""
        if self._model is None or self._model[0] != key:
            self._model = None  # freed before the next one is read
            self._model = (key, load())
        return copy.deepcopy(self._model[1])

    def data(self, config: TrialConfig, *, model: str | None = None) -> TaskData:
        """Return the task of a configuration with an encoder's tokens, made once per process.

        Args:
            config: names the task.
            model: the encoder whose tokenizer is used; by default the configuration's `model`. The
                splits and their order do not depend on it.

        Raises:
            DataError: see `rc_core.data._task.check_task`.
        """
        spec = model or config.model
        # Only one task is cached: a sweep has one, and this bounds the memory.
        task_key = fingerprint(config.task.as_dict())
        if self._task is None or self._task[0] != task_key:
            module = plugins.load(PLUGIN_PACKAGES["task"], config.task.name)
            task = check_task(module.load(config.task))
            self._task = (task_key, task.without_tests() if self._sealed else task)
            self._data = {}
        positions = model_facts(spec).max_positions
        max_length = min(config.training.max_length, positions)
        key = f"{spec}|{max_length}"
        if key not in self._data:
            self._data[key] = TaskData(self._task[1], load_tokenizer(spec), max_length, positions)
        return self._data[key]

    def precision(self, config: TrialConfig) -> Precision:
        """Return the precision to train in; a CPU times `auto`, once per machine and model."""
        if config.training.precision != "auto":
            return config.training.precision
        if self.device.type == "cuda":
            return cuda_precision()
        key = self._precision_key(config)

        def build(folder: Path) -> None:
            data = self.data(config)
            model = load_encoder(config.model, label_names=data.task.label_names, seed=0)
            train = data.encoded(data.task.train)
            chosen = timed_precision(model.to(self.device), train, config.training)
            (folder / "precision.json").write_text(json.dumps(chosen))

        artifact = self.store.build(key, build)
        return str(json.loads((artifact.path / "precision.json").read_text()))

    def knows_precision(self, config: TrialConfig) -> bool:
        """Tell whether `precision` can answer without timing anything."""
        if config.training.precision != "auto" or self.device.type == "cuda":
            return True
        return self.store.has(self._precision_key(config))

    def _precision_key(self, config: TrialConfig) -> ArtifactKey:
        return ArtifactKey(
            kind="precision",
            version=2,  # 2: processor time of the steps of `fit`.
            inputs={
                "processor": _processor(self.device),
                "torch": torch.__version__,
                "model": config.model,
                "max_length": config.training.max_length,
            },
        )

    def identity(self, config: TrialConfig) -> dict[str, Any]:
        """Return what any model trained for a configuration depends on: encoder, data, length."""
        data = self.data(config)
        return {
            "model": model_digest(config.model),
            "task": config.task.name,
            "data": data.digest(),
            "max_length": data.max_length,
            "precision": self.precision(config),
            "device": self.device.type,
        }

    @property
    def processor(self) -> str:
        """The name of the processor or the GPU."""
        return _processor(self.device)

    def environment(self) -> dict[str, Any]:
        """Return versions and hardware, for the record."""
        names = ("torch", "transformers", "robust-compression-sweeps")
        return {
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in names},
            "device": self.device.type,
            "processor": _processor(self.device),
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            **self.place,
        }


def model_digest(spec: str) -> str:
    """Return a digest of an encoder: its weights, its config and its tokenizer's files."""
    weights = weights_digest(spec)
    if model_kind(spec)[0] == "tiny":
        return weights
    folder = locate(spec)
    found = {file for pattern in _MODEL_FILES for file in folder.glob(pattern) if file.is_file()}
    return fingerprint([weights, *([file.name, file_digest(file)] for file in sorted(found))])


@functools.cache
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model} ({torch.backends.cpu.get_cpu_capability()})"
