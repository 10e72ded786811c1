"""Losses of other kinds than ours, each one file: what they keep, draw, train and cannot have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from rc_core import assembly
from rc_core.assembly import assemble, compressed_data, prepare_loss, prepare_model, prepare_teacher
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.errors import TrialError
from rc_core.feeds import HostFeed
from rc_core.forward import FrozenTeacher
from rc_core.models import load_model
from rc_core.record import TrialFolder
from rc_core.teacher import teacher
from rc_core.trial import run_trial, trial_steps
from rc_core.workspace import Workspace
from tests.contracts import test_losses as contract
from tests.rc_core._plugins import WrittenPlugins, written
from tests.rc_core._trials import tiny_trial

__all__ = ["written"]

PACKAGE = PLUGIN_PACKAGES["loss"]

# Groups with a large loss count more (Sagawa et al. 2020), and labels are smoothed less and less.
GROUP_DRO = '''"""Group DRO with label smoothing that is annealed."""

import torch
from torch.nn import functional

from rc_core.config import PluginConfig


class Config(PluginConfig):
    """How fast weights move, and how much is smoothed at first."""

    rate: float = 0.5
    smoothing: float = 0.3


class Loss:
    """Cross-entropy, weighted by group."""

    needs = frozenset()

    def __init__(self, config):
        self.config = config
        self.weights = torch.ones(2)
        self.smoothing = config.smoothing

    def rows(self, context):
        return {"group": context.labels % 2}

    def before_step(self, progress):
        self.smoothing = self.config.smoothing * (1 - progress)

    def __call__(self, logits, labels, rows):
        each = functional.cross_entropy(
            logits.float(), labels, reduction="none", label_smoothing=self.smoothing
        )
        for group in (0, 1):
            inside = each.detach()[rows["group"] == group]
            if len(inside):
                self.weights[group] *= torch.exp(self.config.rate * inside.mean())
        self.weights = 2 * self.weights / self.weights.sum()
        return (self.weights[rows["group"]] * each).mean()

    def state_dict(self):
        return {"weights": self.weights}

    def load_state_dict(self, state):
        self.weights = state["weights"]
'''


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("artifacts"))


def config(**changes: Any) -> TrialConfig:
    section = tiny_trial(train_size=100, held_out=60, epochs=2, rungs=2, loss={"name": "mine"})
    return decode({**section, "compression": {"name": "magnitude"}, **changes})


def test_what_a_loss_keeps_and_how_far_it_is_outlive_a_stop(
    written: WrittenPlugins, workspace: Workspace, tmp_path: Path
) -> None:
    written.write(PACKAGE, GROUP_DRO)
    contract.test_what_is_kept_from_step_to_step_outlives_a_stop("mine")
    whole, cut = TrialFolder(tmp_path / "whole"), TrialFolder(tmp_path / "cut")
    run_trial(config(), workspace, whole, trial_id="t")
    steps = trial_steps(config(), workspace, cut, trial_id="t")
    next(steps)
    steps.close()
    run_trial(config(), workspace, cut, trial_id="t")
    found = [(each.model / "model.safetensors").read_bytes() for each in (whole, cut)]
    assert found[0] == found[1]


def test_what_a_loss_draws_does_not_depend_on_what_ran_before(
    written: WrittenPlugins, workspace: Workspace
) -> None:
    text = GROUP_DRO.replace("context.labels % 2", "torch.randint(2, context.labels.shape)")
    assert text != GROUP_DRO
    written.write(PACKAGE, text)
    drawn = []
    for used in (3, 5):
        torch.rand(used)
        drawn.append(prepare_loss(config(), workspace).rows["group"])
    other = config(training=config().training.as_dict() | {"seed": 1})
    drawn.append(prepare_loss(other, workspace).rows["group"])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


# Hidden states of all tokens, each layer with a projection of its own (TinyBERT), and the two terms
# weighed by what is learned (Kendall et al. 2018).
TINYBERT = '''"""TinyBERT's hidden states, learned weights."""

