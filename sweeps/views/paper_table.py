"""A fixed design in the paper's layout: a row per configuration, mean and interval over seeds.

No torch, Ray or MLflow here. A row is compared only with the vanilla row of the same compression,
start and training and with the dense row of the same training, over the seeds that both have.
Relative bias is computed from mean accuracies (our reading of the paper) and guarded. Where the OOD
figures count only a part of a suite (HANS: subcases that dev does not hold), the whole suite has
columns of its own. The paper's row is in the last column if comparable: `paper_results.why_none`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rc_core.errors import InputError, Problem
from rc_core.metrics._floors import NAMES
from rc_core.metrics.robustness import (
    gap_standard_error,
    guarded_relative_bias,
    without_amounts,
)
from rc_core.record import TrialRecord, counted_samples
from sweeps.fixed_design import ADD_DENSE
from sweeps.rows import size_note
from sweeps.selection.one_start import SEARCH_TEACHERS, one_start_note
from sweeps.shown_values import in_millions, number
from sweeps.views.paper_results import ALPHA, TASKS, TRAINING, row_beside, why_none
from sweeps.views.paper_rows import Row, dense_of, rows_of, vanilla_of

_EASY, _HARD = "id_dev/difficulty.easy/accuracy", "id_dev/difficulty.hard/accuracy"
_GAP = "id_dev/difficulty_gap"
OWN_SEEDS = (
    "+- is from each row's own seeds; rc-sweep pareto and the report pool the noise of all rows, "
    "so their intervals differ"
)


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
        records: all records of the sweep.
        config: its resolved configuration.
        tested: content of test.json, None if the test roles were not opened.
        role: `dev` or `test`; None: test if it was opened, else dev.
        form: `markdown` or `csv`.
        stamp: lines about the test seal to put under the table (not in CSV).

    Raises:
        InputError: the sweep is not a fixed design, nothing has finished, or unknown role or form.
    """
    if config.get("design", "search") != "fixed":
        raise InputError(
            "rc-sweep table needs a sweep with design: fixed; the rows of a search were selected, "
            "so a table of them would be optimistic; see its front with rc-sweep pareto, and each "
            "trial with rc-sweep table --trials"
        )
    problems = []
    if form not in ("markdown", "csv"):
        problems.append(Problem("--format", f"must be markdown or csv, but got '{form}'"))
    if role not in (None, "dev", "test"):
        problems.append(Problem("--role", f"must be dev or test, but got '{role}'"))
    if problems:
        raise InputError(problems)
    stage = role or ("test" if tested else "dev")
    if stage == "test" and not tested:
        raise InputError("the test roles are sealed: run rc-sweep test, or use --role dev")
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
    """Return the half-width of the 95 % t interval of the mean; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    # Imported here to keep other commands quick to start.
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
    reference = next((record for record in records if record.reference), None)
    own = reference.data if reference is not None else {}
    data = (tested or {}).get("data", {}) if stage == "test" else own
    sizes = counted_samples(data, stage)
    whole = _counted_in_part(data, stage)
    header = ["configuration", "seeds", "ID %", *(f"{name} %" for name in suites)]
    header += ["OOD %", "F_bias", "OOD vs dense", "OOD vs vanilla"]
    header += ["easy %", "hard %", "gap", "non-zero M"]
    every = f"all of {whole[0]}" if whole else "OOD"
    header += [f"{every} %", f"F_bias, {every}"] if whole else []
    paper, paper_notes = _paper(found, config, stage, own, data)
    header += [f"paper: ID / {every} / F_bias"] if paper else []
    notes: list[str] = []
    unshared: dict[str, list[str]] = {}
    body = []
    for row in found:
        dense, vanilla = dense_of(row, found), vanilla_of(row, found)
        # test.json compares with the sweep's own reference only.
        known = stage == "test" and dense is not None and dense.reference
        opened = _opened(row, tested if known else None)
        bias = _bias(row, dense, (id_key, ood_key), sizes, opened, ("F_bias", notes))
        for other in (dense, vanilla):
            _collect_unshared(row, other, ood_key, unshared)
        cells = [row.name, str(len(row.metrics)), _share(row, id_key)]
        cells += [_share(row, f"ood_{stage}/{name}/accuracy") for name in suites]
        cells += [_share(row, ood_key), bias]
        cells += [_paired(row, other, ood_key) for other in (dense, vanilla)]
        cells += [_share(row, _EASY), _share(row, _HARD), number(row.mean(_GAP), ".1f")]
        cells += [in_millions(row.size)]
        if whole:
            keys = (id_key, f"ood_{stage}/{whole[0]}/accuracy")
            counted = (sizes[0], whole[1]) if sizes else None
            cells.append(_share(row, keys[1]))
            cells.append(_bias(row, dense, keys, counted, {}, (f"F_bias, {every}", notes)))
        body.append([*cells, *([paper.get(row.name, "")] if paper else [])])
    trained = reference.data.get("floors", {}) if reference else {}
    lines = (tested or {}).get("floors", {}) if stage == "test" else trained
    for name in dict.fromkeys(n for line in lines.values() for n in line):
        cells = [""] * len(header)
        cells[0] = NAMES.get(name, name)
        for position, key in ((2, f"id_{stage}"), (header.index("OOD %"), f"ood_{stage}")):
            cells[position] = number(100 * lines.get(key, {}).get(name, math.nan), ".1f")
        body.append(cells)
    which = "test roles, no selection was made" if stage == "test" else "dev roles"
    which += "; test is sealed" if stage == "dev" and not tested else ""
    ended = [r for r in records if r.status == "finished" and not r.reference]
    teacher = _teachers(ended)
    title = f"{which}; mean and 95 % t interval over training seeds, one task and {teacher}"
    title += "; OOD vs vanilla: with the same compression, start and training, seed by seed"
    title += "; F_bias and OOD vs dense: with the same training, over shared seeds; +-: half of a "
    title += "95 % t interval; -: no such row"
    if stage == "test" and (tested or {}).get("rows"):
        title += "; the interval of F_bias is over seeds and samples"
    if max(len(row.metrics) for row in found) > 1:
        notes.insert(0, OWN_SEEDS)
        if any(row.reference and len(row.metrics) < 2 for row in found):
            notes.append(f"the dense reference has one seed only; {ADD_DENSE}")
    notes += [f"{head}: {', '.join(names)}" for head, names in unshared.items()]
    if alike := [row.name for row in found if row.one_start]:
        notes.append(one_start_note(", ".join(alike), SEARCH_TEACHERS))
    if whole:
        title += f"; OOD %, F_bias and differences: on {whole[2]:,} of the {whole[1]:,} samples of "
        title += f"{whole[0]}, those of kinds that the dev roles do not hold"
    return header, body, [title, *notes, *size_note(found), *_halves(found), *paper_notes]


def _teachers(ended: Sequence[TrialRecord]) -> str:
    """Say how many teachers the trials had."""
    pairs = {(r.config["training"]["seed"], r.artifacts.get("teacher")) for r in ended}
    seeds, teachers = {seed for seed, _ in pairs}, {key for _, key in pairs}
    if len(teachers) < 2:
        return "one teacher"
    each = len(pairs) == len(seeds) == len(teachers)
    return "a teacher for each seed" if each else f"{len(teachers)} teachers"


def _counted_in_part(data: Mapping[str, Any], stage: str) -> tuple[str, int, int] | None:
    """Return (suite, samples, counted samples) if OOD figures count a part of the only suite."""
    found = [
        (name.partition(".")[2], int(facts["samples"]), int(facts.get("counted", facts["samples"])))
        for name, facts in data.items()
        if name.startswith(f"ood_{stage}.")
    ]
    return found[0] if len(found) == 1 and found[0][2] < found[0][1] else None


def _halves(found: Sequence[Row]) -> list[str]:
    """Say which rows have the gap for fewer seeds, or for halves by another estimate."""
    judges: dict[str, list[str]] = {}
    for row in found:
        judge = row.config.get("difficulty", {}).get("name")
        if judge is not None and row.values(_GAP):
            judges.setdefault(judge, []).append(row.name)
    known = [(row, len(row.by_seed(_GAP))) for row in found if row.values(_GAP)]
    few = [f"{row.name} ({n} of {len(row.seeds)})" for row, n in known if n < len(row.seeds)]
    lines = [f"easy %, hard % and gap are over fewer seeds: {', '.join(few)}"] if few else []
    if len(judges) < 2:
        return lines
    common = max(judges, key=lambda judge: len(judges[judge]))
    others = [f"{j} of {', '.join(names)}" for j, names in judges.items() if j != common]
    return [
        *lines,
        f"easy %, hard % and gap use halves by {common}, but by {'; by '.join(others)}: do not "
        "compare those with the rest",
    ]


def _opened(row: Row, tested: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the entry of test.json for a row over its seeds; empty if there is none."""
    rows = (tested or {}).get("rows", ())
    return next((each for each in rows if frozenset(each["trials"]) == row.ids), {})


