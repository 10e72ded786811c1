"""The opened test as text that needs no knowledge of statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from rc_core.metrics._floors import NAMES
from rc_core.metrics.robustness import is_lost_accuracy, without_amounts
from sweeps.selection.opened_data import changed_splits
from sweeps.selection.stamp import Stamp, stamp_lines
from sweeps.shown_values import points, share
from sweeps.tables import render, wide

# A number with its interval, in characters.
_NUMBER = 11
VERDICTS = {"better": "better", "worse": "worse", "open": "not shown", None: ""}


def test_table(document: Mapping[str, Any]) -> str:
    """Return test.json as text: a row per configuration, with means over its seeds if several."""
    rows: Sequence[Mapping[str, Any]] = document.get("rows") or _rows_of_old(document)
    suites = sorted({name for row in rows for name in row.get("suites", {})})
    seen = any(row["accuracy"].get("ood_seen") for row in rows)
    several = any(len(row["seeds"]) > 1 for row in rows)
    titles = [*(["seeds"] if several else []), "ID %", *(f"{name} %" for name in suites), "OOD %"]
    titles += ["seen OOD %"] if seen and not several else []
    titles += ["OOD vs dense", *(["OOD is"] if several else []), "F_bias"]
    table = _table("sealed test, opened after selection", titles)
    for row in rows:
        accuracy = row["accuracy"]
        cells = [*([str(len(row["seeds"]))] if several else []), _share(accuracy["id"])]
        cells += [_share(row.get("suites", {}).get(name)) for name in suites]
        cells += [_share(accuracy["ood"])]
        cells += [_share(accuracy.get("ood_seen"))] if seen and not several else []
        cells += ["" if row["reference"] else _points(row["ood_difference"])]
        cells += [VERDICTS[row.get("verdict")]] if several else []
        cells += [_dense_bias(row, rows) if row["reference"] else _ratio(row["relative_bias"])]
        table.add_row(*_named(row, document), *cells)
    _add_floors(table, document.get("floors", {}), titles)
    width = wide(max(len(f"{name} %"), _NUMBER) for name in suites)
    texts = [render(table, width=width), *_notes(document, rows, several, seen)]
    if any(row["drop"].get("ood") is not None for row in rows):
        texts += ["", render(_drop_table(document, rows, seen)), *_optimism(document, seen)]
    return "\n".join(texts)


def _drop_table(
    document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], seen: bool
) -> Table:
    """Return the same models' dev and test accuracies, and the drop between them."""
    where = "seen OOD" if seen else "OOD"
    titles = ["ID dev %", "ID test %", "drop"]
    titles += ["OOD dev %", f"{where} test %", "drop "]
    table = _table("from dev to test, the same models", titles)
    for row in rows:
        cells = []
        for key, test in (("id", "id"), ("ood", "ood_seen" if seen else "ood")):
            dev, drop = row["dev"].get(key), row["drop"].get(key)
            cells += ["-" if dev is None else share(dev), _share(row["accuracy"][test])]
            cells.append("-" if drop is None else f"{drop:.1f}")
        table.add_row(*_named(row, document), *cells)
    return table


def _table(title: str, titles: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for each in ("", "id", "name"):
        table.add_column(each, no_wrap=each != "name")
    for each in titles:
        table.add_column(Text(each), justify="right", no_wrap=True)
    return table


def _named(row: Mapping[str, Any], document: Mapping[str, Any]) -> list[str | Text]:
    name = f"{row['name']} (dense reference)" if row["reference"] else row["name"]
    return [_mark(row["id"], document), row["id"], Text(name)]


def test_stamp(document: Mapping[str, Any]) -> Stamp:
    """Return the seal's state as it was when test.json was last written."""
    openings = document.get("openings") or [document]
    return Stamp(
        opened=openings[0].get("when", document.get("opened", 0.0)),
        fixed=document["design"] == "fixed",
        selection=document["selection"],
        joined=document.get("changed_after_opening", []),
        left=document.get("left_after_opening", []),
        again=len(openings) - 1,
        other_data=changed_splits(document),
    )


def _notes(
    document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], several: bool, seen: bool
) -> list[str]:
    if document["design"] == "fixed":
        lines = [
            "fixed design: no selection was made; if you choose a row by these figures, it has no "
            "sealed test"
        ]
    elif document.get("basis") == "confirmed":
        lines = ["* chosen: confirmed with new seeds"]
    else:
        lines = [
            "* chosen: on the search's front, with or without the dense reference; one training "
            "seed each"
        ]
    beside = [row for row in rows if not (_mark(row["id"], document) or row["reference"])]
    if beside and document["design"] != "fixed":
        lines.append(
            "rows that were not chosen are for comparison only: if you choose one by these "
            "figures, it has no sealed test"
        )
    lines += stamp_lines(test_stamp(document))
    if several:
        lines.append(
            "\u00b1 and [..]: 95 % interval for another training seed on other samples; 'not "
            "shown': these seeds do not show a difference from dense"
        )
    if seen:
        lines.append("OOD %: subcases that no dev split has; seen: those that ood_dev has too")
    reasons = [row["bias_reason"] for row in rows if row.get("bias_reason")]
    return [*lines, *(f"F_bias -: {each}" for each in dict.fromkeys(map(without_amounts, reasons)))]


