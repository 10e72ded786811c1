"""Replaying a table: by hand where the outcome is known, and over many orders of arrival."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from rc_core import plugins
from rc_core.config import decode
from rc_core.errors import ConfigError, StorageError
from rc_core.record import RungRecord, TrialRecord
from rc_core.yaml_files import merge
from sweeps import cli
from sweeps.config import SweepConfig
from sweeps.simulation.replay import (
    ReplayRung,
    ReplayTrial,
    Table,
    read_table,
    table_of,
    write_table,
)
from sweeps.simulation.simulate import RandomOrder, SampledOrder, distance, replay
from sweeps.simulation.simulated import simulate
from tests.sweeps.engine.test_rungs import built, one_metric
from tests.sweeps.test_config import RAW

RECORDED = Path(__file__).parents[2] / "benchmarks"
ID, OOD = "rung/id_dev/accuracy", "rung/ood_dev/accuracy"


def row(number: int, value: float, *, settled: bool = True, ood: float = 0.5) -> ReplayTrial:
    """Four quarters of 10 s each; the rungs already show the final values."""
    rungs = tuple(
        ReplayRung(i, 10.0 * i, settled or i > 1, {ID: value, OOD: ood}) for i in (1, 2, 3)
    )
    name = "student" if settled else "magnitude"
    values = {"id_dev/accuracy": value, "ood_dev/accuracy": ood}
    return ReplayTrial(f"t{number:04d}", name, name, None, rungs, 40.0, values)


class InOrder:
    """The rows as they are given."""

    def __init__(self, rows: list[ReplayTrial]) -> None:
        self.left = list(rows)
        self.told: list[tuple[str, bool]] = []

    def next(self) -> ReplayTrial | None:
        return self.left.pop(0) if self.left else None

    def tell(self, trial: ReplayTrial, *, finished: bool) -> None:
        self.told.append((trial.id, finished))


def test_without_a_rule_all_run_to_their_end_on_the_workers_there_are() -> None:
    source = InOrder([row(i, 0.5) for i in range(5)])
    run = replay(source, None, workers=2)
    assert [(at, trial.id) for at, trial in run.finished] == [
        (40.0, "t0000"), (40.0, "t0001"), (80.0, "t0002"), (80.0, "t0003"), (120.0, "t0004"),
    ]  # fmt: skip
    assert run.seconds == 120.0 and set(run.spent.values()) == {40.0} and not run.stopped


def test_a_stopped_trial_frees_its_worker_at_the_rung() -> None:
    source = InOrder([row(0, 0.9), row(1, 0.5), row(2, 0.95)])
    run = replay(source, one_metric(), workers=1)
    assert [(at, trial.id) for at, trial in run.finished] == [(40.0, "t0000"), (90.0, "t0002")]
    assert run.spent == {"t0000": 40.0, "t0001": 10.0, "t0002": 40.0}
    assert source.told == [("t0000", True), ("t0001", False), ("t0002", True)]


def test_a_promoted_trial_goes_on_from_its_rung_and_the_rest_is_stopped() -> None:
    source = InOrder([row(i, value) for i, value in enumerate((0.5, 0.9, 0.4))])
    run = replay(source, one_metric("promotion"), workers=1)
    # Rung 1 at 10, 20, 30; then the best of three goes on, and pauses alone at rung 2.
    assert run.spent == {"t0000": 10.0, "t0001": 20.0, "t0002": 10.0}
    assert run.finished == [] and {t.id for t in run.stopped} == {"t0000", "t0001", "t0002"}


def test_a_trial_before_the_end_of_its_ramp_is_not_judged() -> None:
    source = InOrder([row(0, 0.9), row(1, 0.1, settled=False)])
    run = replay(source, one_metric(), workers=1)
    assert run.spent["t0001"] == 20.0


def table(n: int = 24, seed: int = 0) -> Table:
    """A front on which ID and OOD trade off, with worse points behind it."""
    random, sweep = Random(seed), SweepConfig(RAW)
    trials = []
    for i in range(n):
        x, loss = random.random(), random.random() * 0.1
        found = row(i, 0.5 + 0.3 * x - loss, ood=0.8 - 0.3 * x - loss, settled=i % 2 == 0)
        trials.append(ReplayTrial(**{**vars(found), "point": sweep.space.draw(random)}))
    return Table(sweep.as_dict(), tuple(trials))


def test_an_order_hands_out_each_row_once_and_follows_its_seed() -> None:
    found = table()

    def ids(source: Any) -> list[str]:
        got = []
        while (trial := source.next()) is not None:
            got.append(trial.id)
            source.tell(trial, finished=len(got) % 3 > 0)
        return got

    everything = sorted(trial.id for trial in found.trials)
    for make in (RandomOrder, lambda t, seed: SampledOrder(t, "tpe", seed)):
        first = ids(make(found, 0))
        assert sorted(first) == everything
        assert first == ids(make(found, 0)) != ids(make(found, 1))


def test_a_sampler_is_told_where_the_outcome_lies() -> None:
    found = table(8)
    source = SampledOrder(found, "random", 0)
    trial = source.next()
    assert trial is not None
    source.tell(trial, finished=True)
    proposals: Any = source._proposals
    told = [t for t in proposals.trials() if t.state.name == "COMPLETE"]
    assert [t.params for t in told] == [trial.point]
    assert told[0].values == list(trial.values.values())


@pytest.mark.parametrize("rule", ["none", "and_rule", "pareto_asha"])
def test_a_sampler_learns_how_every_row_ended(rule: str) -> None:
    """Rows run while others are proposed; the table's ids are such as sweeps have."""
    found = read_table(RECORDED / "shortcut_trials.json")
    source = SampledOrder(found, "tpe", 0)
    keys = {"variant": "promotion"} if rule == "pareto_asha" else {}
    run = replay(source, None if rule == "none" else built(rule, **keys), workers=4)
    proposals: Any = source._proposals
    ended = {trial.user_attrs["rc.trial_id"]: trial for trial in proposals.trials()}
    for _, trial in run.finished:
        assert ended[f"row {trial.id}"].state.name == "COMPLETE"
        assert ended[f"row {trial.id}"].values == list(trial.values.values())
    for trial in run.stopped:
        assert ended[f"row {trial.id}"].state.name == "PRUNED"
    assert len(run.finished) + len(run.stopped) == len(found.trials)
    rest = {name: each.state.name for name, each in ended.items() if not name.startswith("row")}
    assert set(rest.values()) == {"FAIL"}, "what was only asked for, and nothing runs"


