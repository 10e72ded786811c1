"""What every test stands on: no network, one thread, no settings of whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests._s3 import S3Server

# Set before any library reads them, and inherited by the processes that tests start.
os.environ |= {
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "Agg",
    "NO_COLOR": "1",
    "OMP_NUM_THREADS": "1",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
for _name in ("FORCE_COLOR", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RC_STORAGE", "RC_STATE"):
    os.environ.pop(_name, None)
# Nor may a test find keys to someone's bucket.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Numbers must not depend on the machine; a test without torch does not load it."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of the public data sets: RC_TEST_DATA, else ../shared/data if there."""
    given = os.environ.get("RC_TEST_DATA")
    if given:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            pytest.fail(f"RC_TEST_DATA must be a folder, but {folder} is not one")
        return folder.resolve()
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public data sets are not here; name their folder in RC_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Return a headless Chromium, driven by selenium; skips where there is none.

    Debian has it as `chromium` and `chromium-driver`. With RC_NEED_BROWSER=1 its lack is a failure.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        reason = "needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("RC_NEED_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--window-size=1600,1100",
    ):
        options.add_argument(argument)
    # What is written to the console is kept: a page must write no error there.
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    # A loaded machine draws slowly.
    browser.set_page_load_timeout(120)
    browser.set_script_timeout(120)
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Return moto's S3 server on loopback, which keeps a log and can be told to fail."""
    with S3Server() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Return the server with an empty bucket, named by the standard variables; no mirror yet."""
    s3_server.reset()
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RC_STATE", str(tmp_path / "state"))
    return s3_server


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep whole sweeps in two groups of about the same length, and the browser on one worker.

    A sweep spends much of its time starting processes, so two fill the machine's cores; more would
    only wait for each other. The second group (several nodes, a bucket, early stopping) names
    itself, `e2e-2`, and is the shorter one: its worker has the rest to do. First, because
    pytest-xdist reads the groups in a hook of its own.
    """
    for item in items:
        for name in ("e2e", "browser"):
            own = item.get_closest_marker("xdist_group")
            if own is None and item.get_closest_marker(name) is not None:
                item.add_marker(pytest.mark.xdist_group(name))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip `gpu` tests where there is no CUDA device."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
