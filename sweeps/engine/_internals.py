"""All uses of Ray's private API, and why there is no other way.

    ray._private.state.available_resources_per_node   free resources of each node; the public API
                                                      has only the sum over nodes
    ray.experimental.internal_kv                      marks that a task has begun; Ray tells when
                                                      one has ended, not if it waits for room

tests/sweeps/engine/test_internals.py tests each, and fails if Ray changes one.
"""

from __future__ import annotations

from ray._private.state import available_resources_per_node
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_exists, _internal_kv_put


def free_on_nodes() -> dict[str, dict[str, float]]:
    """Return the free resources: node id -> resource ("CPU", "GPU") -> amount, without zeros.

    Ray reports resources that a task has released with a small delay.
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
    """Delete a mark, if there is one; otherwise a cluster keeps it as long as it runs."""
    _internal_kv_del(name)
