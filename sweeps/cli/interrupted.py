"""Ctrl-C (or SIGTERM) in a command that does not report it itself: what was kept, what to do."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from rc_core.errors import RobustCompressionError

# Command -> what an interruption leaves; commands that only read leave nothing.
_LEFT = {
    "launch": "if the sweep was created, rc-sweep sweeps lists it and rc-sweep resume continues it",
    "resume": "finished trials are kept; run the same command again to continue",
    "confirm": "finished trainings are kept; run the same command again to continue",
    "latency": "nothing was written; run the same command again",
    "export": "nothing was left at --out; run the same command again",
    "adopt": "run the same command again to take in the rest",
    "sync": "run the same command again to continue",
    "remove": "run the same command again to remove the rest",
    "artifacts": "run the same command again to continue",
}


class Interrupted(RobustCompressionError):
    """A command was interrupted; the message says what is left to do."""


class Commands(TyperGroup):
    """The commands; typer alone would end an interrupted one silently, with its own exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises Interrupted instead of KeyboardInterrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            left = _LEFT.get(ctx.invoked_subcommand or "")
            raise Interrupted(f"interrupted; {left}" if left else "interrupted") from None
