"""Finds trials of one sweep that were trained with different versions of a plugin's file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES
from rc_core.errors import ConfigError
from rc_core.record import TrialRecord

# (section, plugin) -> digest of its file -> ids of the finished trials trained with it.
Texts = dict[tuple[str, str], dict[str, list[str]]]


def texts_of(records: Iterable[TrialRecord]) -> Texts:
    """Return which versions of plugin files finished trials were trained with, in order of ids.

    Difficulties are left out: the keys of the artifacts they are read from include their file.
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
    """Yield each plugin with several versions, as `loss rmc`, and the trials of all but one.

    That one is the most common version; of equally common ones, the first.
    """
    for (section, name), of_plugin in found.items():
        if len(of_plugin) > 1:
            commonest = max(of_plugin, key=lambda digest: len(of_plugin[digest]))
            others = [i for digest, ids in of_plugin.items() if digest != commonest for i in ids]
            yield f"{section} {name}", sorted(others)


def changed_since(found: Texts) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each plugin whose file has changed, and the trials trained with an earlier version.

    Plugins that no longer exist are reported elsewhere.
    """
    for (section, name), of_plugin in found.items():
        try:
            now = plugins.digest(PLUGIN_PACKAGES[section], name)
        except (ConfigError, KeyError):
            continue
        earlier = [i for digest, ids in of_plugin.items() if digest != now for i in ids]
        if earlier:
            yield f"{section} {name}", sorted(earlier)
