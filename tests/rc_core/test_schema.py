"""Problems of a section: one for each key, at the place that the YAML has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from rc_core.config import decode
from rc_core.errors import ConfigError
from rc_core.schema import Section, validate_section

ALPHA = "must be a number above 0 and at most 1, or 'auto', but is "
EXPERT = "must be a mapping of level, or 'hypothesis_only', but is "


def problems(loss: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        decode({"model": "tiny:bert", "loss": loss})
    return [(problem.where, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.5, "1.5"),
        (0.0, "0.0"),
        (True, "True"),
        (None, "None"),
        ("0.5", "'0.5'"),
        ([0.5], "[0.5]"),
        (float("nan"), "nan"),
        ("aut", "'aut'; did you mean 'auto'?"),
    ],
)
def test_a_key_of_several_types_has_one_problem(value: Any, said: str) -> None:
    assert problems({"name": "rmc", "alpha": value}) == [("loss.alpha", ALPHA + said)]


@pytest.mark.parametrize("name", ["poe", "conf_reg"])
def test_a_section_or_a_name_has_the_problems_of_what_was_meant(name: str) -> None:
    near = EXPERT + "'hypothesis_onl'; did you mean 'hypothesis_only'?"
    assert problems({"name": name, "expert": "hypothesis_onl"}) == [("loss.expert", near)]
    assert problems({"name": name, "expert": 3}) == [("loss.expert", f"{EXPERT}3")]
    assert problems({"name": name, "expert": {"level": 1.5}}) == [
        ("loss.expert.level", "input should be less than 1, but got 1.5")
    ]
    ((where, said),) = problems({"name": name, "expert": {"levl": 0.5}})
    assert where == "loss.expert.levl"
    assert said == "unknown key 'levl': did you mean 'level'? available: level"


def test_other_problems_are_told_beside_it() -> None:
    found = problems({"name": "rmc", "alpha": 7, "lambda": 3.0, "shufled": True})
    assert sorted(where for where, _ in found) == ["loss.alpha", "loss.lambda", "loss.shufled"]


class Inner(Section):
    """Has a check of the whole."""

    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def ordered(self) -> Inner:
        """Check the order."""
        if self.low > self.high:
            raise ValueError("must have low below high")
        return self


class Outer(Section):
    """Has unions below a section, and with null."""

    inner: Inner | Literal["none"] | None = None
    count: Annotated[int, Field(ge=2)] | bool | None = None


class Whole(Section):
    """Has a section."""

    outer: Outer = Outer()


@pytest.mark.parametrize(
    ("outer", "where", "said"),
    [
        ({"inner": {"low": 3}}, "outer.inner", "must have low below high, but got {'low': 3}"),
        (
            {"inner": {"low": "3"}},
            "outer.inner.low",
            "input should be a valid integer, but got '3'",
        ),
        ({"count": 1}, "outer.count", "must be a whole number at least 2, or true or false"),
        ({"inner": 4}, "outer.inner", "must be a mapping of high, low, or 'none', or null, but"),
    ],
)
def test_keys_of_several_types_below_a_section(
    outer: dict[str, Any], where: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_section(Whole, {"outer": outer}, "top")
    (problem,) = caught.value.problems
    assert problem.where == f"top.{where}"
    assert problem.message.startswith(said)
