"""
Describe one agent, and how to talk to it, as data.

Everything that a new version of an agent may change is in a dialect's file and nowhere
else: the command and the flags that each version knows, the environment, the marks around
a prompt, the keys, and the questions with their safe answers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, TypeAlias

from attrs import field, frozen

from kiroworkers.conversations.dialects.environment import filter_environment
from kiroworkers.conversations.failures import FailurePattern

Version = tuple[int, ...]

#: Rows and columns of a terminal.
Window = tuple[int, int]

#: The form in which JSON survives the agent's interface: ``compact``, on one line;
#: ``lines``, with one member per line, where long lines may be cut.
Layout: TypeAlias = Literal["compact", "lines"]


def version_in(text: str) -> Version | None:
    """
    Return the first version number in `text`, such as ``(2, 11, 0)``, or None.
    """
    match = re.search(r"\b(\d+(?:\.\d+)+)\b", text)
    return tuple(map(int, match[1].split("."))) if match else None


@frozen
class Flag:
    """
    Represent arguments for the agent's versions from `since` up.
    """

    arguments: tuple[str, ...]
    since: Version = ()


@frozen
class Menu:
    """
    Represent a menu of the agent, with its cursor at a certain choice.

    Attributes:
        question: The pattern by which the menu is recognized in plain text.
        keys: What to press to get to, or to make, the wanted choice.
    """

    question: re.Pattern[str] = field(eq=False)
    keys: bytes


@frozen
class BracketedPastePrompt:
    """
    Represent a line editor that writes marks around what it reads.

    Attributes:
        open: The mark that it writes when it starts to read.
        ready: The pattern that proves, after `open`, that the prompt is drawn.
        close: The mark that it writes when it stops reading.  Everything between the two
            marks is prompt and echo.
    """

    open: bytes
    ready: re.Pattern[bytes] = field(eq=False)
    close: bytes


@frozen
class LinePrompt:
    """
    Represent a prompt on the last line, with nothing else that marks a turn's end.

    Attributes:
        prompt: The pattern for the last line.
        quiet: The seconds without output after which the prompt is believed.
    """

    prompt: re.Pattern[str] = field(eq=False)
    quiet: float


@frozen
class Marker:
    """
    Represent texts that show the agent's status; all that are given must be there.

    Attributes:
        screen: The pattern for the last rows of the screen.
        title: The pattern for the window's title.
        state: The pattern for what the agent says about its state by ``OSC 7501``.
    """

    screen: re.Pattern[str] | None = field(default=None, eq=False)
    title: re.Pattern[str] | None = field(default=None, eq=False)
    state: re.Pattern[str] | None = field(default=None, eq=False)


@frozen
class StatusMarkers:
    """
    Represent how a full-screen program shows whether it is idle or busy.

    Attributes:
        idle: Shown while the agent waits for a prompt.
        busy: Shown while the agent works.
        quiet: The seconds without output after which the idle marker is believed.  Some
            agents still draw after it.
        rows: How many of the last rows that are not blank may hold the markers.
        output: The pattern for the first row of a turn's output at the moment when the
            busy marker appears.  The rows above it are echo.
        wraps: Whether the agent cuts long lines itself.  If the terminal's edge cuts one
            all the same, the two disagree about the width of the text.
    """

    idle: Marker
    busy: Marker
    quiet: float
    rows: int
    output: re.Pattern[str] = field(eq=False)
    wraps: bool


@frozen
class Acp:
    """
    Represent an agent that speaks the Agent Client Protocol over pipes.

    It has no terminal.
    """


@frozen
class Keys:
    """
    Hold what to type.

    Attributes:
        submit: Submits what was typed.
        interrupt: Stops a turn.
        paste_start: The mark at the beginning of a bracketed paste.  Empty if the agent
            does not know bracketed paste and must be given a single line.
        paste_end: The mark at the end of a bracketed paste, or empty.
        empty: Empties the input field, where an agent puts a cancelled prompt back into
            it.
        quit: Makes the agent exit, typed at its prompt.
        apart: Whether `submit` must be typed a moment after the text, because the agent
            would otherwise take it for a newline, or submit only what was there before.
            This also holds for what `Clear` types.
    """

    submit: bytes
    interrupt: bytes
    paste_start: bytes = b""
    paste_end: bytes = b""
    empty: bytes = b""
    quit: bytes = b""
    apart: bool = False


@frozen
class Clear:
    """
    Hold how the agent is made to forget the conversation.

    Attributes:
        type: What to type.
        done: The pattern for the text by which the agent confirms it.
        question: The pattern for a question that the agent may ask first.
        confirm: What to type to answer the question with yes.
    """

    type: bytes
    done: re.Pattern[str] = field(eq=False)
    question: re.Pattern[str] | None = field(default=None, eq=False)
    confirm: bytes = b""


@frozen
class Approval:
    """
    Hold how the agent asks whether it may use a tool, and what to answer.

    Attributes:
        question: The pattern for the question.
        deny: The menus on the way to denying it, with the keys for each.
        allow: The menus on the way to allowing the tool once.
    """

    question: re.Pattern[str] = field(eq=False)
    deny: tuple[Menu, ...]
    allow: tuple[Menu, ...]


@frozen
class StateDir:
    """
    Represent a directory in which the agent keeps state.

    Sessions that run at the same time would get in each other's way there, so each
    session gets a directory of its own.

    Attributes:
        variable: The environment variable that names the directory.
        default: Where the directory is if the variable is not set, relative to the
            user's home.
        copy: Files of the user's directory to copy to the session's.
        link: Files that stay the user's own, such as a login that the agent renews.
    """

    variable: str
    default: str
    copy: tuple[str, ...] = ()
    link: tuple[str, ...] = ()


@frozen
class Dialect:
    """
    Represent an agent: how to start it, talk to it and understand it.

    Attributes:
        name: The agent's name, as `/health` reports it.
        label: The agent's name for people.
        program: The program to look up on PATH; None for this server's own Python.
        arguments: The arguments for every version.
        flags: The arguments for certain versions.
        version_arguments: The arguments that make `program` print its version; empty if
            it is not to be asked.
        login_arguments: The arguments that make `program` exit with status 0 if somebody
            is logged in; empty if it cannot be asked.
        until: The first version that this dialect cannot drive; None for no limit.
        set_environment: Variables to set for the agent.
        pass_environment: Names, or patterns for names, of the server's variables that
            the agent gets beyond those that every agent gets.
        state_dirs: The directories that each session needs for itself.
        window: Rows and columns of the terminal; None for an agent without a terminal.
        readiness: How the prompt, and with it the end of a turn, is recognized.
        keys: What to type.
        clear: How to make the agent forget.  None if it cannot; a session then ends
            with its first turn.
        approval: How the agent asks for a tool; None if that is not known.
        answer_prefix: The pattern for the beginning of every answer.  `failures` are only
            looked for in a turn without it, because an answer may quote one.  None if
            answers are not marked.  It is searched for in the terminal's raw output if
            `readiness` is a `BracketedPastePrompt`, and in plain text otherwise.
        layout: The form of JSON that survives the agent's interface.
        journal: The directory, relative to the user's home, in which the agent keeps a
            journal of each session; None if it keeps none.
        menus: Menus before the first prompt, with the keys that lead to the safe choice.
        failures: The texts by which a failure is recognized, in order of preference.
    """

    name: str
    label: str
    program: str | None
    arguments: tuple[str, ...]
    flags: tuple[Flag, ...]
    version_arguments: tuple[str, ...]
    login_arguments: tuple[str, ...]
    until: Version | None
    set_environment: Mapping[str, str]
    pass_environment: tuple[str, ...]
    state_dirs: tuple[StateDir, ...]
    window: Window | None
    readiness: BracketedPastePrompt | LinePrompt | StatusMarkers | Acp
    keys: Keys
    clear: Clear | None
    approval: Approval | None
    answer_prefix: re.Pattern[bytes] | None = field(eq=False)
    layout: Layout
    journal: str | None
    menus: tuple[Menu, ...]
    failures: tuple[FailurePattern, ...]

    @property
    def transport(self) -> Literal["terminal", "acp"]:
        """
        Return what the agent's sessions are driven through.
        """
        return "terminal" if self.window else "acp"

    def command(self, version: Version | None) -> tuple[str, ...]:
        """
        Return the arguments for `version` of the agent.

        If the version is unknown, they are those for the newest one that the dialect
        knows.
        """
        for_version = (
            argument
            for flag in self.flags
            if version is None or version >= flag.since
            for argument in flag.arguments
        )
        return (*self.arguments, *for_version)

    def environment(
        self,
        inherited: Mapping[str, str],
        extra_patterns: Iterable[str] = (),
        foreign_patterns: Collection[str] = (),
    ) -> dict[str, str]:
        """
        Return the environment of the agent's sessions.

        Args:
            inherited: The server's own environment.
            extra_patterns: Names and patterns of variables to pass on, in addition to
                `pass_environment`.
            foreign_patterns: Names and patterns of variables that belong to other
                agents, which a pattern for all variables does not include.
        """
        patterns = (*self.pass_environment, *extra_patterns)
        passed = filter_environment(inherited, patterns, foreign_patterns)
        return {**passed, **self.set_environment}
