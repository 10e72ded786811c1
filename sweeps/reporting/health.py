"""Health checks of a sweep: each says what it found and what to do about it.

Modelled on Ax's health checks. A check that does not apply to a sweep yields nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rc_core.config import seedless
from rc_core.labels import count_of
from sweeps.ending import is_race, planned_text, raising
from sweeps.floors import best_line, did_not_learn, needs_no_model, no_better, standing, too_easy
from sweeps.objectives import OOD_KEY
from sweeps.reporting.check import ORDER, Check
from sweeps.reporting.doubt import NO_REFERENCE
from sweeps.reporting.facts import Facts, dev_samples
from sweeps.reporting.health_data import data_checks
from sweeps.reporting.health_difficulty import difficulty_checks
from sweeps.reporting.health_search import search_checks
from sweeps.rows import Row
from sweeps.selection.confirmed import ConfirmedRow, alike, cannot_be_told_apart
from sweeps.shown_values import percent


def health(facts: Facts) -> list[Check]:
    """Return the findings, worst first."""
    found: list[Check] = []
    for check in (
        _finished,
        _reference,
        _floors,
        _against_reference,
        _robust_losses,
        _seeds,
        data_checks,
        difficulty_checks,
        search_checks,
    ):
        found.extend(check(facts))
    return sorted(found, key=lambda check: ORDER.index(check.level))


def _finished(facts: Facts) -> Iterator[Check]:
    ended = sum(row.status != "running" for row in facts.rows)
    planned, title = planned_text(facts.config), "Has the sweep ended?"
    have = f"{ended} trial has" if ended == 1 else f"{ended} trials have"
    if facts.running:
        found = f"it is running: {have} ended, {planned}; this page is a snapshot"
        yield Check("note", title, found, facts.command("status"))
    elif facts.ending is not None and _is_short(facts, ended):
        found = f"it was ended by {facts.ending}: {have} ended, {planned}"
        lift = raising(facts.ending)
        yield Check("note", title, found, facts.command("resume", *lift) if lift else "")
    elif not facts.ended:
        found = f"{have} ended, {planned}, and nothing is running"
        yield Check("warn", title, found, facts.command("resume"))


def _is_short(facts: Facts, ended: int) -> bool:
    """Return whether fewer trials ended than planned; a race has no planned number."""
    search = facts.config["search"]
    return ended < search["trials"] and not (facts.ended and is_race(search["name"]))


def _reference(facts: Facts) -> Iterator[Check]:
    title = "Did the dense reference learn the task?"
    if facts.reference is None:
        yield Check("bad", title, NO_REFERENCE, facts.command("resume"))
        return
    line = best_line(facts.lines, "id_dev")
    if line is None:
        return
    own = f"{percent(facts.reference.id_accuracy)} ID"
    if did_not_learn(facts.reference.id_accuracy, facts.lines) is None:
        yield Check("good", title, f"{own}, above {needs_no_model(line)}")
        return
    yield Check(
        "bad",
        title,
        no_better(own, line),
        "the data is too easy to tell models apart: use data that no trivial baseline solves"
        if too_easy(line)
        else "train the reference longer or with another learning rate (training.epochs, "
        "training.learning_rate) before reading anything else here",
    )


def _floors(facts: Facts) -> Iterator[Check]:
    line = best_line(facts.lines, "ood_dev")
    if line is None or facts.chosen is None:
        return
    title = "Does the chosen model beat the trivial baselines out of distribution?"
    compared = [r for r in facts.compared if not r.reference]
    below = [r for r in compared if standing(r.ood_accuracy, line) == "no better than"]
    others = (
        f"; {len(below)} of {_compressed(facts)} compressed models are no better than it"
        if below
        else ""
    )
    own = facts.measured(facts.chosen)
    where = standing(own.outside, line)
    seeds = f" (mean of {own.seeds} {facts.seeds_are})" if own.seeds > 1 else ""
    outside = f"{percent(own.outside)} OOD{seeds}"
    if where == "above":
        yield Check("good", title, f"{outside}, above {needs_no_model(line)}{others}")
        return
    better = facts.best_outside or facts.chosen
    instead = (
        f", or take {better.id} (best-ood)"
        if standing(its := facts.measured(better).outside, line) == "above" and its > own.outside
        else ""
    )
    hardly = where == "hardly above"
    near = f"{outside}, hardly above {needs_no_model(line)}"
    yield Check(
        "warn" if hardly else "bad",
        title,
        f"{near if hardly else no_better(outside, line)}{others}",
        f"it may have kept only the shortcut: compress less or train longer{instead}",
    )


def _against_reference(facts: Facts) -> Iterator[Check]:
    # Use new seeds where there are any: by the search's own values, the luckiest of many trials
    # would match the reference.
    facts = facts.over_seeds()
    reference = facts.reference
    if (
        reference is None
        or not facts.candidates
        or did_not_learn(reference.id_accuracy, facts.lines) is not None
    ):
        # Matching a reference that has learned nothing would be no success.
        return
    title = "Does any compressed model match the dense reference?"
    match = [
        row for row in facts.candidates
        if row.id_accuracy >= reference.id_accuracy and row.ood_accuracy >= reference.ood_accuracy
    ]  # fmt: skip
    if match:
        found = f"{len(match)} of {len(facts.candidates)} on the front are at least as good on both"
        yield Check("good", title, f"{found}: {_ids(match)}")
        return
    best = max(facts.candidates, key=lambda row: row.ood_accuracy)
    yield Check(
        "note",
        title,
        f"none on both accuracies; the best out of distribution, {best.id}, differs from it by "
        f"{best.ood_difference:+z.1f} OOD points",
        "choose from the front by the loss of accuracy that you can accept",
    )


def _robust_losses(facts: Facts) -> Iterator[Check]:
    if facts.own_seeds:
        yield from _losses_over_seeds(facts)
        return
    plain: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for row, record in zip(facts.rows, facts.records, strict=True):
        if row.status == "finished" and not row.reference:
            group = plain if row.loss == "vanilla" else others
            group.setdefault(_start(record.config), []).append(row.ood_accuracy)
    pairs = []
    for start in sorted(plain.keys() & others.keys()):
        ours, theirs = others[start], plain[start]
        pairs.append((start, 100 * (max(ours) - max(theirs)), len(ours), len(theirs)))
    if not pairs:
        return
    found = "; ".join(
        f"with {name}, their best OOD differs from vanilla's by {gain:+z.1f} points (best of {a} "
        f"against best of {b})"
        for name, gain, a, b in pairs
    )
    yield Check(
        "note",
        "Do the other losses beat vanilla?",
        found,
        "the best of more trials is higher by luck alone, and compression strengths differ: "
        "compare equal settings under Losses, and confirm with new seeds",
    )


def _start(config: Mapping[str, Any]) -> str:
    """Return a trial's compression, and whether it started from the dense reference.

    Such a trial also builds on the reference's training steps, which change accuracy more than most
    losses do.
    """
    compression = config["compression"]
    start = " from the dense reference" if compression.get("init") == "teacher" else ""
    return f"{compression['name']}{start}"


def _losses_over_seeds(facts: Facts) -> Iterator[Check]:
    """Compare each loss with vanilla of the same compression and training, seed by seed."""
    everything = facts.confirmation
    assert everything is not None
    rows = [row for row in facts.confirmed_rows if not row.reference]
    plain = {_without_loss(row): row for row in rows if _loss(row) == "vanilla"}
    told, gains = [], []
    for row in sorted(rows, key=lambda each: each.id):
        base = plain.get(_without_loss(row))
        if base is None or base is row:
            continue
        ours, theirs = row.values(OOD_KEY), base.values(OOD_KEY)
        shared = sorted(set(ours) & set(theirs))
        if len(shared) < 2:
            continue
        gain = 100 * sum(ours[seed] - theirs[seed] for seed in shared) / len(shared)
        gains.append(gain)
        if not cannot_be_told_apart(everything, row, base, OOD_KEY):
            told.append(f"{row.id} ({gain:+z.1f})")
    if not gains:
        return
    found = (
        f"{count_of(len(gains), 'row')} with another loss "
        f"{'differs' if len(gains) == 1 else 'differ'} by {min(gains):+z.1f} to "
        f"{max(gains):+z.1f} OOD points from vanilla with the same compression (means over shared "
        f"seeds); a difference is shown for: {', '.join(told) or 'none'}"
    )
    yield Check(
        "note",
        "Do the other losses beat vanilla?",
        found,
        f"{facts.command('table')} has the intervals; {facts.command('power')} says which "
        "difference this many seeds can show. Among many rows, luck alone makes some differ",
    )


def _loss(row: ConfirmedRow) -> str:
    return str(next(iter(row.trials.values())).config["loss"]["name"])


def _without_loss(row: ConfirmedRow) -> str:
    config = next(iter(row.trials.values())).config
    return seedless({k: v for k, v in config.items() if k not in ("loss", "difficulty")})


def _seeds(facts: Facts) -> Iterator[Check]:
    if not _compressed(facts):
        # There is nothing to confirm, and `confirm` would refuse.
        return
    title = "Are there enough seeds?"
    record = facts.records[0] if facts.records else None
    samples = dev_samples(record, "ood_dev") if record is not None else 0
    if facts.confirmation is None:
        drawn = ""
        if samples and facts.chosen is not None and 0 < facts.chosen.ood_accuracy < 1:
            p = facts.chosen.ood_accuracy
            drawn = (
                f"; the choice of the {samples} OOD samples alone makes a figure "
                "uncertain by about "
                f"\u00b1{196 * math.sqrt(p * (1 - p) / samples):.1f} points"
            )
        yield Check(
            "warn",
            title,
            f"one training seed per configuration{drawn}: no difference on this page is shown to "
            "be real",
            facts.command("confirm"),
        )
        return
    if facts.num_seeds < 2:
        found = f"no configuration has two {facts.seeds_are} yet: no difference is shown to be real"
        yield Check("warn", title, found, facts.command("confirm"))
        return
    marked = [row for row in facts.confirmed_rows if row.confirmed and not row.reference]
    open_pairs = [
        f"{a.id} and {b.id}"
        for i, a in enumerate(marked)
        for b in marked[i + 1 :]
        if alike(facts.confirmation, a, b)
    ]
    rows = facts.confirmed_rows
    # A race gives configurations different numbers of seeds.
    most = "" if {row.seeds for row in rows} == {facts.num_seeds} else "up to "
    found = f"{most}{facts.num_seeds} {facts.seeds_are} for {count_of(len(rows), 'configuration')}"
    if open_pairs:
        more = f" and {count_of(len(open_pairs) - 3, 'pair')} more" if len(open_pairs) > 3 else ""
        yield Check(
            "note",
            title,
            f"{found}; no difference is shown between {', '.join(open_pairs[:3])}{more}",
            f"{facts.command('power')} says how many seeds could show one",
        )  # fmt: skip
    elif len(marked) < 2:
        yield Check("good", title, f"{found}; {len(marked) or 'none'} of them on the front")
    else:
        yield Check("good", title, f"{found}; all on the front are shown to differ")


def _compressed(facts: Facts) -> int:
    return sum(not row.reference for row in facts.compared)


def _ids(found: Sequence[Row], most: int = 5) -> str:
    names = ", ".join(row.id for row in found[:most])
    return names if len(found) <= most else f"{names} and {len(found) - most} more"
