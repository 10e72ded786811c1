"""Opening the test roles: after selection, once, with a stamp of when and for which trials.

`id_test` and `ood_test` are evaluated nowhere else. In `design: search` only the selected trials
(the front) and the rows they are compared with are opened; in `design: fixed` nothing was selected
and every trial is.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

from rc_core.config import decode
from rc_core.data._task import TEST_ROLES
from rc_core.errors import StorageError
from rc_core.metrics._floors import NAMES
from rc_core.record import TrialRecord, write_json
from sweeps.assignments import REFERENCE_ID
from sweeps.config import SweepConfig
from sweeps.events import tell_test
from sweeps.model_card import accuracy_keys
from sweeps.sweep import Sweep

_ROLE_KEYS = ("id_test/accuracy", "ood_test/accuracy")
_SELECTED = "* on the front, with or without the dense reference, when the test was opened"
_TITLES = {"id_test": "ID %", "ood_test": "OOD %", "ood_test/difference": "OOD vs dense"}


def open_tests(sweep: Sweep, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Evaluate the test roles and write test.json; trials opened before are not evaluated again.

    Returns:
        {"opened": time, "design", "selection": [ids], "trials": {id: {"name", "metrics",
        "opened"}}, "changed_after_opening": [ids selected later], "data": {split: {"samples",
        "digest"}}, "floors": {role: {line: accuracy}}}.

    Raises:
        StorageError: the task has no test split, nothing finished, or the sweep is running.
    """
    folder = sweep.folder
    if folder.is_running():
        raise StorageError(f"sweep {sweep.name} is running; test it when it has ended")
    chosen = _chosen(sweep)
    document = _read(sweep)
    now = time.time()
    selection = _selection(sweep)
    if document is None:
        document = {
            "opened": now,
            "design": sweep.config.get("design", "search"),
            "selection": selection,
            "trials": {},
            "changed_after_opening": [],
        }
    else:
        later = [i for i in selection if i not in document["selection"]]
        document["changed_after_opening"] = later
    missing = [record for record in chosen if record.id not in document["trials"]]
    if missing:
        _evaluate(sweep, missing, document, now, say)
        left = tell_test(SweepConfig(sweep.config), folder, document)
        if left:
            say(f"warning: {left} tracking events are kept in {folder.outbox}")
    return document


def _chosen(sweep: Sweep) -> list[TrialRecord]:
    """Return the trials whose test results may be seen."""
    finished = [record for record in sweep.records if record.status == "finished"]
    if not finished:
        raise StorageError(f"sweep {sweep.name} has no finished trial to test")
    if sweep.config.get("design") == "fixed":
        return finished
    selection = _selection(sweep)
    return [
        record
        for record in finished
        if record.id in selection
        or record.id == REFERENCE_ID
        or record.config["loss"]["name"] == "vanilla"
    ]


def _selection(sweep: Sweep) -> list[str]:
    """Return the front and, where the reference beats compressed models, the best of these."""
    return list(dict.fromkeys(record.id for record in (*sweep.front, *sweep.candidates)))