import torch
from torch import nn
from torch.nn import functional

from rc_core.config import PluginConfig


class Config(PluginConfig):
    """No settings."""


class Loss(nn.Module):
    """Cross-entropy, and the teacher's hidden states."""

    needs = frozenset({"teacher_model", "hidden_states"})

    def __init__(self, config):
        super().__init__()
        self.log_variances = nn.Parameter(0.1 * torch.randn(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def rows(self, context):
        student, teacher = context.student, context.teacher
        self.stride = teacher.num_layers // student.num_layers
        self.projections = nn.ModuleList(
            nn.Linear(student.hidden_size, teacher.hidden_size)
            for _ in range(student.num_layers + 1)
        )
        return {}

    def on_model(self, forward, labels, rows):
        self.steps += 1
        output, teacher = forward(), forward.teacher()
        apart = torch.stack([
            (project(state) - teacher.hidden_states[self.stride * i])[output.mask].square().mean()
            for i, (project, state) in enumerate(
                zip(self.projections, output.hidden_states, strict=True)
            )
        ]).mean()
        terms = torch.stack([functional.cross_entropy(output.logits, labels), apart])
        return (terms * torch.exp(-self.log_variances) + self.log_variances).sum()
'''


def own(name: str, compression: dict[str, Any], **training: Any) -> TrialConfig:
    """Return a trial of some compression with a loss."""
    section = tiny_trial(train_size=100, held_out=60, epochs=2, rungs=2, loss={"name": name})
    return decode(
        {**section, "compression": compression, "training": section["training"] | training}
    )


STUDENT = {"name": "student", "num_layers": 2}


def test_a_loss_with_parameters_holds_the_contract_of_every_loss(
    written: WrittenPlugins,
) -> None:
    written.write(PACKAGE, TINYBERT)
    contract.test_what_is_kept_from_step_to_step_outlives_a_stop("mine")
    contract.test_gradient_flows_and_going_down_it_lowers_the_loss("mine")
    contract.test_what_a_loss_trains_of_its_own_has_a_gradient_that_lowers_it("mine")
    contract.test_needs_are_known_and_enough("mine")
    for architecture in ("bert", "distilbert", "modernbert"):
        contract.test_what_runs_the_model_runs_every_encoder("mine", architecture)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("terms * torch.exp(-self.log_variances) + self.log_variances", "terms", "log_variances"),
        ("        self.projections =", "        self.extra = nn.Bilinear(2, 2, 2, False)\n"
         "        self.projections =", "extra.weight"),
    ],
)  # fmt: skip
def test_parameters_that_nothing_depends_on_are_told(
    written: WrittenPlugins, old: str, new: str, told: str
) -> None:
    assert old in TINYBERT
    written.write(PACKAGE, TINYBERT.replace(old, new))
    with pytest.raises(AssertionError, match=rf"not all zeros, but \['{told}'\] do not"):
        contract.test_what_a_loss_trains_of_its_own_has_a_gradient_that_lowers_it("mine")


def test_what_a_loss_trains_goes_on_after_a_stop_to_the_bit(
    written: WrittenPlugins, workspace: Workspace, tmp_path: Path
) -> None:
    written.write(PACKAGE, TINYBERT)
    wanted, left = own("mine", STUDENT, rungs=3, epochs=3), {}
    for name, stops in (("whole", 0), ("cut", 2)):
        folder = TrialFolder(tmp_path / name)
        for _ in range(stops):
            steps = trial_steps(wanted, workspace, folder, trial_id="t")
            next(steps)
            steps.close()
        steps = trial_steps(wanted, workspace, folder, trial_id="t")
        for _ in steps:
            # The last before the end: what is removed with it is looked at here.
            left[name] = torch.load(folder.checkpoint / "optimizer.pt", weights_only=True)
        assert run_trial(wanted, workspace, folder, trial_id="t").status == "finished"
    found = [load_file(tmp_path / n / "model" / "model.safetensors") for n in ("whole", "cut")]
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    start = assemble(wanted, workspace).prepared.loss
    assert isinstance(start, nn.Module)
    kept = left["whole"]["loss"]
    assert kept.keys() == start.state_dict().keys() and int(kept["steps"]) == left["whole"]["step"]
    for key, parameter in start.named_parameters():
        assert not torch.equal(kept[key], parameter), f"{key} was not trained"


def prepared_model(wanted: TrialConfig, workspace: Workspace) -> nn.Module:
    return prepare_model(wanted, workspace)[1]


def asked(wanted: TrialConfig, workspace: Workspace) -> FrozenTeacher:
    found = prepare_teacher(wanted, workspace)
    assert found is not None
    return found


def test_parameters_of_a_loss_follow_the_seed_alone(
    written: WrittenPlugins, workspace: Workspace
) -> None:
    written.write(PACKAGE, TINYBERT)
    drawn = []
    for seed, used in ((0, 3), (0, 5), (1, 5)):
        wanted = own("mine", STUDENT, seed=seed)
        model, dense = prepared_model(wanted, workspace), asked(wanted, workspace)
        torch.rand(used)
        loss = prepare_loss(wanted, workspace, model=model, dense=dense).loss
        assert isinstance(loss, nn.Module)
        drawn.append(parameters_to_vector(loss.parameters()).detach())
    assert torch.equal(drawn[0], drawn[1])
    different = drawn[0] != drawn[2]
    assert float(different.float().mean()) > 0.99


def test_the_teacher_is_the_stored_one_loaded_once_and_never_trained(
    written: WrittenPlugins,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written.write(PACKAGE, TINYBERT)
    wanted = own("mine", STUDENT)
    stored = teacher(wanted, workspace).path / "model"
    before = load_file(stored / "model.safetensors")
    made: list[FrozenTeacher] = []
    states: list[dict[str, Tensor]] = []

    class Seen(FrozenTeacher):
        def __init__(self, model: nn.Module, encoded: Any = None) -> None:
            super().__init__(model, encoded)
            made.append(self)
            assert not model.training and not any(p.requires_grad for p in model.parameters())

        def release(self) -> None:
            assert self._model is not None
            states.append({key: each.clone() for key, each in self._model.state_dict().items()})
            super().release()

    monkeypatch.setattr(assembly, "FrozenTeacher", Seen)
    run_trial(wanted, workspace, TrialFolder(tmp_path / "t"), trial_id="t")
    assert len(made) == len(states) == 1
    assert all(torch.equal(states[0][key], before[key]) for key in before)
    # Its memory is given back before the model is evaluated.
    assert made[0]._model is None
    run_trial(own("distil", STUDENT), workspace, TrialFolder(tmp_path / "d"), trial_id="d")
    assert len(made) == 1


@pytest.mark.parametrize("name", ["hidden", "rdrop"])
@pytest.mark.parametrize(
    "compression",
    [
        STUDENT,
        {"name": "student", "model": "tiny:roberta", "num_layers": 3},
        {"name": "magnitude"},
        {"name": "heads", "remove": 0.5},
        {"name": "ffn"},
    ],
    ids=lambda section: "-".join(map(str, section.values())),
)
def test_ours_train_every_compression_and_go_on_after_a_stop(
    workspace: Workspace, tmp_path: Path, name: str, compression: dict[str, Any]
) -> None:
    wanted = own(name, compression)
    whole, cut = TrialFolder(tmp_path / "whole"), TrialFolder(tmp_path / "cut")
    record = run_trial(wanted, workspace, whole, trial_id="t")
    assert record.status == "finished"
    steps = trial_steps(wanted, workspace, cut, trial_id="t")
    next(steps)
    steps.close()
    run_trial(wanted, workspace, cut, trial_id="t")
    found = [(each.model / "model.safetensors").read_bytes() for each in (whole, cut)]
    assert found[0] == found[1]


def test_a_student_with_other_tokens_and_its_teacher_see_the_same_samples(
    workspace: Workspace,
) -> None:
    """Here: a teacher that reads more tokens of each pair than its student."""
    cut = own("hidden", STUDENT, max_length=12)
    wanted = decode(cut.as_dict() | {"teacher": {"max_length": 24}})
    data, theirs = compressed_data(wanted, workspace), workspace.data(wanted.reference())
    dense = asked(wanted, workspace)
    rows = np.array([5, 2, 9])
    batch = HostFeed(data.encoded(data.task.train)).batch(rows)
    found = dense.output(batch, "fp32", hidden=True)
    inputs = HostFeed(theirs.encoded(theirs.task.train)).batch(rows).inputs
    model = load_model(teacher(wanted, workspace).path / "model")
    with torch.no_grad():
        expected = model(**inputs).logits
    torch.testing.assert_close(found.logits, expected)
    assert batch.inputs["input_ids"].shape[1] == 12
    assert found.mask.shape == inputs["input_ids"].shape and found.mask.shape[1] > 12
    # Where tokens are the same they are not made twice.
    assert asked(own("hidden", STUDENT), workspace)._feed is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("class Loss(nn.Module)", "class Loss", "3 are not; derive Loss from torch.nn.Module"),
        ("nn.ModuleList(", "list(", "6 are not; derive Loss .* hold several modules in a Modul"),
        ("nn.Linear(student.hidden_size, teacher.hidden_size)",
         "nn.LazyLinear(teacher.hidden_size)", "must have their shape when rows"),
    ],
)  # fmt: skip
def test_parameters_that_no_optimizer_would_have_are_refused(
    written: WrittenPlugins, workspace: Workspace, old: str, new: str, told: str
) -> None:
    """They would stay as they are, and nothing would say so."""
    text = TINYBERT.replace(old, new)
    assert text != TINYBERT
    if "nn.Module)" not in text:
        text = text.replace("        super().__init__()\n", "")
        text = text.replace('self.register_buffer("steps",', "self.steps = (")
        text = text.replace("self.log_variances = nn.Parameter(0.1 * torch.randn(2))",
                            "self.held = {'a': [nn.Parameter(torch.ones(2))]}")  # fmt: skip
        text = text.replace("nn.ModuleList(", "nn.Linear(1, 1) or (")
    written.write(PACKAGE, text)
    wanted = own("mine", STUDENT)
    model, dense = prepared_model(wanted, workspace), asked(wanted, workspace)
    with pytest.raises(TrialError, match=f"mine.py: parameters of a loss .*{told}"):
        prepare_loss(wanted, workspace, model=model, dense=dense)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("output, teacher = forward(), forward.teacher()",
         "output = teacher = forward.teacher()", "on_model() must call forward()"),
        ('{"teacher_model", "hidden_states"}', '{"hidden_states"}', "name 'teacher_model'"),
        ('{"teacher_model", "hidden_states"}', '{"teacher_model"}', "name 'hidden_states'"),
        ("self.steps += 1", "self.late = nn.Linear(2, 2)", "2 that the optimizer does not know"),
    ],
)  # fmt: skip
def test_what_a_loss_does_wrong_while_it_runs_the_model_is_in_the_record(
    written: WrittenPlugins, workspace: Workspace, tmp_path: Path, old: str, new: str, told: str
) -> None:
    text = TINYBERT.replace(old, new)
    assert text != TINYBERT
    # Shapes that nobody told it.
    text = text.replace("student, teacher = context.student, context.teacher",
                        "student = teacher = context.student or context.teacher")  # fmt: skip
    text = text.replace("self.stride = teacher", "self.stride = 1 or teacher")
    written.write(PACKAGE, text)
    folder = TrialFolder(tmp_path / "t")
    with pytest.raises(TrialError):
        run_trial(own("mine", {"name": "magnitude"}), workspace, folder, trial_id="t")
    record = folder.read()
    assert record is not None and record.status == "failed" and told in (record.error or "")
