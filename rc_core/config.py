"""One trial's configuration: the schema shared by YAML, `--set`, records and tests.

The sections `task`, `compression`, `loss` and `difficulty` belong to plugins: each plugin's own
`Config` validates its section. This module reaches plugins only by loading them (plugins.load).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from rc_core import plugins
from rc_core.errors import ConfigError, Problem, collecting, did_you_mean
from rc_core.former import completed
from rc_core.labels import short
from rc_core.schema import Section, validate_section
from rc_core.yaml_files import merge

PLUGIN_PACKAGES: dict[str, str] = {
    "task": "rc_core.data",
    "compression": "rc_core.compression",
    "loss": "rc_core.losses",
    "difficulty": "rc_core.difficulty",
}

DEFAULTS: dict[str, Any] = {
    "task": {"name": "shortcut_nli"},
    "training": {},
    "teacher": {},
    "compression": {"name": "dense"},
    "loss": {"name": "vanilla"},
    "difficulty": {"name": "loss_variance"},
}

_USUAL_DIFFICULTY = DEFAULTS["difficulty"]["name"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
# The range that torch, numpy and Optuna all accept.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class PluginConfig(Section):
    """Base of every plugin's `Config`; `name` is the plugin's file name.

    Attributes:
        artifact_keys: keys of a trial's configuration (`training.seed`) on which a shared artifact
            depends because of this plugin. A sweep builds such an artifact before its first trial,
            once for each value of these keys, so it can search them only as choices. Leave out what
            is known anyway: the dense reference's training, `difficulty`, what a loss's `needs`
            asks for, `ALPHA_KEYS`.
    """

    artifact_keys: ClassVar[frozenset[str]] = frozenset()

    name: str

    def label(self) -> str:
        """Return a short name of what differs from the defaults: `rmc alpha=0.3`."""
        return " ".join([self.name, *self.label_parts()])

    def label_parts(self, *, leave_out: Collection[str] = ()) -> list[str]:
        """Return `alpha=0.3` and the like, for what differs from the defaults.

        Args:
            leave_out: fields that the label states in another way, or not at all.
        """
        fields = type(self).model_fields
        return [
            f"{fields[name].alias or name}={short(value)}"
            for name, value in self
            if name not in ("name", "init", *leave_out) and value != fields[name].default
        ]


class CompressionConfig(PluginConfig):
    """What every compression's `Config` has.

    Attributes:
        init: weights to start from: the pretrained encoder (same number of optimizer steps as the
            dense reference), or the fine-tuned teacher (then its steps are counted too).
    """

    init: Literal["pretrained", "teacher"] = "pretrained"

    def encoder(self, model: str) -> str:
        """Return the encoder to compress: the sweep's `model`, unless the plugin has its own.

        The compressed model uses that encoder's tokenizer and positions; the reference stays
        `model`.
        """
        return model

    def settled(self) -> float:
        """Return the share of the steps after which the structure no longer changes, in [0, 1].

        By default the `ramp` of a gradual compression, 0 if there is none.
        """
        return float(getattr(self, "ramp", 0.0))


class TrainingConfig(Section):
    """How a model is fitted: AdamW, linear warm-up then linear decay (paper: section 4).

    Attributes:
        epochs: passes over the training data; fractions are allowed.
        batch_size: samples per optimizer step.
        learning_rate: peak of the schedule.
        weight_decay: decoupled, on matrices only (no biases, no layer norms).
        warmup: share of the steps over which the learning rate rises, in [0, 1].
        max_length: tokens kept per text or pair; longer ones are truncated and counted in the
            record.
        max_grad_norm: gradients are clipped to this norm; 0 turns clipping off.
        precision: `auto` is bf16 autocast on a GPU that has it; on a CPU steps are timed in both,
            and bf16 is used if it is clearly faster than fp32.
        seed: fixes initialisation of new weights, data order and dropout.
        rungs: equal parts of training; after each but the last a quick evaluation on a fixed sample
            is reported (what schedulers see), after the last the full one.
    """

    epochs: Annotated[float, Field(gt=0)] = 2.0
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Share = 0.06
    max_length: Annotated[int, Field(ge=8)] = 128
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Seed = 0
    rungs: Annotated[int, Field(ge=1)] = 2


# Keys on which the choice of alpha (`rc_core.alpha`) depends if a loss has `alpha: auto`: that is
# made by training with the loss, with one seed.
ALPHA_KEYS = frozenset(
    {"loss", *(f"training.{k}" for k in TrainingConfig.model_fields if k not in ("seed", "rungs"))}
)


class TrialConfig(BaseModel):
    """One point of the space, fully resolved. Make it with `decode`.

    Attributes:
        model: `packaged:NAME`, `tiny:ARCHITECTURE`, a local folder, or a hub id (`name@revision`).
        teacher: overrides of `training` for the dense reference.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())

    model: str
    task: SerializeAsAny[PluginConfig]
    training: TrainingConfig
    teacher: dict[str, Any]
    compression: SerializeAsAny[CompressionConfig]
    loss: SerializeAsAny[PluginConfig]
    difficulty: SerializeAsAny[PluginConfig]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, keyed as in the YAML."""
        return self.model_dump(mode="json", by_alias=True)

    def label(self) -> str:
        """Return a short name of what differs from the defaults: `magnitude-70 rmc alpha=0.3`."""
        label = f"{self.compression.label()} {self.loss.label()}"
        difficulty = self.difficulty.label() if "difficulty" in self.needs() else ""
        if difficulty not in ("", _USUAL_DIFFICULTY):
            label = f"{label} {difficulty}"
        return f"{label} init=teacher" if self.compression.init == "teacher" else label

    def needs(self) -> frozenset[str]:
        """Return which shared outputs the loss reads; their names are `losses._base.Need`."""
        needs: frozenset[str] = plugins.load(PLUGIN_PACKAGES["loss"], self.loss.name).Loss.needs
        return needs

    def fingerprint(self) -> str:
        """Return 16 hex digits that change whenever anything in the configuration changes."""
        return fingerprint(self.as_dict())

    def sources(self) -> dict[str, str]:
        """Return a digest of each plugin's file, by section, which changes when it is edited."""
        return {
            section: plugins.digest(package, getattr(self, section).name)
            for section, package in PLUGIN_PACKAGES.items()
        }

    def reference(self) -> TrialConfig:
        """Return the dense, vanilla configuration that this one is compared with (the teacher)."""
        raw = self.as_dict()
        raw["training"] = merge(raw["training"], self.teacher)
        raw["compression"] = {"name": "dense"}
        raw["loss"] = {"name": "vanilla"}
        return decode(raw)

    def is_reference(self) -> bool:
        """Tell whether this configuration *is* the dense reference, which is trained once."""
        return self == self.reference()


