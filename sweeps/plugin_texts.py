"""Trials of one sweep that were made with different texts of one plugin, which no table shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES
from rc_core.errors import ConfigError
from rc_core.record import TrialRecord

# (section, plugin) -> digest of its text -> ids of the finished trials made with it.
Texts = dict[tuple[str, str], dict[str, list[str]]]


def texts_of(records: Iterable[TrialRecord]) -> Texts:
    """Return which texts of their plugins finished trials were made with, in order of their ids.

    Of a difficulty nothing: it is read through artifacts, which are stored under its text.
    """
    found: Texts = {}
    for record in sorted(records, key=lambda each: each.id):
        digests = record.environment.get("plugins") or {}
        for section, digest in digests.items() if record.status == "finished" else ():
            if section != "difficulty" and section in record.config:
                of_plugin = found.setdefault((section, record.config[section]["name"]), {})
                of_plugin.setdefault(digest, []).append(record.id)
    return found


def mixed(found: Texts) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each plugin of several texts, as `loss rmc`, and the trials of all but the commonest.

    Of equally common ones the first is taken for the commonest.
    """
    for (section, name), of_plugin in found.items():
        if len(of_plugin) > 1:
            commonest = max(of_plugin, key=lambda digest: len(of_plugin[digest]))
            others = [i for digest, ids in of_plugin.items() if digest != commonest for i in ids]
            yield f"{section} {name}", sorted(others)


def changed_since(found: Texts) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each plugin whose text is another now, and the trials made with an earlier one.

    One that is not there any more is told elsewhere.
    """
    for (section, name), of_plugin in found.items():
        try:
            now = plugins.digest(PLUGIN_PACKAGES[section], name)
        except (ConfigError, KeyError):
            continue
        earlier = [i for digest, ids in of_plugin.items() if digest != now for i in ids]
        if earlier:
            yield f"{section} {name}", sorted(earlier)
