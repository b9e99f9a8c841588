"""
Provide the base of all conversations on a terminal: what to type, and when.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from enum import Enum, auto

from kiroworkers.conversations.conversation import Conversation
from kiroworkers.conversations.dialects.dialect import Dialect, Keys, Menu
from kiroworkers.conversations.events import (
    AgentFailure,
    Answered,
    Cleared,
    Event,
    NeedsApproval,
    NeedsConfirmation,
    NotCleared,
    Ready,
    Usage,
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.conversations.terminal.prompt_encoding import encode_prompt
from kiroworkers.errors import FailureKind
from kiroworkers.images import Image

_UNKNOWN_USAGE = Usage()


class Expecting(Enum):
    """
    Name what the next prompt of the agent will mean.
    """

    PROMPT = auto()
    ANSWER = auto()
    CLEAR = auto()


class TerminalConversation(Conversation):
    """
    Follow one session by its dialect, and type what the dialect says.

    Args:
        dialect: The agent's dialect.
        max_output: The maximum output of a turn, in bytes.

    Attributes:
        asks_at_prompt: Whether the agent shows a prompt when it asks for an approval.
    """

    asks_at_prompt = True

    def __init__(self, dialect: Dialect, max_output: int) -> None:
        self._dialect = dialect
        self._max_output = max_output
        self._expecting = Expecting.PROMPT
        # Whether a prompt was typed that the agent has not taken yet.
        self._unsubmitted = False
        # Whether the first prompt was seen.
        self._started = False

    @property
    def can_clear(self) -> bool:
        """
        Return whether the dialect knows how to make the agent forget.
        """
        return self._dialect.clear is not None

    @property
    def wraps(self) -> bool:
        """
        Return whether the agent may cut long lines of its answer.
        """
        return False

    @property
    def failure(self) -> AgentFailure | None:
        """
        Return the failure that the output shows; None once an answer has begun.
        """
        return find_failure(self._dialect.failures, self._text_before_answer())

    # What to type.

    def ask(self, prompt: str, model: str = "", images: Sequence[Image] = ()) -> bytes:
        """
        Return the keys that submit `prompt`.  Call it only at the prompt.

        Raises:
            UnsafePrompt: If the agent would not take the prompt as it is.
            LineTooLong: If the prompt does not fit into one line and must.
        """
        assert self.at_prompt, "typing is safe only at a proven prompt"
        assert not images, "a terminal takes text only"
        keys = encode_prompt(prompt, self._prompt_keys())
        self._expect(Expecting.ANSWER)
        self._unsubmitted = True
        return keys

    def clear(self) -> bytes:
        """
        Return the keys that make the agent forget.  Call it only at the prompt.
        """
        assert self.at_prompt, "typing is safe only at a proven prompt"
        assert self._dialect.clear is not None, "the agent cannot forget"
        self._expect(Expecting.CLEAR)
        return self._dialect.clear.type

    def confirm_clear(self) -> bytes:
        """
        Return the keys that answer `NeedsConfirmation` with yes.
        """
        assert self._dialect.clear is not None, "it asked whether to clear"
        self._invalidate_prompt()
        return self._dialect.clear.confirm

    def deny(self) -> bytes:
        """
        Return the keys of the next step towards denying an approval.
        """
        assert self._dialect.approval is not None, "it asked for an approval"
        return self._keys_for_menu(self._dialect.approval.deny_menus)

    def allow(self) -> bytes:
        """
        Return the keys of the next step towards allowing the tool this one time.
        """
        assert self._dialect.approval is not None, "it asked for an approval"
        return self._keys_for_menu(self._dialect.approval.allow_menus)

    def interrupt(self) -> bytes:
        """
        Return the keys that stop the running turn, and discard what it has printed.

        Empty at the prompt, and while the agent has not taken the prompt yet.
        """
        self._expecting = Expecting.PROMPT
        self._discard_output()
        return b"" if self._reads_keys else self._dialect.keys.interrupt

    def quit(self) -> bytes:
        """
        Return the keys that make the agent exit; empty if the dialect names none.
        """
        return self._dialect.keys.quit

    def empty_composer(self) -> bytes:
        """
        Return the keys that erase a cancelled prompt from the agent's input field.
        """
        self._invalidate_prompt()
        return self._dialect.keys.empty

    # For the kinds of conversation.

    @property
    def _reads_keys(self) -> bool:
        """
        Return whether an interrupt would be read as a key, and not stop a turn.
        """
        return self.at_prompt or self._unsubmitted

    def _prompt_keys(self) -> Keys:
        """
        Return the keys to type a prompt with.
        """
        return self._dialect.keys

    def _expect(self, meaning: Expecting) -> None:
        """
        Prepare for input that gives the next prompt `meaning`.
        """
        self._expecting = meaning
        self._invalidate_prompt()
        self._discard_output()

    @abstractmethod
    def _invalidate_prompt(self) -> None:
        """
        Record that keys are pressed, so that the current prompt proves nothing from now on.
        """

    @abstractmethod
    def _discard_output(self) -> None:
        """
        Forget what has been printed so far, because a new turn begins.
        """

    @abstractmethod
    def _text_before_answer(self) -> str:
        """
        Return as plain text what the agent printed; empty once an answer has begun.

        It is searched for failures, and an answer might quote one.
        """

    @abstractmethod
    def _text_since_input(self) -> str:
        """
        Return what was printed since something was typed, or at least the end of it.

        It is searched for questions from the agent.
        """

    def _keys_for_menu(self, menus: Iterable[Menu]) -> bytes:
        """
        Return the keys for the first of `menus` that is shown; empty if none is.
        """
        text = self._text_since_input()
        for menu in menus:
            if menu.question.search(text):
                self._invalidate_prompt()
                return menu.keys
        return b""

    def _handle_prompt(
        self,
        text: str | None,
        styled: tuple[int, ...] = (),
        usage: Usage = _UNKNOWN_USAGE,
    ) -> Event:
        """
        Return the meaning of the prompt that has just appeared, given what was typed last.

        Args:
            text: The text of the turn, or None if it cannot be read.
            styled: The offsets in `text` at which it was styled.
            usage: What the turn cost.
        """
        self._started = True
        expecting, clear = self._expecting, self._dialect.clear
        match expecting:
            case Expecting.ANSWER:
                approval = self._approval_request() if self.asks_at_prompt else None
                if approval is not None:
                    return approval
                failure = self.failure
                self._expecting = Expecting.PROMPT
                if failure is not None:
                    return failure
                if text is None:
                    return AgentFailure(
                        FailureKind.UNREADABLE, "part of the answer was no longer on the screen"
                    )
                return Answered(text, self.completion, self.wraps, styled, usage)
            case Expecting.CLEAR:
                assert clear is not None, "it was typed"
                shown = self._text_since_input()
                if not clear.done.search(shown) and self._asks_to_confirm(shown):
                    return NeedsConfirmation()
                self._expecting = Expecting.PROMPT
                return Cleared() if clear.done.search(shown) else NotCleared(self.recent_output)
            case _:
                return Ready()

    def _asks_to_confirm(self, shown: str) -> bool:
        """
        Return whether `shown` contains the agent's question whether it should really clear.
        """
        assert self._dialect.clear is not None, "it was typed"
        question = self._dialect.clear.question
        return question is not None and question.search(shown) is not None

    def _approval_request(self) -> NeedsApproval | None:
        """
        Return the agent's request to use a tool, or None if it makes none.
        """
        question = self._approval_question()
        return None if question is None else NeedsApproval(question)

    def _approval_question(self) -> str | None:
        """
        Return the agent's question about using a tool, or None if it asks none.
        """
        approval = self._dialect.approval
        if approval is None:
            return None
        match = approval.question.search(self._text_since_input())
        return match[0].strip() if match is not None else None
