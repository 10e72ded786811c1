"""The vocabulary of `shortcut_nli`: people, what they do, and where.

No word of a list means, or implies, another word of the same list, so replacing one by another
always turns an entailed sentence into one that is not entailed. Words that *are* implied stand
beside it: a synonym, and for people the hypernyms below. Every past tense is its own participle
("was helped").
"""

from __future__ import annotations

# singular, plural, synonym's singular and plural (or none)
PEOPLE: tuple[tuple[str, str, str | None, str | None], ...] = (
    ("doctor", "doctors", "physician", "physicians"),
    ("lawyer", "lawyers", "attorney", "attorneys"),
    ("author", "authors", "writer", "writers"),
    ("professor", "professors", None, None),
    ("actor", "actors", None, None),
    ("judge", "judges", None, None),
    ("banker", "bankers", None, None),
    ("senator", "senators", None, None),
    ("secretary", "secretaries", None, None),
    ("scientist", "scientists", None, None),
    ("manager", "managers", "boss", "bosses"),
    ("tourist", "tourists", None, None),
    ("student", "students", "pupil", "pupils"),
    ("athlete", "athletes", None, None),
    ("president", "presidents", None, None),
    ("guard", "guards", None, None),
    ("farmer", "farmers", None, None),
    ("soldier", "soldiers", None, None),
    ("nurse", "nurses", None, None),
    ("pilot", "pilots", None, None),
    ("singer", "singers", None, None),
    ("dancer", "dancers", None, None),
    ("driver", "drivers", None, None),
    ("detective", "detectives", None, None),
    ("priest", "priests", None, None),
    ("king", "kings", "monarch", "monarchs"),
    ("engineer", "engineers", None, None),
    ("architect", "architects", None, None),
    ("journalist", "journalists", "reporter", "reporters"),
    ("thief", "thieves", "robber", "robbers"),
    ("sailor", "sailors", None, None),
    ("hunter", "hunters", None, None),
    ("clerk", "clerks", None, None),
    ("painter", "painters", None, None),
    ("chef", "chefs", "cook", "cooks"),
    ("mayor", "mayors", None, None),
    ("coach", "coaches", None, None),
    ("miner", "miners", None, None),
    ("prisoner", "prisoners", None, None),
    ("merchant", "merchants", None, None),
)

# What every one of PEOPLE is.
HYPERNYM_SINGULAR = "a person"
HYPERNYM_PLURAL = "some people"

# past tense, synonym
TRANSITIVE: tuple[tuple[str, str | None], ...] = (
    ("helped", "assisted"),
    ("hired", "employed"),
    ("called", "contacted"),
    ("praised", "commended"),
    ("warned", "alerted"),
    ("paid", None),
    ("thanked", None),
    ("blamed", None),
    ("ignored", None),
    ("visited", None),
    ("chased", "pursued"),
    ("stopped", "halted"),
    ("feared", None),
    ("hated", "despised"),
    ("admired", None),
    ("advised", None),
    ("attacked", "assaulted"),
    ("encouraged", None),
    ("interviewed", None),
    ("recognized", None),
    ("mentioned", None),
    ("captured", "caught"),
    ("tricked", "fooled"),
    ("welcomed", "greeted"),
    ("insulted", None),
    ("robbed", None),
    ("sued", None),
    ("invited", None),
    ("fired", "dismissed"),
    ("pushed", "shoved"),
)

# past tense, synonym
INTRANSITIVE: tuple[tuple[str, str | None], ...] = (
    ("slept", None),
    ("danced", None),
    ("smiled", "grinned"),
    ("waited", None),
    ("shouted", "yelled"),
    ("laughed", None),
    ("arrived", None),
    ("cried", "wept"),
    ("prayed", None),
    ("sang", None),
    ("apologized", None),
    ("collapsed", None),
    ("vanished", "disappeared"),
    ("listened", None),
    ("voted", None),
    ("coughed", None),
    ("waved", None),
    ("hesitated", None),
    ("resigned", "quit"),
    ("failed", None),
    ("swam", None),
    ("retired", None),
    ("traveled", None),
    ("stumbled", "tripped"),
    ("worked", None),
    ("studied", None),
)

# Single words a slot of a template may stand for.
WORDS: dict[str, tuple[str, ...]] = {
    "near": ("near", "behind", "beside", "opposite"),
    "place": ("park", "office", "library", "museum", "hotel", "garden", "station", "kitchen"),
    "adjective": ("happy", "tall", "angry", "young", "rich", "tired", "famous", "quiet"),
    "adverb": ("quickly", "secretly", "suddenly", "openly", "finally", "often"),
    # Verbs that take a person or a clause; the clause does not imply the person.
    "believed": ("believed", "heard", "doubted", "suspected", "forgot", "remembered"),
    "hoped": ("hoped", "claimed", "thought", "assumed", "suggested", "said"),
    "knew": ("knew", "realized", "noticed", "learned", "saw", "discovered"),
    "if": ("if", "unless"),
    "because": ("because", "since", "although", "after", "while"),
    "perhaps": ("perhaps", "maybe", "supposedly", "allegedly", "possibly", "hopefully"),
    "certainly": ("certainly", "clearly", "obviously", "definitely", "naturally", "luckily"),
}
