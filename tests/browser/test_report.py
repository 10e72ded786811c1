"""The report and the comparison in a real chromium: what a person sees, points at and clicks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.reporting.compare import compare
from sweeps.reporting.compare_page import write_comparison
from sweeps.reporting.facts import Facts
from sweeps.reporting.page import report_page
from tests.sweeps.reporting._made import confirm_made, made_sweep, open_made, write_record

pytestmark = pytest.mark.browser
TRIALS, FAILED = 40, 4
EVIL = '<img src=x onerror="window.evil=1"><script>window.evil=2</script>'

# Plotly does not scroll to a figure before it draws; printing needs all of them.
DRAW_ALL = "window.dispatchEvent(new Event('beforeprint'))"
ALL_DRAWN = "return [...document.querySelectorAll('.figure[id]')].every(e => e.dataset.drawn)"
DOTS = """
return document.getElementById('figure-front').data
  .filter(t => t.meta && t.meta.trials).reduce((n, t) => n + t.x.length, 0)
"""
# Where a trial's dot is in the window.
PLACE = """
const figure = document.getElementById('figure-front');
figure.scrollIntoView({block: 'center', behavior: 'instant'});
for (const [curve, trace] of figure.data.entries()) {
  const at = (trace.meta && trace.meta.trials ? trace.customdata : []).indexOf(arguments[0]);
  if (at < 0) continue;
  const box = figure.querySelector('.main-svg').getBoundingClientRect();
  const l = figure._fullLayout;
  return [box.left + l.xaxis._offset + l.xaxis.d2p(trace.x[at]),
          box.top + l.yaxis._offset + l.yaxis.d2p(trace.y[at])];
}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    sweep = made_sweep(root, trials=TRIALS, failed=FAILED, stopped=3)
    confirm_made(sweep, rows=3)
    open_made(sweep)
    last = sweep.records[-1]
    write_record(sweep.folder, last.model_copy(update={"name": EVIL, "error": EVIL}))
    path = root / "report.html"
    path.write_text(report_page(Facts.read(sweep)), encoding="utf-8")
    return path


