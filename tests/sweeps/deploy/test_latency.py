"""Timing a sweep's models and choosing by it. Random tiny encoders stand for trained ones.

No number of a real clock is checked: where values matter, they are set.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rc_core.atomic import write_json
from rc_core.compression._heads import heads_per_layer, keep_heads
from rc_core.errors import ConfigError, InputError, StorageError
from rc_core.metrics.footprint import NONZERO, PACKED, footprint
from rc_core.metrics.latency import METRICS
from rc_core.models import load_encoder, load_tokenizer, save_model
from rc_core.record import TrialRecord
from sweeps.api import Sweep
from sweeps.cli import app
from sweeps.config import SweepConfig
from sweeps.deploy import latency as timing
from sweeps.deploy.latency import latency_table, measure_latency
from sweeps.folder import SweepFolder
from sweeps.rows import ROUNDED
from sweeps.selection.measured import read_latency, with_latency
from sweeps.selection.options import pick

VALUES: dict[str, Any] = {
    "model": "tiny:bert",
    "compression": {"name": "magnitude"},
    "space": {
        "compression.name": {"choice": ["magnitude", "heads"]},
        "compression.sparsity": {
            "uniform": [0.1, 0.9],
            "when": {"compression.name": "magnitude"},
        },
    },
    "search": {"name": "random", "trials": 4},
}
# t0003 is beaten by t0002 on both; t0004 was stopped.
FOUND = [(0.95, 0.70), (0.94, 0.75), (0.90, 0.80), (0.85, 0.78), (0.99, 0.99)]
FAST: dict[str, Any] = {"batch": 1, "length": 8, "rounds": 6}


def make(storage: Path, *, reference: bool = True, finished: bool = True) -> Sweep:
    """Write a sweep of five trials: the reference, two on the front, a beaten one, a stopped one.

    t0002 has one head left in its first layer.
    """
    config = SweepConfig(VALUES)
    folder = SweepFolder.create(storage, "timed", "x")
    folder.write_config(config.as_dict())
    for number, (inside, outside) in enumerate(FOUND):
        if number == 0 and not reference:
            continue
        point: dict[str, Any] = {"compression.name": "heads"}
        if number != 2:
            point = {"compression.name": "magnitude", "compression.sparsity": 0.2 + number / 10}
        trial = config.trial(point) if number else config.reference()
        model = load_encoder("tiny:bert", label_names=("no", "yes"), seed=number)
        if number == 2:
            kept = [list(range(count)) for count in heads_per_layer(model)]
            keep_heads(model, [[0], *kept[1:]])
            model.config.rc_kept_heads = [[0], *kept[1:]]
        place = folder.trial(f"t{number:04d}")
        own = trial.compression.name
        save_model(model, load_tokenizer("tiny:bert"), place.model, compression=own)
        stopped = number == 4 or not finished
        place.commit(
            TrialRecord(
                id=f"t{number:04d}",
                status="stopped" if stopped else "finished",
                name=trial.label(),
                config=trial.as_dict(),
                fingerprint=trial.fingerprint(),
                reference=number == 0,
                started=0.0,
                metrics={
                    "id_dev/accuracy": inside,
                    "ood_dev/accuracy": outside,
                    **footprint(model),
                },
            )
        )
    return Sweep(folder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return make(tmp_path_factory.mktemp("storage"))


@pytest.fixture
def fresh(swept: Sweep) -> Sweep:
    """Return the sweep with nothing measured."""
    swept.folder.latency.unlink(missing_ok=True)
    return swept


def timed(sweep: Sweep, relative: dict[str, float], *, spread: float = 0.0) -> None:
    """Write latency.json as if these times had been measured, known within `spread` of each."""
    document = measure_latency(sweep, trials=["t0000"], **FAST)
    document["trials"] = {
        trial: {
            "metrics": {"latency/milliseconds": 10 * value, "latency/relative": value},
            "intervals": {
                name: None
                if math.isnan(spread)
                else [times * value * (1 - spread), times * value * (1 + spread)]
                for name, times in (("latency/milliseconds", 10), ("latency/relative", 1))
            },
            "parameters": 1,
            "when": 0.0,
        }
        for trial, value in relative.items()
    }
    write_json(sweep.folder.latency, document)


def rc_sweep(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_what_may_be_chosen_is_timed_beside_the_reference(fresh: Sweep) -> None:
    before = {path: path.read_bytes() for path in fresh.folder.trials.glob("*/record.json")}
    document = measure_latency(fresh, **FAST)
    assert list(document["trials"]) == ["t0000", "t0001", "t0002"]
    assert document == read_latency(fresh.folder)
    conditions = document["conditions"]
    assert {k: conditions[k] for k in ("batch", "length", "rounds", "threads")} == {
        **FAST,
        "threads": 1,
    }
    assert conditions["processor"] and conditions["torch"] and conditions["device"]
    for entry in document["trials"].values():
        assert set(entry["metrics"]) == set(METRICS)
        assert min(entry["metrics"].values()) > 0
        low, high = entry["intervals"]["latency/relative"]
        assert 0 < low <= entry["metrics"]["latency/relative"] <= high
    assert document["trials"]["t0000"]["metrics"]["latency/relative"] == 1.0
    assert {path: path.read_bytes() for path in before} == before, "records are not changed"
    assert not list(fresh.path.glob(".latency.json*"))
    text = " ".join(latency_table(fresh, document).split())
    assert "t0002" in text and "(dense reference)" in text and "t0003" not in text
    assert "batch 1, 8 tokens, 1 thread, 6 rounds" in text
    assert "The form that rc-sweep export writes is timed; --where refers to it." in text
    assert "95 % intervals over rounds" in text
    assert "As exported, heads: Removed heads are zeros here" in text


def test_each_setting_has_its_own_note_on_the_exported_form(tmp_path: Path) -> None:
    sweep = make(tmp_path)
    document = measure_latency(sweep, **FAST)
    for trial, bits in (("t0001", 8), ("t0002", 4)):
        place = sweep.folder.trial(trial)
        record = place.read()
        assert record is not None
        config = record.config | {"compression": {"name": "quantized", "bits": bits}}
        sizes = {NONZERO: 8e6, PACKED: 4e6 * bits}
        metrics = record.metrics | sizes
        place.commit(record.model_copy(update={"config": config, "metrics": metrics}))
    text = " ".join(latency_table(Sweep(sweep.folder), document).split())
    assert "symmetric 8-bit weights" in text and "symmetric 4-bit weights" in text
    assert "8.0 M" in text and "4.0 M" in text, "as every table counts them"
    assert ROUNDED in text


def test_the_exported_form_is_what_is_timed_and_the_own_one_beside_it(
    fresh: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several groups, each beside the reference; removed heads are missing in the own form only."""
    groups: list[dict[str, list[int]]] = []

    def fake(models: dict[str, Any], **conditions: Any) -> dict[str, list[float]]:
        assert conditions["batch"] == 4 and conditions["length"] == 8
        groups.append({name: heads_per_layer(model) for name, model in models.items()})
        # The machine is twice as slow when the second group has its turn.
        pace = len(groups)
        return {
            name: [pace * (0.02 if name == "dense" else 0.01 * sum(heads_per_layer(model)) / 4)] * 6
            for name, model in models.items()
        }

    monkeypatch.setattr(timing, "time_models", fake)
    monkeypatch.setattr(timing, "GROUP", 2)
    document = measure_latency(fresh, every=True, batch=4, length=8, rounds=6)
    assert [list(group) for group in groups] == [
        ["dense", "t0001 exported", "t0002 exported", "t0002 own"],
        ["dense", "t0003 exported"],
    ]
    full = groups[0]["dense"]
    assert groups[0]["t0002 own"] == [1, *full[1:]] and full[0] > 1
    assert groups[0]["t0002 exported"] == full, "plain transformers has every head"
    found = {trial: entry["metrics"] for trial, entry in document["trials"].items()}
    assert found["t0002"] == found["t0001"], "what is exported takes the dense time"
    heads = document["trials"]["t0002"]
    own = heads["own_form"]
    assert own["metrics"]["latency/relative"] == pytest.approx(
        found["t0001"]["latency/relative"] * sum(groups[0]["t0002 own"]) / sum(full)
    )
    assert own["parameters"] < heads["parameters"]
    assert heads["parameters"] == document["trials"]["t0000"]["parameters"]
    assert "own_form" not in document["trials"]["t0001"]
    own["metrics"]["latency/relative"] = 0.123
    text = latency_table(fresh, document)
    assert "its own model/, not exported" in text and "0.12 (" in text
    assert found["t0001"]["latency/relative"] == pytest.approx(sum(full) / 8)
    # Of another group, on a slower machine: the same model, the same ratio.
    assert found["t0003"]["latency/relative"] == found["t0001"]["latency/relative"]
    assert found["t0003"]["latency/milliseconds"] == pytest.approx(
        2 * found["t0001"]["latency/milliseconds"]
    )
    assert found["t0000"]["latency/milliseconds"] == pytest.approx(30.0)
    assert found["t0002"]["latency/samples_per_second"] == pytest.approx(4 / (0.01 * sum(full) / 4))