def test_rows_outside_the_space_are_neither_saved_nor_missed(tmp_path: Path) -> None:
    whole = table()
    best = max(range(24), key=lambda i: sum(whole.trials[i].values.values()))
    outside = [i for i in range(24) if i % 4 == 0 or i == best]
    trials = tuple(
        dataclasses.replace(trial, point=None) if i in outside else trial
        for i, trial in enumerate(whole.trials)
    )
    found = dataclasses.replace(whole, trials=trials)
    done = simulate(found, {"name": "none"}, search="tpe", seeds=2, workers=2)
    for name in ("compute", "front_found", "ood_front_found", "span", "volume"):
        assert done.measures[name] == pytest.approx([1.0, 1.0]), name
    assert done.measures["finished"] == [24 - len(outside)] * 2
    assert all(saved == pytest.approx([0.0, 0.0]) for saved in done.savings.values())
    path = tmp_path / "table.json"
    write_table(found, path)
    arguments = ["simulate", str(path), "--seeds", "1", "--scheduler", "none"]
    said = f"{len(outside)} of 24 trials lie outside"
    sampled = CliRunner().invoke(cli.app, [*arguments, "--search", "tpe"])
    assert said in sampled.output and f"{24 - len(outside)} recorded trials" in sampled.output
    assert said not in CliRunner().invoke(cli.app, arguments).output
    document = json.loads(
        CliRunner().invoke(cli.app, [*arguments, "--search", "tpe", "--json"]).output
    )
    assert document["outside_and_left_out"] == len(outside)
    assert document["trials"] == 24 - len(outside)
    nowhere = dataclasses.replace(
        whole, trials=tuple(dataclasses.replace(trial, point=None) for trial in whole.trials)
    )
    with pytest.raises(ConfigError, match="leave out --search"):
        simulate(nowhere, {"name": "none"}, search="tpe", seeds=1, workers=1)


