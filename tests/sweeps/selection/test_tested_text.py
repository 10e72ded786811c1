"""The opened test as text, of more than one suite."""

from __future__ import annotations

from typing import Any

from sweeps.selection.tested_text import test_table as sealed_table

NAME = "student-1 smooth degree=0.35"


def over_seeds(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.158, "high": mean + 0.158, "n": 2}


def row(identity: str, name: str, suites: list[str]) -> dict[str, Any]:
    reference = identity == "t0000"
    return {
        "id": identity,
        "name": name,
        "reference": reference,
        "seeds": [1000, 1001],
        "accuracy": {"id": over_seeds(0.8), "ood": over_seeds(0.7), "ood_seen": None},
        "suites": {suite: over_seeds(0.6) for suite in suites},
        "ood_difference": None if reference else over_seeds(-30.5),
        "verdict": None if reference else "open",
        "relative_bias": None,
        "bias_reason": None if reference else "the reference's ID-OOD gap is small",
        "drop": {},
    }


def test_names_can_be_read_beside_several_suites() -> None:
    for suites in (["elsewhere", "other"], ["customer_reviews_of_another_year", "other", "b"]):
        rows = [row("t0000", "dense vanilla", suites), row("t0004", NAME, suites)]
        document = {
            "design": "search",
            "basis": "confirmed",
            "opened": 0.0,
            "selection": ["t0004"],
            "rows": rows,
            "floors": {"id_test": {"bag_of_words": 0.5}, "ood_test": {"bag_of_words": 0.5}},
        }
        text = sealed_table(document)
        assert NAME in text and "bag of words" in text, text
        assert all(f"{suite} %" in text for suite in suites)
        assert "\u2026" not in text