def _evaluate(
    sweep: Sweep,
    records: list[TrialRecord],
    document: dict[str, Any],
    now: float,
    say: Callable[[str], None],
) -> None:
    from rc_core.evaluation import counted_sizes, relative_metrics
    from rc_core.metrics._floors import floors
    from rc_core.trial import evaluate_saved
    from rc_core.workspace import Workspace

    folder = sweep.folder
    workspace = Workspace(folder.artifacts)
    data = workspace.data(decode(records[0].config))
    if not any(data.task.of_role(role) for role in TEST_ROLES):
        raise StorageError(f"the task of sweep {sweep.name} has no id_test or ood_test split")
    if "floors" not in document:
        document["floors"] = floors(data.task, TEST_ROLES)
    tested = [split for role in TEST_ROLES for split in data.task.of_role(role)]
    document["data"] = {
        split.name: {"samples": len(split), "digest": split.digest()[:16]} for split in tested
    }
    sizes = counted_sizes(data.task, "test")
    # The reference first: the others are compared with it.
    records.sort(key=lambda record: record.id != REFERENCE_ID)
    for record in records:
        metrics = evaluate_saved(decode(record.config), workspace, folder.trial(record.id))
        reference = document["trials"].get(REFERENCE_ID, {}).get("metrics", metrics)
        relative, undefined = relative_metrics(metrics, reference, "test", sizes=sizes)
        values = {k: None if math.isnan(v) else v for k, v in (metrics | relative).items()}
        document["trials"][record.id] = {
            "name": record.name,
            "metrics": values,
            "undefined": undefined,
            "opened": now,
        }
        say(f"{record.id} {record.name}: tested")
        # After each trial: an interruption loses nothing that was computed.
        write_json(folder.test, document)
    write_json(folder.test, document)


def _read(sweep: Sweep) -> dict[str, Any] | None:
    if not sweep.folder.test.is_file():
        return None
    document: dict[str, Any] = json.loads(sweep.folder.test.read_text(encoding="utf-8"))
    return document


def test_table(document: dict[str, Any]) -> str:
    """Return the opened results as text: ID, OOD, each suite, difference to the reference."""
    from rich.table import Table
    from rich.text import Text

    from sweeps.report import render

    trials: dict[str, dict[str, Any]] = document["trials"]
    measured = {key: value for trial in trials.values() for key, value in trial["metrics"].items()}
    plain = set(accuracy_keys(measured, TEST_ROLES))
    keys = sorted((k for k in measured if k in plain or _is_shown(k)), key=_order)
    table = Table(title="sealed test, opened after selection", title_justify="left")
    for title in ("id", "name", *(key.removesuffix("/accuracy") for key in keys), "F_bias"):
        if "/seen.seen" in title:
            title = "seen subcases %"
        table.add_column(
            Text(_TITLES.get(title, title)), justify="left" if title in ("id", "name") else "right"
        )
    for trial_id, trial in trials.items():
        metrics = trial["metrics"]
        mark = "*" if trial_id in document["selection"] else ""
        values = [_percent(key, metrics.get(key)) for key in keys]
        bias = metrics.get("ood_test/relative_bias")
        table.add_row(
            trial_id + mark, Text(trial["name"]), *values, "-" if bias is None else f"{bias:.3f}"
        )
    lines: dict[str, dict[str, float]] = document.get("floors", {})
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    if names:
        table.add_section()
    for name in names:
        # Lines are of whole roles; suites and slices have none.
        shown = [
            lines.get(k.split("/")[0], {}).get(name) if k in _ROLE_KEYS else None for k in keys
        ]
        cells = ["" if value is None else f"{100 * value:.1f}" for value in shown]
        table.add_row("", NAMES.get(name, name), *cells, "", style="dim")
    note = _SELECTED
    if any("/seen.seen/" in key for key in keys):
        note += "\nOOD %: subcases that no dev split holds; the others stand beside it"
    if document["design"] == "fixed":
        note = note.replace(_SELECTED, "fixed design: no selection was made")
    if document["changed_after_opening"]:
        changed = ", ".join(document["changed_after_opening"])
        note += f"\nSELECTION CHANGED AFTER OPENING: {changed} joined the front later"
    return f"{render(table)}\n{note}"


def _is_shown(key: str) -> bool:
    """Show, beside a headline of unseen subcases, the seen ones."""
    parts = key.split("/")
    seen = parts[-1] == "accuracy" and any(part == "seen.seen" for part in parts)
    return seen or key == "ood_test/difference"


def _order(key: str) -> tuple[int, int, str]:
    return (("id_test", "ood_test").index(key.split("/")[0]), key.count("/"), key)


def _percent(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+.1f}" if key.endswith("/difference") else f"{100 * value:.1f}"
