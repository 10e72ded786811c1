"""What a launch, and `--dry-run`, checks before anything is started.

Ray takes up to a minute to start; errors such as a taken name are reported before that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from rc_core import plugins
from rc_core.data._task import Task
from rc_core.errors import ConfigError, InputError, Problem
from rc_core.labels import count_of
from rc_core.yaml_files import apply_overrides
from sweeps.config import SweepConfig, load_sweep
from sweeps.cores import usable_cores
from sweeps.doctor.storage import check_place
from sweeps.engine.address import check_address
from sweeps.engine.data_check import UNREAD, check_data, check_same_data, is_here
from sweeps.engine.warm_start import known_trials
from sweeps.folder import SweepFolder
from sweeps.names import as_stem, check_new
from sweeps.remote.mirror import CONFIRM_SUFFIX, Mirror
from sweeps.search._checked import check_first
from sweeps.sections import check_overrides


def as_config(
    config: str | Path | Mapping[str, Any] | SweepConfig, overrides: Sequence[str]
) -> SweepConfig:
    """Return what is to be launched, from a YAML file, plain values, or as it is.

    Raises:
        InputError: it is invalid, or overrides cannot be applied.
    """
    check_overrides(overrides)
    if isinstance(config, SweepConfig):
        if overrides:
            raise InputError(
                "overrides must come with a YAML file or plain values, but came with a SweepConfig "
                f"({', '.join(overrides)}); put them into the values that it is made from"
            )
        return config
    if isinstance(config, Mapping):
        values = copy.deepcopy(dict(config))
        apply_overrides(values, overrides)
        return SweepConfig(values)
    return load_sweep(config, overrides)


def check_launch(
    sweep: SweepConfig, root: Path, *, stem: str, name: str | None, address: str
) -> Task:
    """Check what can be checked before anything is started, and return the sweep's data.

    Args:
        sweep: to be launched.
        root: its storage's folder.
        stem: stem of the default name.
        name: the requested name; None for `<stem>-<n>`.
        address: of Ray.

    Raises:
        InputError: the address or the storage is wrong; otherwise all problems with the name, the
            data and earlier sweeps at once. Data that may have to be downloaded is read only if
            nothing else is wrong.
    """
    check_address(address)
    check_place(root)
    mirror = Mirror.at(root)
    if mirror is not None:
        mirror.names()  # raises an error if the service does not answer
    confirms = sweep.settings.confirm.sweep
    with _together() as (also, found):
        with also():
            if address == "local":
                _check_fits(sweep)
        with also():
            as_stem(stem) if name is None else check_new(root, name, confirms=confirms)
        with also():
            known_trials(sweep, root)
        with also():
            _check_rows(sweep, root)
        with also():
            if confirms is None:
                check_first(sweep)
        if found and not is_here(sweep.reference().task):
            found.append(InputError(UNREAD))
        else:
            with also():
                task = check_data(sweep)
            with also():
                _check_same(sweep, root)
    return task


def _check_fits(sweep: SweepConfig) -> None:
    """Raise ConfigError if a trial asks for more than this machine has."""
    resources, cores = sweep.settings.resources, usable_cores()
    if resources.auto:
        return
    problems = []
    if resources.cpu > cores:
        problems.append(
            Problem(
                "resources.cpu",
                f"a trial must fit on this machine, where it may use {count_of(cores, 'core')}, "
                f"but asks for {resources.cpu:g}; lower it, or join a cluster with --address",
            )
        )
    # If trials leave the GPU idle (device: cpu), it is enough that Ray finds one.
    if resources.gpu and resources.device == "auto" and not _num_gpus():
        problems.append(
            Problem(
                "resources.gpu",
                f"a trial asks for {resources.gpu:g}, but torch sees no GPU on this machine "
                "(rc-sweep doctor says more); set it to 0, or join a cluster with --address",
            )
        )
    if problems:
        raise ConfigError(problems)


def _num_gpus() -> int:
    # Imported here, as it takes two seconds that a launch on CPUs need not spend.
    import torch

    return torch.cuda.device_count()


@contextmanager
def _together() -> Iterator[tuple[Callable[[], AbstractContextManager[None]], list[InputError]]]:
    """Yield a context manager that collects a check's error, and the list of collected errors.

    They are raised together at the end; a single one is raised as it is.
    """
    found: list[InputError] = []

    @contextmanager
    def also() -> Iterator[None]:
        try:
            yield
        except InputError as error:
            found.append(error)

    yield also, found
    if len(found) == 1:
        raise found[0]
    if found:
        raise InputError([problem for error in found for problem in error.problems])


def check_confirmed(sweep: SweepConfig, root: Path) -> None:
    """Check that a confirmation's rows are trials of the sweep that it confirms, before Ray starts.

    Args:
        sweep: any; one that is not a confirmation passes.
        root: its storage's folder.

    Raises:
        StorageError: they are not.
        DataError: the data has changed since they were trained.
    """
    _check_rows(sweep, root)
    _check_same(sweep, root)


def _check_rows(sweep: SweepConfig, root: Path) -> None:
    confirmed = sweep.settings.confirm.sweep
    if confirmed is not None:
        search = plugins.load("sweeps.search", sweep.settings.search.name)
        # A race stores no study; the path only tells it the storage.
        search.proposals(sweep, SweepFolder(root / f"{confirmed}{CONFIRM_SUFFIX}").study)


def _check_same(sweep: SweepConfig, root: Path) -> None:
    confirmed = sweep.settings.confirm.sweep
    if confirmed is not None:
        check_same_data(sweep, SweepFolder(root / confirmed).records())
