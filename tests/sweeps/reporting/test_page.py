"""The report's files: nothing of a record becomes markup, every trial is accounted for."""

from __future__ import annotations

import colorsys
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rc_core.errors import StorageError
from sweeps.reporting.facts import Facts
from sweeps.reporting.page import report_page
from sweeps.reporting.pictures import write_pictures
from sweeps.reporting.style import DARK, LIGHT, NUM_SERIES
from sweeps.reporting.summary import summary
from sweeps.reporting.write import try_report, write_report
from tests.sweeps.reporting._made import (
    SUBCASES,
    confirm_made,
    made_sweep,
    open_made,
    write_record,
)

EVIL = '<img src=x onerror="alert(1)"></script><script>alert(2)</script> & [b] $x$ |'


class Elements(HTMLParser):
    """Collects tags and what would run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.suspicious: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on") or name in ("src", "srcset", "action", "data"):
                self.suspicious.append(f"{tag} {name}={value}")
            if name == "href" and not (value or "").startswith("#"):
                self.suspicious.append(f"{tag} {name}={value}")


def data_of(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    found: dict[str, Any] = json.loads(match.group(1))
    return found


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    sweep = made_sweep(tmp_path_factory.mktemp("page"), trials=40, failed=3, stopped=4)
    confirm_made(sweep, rows=3)
    open_made(sweep)
    return Facts.read(sweep)


@pytest.fixture(scope="module")
def page(facts: Facts) -> str:
    return report_page(facts)


def test_nothing_is_loaded_and_the_policy_forbids_it(page: str) -> None:
    found = Elements()
    found.feed(page)
    assert found.suspicious == []
    assert found.tags.count("script") == 3 and "link" not in found.tags
    assert len(found.ids) == len(set(found.ids)), "an id names one element"
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy.group(1) and "connect-src 'none'" in policy.group(1)
    assert "script-src 'sha256-" in policy.group(1)


def test_names_and_errors_are_shown_and_never_run(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=20, failed=2)
    for record in sweep.records:
        error = EVIL if record.status == "failed" else None
        write_record(sweep.folder, record.model_copy(update={"name": EVIL, "error": error}))
    facts = Facts.read(sweep)
    page = report_page(facts)
    found = Elements()
    found.feed(page)
    assert found.suspicious == [] and "img" not in found.tags
    assert found.tags.count("script") == 3
    data = data_of(page)
    # The card is filled as text; plotly reads tags, so what it gets is escaped.
    assert data["trials"][1]["name"] == EVIL
    traces = data["figures"]["figure-front"]["data"]
    texts = [text for trace in traces for text in trace.get("text", [])]
    assert texts and not any("<img" in text or "<script" in text for text in texts)
    assert any("&lt;img" in text for text in texts)
    assert "<img" not in summary(facts, ["front.png"])


def test_every_trial_is_a_dot_or_said_to_have_none(facts: Facts, page: str) -> None:
    traces = data_of(page)["figures"]["figure-front"]["data"]
    dots = [i for t in traces if t.get("meta", {}).get("trials") for i in t["customdata"]]
    assert len(dots) == len(set(dots))
    left = re.search(r'id="not-drawn" data-count="(\d+)"', page)
    # Failed trials without a rung have no place: those of even number.
    assert left is not None and int(left.group(1)) == 1
    assert len(dots) + int(left.group(1)) == len(facts.rows) == 40


def test_hollow_and_filled_tell_the_front(facts: Facts, page: str) -> None:
    traces = data_of(page)["figures"]["figure-front"]["data"]
    filled = {
        facts.rows[index].id
        for trace in traces
        if trace.get("meta", {}).get("trials")
        for index, symbol in zip(trace["customdata"], trace["marker"]["symbol"], strict=True)
        if not symbol.endswith("-open")
    }
    assert filled == {r.id for r in facts.rows if r.on_front or r.candidate or r.reference}
    bars = [t for t in traces if t.get("meta", {}).get("confirmed")]
    assert len(bars) == len(facts.confirmed_rows)
    assert all(t["error_y"]["array"][0] > 0 for t in bars)


def test_plotly_knows_every_setting_of_every_figure(page: str) -> None:
    from plotly import graph_objects

    def with_colours(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_colours(item) for key, item in value.items()}
        if isinstance(value, list):
            return [with_colours(item) for item in value]
        match = re.fullmatch(r"var\(--([\w-]+)\)", value) if isinstance(value, str) else None
        return LIGHT[match.group(1)] if match else value

    figures = data_of(page)["figures"]
    names = {"figure-front", "parallel", "volume-wall", "volume-device"}
    assert set(figures) == names | {f"sparsity-{what}" for what in ("ood", "bias", "gap")}
    for figure in figures.values():
        drawn = with_colours(figure)
        graph_objects.Figure(data=drawn["data"], layout=drawn["layout"])


@pytest.mark.parametrize(
    "heading",
    ["Verdict", "The front", "Can this be trusted?", "Confirmed with new seeds", "The sealed test",
     "What compression costs", "subcase by subcase", "Which settings matter", "What it cost",
     "What failed"],
)  # fmt: skip
def test_every_section_is_there(page: str, heading: str) -> None:
    assert heading in page


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_small_sweeps_have_a_page(tmp_path: Path, trials: int) -> None:
    facts = Facts.read(made_sweep(tmp_path, trials=trials))
    assert data_of(report_page(facts))["trials"][0]["id"] == "t0000"


@pytest.mark.parametrize(
    "objectives",
    [
        {"ood_dev/accuracy": "max"},
        {"ood_dev/accuracy": "max", "footprint/nonzero_parameters": "min"},
        {
            "id_dev/accuracy": "max",
            "ood_dev/accuracy": "max",
            "footprint/nonzero_parameters": "min",
        },
    ],
)
def test_other_objectives_have_a_page(tmp_path: Path, objectives: dict[str, str]) -> None:
    facts = Facts.read(made_sweep(tmp_path, trials=20, objectives=objectives))
    page = report_page(facts)
    corner = "Down and right" if len(objectives) == 2 else "Up and right"
    assert f"{corner} is better." in page and page.count("is better.") == 1
    figure = data_of(page)["figures"]["figure-front"]
    assert sum(len(t["x"]) for t in figure["data"] if t.get("meta", {}).get("trials")) == 20


def test_files_are_written_and_replaced(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=20)
    path = write_report(sweep)
    assert path == sweep.path / "report.html"
    first = path.read_text()
    assert write_report(sweep, tmp_path / "elsewhere" / "deep").is_file()
    names = {"report.html", "report.md", "front.png", "losses.png", "subcases.png",
             "hypervolume.png"}  # fmt: skip
    assert names <= {file.name for file in path.parent.iterdir()}
    assert all((path.parent / name).stat().st_size > 500 for name in names)
    # A picture of the report before that this one has nothing for; others' files stay.
    for folder in (few := made_sweep(tmp_path / "few", trials=2)).path, tmp_path / "mine":
        folder.mkdir(exist_ok=True)
        (folder / "hypervolume.png").touch()
    (few.path / "report.html").touch()
    assert not (write_report(few).parent / "hypervolume.png").exists()
    assert (write_report(few, tmp_path / "mine").parent / "hypervolume.png").exists()
    with sweep.folder.driving():
        assert "It is running" in write_report(sweep).read_text()
        at_the_end = try_report(sweep)
        assert at_the_end is not None and "It is running" not in at_the_end.read_text()
    assert "## Front" in (path.parent / "report.md").read_text()
    assert len(first) > 1_000_000, "plotly is inside"


def test_the_report_of_a_confirmation_is_that_of_its_sweep(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=6)
    confirm_made(sweep, rows=2)
    confirmation = sweep.confirmation
    assert confirmation is not None
    path = write_report(confirmation)
    assert path == sweep.path / "report.html"
    assert "Confirmed with new seeds" in path.read_text()


def test_a_sweep_without_an_end_has_no_report_and_no_harm_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = made_sweep(tmp_path, trials=1)
    record = sweep.records[0].model_copy(update={"status": "running"})
    write_record(sweep.folder, record)
    with pytest.raises(StorageError, match="rc-sweep status made"):
        write_report(sweep)
    assert try_report(sweep) is None
    assert "could not be written" in caplog.text
    (tmp_path / "file").write_text("")
    write_record(sweep.folder, record.model_copy(update={"status": "finished"}))
    with pytest.raises(StorageError, match="must be a folder"):
        write_report(sweep, tmp_path / "file")


def test_what_a_driver_that_is_gone_left_open_is_not_called_running(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=3)
    left = sweep.records[2].model_copy(update={"status": "running", "rungs": (), "metrics": {}})
    write_record(sweep.folder, left)
    page = write_report(sweep).read_text()
    assert "2 finished, 1 interrupted;" in page
    assert f"{left.id} (interrupted)" in page
    assert "running" not in page.partition("<section")[0]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_stand_out_from_their_background(theme: dict[str, str]) -> None:
    """Reference: the contrast of WCAG 2, 3 for marks and 4.5 for text."""
    for name, colour in theme.items():
        if re.fullmatch(r"c\d", name):
            assert contrast(colour, theme["paper"]) >= 3, name
        if name in ("ink", "soft", "good", "note", "warn", "bad"):
            assert contrast(colour, theme["paper"]) >= 4.5, name
            assert contrast(colour, theme["page"]) >= 4.5, name
    full = mixed(theme["heat"], theme["page"], 0.6)
    assert contrast(theme["ink"], full) >= 4.5, "numbers on the darkest cell of the heat map"


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_first_colours_differ_in_more_than_hue(theme: dict[str, str]) -> None:
    found = [theme[f"c{i}"] for i in range(NUM_SERIES)]
    assert len(set(found)) == NUM_SERIES
    hues = [colorsys.rgb_to_hls(*rgb(colour)) for colour in found[:4]]
    assert len({round(h, 1) for h, _, _ in hues}) == 4


def rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def mixed(colour: str, other: str, share: float) -> str:
    parts = [share * a + (1 - share) * b for a, b in zip(rgb(colour), rgb(other), strict=True)]
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def contrast(one: str, two: str) -> float:
    def light(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(two)))
    return (high + 0.05) / (low + 0.05)


def test_every_name_in_a_table_stands_below_its_trial_for_phones(facts: Facts, page: str) -> None:
    named = re.findall(r'<td>([^<]*)<small class="under">([^<]*)</small></td>', page)
    columns = re.findall(r'<td class="name">([^<]*)</td>', page)
    assert [name for _, name in named] == columns and len(columns) > len(facts.confirmed_rows)
    ids = {row.id for row in facts.rows}
    assert {trial for trial, _ in named} <= ids


def test_a_trial_with_new_seeds_shows_them_beside_the_searchs_value(
    facts: Facts, page: str
) -> None:
    data = data_of(page)
    inside, outside = (data["columns"].index(f"{role}, new seeds") for role in ("ID", "OOD"))
    shown = {each["id"]: each["values"] for each in data["trials"]}
    confirmed = {row.id: row for row in facts.confirmed_rows}
    for trial, values in shown.items():
        if trial not in confirmed:
            assert values[inside] is None and values[outside] is None
            continue
        mean = confirmed[trial].estimates["ood_dev/accuracy"].mean
        assert values[outside].startswith(f"{100 * mean:.1f} \u00b1 ")
        assert values[outside].endswith(f" % ({confirmed[trial].seeds})")


def test_pictures_of_a_sweep_that_has_nothing_to_name_say_nothing(tmp_path: Path) -> None:
    """Warnings are errors here, and on a user's screen no better."""
    sweep = made_sweep(tmp_path, trials=4, failed=4)
    facts = Facts.read(sweep)
    assert not any(row.rank is not None for row in facts.rows)
    assert write_pictures(facts, tmp_path) == ["front.png"]


def test_pictures_say_nothing_of_the_names_that_a_users_slices_have(tmp_path: Path) -> None:
    """Values of any column: scripts that the font lacks, a formula's begin, a whole sentence."""
    sweep = made_sweep(tmp_path, trials=6)
    names = dict(zip(SUBCASES, ("\u65e5\u672c", "$_{$", "x" * 300, "", "\U0001f600"), strict=True))
    for record in sweep.records:
        metrics = dict(record.metrics)
        for old, new in names.items():
            key = next(each for each in metrics if f".{old}/" in each)
            metrics[key.replace(old, new)] = metrics.pop(key)
        write_record(sweep.folder, record.model_copy(update={"metrics": metrics}))
    assert "subcases.png" in write_pictures(Facts.read(sweep), tmp_path)
