"""A fixed design in the paper's layout: a row per configuration, mean and interval over seeds.

No torch, Ray or MLflow here. Rows are compared with like rows only, over the seeds that both have:
with vanilla of the same compression, start and training, with dense of the same training. Relative
bias is that of mean accuracies (our reading), with its guard; the paper's own row stands beside
ours only where model and data are the same.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rc_core.errors import InputError
from rc_core.metrics._floors import NAMES
from rc_core.metrics.robustness import gap_standard_error, guarded_relative_bias
from rc_core.record import TrialRecord, counted_samples
from sweeps.views.paper_results import PaperRow
from sweeps.views.paper_results import rows as paper_rows
from sweeps.views.paper_rows import Row, dense_of, rows_of, vanilla_of

_EASY, _HARD = "id_dev/difficulty.easy/accuracy", "id_dev/difficulty.hard/accuracy"
_GAP = "id_dev/difficulty_gap"
_PAPER_MODELS = ("bert-base-uncased", "google-bert/bert-base-uncased")
_LIMITS = ("limit", "ood_dev_limit", "test_limit")


def paper_table(
    records: Sequence[TrialRecord],
    config: Mapping[str, Any],
    tested: Mapping[str, Any] | None,
    *,
    role: str | None = None,
    form: str = "markdown",
    stamp: Sequence[str] = (),
) -> str:
    """Return the table as text.

    Args:
        records: all of the sweep.
        config: its resolved configuration.
        tested: content of test.json, None where the test roles were not opened.
        role: `dev` or `test`; None takes test where it was opened.
        form: `markdown` or `csv`.
        stamp: what is to be said of the seal; under the table (in CSV nothing is).

    Raises:
        InputError: the sweep is not a fixed design, nothing finished, or an unknown role or form.
    """
    if config.get("design", "search") != "fixed":
        raise InputError(
            "rc-sweep table needs a sweep with design: fixed; rows of a search were selected, so a "
            "table of them would flatter; see its front with rc-sweep pareto"
        )
    if form not in ("markdown", "csv") or role not in (None, "dev", "test"):
        raise InputError(
            f"--format must be markdown or csv and --role dev or test, but got {form} and {role}"
        )
    stage = role or ("test" if tested else "dev")
    if stage == "test" and not tested:
        raise InputError("the test roles are sealed; open them with rc-sweep test, or --role dev")
    found = rows_of(records, tested if stage == "test" else None)
    if not found:
        raise InputError("no trial has finished yet; see rc-sweep status")
    header, body, notes = _cells(found, records, config, stage, tested)
    if form == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([header, *body])
        return stream.getvalue().rstrip()
    lines = [_line(header), _line(["---"] * len(header)), *map(_line, body), ""]
    return "\n".join([*lines, *notes, *stamp])


def interval(values: Sequence[float]) -> float:
    """Return half the width of the 95 % t interval of the mean; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    # Imported late: the quick commands start without it.
    from scipy.stats import t

    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return float(t.ppf(0.975, len(values) - 1)) * math.sqrt(variance / len(values))


