"""The texts on which an exported model is compared with the trial's own.

The best are those that the trial was evaluated on, because its recorded predictions can be compared
as well. On a machine without the data, fixed sentences are used instead: any text can show that the
exported folder gives the logits of the trial's own weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES, TrialConfig
from rc_core.data._task import check_task
from rc_core.errors import ConfigError, InputError, RobustCompressionError
from rc_core.record import TrialRecord

_PLACE = ("first text", "second text")
_LONG = " ".join(
    ["the old mill beside the river was sold, and nobody in the village knew why;"] * 60
)
# In each pair the second text is a claim about the first. Any model truncates at least one pair.
_SENTENCES = (
    ("The doctors who met the judge left.", "The doctors left."),
    ("No child in the park was afraid of the dog.", "The dog was not in the park."),
    ("She paid 1,250.75 euros for it in 1998!", "It cost less than 2,000 euros."),
    ("Ok", "No?"),
    (_LONG, "The mill was sold."),
    ("If it rains, the match is off.", f"It rains, and {_LONG}"),
)


@dataclass(frozen=True)
class CheckTexts:
    """Texts to compare two models on.

    Attributes:
        columns: one list of N texts, or two of N for pairs.
        suite: the suite of id_dev whose first N samples these are; None for fixed sentences.
        label_names: the task's; None if the task was not read.
        told: a description of the texts.
        why: the reason why fixed sentences are used, for the user; empty if they are not.
    """

    columns: list[list[str]]
    suite: str | None
    label_names: tuple[str, ...] | None
    told: str
    why: str = ""


def check_texts(config: TrialConfig, record: TrialRecord, most: int) -> CheckTexts:
    """Return the first `most` samples that the trial was evaluated on, else fixed sentences.

    Args:
        config: the trial's.
        record: holds the digest of the id_dev samples that it was evaluated on.
        most: at least 1.
    """
    try:
        # The test roles are not read.
        module = plugins.load(PLUGIN_PACKAGES["task"], config.task.name)
        task = check_task(module.load(config.task))
    except (RobustCompressionError, OSError) as error:
        return _fixed(config, f"the data of the sweep cannot be read here ({_first(error)})")
    split = task.id_dev
    known = record.data.get(split.name, {}).get("digest")
    if known is not None and not split.digest().startswith(known):
        return _fixed(config, f"{split.name} differs here from what the trial was evaluated on")
    columns = [list(split.first[:most])]
    if split.second is not None:
        columns.append(list(split.second[:most]))
    what = "texts" if split.second is None else "pairs of texts"
    told = f"the first {len(columns[0])} {what} of {split.name}"
    return CheckTexts(columns, split.suite, task.label_names, told)


def text_names(task: Mapping[str, Any], columns: int | None = None) -> tuple[str, ...]:
    """Return what a task calls the texts of a sample, in the order that its models take them.

    The `text` of its section says so, else `TEXTS` in its file.

    Args:
        task: the section of a configuration.
        columns: how many there are, where it is known.

    Returns:
        One name, or two of pairs; none where neither tells and `columns` is None.
    """
    found: Any = task.get("text") or _declared(task["name"])
    names = (found,) if isinstance(found, str) else tuple(found)
    return names if columns in (None, len(names)) else _PLACE[:columns]


def _declared(name: str) -> tuple[str, ...]:
    """Return what a task's file calls its texts; empty if it does not say or is not found."""
    try:
        found = getattr(plugins.load(PLUGIN_PACKAGES["task"], name), "TEXTS", ())
    except ConfigError:
        return ()
    return tuple(found)


def _fixed(config: TrialConfig, why: str) -> CheckTexts:
    # Without other information assume pairs, as in all built-in tasks except `files`.
    names = text_names(config.task.as_dict()) or _PLACE
    columns = [[pair[i] for pair in _SENTENCES] for i in range(len(names))]
    what = "sentences" if len(names) == 1 else "pairs of sentences"
    return CheckTexts(columns, None, None, f"{len(_SENTENCES)} fixed {what}", why)


def _first(error: Exception) -> str:
    """Return the first problem of an error, in one line."""
    text = str(error.problems[0]) if isinstance(error, InputError) else str(error)
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:197]}..."
