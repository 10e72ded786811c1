"""The texts on which an exported model is compared with the trial's own.

Those that the trial was evaluated on say most: its recorded predictions are compared as well. A
machine that has only the sweep has no data, so there fixed sentences have to do: that the exported
folder gives the logits of the trial's own weights can be told on any text.
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
# In each pair the second text is one that could be said of the first. One pair is cut in any model.
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
        suite: of id_dev, whose first N samples they are, in order; None: fixed sentences.
        label_names: the task's; None where the task was not read.
        told: what they are.
        why: fixed sentences had to do, for the user of this machine; empty where they had not.
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
        record: says which samples of id_dev it was evaluated on, by their digest.
        most: at least 1.
    """
    try:
        # The test roles of it are not looked at.
        module = plugins.load(PLUGIN_PACKAGES["task"], config.task.name)
        task = check_task(module.load(config.task))
    except (RobustCompressionError, OSError) as error:
        return _fixed(config, f"the data of the sweep cannot be read here ({_first(error)})")
    split = task.id_dev
    known = record.data.get(split.name, {}).get("digest")
    if known is not None and not split.digest().startswith(known):
        return _fixed(config, f"{split.name} is here not what the trial was evaluated on")
    columns = [list(split.first[:most])]
    if split.second is not None:
        columns.append(list(split.second[:most]))
    what = "texts" if split.second is None else "pairs of texts"
    told = f"the first {len(columns[0])} {what} of {split.name}"
    return CheckTexts(columns, split.suite, task.label_names, told)


def text_names(task: Mapping[str, Any], columns: int | None = None) -> tuple[str, ...]:
    """Return what a task calls the texts of a sample, in the order that its models take them.

    Its section's `text` says so where it has one, else `TEXTS` of its file.

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
    """Return what a task's file calls its texts; nothing where it does not say, or is not here."""
    try:
        found = getattr(plugins.load(PLUGIN_PACKAGES["task"], name), "TEXTS", ())
    except ConfigError:
        return ()
    return tuple(found)


def _fixed(config: TrialConfig, why: str) -> CheckTexts:
    # A task that tells nothing is taken for one of pairs, as all of ours but `files` are.
    names = text_names(config.task.as_dict()) or _PLACE
    columns = [[pair[i] for pair in _SENTENCES] for i in range(len(names))]
    what = "sentences" if len(names) == 1 else "pairs of sentences"
    return CheckTexts(columns, None, None, f"{len(_SENTENCES)} fixed {what}", why)


def _first(error: Exception) -> str:
    """Return the first problem of an error, in a line."""
    text = str(error.problems[0]) if isinstance(error, InputError) else str(error)
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:197]}..."
