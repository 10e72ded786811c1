"""What the tests of reports share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeps lie in the default storage, so that commands name them alone."""
    monkeypatch.setenv("RC_STORAGE", str(tmp_path))
