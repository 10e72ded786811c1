"""A list of trials: JSON Lines, one configuration per line; mistakes are named with their line."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rc_core.config import TrialConfig, current_fingerprint, decode
from rc_core.errors import ConfigError, Problem
from rc_core.former import completed
from rc_core.record import TrialFolder, TrialRecord

# Shown in the help, as nothing else shows what a line of the list looks like; a test checks it.
EXAMPLE = (
    '{"id": "half-rmc", "config": {"model": "packaged:all-MiniLM-L6-v2", '
    '"task": {"name": "shortcut_nli"}, "training": {"epochs": 2}, '
    '"compression": {"name": "magnitude", "sparsity": 0.5}, "loss": {"name": "rmc"}}}'
)
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")


@dataclass(frozen=True)
class Job:
    """One line of the list."""

    trial_id: str
    config: TrialConfig

    def made(self, record: TrialRecord) -> bool:
        """Tell whether a record, possibly of an earlier version, is of this configuration."""
        return current_fingerprint(record.config) == self.config.fingerprint()


def read_list(path: Path) -> list[Job]:
    """Read and validate every line.

    Raises:
        ConfigError: all problems of all lines, each with its line number; a single problem if no
            line is a JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Problem(str(path), f"must be a JSON Lines file: {error}")) from error
    jobs: list[Job] = []
    problems: list[Problem] = []
    objects = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise ConfigError(Problem(where, "must be a JSON object"))
            objects += 1
            jobs.append(_job(content, where, default_id=f"t{len(jobs):04d}"))
        except json.JSONDecodeError as error:
            problems.append(Problem(where, f"is not valid JSON: {error}"))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems and not objects:
        raise ConfigError(
            Problem(
                str(path),
                "must be JSON Lines, one trial's configuration a line, but no line is a JSON "
                f"object; a line looks like {EXAMPLE} (a sweep's YAML is for rc-sweep launch)",
            )
        )
    uses = Counter(job.trial_id for job in jobs)
    problems += [
        Problem(str(path), f"ids must differ, but '{name}' is used {count} times")
        for name, count in sorted(uses.items())
        if count > 1
    ]
    if not jobs and not problems:
        problems.append(Problem(str(path), "must hold at least one configuration, but is empty"))
    if problems:
        raise ConfigError(problems)
    return jobs


def _job(content: dict[str, Any], where: str, *, default_id: str) -> Job:
    """Return the job of one line: a configuration, or an id beside one. Raises ConfigError."""
    trial_id, config = default_id, content
    if set(content) <= {"id", "config"} and isinstance(content.get("config"), dict):
        trial_id, config = str(content.get("id", default_id)), content["config"]
    if not _ID.fullmatch(trial_id):
        raise ConfigError(
            Problem(
                where,
                "id must be at most 64 letters, digits, . _ -, and begin with a letter or digit, "
                f"but got {trial_id!r}",
            )
        )
    return Job(trial_id, decode(config, where))


def check_ids(jobs: Sequence[Job], trials: Path) -> None:
    """Check that no finished trial would be overwritten by another one.

    Ids that a list leaves out are positions in it, so a line inserted above shifts them all.

    Args:
        jobs: to be run.
        trials: has a folder for each trial's id.

    Raises:
        ConfigError: names every id that would be overwritten.
        StorageError: a record there cannot be read.
    """
    problems = []
    for job in jobs:
        record = TrialFolder(trials / job.trial_id).read()
        if record is None or record.status != "finished" or job.made(record):
            continue
        was, now = record.name, job.config.label()
        how = f", with other {_difference(record.config, job.config)}" if was == now else ""
        message = f"is finished as '{was}', but the list has '{now}'{how}"
        problems.append(Problem(job.trial_id, message))
    if problems:
        advice = (
            "finished trials must keep their ids; give the lines ids of their own (without one, "
            "a line is named by its position), take another --out, or remove the folders of "
            "trials that are not wanted any more"
        )
        raise ConfigError([*problems, Problem(str(trials), advice)])


def _difference(before: Mapping[str, Any], now: TrialConfig) -> str:
    """Name the keys that differ between configurations, at most three."""
    old, new = (
        {f"{key}.{name}": value for key, part in config.items() for name, value in _items(part)}
        for config in (completed(before), now.as_dict())
    )
    keys = [key.rstrip(".") for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def _items(part: Any) -> Iterable[tuple[str, Any]]:
    return part.items() if isinstance(part, Mapping) else [("", part)]
