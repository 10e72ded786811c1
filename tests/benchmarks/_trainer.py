"""The other side: the same trial written by a careful user of `transformers.Trainer`.

Same model and frozen parts, tokens, batch size, precision, epochs, learning-rate schedule, fused
AdamW, grouping by length, quick evaluation at half-time and full one at the end, weights saved.
The loss formulas are ours, as plain functions: they cost nothing beside the encoder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from rc_core.compression._gradual import milestones_at, sparsity_at
from rc_core.compression._layers import embeddings, keep_blocks
from rc_core.config import TrainingConfig, TrialConfig
from rc_core.data._task import Role, Split
from rc_core.models import load_encoder
from rc_core.workspace import TaskData

Sample = dict[str, Any]
LossFunction = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Result:
    """What a run gives.

    Attributes:
        train_cpu: processor seconds in training steps, evaluations not counted.
        train_seconds: the same by the clock.
        seconds: everything, from loading the encoder to its saved weights.
        accuracy: `id_dev` and `ood_dev`, in [0, 1].
    """

    train_cpu: float
    train_seconds: float
    seconds: float
    accuracy: Mapping[Role, float]


def samples(data: TaskData, split: Split, **rows: Tensor) -> list[Sample]:
    """Return a split as Trainer takes it: a list of dictionaries, labels as the task counts them.

    Args:
        data: the task and its tokenizer.
        split: which part.
        rows: per-sample tensors for the loss.
    """
    encoded = data.encoded(split)
    names = data.task.label_names
    found = []
    for i, (start, end) in enumerate(zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)):
        sample = {
            "input_ids": encoded.token_ids[start:end].tolist(),
            "labels": names.index(split.label_names[split.labels[i]]),
            **{name: table[i].tolist() for name, table in rows.items()},
        }
        if encoded.token_types is not None:
            sample["token_type_ids"] = encoded.token_types[start:end].tolist()
        found.append(sample)
    return found


class PlainPruning(TrainerCallback):
    """Magnitude pruning as it is usually written: a threshold by kthvalue, masks every step."""

    def __init__(self, target: Callable[[float], float]) -> None:
        self._target = target
        self._level = 0.0
        self._masks: list[Tensor] | None = None

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        model = rest["model"]
        weights = [p for p in model.base_model.encoder.parameters() if p.ndim == 2]
        self._apply(weights)
        due = self._target((state.global_step + 1) / state.max_steps)
        if due > self._level:
            magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
            count = max(1, round(due * magnitudes.numel()))
            threshold = magnitudes.kthvalue(count).values
            self._masks = [(weight.abs() > threshold).to(weight.dtype) for weight in weights]
            self._level = due
            self._apply(weights)

    def _apply(self, weights: Sequence[Tensor]) -> None:
        if self._masks is not None:
            for weight, mask in zip(weights, self._masks, strict=True):
                weight.mul_(mask)


class _Timed(Trainer):
    """Trainer with a loss of one's own, which knows how long it evaluated."""

    def __init__(self, *args: Any, loss: LossFunction | None = None, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self._own_loss = loss
        self.evaluation_cpu = self.evaluation_seconds = 0.0
        self._evaluating = False

    def compute_loss(  # type: ignore[override]
        self, model: Any, inputs: Any, return_outputs: bool = False, **rest: Any
    ) -> Any:
        if self._own_loss is None or not model.training:
            inputs = {k: v for k, v in inputs.items() if k != "soft_targets"}
            return super().compute_loss(model, inputs, return_outputs, **rest)
        labels = inputs.pop("labels")
        rows = {"soft_targets": inputs.pop("soft_targets")}
        return self._own_loss(model(**inputs).logits.float(), labels, rows)

    def evaluate(self, *args: Any, **rest: Any) -> Any:
        # Of several sets Trainer's own calls this one again for each: counted once.
        outer, self._evaluating = not self._evaluating, True
        started, cpu = time.perf_counter(), time.process_time()
        found = super().evaluate(*args, **rest)
        if outer:
            self.evaluation_cpu += time.process_time() - cpu
            self.evaluation_seconds += time.perf_counter() - started
            self._evaluating = False
        return found


def _collator(tokenizer: Any) -> Callable[[list[Sample]], dict[str, Tensor]]:
    pad = DataCollatorWithPadding(tokenizer)

    def collate(rows: list[Sample]) -> dict[str, Tensor]:
        # `pad` knows tokens and labels only.
        targets = [row["soft_targets"] for row in rows if "soft_targets" in row]
        plain = [{k: v for k, v in row.items() if k != "soft_targets"} for row in rows]
        batch = dict(pad(plain))
        if targets:
            batch["soft_targets"] = torch.tensor(targets)
        return batch

    return collate


def make_trainer(
    model: nn.Module,
    data: TaskData,
    training: TrainingConfig,
    train: list[Sample],
    folder: Path,
    *,
    loss: LossFunction | None = None,
    target: Callable[[float], float] | None = None,
    quick: Mapping[Role, list[Sample]] | None = None,
) -> Any:
    """Return a Trainer at its sensible best for this machine.

    Args:
        loss: of (logits, labels, rows); None takes the model's own cross-entropy.
        target: progress -> sparsity, for pruning; embeddings are frozen then.
        quick: evaluated at half-time.
    """
    steps = max(1, round(training.epochs * -(-len(train) // training.batch_size)))
    if target is not None:
        for module in embeddings(model):
            module.requires_grad_(False)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        warmup_steps=training.warmup,
        max_grad_norm=training.max_grad_norm,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        bf16=training.precision == "bf16",
        train_sampling_strategy="group_by_length",
        eval_strategy="steps" if quick else "no",
        # Once: a multiple of this comes only after the last step.
        eval_steps=steps // 2 + 1 if quick else None,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        seed=training.seed,
    )
    trainer = _Timed(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=quick,
        data_collator=_collator(data.tokenizer),
        callbacks=[PlainPruning(target)] if target is not None else None,
        compute_metrics=lambda found: {
            "accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())
        },
        loss=loss,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def log_probs(trainer: Any, rows: list[Sample]) -> NDArray[np.float32]:
    """Return log-probabilities of samples, (N, C) float32."""
    logits = torch.from_numpy(trainer.predict(rows).predictions)
    found: NDArray[np.float32] = logits.float().log_softmax(-1).numpy()
    return found


def compressed(config: TrialConfig, data: TaskData) -> tuple[nn.Module, Any]:
    """Return a trial's model as it starts, and its pruning target (None where none is pruned)."""
    seed = config.training.seed
    model = load_encoder(config.model, label_names=data.task.label_names, seed=seed)
    settings: Any = config.compression
    if settings.name == "student":
        keep_blocks(model, range(settings.num_layers))
        return model, None
    if settings.name == "magnitude":
        return model, lambda done: sparsity_at(done, final=settings.sparsity)
    return model, None


def run(
    config: TrialConfig,
    data: TaskData,
    folder: Path,
    *,
    loss: LossFunction | None = None,
    rows: dict[str, Tensor] | None = None,
) -> Result:
    """Train, evaluate and save one trial.

    Args:
        config: compression dense, magnitude, or student of the first layers.
        data: tokenised already.
        folder: for the weights.
        loss: see `make_trainer`.
        rows: per-sample tensors of the loss.
    """
    started = time.perf_counter()
    model, target = compressed(config, data)
    open_splits = [s for role in ("id_dev", "ood_dev") for s in data.task.of_role(role)]
    train = samples(data, data.task.train, **(rows or {}))
    quick = {s.role: samples(data, data.sample(s)) for s in open_splits}
    trainer = make_trainer(
        model, data, config.training, train, folder, loss=loss, target=target, quick=quick
    )
    clock, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    train_cpu = time.process_time() - cpu - trainer.evaluation_cpu
    train_seconds = time.perf_counter() - clock - trainer.evaluation_seconds
    accuracy: dict[Role, float] = {}
    for split in open_splits:
        found = trainer.predict(samples(data, split))
        accuracy[split.role] = float((found.predictions.argmax(-1) == found.label_ids).mean())
    trainer.save_model(str(folder / "model"))
    return Result(train_cpu, train_seconds, time.perf_counter() - started, accuracy)


def prune_through(
    model: nn.Module,
    data: TaskData,
    training: TrainingConfig,
    levels: Sequence[float],
    train: list[Sample],
    folder: Path,
) -> list[NDArray[np.float32]]:
    """Prune a teacher through all levels in one run; return each level's outputs on train."""

    def target(done: float) -> float:
        return milestones_at(done, levels=levels, num_prunings=5)

    found: list[NDArray[np.float32]] = []
    trainer = make_trainer(model, data, training, train, folder, target=target)
    total = trainer.args.max_steps
    ends = [max(1, round(total * (k + 1) / len(levels))) for k in range(len(levels))]

    class Judge(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.global_step in ends:
                found.append(log_probs(trainer, train))

    trainer.add_callback(Judge())
    trainer.train()
    return found
