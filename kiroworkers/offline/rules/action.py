"""
Read an action in English: "export the list to CSV" as a verb and its object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kiroworkers.offline.rules import verbs
from kiroworkers.offline.rules.words import (
    CLAUSES,
    DETERMINERS,
    FUNCTION_WORDS,
    PREPOSITIONS,
    PRONOUNS,
    bare,
    is_plural,
    looks_english,
    plural,
    quote,
    uncapitalised,
    word_set,
)

_ADVERBS = word_set("also just only quickly easily always never directly")
_CLAUSE = re.compile(
    r"(?:^|,? )(?=(?:when|if|after|before|once|while|unless|whenever|until|as soon as|each time|"
    r"every time)\b )",
    re.I,
)
_JOINT = re.compile(
    r"(,? (?:and then|and also|as well as|and|then|or|plus) (?:to |also )?|, )", re.I
)
_TIME = re.compile(
    r"(?:every|each) (?:\w+day|morning|evening|night|day|week|month|quarter|year|hour|minute|"
    r"\d+)|daily|weekly|monthly|hourly|automatically|again|anytime",
    re.I,
)
# The object of "upload up to 10 files" is "files", that of "drag and drop stories" is "stories".
_LIMIT = re.compile(r"^(?:(?:up to|at least|at most|more than) \d+ |and \w+ )", re.I)
_COMPARATIVE = re.compile(
    r" (?:better|faster|easier|nicer|simpler|\w{3,}er|more \w+|less \w+)$", re.I
)
_BE_NOTIFIED = re.compile(r"^(?:be|get) (?:notified|alerted|reminded|informed|warned|told)\b", re.I)
_HAVE_A = tuple(f"have {determiner} " for determiner in ("a", "an", "the", "some", "my", "our"))
_QUESTION_WORDS = word_set("which what who how whether where when that why")
_BREAKS = (PREPOSITIONS - {"of"}) | CLAUSES | {"which", "not"}
# Prepositions that stand between a verb and its object: "search for stories".
_OBJECT_PREPOSITIONS = {
    "search": ("for",), "look": ("for", "at"), "find": ("out",), "comment": ("on",),
    "log": ("in", "into"), "sign": ("in", "up"), "reply": ("to",), "connect": ("to", "with"),
    "integrate": ("with",), "subscribe": ("to",), "vote": ("on", "for"), "sync": ("with",),
    "go": ("to",), "chat": ("with",), "talk": ("to",), "register": ("for",), "pay": ("for",),
    "filter": ("by", "on"), "sort": ("by",), "report": ("on",), "answer": ("to",),
}  # fmt: skip
#: Pairs of verbs that are one action.
_VERB_PAIRS = frozenset(
    {
        ("drag", "drop"),
        ("copy", "paste"),
        ("cut", "paste"),
        ("find", "replace"),
        ("search", "replace"),
        ("point", "click"),
        ("plug", "play"),
        ("log in", "out"),
        ("pick", "choose"),
    }
)
_MANNERS = {
    "bulk": "in bulk", "batch": "in batches", "automatic": "automatically",
    "automated": "automatically", "quick": "quickly", "daily": "every day",
    "weekly": "every week", "monthly": "every month", "scheduled": "on a schedule",
    "offline": "offline", "real-time": "in real time", "manual": "by hand",
}  # fmt: skip
_FORMATS = word_set(
    "csv pdf excel xlsx xls json xml html markdown yaml zip png svg word ical docx text"
)
_INTO_FORMAT = {"export": "as", "import": "from", "download": "as", "upload": "as"}


@dataclass(frozen=True)
class Action:
    """
    Represent one thing to do.

    Attributes:
        text: The whole phrase.
        verb: The verb in base form; empty if unknown.
        kind: The kind of action, a key of `verbs.KINDS`; empty if unknown.
        object: The thing that the action is done to; empty if unknown.
    """

    text: str
    verb: str = ""
    kind: str = ""
    object: str = ""

    @property
    def rest(self) -> str:
        """
        Return the text after the verb.
        """
        lower = self.text.lower()
        index = lower.find(self.verb) if self.verb else -1
        return self.text[index + len(self.verb) :].strip() if index >= 0 else self.text


def split_clause(text: str) -> tuple[str, str]:
    """
    Split `text` before its condition, such as "when a build fails".
    """
    clause = _CLAUSE.search(text)
    if clause is None or clause.start() == 0:
        return text, ""
    return bare(text[: clause.start()]), text[clause.end() :]


def verb_at_start(text: str) -> str:
    """
    Return the verb at the start of `text`, in base form.

    The result is empty if there is none, or if the word could just as well be a noun.
    """
    tokens = [token.lower().strip(',.:;"“”') for token in text.split(" ", 4)[:4]]
    if tokens and (tokens[0] in _ADVERBS or (len(tokens[0]) > 4 and tokens[0].endswith("ly"))):
        tokens = tokens[1:]
    if not tokens:
        return ""
    two = " ".join(tokens[:2])
    if verbs.is_verb(two) and len(tokens) > 1:
        return two
    verb, following = tokens[0], tokens[1] if len(tokens) > 1 else ""
    if not verbs.is_verb(verb):
        return ""
    if following == "and" and verbs.is_verb(" ".join(tokens[2:3])):
        return verb
    if verb in verbs.ALSO_NOUNS and not _follows_verb(following):
        return ""
    return verb


def _follows_verb(word: str) -> bool:
    if word in verbs.FEATURE_NOUNS:
        return False
    return (
        word in DETERMINERS
        or word in PRONOUNS
        or word in PREPOSITIONS - {"of"}
        or word in ("up", "out", "back")
        or is_plural(word)
        or word in verbs.PARTICIPLES
        or word[:1].isdigit()
        or word in ("multiple", "several", "many", "old", "new", "open", "data")
    )


def read_action(text: str, verbal: bool = False) -> Action:
    """
    Return the action that a phrase describes.

    Args:
        text: A phrase such as "to export stories" or "CSV export".
        verbal: Whether the phrase stood where only a verb can stand ("should …").
    """
    original = re.sub(r"^(?:to|be able to) ", "", bare(text), flags=re.I)
    text = uncapitalised(original)
    notified = _BE_NOTIFIED.match(text)
    if notified is not None:
        return Action(text, notified[0].lower(), "notify")
    verb = verb_at_start(text)
    if verb == "have" and text.lower().startswith(_HAVE_A):
        return _read_noun_phrase(text.split(" ", 1)[1])
    if verb:
        return _read_verb_phrase(text, verb)
    first, _, rest = text.partition(" ")
    if verbal and rest and first.isalpha() and first.lower() not in FUNCTION_WORDS:
        return _read_verb_phrase(text, first.lower())
    base = verbs.BASE_OF_GERUND.get(first.lower(), "")
    if base and rest.split(" ")[0].lower() not in verbs.FEATURE_NOUNS:
        return _read_verb_phrase(f"{base} {rest}".strip(), base)
    if verbs.is_verb(first.lower()) and (not rest or first.lower() not in verbs.ALSO_NOUNS):
        return _read_verb_phrase(text, first.lower())
    return _read_noun_phrase(original)


def _read_verb_phrase(text: str, verb: str) -> Action:
    if verb == "make" and _COMPARATIVE.search(text):
        return Action(text, verb, "improve", _object(_COMPARATIVE.sub("", text), verb))
    thing = _object(text, verb)
    kind = verbs.kind_of(verb)
    if verb in ("get", "receive", "have"):
        # To get a message is to be notified, but to get a report is to see figures.
        head = _noun_and_complement(thing)[0].split(" ")[-1].lower()
        kind = verbs.FEATURE_NOUNS.get(head, "").partition("+")[2] or kind
    return Action(text, verb, kind, thing)


def _object(text: str, verb: str) -> str:
    after = split_clause(text[text.lower().find(verb) + len(verb) :].strip())[0]
    tokens = _LIMIT.sub("", _TIME.sub("", after).strip()).split()
    if tokens and tokens[0].lower() in PRONOUNS:
        return ""
    if tokens and tokens[0].lower() in (
        *_OBJECT_PREPOSITIONS.get(verb.split(" ")[0], ()),
        "through",
    ):
        # "filter by status" has no object.
        tokens = [] if tokens[0].lower() in ("by", "in", "into") else tokens[1:]
    if tokens and tokens[0].lower() in _QUESTION_WORDS:
        return bare(" ".join(tokens))
    kept_tokens: list[str] = []
    for token in tokens:
        if (
            bare(token).lower() in _BREAKS
            or (kept_tokens and token == "up")
            or (kept_tokens[-1:] == ["of"] and token[:1].isdigit())
        ):
            break
        kept_tokens.append(token)
        if token.endswith((",", ";", ":", ".")):
            break
    thing = bare(" ".join(kept_tokens)).removesuffix(" of")
    return thing if thing.lower() not in PRONOUNS else ""


def _read_noun_phrase(text: str) -> Action:
    """
    Return the action that a feature of this name lets somebody do.
    """
    original, text = text, uncapitalised(text)
    head, tail = _noun_and_complement(text)
    modifiers = head.split(" ")
    noun = modifiers.pop().lower()
    meaning = verbs.FEATURE_NOUNS.get(noun, "") or verbs.BASE_OF_GERUND.get(noun, "")
    if meaning and "+" not in meaning and text.split(" ")[0].lower() not in DETERMINERS:
        doing = _noun_to_action(meaning, modifiers, tail)
        if doing:
            return read_action(doing) if verb_at_start(doing) else _read_verb_phrase(doing, meaning)
    thing = text if looks_english(text, verbs.KNOWN) else quote(original)
    verb, marked, kind = meaning.partition(" +")
    if not marked:
        verb, kind = "have", "use"
    return Action(f"{verb} {thing}", verb, kind, _object(f"x {thing}", "x") or thing)


def _noun_and_complement(text: str) -> tuple[str, str]:
    tokens = text.split(" ")
    for index, token in enumerate(tokens):
        if index and bare(token).lower() in _BREAKS | {"of"}:
            return " ".join(tokens[:index]), " ".join(tokens[index:])
    return text, ""


def _noun_to_action(verb: str, modifiers: list[str], tail: str) -> str:
    """
    Return "export invoices as CSV" for "CSV", "invoice" and "export".

    The result is empty if the modifiers do not make it clear.
    """
    manners = [_MANNERS[modifier.lower()] for modifier in modifiers if modifier.lower() in _MANNERS]
    formats = [modifier for modifier in modifiers if modifier.lower() in _FORMATS]
    things = [
        modifier
        for modifier in modifiers
        if modifier.lower() not in _MANNERS and modifier not in formats
    ]
    whose = tail.removeprefix("of ") if tail.startswith("of ") else ""
    if any(
        thing[:1].islower()
        and thing.endswith(("al", "ed", "ic", "ive", "-text", "y"))
        and thing
        not in (
            "story",
            "category",
            "company",
            "inventory",
            "query",
            "history",
            "policy",
            "entry",
            "delivery",
            "property",
            "activity",
        )
        for thing in things
    ):
        return ""
    target = " ".join([*things, whose]) if whose else plural(" ".join(things)) if things else ""
    if formats and not target:
        target = "data"
    into = [f"{_INTO_FORMAT.get(verb, 'as')} {' and '.join(formats)}"] if formats else []
    rest = tail if tail and not whose else ""
    # A name such as Slack has no plural.
    if verb == "connect to":
        target = whose or " ".join(things) or rest.removeprefix("with ").removeprefix("to ")
        rest = ""
    return " ".join(part for part in [verb, target, *into, *manners, rest] if part)


def split_actions(text: str, verbal: bool = False) -> list[Action]:
    """
    Return the actions in `text`, in order.

    An "and" between nouns ("name and email") does not separate actions.

    Args:
        text: A phrase with one or more actions.
        verbal: Whether the phrase stood where only a verb can stand ("should …").
    """
    main, clause = split_clause(bare(text))
    pieces = _JOINT.split(main)
    phrases = [pieces[0]]
    joints = zip(pieces[1::2], pieces[2::2], strict=True)
    bare_verbs = verbs.is_verb(uncapitalised(re.sub(r"^to ", "", pieces[0])).lower())
    verbal = verbal or (bare_verbs and len(pieces) > 1)
    for joint, piece in joints:
        alone = bare_verbs and verbs.is_verb(piece.split(" ")[0].lower())
        if (phrases[-1].lower(), piece.split(" ")[0].lower()) in _VERB_PAIRS:
            phrases[-1] += joint + piece
            bare_verbs = False
        elif alone or _starts_action(piece):
            phrases.append(piece)
            bare_verbs = bare_verbs and verbs.is_verb(piece.lower())
        else:
            phrases[-1] += joint + piece
            bare_verbs = False
    actions = [read_action(phrase, verbal) for phrase in phrases if phrase.strip()]
    if clause and actions:
        last = actions.pop()
        actions.append(Action(f"{last.text} {clause}", last.verb, last.kind, last.object))
    # All three actions of "create, edit and delete users" have the object "users".
    shared = actions[-1].object if actions else ""
    return [
        Action(
            action.text,
            action.verb,
            action.kind,
            action.object
            or (shared if action is not actions[-1] and action.text.lower() == action.verb else ""),
        )
        for action in actions
    ]


def _starts_action(piece: str) -> bool:
    verb = verb_at_start(piece)
    if not verb:
        return False
    following = piece[len(verb) :].strip().split(" ")[0].lower()
    if verb in verbs.ALSO_NOUNS:
        return following in DETERMINERS or following in PRONOUNS
    return following not in PREPOSITIONS or " " in verb
