"""Two drivers on two machines: a second one is refused, a silent one's claim ends."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest

from rc_core.errors import StorageError
from sweeps.folder import SweepFolder
from sweeps.remote import lease, uploads
from sweeps.remote.mirror import Mirror
from sweeps.storages import storage_root
from tests._s3 import S3Server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)


def folder_on(machine: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setenv("RC_STATE", str(machine))
    root = storage_root(s3.storage)
    if (root / "one").is_dir() or "one/sweep.yaml" in s3.listing():
        return SweepFolder.find("one", root)
    folder = SweepFolder.create(root, "one", "x")
    folder.write_config({"model": "tiny:bert"})
    return folder


def mirror_of(folder: SweepFolder) -> Mirror:
    assert folder.mirror is not None
    return folder.mirror


def take(folder: SweepFolder, attempt: int = 1, *, over: bool = False) -> None:
    lease.take(mirror_of(folder), folder.path, attempt, over=over)


def driven_on(machine: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """Return the sweep's folder on a machine whose driver has the lease."""
    folder = folder_on(machine, s3, monkeypatch)
    folder.share()
    take(folder)
    return folder


def test_a_second_machine_is_told_who_runs_the_sweep(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = driven_on(tmp_path / "a", s3, monkeypatch)
    second = folder_on(tmp_path / "b", s3, monkeypatch)
    assert second.is_running(), "its status says so"
    with pytest.raises(StorageError, match=r"another machine .*process \d+.*--take-over"):
        lease.check_free(mirror_of(second), second.path)
    with pytest.raises(StorageError, match="another machine"):
        take(second)
    take(second, over=True)
    assert lease.lost_to(mirror_of(first), "one") is not None
    lease.release(mirror_of(first), "one")
    assert "one/lease.json" in s3.listing(), "it is not the first's to release"
    lease.release(mirror_of(second), "one")
    second.refresh()
    assert not second.is_running()


def test_a_claim_ends_when_its_driver_is_silent(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven_on(tmp_path / "a", s3, monkeypatch)
    second = folder_on(tmp_path / "b", s3, monkeypatch)
    monkeypatch.setattr(lease, "LEASE_SECONDS", -1.0)
    lease.check_free(mirror_of(second), second.path)


def test_a_driver_killed_on_this_machine_needs_no_waiting(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = driven_on(tmp_path / "a", s3, monkeypatch)
    content = json.loads(mirror_of(folder).objects.read("one/lease.json") or b"")
    dead = json.dumps(content | {"pid": 1}).encode()
    mirror_of(folder).objects.write("one/lease.json", dead)
    folder.refresh()
    assert not folder.is_running()
    with folder.driving() as attempt:
        take(folder, attempt)
    assert "one/lease.json" in s3.listing()
    folder.share()
    assert "one/lease.json" not in s3.listing(), "other machines need not wait for it to be over"


def test_of_two_that_start_together_one_goes_on(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder_on(tmp_path / "a", s3, monkeypatch)
    first.share()
    second = folder_on(tmp_path / "b", s3, monkeypatch)
    # The second writes while the first waits to read its own back.
    monkeypatch.setattr(
        "sweeps.remote.lease.time.sleep", lambda _: lease.renew(mirror_of(second), "one", 1)
    )
    with pytest.raises(StorageError, match="another machine"):
        take(first)


@pytest.mark.parametrize("error", [StorageError("refused"), KeyboardInterrupt()])
def test_a_driver_whose_first_upload_fails_gives_its_lease_back(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = folder_on(tmp_path / "a", s3, monkeypatch)
    folder.share()

    def share(*_: object, **__: object) -> None:
        assert "one/lease.json" in s3.listing()
        raise error

    monkeypatch.setattr(Mirror, "share", share)
    with pytest.raises(type(error)), folder.driving() as attempt:
        uploads.Uploads(mirror_of(folder), folder.path, attempt, say=print, take_over=False)
    assert "one/lease.json" not in s3.listing()


def test_uploads_wait_for_a_service_that_is_down_and_tell_it_once(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_PAUSE", 0.02)
    monkeypatch.setattr(uploads, "_LONGEST_PAUSE", 0.02)
    folder = folder_on(tmp_path / "a", s3, monkeypatch)
    said: list[str] = []
    told = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        told.set()

    trial = folder.trials / "t0000"
    with folder.driving() as attempt:
        running = uploads.Uploads(mirror_of(folder), folder.path, attempt, say=say, take_over=False)
        s3.fails = lambda request: request.startswith("PUT")
        trial.mkdir(parents=True)
        (trial / "record.json").write_text('{"status": "failed"}')
        assert told.wait(30)
        s3.fails = lambda request: False
        running.close()
    assert len(said) == 1 and "the sweep goes on" in said[0]
    assert "one/trials/t0000/record.json" in s3.listing()
    assert "one/lease.json" not in s3.listing()
    assert folder.unshared() == ""


def test_a_lease_that_cannot_be_renewed_is_told_once_an_outage(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_LEASE_SECONDS", 0.02)
    folder = folder_on(tmp_path / "a", s3, monkeypatch)
    said: list[str] = []
    tries = threading.Semaphore(0)
    answer: list[Exception | None] = [None]

    def renew(*arguments: object) -> None:
        tries.release()
        if answer[0] is not None:
            raise answer[0]

    def tried(times: int) -> bool:
        return all(tries.acquire(timeout=30) for _ in range(times))

    monkeypatch.setattr(uploads, "renew", renew)
    with folder.driving() as attempt:
        running = uploads.Uploads(
            mirror_of(folder), folder.path, attempt, say=said.append, take_over=False
        )
        # Not only what a service says: a mistake of ours must not end the thread unheard either.
        for error in (StorageError("no answer"), KeyError("heard")):
            answer[0] = error
            assert tried(4)
            answer[0] = None
            assert tried(4)
        running.close()
    assert len(said) == 2, said
    assert "StorageError: no answer" in said[0] and "KeyError: 'heard'" in said[1]


def test_a_lease_is_renewed_while_an_upload_takes_long_and_until_the_sweep_is_closed(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_PAUSE", 0.02)
    monkeypatch.setattr(uploads, "_LEASE_SECONDS", 0.05)
    folder = folder_on(tmp_path / "a", s3, monkeypatch)
    mirror, trial = mirror_of(folder), folder.trials / "t0000"
    began, go_on = threading.Event(), threading.Event()

    def renewed() -> bool:
        """Tell whether the lease is written anew from now on."""
        renewals = [key for key in s3.puts if key == "one/lease.json"]
        deadline = time.monotonic() + 30
        while len([key for key in s3.puts if key == "one/lease.json"]) <= len(renewals):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def slow(*arguments: object, **options: object) -> None:
        began.set()
        assert go_on.wait(60)

    with folder.driving() as attempt:
        running = uploads.Uploads(mirror, folder.path, attempt, say=print, take_over=False)
        with monkeypatch.context() as far:
            far.setattr(mirror, "share", slow)
            trial.mkdir(parents=True)
            (trial / "record.json").write_text('{"status": "failed"}')
            assert began.wait(30)
            assert renewed(), "while an upload takes long"
            go_on.set()
            running.gather()
            assert renewed(), "while the report is written"
        running.close()
    s3.log.clear()
    time.sleep(0.2)
    assert s3.puts == [] and "one/lease.json" not in s3.listing()


def test_what_cannot_be_uploaded_is_said_at_the_end_and_left(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_PAUSE", 0.02)
    monkeypatch.setattr(uploads, "_LAST_TRIES", 1)
    folder = folder_on(tmp_path / "a", s3, monkeypatch)
    said: list[str] = []
    with folder.driving() as attempt:
        running = uploads.Uploads(
            mirror_of(folder), folder.path, attempt, say=said.append, take_over=False
        )
        s3.fails = lambda request: request.startswith("PUT")
        (folder.path / "front.json").write_text("{}")
        running.close()
    assert "warning" in said[-1]
    assert folder.unshared().startswith("1 file of one")


def test_a_driver_whose_lease_was_taken_ends_and_its_workers_are_fenced_off(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_PAUSE", 0.02)
    monkeypatch.setattr(uploads, "_LEASE_SECONDS", 1.0)
    first = folder_on(tmp_path / "a", s3, monkeypatch)
    # As in a terminal: tests in the background of a script ignore Ctrl-C.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    with first.driving() as attempt:
        running = uploads.Uploads(mirror_of(first), first.path, attempt, say=print, take_over=False)
        second = folder_on(tmp_path / "b", s3, monkeypatch)
        # What ends the driver is Ctrl-C's signal, to the main thread, whatever that waits for.
        with pytest.raises(KeyboardInterrupt):
            take(second, 2, over=True)
            time.sleep(60)
        signal.signal(signal.SIGINT, ours)
        s3.log.clear()
        running.close()
    assert running.lost is not None and s3.puts == []
    assert first.attempt() > attempt, "no worker of this driver commits any more"
