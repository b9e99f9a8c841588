"""
A conversation that is held by pressing keys at a terminal.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable
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
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.conversations.terminal.typing import typed


class Expecting(Enum):
    """
    What the next proven prompt will mean.
    """

    PROMPT = auto()
    ANSWER = auto()
    CLEAR = auto()


class KeyboardConversation(Conversation):
    """
    Follows one session by its `dialect`; keeps at most `max_output` bytes of a
    turn.
    """

    #: Does a question for a tool look like the prompt?
    asks_at_prompt = True

    def __init__(self, dialect: Dialect, max_output: int) -> None:
        self._dialect = dialect
        self._max_output = max_output
        self._expecting = Expecting.PROMPT
        self._unsubmitted = False
        self._started = False

    @property
    def can_clear(self) -> bool:
        return self._dialect.clear is not None

    @property
    def wraps(self) -> bool:
        """
        May the agent cut lines of its answer?
        """
        return False

    @property
    def failure(self) -> AgentFailure | None:
        return find_failure(self._dialect.failures, self._own_words())

    # What to type.

    def ask(self, prompt: str) -> bytes:
        assert self.at_prompt, "typing is safe only at a proven prompt"
        keys = typed(prompt, self._keys())
        self._expect(Expecting.ANSWER)
        self._unsubmitted = True
        return keys

    def clear(self) -> bytes:
        assert self.at_prompt, "typing is safe only at a proven prompt"
        assert self._dialect.clear is not None, "it cannot forget"
        self._expect(Expecting.CLEAR)
        return self._dialect.clear.type

    def confirm_clear(self) -> bytes:
        assert self._dialect.clear is not None, "it asked whether to clear"
        self._touch()
        return self._dialect.clear.confirm

    def deny(self) -> bytes:
        assert self._dialect.approval is not None, "it asked for an approval"
        return self._keys_at(self._dialect.approval.deny)

    def allow(self) -> bytes:
        assert self._dialect.approval is not None, "it asked for an approval"
        return self._keys_at(self._dialect.approval.allow)

    def interrupt(self) -> bytes:
        self._expecting = Expecting.PROMPT
        self._drop()
        return b"" if self.at_prompt or self._unsubmitted else self._dialect.keys.interrupt

    def quit(self) -> bytes:
        return self._dialect.keys.quit

    def empty(self) -> bytes:
        self._touch()
        return self._dialect.keys.empty

    # For the kinds of conversation.

    def _keys(self) -> Keys:
        """
        What a prompt is typed with.
        """
        return self._dialect.keys

    def _expect(self, what: Expecting) -> None:
        """
        Something is typed, and the next proven prompt means `what`.
        """
        self._expecting = what
        self._touch()
        self._drop()

    @abstractmethod
    def _touch(self) -> None:
        """
        Keys are pressed: the prompt that is there proves nothing any more.
        """

    @abstractmethod
    def _drop(self) -> None:
        """
        What was said so far belongs to nobody.
        """

    @abstractmethod
    def _own_words(self) -> str:
        """
        What the agent printed, if it printed no answer yet, as plain text.
        """

    @abstractmethod
    def _shown(self) -> str:
        """
        What was printed since something was typed, or the end of it: a question
        stands in it.
        """

    def _keys_at(self, menus: Iterable[Menu]) -> bytes:
        """
        The keys for the first of `menus` that is shown.
        """
        shown = self._shown()
        for menu in menus:
            if menu.question.search(shown):
                self._touch()
                return menu.keys
        return b""

    def _prompted(self, said: str | None) -> Event:
        """
        The prompt is proven; what it means depends on what was typed last.

        Args:
            said: the text of the turn; None when it cannot be read.
        """
        self._started = True
        expecting, clear = self._expecting, self._dialect.clear
        match expecting:
            case Expecting.ANSWER:
                question = self._approval() if self.asks_at_prompt else None
                if question is not None:
                    return NeedsApproval(question)
                failure = self.failure
                self._expecting = Expecting.PROMPT
                if failure is not None:
                    return failure
                if said is None:
                    return AgentFailure("unreadable", "the screen did not keep all of the answer")
                return Answered(said, self.completion, self.wraps)
            case Expecting.CLEAR:
                assert clear is not None, "it was typed"
                shown = self._shown()
                if not clear.done.search(shown) and _found(clear.question, shown):
                    return NeedsConfirmation()
                self._expecting = Expecting.PROMPT
                return Cleared() if clear.done.search(shown) else NotCleared(self.last_seen)
            case _:
                return Ready()

    def _approval(self) -> str | None:
        """
        The question whether a tool may be used, if it is asked.
        """
        approval = self._dialect.approval
        found = approval.question.search(self._shown()) if approval is not None else None
        return found[0].strip() if found is not None else None


def _found(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is not None and pattern.search(text) is not None
