"""
What is known of one agent's terminal, as data.

Everything that a new version of an agent may change is in a dialect's file and
nowhere else: the command and the flags each version knows, the environment, the
marks around a prompt, the keys, the questions and their safe answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import field, frozen

from kiroworkers.terminal.trouble import TroubleSign

Version = tuple[int, ...]


def version_in(text: str) -> Version | None:
    """
    The first version number in `text`, such as ``(2, 11, 0)``; None without one.
    """
    match = re.search(r"\b(\d+(?:\.\d+)+)\b", text)
    return tuple(map(int, match[1].split("."))) if match else None


@frozen
class Flag:
    """
    Arguments that are passed to versions from `since` up.
    """

    arguments: tuple[str, ...]
    since: Version = ()


@frozen
class Menu:
    """
    A menu at the start, as plain text shows it, and the keys that go from there
    towards the safe choice.
    """

    question: re.Pattern[str] = field(eq=False)
    keys: bytes


@frozen
class Dialect:
    """
    One agent's terminal.

    @ivar name: the agent's name, as `/health` says it.
    @ivar label: the same for people.
    @ivar program: looked up on PATH; None for our own Python.
    @ivar version_arguments: make `program` print its version; empty to not ask.
    @ivar until: the first version that this dialect cannot drive.
    @ivar prompt_open: the agent's line editor starts reading.
    @ivar prompt_ready: after `prompt_open`, proves that the prompt is drawn.
    @ivar prompt_close: the line editor stops reading; what was before is echo.
    @ivar answer_prefix: what every answer begins with; what was printed before
        is the agent's own word, in which `troubles` are looked for.
    @ivar clear_question, clear_done, approval_question: searched in plain text.
    """

    name: str
    label: str
    program: str | None
    arguments: tuple[str, ...]
    flags: tuple[Flag, ...]
    version_arguments: tuple[str, ...]
    until: Version | None
    set_environment: Mapping[str, str]
    unset_environment: tuple[str, ...]
    rows: int
    columns: int
    prompt_open: bytes
    prompt_ready: re.Pattern[bytes] = field(eq=False)
    prompt_close: bytes
    paste_start: bytes
    paste_end: bytes
    submit: bytes
    interrupt: bytes
    clear: bytes
    clear_question: re.Pattern[str] = field(eq=False)
    clear_confirm: bytes
    clear_done: re.Pattern[str] = field(eq=False)
    approval_question: re.Pattern[str] = field(eq=False)
    approval_deny: bytes
    answer_prefix: re.Pattern[bytes] = field(eq=False)
    menus: tuple[Menu, ...]
    troubles: tuple[TroubleSign, ...]

    def command(self, version: Version | None) -> tuple[str, ...]:
        """
        The arguments for `version`; for the newest that the dialect knows when
        the version is not known.
        """
        wanted = (
            argument
            for flag in self.flags
            if version is None or version >= flag.since
            for argument in flag.arguments
        )
        return (*self.arguments, *wanted)

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """
        The session's environment, made from the server's own.
        """
        kept = {
            name: value for name, value in inherited.items() if name not in self.unset_environment
        }
        return {**kept, **self.set_environment}
