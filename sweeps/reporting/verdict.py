"""The verdict in plain words: what to take, what it costs, whether that is real, what failed.

A difference seen with one seed is never called real. The page and the Markdown summary print the
same sentences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rc_core.labels import count_of
from sweeps.floors import best_line
from sweeps.objectives import OOD_KEY
from sweeps.pareto import pareto_front
from sweeps.reporting.against import against, interval, points_interval
from sweeps.reporting.doubt import doubts
from sweeps.reporting.facts import Facts, Measured, most_common_reason
from sweeps.reporting.opened_rows import OpenedRow, opened_rows
from sweeps.reporting.smaller import smaller_alike
from sweeps.rows import ROUNDED, Row
from sweeps.selection.confirmed import ConfirmedRow
from sweeps.selection.opened_data import has_test
from sweeps.shown_values import millions, percent


@dataclass(frozen=True)
class Sentence:
    """One line of the verdict.

    Attributes:
        topic: `Take`, `Cost`, `Real?`, ...
        text: the sentence itself.
        command: a command to copy, None if there is none.
    """

    topic: str
    text: str
    command: str | None = None


def verdict(facts: Facts) -> list[Sentence]:
    """Return the verdict, in the order in which readers ask the questions."""
    chosen = facts.chosen
    if chosen is None:
        return [
            Sentence("Take", "Nothing yet: no compressed model has finished and met every "
                     "constraint."),
            *_failed(facts),
        ]  # fmt: skip
    return [
        _take(facts, chosen),
        *_lost(facts, chosen),
        _real(facts, chosen),
        *_smaller(facts, chosen),
        *_tested(facts, chosen),
        *_failed(facts),
    ]


def _take(facts: Facts, chosen: Row) -> Sentence:
    size = millions(chosen.size)
    smaller = ""
    reference = facts.reference
    if reference is not None and reference.size > 0 and chosen.size > 0:
        share = 1 - chosen.size / reference.size
        smaller = f", {percent(share, 0)} fewer than the dense reference" if share > 0 else ""
    found = facts.measured(chosen)
    seeds = f" (means of {found.seeds} {facts.seeds_are})" if found.seeds > 1 else ""
    kind = (
        "that the new seeds kept on the front"
        if not facts.own_seeds
        and any(row.id == chosen.id and row.confirmed for row in facts.confirmed_rows)
        else "on the front"
    )
    count, basis = _front_size(facts)
    standing = (
        f"No other compressed model is better on any objective, by {basis}."
        if count == 1
        else f"It is the knee of the compressed models {kind}: the one that gives up least for "
        f"what it gains. {count} models are on the front, by {basis}."
    )
    text = (
        f"{chosen.name} ({chosen.id}): {percent(found.inside)} in distribution, "
        f"{percent(found.outside)} out of it{seeds}, {size} non-zero parameters{smaller}"
        f"{f' ({ROUNDED})' if chosen.rounded else ''}. {standing}"
    )
    against = doubts(facts)
    if against:
        # Offering a command to copy would contradict the sentence.
        return Sentence("Take", f"None yet: {'; '.join(against)}. Otherwise it would be {text}")
    return Sentence("Take", text, facts.export_command(chosen.id))


def _moved(fall: float) -> str:
    """Return `fell by 4.5`, or `rose by 3.7` where the fall is negative."""
    return f"{'rose' if fall < 0 else 'fell'} by {abs(fall):.1f}"


def _front_size(facts: Facts) -> tuple[int, str]:
    """Return how many compressed models are on the front, and which figures decide that."""
    names = list(facts.objectives)
    means = [
        [row.estimates[name].mean for name in names]
        for row in facts.confirmed_rows
        if row.seeds and not row.reference and row.excluded is None
    ]
    if not means:
        return len(facts.candidates), "dev values of one seed each"
    front = pareto_front(means, list(facts.objectives.values()))
    return int(front.sum()), f"means over {facts.seeds_are}"


def _lost(facts: Facts, chosen: Row) -> Iterator[Sentence]:
    reference = facts.reference
    if reference is None:
        return
    ours, theirs = facts.measured(chosen), facts.measured(reference)
    if min(ours.seeds, theirs.seeds) < 2:
        # Compare means only with means, and single seeds only with single seeds.
        ours = Measured(chosen.id_accuracy, chosen.ood_accuracy, math.nan, 1)
        theirs = Measured(reference.id_accuracy, reference.ood_accuracy, math.nan, 1)
    outside = 100 * (ours.outside - theirs.outside)
    own = next((row.against_reference for row in facts.confirmed_rows if row.id == chosen.id), None)
    if ours.seeds > 1 and own is not None and own.n > 1:
        # Use the seeds that both have, as `Real?` does.
        outside = own.mean
    text = (
        f"Against the dense reference ({percent(theirs.inside)} and {percent(theirs.outside)}) it "
        f"{_gain(100 * (ours.inside - theirs.inside))} in distribution and {_gain(outside)} out of "
        f"it.{_longer(facts, chosen, reference)}"
    )
    best = facts.best_outside or chosen
    its = facts.measured(best)
    if best.id != chosen.id and its.outside > facts.measured(chosen).outside:
        alone = " (one seed only)" if its.seeds < facts.measured(chosen).seeds else ""
        text += (
            f" If OOD is what counts, {best.id} ({best.name}) has {percent(its.outside)} OOD with "
            f"{percent(its.inside)} ID{alone} and {millions(best.size)} non-zero parameters"
            f"{f' ({ROUNDED})' if best.rounded else ''}."
        )
    hidden = [
        row
        for row in facts.compared
        if not row.reference
        and row.id_accuracy >= reference.id_accuracy - 0.05
        and row.ood_difference < -10
    ]
    if hidden:
        worst = min(hidden, key=lambda row: row.ood_difference)
        text += (
            f" {len(hidden)} {_plural(len(hidden), 'model hides', 'models hide')} the loss: within "
            f"5 ID points of the reference, but more than 10 OOD points below it (worst: "
            f"{worst.id}, {worst.ood_difference:+z.1f})."
        )
    line = best_line(facts.lines, "ood_dev")
    if line is not None:
        text += f" The best trivial baseline ({line[0]}) reaches {percent(line[1])} OOD."
    yield Sentence("Costs", text)


def _longer(facts: Facts, chosen: Row, reference: Row) -> str:
    """Say so if the choice had more training steps than the dense reference."""
    steps = {record.id: record.steps for record in facts.records}
    ours, theirs = (steps.get(row.id, {}).get("counted", 0) for row in (chosen, reference))
    before = ours - steps.get(chosen.id, {}).get("own", ours)
    start = f", {before} of them before it was compressed" if before else ""
    return f" It had {ours} training steps{start}; dense had {theirs}." if ours > theirs > 0 else ""


def _real(facts: Facts, chosen: Row) -> Sentence:
    found = facts.confirmation
    own = next((row for row in facts.confirmed_rows if row.id == chosen.id), None)
    confirm = facts.command("confirm")
    if found is not None and (own is None or own.seeds < 2):
        # Other configurations may have new seeds, but this one has too few.
        has = "no" if own is None or not own.seeds else "one"
        single = facts.seeds_are.removesuffix("s") if has == "one" else facts.seeds_are
        return Sentence(
            "Real?",
            f"Not known for {chosen.id}: it has {has} {single}. Another seed changes an accuracy, "
            "often by several points out of distribution.",
            confirm,
        )
    if found is None or own is None:
        return Sentence(
            "Real?",
            "Not known. Every number here comes from one training seed. Another seed changes an "
            "accuracy, often by several points out of distribution. Read a gap of a few points as "
            "a tie until new seeds say otherwise.",
            confirm,
        )
    estimate = own.estimates[OOD_KEY]
    text = (
        f"Over {own.seeds} new seeds, which played no part in the choice, it has "
        f"{percent(estimate.mean)} OOD{interval(estimate.low, estimate.high)}; the search "
        f"reported {percent(own.searched[OOD_KEY])}."
    )
    if facts.own_seeds:
        text = (
            f"Over the {own.seeds} seeds of the design it has {percent(estimate.mean)} OOD"
            f"{interval(estimate.low, estimate.high)}. It was chosen by these means, and the best "
            "of several is a little too high by luck."
        )
    return Sentence("Real?", f"{text} {against(facts, own)}{_rivals(facts, own)}")


def _rivals(facts: Facts, own: ConfirmedRow) -> str:
    others = [
        row.id
        for row in facts.confirmed_rows
        if row.confirmed and not row.reference and row.id != own.id
    ]
    if not others:
        return ""
    names = ", ".join(others[:6])
    if facts.own_seeds:
        return f" Also on the front, more likely than not: {names}."
    return f" The new seeds also kept on the front: {names}."


def _smaller(facts: Facts, chosen: Row) -> Iterator[Sentence]:
    found = smaller_alike(facts, chosen)
    if found is None or doubts(facts):
        # Models that have learned nothing are all alike.
        return
    share = percent(1 - found.row.size / chosen.size, 0)
    how = (
        f"{found.seeds} shared seeds do not show a difference between the two"
        if found.seeds > 1
        else "the choice of samples alone could explain that much"
    )
    inside, outside = (
        f"{each.mean:+z.1f} {what} points{points_interval(each.low, each.high)}"
        for each, what in ((found.inside, "ID"), (found.outside, "OOD"))
    )
    yield Sentence(
        "Smaller?",
        f"{found.row.id} ({found.row.name}) has {share} fewer non-zero parameters "
        f"({millions(found.row.size)}{f'; {ROUNDED}' if found.row.rounded else ''}), "
        f"{inside}, {outside}: {how}. Consider it if size "
        "matters, but this does not show that they are equal.",
        facts.export_command(found.row.id),
    )


def _tested(facts: Facts, chosen: Row) -> Iterator[Sentence]:
    if not has_test(facts.records):
        yield Sentence(
            "Test",
            "There is none. All figures here come from the dev splits that were used to choose.",
        )
        return
    if facts.tested is None:
        yield Sentence(
            "Test",
            "Sealed. All figures here come from the dev splits; open id_test and ood_test once, "
            "when the choice is made.",
            facts.command("test"),
        )
        return
    rows = {row.id: row for row in opened_rows(facts)}
    own = rows.get(chosen.id)
    if own is None or not (measured := _opened_text(own)):
        yield Sentence("Test", f"Opened, but it holds no figures for {chosen.id}.")
        return
    seeds = f" (means of {own.seeds} seeds)" if own.seeds > 1 else ""
    late = facts.seal is not None and chosen.id in facts.seal.joined
    which = "the test, which was opened before it was chosen," if late else "the sealed test"
    text = f"On {which} it has {measured}{seeds}"
    reference = rows.get(facts.reference.id) if facts.reference is not None else None
    if reference is not None:
        text += f"; the dense reference {_opened_text(reference)}"
    text += "."
    if not math.isnan(own.fall):
        same = "" if math.isnan(own.seen) else " on the subcases that both have"
        text += f" From dev to test it {_moved(own.fall)} OOD points{same}"
        if reference is not None and not math.isnan(reference.fall):
            alike = (own.fall < 0) == (reference.fall < 0)
            moved = f"by {abs(reference.fall):.1f}" if alike else _moved(reference.fall)
            text += f", the reference {moved}"
        text += "."
    yield Sentence("Test", text)


def _opened_text(row: OpenedRow) -> str:
    """Return the accuracies of an opened test, which may have either role or both."""
    shares = ((row.inside, "ID"), (row.outside, "OOD"))
    return " and ".join(f"{percent(each)} {what}" for each, what in shares if not math.isnan(each))


def _failed(facts: Facts) -> Iterator[Sentence]:
    failed = [record for record in facts.records if record.status == "failed"]
    states = Counter(record.status for record in facts.records)
    excluded = [row for row, _ in facts.left_out if row.status == "finished"]
    parts = [f"{states['finished']} of {count_of(len(facts.records), 'trial')} finished"]
    if states["stopped"]:
        stopped = states["stopped"]
        parts.append(f"{stopped} {_plural(stopped, 'was', 'were')} stopped early")
    if excluded:
        are = _plural(len(excluded), "is", "are")
        parts.append(
            f"{len(excluded)} finished but {are} left out (a constraint is not met, or a value is "
            "missing)"
        )
    if failed:
        parts.append(f"{len(failed)} failed ({most_common_reason(failed)})")
    else:
        parts.append("none failed")
    yield Sentence("Failed", "; ".join(parts) + ".")


def _gain(points: float) -> str:
    if math.isnan(points):
        return "is not compared"
    if abs(points) < 0.05:
        return "is level"
    return f"{'gains' if points > 0 else 'loses'} {abs(points):.1f} points"


def _plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


def markdown(sentences: Sequence[Sentence]) -> str:
    """Return the verdict as a Markdown list."""
    return "\n".join(
        f"- **{sentence.topic}** {sentence.text}"
        + (f" `{sentence.command}`" if sentence.command else "")
        for sentence in sentences
    )
