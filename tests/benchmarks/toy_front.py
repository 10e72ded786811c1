"""What schedulers keep of a front on which every configuration is Pareto-optimal.

    python -m tests.benchmarks.toy_front

Twelve configurations x = 0, 1/11, ... 1 with ID 0.5 + 0.3 x and OOD 0.8 - 0.3 x, without noise, one
rung, judged on arrival, 200 orders. It shows the direction of the effect, not its size on models.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from rc_core import plugins
from sweeps.engine.rungs import Decision
from sweeps.selection.statistics import mean_interval
from sweeps.settings import decode_settings

OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}
ORDERS = 200
SCHEDULERS: tuple[dict[str, Any], ...] = (
    {"name": "asha"},
    {"name": "pareto_asha"},
    {"name": "pareto_asha", "first": "compromise"},
    {"name": "pareto_asha", "first": "id_dev/accuracy"},
    {"name": "and_rule"},
)


def kept(section: dict[str, Any], seed: int) -> list[float]:
    """Return the x of those that go on."""
    settings, problems = decode_settings({"scheduler": section})
    assert not problems, problems
    module = plugins.load("sweeps.schedulers", section["name"])
    rule = module.build(settings.scheduler, OBJECTIVES)
    order = list(range(12))
    Random(seed).shuffle(order)
    found = []
    for i in order:
        x = i / 11
        values = {"rung/id_dev/accuracy": 0.5 + 0.3 * x, "rung/ood_dev/accuracy": 0.8 - 0.3 * x}
        if rule.report(str(i), 1, values, settled=True) is Decision.CONTINUE:
            found.append(x)
    return found


def main() -> None:
    """Print a table in Markdown: means with their 95 % intervals."""
    print("| scheduler | survivors of 12 | of these with x < 0.5, % | span of the front, % |")
    print("|---|---|---|---|")
    for section in SCHEDULERS:
        runs = [kept(section, seed) for seed in range(ORDERS)]
        columns = (
            ([float(len(run)) for run in runs], 1),
            ([float(np.mean([x < 0.5 for x in run])) for run in runs], 100),
            ([max(run) - min(run) for run in runs], 100),
        )
        cells = [mean_interval(values) for values, _ in columns]
        scales = [scale for _, scale in columns]
        shown = [
            f"{s * c.mean:.1f} \u00b1 {s * c.half_width:.1f}"
            for c, s in zip(cells, scales, strict=True)
        ]
        label = " ".join([section["name"], *(f"{k}={v}" for k, v in list(section.items())[1:])])
        print(f"| `{label}` | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
