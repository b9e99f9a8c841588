"""
What to type so that a prompt is text and nothing more.

A prompt goes in as one bracketed paste and one Enter; to an agent that knows no
bracketed paste, as one line.  Whatever would mean more than text to the line
editor is refused: the prompts that tasks make never hold any of it.
"""

from __future__ import annotations

import re

from kiroworkers.conversations.dialects.dialect import Keys

#: A terminal in line mode keeps so many bytes of a line, its end included, and
#: silently drops the rest (N_TTY_BUF_SIZE of Linux).
LONGEST_LINE = 4095

#: Control characters, and what is no character at all.
_UNTYPABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

#: What a line begins with that is a command.
_COMMAND = re.compile(r"^\s*([/!@])", re.MULTILINE)


class UnsafePrompt(ValueError):
    """
    The prompt would mean more to the line editor than its text.
    """


class LineTooLong(ValueError):
    """
    The prompt does not fit into the one line that the agent can be given;
    `length` and `limit` are in bytes.
    """

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"the prompt is one line of {length} bytes, and {limit} can be typed")
        self.length = length
        self.limit = limit


def typed(prompt: str, keys: Keys) -> bytes:
    """
    The bytes that type and submit `prompt`.

    Raises:
        UnsafePrompt: if the line editor would not submit it as it is.
        LineTooLong: if it is to be one line, and is too long for that.
    """
    _check(prompt)
    if keys.paste_start:
        return b"".join((keys.paste_start, prompt.encode(), keys.paste_end, keys.submit))
    line = one_line(prompt).encode()
    if len(line) >= LONGEST_LINE:
        raise LineTooLong(len(line), LONGEST_LINE - 1)
    return line + keys.submit


def one_line(prompt: str) -> str:
    """
    `prompt` without newlines.  In the prompts of tasks they stand between
    sentences only: client text is in JSON literals, which hold none.
    """
    return " ".join(prompt.split("\n"))


def _check(prompt: str) -> None:
    if not prompt.strip():
        raise UnsafePrompt("an empty prompt is not submitted")
    # One search each: a prompt may be a megabyte, and is typed while others wait.
    strange = _UNTYPABLE.search(prompt)
    if strange is not None:
        raise UnsafePrompt(f"the prompt holds the control character {strange[0]!r}")
    command = _COMMAND.search(prompt)
    if command is not None:
        raise UnsafePrompt(f"a line begins with {command[1]!r}, a command")
    if prompt.count("```") % 2:
        raise UnsafePrompt("with an odd number of code fences Enter does not submit")
    if prompt.rstrip().endswith("\\"):
        raise UnsafePrompt("after a backslash Enter does not submit")
