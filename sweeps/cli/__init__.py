"""The command line, `rc-sweep`: put together in `entry` of the commands in the other files."""

from sweeps.cli.entry import app, main

__all__ = ["app", "main"]