def test_equal_conditions_add_and_others_replace(fresh: Sweep) -> None:
    measure_latency(fresh, trials=["t0001"], **FAST)
    added = measure_latency(fresh, trials=["t0003"], **FAST)
    assert list(added["trials"]) == ["t0000", "t0001", "t0003"]
    other = measure_latency(fresh, trials=["t0003"], **{**FAST, "batch": 2})
    assert list(other["trials"]) == ["t0000", "t0003"]


def test_what_cannot_be_timed_is_told(
    fresh: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (fresh.path / ".lock").open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="timed is running"):
            measure_latency(fresh, **FAST)
    for unknown in ("t0004", "t9999"):
        with pytest.raises(InputError, match=f"no finished trial '{unknown}'"):
            measure_latency(fresh, trials=[unknown], **FAST)
    with pytest.raises(InputError, match="at most 130"):
        measure_latency(fresh, length=131)
    for number in ("batch", "length", "rounds", "threads"):
        with pytest.raises(InputError, match=f"--{number}: must be at least 1, but is 0"):
            measure_latency(fresh, **{**FAST, number: 0})
    # As where one GPU is: of a second one torch would tell in a traceback.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("gpu", "meta", "cuda:1"):
        with pytest.raises(InputError, match="must be cpu"):
            measure_latency(fresh, device=device, **FAST)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="no finished trial"):
        measure_latency(make(tmp_path / "a", finished=False), **FAST)
    with pytest.raises(StorageError, match="dense reference"):
        measure_latency(make(tmp_path / "b", reference=False), **FAST)
    assert not fresh.folder.latency.exists()


