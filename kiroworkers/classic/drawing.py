r"""
Define the look of the classic interface: prompt, spinner, answers and footer.

All of it is text with escape sequences.  Newlines are ``\n``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FENCED = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&"))
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

#: Seconds for which one frame of the spinner is shown.
FRAME_SECONDS = 0.08

ANSWER_PREFIX = "\x1b[38;5;141m> \x1b[0m"
SUBMITTED = " \n\x1b[38;5;252m\x1b[0m\x1b[?25l"
SPINNER_GONE = "\x1b[2K\x1b[1G\x1b[?25h"
CANCELLED = "\x1b[2K\x1b[1G\x1b[?25h\n\n"
EXIT_HINT = "\n(To exit the CLI, press Ctrl+C or Ctrl+D again or type /quit)\n\n"
CLEAR_QUESTION = (
    "\n\x1b[38;5;244m\nAre you sure? This will erase the conversation history and context from "
    "hooks for the current session. "
    "[\x1b[38;5;13my\x1b[38;5;244m/\x1b[38;5;13mn\x1b[38;5;244m]:\n\n\x1b[0m"
)
CLEAR_DONE = "\n\x1b[32mConversation history cleared.\x1b[0m\n\n"
CLEAR_PROMPT = "\x1b[38;5;11m> \x1b[39m"
APPROVAL_QUESTION = (
    "\x1b[38;5;244mAllow this action? Use '\x1b[38;5;13mt\x1b[38;5;244m' to trust (always allow) "
    "this tool for the session. "
    "[\x1b[38;5;13my\x1b[38;5;244m/\x1b[38;5;13mn\x1b[38;5;244m/\x1b[38;5;13mt\x1b[38;5;244m]:\n\n\x1b[0m"
)


def width(text: str) -> int:
    """
    Return the number of columns that `text` takes, not counting colours.
    """
    return len(_COLOURS.sub("", text))


def prompt(agent: str = "", used: int | None = None) -> str:
    """
    Return the prompt with its colours.

    Args:
        agent: The name of a custom agent to show before the prompt; none if empty.
        used: The percentage of the context window in use to show, or None.
    """
    parts = f"\x1b[38;5;6m[{agent}] \x1b[0m" if agent else ""
    parts += f"\x1b[32m{used}% \x1b[0m" if used is not None else ""
    return parts + "\x1b[38;5;93m> \x1b[0m"


def spinner() -> Iterator[str]:
    """
    Yield the frames of the spinner endlessly.
    """
    while True:
        for frame in _SPINNER:
            yield f"\r{frame} Thinking..."


def answer(text: str, prefix: str = ANSWER_PREFIX) -> str:
    """
    Return an answer as the interface prints it, after `prefix`.

    Code fences vanish, and their content is printed as it is except for four decoded
    entities.  Every other line ends in two resets.
    """
    printed = ""
    end = 0
    for fence in _FENCED.finditer(text):
        printed += _prose(text[end : fence.start()])
        printed += f"\x1b[1m{fence[1]}\n\x1b[0m\x1b[38;5;10m{_decoded(fence[2])}\x1b[0m"
        end = fence.end()
    return prefix + printed + _prose(text[end:])


def footer(seconds: float, credits: float | None = None) -> str:
    """
    Return the footer of an answer.

    Args:
        seconds: The duration of the turn.
        credits: The credits spent, or None to leave them out.
    """
    spent = f"Credits: {credits:.2f} • " if credits is not None else ""
    return f"\x1b[0m\x1b[0m\n\x1b[38;5;8m\n ▸ {spent}Time: {seconds:.0f}s\n\n\x1b[0m"


def _decoded(text: str) -> str:
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return text


def _prose(text: str) -> str:
    return text.replace("\n", "\x1b[0m\x1b[0m\n")
