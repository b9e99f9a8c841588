"""
The ways in which people write down what they wish, each read by one function.

"As a …", "Users should be able to …", "Let managers …", "Add …", "CSV export":
a frame gives an `Idea`, or None when the text is not of its form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from kiroworkers.offline.rules import verbs
from kiroworkers.offline.rules.action import Action, split_actions, split_clause, verb_at_start
from kiroworkers.offline.rules.facts import states
from kiroworkers.offline.rules.people import as_actor, is_person, is_system, person_served
from kiroworkers.offline.rules.words import (
    bare,
    looks_english,
    quote,
    shorten,
    uncapitalised,
)

LONGEST_PHRASE = 300

_WISH = r"(?:want|need|would like|'d like|would love|wish|have|should be able|must be able)"
AS_A = re.compile(
    rf"^as (?:an? |the )?(?P<who>.{{1,100}}?),? (?:i|we) ?(?:can|must|should|{_WISH}(?: to| for)?)"
    r"(?: be able to| have)?(?P<what> .+)$",
    re.I,
)
_TO = re.compile(r"^.{0,120}\b(?:to|can|must|should|able to)\b $", re.I)
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
    What was understood; `actor` and `benefit` are empty where none is named.

    Attributes:
        actions: at least one; the first is the main one.
        fact: what is to be so, where something is wished to be rather than done.
        condition: such as "when a build fails".
        only: nobody but the actor may do it.
        remarks: the sentences beside the main one.
        understood: False when the words had to be taken as they are.
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
        The main action.
        """
        return self.actions[0]

    @property
    def wish(self) -> str:
        """
        All that follows "I want to".
        """
        joined = join_actions(self.actions)
        if self.condition and self.condition not in joined:
            joined = f"{joined} {self.condition}"
        return shorten(joined, LONGEST_PHRASE)


def join_actions(actions: tuple[Action, ...]) -> str:
    """
    The actions as one phrase.
    """
    texts = [each.text for each in actions]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


# The frames, in the order in which they are tried.  Each gives None when it is not the one.


def _as_a(text: str) -> Idea | None:
    found = AS_A.match(text) or _AS_A_COLON.match(text)
    if found is None:
        return None
    verbal = _TO.search(text[: found.start("what") + 1]) is not None
    inner = _framed_without_actor(found["what"].strip(), verbal)
    return replace(inner, actor=as_actor(found["who"]))


def _i_want(text: str) -> Idea | None:
    found = _I_WANT.match(text)
    if found is None:
        return None
    what = found["what"].strip()
    other = re.match(r"(?P<who>(?:[\w-]+ ){1,4})to (?P<what>.+)$", what)
    if other is not None and is_person(other["who"].strip()):
        return _of(other["what"], other["who"].strip(), what, verbal=True)
    return _framed_without_actor(
        what, verbal=_TO.match(text[: found.start("what") + 1]) is not None
    )


def _possible(text: str) -> Idea | None:
    found = _POSSIBLE.match(text)
    return None if found is None else _of(found["what"], found["who"] or "", text, True)


def _let(text: str) -> Idea | None:
    found = _LET.match(text)
    if found is None:
        return None
    # The actor is as many of the first words as name somebody.
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
            return _of(what, who, text, verbal=True)
    return None


def _tell(text: str) -> Idea | None:
    found = _TELL.match(text)
    own = found is not None and found["who"].lower() in ("me", "us")
    if found is None or not (own or is_person(found["who"])):
        return None
    verb = (
        "be told"
        if found["verb"].lower() == "tell"
        else (f"be {verbs.participle(found['verb'].lower())}")
    )
    action = Action(f"{verb}{_as_self(found['what'] or '')}", verb, "notify")
    return Idea((action,), "" if own else as_actor(found["who"]))


