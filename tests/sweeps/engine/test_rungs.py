"""Decisions at rungs: quotas, promotion, what does not count, and what is restored from records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rc_core import plugins
from rc_core.config import decode
from rc_core.errors import ConfigError
from rc_core.record import RungRecord
from sweeps.engine.ranking import MetricRanking
from sweeps.engine.rungs import Decision, RungRule, is_settled, restore, rung_of
from sweeps.schedulers._base import rung_metrics
from sweeps.settings import check_settings, decode_settings

ID, OOD = "rung/id_dev/accuracy", "rung/ood_dev/accuracy"
OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}
MAGNITUDE = {"model": "tiny:bert", "training": {"rungs": 4}, "compression": {"name": "magnitude"}}


def one_metric(variant: Any = "stopping", **changes: Any) -> RungRule:
    settings: dict[str, Any] = {"eta": 3, "grace": 1} | changes
    return RungRule(MetricRanking, {ID: "max"}, variant=variant, **settings)


def built(name: str, **keys: Any) -> RungRule:
    settings, problems = decode_settings({"scheduler": {"name": name, **keys}})
    assert not problems
    rule = plugins.load("sweeps.schedulers", name).build(settings.scheduler, OBJECTIVES)
    assert isinstance(rule, RungRule)
    return rule


def arrive(rule: RungRule, values: dict[str, float], rung: int = 1) -> dict[str, Decision]:
    return {
        trial: rule.report(trial, rung, {ID: value}, settled=True)
        for trial, value in values.items()
    }


def test_stopping_keeps_the_best_third_of_those_that_arrived() -> None:
    decisions = arrive(one_metric(), {"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.55, "e": 0.1, "f": 0.7})
    # ceil(n / 3) of n: a of 1; 1 of 2; 1 of 3; 2 of 4; 2 of 5; 2 of 6.
    going = [trial for trial, decision in decisions.items() if decision is Decision.CONTINUE]
    assert going == ["a", "c", "d", "f"]
    assert decisions["b"] is Decision.STOP


@pytest.mark.parametrize("name", ["asha", "and_rule", "pareto_asha"])
def test_a_tie_with_one_of_the_best_goes_on(name: str) -> None:
    """Of equals the newest is judged: of eight with one accuracy it was one that went on."""
    rule = built(name, eta=2)
    decisions = [
        rule.report(str(number), 1, {ID: values[0], OOD: values[1]}, settled=True)
        for number, values in enumerate([(0.8, 0.6)] * 8 + [(0.7, 0.5)] * 2)
    ]
    assert decisions == [Decision.CONTINUE] * 8 + [Decision.STOP] * 2


def test_what_is_promoted_is_no_more_than_its_share_where_all_are_equal() -> None:
    rule = one_metric("promotion")
    assert set(arrive(rule, dict.fromkeys("abcdefgh", 0.5)).values()) <= set(Decision)
    promoted = []
    while (trial := rule.next_promotion()) is not None:
        rule.resumed(trial)
        promoted.append(trial)
    assert promoted == ["a", "b"]


@pytest.mark.parametrize("seed", range(5))
def test_who_is_promoted_is_the_best_paused_one_of_the_highest_rung_at_any_time(seed: int) -> None:
    """Against sorting all that arrived, after each of many arrivals, promotions and ends."""
    rng = np.random.default_rng(seed)
    rule = one_metric("promotion", eta=2)
    arrived: dict[int, dict[str, float]] = {1: {}, 2: {}, 3: {}}
    paused: dict[str, int] = {}

    def expected() -> str | None:
        for rung in (3, 2, 1):
            ranked = sorted(arrived[rung], key=lambda trial: -arrived[rung][trial])
            for trial in ranked[: len(ranked) // 2]:
                if paused.get(trial) == rung:
                    return trial
        return None

    number, promoted = 0, 0
    for _ in range(150):
        found = rule.next_promotion()
        assert found == expected()
        if found is not None and rng.random() < 0.6:
            rung, trial = paused.pop(found) + 1, found
            rule.resumed(trial)
            promoted += 1
            if rung == 4:
                continue
        elif paused and rng.random() < 0.1:
            # It fails, or a person ends it.
            ended = sorted(paused)[int(rng.integers(len(paused)))]
            rule.resumed(ended)
            del paused[ended]
            continue
        else:
            number += 1
            trial, rung = f"t{number:04d}", 1
        arrived[rung][trial] = float(rng.random())
        decision = rule.report(trial, rung, {ID: arrived[rung][trial]}, settled=True)
        while decision is Decision.CONTINUE and rung < 3:
            assert rule.next_promotion() == expected(), "also of one that was not asked for"
            rung += 1
            arrived[rung][trial] = float(rng.random())
            decision = rule.report(trial, rung, {ID: arrived[rung][trial]}, settled=True)
        if decision is Decision.PAUSE:
            paused[trial] = rung
    assert promoted > 5


def test_one_undefined_value_of_several_is_ranked_nowhere() -> None:
    rule = built("pareto_asha", eta=2)
    for number in range(4):
        values = {ID: 0.9, OOD: float("nan")}
        assert rule.report(str(number), 1, values, settled=True) is Decision.STOP
    assert rule.report("whole", 1, {ID: 0.1, OOD: 0.1}, settled=True) is Decision.CONTINUE


def test_a_direction_of_min_turns_the_order_round() -> None:
    rule = RungRule(MetricRanking, {ID: "min"}, eta=3, grace=1, variant="stopping")
    assert arrive(rule, {"a": 0.5, "b": 0.6, "c": 0.4})["c"] is Decision.CONTINUE


def test_rungs_before_grace_or_before_the_end_of_a_ramp_do_not_count() -> None:
    rule = one_metric(grace=2)
    assert set(arrive(rule, {"a": 0.9, "b": 0.1}, rung=1).values()) == {Decision.CONTINUE}
    assert rule.report("c", 2, {ID: 0.9}, settled=True) is Decision.CONTINUE
    assert rule.report("d", 2, {ID: 0.1}, settled=False) is Decision.CONTINUE
    assert rule.report("e", 2, {ID: 0.5}, settled=True) is Decision.STOP
    # d was not entered: of the two that were, 0.9 is the best; a third that is best goes on.
    assert rule.report("f", 2, {ID: 0.95}, settled=True) is Decision.CONTINUE


def test_an_undefined_value_is_stopped_and_ranked_nowhere() -> None:
    rule = one_metric()
    assert rule.report("a", 1, {ID: float("nan")}, settled=True) is Decision.STOP
    assert rule.report("b", 1, {}, settled=True) is Decision.STOP
    assert rule.report("c", 1, {ID: 0.1}, settled=True) is Decision.CONTINUE


def test_promotion_pauses_until_a_trial_is_among_the_best_third() -> None:
    rule = one_metric("promotion")
    decisions = arrive(rule, {"a": 0.5, "b": 0.6})
    assert set(decisions.values()) == {Decision.PAUSE}
    assert rule.next_promotion() is None
    assert arrive(rule, {"c": 0.4}) == {"c": Decision.PAUSE}
    assert rule.next_promotion() == "b" == rule.next_promotion(), "asking changes nothing"
    rule.resumed("b")
    assert rule.next_promotion() is None, "one of three goes on, and it has"
    # A sixth makes room for two, and it is one of them itself.
    assert arrive(rule, {"d": 0.1, "e": 0.2})["e"] is Decision.PAUSE
    assert arrive(rule, {"f": 0.9}) == {"f": Decision.CONTINUE}


def test_a_higher_rung_is_promoted_first() -> None:
    rule = one_metric("promotion")
    arrive(rule, {"a": 0.5, "b": 0.6, "c": 0.4})
    arrive(rule, {"x": 0.1, "y": 0.2, "z": 0.15}, rung=2)
    assert rule.next_promotion() == "y"
    rule.resumed("y")
    assert rule.next_promotion() == "b"


def test_a_trial_that_failed_while_paused_is_not_promoted() -> None:
    rule = one_metric("promotion")
    arrive(rule, {"a": 0.5, "b": 0.6, "c": 0.4})
    rule.resumed("b")
    assert rule.next_promotion() is None


def test_reaching_a_rung_again_after_a_resume_does_not_count_twice() -> None:
    rule = one_metric()
    arrive(rule, {"a": 0.5, "b": 0.4})
    arrive(rule, {"a": 0.5})
    # c is second of three: one goes on. Had a counted twice, two of four would.
    assert arrive(rule, {"c": 0.45})["c"] is Decision.STOP


@pytest.mark.parametrize("variant", ["stopping", "promotion"])
def test_restored_rungs_decide_as_those_that_were_reported(variant: Any) -> None:
    config = decode({"model": "tiny:bert", "training": {"rungs": 4}})
    live, restored = one_metric(variant), one_metric(variant)
    values = {"a": 0.5, "b": 0.6, "c": 0.4, "d": 0.3}
    decisions = arrive(live, values)
    for trial, value in values.items():
        rung = RungRecord(step=1, progress=0.25, seconds=1.0, metrics={ID: value})
        assert restore(restored, trial, config, (rung,)) == 1
        if decisions[trial] is Decision.PAUSE:
            restored.park(trial, 1)
    assert restored.next_promotion() == live.next_promotion()
    assert arrive(restored, {"e": 0.55}) == arrive(live, {"e": 0.55})


def test_magnitude_is_judged_from_the_end_of_its_ramp() -> None:
    config = decode(MAGNITUDE)
    assert [is_settled(p, config) for p in (0.25, 0.499, 0.5, 0.75)] == [False, False, True, True]
    late = decode({**MAGNITUDE, "compression": {"name": "magnitude", "ramp": 0.8}})
    assert not is_settled(0.75, late)
    student = {**MAGNITUDE, "compression": {"name": "student", "num_layers": 1}}
    assert is_settled(0.25, decode(student))
    assert [rung_of(p, config) for p in (0.2512, 0.5, 0.7493)] == [1, 2, 3]
    rungs = tuple(
        RungRecord(step=i, progress=i / 4, seconds=1.0, metrics={ID: 0.5}) for i in (1, 2)
    )
    assert restore(one_metric(), "a", config, rungs[:1]) is None
    assert restore(one_metric(), "a", config, rungs) == 2


def toy_front(rule: RungRule, order: list[int]) -> list[float]:
    """Return the x of those that go on, on a front where every configuration is Pareto-optimal."""
    kept = []
    for i in order:
        x = i / 11
        values = {ID: 0.5 + 0.3 * x, OOD: 0.8 - 0.3 * x}
        if rule.report(str(i), 1, values, settled=True) is Decision.CONTINUE:
            kept.append(x)
    return kept


def test_on_one_metric_the_other_end_of_the_front_is_lost_and_with_ranks_it_is_not() -> None:
    rng = np.random.default_rng(0)
    orders = [rng.permutation(12).tolist() for _ in range(40)]

    def good_out_of_distribution(name: str, **settings: Any) -> float:
        kept = [x for order in orders for x in toy_front(built(name, **settings), order)]
        return sum(x < 0.5 for x in kept) / len(kept)

    assert good_out_of_distribution("asha") < 0.25
    assert good_out_of_distribution("asha", metric="ood_dev/accuracy") > 0.75
    assert 0.4 < good_out_of_distribution("pareto_asha") < 0.6
    assert 0.4 < good_out_of_distribution("and_rule") < 0.6


def test_the_and_rule_stops_only_what_is_bad_on_every_objective() -> None:
    rule = built("and_rule")
    values = {"id": (0.9, 0.5), "ood": (0.5, 0.9), "middle": (0.7, 0.7), "bad": (0.4, 0.4)}
    decisions = {
        trial: rule.report(trial, 1, {ID: a, OOD: b}, settled=True)
        for trial, (a, b) in values.items()
    }
    assert decisions == {
        "id": Decision.CONTINUE,
        "ood": Decision.CONTINUE,
        "middle": Decision.STOP,
        "bad": Decision.STOP,
    }


def test_every_scheduler_states_its_keys_and_stops_something_or_has_no_rule() -> None:
    for name in plugins.available("sweeps.schedulers"):
        module = plugins.load("sweeps.schedulers", name)
        config = module.Config(name=name)
        assert list(module.problems(config, OBJECTIVES)) == []
        rule = module.build(config, OBJECTIVES)
        assert (rule is None) == (name == "none")
        if rule is not None:
            worse = {ID: 0.1, OOD: 0.1}
            assert rule.report("a", 1, {ID: 0.9, OOD: 0.9}, settled=True) is Decision.CONTINUE
            assert rule.report("b", 1, worse, settled=True) is Decision.STOP


@pytest.mark.parametrize(
    ("scheduler", "where", "expected"),
    [
        ({"name": "pareto_asha", "eta": 1}, "scheduler.eta", "greater than 1"),
        ({"name": "pareto_asha", "grace": 0}, "scheduler.grace", "greater than or equal to 1"),
        ({"name": "pareto_asha", "variant": "stop"}, "scheduler.variant", "'stopping'"),
        ({"name": "pareto_asha", "etta": 3}, "scheduler.etta", "did you mean 'eta'"),
        ({"name": "none", "eta": 3}, "scheduler.eta", "unknown key"),
        ({"name": "paretoasha"}, "scheduler.name", "did you mean 'pareto_asha'"),
    ],
)
def test_a_wrong_section_is_said_so(scheduler: Any, where: str, expected: str) -> None:
    _, problems = decode_settings({"scheduler": scheduler, "search": {"trials": 0}})
    found = {problem.where: problem.message for problem in problems}
    assert expected in found[where]
    assert "search.trials" in found, "all problems are reported at once"


@pytest.mark.parametrize(
    ("settings", "where", "expected"),
    [
        ({"scheduler": {"name": "asha", "metric": "ood_dev/acc"}}, "scheduler.metric", "ood_dev"),
        ({"scheduler": {"name": "pareto_asha", "first": "best"}}, "scheduler.first", "compromise"),
        (
            {"scheduler": {"name": "asha"}, "objectives": {"footprint/parameters": "min"}},
            "scheduler.name", "rungs measure",
        ),
        ({"scheduler": {"name": "asha"}, "design": "fixed"}, "scheduler.name", "must be none"),
        ({"budget": {"accelerator_hours": 1.0}}, "budget.accelerator_hours", "resources.gpu is 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_said_so(settings: Any, where: str, expected: str) -> None:
    found, problems = decode_settings(settings)
    assert not problems
    reasons = {problem.where: problem.message for problem in check_settings(found)}
    assert expected in reasons[where]


def test_balanced_accuracies_are_measured_at_rungs() -> None:
    objectives = {f"{role}_dev/balanced_accuracy": "max" for role in ("id", "ood")}
    assert rung_metrics(objectives) == {f"rung/{name}": "max" for name in objectives}
    found, problems = decode_settings({"scheduler": {"name": "asha"}, "objectives": objectives})
    assert not problems and not [*check_settings(found)]


def test_a_rung_of_before_they_were_measured_ranks_nobody() -> None:
    """Of an interrupted sweep of an earlier version: its paused trial goes on."""
    rule = RungRule(MetricRanking, {"rung/id_dev/balanced_accuracy": "max"},
                    eta=3, grace=1, variant="promotion")  # fmt: skip
    before = RungRecord(step=1, progress=1.0, seconds=0.0, metrics={ID: 0.5, OOD: 0.5})
    assert restore(rule, "a", decode(MAGNITUDE), (before,)) is None
    assert rule.next_promotion() is None
    now = before.model_copy(update={"metrics": {"rung/id_dev/balanced_accuracy": 0.5}})
    assert restore(rule, "b", decode(MAGNITUDE), (now,)) == 4


def test_a_scheduler_that_could_never_decide_is_an_error() -> None:
    from sweeps.config import SweepConfig

    raw = {"model": "tiny:bert", "training": {"rungs": 1}, "scheduler": {"name": "pareto_asha"}}
    with pytest.raises(ConfigError, match=r"training\.rungs.*greater than scheduler\.grace"):
        SweepConfig(raw)
    assert SweepConfig({**raw, "training": {"rungs": 2}}).as_dict()["scheduler"]["eta"] == 3.0
