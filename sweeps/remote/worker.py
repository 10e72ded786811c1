"""A trial on a cluster node that does not have the driver's folder.

The node has a mirror of its own. What the trial commits is uploaded before its driver hears of it;
checkpoints stay on the node.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from pathlib import Path

from rc_core.errors import StorageError
from rc_core.record import TrialFolder, TrialRecord
from sweeps.remote.files import ATTEMPT
from sweeps.remote.mirror import Mirror

_DRIVER = ".driver"
# For an ended trial: about seven minutes in all, to outlast a service that is briefly down.
_TRIES, _PAUSE, _LONGEST_PAUSE = 12, 2.0, 60.0
_logger = logging.getLogger(__name__)


class NotSharedError(StorageError):
    """A trial has ended, but its results could not be uploaded: they are on its node only."""


class AwayTrial(TrialFolder):
    """Uploads each commit; refuses those of an attempt superseded at the address."""

    def __init__(self, path: Path, mirror: Mirror) -> None:
        super().__init__(path, fence=self._newest_attempt)
        self._mirror = mirror
        self._sweep = path.parents[1].name

    def commit(self, record: TrialRecord) -> None:
        """Write the record and upload it; if the trial has ended, upload its files first.

        Raises:
            StaleAttemptError: a newer driver has taken the sweep over.
            NotSharedError: an ended trial could not be uploaded, after several tries.
        """
        super().commit(record)
        tries = 1 if record.status == "running" else _TRIES
        for number in range(1, tries + 1):
            try:
                self._mirror.share(self._sweep, views=False, trials=[self.path.name])
                return
            except StorageError as error:
                ended = record.status != "running"
                if ended and number == tries:
                    raise NotSharedError(error.problems) from error
                _logger.warning("trial %s: %s", record.id, error)
                if ended:
                    time.sleep(min(_PAUSE * 2 ** (number - 1), _LONGEST_PAUSE))

    def _newest_attempt(self) -> int:
        try:
            content = self._mirror.objects.read(f"{self._sweep}/{ATTEMPT}")
        except StorageError:
            # One failed request must not end a trial; the next commit asks again.
            return 0
        return int(json.loads(content)["attempt"]) if content else 0


def leave_token(sweep: Path) -> None:
    """Write a token to a sweep's folder, by which workers recognise that they share the folder."""
    (sweep / _DRIVER).write_text(uuid.uuid4().hex)


def token_in(sweep: Path) -> str:
    """Return the newest driver's token; empty if there is none."""
    path = sweep / _DRIVER
    return path.read_text() if path.is_file() else ""