def _modal(text: str) -> Idea | None:
    found = _MODAL.match(text)
    if found is None:
        return None
    who, modal, what = found["who"], found["modal"].lower(), found["what"]
    only = who.lower().startswith("only ") or modal.endswith(" only")
    if modal in ("cannot", "can't", "could not") and (is_person(who) or who.lower() in ("i", "we")):
        return _of(what, "" if who.lower() in ("i", "we") else who, text, verbal=True)
    if modal.endswith(_NEGATIVE):
        fact = f"{uncapitalised(who)} cannot {what}"
        free = what.lower().startswith(("have to", "need to"))
        if free:
            fact = states(uncapitalised(who), what, negative=True)
        kind = "" if free else "protect"
        return Idea((Action(f"make sure that {fact}", "make sure", kind),), fact=fact)
    if is_person(who) and not is_system(who):
        return replace(_of(what, who, text, verbal=True), only=only)
    if who.lower() in ("i", "we", "you", "one", "it", "there"):
        return _framed_without_actor(what, verbal=True)
    # Something is to be so: the actor wants to have it so.
    subject = uncapitalised(who)
    state = re.sub(r"^be ", "", what, flags=re.I)
    action = Action(f"have {subject} {state}", "have", "", subject)
    return Idea((action,), fact=states(subject, what))


def _need(text: str) -> Idea | None:
    found = _NEED.match(text)
    if found is None or not is_person(found["who"]):
        return None
    return replace(_framed_without_actor(found["what"]), actor=as_actor(found["who"]))


def _feature(text: str) -> Idea | None:
    found = _FEATURE.match(text) or _OFFER.match(text)
    if found is not None:
        verbal = (found.groupdict().get("how") or "").lower() == "to"
        return _of(found["what"], "", text, verbal)
    made = _MAKE.match(text)
    if made is None:
        return None
    # "Add dark mode" builds a feature; "add a comment to a story" is what users do.
    what = re.sub(r"^(?:an?|the|some) ", "", made["what"], flags=re.I)
    head = re.split(r" (?:to|for|of|in|on|with|from|by|that|which|when|as|at)\b", what)[0]
    named = bare(head.split(" ")[-1]).lower()
    if named in verbs.NOUNS or named in verbs.BASE_OF_GERUND:
        return _of(what, "", text)
    return None


def _statement(text: str) -> Idea | None:
    if _STATEMENT.match(split_clause(text)[0]) is None or verb_at_start(text):
        return None
    said = uncapitalised(text)
    if TROUBLE.search(text):
        problem = Action(f"have this problem fixed: {said}", "have", "fix", said)
        return Idea((problem,), fact=f"it no longer happens that {said}")
    return Idea((Action(f"be sure that {said}", "be sure", "validate", said),), fact=said)


_FRAMES: tuple[Callable[[str], Idea | None], ...] = (
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


def framed(text: str) -> Idea:
    text = text[:1000]
    for frame in _FRAMES:
        idea = frame(text)
        if idea is not None:
            return idea
    return _framed_without_actor(text)


def _framed_without_actor(text: str, verbal: bool = False) -> Idea:
    """
    `text` as what is wanted, when the actor is known or not named.
    """
    for frame in (_possible, _tell, _feature):
        idea = frame(text)
        if idea is not None:
            return idea
    return _of(text, "", text, verbal)


def _of(what: str, who: str, whole: str, verbal: bool = False) -> Idea:
    what = re.sub(r"^(?:display|show) (?:me |us |users )?(?=\S)", "see ", what, flags=re.I)
    what = _as_self(what) if who else what
    actor = as_actor(who) if who else ""
    if not actor:
        what, actor = person_served(what)
    actions = tuple(split_actions(shorten(what, LONGEST_PHRASE), verbal))
    if not actions:
        actions = (Action(f"have {quote(whole)}", "have", "", quote(whole)),)
    understood = looks_english(whole, verbs.KNOWN)
    return Idea(actions, actor, understood=understood)


def _as_self(text: str) -> str:
    """
    "change their password" as the actor would say it.
    """
    text = re.sub(r"\b(their|his or her|his/her) own\b", "my own", text, flags=re.I)
    text = re.sub(r"^(\s*\w+(?: \w+)?) (?:their|his or her|his/her|your) ", r"\1 my ", text)
    return re.sub(
        r"\bthemselves\b",
        "myself",
        re.sub(r"\b(when|before|after|if|once|while) they (?!are\b|were\b)", r"\1 I ", text),
    )
