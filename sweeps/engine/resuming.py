"""What a resume does before its trials: check that nobody else runs the sweep, apply changes.

How a sweep runs may change between attempts: its resources, its limits, its tracking server, where
its data lies. What it searches may not, as the trials of one sweep must be comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rc_core.errors import ConfigError, Problem
from rc_core.record import TrialRecord
from rc_core.yaml_files import read_yaml
from sweeps.commands import command
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.plugin_configs import recorded_defaults
from sweeps.plugin_texts import changed_since, texts_of
from sweeps.remote.files import is_locked
from sweeps.remote.lease import check_free
from sweeps.remote.mirror import CONFIRM_SUFFIX
from sweeps.remote.trials import begin_anew
from sweeps.sections import check_overrides
from sweeps.selection.stamp import named
from sweeps.views.progress import Progress

# Keys, or sections of which every key may change.
CHANGEABLE = (
    "resources",
    "budget",
    "tracking",
    "health_gate",
    "search.trials",
    "task.data_dir",
)


def changed(folder: SweepFolder, overrides: Sequence[str]) -> SweepConfig:
    """Return a sweep's configuration with the changes of a resume; writes nothing.

    Args:
        folder: the sweep's.
        overrides: `dotted.key=value`, of `CHANGEABLE`.

    Raises:
        ConfigError: another key, an invalid value, or fewer trials than before.
    """
    check_overrides(overrides)
    problems = []
    confirms = (folder.read_config().get("confirm") or {}).get("sweep")
    for override in overrides:
        key = override.partition("=")[0].strip()
        if confirms is not None and (key.startswith("search") or key == "task.data_dir"):
            base = SweepFolder(folder.path.with_name(confirms))
            instead = (
                f"for more seeds per row: {command(base, 'confirm', '--seeds', 'N')}"
                if key.startswith("search")
                else f"it follows its sweep's: {command(base, 'resume', '--set', override)}"
            )
            problems.append(Problem(key, f"cannot be set in a confirmation; {instead}"))
            continue
        if not any(key == each or key.startswith(f"{each}.") for each in CHANGEABLE):
            problems.append(
                Problem(
                    key,
                    "cannot change in a launched sweep, whose trials must be comparable; may "
                    f"change: {', '.join(CHANGEABLE)}. Launch a new sweep for it "
                    "(search.warm_start lets it learn from this one)",
                )
            )
    if problems:
        raise ConfigError(problems)
    values = read_yaml(folder.path / "sweep.yaml", overrides)
    after = SweepConfig(recorded_defaults(values, (r.config for r in folder.records())))
    # As written, not validated: the change may correct what is invalid.
    had = int(folder.read_config().get("search", {}).get("trials", 0))
    # As given: the settings raise a number below that of the first trials.
    asked = int(values["search"]["trials"])
    if asked < had:
        raise ConfigError(
            Problem(
                "search.trials",
                f"can only be raised in a sweep that was launched with {had}, but is {asked}; to "
                "end it sooner set budget.hours",
            )
        )
    return after


def make_ready(folder: SweepFolder, *, take_over: bool) -> None:
    """Check that nobody runs the sweep; download what its driver needs from the storage's URI.

    Args:
        folder: the sweep's.
        take_over: do not check whether another machine seems to run it.

    Raises:
        StorageError: it is running, or the URI's service cannot be reached.
    """
    if is_locked(folder.path):
        with folder.driving():
            pass  # raises the error that it is running
    if folder.mirror is None:
        return
    if not take_over:
        check_free(folder.mirror, folder.path)
    base = folder.name.removesuffix(CONFIRM_SUFFIX)
    for name in (base, base + CONFIRM_SUFFIX):
        folder.mirror.bring(name, "predictions")


def say_changed_plugins(records: Sequence[TrialRecord], say: Callable[[str], None]) -> None:
    """Warn of plugins whose files changed since some of a sweep's trials were trained."""
    for plugin, ids in changed_since(texts_of(records)):
        say(
            f"warning: {plugin} was changed since {named(ids)} finished: trials from now on are "
            "not comparable with them; for comparable trials, launch a new sweep under a new name"
        )


def take_on(folder: SweepFolder, progress: Progress, asked: SweepConfig | None) -> None:
    """Change a sweep's files, for a driver that holds its lock and its lease at a URI.

    Not earlier, so that a driver that is refused or fails to start leaves the sweep as it was.

    Args:
        folder: the sweep's.
        progress: told of trials that start from the beginning.
        asked: the configuration that a resume has changed; None if unchanged.
    """
    if asked is not None:
        folder.write_config(asked.as_dict())
    if folder.mirror is None:
        return
    anew = [record.id for record in begin_anew(folder.path)]
    if anew:
        progress.say(
            f"starting from the beginning, as their checkpoints are elsewhere: {', '.join(anew)}"
        )
