"""Plugins that are written: an unfinished one is told, an edited one is another."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from rc_core import plugins, trial_run
from rc_core.assembly import prepare_model
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.errors import ConfigError, TrialError
from rc_core.estimates import (
    difficulty,
    difficulty_artifact,
    difficulty_key,
    expert_of,
)
from rc_core.importance import importance_key
from rc_core.preparation import steps
from rc_core.record import TrialFolder, TrialRecord
from rc_core.stages import load_outputs
from rc_core.teacher import teacher_log_probs
from rc_core.trial import run_trial, trial_steps
from rc_core.workspace import Workspace
from tests.rc_core._plugins import (
    COMPRESSION,
    DIFFICULTY,
    LOSS,
    WHOLE,
    WrittenPlugins,
    written,
)
from tests.rc_core._trials import tiny_trial

__all__ = ["written"]

BASE: dict[str, Any] = tiny_trial(train_size=100, held_out=100)
SECTIONS = {package: section for section, package in PLUGIN_PACKAGES.items()}
EXPERT = LOSS.replace('"difficulty"', '"expert_log_probs"').replace(
    '    """No settings."""', '    expert: str = "someone"'
)


def config(**changes: Any) -> TrialConfig:
    return decode({**BASE, **changes})


def named(package: str, name: str = "mine", **changes: Any) -> TrialConfig:
    return config(**{SECTIONS[package]: {"name": name}}, **changes)


@pytest.mark.parametrize("package", WHOLE)
def test_a_whole_one_is_found_by_its_name(written: WrittenPlugins, package: str) -> None:
    written.write(package, WHOLE[package])
    assert getattr(named(package), SECTIONS[package]).name == "mine"
    assert "mine" in plugins.available(package)
    assert plugins.summary(package, "mine").endswith(".")


@pytest.mark.parametrize(
    ("package", "old", "new", "told"),
    [
        ("losses", "class Loss", "class Los",
         "must define a class Loss with rows, __call__ (or on_model), but has none"),
        ("losses", "class Config", "class Confg",
         "must define a class Config(PluginConfig), but has none"),
        ("losses", '"difficulty"', '"teacher_log_prob"', "did you mean 'teacher_log_probs'?"),
        ("losses", 'frozenset({"difficulty"})', '"difficulty"',
         "Loss.needs must be a frozenset of any of teacher_log_probs, difficulty, expert_log_probs,"
         " first_stage_log_probs, teacher_model, hidden_states, but is 'difficulty'"),
        ("losses", '"difficulty"', '"hidden_states"',
         "Loss.needs names 'hidden_states', which only a loss with on_model can use"),
        ("losses", "needs =", "need =", "but there is none"),
        ("losses", '"difficulty"', '"expert_log_probs"', "Config must have a key 'expert'"),
        ("losses", '"difficulty"', '"first_stage_log_probs"',
         "Config must have a key 'first_epochs'"),
        ("losses", "def __call__", "def call", "but lacks __call__"),
        ("losses", "def __init__", "def init", "def __init__(self, config)"),
        ("losses", "Config(PluginConfig)", "Config",
         "Config must be derived from PluginConfig, but is from object"),
        ("difficulty", "def hard", "def easy", "but lacks hard()"),
        ("difficulty", "USES_TEACHER", "OUTPUTS_OF = 'loss_varianc'\nUSES_TEACHER",
         "OUTPUTS_OF must name a difficulty, but is 'loss_varianc': did you mean 'loss_variance'?"),
        ("compression", "def problems", "def problem", "but lacks problems()"),
        ("compression", "def to_stock", "def stock", "but lacks to_stock"),
        ("compression", "CompressionConfig", "PluginConfig",
         "Config must be derived from CompressionConfig"),
        ("compression", "rc_core.config import CompressionConfig",
         "rc_core.compression._importance import UnitsConfig as CompressionConfig",
         "but lacks importance()"),
        ("compression", "def problems", "def structure(model):\n    pass\n\n\ndef problems",
         "but lacks restore()"),
        ("data", "def load", "def read", "must define load(), but lacks load()"),
    ],
)  # fmt: skip
def test_what_an_unfinished_one_lacks_is_told_where_it_is_named(
    written: WrittenPlugins, package: str, old: str, new: str, told: str
) -> None:
    package = f"rc_core.{package}"
    assert old in WHOLE[package]
    written.write(package, WHOLE[package].replace(old, new))
    with pytest.raises(ConfigError) as caught:
        named(package)
    (problem,) = caught.value.problems
    assert problem.where == f"{package.replace('.', '/')}/mine.py"
    assert told in problem.message
    assert f"the contract is in {package.replace('.', '/')}/_" in problem.message
    # One thing is wrong, one is told.
    assert problem.message.count(";") == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return {}", "return {", "SyntaxError: '{' was never closed (line 21)"),
        ("from torch.nn import", "from torchh.nn import",
         "ModuleNotFoundError: No module named 'torchh' (line 3)"),
        ("frozenset(", "frozen(", "NameError: name 'frozen' is not defined (line 15)"),
        ("needs = ", "json = __import__('json').loads('no')\n    needs = ",
         "Expecting value: line 1 column 1 (char 0) (line 15, raised at "),
        ('"""Cross-entropy."""', '# caf\udce9', "UnicodeDecodeError: 'utf-8' codec can't decode"),
    ],
)  # fmt: skip
def test_one_that_python_does_not_import_is_told_with_its_line(
    written: WrittenPlugins, old: str, new: str, told: str
) -> None:
    path = written.write("rc_core.losses", LOSS)
    path.write_text(LOSS.replace(old, new, 1), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError) as caught:
        named("rc_core.losses")
    (problem,) = caught.value.problems
    assert problem.where == "rc_core/losses/mine.py"
    assert problem.message.startswith("must be a file that Python can import, but is not: ")
    assert told in problem.message


def test_one_that_is_no_python_is_listed_with_the_reason(written: WrittenPlugins) -> None:
    written.write("rc_core.losses", LOSS.replace("return {}", "return {"))
    assert plugins.summary("rc_core.losses", "mine") == (
        "(cannot be read: SyntaxError: '{' was never closed (line 21))"
    )


def test_everything_that_is_wrong_is_told_at_once(written: WrittenPlugins) -> None:
    text = DIFFICULTY.replace("class Config", "class Settings")
    for function in ("hard", "title", "summary"):
        text = text.replace(f"def {function}", f"def my_{function}")
    written.write("rc_core.difficulty", text)
    written.write("rc_core.losses", LOSS.replace('"difficulty"', '"dificulty", "scores"'))
    changes = {"difficulty": {"name": "mine"}, "training": {"epochs": 0}}
    with pytest.raises(ConfigError) as caught:
        config(loss={"name": "mine"}, **changes)
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert found.keys() == {
        "training.epochs", "rc_core/difficulty/mine.py", "rc_core/losses/mine.py"
    }  # fmt: skip
    assert "but lacks hard(), title(), summary()" in found["rc_core/difficulty/mine.py"]
    assert "class Config(PluginConfig)" in found["rc_core/difficulty/mine.py"]
    assert "'dificulty'" in found["rc_core/losses/mine.py"]
    assert "'scores'" in found["rc_core/losses/mine.py"]
    # Not only the first time.
    with pytest.raises(ConfigError, match=r"but lacks hard\(\)"):
        named("rc_core.difficulty")


def test_what_a_class_has_of_the_protocol_itself_is_not_defined(written: WrittenPlugins) -> None:
    text = LOSS.replace("def rows", "def values").replace("class Loss:", "class Loss(_base.Loss):")
    text = text.replace(
        "from rc_core.config", "from rc_core.losses import _base\nfrom rc_core.config"
    )
    written.write("rc_core.losses", text)
    with pytest.raises(
        ConfigError, match=r"must define rows, __call__ \(or on_model\), but lacks rows"
    ):
        named("rc_core.losses")


MODULE = LOSS.replace("class Loss:", "class Loss(torch.nn.Module):").replace(
    "from torch.nn", "import torch\nfrom torch.nn"
)


@pytest.mark.parametrize(
    ("text", "method", "lacks"),
    [
        (LOSS, "on_model", ""),
        (MODULE, "on_model", ""),
        (MODULE, "__call__", ""),
        (MODULE, "forward", ""),
        # A Module has a call of its own, which would find nothing to run.
        (MODULE, "formula", "__call__"),
        (LOSS, "forward", "__call__"),
    ],
)
def test_a_loss_is_called_in_one_of_two_ways(
    written: WrittenPlugins, text: str, method: str, lacks: str
) -> None:
    written.write("rc_core.losses", text.replace("def __call__", f"def {method}"))
    if not lacks:
        assert named("rc_core.losses").loss.name == "mine"
        return
    with pytest.raises(ConfigError, match=f"but lacks {lacks};"):
        named("rc_core.losses")


def test_a_folder_is_no_plugin(written: WrittenPlugins) -> None:
    folder = written.write("rc_core.losses", LOSS).parent / "several"
    folder.mkdir()
    (folder / "__init__.py").write_text(LOSS)
    assert "several" not in plugins.available("rc_core.losses")


def test_an_expert_that_is_none_is_told(written: WrittenPlugins, tmp_path: Path) -> None:
    """It was the classifier of the second text alone."""
    written.write("rc_core.losses", EXPERT)
    with pytest.raises(ConfigError, match=r"loss\.expert: must be .* but is 'someone'"):
        steps(named("rc_core.losses"), Workspace(tmp_path))


def test_the_digest_is_of_the_text_alone(written: WrittenPlugins) -> None:
    package = "rc_core.losses"

    def digest(text: str) -> str:
        written.write(package, text)
        return plugins.digest(package, "mine")

    first = digest(LOSS)
    assert len(first) == 16 and first == digest(LOSS)
    assert digest(LOSS.replace("\n", "\r\n")) == first
    assert digest(LOSS + "\n# Another.\n") != first
    written.write(package, LOSS, name="other")
    assert plugins.digest(package, "other") == first


def test_the_digest_is_of_shared_parts_too(written: WrittenPlugins) -> None:
    """An interrupted trial went on with other code, where only a shared part had been edited."""
    package = "rc_core.losses"
    uses = LOSS.replace("\n\n\n", "\nfrom rc_core.losses._mine import X\n\n\n", 1)

    def digest(shared: str) -> str:
        written.write(package, shared, name="_further")
        written.write(package, "from rc_core.losses import _further\nX = 1\n", name="_mine")
        written.write(package, uses)
        return plugins.digest(package, "mine")

    assert uses != LOSS
    first = digest("Y = 1\n")
    assert first == digest("Y = 1\n")
    assert first != digest("Y = 2\n"), "through the other one"


def test_a_file_edited_since_it_was_loaded_is_not_what_runs(written: WrittenPlugins) -> None:
    file = written.write("rc_core.losses", LOSS)
    first = plugins.digest("rc_core.losses", "mine")
    file.write_text(LOSS + "\n# Another.\n")
    assert plugins.digest("rc_core.losses", "mine") == first


def test_an_edited_difficulty_is_made_anew(written: WrittenPlugins, tmp_path: Path) -> None:
    package, workspace = "rc_core.difficulty", Workspace(tmp_path / "artifacts")
    written.write(package, DIFFICULTY)
    first = difficulty(named(package), workspace).scores
    assert first.tolist() == pytest.approx([0.5] * 100)
    assert not difficulty_artifact(named(package), workspace).built
    edited = DIFFICULTY.replace(", 0.5)", ", 0.25)")
    written.write(package, edited)
    assert difficulty_artifact(named(package), workspace).built
    assert difficulty(named(package), workspace).scores.tolist() == pytest.approx([0.75] * 100)
    written.write(package, DIFFICULTY)
    assert not difficulty_artifact(named(package), workspace).built


def test_outputs_of_another_are_made_by_it_and_follow_its_file(
    written: WrittenPlugins, tmp_path: Path
) -> None:
    package, workspace = "rc_core.difficulty", Workspace(tmp_path / "artifacts")
    written.write(package, DIFFICULTY)
    scorer = f"OUTPUTS_OF = 'mine'\n{DIFFICULTY.replace(', 0.5)', ', 0.125)')}"
    written.write(package, scorer, name="scorer")
    mine, scored = named(package), named(package, "scorer")
    first = difficulty_key(scored, workspace)
    assert first == difficulty_key(mine, workspace)
    assert difficulty(scored, workspace).scores.tolist() == pytest.approx([0.5] * 100)
    written.write(package, scorer.replace("1.0 - ", "2.0 - "), name="scorer")
    assert difficulty_key(scored, workspace) == first
    assert difficulty(scored, workspace).scores.tolist() == pytest.approx([1.5] * 100)
    written.write(package, DIFFICULTY.replace("0.5", "0.25"))
    assert difficulty_key(scored, workspace) != first


def test_an_edited_importance_is_measured_anew(written: WrittenPlugins, tmp_path: Path) -> None:
    package, workspace = "rc_core.compression", Workspace(tmp_path)
    text = COMPRESSION.replace("rc_core.config", "rc_core.compression._importance").replace(
        "CompressionConfig", "UnitsConfig"
    )
    text += "\n\ndef importance(model, context, *, num_batches):\n    return [[1.0]]\n"
    written.write(package, text)
    first = importance_key(named(package), workspace).key
    written.write(package, text.replace("1.0", "2.0"))
    assert importance_key(named(package), workspace).key != first


def test_a_difficulty_may_ask_the_teacher(written: WrittenPlugins, tmp_path: Path) -> None:
    text = DIFFICULTY.replace("torch.full((1, len(part), 2), 0.5).log()", "asked(context, part)")
    text = text.replace("USES_TEACHER, LIGHT = False, True", "")
    text += """

