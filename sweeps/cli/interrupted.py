"""Ctrl-C (or SIGTERM) in a command that says nothing of it by itself: how things stand then."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from rc_core.errors import RobustCompressionError

# Of commands that write, what became of that; one that only looks leaves nothing.
_LEFT = {
    "launch": "what was begun, if anything was, is among rc-sweep sweeps: rc-sweep resume goes on",
    "resume": "what was finished is kept; give the same command again",
    "confirm": "what was trained is kept; give the same command again",
    "latency": "nothing was written; give the same command again",
    "export": "nothing is left at --out; give the same command again",
    "adopt": "give the same command again: it takes in what is missing",
    "sync": "give the same command again: it goes on",
    "remove": "give the same command again: it removes the rest",
    "artifacts": "give the same command again: it goes on with what is left",
}


class Interrupted(RobustCompressionError):
    """A command was interrupted; the message says what is left to do."""


class Commands(TyperGroup):
    """The commands; typer would end an interrupted one without a word, by a code of its own."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises Interrupted in the place of KeyboardInterrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            left = _LEFT.get(ctx.invoked_subcommand or "")
            raise Interrupted(f"interrupted; {left}" if left else "interrupted") from None
