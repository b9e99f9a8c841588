"""
One session, read truthfully: bytes to events, prompts to bytes.

A `Conversation` is fed what the agent writes and says what it means; it is asked
what to write, and says the bytes.  How the end of a turn is known differs:
`cycle` follows a line editor's marks, `line` waits for a prompt, `screen` looks
at a screen, all three by pressing keys (`keyboard`); `acp` speaks a protocol.
All give the same events, so whoever follows a session need not know which one
it is.

None knows a clock.  One that must see silence says in `quiet_timeout` for how long,
and is told by `on_quiet`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from kiroworkers.conversations.events import AgentFailure, Completion, Event, Source


class Conversation(ABC):
    """
    Follows one session.

    The methods that return bytes say what to write, at once and as one piece;
    each may be called only when its docstring says.
    """

    #: How this kind of conversation knows the end of a turn.
    completion: Completion
    #: Where the text of an answer is read.
    source: Source = "terminal"
    #: May a clear take as long as a start?
    clears_as_it_starts = False
    #: Report `TextChunk` events, where that costs something.
    streaming = False
    #: May an interrupt and the answer cross, so that the interrupt is read at the
    #: prompt, and draws another?
    interrupts_cross = True
    #: Can output of a turn arrive after the end of that turn?
    sends_late = False

    @property
    @abstractmethod
    def at_prompt(self) -> bool:
        """
        Is it proven that the agent waits for a prompt, with nothing typed yet?
        """

    @property
    @abstractmethod
    def can_clear(self) -> bool:
        """
        Can the conversation be cleared?
        """

    @property
    @abstractmethod
    def last_seen(self) -> str:
        """
        The end of what the agent wrote, as plain text.
        """

    @property
    @abstractmethod
    def failure(self) -> AgentFailure | None:
        """
        What the agent says is wrong, if that is the last it said.
        """

    @property
    def lost(self) -> bool:
        """
        Did it print so much that it is not followed any more?
        """
        return False

    @property
    def quiet_timeout(self) -> float | None:
        """
        After how many seconds without output `on_quiet` is to be called; None
        while silence means nothing.
        """
        return None

    # What to write.

    def data_to_send(self) -> bytes:
        """
        What is to be written though nobody asked for it, since this was last called:
        to be called when the program has started, and after each `feed` and `on_quiet`.
        """
        return b""

    @abstractmethod
    def ask(self, prompt: str) -> bytes:
        """
        Submit `prompt`.  Only at the prompt.

        Raises:
            UnsafePrompt: if the agent would not take it as it is.
            LineTooLong: if the agent cannot be given so much.
        """

    @abstractmethod
    def clear(self) -> bytes:
        """
        Make the agent forget the conversation, if it `can_clear`.  Only at the
        prompt.
        """

    def confirm_clear(self) -> bytes:
        """
        The answer to `NeedsConfirmation`.
        """
        raise AssertionError("it does not ask")

    @abstractmethod
    def deny(self) -> bytes:
        """
        The next step towards an answer to `NeedsApproval` that lets no tool run.
        """

    @abstractmethod
    def allow(self) -> bytes:
        """
        The next step towards an answer to `NeedsApproval` that lets the tool run
        this once.
        """

    @abstractmethod
    def interrupt(self) -> bytes:
        """
        Stop the running turn.  What it said is dropped; the next proven prompt
        is only `Ready`.  Nothing to write when the prompt is already there; nor
        while the prompt is not taken yet, when this would be no interrupt: then
        again at `Submitted`.
        """

    def quit(self) -> bytes:
        """
        Make the agent end; nothing to write where it is not told how.  Only at
        the prompt.
        """
        return b""

    def empty(self) -> bytes:
        """
        The answer to `NeedsEmptying`.
        """
        raise AssertionError("there is nothing to empty")

    # What was read.

    @abstractmethod
    def feed(self, data: bytes) -> list[Event]:
        """
        The events in `data`, which may be cut anywhere.
        """

    def feed_stderr(self, data: bytes) -> None:
        """
        The program wrote `data` beside the conversation, to standard error.
        """
        raise AssertionError("a terminal has one output")

    def on_quiet(self) -> list[Event]:
        """
        The events in a silence of `quiet_timeout` seconds.
        """
        return []
