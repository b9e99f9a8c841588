"""
List the actions that people perform with software: verbs by kind, and their forms.

A verb's kind ("export", "notify") decides which outcomes and benefits are plausible.
`FEATURE_NOUNS` maps the name of a feature to the action that it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping

from kiroworkers.offline.rules.words import word_set

#: Verbs by kind.  A "_" joins verbs of two words.  A verb belongs to the first kind that lists it.
KINDS: Mapping[str, str] = {
    "export": "export download extract",
    "import": "import ingest load scan",
    "upload": "upload attach",
    "search": "search find locate look_up look_for query discover",
    "filter": "filter narrow hide",
    "sort": "sort rank arrange prioritise prioritize reorder",
    "group": "group categorise categorize tag label classify organise organize mark flag pin",
    "notify": "notify alert remind inform warn receive hear",
    "send": "send email message post publish announce deliver",
    "view": "see view show display read browse list inspect look_at preview open compare monitor "
            "watch follow visualise visualize know explore zoom check highlight",
    "track": "track log record audit trace",
    "create": "create add make write draft generate insert submit capture enter build compose "
              "produce design ask request report_on start_a",
    "edit": "edit change update modify rename correct adjust move set replace rewrite merge "
            "split complete fill_in save",
    "delete": "delete remove discard clear erase unsubscribe uninstall",
    "archive": "archive close expire retire",
    "login": "log_in sign_in login authenticate log_on log_out sign_out",
    "register": "register sign_up enrol enroll join subscribe",
    "reset": "reset recover",
    "report": "report analyse analyze summarise summarize measure count calculate estimate "
              "forecast evaluate chart",
    "manage": "manage maintain administer control",
    "configure": "configure set_up customise customize enable disable choose select switch "
                 "toggle turn_on turn_off define pick manage maintain administer control "
                 "personalise personalize",
    "approve": "approve reject review accept confirm decide vote rate sign decline",
    "assign": "assign delegate allocate reassign",
    "share": "share invite forward collaborate hand_over",
    "comment": "comment reply discuss annotate mention note chat talk answer",
    "connect": "connect integrate link synchronise synchronize sync",
    "migrate": "migrate convert transfer upgrade port refactor modernise modernize",
    "pay": "pay buy purchase order checkout check_out refund bill charge donate",
    "schedule": "schedule book plan reserve postpone reschedule",
    "cancel": "cancel withdraw abort return",
    "restore": "undo restore revert redo roll_back back_up",
    "validate": "validate verify test prove detect recognise recognize identify",
    "protect": "protect encrypt restrict block lock secure limit prevent ban",
    "print": "print",
    "copy": "copy duplicate clone reuse paste",
    "translate": "translate localise localize",
    "fix": "fix repair solve resolve debug",
    "improve": "improve optimise optimize speed_up enhance simplify reduce shorten increase",
    "automate": "automate run start stop execute trigger retry pause resume deploy launch play",
    "use": "use have get access try",
    "other": "visit go navigate scroll click press tap drag jump talk_to work learn understand "
           "listen support handle offer provide implement introduce develop include allow give "
           "keep call ensure be stay skip take",
}  # fmt: skip

#: Verbs that are also nouns, and that alone are no sign of an action.
ALSO_NOUNS = word_set(
    "export import download upload search filter query sort rank group tag label mark flag pin "
    "alert email message post view show display list preview monitor watch zoom check track log "
    "record audit trace draft insert design ask request change update move set split close reset "
    "report measure count estimate chart forecast switch control pick review vote rate sign "
    "share comment reply note chat mention answer link sync transfer upgrade port purchase order "
    "checkout refund bill charge book plan schedule return undo test block lock limit print copy "
    "clone paste fix repair increase run start stop trigger retry play use access try visit "
    "scroll click press tap drag work support handle offer call stay load scan highlight save"
)

_IRREGULAR = {
    "send": "sent", "find": "found", "see": "seen", "read": "read", "write": "written",
    "rewrite": "rewritten", "choose": "chosen", "make": "made", "set": "set", "get": "got",
    "pay": "paid", "buy": "bought", "know": "known", "hide": "hidden", "run": "run",
    "keep": "kept", "give": "given", "show": "shown", "undo": "undone", "redo": "redone",
    "split": "split", "reset": "reset", "hear": "heard", "build": "built",
    "understand": "understood",    "have": "had", "go": "gone", "be": "been", "take": "taken",
}  # fmt: skip
_THIRD_PERSON = {"have": "has", "be": "is", "do": "does", "go": "goes", "undo": "undoes",
                 "redo": "redoes"}  # fmt: skip
_DOUBLING = word_set("log drag tag plan stop submit set reset get run split cancel label pin "
                      "flag scan tap ban chat skip")  # fmt: skip

#: The verb for a feature that is named by a noun.
_VERB_OF_NOUN = {
    "export": "export", "exports": "export", "import": "import", "imports": "import",
    "upload": "upload", "uploads": "upload", "download": "download", "downloads": "download",
    "search": "search", "filter": "filter", "filters": "filter", "reset": "reset",
    "registration": "register", "deletion": "delete", "removal": "remove", "creation": "create",
    "management": "manage", "approval": "approve", "approvals": "approve",
    "validation": "validate", "backup": "back up", "backups": "back up", "migration": "migrate",
    "synchronisation": "synchronise", "synchronization": "synchronize", "sync": "sync",
    "assignment": "assign", "encryption": "encrypt", "translation": "translate",
    "cancellation": "cancel", "comparison": "compare", "configuration": "configure",
    "subscription": "subscribe to", "review": "review", "verification": "verify",
    "integration": "connect to", "calculation": "calculate",
}  # fmt: skip
#: Features that are received, seen or used, by their verb and, after the "+", their kind.
_NOUNS_OF_VERB = {
    "receive +notify": (
        "notification notifications alert alerts reminder reminders message messages sms "
        "newsletter email emails"
    ),
    "see +view": (
        "dashboard chart charts graph graphs overview list history log timeline summary "
        "statistics preview view results details logs tooltips tooltip bar badge banner"
    ),
    "get +report": ("report reports"),
    "use +use": (
        "calendar shortcut shortcuts api app tool wizard editor chat client page screen form "
        "menu portal board panel button templates template field fields support integrations "
        "pages buttons notes tags roles permissions pagination profile widget endpoint flow "
        "workflow interface threads bot assistant"
    ),
    "use +mode": ("mode option options settings"),
    "use +login": ("authentication login sso"),
}
FEATURE_NOUNS: Mapping[str, str] = _VERB_OF_NOUN | {
    noun: meaning for meaning, nouns in _NOUNS_OF_VERB.items() for noun in nouns.split()
}

_KIND_BY_VERB: dict[str, str] = {}
for _kind, _verbs in KINDS.items():
    for _verb in _verbs.split():
        _KIND_BY_VERB.setdefault(_verb.replace("_", " "), _kind)


def is_verb(word: str) -> bool:
    """
    Return whether `word` is the base form of a known verb, such as "log in".
    """
    return word in _KIND_BY_VERB


def kind_of(verb: str) -> str:
    """
    Return the kind of `verb`, or an empty string if it is unknown.
    """
    return _KIND_BY_VERB.get(verb, "")


def third_person(verb: str) -> str:
    """
    Return the third person of `verb`: "exports", "logs in".
    """
    first, space, rest = verb.partition(" ")
    if first in _THIRD_PERSON:
        form = _THIRD_PERSON[first]
    elif first.endswith(("s", "x", "z", "ch", "sh", "o")):
        form = first + "es"
    elif first.endswith("y") and first[-2:-1] not in "aeiou":
        form = first[:-1] + "ies"
    else:
        form = first + "s"
    return form + space + rest


def participle(verb: str) -> str:
    """
    Return the past participle of `verb`: "exported", "sent".
    """
    first, space, rest = verb.partition(" ")
    if first in _IRREGULAR:
        form = _IRREGULAR[first]
    elif first.endswith("e"):
        form = first + "d"
    elif first.endswith("y") and first[-2:-1] not in "aeiou":
        form = first[:-1] + "ied"
    else:
        form = first + (first[-1:] if first in _DOUBLING else "") + "ed"
    return form + space + rest


def gerund(verb: str) -> str:
    """
    Return the gerund of `verb`: "exporting", "logging in".
    """
    first, space, rest = verb.partition(" ")
    if first.endswith("e") and not first.endswith("ee") and first != "be":
        form = first[:-1] + "ing"
    else:
        form = first + (first[-1:] if first in _DOUBLING else "") + "ing"
    return form + space + rest


#: Base forms by inflected form: "export" by "exporting" and by "exports".
BASE_OF_GERUND: Mapping[str, str] = {gerund(verb): verb for verb in _KIND_BY_VERB}
BASE_OF_THIRD: Mapping[str, str] = {third_person(verb): verb for verb in _KIND_BY_VERB}
PARTICIPLES = frozenset(map(participle, _KIND_BY_VERB))
KNOWN = frozenset(_KIND_BY_VERB) | frozenset(FEATURE_NOUNS) | frozenset(BASE_OF_GERUND)