def test_choosing_by_latency_needs_it_measured(fresh: Sweep) -> None:
    where = "latency/relative <= 0.7"
    calls: tuple[Callable[[], object], ...] = (
        lambda: pick(fresh, "knee", wheres=[where]),
        lambda: fresh.table(wheres=[where]),
    )
    for call in calls:
        with pytest.raises(StorageError, match="run: rc-sweep latency timed"):
            call()
    done = rc_sweep("pareto", str(fresh.path), "--where", where)
    assert isinstance(done.exception, StorageError) and done.exception.exit_code == 2
    timed(fresh, {"t0000": 1.0, "t0001": 0.9, "t0002": 0.5})
    assert pick(fresh, "best-id") == "t0001"
    assert pick(fresh, "best-id", wheres=[where]) == "t0002"
    assert pick(fresh, "best-id", wheres=["latency/milliseconds <= 0.6 * reference"]) == "t0002"
    assert fresh.pick("knee", wheres=["latency/milliseconds >= 8"]).id == "t0001"
    with pytest.raises(StorageError) as caught:
        pick(fresh, "knee", wheres=["latency/relative <= 0.1"])
    assert "t0002: misses latency/relative <= 0.1: has 0.5" in str(caught.value)
    assert "t0003: latency/relative <= 0.1 cannot be checked" in str(caught.value)
    assert "run: rc-sweep latency timed --all" in str(caught.value)
    # One that is beaten, but is the only fast one.
    timed(fresh, {"t0000": 1.0, "t0001": 0.9, "t0002": 0.8, "t0003": 0.6})
    assert pick(fresh, "knee", wheres=[where]) == "t0003"


