"""What Du et al. 2023 print in tables 1 to 5, and beside which figures of ours it may stand.

paper_results.csv holds the rows: accuracies in percent, relative bias per task; empty cells are not
printed there. Out-of-distribution sets weigh by size: FEVER Symmetric v1 and v2 712 each, PAWS-wiki
8,000, PAWS-qqp 677.
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
# Section 4. Task -> samples: train with what we carve id_dev from, then our test suites.
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
# Releases of one set differ by single rows (Symmetric v1 is published with 717), and overlap with
# the test roles is taken out of train.
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
        table: number in the paper.
        model: the teacher.
        compression: ours where we have it (`magnitude-40`), else the paper's name.
        loss: our plugin name.
        values: column -> figure, printed ones only.
    """

    table: int
    model: str
    compression: str
    loss: str
    values: dict[str, float]

    def accuracies(self, task: str) -> tuple[float, float] | None:
        """Return (ID, OOD over the union) in percent, None where the paper has none."""
        id_column, sizes, _ = TASKS[task]
        if id_column not in self.values or any(name not in self.values for name in sizes):
            return None
        total = sum(sizes.values())
        ood = sum(self.values[name] * size for name, size in sizes.items()) / total
        return self.values[id_column], ood

    def printed_bias(self, task: str) -> float | None:
        """Return the relative bias as printed."""
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
    """Return why no figure of the paper may stand in a sweep's table; empty where they may.

    Args:
        config: of the sweep, resolved; its task is one of `TASKS`.
        stage: the roles shown, `dev` or `test`.
        train: `<role>.<suite>` -> facts with `samples`, of the dense reference; of train and
            id_dev, not asked where there are none.
        tested: the same of the opened test roles.
    """
    task, model = config["task"], str(config["model"]).partition("@")[0]
    whole, sizes = _SIZES[task["name"]]
    reasons = []
    if model not in _MODELS:
        # That alone is enough: sizes of sets matter to those who repeat the paper.
        return [f"the model is {model}, the paper's is {_MODELS[0]}"]
    if len(task.get("labels") or ()) == 2:
        reasons.append("two labels, the paper has three")
    if stage != "test":
        return [*reasons, "dev roles hold none of the paper's test sets"]
    own = {name: int(facts["samples"]) for name, facts in tested.items()}
    missing, other = sorted(set(sizes) - set(own)), sorted(set(own) - set(sizes))
    reasons += [f"{name} is not there" for name in missing]
    reasons += [f"{name} is none of the paper's" for name in other]
    reasons += [
        f"{name} holds {own[name]:,} samples, the paper's {size:,}"
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
    """Return the paper's row of a configuration of BERT-base, or why there is none.

    Args:
        task: one of `TASKS`; the row has its accuracies.
        label: of the compression.
        compression: its section.
        loss: label of the loss, and what else a trial's name says.
    """
    # How the levels of the paper's difficulty are trained is no setting of the loss; the paper's
    # own way, `mode=independent`, is not the default here.
    name, *options = loss.removesuffix(" init=teacher").partition(" loss_variance ")[0].split(" ")
    if any(not option.startswith("alpha=") for option in options):
        return "the paper's losses have other settings"
    wanted = _paper_s_label(label, compression)
    if wanted is None:
        return "starts from the teacher, the paper's (as we read it) from the pretrained encoder"
    found = [r for r in rows() if r.compression.partition(" (")[0] == wanted and r.loss == name]
    if not found or found[0].accuracies(task) is None:
        return "no such row in the paper"
    # Table 3 prints three runs; the others print means of three.
    same = [row for row in found if row.table == found[0].table]
    means = {k: sum(row.values[k] for row in same) / len(same) for k in found[0].values}
    return PaperRow(found[0].table, found[0].model, wanted, name, means)


def _paper_s_label(label: str, compression: Mapping[str, Any]) -> str | None:
    """Return what paper_results.csv calls a compression; None for a start that is not the paper's.

    Its students of six layers differ in where they start, see rc_core/compression/student.py.
    """
    of_teacher = compression.get("init") == "teacher"
    if label == "student-6":
        return "Truncated-l6" if of_teacher else "Pretrained-l6"
    if of_teacher:
        return None
    if label == "student-distilbert-base-uncased":
        whose = str(compression.get("model")).partition("@")[0]
        return "DistilBERT" if whose in _DISTILBERT else label
    # Further options follow the share in the label.
    if label.startswith("heads-") and " " not in label:
        removed = round(compression.get("remove", 0.0) * _HEADS)
        return "heads-19.4" if removed == _HEADS_REMOVED else label
    return label
