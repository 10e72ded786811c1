"""Plain values of a trial that takes about a second: a tiny encoder on a few generated pairs."""

from __future__ import annotations

from typing import Any


def tiny_trial(
    *, train_size: int, held_out: int, epochs: int = 1, rungs: int = 1, **sections: Any
) -> dict[str, Any]:
    """Return a trial's sections.

    Args:
        train_size: training pairs.
        held_out: pairs of each dev and test split.
        epochs: of training.
        rungs: quick evaluations of training.
        sections: the others, such as `compression`.
    """
    sizes = {"train_size": train_size, "dev_size": held_out, "test_size": held_out}
    training = {
        "epochs": epochs,
        "learning_rate": 1e-3,
        "rungs": rungs,
        "precision": "fp32",
        "max_length": 24,
    }
    task = {"name": "shortcut_nli", **sizes}
    return {"model": "tiny:bert", "task": task, "training": training, **sections}