def fingerprint(values: Any) -> str:
    """Return 16 hex digits of a SHA-256 over canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def seedless(values: Mapping[str, Any]) -> str:
    """Return a fingerprint of a resolved configuration that leaves out the training seeds.

    Trials that differ only in `training.seed` (and the teacher's) count as one configuration, even
    if one was recorded by a version that lacked some of today's keys, or when the data lay
    elsewhere (`task.data_dir`): its samples are compared by digest.
    """
    return fingerprint(seedfree(values))


def seedfree(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that `seedless` takes a fingerprint of."""
    values = completed(values)
    left = {key: value for key, value in values.items() if key not in ("training", "teacher")}
    for section in ("training", "teacher"):
        left[section] = {k: v for k, v in values.get(section, {}).items() if k != "seed"}
    return placeless(left)


def placeless(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's values without the location of its data, which differs by machine.

    What tells the samples apart is their digest.
    """
    return {key: without_place(value) if key == "task" else value for key, value in values.items()}


def without_place(section: Any) -> Any:
    """Return a section (or a plain value in its place) without the location of its files."""
    if isinstance(section, Mapping):
        return {key: value for key, value in section.items() if key != "data_dir"}
    return section


def current_fingerprint(values: Mapping[str, Any]) -> str:
    """Return the fingerprint that a recorded configuration has today."""
    return fingerprint(completed(values))


def decode_recorded(values: Mapping[str, Any]) -> TrialConfig:
    """Validate a recorded configuration, of this or an earlier version, as it was trained.

    Raises:
        ConfigError: as `decode`.
    """
    return decode(completed(values))


def absolute_model(spec: str) -> str:
    """Return a model's name so that any process can use it: a folder becomes an absolute path.

    Workers run in other folders, and a sweep may be resumed from another one.
    """
    if spec.startswith(("packaged:", "tiny:")) or not Path(spec).expanduser().is_dir():
        return spec
    return str(Path(spec).expanduser().resolve())


def decode(raw: Mapping[str, Any], where: str = "") -> TrialConfig:
    """Validate one trial's plain values.

    Raises:
        ConfigError: every problem of every section at once, and of the plugins' files.
    """
    known = ["model", *DEFAULTS]
    problems = [
        Problem(_at(where, str(key)), f"unknown key: {did_you_mean(str(key), known)}")
        for key in raw
        if key not in known
    ]
    values: dict[str, Any] = {}
    model = raw.get("model")
    if isinstance(model, str) and model:
        values["model"] = absolute_model(model)
    else:
        message = f"must name an encoder (a hub id, a folder), but got {model!r}"
        problems.append(Problem(_at(where, "model"), message))
    for key, default in DEFAULTS.items():
        with collecting(problems, ConfigError):
            values[key] = _decode_section(key, raw.get(key, default), _at(where, key))
    alpha_on = getattr(values.get("loss"), "alpha_on", None)
    if alpha_on is not None:
        with collecting(problems, ConfigError):
            # Only checked: a record keeps what was given.
            _decode_section("compression", alpha_on, _at(where, "loss.alpha_on"))
    if "training" in values and "teacher" in values:
        with collecting(problems, ConfigError):
            # Checked as what the reference will be trained with: `training` with the overrides.
            merged = merge(values["training"].as_dict(), values["teacher"])
            validate_section(TrainingConfig, merged, _at(where, "teacher"))
    if problems:
        raise ConfigError(problems)
    return TrialConfig(**values)


def _decode_section(key: str, given: Any, where: str) -> Any:
    """Return a section, validated; `teacher` is returned as it is, as it only has overrides."""
    if not isinstance(given, Mapping):
        reason = plugins.not_a_mapping(key, given, PLUGIN_PACKAGES.get(key))
        raise ConfigError(Problem(where, reason))
    if key == "teacher":
        return dict(given)
    if key == "training":
        return validate_section(TrainingConfig, given, where)
    name = given.get("name")
    if not isinstance(name, str):
        names = plugins.available(PLUGIN_PACKAGES[key])
        raise ConfigError(
            Problem(_at(where, "name"), f"is required; available: {', '.join(names)}; got {name!r}")
        )
    try:
        plugin = plugins.load(PLUGIN_PACKAGES[key], name)
    except ConfigError as error:
        # A plugin that exists but is unfinished is reported under its file.
        raise ConfigError(
            Problem(problem.where or _at(where, "name"), problem.message)
            for problem in error.problems
        ) from None
    return validate_section(plugin.Config, given, where)


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
