"""An independent reading of the generated sentences: which facts does a sentence assert?

It knows the words but none of the templates: a small recursive grammar of English clauses. A fact
is (who, verb) or (who, verb, whom), each person a noun with its number.
"""

from __future__ import annotations

from rc_core.data._nli_words import (
    HYPERNYM_PLURAL,
    HYPERNYM_SINGULAR,
    INTRANSITIVE,
    PEOPLE,
    TRANSITIVE,
    WORDS,
)

Fact = tuple[str, ...]

_SYNONYMS = {
    synonym: word
    for word, synonym in [
        *TRANSITIVE,
        *INTRANSITIVE,
        *((entry[0], entry[2]) for entry in PEOPLE),
        *((entry[1], entry[3]) for entry in PEOPLE),
    ]
    if synonym is not None
}
_SINGULAR = {entry[0] for entry in PEOPLE}
_PLURAL = {entry[1] for entry in PEOPLE}
_KINDS = {
    **dict.fromkeys(_SINGULAR | _PLURAL, "noun"),
    **{word: "does to" for word, _ in TRANSITIVE},
    **{word: "does" for word, _ in INTRANSITIVE},
    **{word: kind for kind, words in WORDS.items() for word in words},
}


class Reader:
    """Reads one sentence; `facts` are those that are asserted, `said` those of the main clauses."""

    def __init__(self, sentence: str) -> None:
        text = sentence.lower().removesuffix(".").replace(",", " ,")
        text = text.replace(HYPERNYM_SINGULAR, "the person").replace(HYPERNYM_PLURAL, "the people")
        self._words = [_SYNONYMS.get(word, word) for word in text.split()]
        self._at = 0
        self.facts: set[Fact] = set()
        self.facts = self._sentence()
        assert self._at == len(self._words), (sentence, self._words[self._at :])

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _kind(self) -> str:
        word = self._peek()
        return "noun" if word in ("person", "people") else _KINDS.get(word, word)

    def _take(self) -> str:
        self._at += 1
        return self._words[self._at - 1]

    def _takes(self, *kinds: str) -> bool:
        found = self._kind() in kinds
        self._at += found
        return found

    def _sentence(self) -> set[Fact]:
        """Read parts joined by "and" or "but", which bind less than "or" and conjunctions."""
        facts = self._part()
        while self._peek():
            self._takes(",")
            assert self._take() in ("and", "but")
            facts |= self._part()
        return facts

    def _part(self) -> set[Fact]:
        if self._takes("if"):
            self._subordinate()
            return set()
        if self._takes("because"):
            return self._subordinate()
        if self._takes("perhaps"):
            self._clause()
            return set()
        self._takes("certainly")
        facts = self._clause()
        if self._takes("or"):
            self._clause()
            return set()
        return facts

    def _subordinate(self) -> set[Fact]:
        """Read "A, B" after its conjunction."""
        first = self._clause()
        assert self._take() == ","
        return first | self._clause()

    def _clause(self) -> set[Fact]:
        none = self._takes("no")
        subjects, facts = self._people()
        facts |= self._verb_phrase(subjects, none)
        while self._peek() == "but" and self._continues_with_a_verb():
            self._take()
            facts |= self._verb_phrase(subjects, none)
        return facts

    def _continues_with_a_verb(self) -> bool:
        following = self._words[self._at + 1]
        return _KINDS.get(following, following) in ("never", "adverb", "does", "does to")

    def _verb_phrase(self, subjects: set[str], none: bool) -> set[Fact]:
        facts: set[Fact] = set()
        never = self._takes("never")
        self._takes("adverb")
        verb = self._kind()
        if self._takes("was", "were"):
            word = self._take()
            assert self._take() == "by"
            agents, more = self._people()
            return facts | more | {(agent, word, each) for agent in agents for each in subjects}
        word = self._take()
        asserted: set[Fact]
        if verb == "does":
            asserted, more = {(subject, word) for subject in subjects}, set()
        elif verb == "knew":
            self._takes("that")
            return facts | self._clause()
        elif verb == "hoped":
            self._takes("that")
            self._clause()
            return facts
        else:
            assert verb in ("does to", "believed"), word
            start = self._at
            objects, more = self._people()
            if self._kind() in ("does", "does to"):
                assert verb == "believed"
                # A clause is believed, not a person; nothing says that it holds.
                self._at = start
                self._clause()
                return facts
            asserted = {(subject, word, whom) for subject in subjects for whom in objects}
        if self._takes("in"):
            self._place()
        return facts | more | (set() if none or never else asserted)

    def _people(self) -> tuple[set[str], set[Fact]]:
        """Read a noun phrase: the people meant, and what is asserted of them on the way."""
        heads, facts = self._person()
        while self._peek() == "and" and self._is_conjoined_person():
            self._take()
            more_heads, more = self._person()
            heads, facts = heads | more_heads, facts | more
        return heads, facts

    def _is_conjoined_person(self) -> bool:
        """Tell "A and B slept" from "A slept and B slept": after a verb, a clause follows "and"."""
        rest = self._words[self._at + 1 :]
        verbs = [_KINDS.get(word) in ("does", "does to") for word in rest]
        before = [_KINDS.get(word) in ("does", "does to") for word in self._words[: self._at]]
        return not any(before) or not any(verbs)

    def _person(self) -> tuple[set[str], set[Fact]]:
        self._takes("the")
        self._takes("adjective")
        head = self._take()
        assert head in _SINGULAR | _PLURAL | {"person", "people"}, head
        if self._takes("near"):
            if self._words[self._at + 1] in WORDS["place"]:
                self._place()
                return {head}, set()
            return {head}, self._person()[1]
        if not self._takes("who"):
            return {head}, set()
        if self._kind() == "does":
            return {head}, {(head, self._take())}
        if self._kind() == "does to":
            verb = self._take()
            objects, facts = self._person()
            return {head}, facts | {(head, verb, whom) for whom in objects}
        agents, facts = self._person()
        verb = self._take()
        return {head}, facts | {(agent, verb, head) for agent in agents}

    def _place(self) -> None:
        self._takes("the")
        assert self._take() in WORDS["place"]


def entails(premise: str, hypothesis: str) -> bool:
    """Tell whether the hypothesis' only fact is asserted by the premise."""
    (wanted,) = Reader(hypothesis).facts
    return any(_implies(fact, wanted) for fact in Reader(premise).facts)


def _implies(fact: Fact, wanted: Fact) -> bool:
    return len(fact) == len(wanted) and all(map(_is_a, fact, wanted))


def _is_a(given: str, wanted: str) -> bool:
    kinds = {"person": _SINGULAR, "people": _PLURAL}
    return given == wanted or given in kinds.get(wanted, ())
