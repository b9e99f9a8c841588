"""
Who a story is about: telling people from things, and speaking for them.
"""

from __future__ import annotations

import re

from kiroworkers.offline.rules.words import singular, uncapitalised, word_set, words

_PEOPLE = word_set(
    "user admin administrator manager customer client member guest visitor person people student "
    "teacher parent child patient doctor nurse employee staff team agent analyst accountant lead "
    "assistant consultant architect scientist specialist expert engineer developer tester chef "
    "moderator citizen tenant applicant candidate lawyer clerk officer executive director ceo "
    "cto hr intern partner merchant shopkeeper owner buyer seller driver reader writer author "
    "editor reviewer approver maker planner organiser organizer operator auditor trainer coach "
    "trainee pupil player subscriber follower volunteer supplier vendor host artist chair "
    "secretary boss superuser newcomer stakeholder anyone everyone somebody someone recruiter "
    "traveller traveler passenger resident landlord donor investor colleague representative "
    "librarian technician physician musician dispatcher cashier bookkeeper shopper viewer "
    "listener learner freelancer contractor controller supervisor coordinator contributor "
    "maintainer mentor professor researcher requester sponsor borrower cook farmer photographer "
    "designer programmer beginner commuter rider runner cyclist gardener worker holder"
)
# Nouns that sound like people: most words in -er are.
_DOER = re.compile(r"\w{3}(?:er|or|[^l]ist|ician|arian)$")
_THINGS = word_set(
    "server folder filter number order header footer timer buffer counter parser scheduler "
    "browser computer printer container router cluster newsletter letter banner slider reminder "
    "error monitor color calculator paper layer marker cursor vector sensor factor mirror door "
    "floor helper wrapper adapter loader handler picker importer exporter renderer builder "
    "tracker scanner crawler indexer spinner placeholder identifier parameter character register "
    "ledger border poster weather water center chapter quarter semester power answer offer "
    "transfer trigger pointer provider launcher master pager after other another whether never "
    "ever over under rather however either neither later earlier better faster larger smaller "
    "higher lower newer older longer fewer easier bigger greater former latter docker voucher "
    "folder paper drawer toaster tower trailer cover matter manner dinner winter summer october "
    "november december september validator generator connector indicator locator elevator "
    "refrigerator motor processor color behavior behaviour exist consist persist assist twist "
    "hist"
)
_SYSTEMS = word_set("system application app backend server database service software")
_AFTER_HEAD = re.compile(r" (?:with|who|that|of|in|from|on|at|without|for|whose|under|over|like)\b")
_LEADING = re.compile(
    r"^(?:(?:only|all|both|every|each|any|our|my|the|an?|some|other|your|registered)\s+)+", re.I
)
_FOR_PERSON = re.compile(r"\bfor (?:the |an? |our |all |my )?((?:[\w-]+ ){0,2}?[\w-]+)$", re.I)

#: The words of a person about themselves, and ours about them.
_ABOUT_THEM = {
    "i": "they", "my": "their", "me": "them", "mine": "theirs", "myself": "themselves",
    "i'm": "they're", "i've": "they've", "we": "they", "our": "their", "us": "them",
}  # fmt: skip
_OF_THEM = {"was": "were", "am": "are"}
_SELF = re.compile(r"\b(?:I am|I was|we are|I'm|I've|I|my|me|mine|myself|we|our|us)\b")


def is_person(phrase: str) -> bool:
    """
    Does `phrase` ("project managers with a phone") name somebody?
    """
    head = words(_AFTER_HEAD.split(phrase, maxsplit=1)[0])
    if not head or len(head) > 5:
        return False
    one = singular(head[-1])
    return one in _PEOPLE or head[-1] in _PEOPLE or (one not in _THINGS and bool(_DOER.search(one)))


def is_system(phrase: str) -> bool:
    """
    Is `phrase` the product itself rather than somebody who uses it?
    """
    return bool(set(words(phrase)[-1:]) & _SYSTEMS)


def as_actor(phrase: str) -> str:
    """
    One of those named by `phrase`, without an article: "All users" to "user".
    """
    phrase = _LEADING.sub("", phrase).strip(" ,:")
    found = _AFTER_HEAD.search(phrase)
    head, tail = (phrase[: found.start()], phrase[found.start() :]) if found else (phrase, "")
    if words(head)[-1:] and words(head)[-1] in ("anyone", "everyone", "somebody", "someone"):
        head = "user"
    if words(head)[-1:] and words(head)[-1] in ("team", "staff"):
        head += " member"
    return uncapitalised(singular(head) + tail)


def person_served(phrase: str) -> tuple[str, str]:
    """
    `phrase` and the actor in it: "CSV export" and "project manager" for "CSV
    export for project managers"; the actor is empty when nobody is named.
    """
    found = _FOR_PERSON.search(phrase)
    if found is None or not is_person(found[1]):
        return phrase, ""
    return phrase[: found.start()].strip() or phrase, as_actor(found[1])


def about_them(phrase: str) -> str:
    """
    What somebody says of themselves, said of them: "my list" to "their list".
    """

    def other(found: re.Match[str]) -> str:
        first, _, rest = found[0].lower().partition(" ")
        changed = _ABOUT_THEM[first]
        return f"{changed} {_OF_THEM.get(rest, rest)}".strip()

    return _SELF.sub(other, phrase)
