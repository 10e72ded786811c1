"""The verdict and the health check: what they must say of sweeps with a known fault."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.api import Sweep
from sweeps.ending import keep_ending
from sweeps.reporting.check import Check
from sweeps.reporting.compare import compare, comparison_text
from sweeps.reporting.facts import Facts
from sweeps.reporting.health import health
from sweeps.reporting.opened_rows import opened_rows
from sweeps.reporting.sections_results import confirmed_section, sealed_section, sparsity_section
from sweeps.reporting.sections_top import front_section, verdict_section
from sweeps.reporting.smaller import smaller_alike
from sweeps.reporting.style import Style, escaped
from sweeps.reporting.summary import summary
from sweeps.reporting.verdict import _moved, verdict
from sweeps.reporting.write import write_report
from sweeps.rows import ROUNDED
from sweeps.selection.confirmed import confirmed
from sweeps.selection.confirmed_text import notes
from tests.sweeps.reporting._made import confirm_made, made_sweep, open_made, write_record


def about(facts: Facts, words: str) -> Check:
    found = [check for check in health(facts) if words in check.title]
    assert len(found) == 1, [check.title for check in health(facts)]
    return found[0]


def said(facts: Facts) -> dict[str, str]:
    return {sentence.topic: sentence.text for sentence in verdict(facts)}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Sweep]:
    return lambda **given: made_sweep(tmp_path, **given)


def changed(facts: Facts, trial_id: str | None, **metrics: float) -> Facts:
    """Return the facts with metrics of one trial (None: of all compressed ones) replaced."""
    from sweeps.rows import rows

    new = {key.replace("__", "/"): value for key, value in metrics.items()}
    records = [
        r.model_copy(update={"metrics": {**r.metrics, **new}})
        if r.id == trial_id or (trial_id is None and not r.reference)
        else r
        for r in facts.records
    ]
    found = rows(records, facts.objectives, constraints=facts.constraints)
    return dataclasses.replace(facts, records=records, rows=found)


def test_one_seed_is_never_called_a_real_difference(made: Callable[..., Sweep]) -> None:
    facts = Facts.read(made(trials=14))
    words = said(facts)
    assert words["Real?"].startswith("Not known.")
    check = about(facts, "enough seeds")
    assert check.level == "warn" and check.action == "rc-sweep confirm made"
    everything = " ".join([*words.values(), *(c.found for c in health(facts))])
    assert "significant" not in everything and "is real" not in everything


def test_new_seeds_decide_what_is_real(made: Callable[..., Sweep]) -> None:
    sweep = made(trials=14)
    confirm_made(sweep, rows=3, seeds=4)
    words = said(Facts.read(sweep))
    assert "Over 4 new seeds" in words["Real?"] and "the search reported" in words["Real?"]
    assert "means of 4 new seeds" in words["Take"]


def set_against_dense(sweep: Sweep, points: float, spread: float) -> None:
    """Let the new seeds have each configuration this many OOD points above dense.

    Args:
        spread: of a seed's difference from dense around that, in points.
    """
    other = sweep.confirmation
    assert other is not None
    for number, record in enumerate(other.records):
        dense = record.config["compression"]["name"] == "dense"
        ood = 0.85 if dense else 0.85 + (points + spread * (-1) ** number) / 100
        metrics = record.metrics | {"ood_dev/accuracy": ood}
        write_record(other.folder, record.model_copy(update={"metrics": metrics}))


@pytest.mark.parametrize(
    ("points", "spread", "said_so", "not_said"),
    [
        (-20.0, 0.5, "is shown: -20.0", "is not shown"),
        (-0.5, 2.0, "is not shown: -0.5", "is shown"),
    ],
)
def test_a_difference_from_dense_is_called_shown_only_where_the_seeds_show_it(
    made: Callable[..., Sweep], points: float, spread: float, said_so: str, not_said: str
) -> None:
    sweep = made(trials=14)
    confirm_made(sweep, rows=3, seeds=4)
    set_against_dense(sweep, points, spread)
    real = said(Facts.read(sweep))["Real?"]
    assert said_so in real and not_said not in real


def test_what_matched_the_reference_by_luck_does_not_with_new_seeds(
    made: Callable[..., Sweep],
) -> None:
    sweep = made(trials=14)
    best = Facts.read(sweep).candidates[0].id
    lucky = {"id_dev__accuracy": 0.999, "ood_dev__accuracy": 0.999}
    title = "match the dense"
    assert about(changed(Facts.read(sweep), best, **lucky), title).level == "good"
    confirm_made(sweep, rows=3, seeds=4)
    set_against_dense(sweep, -20.0, 0.5)
    found = about(changed(Facts.read(sweep), best, **lucky), title)
    assert found.level == "note" and "differs from it by -" in found.found
    assert (
        -21
        < float(found.found.partition("differs from it by ")[2].partition(" OOD points")[0])
        < -19
    )


def test_the_verdict_names_the_model_its_size_its_loss_and_what_failed(
    made: Callable[..., Sweep],
) -> None:
    facts = Facts.read(made(trials=30, failed=3, stopped=2))
    chosen = facts.chosen
    assert chosen is not None and facts.reference is not None
    sentences = {s.topic: s for s in verdict(facts)}
    assert chosen.id in sentences["Take"].text and "fewer than the dense" in sentences["Take"].text
    assert sentences["Take"].command == (
        f"rc-sweep export made --pick {chosen.id} --out made-{chosen.id}"
    )
    lost = 100 * (chosen.ood_accuracy - facts.reference.ood_accuracy)
    word = "loses" if lost < 0 else "gains"
    assert f"{word} {abs(lost):.1f} points out of it" in sentences["Costs"].text
    assert "Sealed." in sentences["Test"].text
    assert "3 failed (all alike, such as: diverged at step 27)" in sentences["Failed"].text
    assert "2 were stopped early" in sentences["Failed"].text


def test_nothing_to_take_is_said_so(made: Callable[..., Sweep]) -> None:
    facts = Facts.read(made(trials=4, constraints=["ood_dev/accuracy >= 0.99"]))
    assert said(facts)["Take"].startswith("Nothing yet")
    check = about(facts, "Can the constraint be met?")
    assert check.level == "bad" and "none of 3" in check.found


def test_the_sealed_test_shows_the_drop_and_a_changed_selection(
    made: Callable[..., Sweep],
) -> None:
    sweep = made(trials=14)
    open_made(sweep, drop=0.07)
    facts = Facts.read(sweep)
    assert "it fell by 7.0 OOD points, the reference by 7.0" in said(facts)["Test"]
    assert not [c for c in health(facts) if "sealed test" in c.title]
    assert facts.tested is not None
    assert facts.seal is not None and "bad" not in sealed_section(facts).body
    late = dataclasses.replace(facts, seal=dataclasses.replace(facts.seal, joined=["t0009"]))
    assert 'class="bad">SELECTION CHANGED AFTER OPENING: t0009 joined' in sealed_section(late).body
    assert about(late, "sealed test").level == "bad"


@pytest.mark.parametrize("reported", [True, False])
def test_the_report_that_is_there_knows_of_an_opened_test(
    made: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch, reported: bool
) -> None:
    sweep = made(trials=6)
    summary = sweep.path / "report.md"
    if reported:
        write_report(sweep)
        assert "**Test** Sealed." in summary.read_text()
    monkeypatch.setattr("sweeps.verification.sealed.open_tests", lambda *a, **o: open_made(sweep))
    assert "rc-sweep test made" in sweep.closing_lines()
    sweep.test()
    assert "rc-sweep test made" not in sweep.closing_lines(), "it is opened once"
    assert summary.is_file() == reported
    assert not reported or "**Test** On the sealed test it has" in summary.read_text()


def test_what_was_chosen_after_the_test_was_seen_has_no_sealed_test(
    made: Callable[..., Sweep],
) -> None:
    sweep = made(trials=14)
    open_made(sweep)
    facts = Facts.read(sweep)
    assert facts.chosen is not None and facts.seal is not None
    assert said(facts)["Test"].startswith("On the sealed test it has ")
    late = dataclasses.replace(
        facts, seal=dataclasses.replace(facts.seal, joined=[facts.chosen.id])
    )
    assert said(late)["Test"].startswith(
        "On the test, which was opened before it was chosen, it has"
    )


def test_a_test_of_one_role_alone_is_told(made: Callable[..., Sweep]) -> None:
    sweep = made(trials=14)
    open_made(sweep)
    facts = Facts.read(sweep)
    assert facts.tested is not None
    for role, what in (("id", "ID"), ("ood", "OOD")):
        trials = {
            key: trial | {"metrics": {k: v for k, v in trial["metrics"].items() if k[0] == role[0]}}
            for key, trial in facts.tested["trials"].items()
        }
        alone = dataclasses.replace(facts, tested={**facts.tested, "trials": trials})
        text = said(alone)["Test"]
        assert re.match(rf"On the sealed test it has [\d.]+ % {what}; the dense reference ", text)
        assert "- %" not in text and "nan" not in text
    none = {key: trial | {"metrics": {}} for key, trial in facts.tested["trials"].items()}
    told = said(dataclasses.replace(facts, tested={**facts.tested, "trials": none}))["Test"]
    assert told.startswith("Opened, but it holds no figures")


def test_answers_that_trials_gave_to_the_test_where_they_ran_are_not_denied(
    made: Callable[..., Sweep],
) -> None:
    sweep = made(trials=4)
    assert "No trial and no choice" in sealed_section(Facts.read(sweep)).body
    file = sweep.folder.trial("t0000").predictions("id_test", "made")
    file.parent.mkdir(exist_ok=True)
    file.touch()
    body = sealed_section(Facts.read(sweep)).body
    assert "Not opened. Trials that ran with --test keep" in body and "No trial" not in body


def test_a_task_without_a_test_is_not_called_sealed(made: Callable[..., Sweep]) -> None:
    facts = Facts.read(made(trials=4))
    assert "Not opened" in sealed_section(facts).body, "records of before do not say"

    def telling(sealed: dict[str, str]) -> Facts:
        told = [r.model_copy(update={"data": r.data | {"sealed": sealed}}) for r in facts.records]
        return dataclasses.replace(facts, records=told)

    assert "Not opened" in sealed_section(telling({"ood.made": "12ab"})).body
    assert "has no test split" in sealed_section(telling({})).body
    assert said(telling({"ood.made": "12ab"}))["Test"].startswith("Sealed.")
    assert said(telling({}))["Test"].startswith("There is none.")


def test_a_reference_that_did_not_learn_is_the_worst_finding(
    made: Callable[..., Sweep],
) -> None:
    facts = changed(Facts.read(made(trials=6)), "t0000", id_dev__accuracy=0.55)
    assert health(facts)[0].level == "bad"
    assert about(facts, "Did the dense reference learn").level == "bad"


def test_the_verdict_does_not_say_take_above_a_check_that_failed(
    made: Callable[..., Sweep],
) -> None:
    facts = Facts.read(made(trials=8))
    take = verdict(facts)[0]
    assert facts.chosen is not None and take.command is not None
    assert f"Take {facts.chosen.id}" in verdict_section(facts, verdict(facts)).body
    for broken, why in (
        (changed(facts, "t0000", id_dev__accuracy=0.55), "dense reference did not learn the task"),
        (changed(facts, None, ood_dev__accuracy=0.60), "the choice's 60.0 % OOD is no better than"),
    ):
        chosen = next(row for row in broken.rows if row.candidate)
        broken = dataclasses.replace(broken, knee=chosen.id)
        take = verdict(broken)[0]
        assert take.text.startswith("None yet: ") and why in take.text, take.text
        assert f"Otherwise it would be {chosen.name} ({chosen.id})" in take.text
        assert take.command is None
        section = verdict_section(broken, verdict(broken)).body
        assert f"Take {chosen.id}" not in section and f"Doubtful: {chosen.id}" in section
        (bad,) = (check for check in health(broken) if check.level == "bad")
        assert bad.found.partition(";")[0] in take.text
        assert "Smaller?" not in said(broken)
        matched = [check for check in health(broken) if "match the dense" in check.title]
        assert bool(matched) == ("choice" in why), "to match what knows nothing is nothing good"


def placed(facts: Facts, places: dict[str, tuple[float, float, float]], knee: str) -> Facts:
    """Return the facts with ID and OOD accuracy and parameters (millions) of some trials."""
    for trial, (inside, outside, size) in places.items():
        facts = changed(
            facts,
            trial,
            id_dev__accuracy=inside,
            ood_dev__accuracy=outside,
            footprint__nonzero_parameters=1e6 * size,
        )
    return dataclasses.replace(facts, knee=knee)


def test_rounded_weights_count_by_their_bits_in_what_is_said(
    made: Callable[..., Sweep],
) -> None:
    facts = placed(Facts.read(made(trials=5)), {"t0001": (0.90, 0.80, 20.0)}, "t0001")
    assert "their bits" not in verdict(facts)[0].text + verdict_section(facts, []).body
    rounded = changed(facts, "t0001", footprint__packed_bytes=4e6 * 5)
    take = next(s.text for s in verdict(rounded) if s.topic == "Take")
    assert "5.0 M non-zero parameters" in take and "a rounded weight counts by its bits" in take


def test_no_table_calls_what_is_not_zero_the_parameters(made: Callable[..., Sweep]) -> None:
    """A pruned model has as many parameters as the dense one: zeros are stored."""
    facts = Facts.read(made(trials=8))
    page = front_section(facts, Style.of(facts.rows)).html()
    for text in (page, summary(facts, []), comparison_text(compare([facts, facts]))):
        assert "non-zero" in text and "by its bits" not in text
        assert not re.search(r"(?<!non-zero )parameters", text)
    other = next(row.id for row in facts.candidates if row.id != facts.knee)
    costs = said(changed(facts, other, ood_dev__accuracy=0.99))["Costs"]
    assert "M non-zero parameters." in costs.partition(other)[2]
    packed = changed(facts, None, footprint__packed_bytes=4e6 * 5)
    page = front_section(packed, Style.of(packed.rows)).html()
    for text in (page, summary(packed, [])):
        assert f"{ROUNDED}, one of 8 bits as a quarter" in text


def test_a_smaller_model_that_is_alike_is_named(made: Callable[..., Sweep]) -> None:
    """By hand: 90 and 89 % of 600 samples differ by 3.5 points by chance, 80 and 79 % by 4.6."""
    facts = Facts.read(made(trials=5))
    places = {
        "t0001": (0.90, 0.80, 20.0),
        "t0002": (0.89, 0.79, 8.0),
        "t0003": (0.89, 0.79, 7.0),
        "t0004": (0.90, 0.70, 2.0),
    }
    sentences = {s.topic: s for s in verdict(placed(facts, places, "t0001"))}
    text = sentences["Smaller?"].text
    assert text.startswith("t0003 (") and "65 % fewer non-zero parameters (7.0 M)" in text
    assert "-1.0 ID points (95 % interval -4.5 to +2.5)" in text
    assert "-1.0 OOD points (95 % interval -5.6 to +3.6)" in text
    assert "this does not show that they are equal" in text
    assert sentences["Smaller?"].command is not None
    # Nothing smaller is alike, or it is hardly smaller.
    places = {**places, "t0002": (0.80, 0.79, 8.0), "t0003": (0.89, 0.79, 19.5)}
    assert "Smaller?" not in said(placed(facts, places, "t0001"))


def test_over_seeds_the_noise_of_seeds_says_who_is_alike(made: Callable[..., Sweep]) -> None:
    """The largest is half a point better than the next, seeds move two; the smallest is far off."""
    sweep = made(trials=14)
    confirm_made(sweep, rows=3, seeds=4)
    other = sweep.confirmation
    assert other is not None
    before = [row for row in Facts.read(sweep).confirmed_rows if not row.reference]
    assert len(before) == 3
    for place, (row, mean) in enumerate(zip(before, (0.805, 0.8, 0.5), strict=True)):
        record = next(r for r in sweep.records if r.id == row.id)
        size = {"footprint/nonzero_parameters": 2e7 / 2**place}
        write_record(
            sweep.folder, record.model_copy(update={"metrics": {**record.metrics, **size}})
        )
        for number, trial in enumerate(row.trials.values()):
            moved = 0.02 * (-1) ** (number // (1 + place))
            new = {"id_dev/accuracy": mean + 0.1 + moved, "ood_dev/accuracy": mean + moved}
            write_record(
                other.folder, trial.model_copy(update={"metrics": {**trial.metrics, **new}})
            )
    facts = Facts.read(sweep)
    largest, middle = facts.confirmed_rows[0], before[1].id
    assert facts.chosen is not None and facts.chosen.id == largest.id == before[0].id
    found = smaller_alike(facts, facts.chosen)
    assert found is not None and (found.row.id, found.seeds) == (middle, 4)
    assert found.outside.mean < 0 < found.outside.high
    text = said(facts)["Smaller?"]
    assert text.startswith(middle) and "50 % fewer non-zero parameters (10.0 M)" in text
    assert "4 shared seeds do not show a difference between the two" in text


def test_what_is_said_of_the_trend_follows_from_the_models(
    made: Callable[..., Sweep],
) -> None:
    def trend(facts: Facts) -> str:
        section = sparsity_section(facts, Style.of(facts.rows))
        assert section is not None
        return section.body

    facts = Facts.read(made(trials=9))
    rising = {f"t{n:04d}": (0.9, 0.5 + n / 100, 20.0 - n) for n in range(1, 9)}
    falling = {trial: (a, b, 40.0 - c) for trial, (a, b, c) in rising.items()}
    none = {f"t{n:04d}": (0.9, 0.6 + (n % 2) / 100, 20.0 - n) for n in range(1, 9)}
    assert "Among these 8 compressed models, the more parameters are removed, the higher" in trend(
        placed(facts, rising, "t0001")
    )
    assert "the lower the OOD accuracy tends to be (Kendall's tau -1.00)" in trend(
        placed(facts, falling, "t0001")
    ).replace("&#x27;", "'").replace("&#39;", "'")
    assert "says little about the OOD accuracy" in trend(placed(facts, none, "t0001"))
    assert "Kendall" not in trend(Facts.read(made(trials=5, name="few")))


def test_one_new_seed_is_not_said_to_be_enough(made: Callable[..., Sweep]) -> None:
    sweep = made(trials=14)
    confirm_made(sweep, rows=3, seeds=2)
    assert sweep.confirmation is not None
    records = sweep.confirmation.records
    last = max(record.config["training"]["seed"] for record in records)
    for record in records:
        if record.config["training"]["seed"] == last:
            # As where it was ended by its limit of time.
            shutil.rmtree(sweep.confirmation.folder.trials / record.id)
    facts = Facts.read(sweep)
    check = about(facts, "enough seeds")
    assert check.level == "warn" and "no configuration has two new seeds yet" in check.found
    assert said(facts)["Real?"].startswith(f"Not known for {facts.knee}: it has one new seed")


def test_models_at_the_floor_are_told(made: Callable[..., Sweep]) -> None:
    facts = changed(Facts.read(made(trials=6)), None, ood_dev__accuracy=0.60)
    check = about(facts, "beat the trivial baselines")
    assert check.level == "bad" and "5 of 5 compressed models are no better than it" in check.found


def test_a_front_at_the_edge_of_the_space_is_told(made: Callable[..., Sweep]) -> None:
    space = {"compression.sparsity": {"uniform": [0.2, 0.8]}}
    points = [{"compression.sparsity": value} for value in (0.2, 0.205, 0.5, 0.8)]
    sweep = made(trials=5, space=space, search={"name": "random", "trials": 5, "points": points})
    facts = Facts.read(sweep)
    records = [
        r.model_copy(
            update={
                "config": {**r.config, "compression": {**r.config["compression"], **given}},
                "metrics": {**r.metrics, "id_dev/accuracy": x, "ood_dev/accuracy": y},
            }
        )
        for r, given, x, y in zip(
            facts.records[1:],
            ({"sparsity": 0.2}, {"sparsity": 0.205}, {"sparsity": 0.5}, {"sparsity": 0.8}),
            (0.9, 0.8, 0.7, 0.6),
            (0.7, 0.8, 0.7, 0.6),
            strict=True,
        )
    ]
    from sweeps.rows import rows

    everything = [facts.records[0], *records]
    edge = dataclasses.replace(facts, records=everything, rows=rows(everything, facts.objectives))
    check = about(edge, "edge of the space")
    assert check.level == "warn" and "compression.sparsity" in check.title
    assert "2 of 2" in check.found and "lower end" in check.found
    assert "(footprint/nonzero_parameters: min)" in check.action
    # Of bits that says nothing.
    check = about(changed(edge, "t0004", footprint__packed_bytes=4.0), "edge of the space")
    assert "(footprint/packed_bytes: min)" in check.action


@pytest.mark.parametrize(("late", "level"), [(True, "warn"), (False, "good")])
def test_a_front_that_still_grew_is_told(
    made: Callable[..., Sweep], late: bool, level: str
) -> None:
    facts = Facts.read(made(trials=30))
    best = "t0029" if late else "t0002"
    facts = changed(facts, best, id_dev__accuracy=0.999, ood_dev__accuracy=0.99)
    check = about(facts, "stopped too early")
    assert check.level == level
    if level == "warn":
        # Nothing that was computed is thrown away for more trials.
        assert "rc-sweep resume made --set search.trials=" in str(check.action)


def test_early_stopping_is_judged_by_how_rungs_order_the_ends(
    made: Callable[..., Sweep],
) -> None:
    facts = Facts.read(made(trials=30, stopped=4))
    check = about(facts, "stop the right trials")
    assert check.level == "good" and "4 trials were stopped" in check.found
    # The rungs now say the opposite of the ends.
    records = [
        r.model_copy(
            update={
                "rungs": tuple(
                    rung.model_copy(
                        update={"metrics": {"rung/ood_dev/accuracy": -r.metric("ood_dev/accuracy")}}
                    )
                    for rung in r.rungs
                )
            }
        )
        for r in facts.records
    ]
    assert about(dataclasses.replace(facts, records=records), "early stopping").level == "warn"


@pytest.mark.parametrize(
    ("order", "tau", "level"),
    [
        # 3 of 15 pairs are the other way round: (12 - 3) / 15.
        ((2, 1, 4, 3, 6, 5), "0.60", "good"),
        # 6 of 15 are; Spearman's rho would be 0.54.
        ((3, 2, 1, 6, 5, 4), "0.20", "warn"),
    ],
)
def test_early_stopping_is_judged_by_pairs_of_trials(
    made: Callable[..., Sweep], order: tuple[int, ...], tau: str, level: str
) -> None:
    facts = Facts.read(made(trials=8, stopped=1))
    records = list(facts.records)
    for place, rank in enumerate(order, start=1):
        record = records[place]
        metrics = {**record.metrics, "ood_dev/accuracy": 0.6 + place / 100}
        rung = record.rungs[-1].model_copy(update={"metrics": {"rung/ood_dev/accuracy": rank / 10}})
        records[place] = record.model_copy(update={"metrics": metrics, "rungs": (rung,)})
    check = about(dataclasses.replace(facts, records=records), "stop the right trials")
    assert check.level == level
    assert "among the 6 that finished" in check.found and f"Kendall's tau {tau}" in check.found


def test_what_the_choice_of_samples_blurs_is_half_of_a_95_percent_interval(
    made: Callable[..., Sweep],
) -> None:
    """By hand: 80 % of 600 samples have a standard error of 1.63 points, times 1.96."""
    facts = changed(Facts.read(made(trials=6)), None, ood_dev__accuracy=0.8)
    found = about(facts, "enough seeds").found
    assert (
        "of the 600 OOD samples alone makes a figure uncertain by about \u00b13.2 points" in found
    )


@pytest.mark.parametrize(
    ("update", "title", "level"),
    [
        ({"data": {"digest": "other"}}, "comparable? data", "bad"),
        ({"steps": {"own": 7}}, "comparable? optimizer steps", "warn"),
        ({"environment": {"processor": "another"}}, "comparable? device", "warn"),
    ],
)
def test_trials_that_were_not_made_alike_are_told(
    made: Callable[..., Sweep], update: dict[str, Any], title: str, level: str
) -> None:
    facts = Facts.read(made(trials=5))
    records = [*facts.records[:-1], facts.records[-1].model_copy(update=update)]
    assert about(dataclasses.replace(facts, records=records), title).level == level
    assert not [check for check in health(facts) if "alike" in check.title]


def test_a_choice_that_was_trained_for_longer_says_so(made: Callable[..., Sweep]) -> None:
    facts = Facts.read(made(trials=8))
    assert "training steps" not in said(facts)["Costs"]
    for own, text in (
        (100, "It had 200 training steps, 100 of them before it was compressed; dense had 100."),
        (200, "It had 200 training steps; dense had 100."),
    ):
        records = [
            r
            if r.id != facts.knee
            else r.model_copy(update={"steps": {"own": own, "counted": 200}})
            for r in facts.records
        ]
        assert text in said(dataclasses.replace(facts, records=records))["Costs"]


def test_losses_are_compared_with_vanilla_from_the_same_start(made: Callable[..., Sweep]) -> None:
    losses = {"loss.name": {"choice": ["vanilla", "distil"]}}
    facts = Facts.read(made(trials=20, space=losses))
    finished = [row for row in facts.finished if not row.reference]
    plain = [row for row in finished if row.loss == "vanilla"]
    assert (found := about(facts, "beat vanilla").found).count("best of") == 2
    assert f"best of {len(finished) - len(plain)} against best of {len(plain)})" in found

    def started(*losses: str) -> Facts:
        records = []
        for record in facts.records:
            init = "teacher" if record.config["loss"]["name"] in losses else "pretrained"
            compression = {**record.config["compression"], "init": init}
            config = {**record.config, "compression": compression}
            records.append(record.model_copy(update={"config": config}))
        return dataclasses.replace(facts, records=records)

    assert not [c for c in health(started("distil")) if "beat vanilla" in c.title]
    both = about(started("distil", "vanilla"), "beat vanilla")
    assert "with magnitude from the dense reference, their best OOD" in both.found


def test_an_unfinished_sweep_is_told(made: Callable[..., Sweep]) -> None:
    facts = Facts.read(made(trials=5))
    assert not [c for c in health(facts) if "ended" in c.title]
    config = {**facts.config, "search": {"name": "random", "trials": 9}}
    facts.folder.write_config(config)
    facts = Facts.read(Sweep(facts.folder))
    check = about(facts, "ended")
    assert check.level == "warn" and check.action == "rc-sweep resume made"
    assert check.found == "5 trials have ended, 9 planned, and nothing is running"
    running = dataclasses.replace(facts, running=True)
    assert about(running, "ended").level == "note"
    one = dataclasses.replace(facts, rows=facts.rows[:1], records=facts.records[:1])
    assert about(one, "ended").found == "1 trial has ended, 9 planned, and nothing is running"


def test_choices_that_nothing_finished_with_are_told(made: Callable[..., Sweep]) -> None:
    check = about(Facts.read(made(trials=4)), "everything tried")
    assert "compression.name: magnitude" in check.found


def test_a_test_opened_over_seeds_is_shown_with_them(made: Callable[..., Sweep]) -> None:
    facts = Facts.read(made(trials=14))
    assert facts.chosen is not None

    def row(trial_id: str, ood: float, fall: float, seeds: int) -> dict[str, Any]:
        return {
            "id": trial_id,
            "name": "a model",
            "selected": trial_id != "t0000",
            "seeds": list(range(seeds)),
            "accuracy": {
                "id": {"mean": 0.9, "low": None, "high": None, "n": seeds},
                "ood": {"mean": ood, "low": ood - 0.02, "high": ood + 0.02, "n": seeds},
                "ood_seen": {"mean": ood + 0.1, "low": None, "high": None, "n": seeds},
            },
            "drop": {"id": 1.0, "ood": fall},
            "verdict": "worse" if trial_id != "t0000" else None,
        }

    rows = [row("t0000", 0.62, 1.5, 3), row(facts.chosen.id, 0.55, 4.5, 3)]
    opened = dataclasses.replace(facts, tested={"rows": rows, "trials": {}, "selection": []})
    text = said(opened)["Test"]
    assert "55.0 % OOD (means of 3 seeds)" in text
    assert "fell by 4.5 OOD points on the subcases that both have, the reference by 1.5" in text
    found = {each.id: each for each in opened_rows(opened)}
    assert found[facts.chosen.id].half == pytest.approx(0.02)
    assert sealed_section(opened).html().count("55.0 \u00b1 2.0") == 1
    rows[1]["verdict"] = "open"
    html = sealed_section(opened).html()
    assert "OOD is" in html and ">not shown<" in html and ">open<" not in html, "as the terminal"


def test_the_page_says_below_the_seeds_what_the_terminal_says(
    made: Callable[..., Sweep],
) -> None:
    sweep = made(trials=14)
    confirm_made(sweep)
    found = confirmed(sweep)
    section = confirmed_section(Facts.read(sweep))
    assert found is not None and section is not None
    for line in notes(found):
        # In one piece, where the terminal breaks it.
        assert escaped(line.strip()) in section.body
    # What they explain stands above them.
    assert {"not shown", "F_bias"} <= set(re.findall(r">([^<]+)</t[dh]>", section.body))
    assert any(line.startswith("'not shown'") for line in notes(found))


def test_a_rise_is_not_called_a_negative_fall() -> None:
    assert (_moved(4.5), _moved(-3.7), _moved(0.0)) == (
        "fell by 4.5",
        "rose by 3.7",
        "fell by 0.0",
    )


def test_a_sweep_that_a_limit_ended_is_not_told_to_be_resumed(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=8, search={"name": "random", "trials": 20})
    left = about(Facts.read(sweep), "Has the sweep ended?")
    assert (left.level, left.action) == ("warn", "rc-sweep resume made")
    attempt = sweep.folder.attempt()
    keep_ending(sweep.path, attempt, "budget.hours (2 h)")
    ended = about(Facts.read(sweep), "Has the sweep ended?")
    assert (
        ended.level == "note"
        and "ended by budget.hours (2 h): 8 trials have ended, 20 planned" in ended.found
    )
    assert ended.action == "rc-sweep resume made --set budget.hours=N"
    keep_ending(sweep.path, attempt, "the search, which has proposed every point")
    assert about(Facts.read(sweep), "Has the sweep ended?").action == ""


def test_balanced_accuracies_that_are_the_objectives_stand_in_the_first_table(
    made: Callable[..., Sweep],
) -> None:
    objectives = {f"{role}_dev/balanced_accuracy": "max" for role in ("id", "ood")}
    sweep = made(trials=6, objectives=objectives)
    for record in sweep.records:
        values = {key: record.metric(key.replace("balanced_", "")) - 0.1 for key in objectives}
        changes = {"metrics": {**record.metrics, **values}}
        sweep.folder.trial(record.id).commit(record.model_copy(update=changes))
    facts = Facts.read(sweep)
    html = front_section(facts, Style.of(facts.rows)).html()
    assert "The front: in-distribution against out-of-distribution balanced accuracy" in html
    assert "ID balanced %" in html and "OOD balanced %" in html
    for row in facts.candidates:
        assert f">{100 * row.values['ood_dev/balanced_accuracy']:.1f}<" in html
