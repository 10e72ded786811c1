"""A real browser: Debian's Chromium with its driver (apt-get install chromium chromium-driver).

Skipped aloud where there is none; RC_TEST_BROWSER=1 makes its absence a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a headless Chromium that keeps what is written to its console."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        reason = (
            "no browser: install chromium and chromedriver (Debian: apt-get install chromium "
            "chromium-driver)"
        )
        if os.environ.get("RC_TEST_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--hide-scrollbars"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    # A loaded machine draws slowly.
    started.set_page_load_timeout(120)
    started.set_script_timeout(120)
    yield started
    started.quit()
