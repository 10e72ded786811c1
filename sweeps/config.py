"""A sweep's configuration: one trial's sections as the base, and the space searched over them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rc_core.config import DEFAULTS, PLUGIN_PACKAGES, TrainingConfig, TrialConfig, decode
from rc_core.encoders import Encoders
from rc_core.errors import ConfigError, Problem, did_you_mean
from rc_core.schema import validate_section
from rc_core.yaml_files import lookup, merge, read_yaml
from sweeps.fixed_design import (
    ROW_CHECKS,
    fixed_rows,
    teacher_problems,
)
from sweeps.plugin_configs import SWEPT, artifact_keys, changed_defaults, stored_defaults
from sweeps.remote import address
from sweeps.sections import (
    TRIAL_KEYS,
    absolute_models,
    base_values,
    check_overrides,
    distinct,
    known_only,
    nested,
    not_mappings,
    stray_keys,
    stray_point_keys,
    swept_sections,
    unknown_names,
    unswept_problems,
    without_effect,
)
from sweeps.settings import SweepSettings, check_settings, decode_settings
from sweeps.space import Point
from sweeps.space_section import affected, read_space
from sweeps.trial_count import fit_trials


class SweepConfig:
    """A validated sweep.

    Attributes:
        base: the base trial's plain values, with defaults filled in.
        settings: the sections of the sweep itself.
        space: what is searched.
        num_first: number of distinct trials that run regardless of what the search proposes,
            including the dense reference.
        unknown_models: encoders that are not on this machine, whose layers and heads are unchecked.
    """

    def __init__(self, raw: Mapping[str, Any], *, elsewhere: bool = False) -> None:
        """Validate plain values.

        Args:
            raw: values of a YAML.
            elsewhere: its trials run on another machine, so encoders may be missing on this one.

        Raises:
            ConfigError: all problems that can be found at once.
        """
        raw = absolute_models(raw)
        known = [*TRIAL_KEYS, "space", *SweepSettings.model_fields]
        problems = [
            Problem(str(key), f"unknown key: {did_you_mean(str(key), known)}")
            for key in raw
            if key not in known
        ]
        self.raw = {key: value for key, value in raw.items() if key in known}
        problems += not_mappings(raw)
        raw = {k: v for k, v in raw.items() if not any(p.where == k for p in problems)}
        given = {k: v for k, v in raw.items() if k in SweepSettings.model_fields}
        self.settings, found = decode_settings(given)
        problems.extend(found)
        self._kept = changed_defaults(self.settings.defaults)
        self.base: dict[str, Any] = base_values({k: raw[k] for k in TRIAL_KEYS if k in raw})
        unknown = [problem.where for problem in unknown_names(self.base)]
        self.space, space_problems = read_space(
            raw.get("space", {}),
            self._base_value,
            partial(artifact_keys, self._base_value),
            wrong=unknown,
            launched="defaults" in raw,
        )
        problems += [*check_settings(self.settings), *address.problems(self.settings.storage)]
        trials_given = isinstance(asked := raw.get("search"), Mapping) and "trials" in asked
        space_problems += teacher_problems(self.settings.design, self.space.parameters)
        for check in ROW_CHECKS:
            problems.extend(check(self.settings, self.space.parameters))
        problems.extend(space_problems)
        encoders = Encoders(elsewhere=elsewhere)
        found = self._check_base(swept_sections(raw), encoders)
        problems.extend(found)
        problems.extend(self._rung_problems())
        told = {problem.where for problem in found}
        hidden = affected([*space_problems, *(Problem(f"space.{k}", "") for k in unknown)])
        # Defaults for invalid sections: no trial could be decoded, hiding other problems.
        wrong = {where.partition(".")[0] for where in told} & DEFAULTS.keys()
        self.base |= {section: dict(DEFAULTS[section]) for section in wrong}
        for each in self._check_trials(encoders):
            # An unknown plugin among the choices is wrong regardless of other problems.
            by = () if each.where.partition(".")[2] == "name" else hidden
            if each.where not in told and not f"{each.where}.".startswith(by):
                problems.append(each)
        self.unknown_models = encoders.unknown
        if problems:
            raise ConfigError(distinct(problems, raw))
        self._fit_trials(trials_given)
        # Stored so that the defaults of a later version cannot change a resumed sweep.
        defaults = stored_defaults(self.settings.defaults, self._reached())
        self.settings = self.settings.model_copy(update={"defaults": defaults})
        training = validate_section(TrainingConfig, self.base["training"], "training")
        task = next(self._any()).task
        self.base |= {"task": task.as_dict(), "training": training.as_dict()}

    def _rung_problems(self) -> Iterator[Problem]:
        """Yield a problem if the scheduler would not decide at any rung."""
        grace = getattr(self.settings.scheduler, "grace", None)
        rungs = self.base["training"].get("rungs", TrainingConfig().rungs)
        if grace is not None and isinstance(rungs, int) and rungs <= grace:
            yield Problem(
                "training.rungs",
                f"must be greater than scheduler.grace ({grace}), as the last rung is the end of "
                f"training, but is {rungs}; raise it, or use scheduler.name: none",
            )

    def trial(self, point: Mapping[str, Any]) -> TrialConfig:
        """Return the configuration of one point. Raises ConfigError if it is invalid."""
        return decode(self.trial_values(point))

    def trial_values(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return one point's plain values: the base, with the point's keys set.

        If the point names another plugin than the base does, keys of the base that this plugin
        does not know are dropped. The dense reference follows from the base, whatever is searched.
        """
        values = {key: dict(v) if isinstance(v, Mapping) else v for key, v in self.base.items()}
        for key, value in point.items():
            section, _, field = key.partition(".")
            values[section] = merge(values[section], nested(field.split("."), value))
        for section in SWEPT:
            values[section] = known_only(
                section,
                values[section],
                {k.partition(".")[2] for k in point if k.startswith(section)},
            )
        for section in PLUGIN_PACKAGES:
            values[section] = self._with_kept(section, values[section])
        if values["loss"].get("alpha") == "auto" and not values["loss"].get("alpha_on"):
            values["loss"]["alpha_on"] = self._cheapest_compression()
        # State every key: a missing one would fall back to the trial's `training`, so vary with it.
        defaults = TrainingConfig().as_dict()
        asked = {
            key.partition(".")[2]: value
            for key, value in point.items()
            if key.startswith("teacher.")
        }
        values["teacher"] = merge(merge(defaults, self.base["training"]), self.base["teacher"])
        values["teacher"] |= asked
        return values

    def reference(self) -> TrialConfig:
        """Return the dense, vanilla configuration that every trial is compared with."""
        return self.trial({}).reference() if not len(self.space) else next(self._any()).reference()

    def _fit_trials(self, given: bool) -> None:
        """Fit `search.trials` to the trials there will be. Raises ConfigError.

        Args:
            given: whether the user set it.
        """
        first = {self.trial(point).fingerprint() for point in self.first_points()}
        first.add(self.reference().fingerprint())
        self.num_first = len(first)
        grid: Iterator[str] = iter(())
        if self.settings.search.name == "grid":
            grid = (self.trial(point).fingerprint() for point in self.space.grid())
        self.settings = fit_trials(self.settings, self.space, first, grid, given=given)

    def first_points(self) -> list[Point]:
        """Return the points tried first: each compression with vanilla, then the YAML's points.

        Each compression is tried at the middle of its ranges. Points may lie outside the space
        (vanilla if only other losses are searched); the sampler is told of those inside. In a
        fixed design they are only the given points, see `fixed_rows`.
        """
        if self.settings.design == "fixed":
            return fixed_rows(self.settings.search.points, self.space.parameters)
        names = self._choices("compression.name")
        found: list[Point] = []
        for name in names:
            if name == "dense":
                continue
            fixed = {"compression.name": name, "loss.name": "vanilla"}
            point = self.space.center(fixed)
            point |= {k: v for k, v in fixed.items() if self._base_value(k) != v}
            point = {
                k: v for k, v in point.items() if not k.startswith("loss.") or k == "loss.name"
            }
            found.append(point)
        for point in (*found, *self.settings.search.points):
            if point not in found:
                found.append(dict(point))
        return found

    def first_trials(self) -> dict[str, Point]:
        """Return the points tried first by trial id; t0000 is the dense reference."""
        return {f"t{i:04d}": point for i, point in enumerate(self.first_points(), start=1)}

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved plain values; `SweepConfig(values)` reads them back."""
        return {**self.base, "space": self.raw.get("space", {}), **self.settings.as_dict()}

    def structures(self) -> list[TrialConfig]:
        """Return one configuration per combination of plugins and artifact keys."""
        return [self.trial(point) for point in (*self.space.structures(), *self.first_points())]

    def _any(self) -> Iterator[TrialConfig]:
        return (self.trial(point) for point in self.space.structures())

    def _base_value(self, key: str) -> Any:
        return lookup(self.base, key)

    def _cheapest_compression(self) -> dict[str, Any]:
        """Return the compression with the fewest layers, of the space (mid-range) and the points.

        The number of layers determines the cost of a training step. Ties go to the first; dense
        is taken only if there is no other.
        """
        names = [{"compression.name": name} for name in self._choices("compression.name")]
        found = []
        for point in (*(self.space.center(n) | n for n in names), *self.settings.search.points):
            values = dict(self.base["compression"])
            for key, value in point.items():
                section, _, field = key.partition(".")
                if section == "compression":
                    values = merge(values, nested(field.split("."), value))
            known = self._with_kept("compression", known_only("compression", values, {"name"}))
            kept = known.get(
                "keep"
            )  # A student's layers; another plugin may use the key otherwise.
            layers = len(kept) if isinstance(kept, Sequence) else math.inf
            layers = float(known.get("num_layers") or layers)
            found.append((values["name"] == "dense", layers, known))
        return min(found, key=lambda each: each[:2])[2]

    def _with_kept(self, section: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in the plugin's defaults of the launch where this version has different ones."""
        return {**self._kept.get(section, {}).get(str(values.get("name")), {}), **values}

    def _names(self, section: str) -> list[Any]:
        """Return the plugins of a section that the space or the points name."""
        key = f"{section}.name"
        points = self.settings.search.points
        return [*self._choices(key), *(point[key] for point in points if key in point)]

    def _reached(self) -> dict[str, list[Any]]:
        """Return the plugins that trials of the sweep may use, by section."""
        reference = self.reference()
        found = {section: [getattr(reference, section).name] for section in PLUGIN_PACKAGES}
        for section in SWEPT:
            found[section] += [self._base_value(f"{section}.name"), *self._names(section)]
        return found

    def _choices(self, key: str) -> list[Any]:
        for parameter in self.space.parameters:
            if parameter.key == key:
                return list(parameter.values)
        return [self._base_value(key)]

    def _check_base(self, swept: Collection[str], encoders: Encoders) -> list[Problem]:
        """Check what is the same in every trial, even if the space is invalid."""
        problems = [*unknown_names(self.base), *unswept_problems(self.base, swept)]
        if isinstance(self.base.get("model"), str):
            problems.extend(encoders.look_up(self.base["model"], "model"))
        return problems

    def _check_trials(self, encoders: Encoders) -> list[Problem]:
        """Decode the reference points and every corner of the space."""
        try:
            problems = [*stray_keys(self.base, {s: self._names(s) for s in SWEPT})]
        except ConfigError as error:
            return error.problems
        # Reported once, then removed: no trial could be decoded, hiding other problems.
        strays = {problem.where for problem in problems}
        for section in SWEPT:
            values = self.base[section].items()
            self.base[section] = {k: v for k, v in values if f"{section}.{k}" not in strays}
        names = [parameter.key for parameter in self.space.parameters]
        wrong = [p for each in self.settings.search.points for p in stray_point_keys(each, names)]
        problems += wrong
        problems += [
            Problem(
                f"space.{key}",
                "must be a choice of a few values, as it changes what is built before the first "
                "trial (difficulty, an expert, a first stage, importance, the choice of alpha)",
            )
            for key in self.space.continuous_artifact_keys()
        ]
        points = [*self.space.corners()]
        if not wrong:
            try:
                points += self.first_points()
            except ConfigError as error:
                problems.extend(error.problems)
        for point in points:
            try:
                found = encoders.problems(self.trial(point))
            except ConfigError as error:
                found = error.problems
            for problem in found:
                at = f" (at {_shown(point)})" if point else ""
                problems.append(Problem(problem.where, f"{problem.message}{at}"))
        if self.settings.search.name == "grid":
            try:
                next(self.space.grid(), None)
            except ConfigError as error:
                problems.extend(error.problems)
        return problems


def load_sweep(
    path: str | Path, overrides: Sequence[str] = (), *, elsewhere: bool = False
) -> SweepConfig:
    """Read and validate a sweep's YAML. Raises ConfigError with every problem found."""
    check_overrides(overrides)
    values = read_yaml(path, overrides)
    searched = values.get("space")
    problems = without_effect(overrides, searched if isinstance(searched, Mapping) else ())
    try:
        sweep = SweepConfig(values, elsewhere=elsewhere)
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    if problems:
        raise ConfigError(problems)
    return sweep


def _shown(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in point.items())
