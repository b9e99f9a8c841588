"""
Split a text into statements: bullets, and whole sentences, in any language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

#: How much of a text is read, and of a statement kept (characters), and how many statements.
_MAX_TEXT, _MAX_STATEMENT, _MAX_STATEMENTS = 50_000, 600, 200

_QUOTE_MARKS = re.compile(r"^(?:\s*>)+\s?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]+")
_BULLET = re.compile(
    r"^\s*(?:(?:[-*+•–—·▪◦☐☑✓・]|\d{1,3}[.)、]|[a-z]\))\s+(?:\[[ xX]?\]\s+)?|[•・]|\[[ xX]?\]\s+)"
)
_HEADING = re.compile(r"^\s*#{1,6}\s+")
_STEP = re.compile(r"^(?:given|when|then|and|but)\b", re.IGNORECASE)
_END = re.compile(r"[.!?…]+[\"'”»)\]]*\s+(?=\S)|[。！？]+[」』）]?\s*(?=\S)")
_COLONS = (":", "：")
#: A dot after one of these ends no sentence.
_ABBREVIATION = re.compile(
    r"\b(?:(?:[^\W\d]\. ?)*[^\W\d]|etc|bzw|ca|approx|incl|evtl|nr|no|vs|dr|mrs?|ms|fig|usw|"
    r"max|min)\.$",
    re.IGNORECASE,
)
#: What states nothing: greetings and closings of a mail, and headings that any idea may have.
_EMPTY = re.compile(
    r"^(?:(?:hi|hello|hey|dear|hallo|liebe[rs]?|bonjour|thanks|thank you|danke|merci|cheers|"
    r"(?:best |kind )?regards|viele grüße|mit freundlichen grüßen|cordialement)\b[^.!?]{0,40}[,!.]?"
    r"|(?:acceptance )?criteria|requirements|details|notes?|tasks?|to-?do|anforderungen|"
    r"akzeptanzkriterien|exigences)$",
    re.IGNORECASE,
)
#: Words that English text has, and other languages that use Latin letters lack.
_ENGLISH = set(
    "the a and of to with for from that this is are be by as it i we should must can when not my "
    "our their have has if after before each only all new".split()
)


class Statement(NamedTuple):
    """
    Hold one statement in its own words, and whether it is an item of a list, or a heading.
    """

    text: str
    bullet: bool = False
    heading: bool = False


def statements(text: str) -> list[Statement]:
    """
    Return the statements of `text` in their order.
    """
    found: list[Statement] = []
    for block in _blocks(_clean_lines(text[:_MAX_TEXT])):
        whole = block.bullet or block.heading
        for sentence in [block.text] if whole else _sentences(block.text):
            words = sentence.strip().rstrip(":：" if block.heading else "").strip()
            if words and not _EMPTY.match(words):
                found.append(block._replace(text=shorten(words, _MAX_STATEMENT)))
    return found[:_MAX_STATEMENTS]


def shorten(text: str, length: int) -> str:
    """
    Return `text`; if it is longer than `length`, cut it between two words, with an ellipsis.
    """
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,;:") + "…"


def is_english(text: str) -> bool:
    """
    Return whether `text` has enough common English words to be read as English.
    """
    words = re.findall(r"[^\W\d_]+", text[:_MAX_TEXT].lower())
    known = sum(word in _ENGLISH for word in words)
    return known > 0 and known * 8 >= len(words)


def _clean_lines(text: str) -> Iterator[str]:
    in_code = False
    for line in text.splitlines():
        line = _QUOTE_MARKS.sub("", _CONTROLS.sub(" ", line)).rstrip()
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code:
            yield line


def _blocks(lines: Iterable[str]) -> Iterator[Statement]:
    """
    Yield bullets, headings and paragraphs; lines that were only wrapped are joined again.
    """
    block, parts = Statement(""), [""]
    for line in [*lines, ""]:
        bullet = _BULLET.match(line)
        mark = bullet or _HEADING.match(line)
        words = (line[mark.end() :] if mark else line).strip()
        if words and not mark and block.text and _continues(block, parts[-1], line):
            parts.append(words)
            continue
        if block.text:
            # What ends in a colon before a list introduces that list.
            is_title = parts[-1].endswith(_COLONS) and bool(words) and not block.bullet
            yield Statement(" ".join(parts), block.bullet, block.heading or is_title)
        block, parts = Statement(words, bool(bullet), bool(mark and not bullet)), [words]


def _continues(block: Statement, previous: str, line: str) -> bool:
    """
    Return whether `line` belongs to `block`, whose last line is `previous`.
    """
    if block.heading or previous.endswith(_COLONS) or _EMPTY.match(block.text):
        return False
    if block.bullet:
        return line[:1].isspace()
    steps = _STEP.match(line) and _STEP.match(block.text)
    wrapped = len(previous) >= 50 and previous[-1] not in ".!?…。！？"
    return bool(steps) or wrapped or previous.endswith(",") or line.strip()[:1].islower()


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(text):
        before, after = text[max(start, end.end() - 20) : end.end()], text[end.end()]
        if not after.islower() and not _ABBREVIATION.search(before.rstrip()):
            yield text[start : end.end()]
            start = end.end()
    yield text[start:]
