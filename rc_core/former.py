"""What was done before a plugin had a key: how configurations of earlier versions are read.

Records, and the `defaults` of a sweep, hold the keys that there were by then. A key that is added
to a `Config` later gets a line here, also where its default changes nothing: else a trial of before
counts as another configuration than the same one of today. tests/contracts/test_former.py tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Section and plugin -> key -> value.
FORMER: dict[str, dict[str, Any]] = {
    "compression.heads": {"normalisation": "none"},
}


# Section and plugin -> key -> the default that it had, where today's is another one. Records state
# every key; only a sweep.yaml of before 2026-11-27 states no defaults.
FORMER_DEFAULTS: dict[str, dict[str, Any]] = {
    "loss.poe": {"lambda": 0.5},
}


def former(section: str, name: Any) -> Mapping[str, Any]:
    """Return the keys that a plugin has got since the first version, with what was done before."""
    return FORMER.get(f"{section}.{name}", {})


def former_defaults(section: str, name: Any) -> Mapping[str, Any]:
    """Return the defaults of a plugin that were others, as they were."""
    return FORMER_DEFAULTS.get(f"{section}.{name}", {})


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's configuration with the keys that came later, as it was trained.

    Only of one that states all keys of its time: what somebody leaves out has today's default.
    """
    found = dict(config)
    for section, values in config.items():
        if isinstance(values, Mapping):
            later = former(section, values.get("name"))
            found[section] = {**later, **values} if later else values
    return found
