"""What one trial costs the driver's bookkeeping, at growing numbers of trials.

    python -m tests.benchmarks.bookkeeping

Rungs are ranked and the front is kept up as trials come in; the time per trial may grow with the
size of the front, not with the number of trials. Processor time, no Ray, no training.
"""

from __future__ import annotations

import time
from random import Random

from rc_core.record import TrialRecord
from sweeps.engine.live_front import LiveFront
from sweeps.engine.ranking import AnyMetricRanking, MetricRanking, ParetoRanking, Ranking

OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}
SIZES = (500, 1_000, 2_000, 4_000)


def values(n: int) -> list[tuple[float, float]]:
    """Return accuracies that go together, with noise, in steps of a sample of 1,000."""
    random = Random(0)
    found = []
    for _ in range(n):
        good = random.gauss(0.8, 0.08)
        found.append((round(good, 3), round(0.6 * good + random.gauss(0, 0.06), 3)))
    return found


def rank(ranking: Ranking, n: int) -> float:
    """Return milliseconds per trial that arrives at a rung and is judged there."""
    points = values(n)
    started = time.process_time()
    for number, (a, b) in enumerate(points):
        ranking.add(str(number), (-a, -b))
        ranking.among_best(str(number), -(-len(ranking) // 3))
    return 1e3 * (time.process_time() - started) / n


def keep_front(n: int) -> float:
    """Return milliseconds per trial that ends, the gain of the last twenty included."""
    records = [
        TrialRecord.model_construct(
            id=str(number),
            status="finished",
            config={},
            fingerprint=str(number),
            started=0.0,
            reference=False,
            metrics=dict(zip(OBJECTIVES, point, strict=True)),
        )
        for number, point in enumerate(values(n))
    ]
    front = LiveFront(OBJECTIVES, window=20)
    started = time.process_time()
    for record in records:
        front.add(record)
        front.gain()
    return 1e3 * (time.process_time() - started) / n


def main() -> None:
    """Print a table in Markdown."""
    print("| ms of processor time per trial, at | " + " | ".join(f"{n:,}" for n in SIZES) + " |")
    print("|---" * (len(SIZES) + 1) + "|")
    rows = {
        "`pareto_asha`, a rung": lambda n: rank(ParetoRanking(2), n),
        "`and_rule`, a rung": lambda n: rank(AnyMetricRanking(2), n),
        "`asha`, a rung": lambda n: rank(MetricRanking(), n),
        "front and hypervolume": keep_front,
    }
    for name, measure in rows.items():
        print(f"| {name} | " + " | ".join(f"{measure(n):.3f}" for n in SIZES) + " |")


if __name__ == "__main__":
    main()