def _cells(
    found: Sequence[Row],
    records: Sequence[TrialRecord],
    config: Mapping[str, Any],
    stage: str,
    tested: Mapping[str, Any] | None,
) -> tuple[list[str], list[list[str]], list[str]]:
    id_key, ood_key = f"id_{stage}/accuracy", f"ood_{stage}/accuracy"
    suites = _suites(found, stage)
    paper = _paper(config)
    header = ["configuration", "seeds", "ID %", *(f"{name} %" for name in suites)]
    header += ["OOD %", "F_bias", "OOD vs dense", "OOD vs vanilla"]
    header += ["easy %", "hard %", "gap", "non-zero M"]
    header += ["paper: ID / OOD / F_bias"] if paper else []
    reference = next((record for record in records if record.reference), None)
    data = (tested or {}).get("data", {}) if stage == "test" else reference and reference.data
    sizes = counted_samples(data or {}, stage)
    notes: list[str] = []
    unshared: dict[str, list[str]] = {}
    body = []
    for row in found:
        dense, vanilla = dense_of(row, found), vanilla_of(row, found)
        # The opened test compared with the sweep's own reference.
        known = stage == "test" and dense is not None and dense.reference
        opened = _opened(row, tested if known else None)
        bias = _bias(row, dense, (id_key, ood_key), sizes, opened, notes)
        for other in (dense, vanilla):
            _collect_unshared(row, other, ood_key, unshared)
        cells = [row.name, str(len(row.metrics)), _share(row, id_key)]
        cells += [_share(row, f"ood_{stage}/{name}/accuracy") for name in suites]
        cells += [_share(row, ood_key), bias]
        cells += [_paired(row, other, ood_key) for other in (dense, vanilla)]
        cells += [_share(row, _EASY), _share(row, _HARD), _plain(row.mean(_GAP), "{:.1f}")]
        cells += [_plain(row.mean("footprint/nonzero_parameters") / 1e6, "{:.1f}")]
        if paper:
            cells.append(_paper_cell(paper, row, config["task"]["name"]))
        body.append(cells)
    lines = (
        (tested or {}).get("floors", {})
        if stage == "test"
        else (reference.data.get("floors", {}) if reference else {})
    )
    for name in dict.fromkeys(n for line in lines.values() for n in line):
        cells = [""] * len(header)
        cells[0] = NAMES.get(name, name)
        for position, key in ((2, f"id_{stage}"), (header.index("OOD %"), f"ood_{stage}")):
            cells[position] = _plain(100 * lines.get(key, {}).get(name, math.nan), "{:.1f}")
        body.append(cells)
    which = "test roles, no selection was made" if stage == "test" else "dev roles"
    which += "; test is sealed" if stage == "dev" and not tested else ""
    ended = [r for r in records if r.status == "finished" and not r.reference]
    teachers = {record.artifacts.get("teacher") for record in ended}
    teacher = "one teacher" if len(teachers) < 2 else "a teacher for each seed"
    title = f"{which}; mean and 95 % t interval over training seeds, one task and {teacher}"
    title += "; OOD vs vanilla: of the same compression, start and training, seed by seed"
    title += "; F_bias and OOD vs dense: of the same training, over shared seeds; +-: half of a "
    title += "95 % t interval; -: no such row"
    if stage == "test" and (tested or {}).get("rows"):
        title += "; of F_bias over seeds and subcases"
    notes += [f"{head}: {', '.join(names)}" for head, names in unshared.items()]
    notes += _halves(found)
    return header, body, [title, *notes]


def _halves(found: Sequence[Row]) -> list[str]:
    """Say whose easy and hard halves rows have, where that is not the same for all."""
    judges: dict[str, list[str]] = {}
    for row in found:
        judge = row.config.get("difficulty", {}).get("name")
        if judge is not None and row.values(_GAP):
            judges.setdefault(judge, []).append(row.name)
    if len(judges) < 2:
        return []
    common = max(judges, key=lambda judge: len(judges[judge]))
    others = [f"{j} of {', '.join(names)}" for j, names in judges.items() if j != common]
    return [
        f"easy %, hard % and gap are of halves by {common}, but by {'; by '.join(others)}: not to "
        "be compared with the others'"
    ]


