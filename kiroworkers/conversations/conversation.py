"""
Define the interface of a conversation: bytes in, events out; prompts in, bytes out.

A `Conversation` follows one session of an agent.  It is fed the bytes that the agent
writes and returns what they mean as events, and it turns prompts into the bytes to
write.  The subclasses differ in how they know the end of a turn:

- `BracketedPasteConversation` follows the marks that a line editor writes;
- `LineConversation` waits for a last line that looks like the prompt;
- `ScreenConversation` reads the status markers on a screen;
- `AcpConversation` speaks a protocol over pipes.

All of them report the same events, so the caller need not know which one it has.

None has a clock.  One that needs to know about silence returns a `quiet_timeout`, and
the caller calls `on_quiet` when that many seconds have passed without output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from kiroworkers.conversations.events import AgentFailure, Completion, Event, Source
from kiroworkers.images import Image


class Conversation(ABC):
    """
    Follow one session of an agent.

    The methods that return bytes say what to write to the agent, at once and in one
    piece.  Call each of them only in the situation that its docstring names.

    Attributes:
        completion: How this kind of conversation knows the end of a turn.
        source: Where this kind of conversation reads the text of an answer.
        slow_clear: Whether a clear may take as long as a start of the agent.
        streaming: Set to True to get `TextChunk` events where producing them has a cost.
        interrupt_can_race: Whether an interrupt may reach the agent after its answer, so
            that it is read at the prompt and makes the agent draw another prompt.
        sends_late: Whether output of a turn can arrive after the end of that turn.
        selects_models: Whether `ask` can be given a model.
        accepts_images: Whether `ask` can be given images.  This may not be known before the agent
            is at its first prompt.
        expects_clear: Whether a clear normally follows a turn.  If not, nothing is prepared
            for one.
        turn_may_go_on: Set to True before a clear if output of the last turn may still be on its
            way, because the answer came late or was doubted.
        collects_lines: Set to a function that returns whether the agent's terminal passes on whole
            lines, so that no line editor is reading.
    """

    completion: Completion
    source: Source = "terminal"
    slow_clear = False
    streaming = False
    interrupt_can_race = True
    sends_late = False
    selects_models = False
    accepts_images = False
    expects_clear = True
    turn_may_go_on = False
    collects_lines: Callable[[], bool] = staticmethod(lambda: False)

    @property
    @abstractmethod
    def at_prompt(self) -> bool:
        """
        Return whether the agent is known to wait for a prompt, with nothing typed yet.
        """

    @property
    @abstractmethod
    def can_clear(self) -> bool:
        """
        Return whether the agent can be made to forget the conversation.
        """

    @property
    @abstractmethod
    def recent_output(self) -> str:
        """
        Return the end of what the agent wrote, as plain text.
        """

    @property
    @abstractmethod
    def failure(self) -> AgentFailure | None:
        """
        Return the failure that the agent reported, or None if it has since resumed.
        """

    @property
    def answer_started(self) -> bool:
        """
        Return whether the agent is known to have begun its answer to the last prompt.

        Spinners, echo and thoughts do not count.  Where the beginning of an answer cannot be
        told from other output, it is not known before the turn ends.
        """
        return False

    @property
    def desynchronized(self) -> bool:
        """
        Return whether the agent printed so much that the session is no longer followed.
        """
        return False

    @property
    def awaits(self) -> str:
        """
        Return the pattern that the last line must match at the prompt; empty if none does.
        """
        return ""

    @property
    def quiet_timeout(self) -> float | None:
        """
        Return the seconds without output after which to call `on_quiet`.

        None while silence means nothing; 0 if events are due already, such as the `Cleared`
        of an agent that had prepared another conversation.
        """
        return None

    @property
    def models(self) -> tuple[str, ...]:
        """
        Return the identifiers of the models that the agent offers; empty if it names none.
        """
        return ()

    # What to write.

    def data_to_send(self) -> bytes:
        """
        Return the bytes that the conversation itself has wanted written since the last call.

        Call it when the program has started, and after each call of `feed` and `on_quiet`.
        """
        return b""

    @abstractmethod
    def ask(self, prompt: str, model: str = "", images: Sequence[Image] = ()) -> bytes:
        """
        Return the bytes that submit `prompt`.  Call it only at the prompt.

        Args:
            prompt: The text of the prompt.
            model: The model that is to answer; empty for the session's own.  It may be given
                only if the conversation `selects_models`.
            images: The images to send with the text.  They may be given only if the conversation
                `accepts_images`.

        Raises:
            UnsafePrompt: If the agent would not take the prompt as it is.
            LineTooLong: If the agent cannot be given a prompt of this length.
        """

    @abstractmethod
    def clear(self) -> bytes:
        """
        Return the bytes that make the agent forget the conversation.

        Call it only at the prompt, and only if the conversation `can_clear`.
        """

    def confirm_clear(self) -> bytes:
        """
        Return the bytes that answer `NeedsConfirmation` with yes.
        """
        raise AssertionError("this agent asks for no confirmation")

    @abstractmethod
    def deny(self) -> bytes:
        """
        Return the bytes of the next step towards denying what `NeedsApproval` asks for.
        """

    @abstractmethod
    def allow(self) -> bytes:
        """
        Return the bytes of the next step towards allowing the tool this one time.

        This answers `NeedsApproval` with yes, and never grants a lasting permission.
        """

    @abstractmethod
    def interrupt(self) -> bytes:
        """
        Return the bytes that stop the running turn, and discard what it has printed.

        The next prompt is then reported as `Ready`, without an answer.  The bytes are
        empty if the prompt is already back, and also while the agent has not taken the
        prompt yet, because the keys would not count as an interrupt: call this again at
        `Submitted`.
        """

    def quit(self) -> bytes:
        """
        Return the bytes that make the agent exit; empty if its dialect names none.

        Call it only at the prompt.
        """
        return b""

    def empty_composer(self) -> bytes:
        """
        Return the bytes that answer `ComposerNotEmpty`.
        """
        raise AssertionError("this agent has no composer")

    # What was read.

    @abstractmethod
    def feed(self, data: bytes) -> list[Event]:
        """
        Return the events in `data`, which may be cut at any byte.
        """

    def feed_stderr(self, data: bytes) -> None:
        """
        Take in `data` that the program wrote to standard error.
        """
        raise AssertionError("a terminal has one output")

    def on_quiet(self) -> list[Event]:
        """
        Return the events that follow from `quiet_timeout` seconds of silence.
        """
        return []
