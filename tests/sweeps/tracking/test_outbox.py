"""Events survive kills and dead servers, in order, and never stop the sweep."""

from __future__ import annotations

import errno
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sweeps.tracking.outbox import Drain, Event, Outbox, Undeliverable


class Recorder:
    """A writer that fails as often as told, then takes everything."""

    empty = False

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.seen: list[int] = []

    def apply(self, event: Event) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("server is down")
        self.seen.append(event["number"])


def fill(outbox: Outbox, count: int) -> None:
    for number in range(count):
        outbox.append("event", number=number)


def test_everything_is_delivered_in_order_once(tmp_path: Path) -> None:
    outbox, writer = Outbox(tmp_path / "outbox.jsonl"), Recorder()
    fill(outbox, 5)
    drain = Drain(outbox, lambda: writer)
    fill(outbox, 3)
    assert drain.close(20) == 0
    assert writer.seen == [*range(5), *range(3)]
    assert Drain(Outbox(tmp_path / "outbox.jsonl"), lambda: writer).close(20) == 0
    assert len(writer.seen) == 8


def test_a_server_that_comes_back_gets_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, writer = Outbox(tmp_path / "outbox.jsonl"), Recorder(failures=2)
    fill(outbox, 3)
    with caplog.at_level(logging.WARNING):
        drain = Drain(outbox, lambda: writer)
        deadline = time.monotonic() + 20
        while len(writer.seen) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert drain.close(20) == 0
    assert writer.seen == [0, 1, 2]
    assert len(caplog.records) == 1, "one warning, however often it fails"


def test_a_dead_server_leaves_the_events_for_later(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 4)

    def refuse() -> Recorder:
        raise ConnectionError("refused")

    assert Drain(outbox, refuse).close(20) == 4
    writer = Recorder()
    assert Drain(Outbox(outbox.path), lambda: writer).close(20) == 0
    assert writer.seen == [0, 1, 2, 3]


def test_a_line_torn_by_a_kill_is_cut_off(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 2)
    with outbox.path.open("a") as stream:
        stream.write('{"kind": "event", "numb')
    again = Outbox(outbox.path)
    again.append("event", number=7)
    assert [event["number"] for event, _ in again.read(0)] == [0, 1, 7]


def test_an_append_that_fails_half_way_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 1)
    whole = Path.open

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        with whole(path, "ab") as stream:
            stream.write(b'{"kind": "event", "nu')
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            outbox.append("event", number=1)
    outbox.append("event", number=2)
    assert [event["number"] for event in Outbox(outbox.path).events()] == [0, 2]


