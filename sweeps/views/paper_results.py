"""What Du et al. 2023 print in tables 1 to 5: accuracies in percent, relative bias per task.

paper_results.csv holds the rows; empty cells are not printed there. Out-of-distribution sets weigh
by size: FEVER Symmetric v1 and v2 712 each, PAWS-wiki 8,000, PAWS-qqp 677.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

# Task -> (in-distribution column, {out-of-distribution column: size}, relative bias column).
TASKS: dict[str, tuple[str, dict[str, int], str]] = {
    "mnli": ("mnli", {"hans": 30_000}, "f_mnli"),
    "fever": ("fever", {"sym1": 712, "sym2": 712}, "f_fever"),
    "qqp": ("qqp", {"wiki": 8_000, "paws_qqp": 677}, "f_qqp"),
}


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
