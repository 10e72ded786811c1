"""Checks of `--address` before Ray is used. Does not import Ray, which takes seconds."""

from __future__ import annotations

import socket

from rc_core.errors import InputError

# Ray itself would keep trying for more than ten minutes.
_CONNECT_SECONDS = 10.0


def check_address(address: str) -> None:
    """Check that an address is `local`, `auto`, or HOST:PORT at which something listens.

    Raises:
        InputError: it is a Ray client address, invalid, or nothing answers there.
    """
    if address in ("local", "auto"):
        return
    if address.startswith("ray://"):
        raise InputError(
            "--address must be local, auto or HOST:PORT, but got a ray:// address: with the Ray "
            "client, trials would not find the driver's files. Submit the command as a job "
            "instead: ray job submit --address http://HEAD:8265 -- rc-sweep launch CONFIG "
            "--address auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(
            "--address must be local, auto or HOST:PORT of a Ray cluster (6379 is its default "
            f"port), but got '{address}'"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--address must be that of a Ray cluster, but nothing answers at '{address}' within "
            f"{_CONNECT_SECONDS:.0f} s ({error}); start one there with 'ray start --head', check "
            "for a firewall in between, or use --address local"
        ) from error