def opened(
    chromium: Any, path: Path, *, width: int = 1200, height: int = 900, scheme: str = "light"
) -> Any:
    """Open a page and wait until every figure is drawn."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    chromium.get_log("browser")
    chromium.get(path.as_uri())
    # Told again each time: now and then the first word still reaches the page before this one.
    wait(lambda: chromium.execute_script(f"{DRAW_ALL}; {ALL_DRAWN}"), "every figure drawn")
    return chromium


def wait(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"not within {seconds:g} s: {what}")


def mouse(chromium: Any, kind: str, place: tuple[float, float]) -> None:
    x, y = place
    button = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
    chromium.execute_cdp_cmd(
        "Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "pointerType": "mouse"} | button
    )


def point_at(chromium: Any, trial: int) -> tuple[float, float]:
    x, y = chromium.execute_script(PLACE, trial)
    mouse(chromium, "mouseMoved", (x - 3, y - 3))
    mouse(chromium, "mouseMoved", (x, y))
    return x, y


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_the_page_opens_without_an_error_and_does_not_scroll_sideways(
    chromium: Any, report: Path, width: int, scheme: str
) -> None:
    opened(chromium, report, width=width, scheme=scheme)
    messages = [entry["message"] for entry in chromium.get_log("browser")]
    assert messages == []
    wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert chromium.execute_script(wide) == [width, width]
    loaded = chromium.execute_script("return performance.getEntriesByType('resource').length")
    assert loaded == 0, "a report loads nothing"


def test_the_front_has_as_many_dots_as_trials(chromium: Any, report: Path) -> None:
    opened(chromium, report)
    missing = chromium.execute_script("return document.getElementById('not-drawn').dataset.count")
    assert chromium.execute_script(DOTS) + int(missing) == TRIALS
    painted = chromium.execute_script(
        "return document.querySelectorAll('#figure-front .scatterlayer .trace .points path').length"
    )
    # The means of the confirmation are dots of their own.
    bars = chromium.execute_script(
        "return document.getElementById('figure-front').data"
        ".filter(t => t.meta && t.meta.confirmed).length"
    )
    assert painted == TRIALS - int(missing) + bars


def test_names_and_errors_of_trials_do_not_run(chromium: Any, report: Path) -> None:
    opened(chromium, report)
    chromium.execute_script("document.querySelector('#failures').scrollIntoView()")
    assert chromium.execute_script("return window.evil === undefined")
    assert EVIL in chromium.execute_script("return document.querySelector('#failures').textContent")


def test_pointing_shows_a_trial_and_clicking_copies_its_export(chromium: Any, report: Path) -> None:
    opened(chromium, report)
    # Headless Chromium has no clipboard to read from: what is written is kept here.
    chromium.execute_script(
        "window.copied = [];"
        "Object.defineProperty(navigator, 'clipboard', {configurable: true, value: "
        "{writeText: async (text) => { window.copied.push(text); }}});"
    )
    card = "return document.getElementById('trial').textContent"
    # A dot away from the crowd, or another may lie on top: the reference and the worst OOD.
    worst = chromium.execute_script(
        "const t = JSON.parse(document.getElementById('data').textContent).trials;"
        "let low = 1e9, at = -1; for (const f of document.getElementById('figure-front').data) "
        "if (f.meta && f.meta.trials) f.y.forEach((y, i) => { if (y < low && "
        "t[f.customdata[i]].model) { low = y; at = f.customdata[i]; } }); return at;"
    )
    name = f"t{worst:04d}"
    place = point_at(chromium, worst)
    wait(lambda: name in chromium.execute_script(card), f"the card shows {name}")
    assert "compression.name" in chromium.execute_script(card)
    hover = "return document.querySelectorAll('#figure-front .hoverlayer .hovertext').length"
    wait(lambda: chromium.execute_script(hover), "a hover label")
    # Plotly looks at the mouse at most every 50 ms; nobody clicks faster than that.
    time.sleep(0.3)
    mouse(chromium, "mousePressed", place)
    mouse(chromium, "mouseReleased", place)
    copied = wait(lambda: chromium.execute_script("return window.copied"), "something is copied")
    storage = report.parent
    assert copied == [f"rc-sweep export made --pick {name} --out made-{name} --storage {storage}"]
    toast = "const t = document.getElementById('toast'); return t.className + t.textContent"
    wait(lambda: "on" in chromium.execute_script(toast), "the toast")
    assert copied[0] in chromium.execute_script(toast)


def test_copying_works_where_the_clipboard_is_refused(chromium: Any, report: Path) -> None:
    opened(chromium, report)
    chromium.execute_script(
        "Object.defineProperty(navigator, 'clipboard', {configurable: true, value: "
        "{writeText: async () => { throw new Error('no'); }}});"
        "document.querySelector('#verdict .copy').click();"
    )
    text = "return document.getElementById('toast').textContent"
    wait(lambda: "rc-sweep export made" in chromium.execute_script(text), "the command is shown")


def test_the_export_of_a_row_is_copied_without_an_error(chromium: Any, report: Path) -> None:
    opened(chromium, report)
    chromium.execute_script("document.querySelector('#front table button[data-copy]').click()")
    text = "return document.getElementById('toast').textContent"
    wait(lambda: "rc-sweep export made" in chromium.execute_script(text), "the command is shown")
    assert [entry["message"] for entry in chromium.get_log("browser")] == []


def test_a_name_in_the_legend_hides_its_trials_in_every_figure(chromium: Any, report: Path) -> None:
    opened(chromium, report)
    visible = (
        "return [...document.querySelectorAll('.figure[id]')].flatMap(f => f.data)"
        ".filter(t => t.meta && t.meta.compression === 'heads').map(t => t.visible)"
    )
    assert set(chromium.execute_script(visible)) == {True}
    chip = "document.querySelector('[data-kind=compression][data-name=heads]')"
    chromium.execute_script(f"{chip}.click()")
    wait(lambda: set(chromium.execute_script(visible)) == {False}, "all are hidden")
    assert chromium.execute_script(f"return {chip}.getAttribute('aria-pressed')") == "false"
    chromium.execute_script(f"{chip}.click()")
    wait(lambda: set(chromium.execute_script(visible)) == {True}, "all are back")


def test_the_colours_follow_the_room(chromium: Any, report: Path) -> None:
    opened(chromium, report)
    colour = "return document.getElementById('figure-front').layout.font.color"
    light = chromium.execute_script(colour)
    media = [{"name": "prefers-color-scheme", "value": "dark"}]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    wait(lambda: chromium.execute_script(colour) != light, "the figures are drawn anew")
    assert not [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]


def test_thousands_of_trials_are_drawn_to_the_last(chromium: Any, tmp_path: Path) -> None:
    facts = Facts.read(made_sweep(tmp_path, trials=1_200))
    path = tmp_path / "large.html"
    path.write_text(report_page(facts), encoding="utf-8")
    opened(chromium, path)
    assert chromium.execute_script(DOTS) == 1_200
    # A machine without a graphics card warns that it draws by software; errors are none.
    severe = [e["message"] for e in chromium.get_log("browser") if e["level"] == "SEVERE"]
    assert severe == []


def test_the_comparison_opens_too(chromium: Any, tmp_path: Path) -> None:
    found = [
        Facts.read(made_sweep(tmp_path, trials=12, name=name, seed=seed))
        for seed, name in enumerate(("first", "second"))
    ]
    path = write_comparison(compare(found), tmp_path / "out")
    opened(chromium, path, width=390)
    assert chromium.get_log("browser") == []
    traces = chromium.execute_script(
        "return document.getElementById('fronts-figure').data.map(t => t.x.length)"
    )
    # Per sweep: dominated, front, dense reference.
    assert len(traces) == 6 and sum(traces) == 24
    assert json.dumps(traces)
    wide = "return document.documentElement.scrollWidth"
    assert chromium.execute_script(wide) == 390


@pytest.mark.parametrize("width", [1200, 700, 390])
def test_names_in_the_front_stand_apart(chromium: Any, tmp_path: Path, width: int) -> None:
    """The model to take lies on the dense reference, which is where names met."""
    points = [(0.952, 0.64), (0.9522, 0.6405), (0.9, 0.6), (0.88, 0.62), (0.86, 0.55)]
    sweep = made_sweep(tmp_path, trials=len(points))
    for record, (inside, outside) in zip(sweep.records, points, strict=True):
        metrics = dict(record.metrics) | {"id_dev/accuracy": inside, "ood_dev/accuracy": outside}
        write_record(sweep.folder, record.model_copy(update={"metrics": metrics}))
    path = tmp_path / "near.html"
    path.write_text(report_page(Facts.read(sweep)), encoding="utf-8")
    opened(chromium, path, width=width)
    boxes = chromium.execute_script(
        "return [...document.querySelectorAll('#figure-front .annotation-text-g')].map(e => {"
        "const b = e.getBoundingClientRect();"
        "return [e.textContent, b.left, b.top, b.right, b.bottom];})"
    )
    texts = [box[0] for box in boxes]
    assert "take t0001" in texts and ("dense reference" in texts) == (width > 640)
    frame = chromium.execute_script(
        "const b = document.querySelector('#figure-front .main-svg').getBoundingClientRect();"
        "return [b.left, b.right]"
    )
    for i, (_, left, top, right, bottom) in enumerate(boxes):
        assert frame[0] <= left and right <= frame[1]
        for _, other_left, other_top, other_right, other_bottom in boxes[:i]:
            apart = right <= other_left or other_right <= left
            assert apart or bottom <= other_top or other_bottom <= top, texts


def test_a_phone_shows_the_numbers_without_scrolling(chromium: Any, report: Path) -> None:
    opened(chromium, report, width=390)
    table = "document.querySelector('#confirmed table')"
    right = "e => e.getBoundingClientRect().right"
    titles = chromium.execute_script(
        f"return [...{table}.querySelectorAll('th')].map(e => e.textContent)"
    )
    ends = chromium.execute_script(f"return [...{table}.querySelectorAll('th')].map({right})")
    assert ends[titles.index("OOD %")] <= 390
    assert ends[titles.index("configuration")] == 0, "names have no column of their own"
    names = chromium.execute_script(
        f"return [...{table}.querySelectorAll('small.under')].map(e => [e.textContent, "
        "e.getBoundingClientRect().width, getComputedStyle(e).display])"
    )
    rows = chromium.execute_script(f"return {table}.querySelectorAll('tbody tr').length")
    assert len(names) == rows and all(text and wide > 60 for text, wide, _ in names)
    opened(chromium, report, width=1200)
    shown = f"return getComputedStyle({table}.querySelector('small.under')).display"
    assert chromium.execute_script(shown) == "none"


@pytest.mark.parametrize("width", [1200, 390])
def test_no_tile_breaks_a_number(chromium: Any, report: Path, width: int) -> None:
    opened(chromium, report, width=width)
    lines = chromium.execute_script(
        "return [...document.querySelectorAll('.tile b')].map(e => [e.textContent, "
        "e.getClientRects().length, e.scrollWidth <= e.clientWidth])"
    )
    assert len(lines) >= 4 and any("\u00b1" in text for text, _, _ in lines)
    assert all(fits for _, _, fits in lines), lines
