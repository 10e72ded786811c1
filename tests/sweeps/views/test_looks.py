"""Every compression and every loss that there is looks like itself in every picture of trials."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_rgb

from rc_core.config import PLUGIN_PACKAGES
from rc_core.plugins import available
from rc_core.record import TrialRecord
from sweeps.reporting.pictures import _MARKERS
from sweeps.reporting.style import REFERENCE_SYMBOL, Style
from sweeps.reporting.symbols import symbol
from sweeps.rows import Row, rows
from sweeps.views import picture
from sweeps.views.notebook_picture import front_svg

OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}
COMPRESSIONS = available(PLUGIN_PACKAGES["compression"])
LOSSES = available(PLUGIN_PACKAGES["loss"])


@pytest.fixture
def found() -> list[Row]:
    """A sweep of everything, its dense reference first."""
    pairs = [("dense", "vanilla"), *((name, "vanilla") for name in COMPRESSIONS)]
    pairs += [("magnitude", loss) for loss in LOSSES]
    records = [
        TrialRecord(
            id=f"t{i:04d}", status="finished", name=f"{compression} {loss}",
            config={"compression": {"name": compression}, "loss": {"name": loss}},
            fingerprint=str(i), started=0.0, reference=i == 0,
            metrics={"id_dev/accuracy": 0.9 - i / 100, "ood_dev/accuracy": 0.5 + i / 100},
        )
        for i, (compression, loss) in enumerate(pairs)
    ]  # fmt: skip
    return rows(records, OBJECTIVES)


def test_the_report_tells_all_of_them_apart(found: list[Row]) -> None:
    style = Style.of(found)
    assert len(set(style.colours.values())) == len(COMPRESSIONS)
    assert len({*style.symbols.values(), REFERENCE_SYMBOL}) == len(LOSSES) + 1
    assert len({symbol(name) for name in style.symbols.values()}) == len(LOSSES)
    assert len({_MARKERS[name] for name in style.symbols.values()}) == len(LOSSES)


def test_the_picture_of_a_front_has_all_of_them_in_its_legend(
    found: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Mapping[str, str]] = []
    legend = picture._legend

    def watched(
        axes: Any, colours: Mapping[str, str], markers: Mapping[str, str], reference: Row | None
    ) -> None:
        seen.extend((colours, markers))
        legend(axes, colours, markers, reference)
        texts = {text.get_text() for text in axes.get_legend().get_texts()}
        assert {*COMPRESSIONS, *(f"loss {name}" for name in LOSSES)} - {"dense"} <= texts

    monkeypatch.setattr(picture, "_legend", watched)
    picture.front_picture(found, OBJECTIVES, tmp_path / "front.png", title="all of it")
    colours, markers = seen
    assert len({to_rgb(colour) for colour in colours.values()}) == len(COMPRESSIONS)
    assert len({*markers.values(), "*"}) == len(LOSSES) + 1


def test_the_picture_of_a_notebook_tells_all_of_them_apart_within_its_frame(
    found: list[Row],
) -> None:
    tree = ET.fromstring(front_svg(found, list(OBJECTIVES)))
    lines = [text for text in tree.iter("text") if text.find("tspan") is not None]
    names = ["".join(line.itertext()).replace("\u25cf", " ").split() for line in lines]
    assert sorted(name for line in names for name in line) == sorted(COMPRESSIONS)
    marks = [mark.get("fill") for line in lines for mark in line if mark.get("fill")]
    assert len(set(marks)) == len(COMPRESSIONS)
    left, top, width, _ = map(float, (tree.get("viewBox") or "").split())
    for line, written in zip(lines, names, strict=True):
        # No character of 12 pixels is wider than 7 on average; a mark and its gaps take 20.
        assert float(line.get("x") or 0) + sum(7 * len(n) + 20 for n in written) <= left + width
        assert float(line.get("y") or 0) >= top + 10
