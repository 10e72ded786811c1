"""What a resume does before its trials: nobody else runs the sweep, and what is changed of it.

How a sweep is run may change from one attempt to the next: with what resources, for how long, told
to which tracking server. What it searches may not: trials of one sweep are comparable.
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

# A key, or a section of which every key may change.
CHANGEABLE = ("resources", "budget", "tracking", "health_gate", "search.trials")


def changed(folder: SweepFolder, overrides: Sequence[str]) -> SweepConfig:
    """Return a sweep's configuration with what a resume changes of it; nothing is written.

    Args:
        folder: of the sweep.
        overrides: `dotted.key=value`, of `CHANGEABLE`.

    Raises:
        ConfigError: another key, a value that is none, or fewer trials than before.
    """
    check_overrides(overrides)
    problems = []
    confirms = (folder.read_config().get("confirm") or {}).get("sweep")
    for override in overrides:
        key = override.partition("=")[0].strip()
        if confirms is not None and key.startswith("search"):
            more = command(SweepFolder(folder.path.with_name(confirms)), "confirm", "--seeds", "N")
            problems.append(
                Problem(key, f"follows from the seeds of a confirmation; for more of them: {more}")
            )
            continue
        if not any(key == each or key.startswith(f"{each}.") for each in CHANGEABLE):
            problems.append(
                Problem(
                    key,
                    "cannot change in a sweep that was launched, or its trials could not be "
                    f"compared; may change: {', '.join(CHANGEABLE)}. Launch a new sweep for it "
                    "(search.warm_start tells it what this one found)",
                )
            )
    if problems:
        raise ConfigError(problems)
    values = read_yaml(folder.path / "sweep.yaml", overrides)
    after = SweepConfig(recorded_defaults(values, (r.config for r in folder.records())))
    # As it was written, not validated: what is changed may be what was wrong.
    had = int(folder.read_config().get("search", {}).get("trials", 0))
    # As it was given: settings raise a number that is below that of the first trials.
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
    """Check that nobody runs the sweep; bring what its driver will read from the storage's URI.

    Args:
        folder: of the sweep.
        take_over: do not ask whether another machine seems to run it.

    Raises:
        StorageError: somebody runs it, or the URI's service cannot be reached.
    """
    if is_locked(folder.path):
        with folder.driving():
            pass  # raises the error that says so
    if folder.mirror is None:
        return
    if not take_over:
        check_free(folder.mirror, folder.path)
    base = folder.name.removesuffix(CONFIRM_SUFFIX)
    for name in (base, base + CONFIRM_SUFFIX):
        folder.mirror.bring(name, "predictions")


def say_changed_plugins(records: Sequence[TrialRecord], say: Callable[[str], None]) -> None:
    """Tell of plugins whose text was changed since some of a sweep's trials were trained."""
    for plugin, ids in changed_since(texts_of(records)):
        say(
            f"warning: {plugin} was changed since {named(ids)} finished: what is trained now is "
            "not comparable with that; a new sweep, under a new name, is made of one text"
        )


def take_on(folder: SweepFolder, progress: Progress, asked: SweepConfig | None) -> None:
    """Change a sweep's files for a driver that holds its lock, and its lease at a URI.

    Not before: one that is refused, or fails at its start, leaves the sweep as it was.

    Args:
        folder: of the sweep.
        progress: told of trials that start anew.
        asked: the configuration that a resume has changed; None: it stays.
    """
    if asked is not None:
        folder.write_config(asked.as_dict())
    if folder.mirror is None:
        return
    anew = [record.id for record in begin_anew(folder.path)]
    if anew:
        progress.say(f"from their start, their checkpoints are elsewhere: {', '.join(anew)}")
