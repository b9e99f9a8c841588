"""
Reading what somebody wants to do: "export the list to CSV" as verb and object.
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
# "upload up to 10 files" speaks of files, "drag and drop stories" of stories.
_LIMIT = re.compile(r"^(?:(?:up to|at least|at most|more than) \d+ |and \w+ )", re.I)
_COMPARED = re.compile(r" (?:better|faster|easier|nicer|simpler|\w{3,}er|more \w+|less \w+)$", re.I)
_BE_TOLD = re.compile(r"^(?:be|get) (?:notified|alerted|reminded|informed|warned|told)\b", re.I)
_HAVING = tuple(f"have {each} " for each in ("a", "an", "the", "some", "my", "our"))
_ASKING = word_set("which what who how whether where when that why")
_BREAKS = (PREPOSITIONS - {"of"}) | CLAUSES | {"which", "not"}
# "search for stories" speaks of the stories.
_TAKES = {
    "search": ("for",), "look": ("for", "at"), "find": ("out",), "comment": ("on",),
    "log": ("in", "into"), "sign": ("in", "up"), "reply": ("to",), "connect": ("to", "with"),
    "integrate": ("with",), "subscribe": ("to",), "vote": ("on", "for"), "sync": ("with",),
    "go": ("to",), "chat": ("with",), "talk": ("to",), "register": ("for",), "pay": ("for",),
    "filter": ("by", "on"), "sort": ("by",), "report": ("on",), "answer": ("to",),
}  # fmt: skip
#: One action in two words.
_PAIRS = frozenset(
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
    One thing to do: `text` in full, its `verb` in base form with its `kind`,
    and what it is done to (`object`); empty where we cannot tell.
    """

    text: str
    verb: str = ""
    kind: str = ""
    object: str = ""

    @property
    def rest(self) -> str:
        """
        All that follows the verb.
        """
        lower = self.text.lower()
        at = lower.find(self.verb) if self.verb else -1
        return self.text[at + len(self.verb) :].strip() if at >= 0 else self.text


def split_clause(text: str) -> tuple[str, str]:
    """
    `text` before its condition, and the condition: "… when a build fails".
    """
    found = _CLAUSE.search(text)
    if found is None or found.start() == 0:
        return text, ""
    return bare(text[: found.start()]), text[found.end() :]


def verb_at_start(text: str) -> str:
    """
    The verb that `text` begins with, in base form; empty when a noun is as likely.
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
    if word in verbs.NOUNS:
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
    `text`, a phrase such as "to export stories" or "CSV export", as an action.

    Args:
        verbal: it stood where only a verb can ("should …", "want to …").
    """
    original = re.sub(r"^(?:to|be able to) ", "", bare(text), flags=re.I)
    text = uncapitalised(original)
    told = _BE_TOLD.match(text)
    if told is not None:
        return Action(text, told[0].lower(), "notify")
    verb = verb_at_start(text)
    if verb == "have" and text.lower().startswith(_HAVING):
        return _read_noun(text.split(" ", 1)[1])
    if verb:
        return _done(text, verb)
    first, _, rest = text.partition(" ")
    if verbal and rest and first.isalpha() and first.lower() not in FUNCTION_WORDS:
        return _done(text, first.lower())
    base = verbs.BASE_OF_GERUND.get(first.lower(), "")
    if base and rest.split(" ")[0].lower() not in verbs.NOUNS:
        return _done(f"{base} {rest}".strip(), base)
    if verbs.is_verb(first.lower()) and (not rest or first.lower() not in verbs.ALSO_NOUNS):
        return _done(text, first.lower())
    return _read_noun(original)


def _done(text: str, verb: str) -> Action:
    if verb == "make" and _COMPARED.search(text):
        return Action(text, verb, "improve", _object(_COMPARED.sub("", text), verb))
    thing = _object(text, verb)
    kind = verbs.kind_of(verb)
    if verb in ("get", "receive", "have"):
        # To get a message is to be notified, to get a report is to see figures.
        head = _noun_and_complement(thing)[0].split(" ")[-1].lower()
        kind = verbs.NOUNS.get(head, "").partition("+")[2] or kind
    return Action(text, verb, kind, thing)


