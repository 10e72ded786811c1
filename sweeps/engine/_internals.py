"""What is used of Ray that Ray does not promise, all of it, and why there is no other way.

    ray._private.state.available_resources_per_node   what is free on each node: in public there is
                                                      the sum over nodes only
    ray.experimental.internal_kv                      that a task has begun: Ray tells when one has
                                                      ended, not whether it still waits for room

tests/sweeps/engine/test_internals.py uses each: a Ray that has changed one fails there.
"""

from __future__ import annotations

from ray._private.state import available_resources_per_node
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_exists, _internal_kv_put


def free_on_nodes() -> dict[str, dict[str, float]]:
    """Return what nobody holds: node id -> resource ("CPU", "GPU") -> amount; zeros are left out.

    Ray tells a little late what a task has given back.
    """
    found: dict[str, dict[str, float]] = available_resources_per_node()
    return found


def set_mark(name: str) -> None:
    """Leave a mark in the cluster, from any of its processes."""
    _internal_kv_put(name, b"")


def has_mark(name: str) -> bool:
    """Tell whether a mark was left."""
    return bool(_internal_kv_exists(name))


def drop_mark(name: str) -> None:
    """Delete a mark, if there is one: a cluster keeps them for as long as it runs."""
    _internal_kv_del(name)