def test_a_torn_line_that_is_there_already_is_passed_over_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, torn = tmp_path / "outbox.jsonl", b'{"kind": "event", "num'
    fill(Outbox(path), 1)
    for after in (b'{"kind": "event", "number": 1}\n', b"\xff\n"):
        path.write_bytes(path.read_bytes() + torn + after)
    outbox, writer = Outbox(path), Recorder()
    with caplog.at_level(logging.WARNING):
        assert outbox.pending() == 1
        outbox.append("event", number=2)
        assert Drain(outbox, lambda: writer).close(20) == 0
    assert writer.seen == [0, 2] and len(caplog.records) == 1
    path.write_bytes(path.read_bytes() + torn + b"\n")
    assert Outbox(path).pending() == 0, "what cannot be sent is not waited for"


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    threads = [threading.Thread(target=fill, args=(outbox, 50)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outbox.read(0, limit=1000)) == outbox.pending() == 200


class Steps:
    """A writer that does one thing each time that closing has waited for it, however long that is.

    Attributes:
        empty: as a writer's.
        turns: how often closing has waited.
    """

    def __init__(self, most: int, *, empty: bool = False) -> None:
        """Take in so many events, or starts over; after that nothing more gets through."""
        self.empty = empty
        self.turns = 0
        self._most = most
        self._go = threading.Semaphore(0)

    def step(self) -> None:
        assert self._go.acquire(timeout=60)

    def apply(self, event: Event) -> None:
        self.step()

    def close(self, drain: Drain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> int:
        """Close, waiting for one step where it would wait for its patience to end."""
        thread = drain._thread

        def join(patience: float) -> None:
            assert patience == 5.0
            self.turns += 1
            before = outbox.delivered
            if self.turns > self._most:
                return
            self._go.release()
            deadline = time.monotonic() + 30
            while outbox.delivered == before and thread.is_alive():
                assert time.monotonic() < deadline
                time.sleep(0.002)

        with monkeypatch.context() as waiting:
            waiting.setattr(thread, "join", join)
            left = drain.close(5.0)
        # Where it has given up, the thread ends with what it was about to do.
        self._go.release()
        thread.join(30)
        assert not thread.is_alive()
        return left


@pytest.mark.parametrize(("most", "left"), [(99, 0), (3, 5)])
def test_closing_waits_as_long_as_something_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, left: int
) -> None:
    outbox, writer = Outbox(tmp_path / "outbox.jsonl"), Steps(most)
    fill(outbox, 8)
    assert writer.close(Drain(outbox, lambda: writer), outbox, monkeypatch) == left
    if left:
        assert writer.turns == most + 1, "it gives up after the first wait without an event"


class Steady:
    """Takes in everything, slowly."""

    empty = False

    def apply(self, event: Event) -> None:
        time.sleep(0.1)


def test_closing_ends_in_time_whatever_gets_through(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 400)
    drain = Drain(outbox, Steady)
    deadline = time.monotonic() + 30
    while not outbox.delivered:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    start = time.monotonic()
    left = drain.close(30, most=1.0)
    assert 0 < left < 400 and time.monotonic() - start < 20, "40 s were left to send"
    drain._thread.join(30)
    assert outbox.pending() >= left - 1, "nothing is sent behind the back of whoever gave up"


def test_closing_asks_a_server_again_that_has_answered(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 6)
    asked: list[int] = []

    class Shaky:
        empty = False

        def apply(self, event: Event) -> None:
            asked.append(event["number"])
            time.sleep(0.1)
            if len(asked) == 4:
                raise ConnectionError("busy for a moment")

    assert Drain(outbox, Shaky).close(10) == 0
    assert asked == [0, 1, 2, 3, 3, 4, 5]


def test_closing_knows_progress_from_a_start_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new store gets everything again: what is delivered falls first."""
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 10)
    outbox.mark_delivered(outbox.path.stat().st_size)
    fill(outbox, 1)
    writer = Steps(99, empty=True)

    def connect() -> Steps:
        writer.step()
        return writer

    assert writer.close(Drain(outbox, connect), outbox, monkeypatch) == 0
    assert writer.turns >= 12, "starting over, and eleven events"


def test_closing_waits_no_longer_than_told(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 1)
    hold = threading.Event()

    class Slow:
        empty = False

        def apply(self, event: Event) -> None:
            hold.wait(60)

    start = time.monotonic()
    assert Drain(outbox, Slow).close(0.2) == 1
    assert time.monotonic() - start < 30
    hold.set()


def test_an_event_that_is_refused_for_good_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(Recorder):
        def apply(self, event: Event) -> None:
            if event["number"] == 1:
                raise Undeliverable("no such run")
            super().apply(event)

    outbox, writer = Outbox(tmp_path / "outbox.jsonl"), Picky()
    fill(outbox, 3)
    with caplog.at_level(logging.WARNING):
        assert Drain(outbox, lambda: writer).close(20) == 0
    assert writer.seen == [0, 2]
    assert "no such run" in caplog.text


@pytest.mark.parametrize("first", [0, 2])
def test_an_event_that_no_code_can_read_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Of another version, say: it raised the same at every try, and nothing came after it."""
    monkeypatch.setattr("sweeps.tracking.outbox._FIRST_WAIT", 0.01)
    outbox, writer = Outbox(tmp_path / "outbox.jsonl"), Recorder()
    fill(outbox, first)
    outbox.append("event", other=1)
    fill(outbox, 2)
    with caplog.at_level(logging.WARNING):
        assert Drain(outbox, lambda: writer).close(20) == 0
    assert writer.seen == [*range(first), 0, 1]
    assert "an event of kind 'event' is skipped" in caplog.text
    assert "KeyError('number')" in caplog.text


def test_what_was_garbled_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.tracking.outbox._FIRST_WAIT", 0.01)

    class Garbled(Recorder):
        def apply(self, event: Event) -> None:
            if self.failures:
                self.failures -= 1
                raise TypeError("'NoneType' object is not subscriptable")
            super().apply(event)

    outbox, writer = Outbox(tmp_path / "outbox.jsonl"), Garbled(failures=2)
    fill(outbox, 2)
    assert Drain(outbox, lambda: writer).close(20) == 0
    assert writer.seen == [0, 1]


def test_a_store_that_has_nothing_gets_everything_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 3)
    assert Drain(outbox, Recorder).close(20) == 0
    new = Recorder()
    new.empty = True
    assert Drain(outbox, lambda: new).close(20) == 0
    assert new.seen == [0, 1, 2]


def test_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.jsonl")
    outbox.append("event", metrics={"a": float("inf"), "b": [float("nan"), 1.5]}, many=(1, 2))
    (event, _), *_ = outbox.read(0)
    assert event["metrics"] == {"a": None, "b": [None, 1.5]}
    assert event["many"] == [1, 2]


def test_after_an_error_a_new_writer_looks_what_is_there(tmp_path: Path) -> None:
    """What failed may have happened all the same, which the old writer would not know."""
    outbox = Outbox(tmp_path / "outbox.jsonl")
    fill(outbox, 3)
    made: list[set[int]] = []
    there: list[int] = []

    class Late:
        empty = False

        def __init__(self) -> None:
            # As a writer looks for its runs when it is made.
            self.known = set(there)
            made.append(self.known)

        def apply(self, event: Event) -> None:
            if event["number"] in self.known:
                return
            there.append(event["number"])
            if event["number"] == 1:
                raise TimeoutError("the answer came too late")

    drain = Drain(outbox, Late)
    assert drain.close(20) == 0
    assert there == [0, 1, 2], "nothing twice"
    assert made == [set(), {0, 1}]
