"""What is no address of a Ray cluster is told at once: Ray would try for ten minutes."""

from __future__ import annotations

import socket
import time

import pytest

from rc_core.errors import InputError
from sweeps.engine.address import check_address


def test_what_listens_is_taken_and_so_is_what_ray_finds_itself() -> None:
    check_address("local")
    check_address("auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_address(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "head:0", "h:70000"])
def test_what_is_no_address_is_told_with_an_example(address: str) -> None:
    with pytest.raises(InputError, match=r"HOST:PORT .*6379"):
        check_address(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "no-such-host.invalid"])
def test_where_nothing_listens_is_told_within_seconds(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(InputError, match="nothing answers"):
        check_address(f"{host}:{port}")
    assert time.monotonic() - started < 60
