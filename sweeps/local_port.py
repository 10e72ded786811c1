"""Whether a port of this machine is free for a server on the loopback address."""

from __future__ import annotations

import socket


def why_not_free(port: int) -> str | None:
    """Return why nothing can listen on a port of 127.0.0.1, None if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
    return None
