"""What was done before a plugin had a key: how configurations of earlier versions are read.

Records, and the `defaults` of a sweep, contain the keys that existed when they were written. Every
key that is added to a `Config` later gets a line here, even if its default changes nothing:
otherwise an older trial would count as another configuration than the same one of today.
tests/contracts/test_former.py checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Section and plugin -> key -> value.
FORMER: dict[str, dict[str, Any]] = {
    "compression.heads": {"normalisation": "none"},
}


# Section and plugin -> key -> the default it had, if that has changed. Records state every key, but
# a sweep.yaml from before 2026-11-27 does not state the defaults.
FORMER_DEFAULTS: dict[str, dict[str, Any]] = {
    "loss.poe": {"lambda": 0.5},
}


def former(section: str, name: Any) -> Mapping[str, Any]:
    """Return the keys that a plugin gained since the first version, with what was done before."""
    return FORMER.get(f"{section}.{name}", {})


def former_defaults(section: str, name: Any) -> Mapping[str, Any]:
    """Return the former values of a plugin's defaults that have changed."""
    return FORMER_DEFAULTS.get(f"{section}.{name}", {})


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's configuration, as it was trained, with the keys that were added later.

    Only for one that states all keys of its time: what a user leaves out has today's default.
    """
    found = dict(config)
    for section, values in config.items():
        if isinstance(values, Mapping):
            later = former(section, values.get("name"))
            found[section] = {**later, **values} if later else values
    return found
