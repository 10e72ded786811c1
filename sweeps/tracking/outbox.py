"""Tracking events: appended to a file, then delivered by one thread. A dead server stops nothing.

    outbox.jsonl     one event per line: {"kind", "time", ...}
    outbox.offset    bytes delivered so far

Delivery is at least once: after a kill an event may come again, so writers must tolerate repeats.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from rc_core.atomic import drop_half_line, write_text

_logger = logging.getLogger(__name__)
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_BATCH = 200
# Errors of code that cannot read an event of another version; servers and networks raise others.
# The event is tried this many times, as an answer may be garbled once.
_UNFIT = (LookupError, TypeError, AttributeError)
_UNFIT_TRIES = 3

Event = dict[str, Any]


class Undeliverable(Exception):
    """The writer refuses an event for good: a retry cannot help."""


class Writer(Protocol):
    """Where events go.

    Attributes:
        empty: whether the store has nothing of the sweep, so that events delivered before (to
            another store, or to one that was deleted) must be sent again.
    """

    empty: bool

    def apply(self, event: Event) -> None:
        """Deliver one event.

        Raises:
            Undeliverable: it never can be delivered.
            Exception: it was not delivered; this writer is not used again.
        """
        ...


class Outbox:
    """An append-only file of events, and how much of it has been delivered."""

    def __init__(self, path: Path) -> None:
        """Open the file, and cut off a last line that a killed process left unfinished."""
        self.path = path
        self._offset_file = path.with_suffix(".offset")
        self._lock = threading.Lock()
        self._told_of_torn = False
        drop_half_line(path)

    def append(self, kind: str, **payload: Any) -> None:
        """Add an event with the current time. NaN and infinity, which JSON lacks, become null.

        Raises:
            OSError: it could not be written (a full disk); no part of it remains.
        """
        line = json.dumps(_plain({"kind": kind, "time": time.time(), **payload}), allow_nan=False)
        with self._lock:
            size = self.path.stat().st_size
            try:
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(line + "\n")
            except OSError:
                os.truncate(self.path, size)
                raise

    def read(self, offset: int, limit: int = _BATCH) -> list[tuple[Event, int]]:
        """Return up to `limit` events from a byte offset on, each with the offset after it.

        Lines that are not events, torn by a full disk, are skipped.
        """
        found: list[tuple[Event, int]] = []
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n") or len(found) == limit:
                    break
                offset += len(line)
                try:
                    found.append((json.loads(line), offset))
                except ValueError:
                    self._tell_of_torn(offset)
        return found

    def _tell_of_torn(self, offset: int) -> None:
        if not self._told_of_torn:
            self._told_of_torn = True
            _logger.warning(
                "%s: the line ending at byte %d is not an event; it and others like it are skipped",
                self.path,
                offset,
            )

    def events(self, offset: int = 0) -> Iterator[Event]:
        """Yield every event from a byte offset on, delivered or not, oldest first."""
        while batch := self.read(offset):
            yield from (event for event, _ in batch)
            offset = batch[-1][1]

    @property
    def delivered(self) -> int:
        """Bytes delivered so far."""
        try:
            return int(self._offset_file.read_text())
        except (FileNotFoundError, ValueError):
            # Everything is sent again, which writers tolerate.
            return 0

    def mark_delivered(self, offset: int) -> None:
        """Record that everything before `offset` was delivered."""
        write_text(self._offset_file, str(offset))

    def pending(self) -> int:
        """Return how many events are not delivered yet."""
        return sum(1 for _ in self.events(self.delivered))


class Drain:
    """The one thread that delivers an outbox."""

    def __init__(self, outbox: Outbox, connect: Callable[[], Writer]) -> None:
        """Start delivering.

        Args:
            outbox: the events.
            connect: makes the writer; called in the thread (it imports MLflow), and again after
                each error: a failed request may have taken effect, so a new writer has to check
                what the store has.
        """
        self._outbox = outbox
        self._connect = connect
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._reached = False
        self._unfit: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def close(self, patience: float, most: float = math.inf) -> int:
        """Deliver what is left; return how many events remain. Ctrl-C stops the delivery.

        Args:
            patience: gives up after this many seconds without a delivery.
            most: gives up after this many seconds in any case.
        """
        started = time.monotonic()
        self._closing.set()
        try:
            before = None
            while self._thread.is_alive() and before != (now := self._outbox.delivered):
                left = most - (time.monotonic() - started)
                if left <= 0:
                    break
                if before is not None:
                    _logger.warning(
                        "still sending %d tracking events; Ctrl-C leaves them for the next resume",
                        self._outbox.pending(),
                    )
                before = now
                self._thread.join(min(patience, left))
        except KeyboardInterrupt:
            pass
        finally:
            # The thread must end even if the outbox cannot be read.
            self._abandoned.set()
        return self._outbox.pending()

    def _run(self) -> None:
        writer: Writer | None = None
        wait, warned = _FIRST_WAIT, False
        while not self._abandoned.is_set():
            last_try = self._closing.is_set()
            try:
                if writer is None:
                    writer = self._connect()
                    if writer.empty:
                        self._outbox.mark_delivered(0)
                if self._deliver(writer):
                    wait = _FIRST_WAIT
                    continue
                if last_try:
                    return
            # Whatever a tracking server or its client raises, the sweep must go on without it.
            except Exception as error:
                # It no longer knows what the store has: a late answer counts as an error too.
                writer = None
                if not warned:
                    _logger.warning(
                        "tracking is not available; events are kept in %s: %s",
                        self._outbox.path,
                        " ".join(str(error).split())[:300],
                    )
                    warned = True
                # At the end only a server that has answered before is tried again, for a while.
                if last_try and not self._reached:
                    return
                wait = min(2 * wait, _LONGEST_WAIT)
            # `_closing` is set by then, and would not wait.
            (self._abandoned if last_try else self._closing).wait(wait)

    def _deliver(self, writer: Writer) -> bool:
        """Deliver a batch; return whether there was anything to deliver."""
        batch = self._outbox.read(self._outbox.delivered)
        for event, offset in batch:
            if self._abandoned.is_set():
                return False
            try:
                writer.apply(event)
            except Undeliverable as error:
                # One bad event must not hold up those after it.
                _logger.warning("tracking refused an event of kind '%s': %s", event["kind"], error)
            except _UNFIT as error:
                # The writer was made, so the server answers: try again at the end too.
                self._reached = True
                self._unfit[offset] += 1
                if self._unfit[offset] < _UNFIT_TRIES:
                    raise
                _logger.warning(
                    "an event of kind '%s' is skipped, as tracking cannot read it: %r",
                    event.get("kind"),
                    error,
                )
            self._outbox.mark_delivered(offset)
            self._reached = True
        return bool(batch)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