def asked(context, part):
    return torch.from_numpy(context.teacher(part))[None]
"""
    written.write("rc_core.difficulty", text)
    wanted, workspace = named("rc_core.difficulty"), Workspace(tmp_path / "artifacts")
    found = load_outputs(difficulty_artifact(wanted, workspace)).log_probs
    assert torch.equal(found["train"][0], teacher_log_probs(wanted, workspace))
    assert found["id_dev"].shape == (1, 100, 2)


def test_an_expert_is_no_milestone_of_outputs_of_another_kind(
    written: WrittenPlugins, tmp_path: Path
) -> None:
    """Settings alone do not tell what outputs are."""
    poe: Mapping[str, Any] = {"name": "poe", "expert": {"level": 0.85}}
    workspace = Workspace(tmp_path)
    assert expert_of(config(loss=poe), workspace).key.kind == "difficulty"
    text = DIFFICULTY.replace("(PluginConfig)", "(loss_variance.Config)").replace(
        "import torch\n", "import torch\n\nfrom rc_core.difficulty import loss_variance\n"
    )
    written.write("rc_core.difficulty", text)
    assert expert_of(named("rc_core.difficulty", loss=poe), workspace).key.kind == "pruned_level"
    written.write("rc_core.difficulty", f"OUTPUTS_OF = 'loss_variance'\n{text}")
    assert expert_of(named("rc_core.difficulty", loss=poe), workspace).key.kind == "difficulty"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return {}", "return None", "rows() must return a dict of tensors with 100 rows"),
        ("return {}", "return {'a': context.labels[:3]}", "but returned shapes {'a': (3,)}"),
        ("return {}", "context.report['a'] = context.labels; return {}", "plain JSON values, but"),
        (
            "return functional.cross_entropy(logits, labels)",
            "return rows['none']",
            "KeyError: 'none' (in __call__, rc_core/losses/mine.py:24)",
        ),
        (
            "return functional.cross_entropy(logits, labels)",
            "return functional.cross_entropy(logits, labels, reduction='none')",
            "a loss must return a scalar tensor",
        ),
    ],
)
def test_a_record_says_where_in_a_plugin_it_failed(
    written: WrittenPlugins, tmp_path: Path, old: str, new: str, told: str
) -> None:
    text = LOSS.replace('frozenset({"difficulty"})', "frozenset()")
    assert old in text
    written.write("rc_core.losses", text.replace(old, new))
    folder, workspace = TrialFolder(tmp_path / "t"), Workspace(tmp_path / "artifacts")
    with pytest.raises((TrialError, KeyError)):
        run_trial(named("rc_core.losses"), workspace, folder, trial_id="t")
    record = folder.read()
    assert record is not None and record.status == "failed" and told in (record.error or "")


@pytest.mark.parametrize("package", ["rc_core.losses", "rc_core.compression"])
def test_a_trial_of_an_edited_plugin_does_not_go_on(
    written: WrittenPlugins, tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = WHOLE[package].replace('frozenset({"difficulty"})', "frozenset()")
    training = BASE["training"] | {"rungs": 2}
    folder, workspace = TrialFolder(tmp_path / "t"), Workspace(tmp_path / "artifacts")
    begun: list[object] = []
    fit = trial_run.fit_compressed  # type: ignore[attr-defined]

    def seen(*given: Any, resume: Any, **rest: Any) -> Any:
        begun.append(resume and resume["step"])
        return fit(*given, resume=resume, **rest)

    monkeypatch.setattr(trial_run, "fit_compressed", seen)
    for edited in (text, text, f"{text}\n# edited\n"):
        written.write(package, edited)
        wanted = named(package, training=training)
        record = next_record(wanted, workspace, folder)
        digest = plugins.digest(package, "mine")
        assert record.environment["plugins"][SECTIONS[package]] == digest
        assert [rung.step for rung in record.rungs] == [2]
    # Each time the second rung, at the end, is left out: the second goes on, the third must not.
    assert begun == [None, 2, None]


def next_record(wanted: TrialConfig, workspace: Workspace, folder: TrialFolder) -> TrialRecord:
    """Run a trial to its next rung, or to where its model would be saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_run, "save_model", interrupt)
        generator = trial_steps(wanted, workspace, folder, trial_id="t")
        with contextlib.suppress(KeyboardInterrupt):
            next(generator)
        generator.close()
    record = folder.read()
    assert record is not None
    return record


