"""The sealed test: what it opens, what it computes, and who is told when a selection changes.

Random tiny encoders stand for trained ones: nothing is trained here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rc_core.config import TrialConfig
from rc_core.data._task import DEV_ROLES
from rc_core.errors import DataError, StorageError
from rc_core.models import load_encoder, load_tokenizer, save_model
from rc_core.record import TrialRecord
from rc_core.trial import evaluate_saved
from rc_core.workspace import Workspace
from sweeps.api import Sweep
from sweeps.cli import app
from sweeps.config import SweepConfig
from sweeps.deploy.model_card import model_card
from sweeps.ending import keep_ending
from sweeps.folder import SweepFolder
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.selection.confirmed import confirmed
from sweeps.selection.confirmed_text import confirmed_json
from sweeps.selection.stamp import read_test, stamp, stamp_lines
from sweeps.selection.tested_text import test_table as sealed_table
from sweeps.tracking import afterwards
from sweeps.tracking.outbox import Outbox
from sweeps.verification import sealed
from sweeps.verification.confirm import confirmation, keep_clusters
from sweeps.verification.sealed import open_tests
from sweeps.views.paper_table import paper_table

CHANGED = "SELECTION CHANGED AFTER OPENING"
VALUES: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 100, "dev_size": 60, "test_size": 60},
    "training": {"epochs": 1, "seed": 0, "max_length": 24},
    "compression": {"name": "magnitude"},
    "space": {
        "compression.sparsity": {"uniform": [0.1, 0.9]},
        "loss.name": {"choice": ["vanilla", "distil"]},
    },
}
POINTS = [
    {"compression.sparsity": 0.3, "loss.name": "distil"},
    {"compression.sparsity": 0.5, "loss.name": "distil"},
    {"compression.sparsity": 0.8, "loss.name": "vanilla"},
    {"compression.sparsity": 0.9, "loss.name": "distil"},
]
SEARCHED = [(0.93, 0.81), (0.90, 0.80), (0.92, 0.70), (0.60, 0.55), (0.50, 0.50)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("artifacts"), device="cpu")


def write(
    folder: SweepFolder,
    trial_id: str,
    config: TrialConfig,
    workspace: Workspace,
    values: tuple[float, float],
    *,
    status: str = "finished",
) -> None:
    """Write a trial with a random model, its dev predictions, and these accuracies."""
    place = folder.trial(trial_id)
    number = int(trial_id[1:]) + 100 * ("confirm" in folder.name)
    model = load_encoder(config.model, label_names=("entailment", "non_entailment"), seed=number)
    with torch.no_grad():
        # Answers must differ from sample to sample.
        for parameter in model.parameters():
            parameter.mul_(3.0)
    save_model(model, load_tokenizer(config.model), place.model)
    metrics = evaluate_saved(config, workspace, place, DEV_ROLES)
    record = TrialRecord(
        id=trial_id,
        status=status,  # type: ignore[arg-type]
        name=config.label(),
        config=config.as_dict(),
        fingerprint=config.fingerprint(),
        reference=config.is_reference(),
        attempt=9,
        started=0.0,
        metrics=metrics | {ID_KEY: values[0], OOD_KEY: values[1]},
    )
    place.commit(record)


def search(storage: Path, workspace: Workspace, **changes: Any) -> Sweep:
    config = SweepConfig(VALUES | changes)
    folder = SweepFolder.create(storage, "found", "x")
    folder.write_config(config.as_dict())
    write(folder, "t0000", config.reference(), workspace, SEARCHED[0])
    for i, (point, values) in enumerate(zip(POINTS, SEARCHED[1:], strict=True), start=1):
        write(folder, f"t{i:04d}", config.trial(point), workspace, values)
    keep_ending(folder.path, folder.attempt(), "budget.trials (5)")
    return Sweep(folder)


def confirm(
    sweep: Sweep, workspace: Workspace, found: dict[int, tuple[float, float]], seeds: int = 2
) -> None:
    """Give rows of the search (0 the dense one) new seeds with these accuracies, and noise."""
    config = confirmation(sweep, seeds=seeds)
    folder = SweepFolder(sweep.path.with_name("found.confirm"))
    if not folder.path.exists():
        folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
        folder.write_config(config.as_dict())
    for number, (trial_id, point) in enumerate(config.first_trials().items()):
        row, seed = divmod(number, seeds)
        if row in found:
            inside, outside = found[row]
            values = (inside + 0.001 * seed, outside + 0.001 * seed)
            write(folder, trial_id, config.trial(point), workspace, values)
    keep_ending(folder.path, folder.attempt(), "the race")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, workspace: Workspace) -> Sweep:
    """Return a confirmed sweep whose test was opened; t0001 is confirmed, t0002 and t0003 not."""
    sweep = search(tmp_path_factory.mktemp("opened"), workspace)
    confirm(sweep, workspace, {0: (0.93, 0.81), 1: (0.92, 0.79), 2: (0.9, 0.6), 3: (0.6, 0.5)})
    keep_clusters(sweep)
    said: list[str] = []
    open_tests(sweep, say=said.append)
    assert len(said) == 8
    return sweep


def test_confirmed_rows_with_all_seeds_and_reference_rows_are_opened(opened: Sweep) -> None:
    document = read_test(opened)
    assert document is not None and document["basis"] == "confirmed"
    assert document["selection"] == ["t0001"]
    # Dense, confirmed and vanilla rows with both seeds, and what an export of these would hold.
    assert sorted(document["trials"]) == [
        "confirm/t0001", "confirm/t0002", "confirm/t0003", "confirm/t0004",
        "confirm/t0007", "confirm/t0008", "t0000", "t0001",
    ]  # fmt: skip
    assert [row["id"] for row in document["rows"]] == ["t0001", "t0003", "t0000"]
    closed = opened.folder.trial("t0002").path / "predictions"
    assert {path.name.split(".")[0] for path in closed.iterdir()} == {"id_dev", "ood_dev"}


def test_a_row_is_the_mean_over_its_seeds_with_what_the_test_took(opened: Sweep) -> None:
    """Reference: the metrics of each trial, evaluated one by one."""
    document = read_test(opened)
    assert document is not None
    other = opened.confirmation
    assert other is not None
    for row in document["rows"]:
        trials = [document["trials"][key]["metrics"] for key in row["trials"]]
        assert len(trials) == 2
        for key, metric in (
            ("id", "id_test/accuracy"),
            ("ood", "ood_test/accuracy"),
            ("ood_seen", "ood_test/overlap/seen.seen/accuracy"),
        ):
            values = [trial[metric] for trial in trials]
            found = row["accuracy"][key]
            assert found["mean"] == pytest.approx(np.mean(values)) and found["n"] == 2
            assert found["low"] <= found["mean"] <= found["high"]
        # Records hold made-up dev accuracies; the drop is of the predictions.
        slices = [
            np.mean([r.metrics["id_dev/shortcut_nli/accuracy"] for r in other.records
                     if f"confirm/{r.id}" in row["trials"]])
        ]  # fmt: skip
        assert row["dev"]["id"] == pytest.approx(slices[0])
        test = np.mean([trial["id_test/accuracy"] for trial in trials])
        assert row["drop"]["id"] == pytest.approx(100 * (slices[0] - test))
    rows = {row["id"]: row for row in document["rows"]}
    dense, chosen = rows["t0000"]["accuracy"]["ood"], rows["t0001"]["accuracy"]["ood"]
    assert rows["t0001"]["ood_difference"]["mean"] == pytest.approx(
        100 * (chosen["mean"] - dense["mean"])
    )
    excess = rows["t0001"]["drop"]["ood"] - rows["t0000"]["drop"]["ood"]
    assert document["optimism"]["ood"]["mean"] == pytest.approx(excess)
    assert rows["t0000"]["ood_difference"] is None


def test_opening_again_changes_nothing(opened: Sweep) -> None:
    before = opened.folder.test.read_bytes()
    open_tests(opened, say=lambda line: pytest.fail(f"evaluated again: {line}"))
    assert opened.folder.test.read_bytes() == before
    assert stamp_lines(stamp(opened))[0].endswith("UTC for t0001")
    assert CHANGED not in opened.table()


def test_the_table_reads_seeds_intervals_and_the_drop(opened: Sweep) -> None:
    document = read_test(opened)
    assert document is not None
    text = sealed_table(document)
    for part in ("seeds", "\u00b1", "* chosen: confirmed with new seeds", "from dev to test",
                 "seen OOD test %", "optimism of choosing on dev", "bag of words"):  # fmt: skip
        assert part in text, part
    assert "rows that were not chosen are for comparison only" in text
    assert dense_bias(document) in ("1", "-")
    (dense,) = [row for row in document["rows"] if row["reference"]]
    assert (dense["relative_bias"] is None) == (dense["bias_reason"] is not None)
    for value, reason, shown in (({"mean": 1.0}, None, "1"), (None, "the gap is small", "-")):
        dense |= {"relative_bias": value, "bias_reason": reason}
        assert dense_bias(document) == shown
    # Of a version that left it out: the others' reasons tell of the gap.
    dense |= {"relative_bias": None, "bias_reason": None}
    others = [row for row in document["rows"] if not row["reference"]]
    for reason, shown in (("the gap is small", "-"), ("ID accuracy is 4 points below", "1")):
        for row in others:
            row |= {"relative_bias": None, "bias_reason": reason}
        assert dense_bias(document) == shown
    assert "significant" not in text and "p-value" not in text


def dense_bias(document: dict[str, Any]) -> str:
    lines = sealed_table(document).splitlines()
    line = next(each for each in lines if "t0000" in each)
    return line.replace("\u2502", " ").split()[-1]


def test_a_selection_that_changes_later_is_marked_everywhere(
    tmp_path: Path, workspace: Workspace
) -> None:
    sweep = search(tmp_path, workspace)
    assert stamp(sweep) is None and stamp_lines(None) == []
    open_tests(sweep, say=lambda line: None)
    first = read_test(sweep)
    assert first is not None
    chosen = first["selection"]
    # Dense beats both; of what is left the best on the first objective, ID accuracy, comes first.
    assert chosen == ["t0002", "t0001"]
    assert CHANGED not in sweep.table()
    # New seeds turn the order round: t0004, which the search had last, is the best.
    confirm(sweep, workspace, {0: (0.93, 0.81), 1: (0.6, 0.5), 4: (0.92, 0.8)})
    assert "t0004 joined" in sweep.table() and CHANGED in sweep.table()
    assert sweep.document()["test"]["joined_after_opening"] == ["t0004"]
    lines = stamp_lines(stamp(sweep))
    assert "t0001" in lines[1] and "left" in lines[1]
    record = next(record for record in sweep.records if record.id == "t0004")
    result = confirmed(sweep)
    assert result is not None
    card = model_card(
        sweep.name,
        record,
        sweep.records[0],
        first,
        seeds=next(r for r in confirmed_json(result)["rows"] if r["id"] == "t0004"),
        seal=stamp(sweep),
    )
    assert CHANGED in card and "with 2 seeds" in card
    document = open_tests(sweep, say=lambda line: None)
    assert document["changed_after_opening"] == ["t0004"]
    assert [i for i in chosen if i != "t0004"] == document["left_after_opening"]
    assert CHANGED in sealed_table(document)
    # These rows are of new seeds; those of the first opening were of the search's one seed each.
    assert (first["basis"], document["basis"]) == ("search", "confirmed")
    assert "one training seed each" not in sealed_table(document)
    # What was chosen after the opening stays so, whatever is opened again.
    again = open_tests(sweep, say=lambda line: None)
    assert again["changed_after_opening"] == ["t0004"] and len(again["openings"]) == 2


def exported(sweep: Sweep, trial_id: str, out: Path) -> tuple[str, str]:
    """Return what `rc-sweep export` says and the card it writes."""
    done = CliRunner().invoke(
        app, ["export", str(sweep.path), "--pick", trial_id, "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split()), (out / "README.md").read_text()


def test_a_model_that_the_test_was_not_opened_for_is_marked(opened: Sweep, tmp_path: Path) -> None:
    """t0001 was chosen; t0003 stands beside it for comparison; t0002 was not evaluated at all."""
    mark = "not among those that the sealed test was opened for"
    said, card = exported(opened, "t0001", tmp_path / "chosen")
    assert mark not in said + card and "opened after selection" in card
    for trial_id in ("t0003", "t0002"):
        said, card = exported(opened, trial_id, tmp_path / trial_id)
        for text in (said, card):
            assert mark in text and "they do not test this model" in text
        assert "opened after selection" not in card and "were not opened" not in card
        assert "sealed test opened" in card


def test_nothing_is_said_before_the_test_is_opened(tmp_path: Path, workspace: Workspace) -> None:
    said, card = exported(search(tmp_path, workspace), "t0002", tmp_path / "out")
    assert "sealed test" not in said and "The sealed test splits were not opened" in card


def test_half_a_confirmation_is_not_opened(tmp_path: Path, workspace: Workspace) -> None:
    sweep = search(tmp_path, workspace)
    confirm(sweep, workspace, {0: (0.93, 0.81)})
    with pytest.raises(StorageError, match="must have confirmed a configuration"):
        open_tests(sweep, say=lambda line: None)
    other = sweep.confirmation
    assert other is not None
    config = SweepConfig(other.config)
    trial_id, point = list(config.first_trials().items())[2]
    write(other.folder, trial_id, config.trial(point), workspace, (0.9, 0.8), status="running")
    with pytest.raises(StorageError, match="interrupted"):
        open_tests(sweep, say=lambda line: None)
    # Killed between two trials: nothing runs, but its driver did not come to its end either.
    confirm(sweep, workspace, {0: (0.93, 0.81), 1: (0.92, 0.79)})
    other.folder.trial(trial_id).record_file.unlink()
    (other.path / "ending.json").unlink()
    with pytest.raises(StorageError, match="interrupted"):
        open_tests(sweep, say=lambda line: None)
    assert not sweep.folder.test.exists()


@pytest.mark.parametrize("between", [False, True])
def test_an_interrupted_search_is_not_opened(
    tmp_path: Path, workspace: Workspace, between: bool
) -> None:
    """Interrupted within a trial, or between two."""
    sweep = search(tmp_path, workspace)
    last = sweep.records[-1]
    if between:
        (sweep.path / "ending.json").unlink()
    else:
        sweep.folder.trial(last.id).commit(last.model_copy(update={"status": "running"}))
    with pytest.raises(StorageError, match="interrupted; finish it first: rc-sweep resume found"):
        open_tests(sweep, say=lambda line: None)
    assert not sweep.folder.test.exists()


def test_a_test_beside_other_dev_data_than_trials_were_chosen_on_is_not_opened(
    tmp_path: Path, workspace: Workspace
) -> None:
    sweep = search(tmp_path, workspace)
    right = workspace.data(SweepConfig(VALUES).reference()).task.digest()

    def trained_on(digest: str) -> None:
        for record in sweep.records:
            changed = record.model_copy(update={"data": {"digest": digest}})
            sweep.folder.trial(record.id).commit(changed)

    trained_on("0" * 16)
    with pytest.raises(DataError, match=f"digest {'0' * 16}.*has changed .{right}"):
        open_tests(sweep, say=lambda line: None)
    assert read_test(sweep) is None, "nothing was opened"
    trained_on(right)
    open_tests(sweep, say=lambda line: None)
    assert read_test(sweep) is not None


def test_what_is_told_as_tested_is_on_record_whenever_it_is_interrupted(
    tmp_path: Path, workspace: Workspace
) -> None:
    sweep = search(tmp_path, workspace)

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt, match="t0000 dense vanilla: tested"):
        open_tests(sweep, say=interrupted)
    document = read_test(sweep)
    assert document is not None and list(document["trials"]) == ["t0000"]
    said: list[str] = []
    again = open_tests(sweep, say=said.append)
    assert not any(line.startswith("t0000 ") for line in said)
    assert len(again["openings"]) == 1, "it went on"


def test_what_was_not_told_for_a_kill_is_told_by_the_next_command(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between test.json and its telling there is a moment; nothing is told twice either."""
    sweep = search(tmp_path, workspace)
    sweep.folder.outbox.touch()
    sent: list[int] = []
    outbox = Outbox(sweep.folder.outbox)

    def deliver(_config: SweepConfig, _folder: SweepFolder, events: Outbox) -> int:
        sent.append(events.pending())
        events.mark_delivered(sweep.folder.outbox.stat().st_size)
        return 0

    def killed(*_args: object, **_kwargs: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(afterwards, "_deliver", deliver)
    with monkeypatch.context() as patch:
        patch.setattr(sealed, "tell_test", killed)
        with pytest.raises(KeyboardInterrupt):
            open_tests(sweep, say=lambda line: None)
    assert read_test(sweep) is not None and not list(outbox.events())
    document = open_tests(sweep, say=lambda line: None)
    (event,) = outbox.events()
    assert event["kind"] == "tested" and event["trials"].keys() == document["trials"].keys()
    open_tests(sweep, say=lambda line: None)
    assert len(list(outbox.events())) == 1 and sent == [1]
    # Sent is what was told; where that failed, it is tried again.
    outbox.mark_delivered(0)
    open_tests(sweep, say=lambda line: None)
    assert len(list(outbox.events())) == 1 and sent == [1, 1]


def test_a_confirmation_is_not_opened_by_itself(opened: Sweep) -> None:
    """It is a fixed design, but of configurations that were selected."""
    other = opened.confirmation
    assert other is not None
    with pytest.raises(StorageError, match=r"confirmation of found; run: rc-sweep test found$"):
        open_tests(other, say=lambda line: None)
    assert not other.folder.test.exists()


def test_a_fixed_design_is_opened_whole_and_rows_added_later_are_marked(
    tmp_path: Path, workspace: Workspace
) -> None:
    values = VALUES | {"design": "fixed", "space": {"training.seed": {"choice": [0, 1]}}}
    config = SweepConfig(values | {"search": {"name": "grid", "points": POINTS[:2]}})
    folder = SweepFolder.create(tmp_path, "fixed", "x")
    folder.write_config(config.as_dict())
    write(folder, "t0000", config.reference(), workspace, SEARCHED[0])
    trials = list(config.first_trials().items())
    # Two seeds of one row; a trial of the other comes later.
    (late, other), *_ = [pair for pair in trials if POINTS[1].items() <= pair[1].items()]
    for trial_id, point in trials:
        if POINTS[0].items() <= point.items():
            write(folder, trial_id, config.trial(point), workspace, SEARCHED[1])
    sweep = Sweep(folder)
    document = open_tests(sweep, say=lambda line: None)
    assert [len(row["seeds"]) for row in document["rows"]] == [2, 1]
    assert "no selection was made; if you choose a row by these" in sealed_table(document)
    assert "rows that were not chosen" not in sealed_table(document), "nothing was"
    assert not stamp(sweep).changed
    # Whoever takes a row now has seen its test: nothing was selected before.
    row = next(record for record in sweep.records if not record.reference)
    card = model_card(sweep.name, row, sweep.records[0], document, seal=stamp(sweep))
    assert "Nothing was selected when the sealed test was opened" in card
    assert "do not test this model" in card and "opened after selection" not in card
    write(folder, late, config.trial(other), workspace, SEARCHED[2])
    lines = stamp_lines(stamp(sweep))
    assert f"ROWS CHANGED AFTER OPENING: {late} joined" in lines[1]
    table = paper_table(sweep.records, sweep.config, read_test(sweep), stamp=lines)
    assert "ROWS CHANGED AFTER OPENING" in table


def test_two_seeds_of_a_search_are_two_rows_with_their_own_ids(
    tmp_path: Path, workspace: Workspace
) -> None:
    """A search over seeds chose each of them: no row is a mean, none has another's name.

    None is launched any more; those of before are still there.
    """
    space = {"training.seed": {"choice": [0, 1]}, "compression.sparsity": {"choice": [0.5]}}
    before = SweepConfig(VALUES | {"space": {}}).as_dict()
    config = SweepConfig(before | {"space": space, "search": {"name": "grid"}})
    folder = SweepFolder.create(tmp_path, "found", "x")
    folder.write_config(config.as_dict())
    write(folder, "t0000", config.reference(), workspace, SEARCHED[0])
    for seed in (0, 1):
        point = {"training.seed": seed, "compression.sparsity": 0.5}
        write(folder, f"t{seed + 1:04d}", config.trial(point), workspace, (0.9, 0.8))
    keep_ending(folder.path, folder.attempt(), "budget.trials (3)")
    document = open_tests(Sweep(folder), say=lambda line: None)
    assert [(row["id"], row["trials"]) for row in document["rows"]] == [
        ("t0001", ["t0001"]),
        ("t0002", ["t0002"]),
        ("t0000", ["t0000"]),
    ]


def test_a_sealed_workspace_has_no_test_split(workspace: Workspace) -> None:
    config = SweepConfig(VALUES).reference()
    roles = {split.role for split in workspace.data(config).task.splits}
    assert roles == {"train", "id_dev", "ood_dev"}
    open_one = Workspace(workspace.store.root, device="cpu", sealed=False)
    task = open_one.data(config).task
    assert {"id_test", "ood_test"} <= {split.role for split in task.splits}
    assert task.digest() == workspace.data(config).task.digest()


def test_json_of_the_test_is_plain(opened: Sweep) -> None:
    json.loads(opened.folder.test.read_text(), parse_constant=lambda name: pytest.fail(name))