def test_a_table_is_replayed_where_its_encoder_is_not(tmp_path: Path) -> None:
    found = table(6)
    away = dataclasses.replace(found, config={**found.config, "model": "no-such/encoder"})
    with pytest.raises(ConfigError):
        SweepConfig(away.config)
    path = tmp_path / "table.json"
    write_table(away, path)
    arguments = ["simulate", str(path), "--seeds", "1", "--search", "tpe", "--scheduler", "none"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    given, config = records()
    assert len(table_of(given, {**config, "model": "no-such/encoder"}).trials) == 3


def test_distances_count_what_only_one_point_has() -> None:
    space = SweepConfig(RAW).space
    student = {"compression.name": "student", "compression.num_layers": 1, "loss.name": "distil"}
    pruned = {"compression.name": "magnitude", "compression.sparsity": 0.2, "loss.name": "distil"}
    assert distance(student, student, space) == 0
    assert distance(student, pruned, space) == 3
    assert distance(pruned, pruned | {"compression.sparsity": 0.5}, space) == pytest.approx(0.5)


def test_schedulers_side_by_side_over_the_same_orders() -> None:
    found = table()
    results = {
        name: simulate(found, {"name": name}, search="random", seeds=30, workers=2)
        for name in ("none", "asha", "pareto_asha", "and_rule")
    }
    none = results["none"]
    assert set(none.measures["compute"]) == {1.0} and set(none.measures["volume"]) == {1.0}
    assert set(none.measures["span"]) == set(none.measures["front_found"]) == {1.0}
    assert set(none.savings["student"]) == {0.0}
    for name in ("asha", "pareto_asha", "and_rule"):
        assert 0.2 < results[name].estimate("compute").mean < 0.95
    # On this front, one metric keeps its own end only.
    assert results["asha"].estimate("ood_half").high < 0.3
    assert results["pareto_asha"].estimate("ood_half").low > 0.3
    assert results["pareto_asha"].estimate("span").mean > results["asha"].estimate("span").mean
    # Students are judged from the first rung, magnitude from the second.
    saved = results["pareto_asha"].savings
    assert sum(saved["student"]) > sum(saved["magnitude"])


def test_wrong_names_are_said_so() -> None:
    with pytest.raises(ConfigError, match="did you mean 'asha'"):
        simulate(table(), {"name": "ahsa"}, search="random", seeds=1, workers=1)
    for search in ("grid", "race", "tpee"):
        with pytest.raises(ConfigError, match="must be a sampler"):
            simulate(table(), {"name": "none"}, search=search, seeds=1, workers=1)


def records(num_finished: int = 3) -> tuple[list[TrialRecord], dict[str, Any]]:
    sweep = SweepConfig(merge(RAW, {"training": {"rungs": 4}}))
    random = Random(0)
    found = []
    for number in range(num_finished + 2):
        point = sweep.space.draw(random)
        config = sweep.trial(point) if number else sweep.reference()
        stopped = number == num_finished + 1
        rungs = tuple(
            RungRecord(step=i, progress=i / 4, seconds=10.0 * i, metrics={ID: 0.5, OOD: 0.4})
            for i in ((1,) if stopped else (1, 2, 3))
        )
        found.append(
            TrialRecord(
                id=f"t{number:04d}",
                status="stopped" if stopped else "finished",
                config=config.as_dict(),
                fingerprint=config.fingerprint(),
                reference=number == 0,
                started=0.0,
                metrics={"id_dev/accuracy": 0.9, "ood_dev/accuracy": 0.1 * number},
                rungs=rungs,
                seconds={"prepare": 5.0, "train": 40.0, "evaluate": 8.0, "total": 60.0},
            )
        )
    return found, sweep.as_dict()


def test_a_sweep_becomes_a_table_and_reads_back_the_same(tmp_path: Path) -> None:
    given, config = records()
    found = table_of(given, config)
    assert [trial.id for trial in found.trials] == ["t0001", "t0002", "t0003"]
    first = found.trials[0]
    # Preparation, a quarter of the training, a quarter of the evaluations.
    assert [rung.seconds for rung in first.rungs] == [17.0, 29.0, 41.0]
    assert first.seconds == 53.0
    ramp = decode(given[1].config).compression.settled()
    assert [rung.settled for rung in first.rungs] == [ramp <= 0.25, ramp <= 0.5, True]
    assert SweepConfig(config).space.contains(first.point or {})
    write_table(found, tmp_path / "table.json")
    assert read_table(tmp_path / "table.json") == found
    # That one trial was stopped, and so is missing, is said wherever the table is replayed.
    assert found.stopped == 1
    arguments = ["simulate", str(tmp_path / "table.json"), "--seeds", "1"]
    assert "1 of 4 trials were stopped" in CliRunner().invoke(cli.app, arguments).output
    document = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json"]).output)
    assert document["stopped_and_left_out"] == 1
    with pytest.raises(StorageError, match="must be a writable file"):
        write_table(found, tmp_path)


def test_what_is_no_table_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for text in ("{}", "no json", json.dumps({"schema_version": 99, "trials": []})):
        path.write_text(text)
        with pytest.raises(StorageError):
            read_table(path)
    with pytest.raises(StorageError, match="finished trials with rungs"):
        table_of(records()[0][:1], records()[1])


def test_the_command_reads_a_table_and_compares(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_table(table(), path)
    arguments = ["simulate", str(path), "--seeds", "5", "--json", "--workers", "2"]
    arguments += ["--scheduler", "none", "--scheduler", "pareto_asha:eta=2,variant=promotion"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["trials"], document["seeds"]) == (24, 5)
    none, ours = document["schedulers"]
    assert none["compute"]["mean"] == 1.0
    assert ours["scheduler"] == "pareto_asha eta=2 variant=promotion"
    assert ours["compute"]["mean"] < 1.0
    text = CliRunner().invoke(cli.app, [*arguments[:4], *arguments[5:]])
    assert "saved on student" in text.stdout


def test_the_simulated_rule_is_the_one_of_the_sweep() -> None:
    """The plugin's rule, told the same rungs one by one, decides as the replay did."""
    found = table()
    run = replay(RandomOrder(found, 1), built("pareto_asha"), workers=1)
    order, rule = RandomOrder(found, 1), built("pareto_asha")
    finished = []
    while (trial := order.next()) is not None:
        for rung in trial.rungs:
            decision = rule.report(trial.id, rung.number, rung.values, settled=rung.settled)
            if decision.value != "continue":
                break
        else:
            finished.append(trial.id)
    assert [trial.id for _, trial in run.finished] == finished
    assert plugins.available("sweeps.schedulers") == ["and_rule", "asha", "none", "pareto_asha"]