def _opened(row: Row, tested: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return what test.json says of a row over its seeds, empty where it says nothing."""
    rows = (tested or {}).get("rows", ())
    return next((each for each in rows if frozenset(each["trials"]) == row.ids), {})


def _bias(
    row: Row,
    dense: Row | None,
    keys: tuple[str, str],
    sizes: tuple[int, int] | None,
    opened: Mapping[str, Any],
    notes: list[str],
) -> str:
    """Return relative bias, with its interval where there is one.

    Of means over the seeds that the two rows share: a seed moves all rows by several points.
    """
    if dense is None or row is dense:
        return "-" if dense is None else "1"
    columns = [each.by_seed(key) for each in (row, dense) for key in keys]
    shared = sorted(set.intersection(*map(set, columns)))
    if not shared:
        return "-"
    means = [sum(column[seed] for seed in shared) / len(shared) for column in columns]
    half_width = interval([columns[2][seed] - columns[3][seed] for seed in shared])
    error = gap_standard_error(*means[2:], sizes=sizes, half_width=half_width)
    bias, reason = guarded_relative_bias(*means, reference_gap_standard_error=error)
    reason = reason or opened.get("bias_reason")
    interval_of = opened.get("relative_bias") or {}
    shown = f"{bias:.3f}"
    if interval_of.get("low") is not None:
        shown += f" [{interval_of['low']:.2f}, {interval_of['high']:.2f}]"
    if reason is not None:
        # Amounts differ from row to row; one note for each kind of reason is enough.
        kind = "ID accuracy is more than 3 points below dense" if "ID acc" in reason else reason
        note = f"F_bias undefined: {kind}"
        if note not in notes:
            notes.append(note)
        shown = "-"
    return shown


def _collect_unshared(row: Row, other: Row | None, key: str, found: dict[str, list[str]]) -> None:
    """Note where two rows are compared over fewer seeds than one of them has."""
    if other is None or other is row:
        return
    ours, theirs = row.by_seed(key), other.by_seed(key)
    shared = len(set(ours) & set(theirs))
    if shared < max(len(ours), len(theirs)):
        head = f"compared over shared seeds ({shared}) with {other.name} ({len(theirs)} seeds)"
        found.setdefault(head, []).append(f"{row.name} ({len(ours)})")


def _paired(row: Row, other: Row | None, key: str) -> str:
    """Return the difference in points from another row, over the seeds that both have.

    Rows of one seed share initialisation, data order and teacher, so what these do to both is not
    in the interval.
    """
    if row is other:
        return ""
    own, theirs = row.by_seed(key), other.by_seed(key) if other is not None else {}
    differences = [100 * (own[seed] - theirs[seed]) for seed in own if seed in theirs]
    if not differences:
        return "-"
    half = interval(differences)
    spread = "" if math.isnan(half) else f" +- {half:.1f}"
    return f"{sum(differences) / len(differences):+.1f}{spread}"


def _suites(found: Sequence[Row], stage: str) -> list[str]:
    keys = {key for row in found for metrics in row.metrics for key in metrics}
    parts = [key.split("/") for key in keys if key.startswith(f"ood_{stage}/")]
    names = {p[1] for p in parts if len(p) == 3 and p[2] == "accuracy" and "." not in p[1]}
    return sorted(names) if len(names) > 1 else []


def _paper(config: Mapping[str, Any]) -> list[PaperRow]:
    """Return the paper's rows, where model and data are the paper's at full size."""
    task = config["task"]
    same = str(config["model"]).partition("@")[0] in _PAPER_MODELS and task["name"] in (
        "mnli", "fever", "qqp"
    )  # fmt: skip
    whole = all(task.get(key) is None for key in _LIMITS if key != "ood_dev_limit")
    return paper_rows() if same and whole else []


def _paper_cell(paper: Sequence[PaperRow], row: Row, task: str) -> str:
    loss = row.loss.partition(" ")[0]
    match = next((p for p in paper if p.compression == row.compression and p.loss == loss), None)
    accuracies = match.accuracies(task) if match else None
    if match is None or accuracies is None:
        return ""
    bias = match.printed_bias(task)
    return f"{accuracies[0]:.1f} / {accuracies[1]:.1f} / {'-' if bias is None else bias}"


def _share(row: Row, key: str) -> str:
    values = [100 * value for value in row.values(key)]
    if not values:
        return "-"
    half = interval(values)
    spread = "" if math.isnan(half) else f" +- {half:.1f}"
    return f"{sum(values) / len(values):.1f}{spread}"


def _plain(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
