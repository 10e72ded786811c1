"""Tiny random encoders of the supported families, and one to be refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from rc_core.compression._base import Batch, CompressionContext

ARCHITECTURES = ("bert", "roberta", "distilbert", "electra", "modernbert")
NUM_LAYERS = 4
NUM_LABELS = 3
VOCABULARY = 60


def tiny_model(
    architecture: str,
    *,
    num_layers: int = NUM_LAYERS,
    seed: int = 0,
    num_labels: int = NUM_LABELS,
    **more: Any,
) -> Any:
    """Return a random sequence classifier in evaluation mode, so that no dropout is drawn.

    Args:
        more: of its config, before what is said here.
    """
    shape: dict[str, Any] = {"vocab_size": VOCABULARY, "num_labels": num_labels}
    if architecture == "distilbert":
        shape |= {"dim": 16, "n_layers": num_layers, "n_heads": 2, "hidden_dim": 24}
    else:
        shape |= {"hidden_size": 16, "num_hidden_layers": num_layers, "num_attention_heads": 2}
        shape |= {"intermediate_size": 24}
    if architecture == "modernbert":
        shape |= {"pad_token_id": 0}
    if architecture in ("electra", "albert"):
        shape |= {"embedding_size": 8}
    torch.manual_seed(seed)
    shape |= {"max_position_embeddings": 40, **more}
    config = AutoConfig.for_model(architecture, **shape)
    return AutoModelForSequenceClassification.from_config(config).eval()


def tiny_batch(*, size: int = 6, length: int = 8, seed: int = 0) -> Batch:
    """Return a random batch with padding in every second row."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (size, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[::2, length - 2 :] = 0
    labels = torch.arange(size) % NUM_LABELS
    return Batch({"input_ids": ids, "attention_mask": mask}, labels, torch.arange(size))


def tiny_context(architecture: str = "bert") -> CompressionContext:
    """Return a context whose batches and teacher are tiny."""

    def batches() -> Iterator[Batch]:
        return (tiny_batch(seed=seed) for seed in range(3))

    return CompressionContext(
        batches=batches,
        device=torch.device("cpu"),
        teacher=lambda: tiny_model(architecture, seed=9),
    )


def adamw(model: nn.Module, *, learning_rate: float = 1e-2) -> torch.optim.AdamW:
    """Return an optimizer over what is not frozen; the rate is large so that weights move."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.1)


def train_steps(
    model: Any,
    compression: Any,
    optimizer: torch.optim.Optimizer,
    *,
    first: int = 1,
    last: int,
    total: int,
) -> None:
    """Run optimizer steps `first` ... `last` of `total`, as the training loop does."""
    for step in range(first, last + 1):
        batch = tiny_batch(seed=step)
        nn.functional.cross_entropy(model(**batch.inputs).logits, batch.labels).backward()
        getattr(compression, "after_backward", lambda model: None)(model)
        optimizer.step()
        optimizer.zero_grad()
        compression.after_step(model, step / total)


def logits_of(model: Any) -> Tensor:
    """Return the logits of a fixed batch."""
    with torch.no_grad():
        logits: Tensor = model(**tiny_batch(seed=99).inputs).logits
    return logits
