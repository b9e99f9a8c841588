"""
Reading an idea: who, what, why and under which condition.

`read_idea` knows the ways in which people write down what they wish ("As a …",
"Users should be able to …", "Let managers …", "CSV export") and takes the words
as they are where it knows none::

    >>> idea = read_idea("Let managers approve timesheets so that pay is right")
    >>> idea.actor, idea.action.text, idea.benefit
    ('manager', 'approve timesheets', 'pay is right')
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from kiroworkers.offline import verbs
from kiroworkers.offline.action import Action, read_action, split_actions, split_clause
from kiroworkers.offline.people import as_actor, is_person, is_system, person_served
from kiroworkers.offline.words import (
    bare,
    looks_english,
    quote,
    sentences,
    shorten,
    tidy,
    uncapitalised,
)

_LONGEST_PHRASE = 300

_POLITE = re.compile(
    r"^(?:please|maybe|ideally|hi|hello|hey|also|basically|perhaps|i think|i believe|idea:|"
    r"feature request:|feature:|story:|user story:|(?:can|could|would) (?:we|you|i|one)(?: please)?|"
    r"is it possible to|why (?:can't|can) (?:i|we)|how (?:can|do) (?:i|we)|"
    r"(?:it )?(?:would|might) be (?:really |very )?(?:nice|great|good|useful|helpful|cool|handy)"
    r" (?:if|to)(?: have)?|what if|wouldn't it be (?:nice|great) (?:if|to))[ ,:]+",
    re.I,
)
_BENEFIT = re.compile(
    r",? (?P<how>so that|so(?= (?:i|we|they|he|she|it|users|people|everyone|nobody|no one|our|my|"
    r"the)\b)|in order to|in order that|because|since(?= (?:i|we|they|it|the|our)\b)|as this|"
    r"to (?=avoid|reduce|prevent|ensure|make sure|save (?:time|money|effort|hours|costs)|"
    r"speed up|keep track|stay|comply|help (?:me|us|them)))\b,? *(?P<why>.*)$",
    re.I,
)
_LEADING_WHY = re.compile(
    r"^(?P<how>in order to|so that|because|to (?=avoid|reduce|prevent|ensure|make sure|save|keep|"
    r"help|improve))\s*(?P<why>[^,]{3,200}), (?P<rest>.+)$",
    re.I,
)
_LEADING_WHEN = re.compile(
    r"^(?P<when>(?:when|whenever|if|once|after|before|as soon as|while|every time|each time)\b"
    r"[^,]{3,200}), (?:then )?(?P<rest>.+)$",
    re.I,
)
_WISH = r"(?:want|need|would like|'d like|would love|wish|have|should be able|must be able)"
_AS_A = re.compile(
    rf"^as (?:an? |the )?(?P<who>.{{1,100}}?),? (?:i|we) ?(?:can|must|should|{_WISH}(?: to| for)?)"
    r"(?: be able to| have)?(?P<what> .+)$",
    re.I,
)
_TO = re.compile(r"^.{0,120}\b(?:to|can|must|should|able to)\b $", re.I)
_AS_A_COLON = re.compile(r"^as an? (?P<who>[^,:]{1,60})[,:] ?(?P<what>.+)$", re.I)
_I_WANT = re.compile(rf"^(?:i|we) ?{_WISH}(?: to| for)?(?: be able to)?(?P<what> .+)$", re.I)
_POSSIBLE = re.compile(
    r"^(?:it should be|it must be|make it|should be) (?:possible|able|easy)"
    r"(?: for (?P<who>.{1,60}?))? to (?P<what>.+)$",
    re.I,
)
_LET = re.compile(
    r"^(?:let|allow|enable|help|permit|give|allowing|letting|show|offer|provide) "
    r"(?P<who>(?:[\w'-]+ ){1,5}?)(?:to |(?:a|the) (?:way|ability|option|chance|possibility) to |"
    r"(?=[a-z]))(?P<what>.+)$",
    re.I,
)
_TELL = re.compile(
    r"^(?P<verb>notify|alert|remind|inform|warn|tell)(?: (?P<who>(?:[\w'-]+ ){0,3}?[\w'-]+))"
    r"(?P<what> (?:when|if|before|after|about|of|that|once|by|via|every|on|two|\d).*)?$",
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
    r"^(?:add|support|implement|introduce|provide|offer|develop|include|integrate in|have|there "
    r"(?:should|must) be|create|build|make|need|allow|enable)(?: an?| the| some)? "
    r"(?:(?:support|an? option|possibility|option|ability|way|function|feature|functionality)"
    r"(?: (?P<how>for|to|of))) (?P<what>.+)$",
    re.I,
)
_OFFER = re.compile(
    r"^(?:support|implement|introduce|provide|offer|develop|include|there (?:should|must) be|allow|"
    r"enable) (?P<what>.+)$",
    re.I,
)
_MAKE = re.compile(r"^(?:add|create|build|make|design) (?P<what>(?:an? |the |some )?.+)$", re.I)
_STATEMENT = re.compile(
    r"^(?P<who>.{1,80}?) (?:is|are|has|doesn't|does not|don't|do not|isn't|aren't|fails?|crash(?:es)?|"
    r"takes?|lacks?|gets? lost|keeps?|freezes?|breaks?) .+$",
    re.I,
)
_TROUBLE = re.compile(
    r"\b(?:slow|slowly|broken|wrong|error|errors|crash\w*|fails?|missing|not|too|never|bug|confus\w*|"
    r"lost|lose|hard|difficult|forget\w*|doesn't|don't|isn't|aren't|can't|cannot|takes?|waste\w*|"
    r"annoying|manual\w*|tedious|freez\w*|breaks?|nobody|no one|impossible|expensive|unclear|"
    r"mistakes?|delays?|wait\w*|miss(?:es)?|without)\b",
    re.I,
)
_NEGATIVE = ("not", "n't", "never", "cannot")


@dataclass(frozen=True)
class Idea:
    """
    What was understood; `actor` and `benefit` are empty where none is named.

    @ivar actions: at least one; the first is the main one.
    @ivar condition: such as "when a build fails".
    @ivar only: nobody but the actor may do it.
    @ivar remarks: the sentences beside the main one.
    @ivar understood: False when the words had to be taken as they are.
    """

    actions: tuple[Action, ...]
    actor: str = ""
    benefit: str = ""
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
        return shorten(joined, _LONGEST_PHRASE)


def join_actions(actions: tuple[Action, ...]) -> str:
    """
    The actions as one phrase.
    """
    texts = [each.text for each in actions]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def read_idea(text: str) -> Idea:
    """
    What `text` says, as far as rules can tell.
    """
    said = sentences(text) or [tidy(text)]
    main = next((at for at, each in enumerate(said) if _AS_A.match(each)), 0)
    whole = _unpolite(said[main])
    remarks = [each for at, each in enumerate(said) if at != main]
    whole, benefit, plain_why = _split_benefit(whole)
    condition = ""
    leading = _LEADING_WHEN.match(whole)
    if leading is not None:
        whole, condition = _unpolite(leading["rest"]), uncapitalised(leading["when"])
    idea = _framed(whole)
    if not benefit:
        benefit, remarks = _benefit_of_remarks(remarks)
    return replace(
        idea,
        benefit=_in_first_person(shorten(benefit, _LONGEST_PHRASE), plain_why),
        condition=condition or split_clause(idea.actions[-1].text)[1],
        remarks=tuple(remarks),
    )


def _unpolite(text: str) -> str:
    # Three times are enough for "Hi, please could we".
    for _ in range(3):
        text = _POLITE.sub("", text, count=1)
    return text.rstrip("?").strip() or text


def _split_benefit(text: str) -> tuple[str, str, bool]:
    """
    `text` without its reason, the reason, and whether it says what should be.
    """
    leading = _LEADING_WHY.match(text)
    if leading is not None:
        return leading["rest"], *_reason(leading["how"], leading["why"])
    found = _BENEFIT.search(text)
    if found is None or not found.start() or not found["why"].strip():
        return text, "", True
    return text[: found.start()], *_reason(found["how"], found["why"])


def _reason(how: str, why: str) -> tuple[str, bool]:
    how, why = how.lower().strip(), bare(why)
    if how.startswith(("in order to", "to")):
        return f"I can {uncapitalised(why)}", True
    if how in ("because", "since", "as this"):
        needed = re.match(r"(i|we|they) (?:need to|have to|want to|must) (.+)", why, re.I)
        if needed is not None:
            return f"{needed[1]} can {needed[2]}", True
        if _TROUBLE.search(why):
            return f"it no longer matters that {uncapitalised(why)}", False
        return f"this need is met: {uncapitalised(why)}", False
    return uncapitalised(why), True


def _benefit_of_remarks(remarks: list[str]) -> tuple[str, list[str]]:
    for at, remark in enumerate(remarks):
        found = re.match(r"(?:this|that|it) (?:would |will |should )?(?:helps?|lets?|allows?) "
                         r"(?:us|me|them|users) (?:to )?(.+)$|(?:so that|so) (.+)$", remark, re.I)  # fmt: skip
        if found is not None:
            rest = remarks[:at] + remarks[at + 1 :]
            return (f"I can {found[1]}" if found[1] else uncapitalised(found[2])), rest
    return "", remarks


def _in_first_person(benefit: str, plain: bool) -> str:
    """
    "they can plan" as "I can plan": the actor speaks.
    """
    if not plain:
        return benefit
    return re.sub(
        r"^(?:they|he or she|he/she|users|the user) (?=(?:can (?!be\b)|could (?!be\b)|know|do not|"
        r"don't|have|need|no longer|never|always|get|see|save|spend|understand|learn|find|stop))",
        "I ", benefit, flags=re.I,
    ).replace("I can save their ", "I can save my ")  # fmt: skip


# The frames, in the order in which they are tried.  Each gives None when it is not the one.


def _as_a(text: str) -> Idea | None:
    found = _AS_A.match(text) or _AS_A_COLON.match(text)
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
            what = re.sub(r"^(?:to|(?:a|the) (?:way|ability|option|chance|possibility) to) ", "",
                          what, flags=re.I)  # fmt: skip
            return _of(what, who, text, verbal=True)
    return None


def _tell(text: str) -> Idea | None:
    found = _TELL.match(text)
    if found is None or not is_person(found["who"]):
        return None
    verb = "be told" if found["verb"].lower() == "tell" else (
        f"be {verbs.participle(found['verb'].lower())}")  # fmt: skip
    action = Action(f"{verb}{_as_self(found['what'] or '')}", verb, "notify")
    return Idea((action,), as_actor(found["who"]))


def _modal(text: str) -> Idea | None:
    found = _MODAL.match(text)
    if found is None:
        return None
    who, modal, what = found["who"], found["modal"].lower(), found["what"]
    only = who.lower().startswith("only ") or modal.endswith(" only")
    if modal in ("cannot", "can't", "could not") and (is_person(who) or who.lower() in ("i", "we")):
        return _of(what, "" if who.lower() in ("i", "we") else who, text, verbal=True)
    if modal.endswith(_NEGATIVE):
        said = f"make sure that {uncapitalised(who)} cannot {what}"
        return Idea((Action(said, "make sure", "protect"),))
    if is_person(who) and not is_system(who):
        return replace(_of(what, who, text, verbal=True), only=only)
    if who.lower() in ("i", "we", "you", "one", "it", "there"):
        return _framed_without_actor(what, verbal=True)
    # Something is to be so: the actor wants to have it so.
    subject = uncapitalised(who)
    action = read_action(what, verbal=True)
    state = re.sub(r"^be ", "", what) if what.lower().startswith("be ") else what
    return Idea((Action(f"have {subject} {state}", "have", action.kind, subject),))


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
    if _STATEMENT.match(text) is None or split_clause(text)[0] != text or read_action(text).verb not in (
        "have", "use"):  # fmt: skip
        return None
    said = uncapitalised(text)
    if _TROUBLE.search(text):
        return Idea((Action(f"have this problem fixed: {said}", "have", "fix", said),))
    return Idea((Action(f"be sure that {said}", "be sure", "validate", said),))


_FRAMES: tuple[Callable[[str], Idea | None], ...] = (
    _as_a, _i_want, _possible, _let, _tell, _modal, _need, _feature, _statement,
)  # fmt: skip


def _framed(text: str) -> Idea:
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
    actions = tuple(split_actions(shorten(what, _LONGEST_PHRASE), verbal))
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
    return re.sub(r"\bthemselves\b", "myself", re.sub(
        r"\b(when|before|after|if|once|while) they (?!are\b|were\b)", r"\1 I ", text))  # fmt: skip