def test_a_choice_by_what_is_too_uncertain_is_refused(fresh: Sweep) -> None:
    where = "latency/relative <= 0.7"
    path = str(fresh.path)
    # 0.62 to 0.68 and 0.65 to 0.71, of which the second does not say on which side it is.
    timed(fresh, {"t0000": 1.0, "t0001": 0.65, "t0002": 0.68}, spread=0.04)
    assert pick(fresh, "best-ood", wheres=[where]) == "t0001"
    flat = " ".join(rc_sweep("pareto", path, "--where", where).output.split())
    assert (
        "t0002: latency/relative <= 0.7 cannot be decided: has 0.68, 95 % interval 0.6528 to "
        "0.7072; measure again" in flat
    )
    assert "Uncertain" not in flat
    out = json.loads(rc_sweep("pareto", path, "--where", where, "--json").stdout)["excluded"]
    assert "cannot be decided" in next(each["why"] for each in out if each["id"] == "t0002")
    with pytest.raises(StorageError, match=r"t0002 must meet .* cannot be decided: has 0\.68"):
        pick(fresh, "t0002", wheres=[where])
    # A bound that takes the dense reference's own time takes its interval as well.
    with pytest.raises(StorageError, match="cannot be decided"):
        pick(fresh, "t0001", wheres=["latency/milliseconds <= 0.7 * reference"])
    timed(fresh, {"t0000": 1.0, "t0001": 0.65, "t0002": 0.68}, spread=0.2)
    done = rc_sweep("export", path, "--where", where, "--out", str(fresh.path / "none"))
    assert isinstance(done.exception, StorageError) and not (fresh.path / "none").exists()
    assert str(done.exception).count("cannot be decided") == 2
    flat = " ".join(rc_sweep("pareto", path, "--where", "latency/relative <= 2").output.split())
    assert "not known to within 5 % for t0000, t0001, t0002" in flat
    timed(fresh, {"t0000": 1.0, "t0001": 0.5}, spread=math.nan)
    with pytest.raises(StorageError, match="too few rounds for an interval"):
        pick(fresh, "t0001", wheres=[where])


def test_what_an_earlier_version_measured_counts_as_not_measured(fresh: Sweep) -> None:
    """It timed the form that is not exported, and had no intervals; all else goes on."""
    old = {"schema_version": 1, "conditions": {}, "trials": {"t0001": {"metrics": {}}}}
    write_json(fresh.folder.latency, old)
    assert pick(fresh, "best-id") == "t0001"
    with pytest.raises(StorageError, match="run: rc-sweep latency timed"):
        pick(fresh, "best-id", wheres=["latency/relative <= 0.7"])
    assert list(measure_latency(fresh, trials=["t0003"], **FAST)["trials"]) == ["t0000", "t0003"]


def test_the_front_shows_what_latency_left(fresh: Sweep) -> None:
    timed(fresh, {"t0000": 1.0, "t0001": 0.9, "t0002": 0.5})
    path = str(fresh.path)
    done = rc_sweep("pareto", path, "--where", "latency/relative <= 0.7")
    assert done.exit_code == 0, done.output
    flat = " ".join(done.output.split())
    assert "1 of 4 finished trials" in flat
    assert "t0001: misses latency/relative <= 0.7: has 0.9, by 0.2 too much" in flat
    assert "Latency, as exported: batch 1, 8 tokens" in flat
    assert "1 of 4 finished trials have no latency; measure them: rc-sweep latency timed --all" in (
        flat
    )
    why = rc_sweep("pareto", path, "--where", "latency/relative <= 0.7", "--why", "t0003")
    assert "run: rc-sweep latency timed --all" in why.output
    assert "Latency" not in rc_sweep("pareto", path).output


def test_the_command_prints_and_writes(fresh: Sweep) -> None:
    options = ["--batch", "2", "--length", "8", "--rounds", "1", "--trial", "t0003"]
    done = rc_sweep("latency", str(fresh.path), *options)
    assert done.exit_code == 0, done.output
    assert "t0003" in done.output and "t0001" not in done.output
    assert str(fresh.folder.latency) in done.output.replace("\n", "")
    again = rc_sweep("latency", str(fresh.path), *options, "--json")
    assert set(json.loads(again.stdout)["trials"]) == {"t0000", "t0003"}
    both = rc_sweep("latency", str(fresh.path), "--all", "--trial", "t0003")
    assert isinstance(both.exception, InputError)


@pytest.mark.parametrize("section", ["objectives", "constraints"])
def test_no_search_is_steered_by_latency(section: str) -> None:
    steer: dict[str, Any] = {
        "objectives": {"latency/relative": "min"},
        "constraints": ["latency/relative <= 0.7"],
    }
    with pytest.raises(ConfigError, match="the search cannot use it; choose by it afterwards"):
        SweepConfig(VALUES | {section: steer[section]})


def test_a_damaged_file_is_told_and_records_without_one_stay(fresh: Sweep) -> None:
    assert with_latency(fresh.folder, fresh.records) == fresh.records
    for content in ("{", "[]", '{"schema_version": 99}'):
        fresh.folder.latency.write_text(content)
        with pytest.raises(StorageError, match=r"latency\.json must"):
            read_latency(fresh.folder)
    fresh.folder.latency.unlink()
