"""MLflow's own UI, in a real browser, at the address that `rc-sweep ui` gives."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps._made_sweep import make_sweep

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TRIALS = 8


@pytest.fixture(scope="module")
def addresses(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Yield what `rc-sweep ui` says: the addresses of the table and of the charts."""
    # Another test may have left it as narrow as a phone.
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    storage = tmp_path_factory.mktemp("ui")
    make_sweep(storage, "seen", trials=TRIALS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sweeps.cli", "ui", "seen", "--storage", str(storage)]
    log = storage / "ui.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield re.findall(r"^sweep seen, \w+: +(http\S+)", log.read_text(), re.MULTILINE)
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"the UI did not start: {log.read_text()}")


def until(browser: Any, *texts: str) -> str:
    """Wait until the page shows all texts; return all that it shows."""
    deadline, shown = time.monotonic() + 60, ""
    while time.monotonic() < deadline:
        # What is on one line of the page may be several lines of text.
        shown = " ".join(browser.find_element("tag name", "body").text.split())
        if all(text in shown for text in texts):
            return shown
        time.sleep(0.3)
    keep = os.environ.get("RC_TEST_SCREENSHOTS")
    if keep:
        browser.save_screenshot(str(Path(keep) / "mlflow_ui.png"))
    missing = [text for text in texts if text not in shown]
    pytest.fail(f"the page does not show {missing}, but:\n{shown}")


def test_the_address_opens_the_sweep_with_its_trials(chromium: Any, addresses: list[str]) -> None:
    table, _ = addresses
    chromium.get(table)
    shown = until(chromium, f"{TRIALS + 1} matching runs", "t0000 dense vanilla", "seen")
    names = re.findall(r"\bt000\d \w+", shown)
    assert len(set(names)) == TRIALS, shown
    assert "id_dev/accu" in shown and "ood_dev/accu" in shown, "the objectives are columns"


def test_the_parents_page_lists_its_children(chromium: Any, addresses: list[str]) -> None:
    table, _ = addresses
    chromium.get(table)
    until(chromium, "matching runs", "t0000 dense vanilla")
    (link,) = [a for a in chromium.find_elements("tag name", "a") if a.text == "seen"]
    chromium.get(link.get_attribute("href"))
    shown = until(chromium, "Child runs", "t0001", "Pareto front (")
    assert "train.shortcut_nli" in shown, "what the sweep read"
    assert "id_test" not in shown and "ood_test" not in shown, "and what it did not"


def test_the_charts_are_there_without_a_click(chromium: Any, addresses: list[str]) -> None:
    _, charts = addresses
    chromium.get(charts)
    until(chromium, "seen (3)", "id_dev/accuracy", "footprint/nonzero_parameters")
    deadline, drawn = time.monotonic() + 30, ".js-plotly-plot .main-svg"
    while time.monotonic() < deadline and not chromium.find_elements("css selector", drawn):
        time.sleep(0.3)
    assert chromium.find_elements("css selector", drawn), "the charts are drawn"
