"""Each thing that is used of Ray and that it does not promise: an upgrade must fail here."""

from __future__ import annotations

import pytest
import ray

from sweeps.engine import _internals
from sweeps.engine.cluster import alive_nodes, connected


def leave(name: str) -> None:
    _internals.set_mark(name)


@pytest.mark.xdist_group("e2e-2")
def test_what_is_used_is_there_and_does_what_is_said() -> None:
    with connected("local"):
        (node,) = alive_nodes()
        free = _internals.free_on_nodes()
        assert free[node["NodeID"]]["CPU"] == ray.cluster_resources()["CPU"]
        assert not _internals.has_mark("rc-sweep/test")
        ray.get(ray.remote(leave).remote("rc-sweep/test"))
        assert _internals.has_mark("rc-sweep/test"), "left by another process"
        _internals.drop_mark("rc-sweep/test")
        assert not _internals.has_mark("rc-sweep/test")
        _internals.drop_mark("rc-sweep/never")