def _object(text: str, verb: str) -> str:
    after = split_clause(text[text.lower().find(verb) + len(verb) :].strip())[0]
    tokens = _LIMIT.sub("", _TIME.sub("", after).strip()).split()
    if tokens and tokens[0].lower() in PRONOUNS:
        return ""
    if tokens and tokens[0].lower() in (*_TAKES.get(verb.split(" ")[0], ()), "through"):
        # "filter by status" names no object of its own.
        tokens = [] if tokens[0].lower() in ("by", "in", "into") else tokens[1:]
    if tokens and tokens[0].lower() in _ASKING:
        return bare(" ".join(tokens))
    kept: list[str] = []
    for token in tokens:
        if (
            bare(token).lower() in _BREAKS
            or (kept and token == "up")
            or (kept[-1:] == ["of"] and token[:1].isdigit())
        ):
            break
        kept.append(token)
        if token.endswith((",", ";", ":", ".")):
            break
    found = bare(" ".join(kept)).removesuffix(" of")
    return found if found.lower() not in PRONOUNS else ""


def _read_noun(text: str) -> Action:
    """
    What somebody does who has a thing of this name.
    """
    original, text = text, uncapitalised(text)
    head, tail = _noun_and_complement(text)
    modifiers = head.split(" ")
    noun = modifiers.pop().lower()
    meaning = verbs.NOUNS.get(noun, "") or verbs.BASE_OF_GERUND.get(noun, "")
    if meaning and "+" not in meaning and text.split(" ")[0].lower() not in DETERMINERS:
        doing = _nominal(meaning, modifiers, tail)
        if doing:
            return read_action(doing) if verb_at_start(doing) else _done(doing, meaning)
    thing = text if looks_english(text, verbs.KNOWN) else quote(original)
    verb, marked, kind = meaning.partition(" +")
    if not marked:
        verb, kind = "have", "use"
    return Action(f"{verb} {thing}", verb, kind, _object(f"x {thing}", "x") or thing)


def _noun_and_complement(text: str) -> tuple[str, str]:
    tokens = text.split(" ")
    for at, token in enumerate(tokens):
        if at and bare(token).lower() in _BREAKS | {"of"}:
            return " ".join(tokens[:at]), " ".join(tokens[at:])
    return text, ""


def _nominal(verb: str, modifiers: list[str], tail: str) -> str:
    """
    "CSV", "invoice" and "export" as "export invoices as CSV"; empty when unsure.
    """
    manners = [_MANNERS[each.lower()] for each in modifiers if each.lower() in _MANNERS]
    formats = [each for each in modifiers if each.lower() in _FORMATS]
    things = [each for each in modifiers if each.lower() not in _MANNERS and each not in formats]
    whose = tail.removeprefix("of ") if tail.startswith("of ") else ""
    if any(
        each[:1].islower()
        and each.endswith(("al", "ed", "ic", "ive", "-text", "y"))
        and each
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
        for each in things
    ):
        return ""
    thing = " ".join([*things, whose]) if whose else plural(" ".join(things)) if things else ""
    if formats and not thing:
        thing = "data"
    into = [f"{_INTO_FORMAT.get(verb, 'as')} {' and '.join(formats)}"] if formats else []
    rest = tail if tail and not whose else ""
    # A name such as Slack is one of a kind.
    if verb == "connect to":
        thing = whose or " ".join(things) or rest.removeprefix("with ").removeprefix("to ")
        rest = ""
    return " ".join(each for each in [verb, thing, *into, *manners, rest] if each)


def split_actions(text: str, verbal: bool = False) -> list[Action]:
    """
    The actions in `text`, one after the other.

    "And" between nouns ("name and email") parts nothing.
    """
    main, clause = split_clause(bare(text))
    pieces = _JOINT.split(main)
    phrases = [pieces[0]]
    joints = zip(pieces[1::2], pieces[2::2], strict=True)
    bare_verbs = verbs.is_verb(uncapitalised(re.sub(r"^to ", "", pieces[0])).lower())
    verbal = verbal or (bare_verbs and len(pieces) > 1)
    for joint, piece in joints:
        alone = bare_verbs and verbs.is_verb(piece.split(" ")[0].lower())
        if (phrases[-1].lower(), piece.split(" ")[0].lower()) in _PAIRS:
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
    # "create, edit and delete users": all three are about users.
    shared = actions[-1].object if actions else ""
    return [
        Action(each.text, each.verb, each.kind, each.object or (shared if each is not actions[-1]
               and each.text.lower() == each.verb else "")) for each in actions
    ]  # fmt: skip


def _starts_action(piece: str) -> bool:
    verb = verb_at_start(piece)
    if not verb:
        return False
    following = piece[len(verb) :].strip().split(" ")[0].lower()
    if verb in verbs.ALSO_NOUNS:
        return following in DETERMINERS or following in PRONOUNS
    return following not in PREPOSITIONS or " " in verb
