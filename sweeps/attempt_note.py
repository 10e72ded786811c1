"""A note on how a sweep's newest attempt ended, in a file of the sweep: {"attempt", KEY: text}.

It is valid only while that attempt is the newest one, so nothing has to be removed, here or at a
URI, when the sweep is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rc_core.atomic import write_json
from sweeps.json_files import read_json
from sweeps.remote.files import attempt_in


@dataclass(frozen=True)
class AttemptNote:
    """One kind of such a file.

    Attributes:
        file: its name.
        key: the key of the text.
        what: what the file contains, for the error if it is damaged.
    """

    file: str
    key: str
    what: str

    def keep(self, sweep: Path, attempt: int, text: str) -> None:
        """Write it. Raises OSError."""
        write_json(sweep / self.file, {"attempt": attempt, self.key: text})

    def of(self, sweep: Path) -> str | None:
        """Return its text, None if there is none for the newest attempt.

        Raises:
            StorageError: the file is damaged.
        """
        found = read_json(
            sweep / self.file,
            lambda raw: (int(raw["attempt"]), str(raw[self.key])),
            what=self.what,
            advice="remove it: it is only shown",
        )
        return None if found is None or found[0] != attempt_in(sweep) else found[1]