def _bias(
    row: Row,
    dense: Row | None,
    keys: tuple[str, str],
    sizes: tuple[int, int] | None,
    opened: Mapping[str, Any],
    noted: tuple[str, list[str]],
) -> str:
    """Return relative bias, with its interval if there is one.

    It is computed from means over the seeds that the two rows share, as a seed moves all rows by
    several points.

    Args:
        noted: the column's name, and the notes to which the reason for a missing value is added.
    """
    if dense is None:
        return "-"
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
    if row is dense:
        shown = "1"
    elif interval_of.get("low") is not None:
        shown += f" [{interval_of['low']:.2f}, {interval_of['high']:.2f}]"
    if reason is not None:
        note = f"{noted[0]} undefined: {without_amounts(reason, below='dense')}"
        if note not in noted[1]:
            noted[1].append(note)
        shown = "-"
    return shown


def _collect_unshared(row: Row, other: Row | None, key: str, found: dict[str, list[str]]) -> None:
    """Note if two rows are compared over fewer seeds than one of them has."""
    if other is None or other is row:
        return
    ours, theirs = row.by_seed(key), other.by_seed(key)
    shared = len(set(ours) & set(theirs))
    if shared < max(len(ours), len(theirs)):
        seeds = "1 seed" if len(theirs) == 1 else f"{len(theirs)} seeds"
        head = f"compared over shared seeds ({shared}) with {other.name} ({seeds})"
        found.setdefault(head, []).append(f"{row.name} ({len(ours)})")


