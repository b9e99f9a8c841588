"""
Recognize people in phrases, and speak about them in the third person.
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
# Most nouns with these endings name people; `_THINGS` has the exceptions.
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

#: Pronouns in the first person and their counterparts in the third.
_THIRD_PERSON_PRONOUNS = {
    "i": "they", "my": "their", "me": "them", "mine": "theirs", "myself": "themselves",
    "i'm": "they're", "i've": "they've", "we": "they", "our": "their", "us": "them",
}  # fmt: skip
_THIRD_PERSON_VERBS = {"was": "were", "am": "are"}
_FIRST_PERSON = re.compile(r"\b(?:I am|I was|we are|I'm|I've|I|my|me|mine|myself|we|our|us)\b")


def is_person(phrase: str) -> bool:
    """
    Return whether `phrase`, such as "managers with a phone", names a person.
    """
    head = words(_AFTER_HEAD.split(phrase, maxsplit=1)[0])
    if not head or len(head) > 5:
        return False
    one = singular(head[-1])
    return one in _PEOPLE or head[-1] in _PEOPLE or (one not in _THINGS and bool(_DOER.search(one)))


def is_system(phrase: str) -> bool:
    """
    Return whether `phrase` names the product rather than a user of it.
    """
    return bool(set(words(phrase)[-1:]) & _SYSTEMS)


def as_actor(phrase: str) -> str:
    """
    Return the singular of the people in `phrase`, without an article.

    "All users" becomes "user", for example.
    """
    phrase = _LEADING.sub("", phrase).strip(" ,:")
    match = _AFTER_HEAD.search(phrase)
    head, tail = (phrase[: match.start()], phrase[match.start() :]) if match else (phrase, "")
    if words(head)[-1:] and words(head)[-1] in ("anyone", "everyone", "somebody", "someone"):
        head = "user"
    if words(head)[-1:] and words(head)[-1] in ("team", "staff"):
        head += " member"
    return uncapitalised(singular(head) + tail)


def split_beneficiary(phrase: str) -> tuple[str, str]:
    """
    Split off the person who benefits, as named at the end of `phrase`.

    Returns:
        The rest of the phrase, and the person in the singular: "CSV export" and "project
        manager" for "CSV export for project managers".  The person is empty if `phrase`
        names none.
    """
    match = _FOR_PERSON.search(phrase)
    if match is None or not is_person(match[1]):
        return phrase, ""
    return phrase[: match.start()].strip() or phrase, as_actor(match[1])


def in_third_person(phrase: str) -> str:
    """
    Return `phrase` with "my list" changed to "their list", and so on.
    """

    def replace(match: re.Match[str]) -> str:
        first, _, rest = match[0].lower().partition(" ")
        changed = _THIRD_PERSON_PRONOUNS[first]
        return f"{changed} {_THIRD_PERSON_VERBS.get(rest, rest)}".strip()

    return _FIRST_PERSON.sub(replace, phrase)