def _optimism(document: Mapping[str, Any], seen: bool) -> list[str]:
    """Say how much choosing on the dev splits flattered the chosen models."""
    found = document.get("optimism") or {}
    lines = []
    for where, name in (("id", "ID"), ("ood", "seen OOD" if seen else "OOD")):
        each = found.get(where)
        if each is not None:
            lines.append(
                f"  {name}: {_points(each)} points more than the dense row{_unclear(each)}"
            )
    if lines:
        lines.insert(
            0,
            "optimism of choosing on dev: from dev to test the chosen rows lose (the dense row was "
            "not chosen)",
        )
    return lines


def _unclear(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return "; one seed, so no interval"
    return "" if found["low"] > 0 else "; not shown to be above zero"


def _mark(row: str, document: Mapping[str, Any]) -> str:
    if row in document.get("changed_after_opening", []):
        return "!"
    return "*" if row in document["selection"] and document["design"] != "fixed" else ""


def _add_floors(
    table: Table, lines: Mapping[str, Mapping[str, float]], titles: Sequence[str]
) -> None:
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    if names:
        table.add_section()
    for name in names:
        # These lines exist for whole roles only, not for suites or slices.
        values = {"ID %": "id_test", "OOD %": "ood_test"}
        cells = [
            share(lines[values[title]][name])
            if title in values and name in lines.get(values[title], {})
            else ""
            for title in titles
        ]
        table.add_row("", "", NAMES.get(name, name), *cells, style="dim")


def _dense_bias(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the dense row's relative bias: 1 if its gap is meaningful, else `-`."""
    if row["relative_bias"] is not None or row.get("bias_reason") is not None:
        return "-" if row["relative_bias"] is None else "1"
    # Older versions did not check this row. Other rows show whether the gap is meaningful, as
    # it was checked before their own accuracy.
    told = any(
        each["relative_bias"] is not None or is_lost_accuracy(each.get("bias_reason") or "")
        for each in rows
    )
    return "1" if told else "-"


def _rows_of_old(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows of an old test.json, which holds only trials, one seed each."""

    def value(metrics: Mapping[str, Any], key: str) -> dict[str, Any] | None:
        found = metrics.get(key)
        return None if found is None else {"mean": found, "low": None, "high": None, "n": 1}

    rows = []
    for trial_id, trial in document["trials"].items():
        metrics = trial["metrics"]
        seen = next((k for k in metrics if k.endswith("/seen.seen/accuracy")), "")
        suites = [
            key.split("/")[1]
            for key in metrics
            if key.startswith("ood_test/") and key.endswith("/accuracy") and key.count("/") == 2
        ]
        rows.append(
            {
                "id": trial_id,
                "name": trial["name"],
                "reference": False,
                "seeds": [0],
                "accuracy": {
                    "id": value(metrics, "id_test/accuracy"),
                    "ood": value(metrics, "ood_test/accuracy"),
                    "ood_seen": value(metrics, seen),
                },
                "suites": {s: value(metrics, f"ood_test/{s}/accuracy") for s in suites}
                if len(suites) > 1
                else {},
                "ood_difference": value(metrics, "ood_test/difference"),
                "relative_bias": value(metrics, "ood_test/relative_bias"),
                "bias_reason": trial.get("undefined", {}).get("ood_test/relative_bias"),
                "drop": {},
            }
        )
    return rows


def _share(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return share(found["mean"], _half(found))


def _points(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return points(found["mean"], _half(found))


def _half(found: Mapping[str, Any]) -> float:
    return math.nan if found["low"] is None else (found["high"] - found["low"]) / 2


def _ratio(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    span = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['mean']:.2f}{span}"
