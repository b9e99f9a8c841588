"""
Encode a prompt as keys, so that the agent reads it as text and nothing more.

A prompt is typed as one bracketed paste and one Enter, or as one line if the agent does not
know bracketed paste.  A prompt is refused if it contains anything that the agent's line
editor would not take as text.  The prompts that tasks make never do.
"""

from __future__ import annotations

import re

from kiroworkers.conversations.dialects.dialect import Keys

#: A terminal in line mode keeps this many bytes of a line, its end included, and
#: silently drops the rest (N_TTY_BUF_SIZE of Linux).
MAX_TERMINAL_LINE = 4095

#: Control characters other than newline, and surrogates, which are not characters.
_CONTROL_CHARACTER = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

#: How a line that is a command begins.
_COMMAND = re.compile(r"^\s*([/!@])", re.MULTILINE)


class UnsafePrompt(ValueError):
    """
    Raised when the agent's line editor would not take a prompt as plain text.
    """


class LineTooLong(ValueError):
    """
    Raised when a prompt must be typed as one line and is too long for a terminal.

    Attributes:
        length: The length of the prompt in bytes.
        limit: The maximum number of bytes that can be typed.
    """

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(
            f"the prompt has {length} bytes in one line, and at most {limit} can be typed"
        )
        self.length = length
        self.limit = limit


def encode_prompt(prompt: str, keys: Keys) -> bytes:
    """
    Return the bytes that type and submit `prompt`.

    Raises:
        UnsafePrompt: If the line editor would not submit the prompt as it is.
        LineTooLong: If the prompt must be typed as one line and is too long.
    """
    _check(prompt)
    if keys.paste_start:
        return b"".join((keys.paste_start, prompt.encode(), keys.paste_end, keys.submit))
    line = to_one_line(prompt).encode()
    if len(line) >= MAX_TERMINAL_LINE:
        raise LineTooLong(len(line), MAX_TERMINAL_LINE - 1)
    return line + keys.submit


def to_one_line(prompt: str) -> str:
    """
    Return `prompt` with a space for each newline.

    In the prompts of tasks newlines stand only between sentences: the text of clients is
    in JSON literals, which contain no newlines.
    """
    return " ".join(prompt.split("\n"))


def _check(prompt: str) -> None:
    if not prompt.strip():
        raise UnsafePrompt("the prompt is empty")
    # One search each: a prompt may be a megabyte, and typing it holds up other requests.
    control = _CONTROL_CHARACTER.search(prompt)
    if control is not None:
        raise UnsafePrompt(f"the prompt contains the control character {control[0]!r}")
    command = _COMMAND.search(prompt)
    if command is not None:
        raise UnsafePrompt(f"a line of the prompt begins with {command[1]!r}, like a command")
    if prompt.count("```") % 2:
        raise UnsafePrompt(
            "the prompt has an odd number of code fences, so Enter would not submit it"
        )
    if prompt.rstrip().endswith("\\"):
        raise UnsafePrompt("the prompt ends with a backslash, so Enter would not submit it")
