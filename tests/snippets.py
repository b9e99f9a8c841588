"""
Read the snippets of the documentation: its blocks of code, and what a test does with each.

A comment above a block says so, in the page itself::

    .. test: output

    .. code-block:: json

       {"title": "Print labels", …}

Blocks in ``sh`` and ``python`` are run without a comment.  Every other block needs one:

``skip (REASON)``
    It is not run, for the reason that is given.
``output``
    It shows what the last block that ran has printed, for one that must fail also on standard
    error; `find_difference` says how exactly.
``file NAME``
    It is stored as a file with this name, for later blocks.  With ``+``, as in ``file NAME +``, it
    is added to that file.
``parse``
    It must be valid in its language.
``server``
    Its command starts a server, which runs until the end of the page.
``fails``
    Its command must fail.
``needs MODULE…``
    It is run if Python has these modules.

This module does no I/O.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import field, frozen

#: The marks, and whether each needs an argument.
MARKS = {
    "skip": True,
    "output": False,
    "file": True,
    "parse": False,
    "server": False,
    "fails": False,
    "needs": True,
}

#: The languages of blocks that are run.
PROGRAMS = ("sh", "python")

#: The languages of other blocks that can be parsed.
PARSED = ("ini", "json", "python", "toml")

#: Stands for any text within a line or, alone on a line, for any number of lines.
ANYTHING = "…"

#: What differs between two runs, with what takes its place before outputs are compared.
_VOLATILE = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(127\.0\.0\.1|localhost):\d+", r"\1:PORT"),
        (r"\b(pid|port) ?=?\d+", r"\1 N"),
        (r"\b((?:[a-z]+-)?worker)\d+", r"\1N"),
        (r"(?i)\b(retry-?after\"?: ?)\d+", r"\1N"),
        (r"(/jobs/|\"id\": ?\")[\w-]{22}", r"\1ID"),
        (r"\b\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d[\d.+:Z]*)?", "DATE"),
        (r"\b\d{13}\b", "MILLISECONDS"),
        (r"\b\d+(\.\d+)? (m?s|MiB)\b", r"N \2"),
    )
]

_COMMENT = re.compile(r"( *)\.\. test: *(\w+) *(.*?) *$")
_BLOCK = re.compile(r"( *)\.\. (?:code-block|code|sourcecode):: *(\S*)$")
_DIRECTIVE = re.compile(r" *\.\. ")


class BadPage(Exception):
    """
    Raised when a page has a block that does not say how it is tested, or says it wrongly.
    """


@frozen
class Mark:
    """
    Hold one comment: what a test does with the next block.
    """

    name: str
    argument: str = ""


@frozen
class Snippet:
    """
    Hold one block of a page.

    Attributes:
        page: The page's path.
        line: The number of its first line, from 1.
        language: Its language; empty for a literal block (``::``).
        text: Its text, without the indentation.
        marks: What a test does with it.
    """

    page: str
    line: int
    language: str
    text: str
    marks: tuple[Mark, ...] = field(default=())

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def has(self, name: str) -> bool:
        return any(mark.name == name for mark in self.marks)

    def argument(self, name: str) -> str:
        """
        Return the argument of a mark; empty if the block does not have the mark.
        """
        return next((mark.argument for mark in self.marks if mark.name == name), "")

    @property
    def skip_reason(self) -> str:
        """
        Return why the block is not run; empty if it is.
        """
        return self.argument("skip").strip("()")

    @property
    def is_program(self) -> bool:
        """
        Return whether the block is run.
        """
        shown = ("skip", "output", "file", "parse")
        return self.language in PROGRAMS and not any(map(self.has, shown))


def read_page(page: str, text: str) -> list[Snippet]:
    """
    Return the blocks of a page, in order.

    Args:
        page: The page's path, for messages.
        text: The page, in reStructuredText.

    Raises:
        BadPage: If a block does not say how it is tested, or says it wrongly.
    """
    snippets = []
    problems = []
    for snippet in _blocks(page, text.split("\n")):
        problem = _problem(snippet)
        if problem:
            problems.append(f"{snippet.place}: {problem}")
        if snippet.language or snippet.marks:
            snippets.append(snippet)
    if problems:
        raise BadPage("\n".join(problems))
    return snippets


#: Matches a command in a literal block, which has no language.  The text of a diagram is none.
_COMMAND = re.compile(
    r"^(\.venv/|curl |docker |kiroworkers |pip |podman |python3? |sudo |systemctl |twistd )[^─│]*$",
    re.M,
)


def _blocks(page: str, lines: Sequence[str]) -> Iterator[Snippet]:
    """
    Yield all blocks of a page, also those without a language.
    """
    marks: list[Mark] = []
    position = 0
    while position < len(lines):
        line = lines[position]
        if (comment := _COMMENT.match(line)) is not None:
            marks.append(Mark(comment[2], comment[3]))
            position += 1
            continue
        if not line.strip():
            position += 1
            continue
        block = _BLOCK.match(line)
        literal = line.rstrip().endswith("::") and not _DIRECTIVE.match(line)
        if block is None and not literal:
            if marks:
                raise BadPage(f"{page}:{position + 1}: a comment about a test needs a block")
            position += 1
            continue
        indent = len(line) - len(line.lstrip())
        first, end = _body(lines, position + 1, indent, options=block is not None)
        text = textwrap.dedent("\n".join(lines[first:end])).strip("\n")
        language = block[2] if block is not None else ""
        yield Snippet(page, position + 1, language, text + "\n", tuple(marks))
        marks = []
        position = max(end, position + 1)


def _body(lines: Sequence[str], start: int, indent: int, options: bool) -> tuple[int, int]:
    """
    Return the first line of a block's text and the line after its last one.
    """
    while options and start < len(lines) and re.match(r" +:[\w-]+:", lines[start]):
        start += 1
    end = start
    for number in range(start, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        if line.strip():
            end = number + 1
    return start, end


def _problem(snippet: Snippet) -> str:
    """
    Return why a block's comments are not enough, or wrong; empty if they are right.
    """
    for mark in snippet.marks:
        if mark.name not in MARKS:
            return f"unknown comment about a test: {mark.name}"
        if MARKS[mark.name] and not mark.argument.strip("() "):
            return f"{mark.name} needs a reason or a name"
    if not snippet.text.strip():
        return "the block is empty"
    if not snippet.language and not snippet.marks:
        return "commands need a code-block" if _COMMAND.search(snippet.text) else ""
    if not snippet.marks and snippet.language not in PROGRAMS:
        return "the block does not say how it is tested"
    if snippet.has("parse") and snippet.language not in PARSED:
        return f"nothing parses {snippet.language}"
    if snippet.is_program and re.search(r"pip\d? install|-m venv|\bsudo\b", snippet.text):
        return "a command that installs something must be skipped"
    return ""


def find_difference(expected: str, actual: str) -> str:
    """
    Return how the output of a program differs from the one that is shown; empty if it does not.

    JSON may be laid out in any way.  ``…`` stands for anything within a line or, alone on a line,
    for any number of lines; in JSON, as a value, it stands for any value, and as a name, for any
    other members.  The numbers of workers, processes and ports, times, dates, delays and the
    identifiers of jobs may differ.
    """
    try:
        wanted = json.loads(expected)
    except ValueError:
        pattern = _pattern(_settle(expected))
        if re.fullmatch(pattern, "\n" + _settle(actual)) is not None:
            return ""
    else:
        try:
            if _equal(wanted, json.loads(actual)):
                return ""
        except ValueError:
            pass
    return f"shown:\n{textwrap.indent(expected, '  ')}\nprinted:\n{textwrap.indent(actual, '  ')}"


def _settle(text: str) -> str:
    """
    Return `text` without what differs between two runs.
    """
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    for pattern, replacement in _VOLATILE:
        lines = pattern.sub(replacement, lines)
    return lines


def _pattern(text: str) -> str:
    """
    Return the regular expression of an expected text.
    """
    # Each line begins with its line break, so that any number of lines may be none.
    lines = (
        r"(?:\n.*)*?"
        if line.strip() == ANYTHING
        else r"\n" + re.escape(line).replace(ANYTHING, ".*")
        for line in text.split("\n")
    )
    return "".join(lines)


def _equal(expected: Any, actual: Any) -> bool:
    """
    Return whether a JSON value is as expected.
    """
    match expected, actual:
        case "…", _:
            return True
        case str(), str():
            pattern = _pattern(_settle(expected))
            return re.fullmatch(pattern, "\n" + _settle(actual)) is not None
        case dict(), dict():
            others = expected.get(ANYTHING) is not None
            names = expected.keys() - {ANYTHING}
            if not (names <= actual.keys() if others else names == actual.keys()):
                return False
            return all(_equal(expected[name], actual[name]) for name in names)
        case list(), list():
            return len(expected) == len(actual) and all(map(_equal, expected, actual))
        case int(), int() if expected > 10**12:
            return actual > 10**12
    return bool(expected == actual)
