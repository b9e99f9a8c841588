"""
What is known of one agent's terminal, as data.

Everything that a new version of an agent may change is in a dialect's file and
nowhere else: the command and the flags each version knows, the environment, the
marks around a prompt, the keys, the questions and their safe answers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, TypeAlias

from attrs import field, frozen

from kiroworkers.conversations.dialects.environment import passed
from kiroworkers.conversations.failures import FailurePattern

Version = tuple[int, ...]

#: Rows and columns of a terminal.
Window = tuple[int, int]

#: The form in which JSON survives the terminal: on one line, or a member a line
#: where a line may be cut at the terminal's edge.
Layout: TypeAlias = Literal["compact", "lines"]


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
    A menu, as plain text shows it, and the keys that go from there towards the
    wanted choice.
    """

    question: re.Pattern[str] = field(eq=False)
    keys: bytes


@frozen
class BracketedPastePrompt:
    """
    A line editor brackets what it reads.

    Attributes:
        open: it starts reading.
        ready: after `open`, proves that the prompt is drawn.
        close: it stops reading; what was before is echo.
    """

    open: bytes
    ready: re.Pattern[bytes] = field(eq=False)
    close: bytes


@frozen
class LinePrompt:
    """
    A prompt is all there is: the last line matches `prompt`, and nothing more
    comes for `quiet` seconds.
    """

    prompt: re.Pattern[str] = field(eq=False)
    quiet: float


@frozen
class Marker:
    """
    A text on the screen, in the window's title, or in what the agent says of
    its state (``OSC 7501``).  All that are given must be there.
    """

    screen: re.Pattern[str] | None = field(default=None, eq=False)
    title: re.Pattern[str] | None = field(default=None, eq=False)
    state: re.Pattern[str] | None = field(default=None, eq=False)


@frozen
class StatusMarkers:
    """
    A full-screen program shows whether it is idle or busy.

    Attributes:
        quiet: seconds without output after which an idle sign is believed,
            since some agents draw after it.
        rows: the signs stand in the last so many rows that are not blank.
        output: stands in the first row of a turn's output when the busy sign
            comes up; the rows above it are echo.
        wraps: the agent cuts long lines itself.  Where the terminal's edge cuts
            one all the same, the two disagree on how wide its text is.
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
    It speaks the Agent Client Protocol over pipes, and has no terminal.
    """


@frozen
class Keys:
    """
    What to type.

    Attributes:
        paste_start, paste_end: around a bracketed paste; empty where the agent
            knows none, and is given one line.
        apart: the agent takes `submit` for a newline, or for what was typed
            before, unless it comes a moment after the text; what `Clear` types is
            submitted then, too.
        interrupt: ends a turn.
        empty: empties the composer, where an agent puts a cancelled prompt
            back into it.
        quit: ends the agent, typed at its prompt.
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
    How the agent forgets the conversation: what to type, the question it may
    ask and the answer to it, and the text that confirms.
    """

    type: bytes
    done: re.Pattern[str] = field(eq=False)
    question: re.Pattern[str] | None = field(default=None, eq=False)
    confirm: bytes = b""


@frozen
class Approval:
    """
    How the agent asks whether it may use a tool, and the keys for either answer.
    """

    question: re.Pattern[str] = field(eq=False)
    deny: tuple[Menu, ...]
    allow: tuple[Menu, ...]


@frozen
class StateDir:
    """
    A folder in which the agent keeps what it knows, and where sessions at the same
    time would meet: each gets its own.

    Attributes:
        variable: says where it is.
        default: where it is without, below the user's home.
        copy: files of the user's own folder that the session's begins with.
        link: files that stay the user's own, such as a login that is renewed.
    """

    variable: str
    default: str
    copy: tuple[str, ...] = ()
    link: tuple[str, ...] = ()


@frozen
class Dialect:
    """
    One agent's terminal.

    Attributes:
        name: the agent's name, as `/health` says it.
        label: the same for people.
        program: looked up on PATH; None for our own Python.
        version_arguments: make `program` print its version; empty to not ask.
        login_arguments: make `program` exit with 0 if somebody is logged in;
            empty where it cannot be asked.
        until: the first version that this dialect cannot drive.
        pass_environment: names of the server's variables that it gets, or
            patterns of names, beyond those that every agent does.
        window: rows and columns of its terminal; None where it has none.
        readiness: how the prompt, and with it the end of a turn, is known.
        clear: None where the agent cannot forget; a turn is its last then.
        answer_prefix: what every answer begins with; what was printed before
            is the agent's own word, in which `failures` are looked for.  None where
            the two cannot be told apart.  Searched in what came from the terminal
            where `readiness` is a `BracketedPastePrompt`, else in what a reader would have seen.
        journal: the folder, below the user's home, in which the agent keeps a
            journal of each session; None without.
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
        What its sessions are driven through.
        """
        return "terminal" if self.window else "acp"

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

    def environment(
        self,
        inherited: Mapping[str, str],
        also: Iterable[str] = (),
        of_others: Collection[str] = (),
    ) -> dict[str, str]:
        """
        The session's environment, made from the server's own; `also` names, as
        `pass_environment` does, what else to take from there, and `of_others` what
        is not meant where everything is.
        """
        wanted = (*self.pass_environment, *also)
        return {**passed(inherited, wanted, of_others), **self.set_environment}
