"""Patient distillation against loops, the paper's layers, and the projection between widths."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rc_core.errors import ConfigError
from rc_core.forward import BatchForward, FrozenTeacher, shape_of
from rc_core.losses import distil, hidden
from rc_core.losses._base import LossContext
from rc_core.schema import validate_section
from tests.contracts._tiny import tiny_batch, tiny_model


def random(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def patience(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Equation 7 in a loop, over the number of terms."""
    terms = []
    for ours, theirs in pairs:
        for s, t in zip(ours.double().numpy(), theirs.double().numpy(), strict=True):
            unit = s / np.sqrt((s * s).sum()) - t / np.sqrt((t * t).sum())
            terms.append((unit**2).sum())
    return float(np.mean(terms))


def test_the_distance_is_the_paper_s() -> None:
    pairs = [(random(5, 8, seed=i), random(5, 8, seed=10 + i)) for i in range(3)]
    ours, theirs = zip(*pairs, strict=True)
    assert hidden.patience(ours, theirs).item() == pytest.approx(patience(pairs), rel=1e-5)
    cosines = [nn.functional.cosine_similarity(s, t, dim=-1) for s, t in pairs]
    expected = 2 - 2 * torch.stack(cosines).mean()
    torch.testing.assert_close(hidden.patience(ours, theirs), expected)
    # Lengths do not count.
    assert hidden.patience(ours, [3 * each for each in ours]).item() == pytest.approx(0, abs=1e-6)
    assert hidden.patience(ours, [-each for each in ours]).item() == pytest.approx(4)


@pytest.mark.parametrize(
    ("student", "teacher", "layers", "expected"),
    [
        # Those of the paper: six and three of twelve.
        (6, 12, "skip", [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]),
        (6, 12, "last", [(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]),
        (3, 12, "skip", [(1, 4), (2, 8)]),
        (3, 12, "last", [(1, 10), (2, 11)]),
        # Pruned models have the teacher's depth.
        (4, 4, "skip", [(1, 1), (2, 2), (3, 3)]),
        (4, 4, "last", [(1, 1), (2, 2), (3, 3)]),
        (4, 6, "skip", [(1, 2), (2, 3), (3, 4)]),
        (1, 6, "skip", [(1, 6)]),
        (1, 6, "last", [(1, 6)]),
        # Deeper than its teacher.
        (6, 2, "skip", [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2)]),
        (4, 2, "last", [(1, 1), (2, 1), (3, 1)]),
    ],
)
def test_layers_are_compared_as_in_the_paper(
    student: int, teacher: int, layers: Literal["skip", "last"], expected: list[tuple[int, int]]
) -> None:
    assert hidden.layer_pairs(student, teacher, layers) == expected


def on_models(
    student: Any, teacher: Any, **values: Any
) -> tuple[hidden.Loss, dict[str, Any], Tensor]:
    """Return a loss, what it reports, and its value on the tiny batch."""
    batch, frozen = tiny_batch(), FrozenTeacher(teacher)
    context = LossContext(
        labels=batch.labels,
        teacher_log_probs=random(6, 3, seed=3).log_softmax(-1),
        student=shape_of(student),
        teacher=frozen.shape,
    )
    loss = hidden.Loss(validate_section(hidden.Config, {"name": "hidden", **values}))
    torch.manual_seed(0)
    rows = loss.rows(context)
    forward = BatchForward(student, batch, "fp32", hidden=True, teacher=frozen)
    return loss, context.report, loss.on_model(forward, batch.labels, rows)


def first_tokens(model: Any) -> list[Tensor]:
    """Return transformers' own hidden states of the first token: embeddings, then each block."""
    with torch.no_grad():
        found = model(**tiny_batch().inputs, output_hidden_states=True).hidden_states
    return [each[:, 0] for each in found]


def distilled(student: Any, **values: Any) -> float:
    """Return what `distil` makes of the same."""
    batch = tiny_batch()
    loss = distil.Loss(validate_section(distil.Config, {"name": "distil", **values}))
    with torch.no_grad():
        logits = student(**batch.inputs).logits
    targets = random(6, 3, seed=3).log_softmax(-1)
    return loss(logits, batch.labels, {"soft_targets": targets}).item()


@pytest.mark.parametrize(("layers", "pairs"), [("skip", [(1, 2)]), ("last", [(1, 3)])])
def test_it_is_distil_and_the_distance_of_the_first_token_s_states(
    layers: str, pairs: list[tuple[int, int]]
) -> None:
    student, teacher = tiny_model("bert", num_layers=2), tiny_model("bert", num_layers=4, seed=9)
    ours, theirs = first_tokens(student), first_tokens(teacher)
    settings = {"lambda": 0.7, "temperature": 2.0}
    loss, report, found = on_models(student, teacher, beta=3.0, layers=layers, **settings)
    expected = distilled(student, **settings)
    expected += 3.0 * patience([(ours[j], theirs[k]) for j, k in pairs])
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert report == {"layer_pairs": [list(pair) for pair in pairs]}
    assert not [*loss.parameters()], "of one width nothing has to be learned"
    plain = on_models(student, teacher, beta=0.0, layers=layers, **settings)[2]
    assert plain.item() == pytest.approx(distilled(student, **settings), rel=1e-6)


def test_other_widths_are_joined_by_one_learned_matrix() -> None:
    student = tiny_model("bert", num_layers=3)
    teacher = tiny_model("bert", num_layers=6, seed=9, hidden_size=24)
    ours, theirs = first_tokens(student), first_tokens(teacher)
    loss, _, found = on_models(student, teacher, beta=1.0)
    (matrix,) = loss.parameters()
    assert matrix.shape == (24, 16)
    pairs = [(ours[j] @ matrix.detach().T, theirs[k]) for j, k in ((1, 2), (2, 4))]
    expected = distilled(student) + patience(pairs)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert matrix.grad is not None and matrix.grad.any()


def test_the_student_s_blocks_are_drawn_towards_the_teacher_s_and_the_teacher_stays() -> None:
    student, teacher = tiny_model("bert", num_layers=2), tiny_model("bert", num_layers=4, seed=9)
    on_models(student, teacher, beta=1.0, **{"lambda": 0.0})[2].backward()
    layers = student.base_model.encoder.layer
    assert layers[0].output.dense.weight.grad.any()
    assert all(each.grad is None for each in teacher.parameters())
    # The last block has the soft targets and the labels alone.
    whole = layers[1].output.dense.weight.grad.clone()
    student.zero_grad()
    on_models(student, teacher, beta=9.0, **{"lambda": 0.0})[2].backward()
    torch.testing.assert_close(layers[1].output.dense.weight.grad, whole)


def test_what_it_needs_is_asked_for() -> None:
    loss = hidden.Loss(hidden.Config(name="hidden"))
    with pytest.raises(ValueError, match="must state the shapes of student and teacher"):
        loss.rows(LossContext(labels=torch.zeros(2, dtype=torch.int64)))


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"layers": "first"}, {"lambda": 1.5}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    assert hidden.Config(name="hidden", beta=0.5).label() == "hidden beta=0.5"
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        validate_section(hidden.Config, {"name": "hidden", **wrong})
