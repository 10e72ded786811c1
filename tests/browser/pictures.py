"""The pictures of README and docs, made again from a sweep: PNGs of the report, and of its page.

    make pictures SWEEP=rc_storage/quickstart-1
    python -m tests.browser.pictures SWEEP --out docs --stem quickstart

Needs Chromium and its driver, as the tests in a real browser do.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from sweeps.reporting.write import write_report
from sweeps.stored_sweep import StoredSweep

# name -> width, height, colour scheme
SHOTS = {
    "report": (1200, 1500, "light"),
    "report-dark": (1200, 1500, "dark"),
    "report-phone": (390, 844, "dark"),
}


def main() -> None:
    """Write the report, copy its front, take pictures of its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", help="a sweep's name, or its path")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--stem", help="of the files; by default the sweep's name")
    given = parser.parse_args()
    sweep = StoredSweep.load(given.sweep)
    stem = given.stem or sweep.name
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(sweep, Path(folder))
        given.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(page.with_name("front.png"), given.out / f"{stem}.png")
        browser = start()
        try:
            for name, (width, height, scheme) in SHOTS.items():
                picture = shot(browser, page, width=width, height=height, scheme=scheme)
                (given.out / f"{stem}-{name}.png").write_bytes(picture)
                print(f"wrote {given.out / f'{stem}-{name}.png'}")
        finally:
            browser.quit()


def start() -> Any:
    """Return a headless Chromium."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     "--hide-scrollbars"):  # fmt: skip
        options.add_argument(argument)
    driver = shutil.which("chromedriver")
    if driver is None:
        raise SystemExit("needs chromium and chromedriver (apt-get install chromium-driver)")
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def shot(browser: Any, page: Path, *, width: int, height: int, scheme: str) -> bytes:
    """Return the top of a page as PNG, once its figures are drawn."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    browser.get(page.resolve().as_uri())
    drawn = "const f = document.getElementById('figure-front'); return !f || !!f.dataset.drawn"
    browser.execute_script("document.getElementById('figure-front')?.scrollIntoView()")
    end = time.monotonic() + 60
    while not browser.execute_script(drawn) and time.monotonic() < end:
        time.sleep(0.1)
    # What is drawn further down moves the page under its reader: to the top until it stays there.
    for _ in range(8):
        browser.execute_script("window.scrollTo({top: 0, behavior: 'instant'})")
        time.sleep(0.5)
    # A picture of more than the window comes out torn in places.
    return bytes(browser.get_screenshot_as_png())


if __name__ == "__main__":
    main()