def interrupt(*_: object, **options: object) -> None:
    raise KeyboardInterrupt


def test_a_compression_may_draw_from_torch_s_own_generator(
    written: WrittenPlugins, tmp_path: Path
) -> None:
    drawing = "torch.nn.init.normal_(model.classifier.weight)\n        return model"
    text = f"{COMPRESSION.replace('return model', drawing, 1)}\n\nimport torch\n"
    written.write("rc_core.compression", text)
    workspace = Workspace(tmp_path)

    def drawn(seed: int) -> list[float]:
        training = BASE["training"] | {"seed": seed}
        model = prepare_model(named("rc_core.compression", training=training), workspace)[1]
        torch.rand(3)
        return model.get_parameter("classifier.weight").flatten().tolist()

    first = drawn(0)
    # The second model is a copy of the one kept.
    assert drawn(0) == first == drawn(0)
    assert drawn(1) != first


def test_a_compression_s_report_must_be_json(written: WrittenPlugins, tmp_path: Path) -> None:
    text = COMPRESSION.replace("return {}", "return {'asked': {1, 2}}")
    assert text != COMPRESSION
    written.write("rc_core.compression", text)
    folder, workspace = TrialFolder(tmp_path / "t"), Workspace(tmp_path / "artifacts")
    with pytest.raises(TrialError, match=r"rc_core/compression/mine.py: report\(\) must return"):
        run_trial(named("rc_core.compression"), workspace, folder, trial_id="t")
