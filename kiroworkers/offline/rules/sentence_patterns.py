"""
Match an idea against the usual forms of a wish, with one function for each.

Examples are "As a …", "Users should be able to …", "Let managers …", "Add …" and "CSV
export".  A function returns an `Idea`, or None if the text does not have its form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from kiroworkers.offline.rules import verbs
from kiroworkers.offline.rules.action import Action, split_actions, split_clause, verb_at_start
from kiroworkers.offline.rules.facts import as_fact
from kiroworkers.offline.rules.people import as_actor, is_person, is_system, split_beneficiary
from kiroworkers.offline.rules.words import (
    bare,
    looks_english,
    quote,
    shorten,
    uncapitalised,
)

MAX_PHRASE_LENGTH = 300

_WISH = r"(?:want|need|would like|'d like|would love|wish|have|should be able|must be able)"
AS_A = re.compile(
    rf"^as (?:an? |the )?(?P<who>.{{1,100}}?),? (?:i|we) ?(?:can|must|should|{_WISH}(?: to| for)?)"
    r"(?: be able to| have)?(?P<what> .+)$",
    re.I,
)
_VERB_FOLLOWS = re.compile(r"^.{0,120}\b(?:to|can|must|should|able to)\b $", re.I)
_AS_A_COLON = re.compile(r"^as an? (?P<who>[^,:]{1,60})[,:] ?(?P<what>.+)$", re.I)
_I_WANT = re.compile(rf"^(?:i|we) ?{_WISH}(?: to| for)?(?: be able to)?(?P<what> .+)$", re.I)
_POSSIBLE = re.compile(
    r"^(?:it should be|it must be|make it|should be) (?:possible|able|easy)(?: for "
    r"(?P<who>.{1,60}?))? to (?P<what>.+)$",
    re.I,
)
_LET = re.compile(
    r"^(?:let|allow|enable|help|permit|give|allowing|letting|show|offer|provide) "
    r"(?P<who>(?:[\w'-]+ ){1,5}?)(?:to |(?:a|the) (?:way|ability|option|chance|possibility) to |"
    r"(?=[a-z]))(?P<what>.+)$",
    re.I,
)
_TELL = re.compile(
    r"^(?P<verb>notify|alert|remind|inform|warn|tell)(?: (?P<who>(?:[\w'-]+ "
    r"){0,3}?[\w'-]+))(?P<what> (?:when|if|before|after|about|of|that|once|by|via|every|on|two|"
    r"\d).*)?$",
    re.I,
)
_MODAL = re.compile(
    r"^(?P<who>.{1,80}?) (?P<modal>cannot|can't|could not|must not|should not|shouldn't|may not|"
    r"mustn't|should never|must never|should only|must only|should|must|can|could|may|will|shall|"
    r"needs? to|wants? to|would like to|ha(?:ve|s) to)(?: also)?(?: be (?:able|allowed) to)? "
    r"(?P<what>.+)$",
    re.I,
)
_NEED = re.compile(r"^(?P<who>.{1,80}?) (?:needs?|wants?) (?P<what>(?!to\b).+)$", re.I)
_FEATURE = re.compile(
    r"^(?:(?:add|support|implement|introduce|provide|offer|develop|include|have|create|build|"
    r"make|need|there (?:should|must) be|allow|enable) )?(?:an? |the |some )?(?:(?:support|an? "
    r"option|possibility|option|ability|way|function|feature|functionality)(?: (?P<how>for|to|"
    r"of))) (?P<what>.+)$",
    re.I,
)
_OFFER = re.compile(
    r"^(?:support|implement|introduce|provide|offer|develop|include|there (?:should|must) be|"
    r"allow|enable) (?P<what>.+)$",
    re.I,
)
_MAKE = re.compile(r"^(?:add|create|build|make|design) (?P<what>(?:an? |the |some )?.+)$", re.I)
_STATEMENT = re.compile(
    r"^(?:(?:i|we) \w|(?P<who>.{1,80}?) (?:is|are|has|doesn't|does not|don't|do not|isn't|"
    r"aren't|fails?|crash(?:es)?|takes?|lacks?|gets? lost|keeps?|freezes?|breaks?)\b).*$",
    re.I,
)
TROUBLE = re.compile(
    r"\b(?:slow|slowly|broken|wrong|error|errors|crash\w*|fails?|missing|not|too|never|bug|"
    r"confus\w*|lost|lose|hard|difficult|forget\w*|doesn't|don't|isn't|aren't|can't|cannot|"
    r"takes?|waste\w*|annoying|manual\w*|tedious|freez\w*|breaks?|nobody|no one|impossible|"
    r"expensive|unclear|mistakes?|delays?|wait\w*|miss(?:es)?|without)\b",
    re.I,
)
_NEGATIVE = ("not", "n't", "never", "cannot")


@dataclass(frozen=True)
class Idea:
    """
    Represent an idea as understood.

    Attributes:
        actions: At least one action; the first is the main one.
        actor: Who acts; empty if the idea names nobody.
        benefit: Why they act; empty if the idea gives no reason.
        fact: The required state, if the idea asks for a state rather than an action.
        condition: A condition such as "when a build fails"; may be empty.
        only: Whether nobody but the actor may do it.
        remarks: The sentences beside the main one.
        understood: False if the words were taken as they are.
    """

    actions: tuple[Action, ...]
    actor: str = ""
    benefit: str = ""
    fact: str = ""
    condition: str = ""
    only: bool = False
    remarks: tuple[str, ...] = ()
    understood: bool = True

    @property
    def action(self) -> Action:
        """
        Return the main action.
        """
        return self.actions[0]

    @property
    def wish(self) -> str:
        """
        Return the text that completes "I want to".
        """
        joined = join_actions(self.actions)
        if self.condition and self.condition not in joined:
            joined = f"{joined} {self.condition}"
        return shorten(joined, MAX_PHRASE_LENGTH)


def join_actions(actions: tuple[Action, ...]) -> str:
    """
    Return the actions as one phrase.
    """
    texts = [action.text for action in actions]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


# The patterns, in the order in which they are tried.


def _as_a(text: str) -> Idea | None:
    match = AS_A.match(text) or _AS_A_COLON.match(text)
    if match is None:
        return None
    verbal = _VERB_FOLLOWS.search(text[: match.start("what") + 1]) is not None
    inner = _read_without_actor(match["what"].strip(), verbal)
    return replace(inner, actor=as_actor(match["who"]))


def _i_want(text: str) -> Idea | None:
    match = _I_WANT.match(text)
    if match is None:
        return None
    what = match["what"].strip()
    delegated = re.match(r"(?P<who>(?:[\w-]+ ){1,4})to (?P<what>.+)$", what)
    if delegated is not None and is_person(delegated["who"].strip()):
        return _read_wish(delegated["what"], delegated["who"].strip(), what, verbal=True)
    return _read_without_actor(
        what, verbal=_VERB_FOLLOWS.match(text[: match.start("what") + 1]) is not None
    )


def _possible(text: str) -> Idea | None:
    match = _POSSIBLE.match(text)
    return None if match is None else _read_wish(match["what"], match["who"] or "", text, True)


def _let(text: str) -> Idea | None:
    match = _LET.match(text)
    if match is None:
        return None
    # The actor is the longest beginning of the phrase that names a person.
    tokens = text.split(" ")[1:7]
    for size in range(len(tokens) - 1, 0, -1):
        who = " ".join(tokens[:size])
        if is_person(who) and not who.endswith(","):
            what = text.split(" ", size + 1)[size + 1]
            what = re.sub(
                r"^(?:to|(?:a|the) (?:way|ability|option|chance|possibility) to) ",
                "",
                what,
                flags=re.I,
            )
            return _read_wish(what, who, text, verbal=True)
    return None


def _tell(text: str) -> Idea | None:
    match = _TELL.match(text)
    notifies_author = match is not None and match["who"].lower() in ("me", "us")
    if match is None or not (notifies_author or is_person(match["who"])):
        return None
    verb = (
        "be told"
        if match["verb"].lower() == "tell"
        else (f"be {verbs.participle(match['verb'].lower())}")
    )
    action = Action(f"{verb}{_in_first_person(match['what'] or '')}", verb, "notify")
    return Idea((action,), "" if notifies_author else as_actor(match["who"]))


def _modal(text: str) -> Idea | None:
    match = _MODAL.match(text)
    if match is None:
        return None
    who, modal, what = match["who"], match["modal"].lower(), match["what"]
    only = who.lower().startswith("only ") or modal.endswith(" only")
    if modal in ("cannot", "can't", "could not") and (is_person(who) or who.lower() in ("i", "we")):
        return _read_wish(what, "" if who.lower() in ("i", "we") else who, text, verbal=True)
    if modal.endswith(_NEGATIVE):
        fact = f"{uncapitalised(who)} cannot {what}"
        free = what.lower().startswith(("have to", "need to"))
        if free:
            fact = as_fact(uncapitalised(who), what, negative=True)
        kind = "" if free else "protect"
        return Idea((Action(f"make sure that {fact}", "make sure", kind),), fact=fact)
    if is_person(who) and not is_system(who):
        return replace(_read_wish(what, who, text, verbal=True), only=only)
    if who.lower() in ("i", "we", "you", "one", "it", "there"):
        return _read_without_actor(what, verbal=True)
    # The sentence asks for a state of a thing, so the wish is to have that state.
    subject = uncapitalised(who)
    state = re.sub(r"^be ", "", what, flags=re.I)
    action = Action(f"have {subject} {state}", "have", "", subject)
    return Idea((action,), fact=as_fact(subject, what))


def _need(text: str) -> Idea | None:
    match = _NEED.match(text)
    if match is None or not is_person(match["who"]):
        return None
    return replace(_read_without_actor(match["what"]), actor=as_actor(match["who"]))


def _feature(text: str) -> Idea | None:
    match = _FEATURE.match(text) or _OFFER.match(text)
    if match is not None:
        verbal = (match.groupdict().get("how") or "").lower() == "to"
        return _read_wish(match["what"], "", text, verbal)
    made = _MAKE.match(text)
    if made is None:
        return None
    # "Add dark mode" asks for a feature; "add a comment to a story" is a user's action.
    what = re.sub(r"^(?:an?|the|some) ", "", made["what"], flags=re.I)
    head = re.split(r" (?:to|for|of|in|on|with|from|by|that|which|when|as|at)\b", what)[0]
    named = bare(head.split(" ")[-1]).lower()
    if named in verbs.FEATURE_NOUNS or named in verbs.BASE_OF_GERUND:
        return _read_wish(what, "", text)
    return None


def _statement(text: str) -> Idea | None:
    if _STATEMENT.match(split_clause(text)[0]) is None or verb_at_start(text):
        return None
    statement = uncapitalised(text)
    if TROUBLE.search(text):
        problem = Action(f"have this problem fixed: {statement}", "have", "fix", statement)
        return Idea((problem,), fact=f"it no longer happens that {statement}")
    return Idea(
        (Action(f"be sure that {statement}", "be sure", "validate", statement),), fact=statement
    )


_PATTERNS: tuple[Callable[[str], Idea | None], ...] = (
    _as_a,
    _i_want,
    _possible,
    _let,
    _tell,
    _modal,
    _need,
    _feature,
    _statement,
)


def read_sentence(text: str) -> Idea:
    """
    Return the idea in one sentence, by the first pattern that matches.
    """
    text = text[:1000]
    for pattern in _PATTERNS:
        idea = pattern(text)
        if idea is not None:
            return idea
    return _read_without_actor(text)


def _read_without_actor(text: str, verbal: bool = False) -> Idea:
    """
    Return the idea in a wish whose actor is known or not named.
    """
    for pattern in (_possible, _tell, _feature):
        idea = pattern(text)
        if idea is not None:
            return idea
    return _read_wish(text, "", text, verbal)


def _read_wish(wish: str, who: str, sentence: str, verbal: bool = False) -> Idea:
    wish = re.sub(r"^(?:display|show) (?:me |us |users )?(?=\S)", "see ", wish, flags=re.I)
    wish = _in_first_person(wish) if who else wish
    actor = as_actor(who) if who else ""
    if not actor:
        wish, actor = split_beneficiary(wish)
    actions = tuple(split_actions(shorten(wish, MAX_PHRASE_LENGTH), verbal))
    if not actions:
        actions = (Action(f"have {quote(sentence)}", "have", "", quote(sentence)),)
    understood = looks_english(sentence, verbs.KNOWN)
    return Idea(actions, actor, understood=understood)


def _in_first_person(text: str) -> str:
    """
    Return a phrase such as "change their password" in the first person.
    """
    text = re.sub(r"\b(their|his or her|his/her) own\b", "my own", text, flags=re.I)
    text = re.sub(r"^(\s*\w+(?: \w+)?) (?:their|his or her|his/her|your) ", r"\1 my ", text)
    return re.sub(
        r"\bthemselves\b",
        "myself",
        re.sub(r"\b(when|before|after|if|once|while) they (?!are\b|were\b)", r"\1 I ", text),
    )
