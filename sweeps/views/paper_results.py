"""Results printed in tables 1 to 5 of Du et al. 2023, and when ours are comparable with them.

paper_results.csv holds the rows: accuracies in percent and relative bias per task; cells that the
paper does not print are empty. Out-of-distribution sets are weighted by size: FEVER Symmetric v1
and v2 712 each, PAWS-wiki 8,000, PAWS-qqp 677.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Task -> (in-distribution column, {out-of-distribution column: size}, relative bias column).
TASKS: dict[str, tuple[str, dict[str, int], str]] = {
    "mnli": ("mnli", {"hans": 30_000}, "f_mnli"),
    "fever": ("fever", {"sym1": 712, "sym2": 712}, "f_fever"),
    "qqp": ("qqp", {"wiki": 8_000, "paws_qqp": 677}, "f_qqp"),
}
# Section 4. Task -> samples: those of train (our id_dev is split from it), then of our test suites.
_SIZES: dict[str, tuple[int, dict[str, int]]] = {
    "mnli": (392_702, {"id_test.mnli": 9_815, "ood_test.hans": 30_000}),
    "fever": (
        242_911,
        {
            "id_test.fever": 16_664,
            "ood_test.symmetric_v1_whole": 712,
            "ood_test.symmetric_v2_test": 712,
        },
    ),
    "qqp": (
        363_846,
        {"id_test.qqp": 40_430, "ood_test.paws_wiki": 8_000, "ood_test.paws_qqp": 677},
    ),
}
# Releases of a set differ by a few rows (Symmetric v1 is published with 717), and we remove samples
# from train that also occur in a test role.
_TEST_SLACK, _TRAIN_SLACK = 0.01, 0.05
_MODELS = ("bert-base-uncased", "google-bert/bert-base-uncased")
_DISTILBERT = ("distilbert-base-uncased", "distilbert/distilbert-base-uncased")
ALPHA = {"mnli": 0.5, "fever": 0.3, "qqp": 0.2}
TRAINING = {"epochs": 5.0, "learning_rate": 2e-5}
_HEADS, _HEADS_REMOVED = 144, 28


@dataclass(frozen=True)
class PaperRow:
    """One row.

    Attributes:
        table: its number in the paper.
        model: the teacher.
        compression: our label where there is one (`magnitude-40`), else the paper's name.
        loss: our plugin name.
        values: column -> printed figure.
    """

    table: int
    model: str
    compression: str
    loss: str
    values: dict[str, float]

    def accuracies(self, task: str) -> tuple[float, float] | None:
        """Return (ID, OOD over all sets) accuracy in percent, None where the paper has none."""
        id_column, sizes, _ = TASKS[task]
        if id_column not in self.values or any(name not in self.values for name in sizes):
            return None
        total = sum(sizes.values())
        ood = sum(self.values[name] * size for name, size in sizes.items()) / total
        return self.values[id_column], ood

    def printed_bias(self, task: str) -> float | None:
        """Return the printed relative bias, None where the paper has none."""
        return self.values.get(TASKS[task][2])


def rows() -> list[PaperRow]:
    """Return every row, in the paper's order."""
    path = Path(__file__).with_name("paper_results.csv")
    found = []
    with path.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            named = {key: line.pop(key) for key in ("table", "model", "compression", "loss")}
            values = {key: float(value) for key, value in line.items() if value}
            found.append(
                PaperRow(
                    int(named["table"]), named["model"], named["compression"], named["loss"], values
                )
            )
    return found


def why_none(
    config: Mapping[str, Any],
    stage: str,
    train: Mapping[str, Any],
    tested: Mapping[str, Any],
) -> list[str]:
    """Return why the paper's figures are not comparable with a sweep's; empty if they are.

    Args:
        config: the sweep's resolved configuration; its task is one of `TASKS`.
        stage: the roles shown, `dev` or `test`.
        train: `<role>.<suite>` -> facts with `samples`, of the dense reference; not checked if it
            has neither train nor id_dev.
        tested: the same for the opened test roles.
    """
    task, model = config["task"], str(config["model"]).partition("@")[0]
    whole, sizes = _SIZES[task["name"]]
    reasons = []
    if model not in _MODELS:
        # No further reasons: the sizes of sets only matter to those who repeat the paper.
        return [f"the model is {model}, the paper's is {_MODELS[0]}"]
    if len(task.get("labels") or ()) == 2:
        reasons.append("two labels, the paper has three")
    if stage != "test":
        return [*reasons, "dev roles hold none of the paper's test sets"]
    own = {name: int(facts["samples"]) for name, facts in tested.items()}
    missing, other = sorted(set(sizes) - set(own)), sorted(set(own) - set(sizes))
    reasons += [f"{name} is missing" for name in missing]
    reasons += [f"{name} is not in the paper" for name in other]
    reasons += [
        f"{name} holds {own[name]:,} samples, the paper's has {size:,}"
        for name, size in sizes.items()
        if name in own and abs(own[name] - size) > _TEST_SLACK * size
    ]
    trained = [int(train[k]["samples"]) for k in train if k.startswith(("train.", "id_dev."))]
    if trained and sum(trained) < (1 - _TRAIN_SLACK) * whole:
        reasons.append(f"{sum(trained):,} training samples, the paper has {whole:,}")
    elif not trained and task.get("limit") is not None:
        reasons.append(f"task.limit is set, the paper has {whole:,} training samples")
    return reasons


def row_beside(task: str, label: str, compression: Mapping[str, Any], loss: str) -> PaperRow | str:
    """Return the paper's row for a configuration of BERT-base, or why there is none.

    Args:
        task: one of `TASKS`; the row has accuracies for it.
        label: of the compression.
        compression: its section of the configuration.
        loss: label of the loss, with whatever follows it in the trial's name.
    """
    # How the levels of `loss_variance` are trained is not a setting of the loss; the paper's way,
    # `mode=independent`, is not the default here.
    name, *options = loss.removesuffix(" init=teacher").partition(" loss_variance ")[0].split(" ")
    if any(not option.startswith("alpha=") for option in options):
        return "the paper's losses have other settings"
    wanted = _paper_s_label(label, compression)
    if wanted is None:
        return "starts from the teacher; the paper's (as we read it) from the pretrained encoder"
    found = [r for r in rows() if r.compression.partition(" (")[0] == wanted and r.loss == name]
    if not found or found[0].accuracies(task) is None:
        return "no such row in the paper"
    # Table 3 prints three runs; the other tables print means of three.
    same = [row for row in found if row.table == found[0].table]
    means = {k: sum(row.values[k] for row in same) / len(same) for k in found[0].values}
    return PaperRow(found[0].table, found[0].model, wanted, name, means)


def _paper_s_label(label: str, compression: Mapping[str, Any]) -> str | None:
    """Return a compression's name in paper_results.csv; None if the paper has no such start.

    Its two students of six layers differ in their start; see rc_core/compression/student.py.
    """
    of_teacher = compression.get("init") == "teacher"
    if label == "student-6":
        return "Truncated-l6" if of_teacher else "Pretrained-l6"
    if of_teacher:
        return None
    if label == "student-distilbert-base-uncased":
        whose = str(compression.get("model")).partition("@")[0]
        return "DistilBERT" if whose in _DISTILBERT else label
    # A label with options after the share is another compression.
    if label.startswith("heads-") and " " not in label:
        removed = round(compression.get("remove", 0.0) * _HEADS)
        return "heads-19.4" if removed == _HEADS_REMOVED else label
    return label
