"""Templates of `shortcut_nli`, after HANS's subcases (McCoy et al. 2019, tables 6 and 7).

In every template all words of the hypothesis occur in the premise, so the three heuristics say
"entailment": `lexical_overlap` (the words in any order), `subsequence` (a contiguous part), and
`constituent` (a contiguous part that is a clause of its own). Whether that is true depends on the
structure alone, and the template states it. `seen` subcases occur in every split, the others in
ood_test only.

Slots: N a person or people, V a transitive and I an intransitive verb, each with a number; `was1`
agrees with N1; other slots are lists in `_nli_words.WORDS`. Filling a template adds the capital
letter and the full stop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rc_core.data._nli_words import (
    HYPERNYM_PLURAL,
    HYPERNYM_SINGULAR,
    INTRANSITIVE,
    PEOPLE,
    TRANSITIVE,
    WORDS,
)

Heuristic = Literal["lexical_overlap", "subsequence", "constituent"]
HEURISTICS: tuple[Heuristic, ...] = ("lexical_overlap", "subsequence", "constituent")

_SLOT = re.compile(r"\{([A-Za-z]+)(\d?)\}")


@dataclass(frozen=True)
class Subcase:
    """One way to make a hypothesis from its premise's words.

    Attributes:
        name: as in HANS, if it is there: l, s, c for the heuristic, e or n for the label.
        templates: (premise, hypothesis) with slots.
        seen: whether it occurs outside ood_test.
        control: entailed, although the premise has the words (never, no, if, or) that make pairs of
            another subcase not entailed: the same premises, another hypothesis. Without controls
            those words would predict the label, and a bag of words would be right out of
            distribution.
    """

    name: str
    templates: tuple[tuple[str, str], ...]
    seen: bool
    control: bool = False

    @property
    def heuristic(self) -> Heuristic:
        return next(name for name in HEURISTICS if name[0] == self.name[0])

    @property
    def entailed(self) -> bool:
        return self.name[1] == "e"


def _seen(name: str, *templates: tuple[str, str]) -> Subcase:
    return Subcase(name, templates, seen=True)


def _control(name: str, *templates: tuple[str, str]) -> Subcase:
    return Subcase(name, templates, seen=True, control=True)


def _unseen(name: str, *templates: tuple[str, str]) -> Subcase:
    return Subcase(name, templates, seen=False)


SUBCASES: tuple[Subcase, ...] = (
    # --- lexical overlap, entailed
    _seen("le_passive", ("{N1} {was1} {V1} by {N2}", "{N2} {V1} {N1}")),
    _seen(
        "le_around_prepositional_phrase",
        ("{N1} {near} {N2} {V1} {N3}", "{N1} {V1} {N3}"),
        ("{N1} {near} the {place} {I1}", "{N1} {I1}"),
    ),
    _seen(
        "le_adverb",
        ("{N1} {adverb} {V1} {N2}", "{N1} {V1} {N2}"),
        ("{N1} {adverb} {I1}", "{N1} {I1}"),
    ),
    _control(
        "le_negation_of_other_verb",
        ("{N1} {adverb} {V1} {N2} but never {I1}", "{N1} {V1} {N2}"),
        ("{N1} never {V1} {N2} but {adverb} {I1}", "{N1} {I1}"),
    ),
    _unseen(
        "le_relative_clause",
        ("{N1} who {N2} {V1} {I1}", "{N2} {V1} {N1}"),
        ("{N3} {V2} {N1} who {N2} {V1}", "{N2} {V1} {N1}"),
    ),
    _unseen(
        "le_around_relative_clause",
        ("{N1} who {V1} {N2} {I1}", "{N1} {I1}"),
        ("{N1} who {I1} {V1} {N2}", "{N1} {V1} {N2}"),
    ),
    _unseen(
        "le_conjunction",
        ("{N1} and {N2} {V1} {N3}", "{N1} {V1} {N3}"),
        ("{N1} {V1} {N2} and {N3}", "{N1} {V1} {N3}"),
    ),
    # --- lexical overlap, not entailed
    _seen(
        "ln_negation",
        ("{N1} never {V1} {N2}", "{N1} {V1} {N2}"),
        ("{N1} {adverb} {V1} {N2} but never {I1}", "{N1} {I1}"),
    ),
    _unseen(
        "ln_subject_object_swap",
        ("{N1} {V1} {N2}", "{N2} {V1} {N1}"),
        ("{N1} {V1} {N2} in the {place}", "{N2} {V1} {N1}"),
    ),
    _unseen(
        "ln_negation_after_relative_clause",
        ("{N1} who {V1} {N2} never {I1}", "{N1} {I1}"),
        ("{N1} who {I1} never {V1} {N2}", "{N1} {V1} {N2}"),
    ),
    _unseen("ln_passive", ("{N1} {was1} {V1} by {N2}", "{N1} {V1} {N2}")),
    _unseen(
        "ln_preposition",
        ("{N1} {near} {N2} {V1} {N3}", "{N3} {V1} {N1}"),
        ("{N1} {near} {N2} {V1} {N3}", "{N1} {V1} {N2}"),
    ),
    # --- subsequence, entailed
    _seen(
        "se_conjunction",
        ("{N1} and {N2} {I1}", "{N2} {I1}"),
        ("{N1} and {N2} {V1} {N3}", "{N2} {V1} {N3}"),
    ),
    _seen(
        "se_PP_on_object",
        ("{N1} {V1} {N2} {near} {N3}", "{N1} {V1} {N2}"),
        ("{N1} {believed} {N2} {near} the {place}", "{N1} {believed} {N2}"),
    ),
    _seen(
        "se_adjective",
        ("{adjective} {P1} {I1}", "{P1} {I1}"),
        ("{adjective} {P1} {V1} {N2}", "{P1} {V1} {N2}"),
    ),
    _control(
        "se_no_on_other_subject",
        ("{adjective} {P1} {I1} but no {P2} {I2}", "{P1} {I1}"),
        ("no {P1} {I1} but {adjective} {P2} {V1} {N3}", "{P2} {V1} {N3}"),
    ),
    _unseen(
        "se_relative_clause_on_object",
        ("{N1} {V1} {N2} who {I1}", "{N1} {V1} {N2}"),
        ("{N1} {believed} {N2} who {V1} {N3}", "{N1} {believed} {N2}"),
    ),
    # --- subsequence, not entailed
    _seen(
        "sn_no",
        ("no {P1} {V1} {N2}", "{P1} {V1} {N2}"),
        ("{adjective} {P1} {I1} but no {P2} {I2}", "{P2} {I2}"),
    ),
    _unseen(
        "sn_PP_on_subject",
        ("{N1} {near} {N2} {I1}", "{N2} {I1}"),
        ("{N1} {near} {N2} {V1} {N3}", "{N2} {V1} {N3}"),
    ),
    _unseen(
        "sn_no_before_adjective",
        ("no {adjective} {P1} {I1}", "{adjective} {P1} {I1}"),
        ("no {adjective} {P1} {V1} {N2}", "{P1} {V1} {N2}"),
    ),
    _unseen(
        "sn_relative_clause_on_subject",
        ("{N1} who {V1} {N2} {I1}", "{N2} {I1}"),
        ("{N1} who {V2} {N2} {V1} {N3}", "{N2} {V1} {N3}"),
    ),
    _unseen(
        "sn_NP_S",
        ("{N1} {believed} {N2} {I1}", "{N1} {believed} {N2}"),
        ("{N1} {believed} {N2} {V1} {N3}", "{N1} {believed} {N2}"),
    ),
    # --- constituent, entailed
    _seen(
        "ce_embedded_under_because",
        ("{because} {N1} {I1} , {N2} {I2}", "{N1} {I1}"),
        ("{because} {N1} {V1} {N2} , {N3} {I2}", "{N1} {V1} {N2}"),
    ),
    _seen(
        "ce_conjunction",
        ("{N1} {I1} and {N2} {I2}", "{N1} {I1}"),
        ("{N1} {I1} and {N2} {V1} {N3}", "{N2} {V1} {N3}"),
    ),
    _control(
        "ce_outside_if_clause",
        ("{N1} {I1} , and {if} {N2} {V1} {N3} , {N0} {I2}", "{N1} {I1}"),
        ("{if} {N1} {I1} , {N2} {I2} , but {N3} {V1} {N0}", "{N3} {V1} {N0}"),
    ),
    _control(
        "ce_outside_disjunction",
        ("{N1} {I1} or {N2} {I2} , but {N3} {V1} {N0}", "{N3} {V1} {N0}"),
        ("{N1} {I1} , but {N2} {I2} or {N3} {V1} {N0}", "{N1} {I1}"),
    ),
    _unseen(
        "ce_embedded_under_verb",
        ("{N1} {knew} that {N2} {I1}", "{N2} {I1}"),
        ("{N1} {knew} {N2} {V1} {N3}", "{N2} {V1} {N3}"),
    ),
    _unseen(
        "ce_adverb",
        ("{certainly} {N1} {I1}", "{N1} {I1}"),
        ("{certainly} {N1} {V1} {N2}", "{N1} {V1} {N2}"),
    ),
    # --- constituent, not entailed
    _seen(
        "cn_embedded_under_if",
        ("{if} {N1} {I1} , {N2} {I2}", "{N1} {I1}"),
        ("{N1} {I1} , and {if} {N2} {V1} {N3} , {N0} {I2}", "{N2} {V1} {N3}"),
    ),
    _seen(
        "cn_disjunction",
        ("{N1} {I1} or {N2} {I2}", "{N1} {I1}"),
        ("{N1} {I1} , but {N2} {I2} or {N3} {V1} {N0}", "{N3} {V1} {N0}"),
    ),
    _unseen(
        "cn_after_if_clause",
        ("{if} {N1} {I1} , {N2} {I2}", "{N2} {I2}"),
        ("{if} {N1} {I1} , {N2} {V1} {N3}", "{N2} {V1} {N3}"),
    ),
    _unseen(
        "cn_embedded_under_verb",
        ("{N1} {hoped} that {N2} {I1}", "{N2} {I1}"),
        ("{N1} {hoped} {N2} {V1} {N3}", "{N2} {V1} {N3}"),
    ),
    _unseen(
        "cn_adverb",
        ("{perhaps} {N1} {I1}", "{N1} {I1}"),
        ("{perhaps} {N1} {V1} {N2}", "{N1} {V1} {N2}"),
    ),
)


class Draw:
    """Fills templates of one pair; a slot keeps its value, and values of a kind differ."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._people = generator.permutation(len(PEOPLE))[:8].tolist()
        self._plural = generator.integers(0, 2, size=8).astype(bool).tolist()
        self._transitive = generator.permutation(len(TRANSITIVE))[:6].tolist()
        self._intransitive = generator.permutation(len(INTRANSITIVE))[:6].tolist()
        self._words: dict[str, str] = {}

    def fill(self, template: str, changes: dict[str, str] | None = None) -> str:
        """Return the template as a sentence.

        Args:
            changes: slot -> text to put there instead (`novel`, `implied`).
        """
        changed = changes or {}
        text = _SLOT.sub(lambda slot: changed.get(slot[1] + slot[2]) or self._value(slot), template)
        return f"{text[0].upper()}{text[1:]}.".replace(" ,", ",")

    def novel(self, slot: str) -> str:
        """Return another value for a slot: not in the premise, and implied by nothing in it."""
        kind, number = slot[0], int(slot[1:])
        if kind in "NP":
            return self._person(number + 4, bare=kind == "P", plural=self._plural[number])
        return self._verb(kind, number + 3)

    def implied(self, slot: str) -> str | None:
        """Return other words for a slot that its value implies, or None where there are none."""
        kind, number = slot[0], int(slot[1:])
        if kind in "NP":
            entry, plural = PEOPLE[int(self._people[number])], self._plural[number] or kind == "P"
            synonym = entry[3] if plural else entry[2]
            if synonym is not None and self._generator.integers(0, 2):
                return synonym if kind == "P" else f"the {synonym}"
            return HYPERNYM_PLURAL if plural else HYPERNYM_SINGULAR
        verbs, index = (
            (TRANSITIVE, self._transitive) if kind == "V" else (INTRANSITIVE, self._intransitive)
        )
        return verbs[int(index[number])][1]

    def _value(self, slot: re.Match[str]) -> str:
        name, digit = slot[1], slot[2]
        number = int(digit or 0)
        if name in ("N", "P"):
            return self._person(number, bare=name == "P", plural=self._plural[number])
        if name in ("V", "I"):
            return self._verb(name, number)
        if name == "was":
            return "were" if self._plural[number] else "was"
        if name not in self._words:
            options = WORDS[name]
            self._words[name] = options[int(self._generator.integers(0, len(options)))]
        return self._words[name]

    def _person(self, number: int, *, bare: bool, plural: bool) -> str:
        entry = PEOPLE[int(self._people[number])]
        if bare:
            return entry[1]
        return f"the {entry[1] if plural else entry[0]}"

    def _verb(self, kind: str, number: int) -> str:
        if kind == "V":
            return TRANSITIVE[int(self._transitive[number])][0]
        return INTRANSITIVE[int(self._intransitive[number])][0]


def changeable_slots(template: str) -> list[str]:
    """Return the slots of people and verbs: what `novel` and `implied` can change."""
    return [
        kind + number for kind, number in _SLOT.findall(template) if kind in ("N", "P", "V", "I")
    ]
