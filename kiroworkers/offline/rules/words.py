r"""
Clean, cut, quote and compare English words and sentences.

All functions accept any text.  Their cost is linear in its length, and only its first
`MAX_READ_LENGTH` characters are looked at closely::

    >>> tidy("  Export\x07 to\n CSV ")
    'Export to CSV'
    >>> sentences("Export stories. The file has a header.")
    ['Export stories', 'The file has a header']
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

#: Characters of a text that are read; a story states its wish in fewer.
MAX_READ_LENGTH = 4000

# The zero-width joiner is kept, since it holds the parts of an emoji together.
_JOINER = "\u200d"
_SPACES = re.compile(r"\s+")
_BULLET = re.compile(r"^(?:[-*+•·\u2013]+|\(?\d{1,2}[.)])\s+")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)\s+(?=[^a-z])|(?<=[。\uff01\uff1f])"
)
_CONTINUES = re.compile(r"(?:,|i want|i need|i would|i'd|so that|in order to)\b", re.IGNORECASE)
_TRAILING = " \t.,;:!…。、" + _JOINER
_WORD = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*")
_QUOTED = re.compile(r"\"[^\"]{0,200}\"|“[^”]{0,200}”|'[^']{3,200}'(?!\w)|`[^`]{0,200}`")


def word_set(text: str) -> frozenset[str]:
    """
    Return the words in `text`, which are separated by spaces, as a set.
    """
    return frozenset(text.split())


DETERMINERS = word_set(
    "a an the my our your their his her its this that these those each every all any both some "
    "no another"
)
PRONOUNS = word_set("it them me us him her you i we they he she")
PREPOSITIONS = word_set(
    "to as in into from by with for at on onto within via using without through of about over "
    "under between per against during until since behind near inside outside across"
)
CLAUSES = word_set(
    "when if after before once while unless whenever whose where which who that so because than "
    "until"
)
_AUXILIARIES = word_set(
    "and or not is are be been was were has have had do does can could should must will would "
    "may then also"
)
FUNCTION_WORDS = DETERMINERS | PRONOUNS | PREPOSITIONS | CLAUSES | _AUXILIARIES
#: Words that other languages also have, and that are therefore no sign of English.
_SHARED = word_set("a an in on me no so i he as do per has was over all bin her us to am es")
ENGLISH_HINTS = FUNCTION_WORDS - _SHARED

_QUESTION_WORDS = word_set("what which who how whether where when that why")
_PLURALS = {"people": "person", "children": "child", "men": "man", "women": "woman",
            "criteria": "criterion", "analyses": "analysis", "indices": "index"}  # fmt: skip
_SINGULARS = {singular_form: plural_form for plural_form, singular_form in _PLURALS.items()}
_ALWAYS_PLURAL = word_set("people children men women criteria staff")
_NEVER_PLURAL = word_set("status news analysis basis bus process access address progress css "
                          "dns sms https aws ios kubernetes business class always")  # fmt: skip
_UNCOUNTABLE = word_set("data information content feedback access progress text time email "
                         "history work staff money stock sound help")  # fmt: skip
#: Names that often begin an idea and keep their capital inside a sentence.
_NAMES = word_set(
    "I English German French Spanish Italian Dutch Polish Portuguese Russian Chinese Japanese "
    "Arabic Turkish Google Slack Excel Outlook Word Jira Windows Android Monday Tuesday "
    "Wednesday Thursday Friday Saturday Sunday Christmas Gantt Kanban Scrum Bluetooth Europe"
)
#: Words that are ignored in a comparison of two texts, since they mean little.
_INSIGNIFICANT = FUNCTION_WORDS | word_set("able want need like want able user users just get")


def text_of(value: Any) -> str:
    """
    Return `value`, tidied, if it is a string, else an empty string.
    """
    return tidy(value) if isinstance(value, str) else ""


def tidy(text: str) -> str:
    """
    Return the start of `text` on one line, without control characters.
    """
    return _SPACES.sub(" ", _printable(text[:MAX_READ_LENGTH])).strip()


def _printable(text: str) -> str:
    text = unicodedata.normalize("NFC", text.replace("\u2019", "'"))
    return "".join(
        character if character.isprintable() or character == _JOINER else " " for character in text
    )


def sentences(text: str) -> list[str]:
    """
    Return the sentences, lines and list items of `text`, without final punctuation.

    A line that continues with "I want" or "so that" belongs to the line before it.
    """
    lines: list[str] = []
    for raw in text[:MAX_READ_LENGTH].splitlines():
        line = _BULLET.sub("", tidy(raw))
        if lines and _CONTINUES.match(line):
            lines[-1] = f"{lines[-1].rstrip(_TRAILING)} {line}"
        elif line:
            lines.append(line)
    parts = (part.strip() for line in lines for part in _SENTENCE_END.split(line))
    return [part.rstrip(_TRAILING) for part in parts if part.rstrip(_TRAILING)]


def bare(text: str) -> str:
    """
    Return `text` without final punctuation.
    """
    return text.rstrip(_TRAILING).strip()


def words(text: str) -> list[str]:
    """
    Return the words of `text` in lower case.
    """
    return _WORD.findall(text.lower())


def without_quotes(text: str) -> str:
    """
    Return `text` without the passages in quotation marks.
    """
    return _QUOTED.sub(" ", text)


def stem(word: str) -> str:
    """
    Return `word` without common endings, so that "filtered" and "filters" are equal.
    """
    for ending in ("ations", "ation", "ings", "ing", "ies", "ied", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    # "dragged" has the stem "drag" and not "dragg".
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl" else word


def stems(text: str) -> frozenset[str]:
    """
    Return the stems of the significant words in `text`.
    """
    return frozenset(stem(word) for word in words(text) if word not in _INSIGNIFICANT)


def looks_english(text: str, known: frozenset[str] = frozenset()) -> bool:
    """
    Return whether `text` contains a word that is certainly English.

    Args:
        text: Any text.
        known: Further words that count as English.
    """
    letters = [letter for letter in text if letter.isalpha()]
    if sum(letter.isascii() for letter in letters) * 2 <= len(letters):
        return False
    return any(word in ENGLISH_HINTS or word in known for word in words(text))


def shorten(text: str, limit: int = 80) -> str:
    """
    Return `text` in at most `limit` characters, cut at a word and marked with "…".
    """
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    cut = head.rfind(" ")
    # A very long word has no good place to cut.
    return bare(head[:cut] if cut > limit // 2 else head) + "…"


def quote(text: str, limit: int = 100) -> str:
    """
    Return the start of `text` in quotation marks, at most `limit` characters of it.
    """
    return f"“{shorten(text, limit).replace('“', '').replace('”', '').strip()}”"


def capitalised(text: str) -> str:
    """
    Return `text` with its first letter in upper case.
    """
    return text[:1].upper() + text[1:]


def uncapitalised(text: str) -> str:
    """
    Return `text` with its first letter in lower case, as inside a sentence.

    Names and abbreviations keep their capitals.
    """
    first = re.split(r"[\s,']", text, maxsplit=1)[0]
    if (
        first in _NAMES
        or sum(character.isupper() for character in first) > 1
        or any(map(str.isdigit, first))
    ):
        return text
    return text[:1].lower() + text[1:]


def with_article(noun: str) -> str:
    """
    Return `noun` with "a" or "an", unless it needs none.
    """
    first = noun.split(" ")[0]
    if not noun or first.lower() in DETERMINERS or is_plural(noun):
        return noun
    return f"{'an' if _starts_with_vowel_sound(first) else 'a'} {noun}"


def _starts_with_vowel_sound(word: str) -> bool:
    lower = word.lower()
    if word.isupper() and len(word) > 1 and (len(word) <= 3 or not set(lower) & set("aeiou")):
        # Such abbreviations are spelt out: an HR manager and an SQL query, but a UI and a CEO.
        return lower[0] in "aefhilmnorsx"
    if lower.startswith(("uni", "use", "usu", "uti", "one", "eur")):
        return False
    return lower.startswith(("a", "e", "i", "o", "u", "hour", "honest", "heir"))


def singular(noun: str) -> str:
    """
    Return the singular of `noun`: "project manager" for "project managers".
    """
    head, _, last = noun.rpartition(" ")
    low = last.lower()
    if low in _PLURALS:
        last = _PLURALS[low]
    elif low.endswith("ies") and len(low) > 4:
        last = last[:-3] + "y"
    elif low.endswith(("sses", "shes", "ches", "xes")):
        last = last[:-2]
    elif _has_plural_ending(low):
        last = last[:-1]
    return f"{head} {last}".strip()


def plural(noun: str) -> str:
    """
    Return the plural of `noun`: "stories" for "story".

    An uncountable noun stays as it is.
    """
    head, _, last = noun.rpartition(" ")
    low = last.lower()
    if low in _SINGULARS:
        last = _SINGULARS[low]
    elif is_plural(last) or low in _UNCOUNTABLE or not low.isalpha():
        pass
    elif low.endswith("y") and low[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    elif low.endswith(("s", "x", "ch", "sh")):
        last += "es"
    else:
        last += "s"
    return f"{head} {last}".strip()


def is_plural(noun: str) -> bool:
    """
    Return whether `noun`, such as "the list of stories", is plural.
    """
    head = re.split(r" (?:of|in|on|with|from|for|by|to|at|that|who|which|per)\b", noun, maxsplit=1)[
        0
    ]
    before, joined, _ = head.partition(" and ")
    first = head.split(" ")[0].lower()
    if first in ("each", "every", "a", "an", "this", "that", "another"):
        return False
    if joined and before:
        return True
    last = (words(head) or [""])[-1]
    return last in _ALWAYS_PLURAL or _has_plural_ending(last)


def _has_plural_ending(word: str) -> bool:
    if word in _NEVER_PLURAL or len(word) < 3:
        return False
    return word.endswith("s") and not word.endswith(("ss", "us", "is", "'s"))


def definite(noun: str) -> str:
    """
    Return `noun` with a definite article: "the invoice" for "an invoice".
    """
    first, _, rest = noun.partition(" ")
    low = first.lower()
    if low in ("a", "an", "some", "any", "another") and rest:
        return f"the {rest}"
    if low in DETERMINERS or low in PRONOUNS or low in _QUESTION_WORDS or noun[:1] in '“"':
        return noun
    # A name such as Slack takes no article; CSV files do.
    if first[:1].isupper() and not first.isupper() and not is_plural(noun):
        return noun
    return f"the {noun}"


def listed(items: list[str], last: str = "and") -> str:
    """
    Return `items` as a list in prose, such as "a, b and c".
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