def _paired(row: Row, other: Row | None, key: str) -> str:
    """Return the mean difference from another row in points, over the seeds that both have.

    Trials of one seed share initialisation, data order and teacher, so their common effect is not
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
    return f"{sum(differences) / len(differences):+z.1f}{spread}"


def _suites(found: Sequence[Row], stage: str) -> list[str]:
    keys = {key for row in found for metrics in row.metrics for key in metrics}
    parts = [key.split("/") for key in keys if key.startswith(f"ood_{stage}/")]
    names = {p[1] for p in parts if len(p) == 3 and p[2] == "accuracy" and "." not in p[1]}
    return sorted(names) if len(names) > 1 else []


def _paper(
    found: Sequence[Row],
    config: Mapping[str, Any],
    stage: str,
    trained: Mapping[str, Any],
    tested: Mapping[str, Any],
) -> tuple[dict[str, str], list[str]]:
    """Return the paper's cell by row name, and notes on missing cells and differences.

    Args:
        trained, tested: facts of the reference's splits and of the opened test's.
    """
    task = config["task"]["name"]
    if task not in TASKS:
        return {}, []
    reasons = why_none(config, stage, trained, tested)
    if reasons:
        return {}, [f"paper: not shown: {'; '.join(reasons)}"]
    cells: dict[str, str] = {}
    notes: dict[str, list[str]] = {}
    for row in found:
        beside = row_beside(task, row.compression, row.config["compression"], row.loss)
        if isinstance(beside, str):
            notes.setdefault(f"not shown: {beside}", []).append(row.name)
            continue
        accuracies, bias = beside.accuracies(task), beside.printed_bias(task)
        assert accuracies is not None
        last = "-" if bias is None else f"{bias:.3f}"
        cells[row.name] = f"{accuracies[0]:.1f} / {accuracies[1]:.1f} / {last}"
        if row.config["loss"].get("alpha", ALPHA[task]) != ALPHA[task]:
            notes.setdefault(f"alpha {ALPHA[task]}, unlike here", []).append(row.name)
        if any(row.config["training"].get(key, value) != value for key, value in TRAINING.items()):
            own = ", ".join(f"{key} {value:g}" for key, value in TRAINING.items())
            notes.setdefault(f"{own}, unlike here", []).append(row.name)
    return cells, [f"paper: {head}: {', '.join(names)}" for head, names in notes.items()]


def _share(row: Row, key: str) -> str:
    values = [100 * value for value in row.values(key)]
    if not values:
        return "-"
    half = interval(values)
    spread = "" if math.isnan(half) else f" +- {half:.1f}"
    return f"{sum(values) / len(values):.1f}{spread}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
