"""Uploads of a sweep while its driver runs, and renewal of its lease.

One thread uploads. A service that is down stops no trial: it is reported once, tried again with
growing pauses, and again at the end. Another thread renews the lease, however long uploads take.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rc_core.atomic import write_json
from rc_core.errors import StorageError
from sweeps.remote.files import attempt_in
from sweeps.remote.lease import LEASE_SECONDS, lost_to, release, renew, take
from sweeps.remote.mirror import Mirror
from sweeps.remote.steps import stamp_of
from sweeps.remote.worker import leave_token

_PAUSE, _LONGEST_PAUSE = 2.0, 60.0
# Records are uploaded as they change; the views, which cover all trials, less often.
_VIEWS_SECONDS = 30.0
_LEASE_SECONDS = 30.0
# After a renewal that failed.
_LEASE_PAUSE = 5.0
_LAST_TRIES = 4


class Uploads:
    """The uploads of one driver."""

    def __init__(
        self,
        mirror: Mirror,
        sweep: Path,
        attempt: int,
        *,
        say: Callable[[str], None],
        take_over: bool,
    ) -> None:
        """Take the lease and start; the caller holds the folder's lock.

        Args:
            mirror: of the sweep's storage.
            sweep: its folder.
            attempt: number of this driver.
            say: receives warnings about failed uploads.
            take_over: take the lease even from a driver that seems to be alive.

        Raises:
            StorageError: the service does not answer, or another machine runs the sweep.
        """
        self._mirror = mirror
        self._sweep = sweep
        self._attempt = attempt
        self._say = say
        self._seen: dict[str, tuple[int, int]] = {}
        self._closing = threading.Event()
        self._released = threading.Event()
        self._checking = threading.Lock()
        self.lost: str | None = None
        leave_token(sweep)
        take(mirror, sweep, attempt, over=take_over)
        try:
            mirror.share(sweep.name)
        except BaseException:
            # Otherwise other machines would see the sweep as running for minutes.
            with suppress(Exception):
                release(mirror, sweep.name)
            raise
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()
        self._keeper = threading.Thread(target=self._keep_lease, name="lease", daemon=True)
        self._keeper.start()

    def gather(self) -> None:
        """Stop uploading, and fetch what other nodes have uploaded, for the report."""
        self._stop()
        if self.lost is not None:
            return
        try:
            self._mirror.gather(self._sweep.name)
        # Errors of the local disk too: the sweep must end as usual, with a report of what is here.
        except (StorageError, OSError) as error:
            self._say(f"warning: {error}")

    def close(self) -> None:
        """Upload what is left and release the lease; report what could not be uploaded."""
        self._stop()
        try:
            self._upload_rest()
        finally:
            self._stop_keeper()

    def _upload_rest(self) -> None:
        pause = _PAUSE
        for last in (False,) * (_LAST_TRIES - 1) + (True,):
            try:
                self.lost = self.lost or lost_to(self._mirror, self._sweep.name)
                if self.lost is not None:
                    return
                self._mirror.share(self._sweep.name)
                self._mirror.artifacts.keep_left()
                # A renewal after the release would bring the lease back.
                self._stop_keeper()
                release(self._mirror, self._sweep.name)
                return
            # What was computed is safe here, and the sweep must close in order.
            except Exception as error:
                if last:
                    self._say(f"warning: {error}")
                    return
            time.sleep(pause)
            pause *= 2

    def _stop(self) -> None:
        self._closing.set()
        self._thread.join()

    def _stop_keeper(self) -> None:
        self._released.set()
        self._keeper.join()

    def _keep_lease(self) -> None:
        pause, warned = _LEASE_SECONDS, False
        while not self._released.wait(pause):
            try:
                if self._is_lost():
                    return
                renew(self._mirror, self._sweep.name, self._attempt)
                pause, warned = _LEASE_SECONDS, False
            # Reported here too: the uploads may have nothing to write, and so nothing to report.
            except Exception as error:
                pause = min(_LEASE_PAUSE, _LEASE_SECONDS)
                if not warned:
                    self._say(
                        "warning: the sweep's lease cannot be renewed; the sweep goes on; another "
                        f"machine may take it over {LEASE_SECONDS:.0f} s after the last renewal: "
                        f"{type(error).__name__}: {error}"
                    )
                    warned = True

    def _is_lost(self) -> bool:
        """Return whether another driver took the sweep; if so, end this one (unless closing)."""
        with self._checking:
            if self.lost is None:
                self.lost = lost_to(self._mirror, self._sweep.name)
                if self.lost is not None and not self._closing.is_set():
                    self._end()
            return self.lost is not None

    def _run(self) -> None:
        pause, warned = _PAUSE, False
        next_views = time.monotonic() + _VIEWS_SECONDS
        while not self._closing.wait(pause):
            try:
                now = time.monotonic()
                changed = self._changed()
                views = now >= next_views
                if changed or views:
                    # Checked before each upload, not to overwrite what another driver has written.
                    if self._is_lost():
                        return
                    self._mirror.share(self._sweep.name, views=views, trials=changed)
                if views:
                    next_views = now + _VIEWS_SECONDS
                pause, warned = _PAUSE, False
            # Whatever the service or its client raises, the sweep must go on without it.
            except Exception as error:
                # The failed records must count as changed again.
                self._seen.clear()
                pause = min(2 * pause, _LONGEST_PAUSE)
                if not warned:
                    self._say(f"warning: uploads are delayed; the sweep goes on: {error}")
                    warned = True

    def _changed(self) -> list[str]:
        """Return the ids of trials whose records were written since the last call."""
        found = []
        for path in self._sweep.glob("trials/*/record.json"):
            stamp = stamp_of(path)
            if stamp is not None and self._seen.get(path.parent.name) != stamp:
                self._seen[path.parent.name] = stamp
                found.append(path.parent.name)
        return found

    def _end(self) -> None:
        """End this driver as Ctrl-C would, because another one has the sweep."""
        # Its workers may not commit any more, and the files here count as older than those there.
        newest = attempt_in(self._sweep) + 1
        write_json(self._sweep / "attempt.json", {"attempt": newest, "pid": 0, "lost": True})
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGINT)


@contextmanager
def uploading(
    mirror: Mirror | None,
    sweep: Path,
    attempt: int,
    *,
    say: Callable[[str], None],
    take_over: bool = False,
) -> Iterator[Uploads | None]:
    """Keep an address in step while a driver runs; without a mirror do nothing."""
    if mirror is None:
        yield None
        return
    uploads = Uploads(mirror, sweep, attempt, say=say, take_over=take_over)
    try:
        yield uploads
    finally:
        uploads.close()
