"""
One session's terminal, read truthfully: bytes to events, prompts to bytes.

A `Conversation` is fed what the terminal prints and says what it means; it is
asked what to type, and says the bytes.  How the end of a turn is known differs:
`cycle` follows a line editor's marks, `line` waits for a prompt, `screen` looks
at a screen.  All give the same events, so whoever follows a session need not
know which one it is.

None knows a clock.  One that must see silence says in `patience` for how long,
and is told by `silent`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import Enum, auto

from kiroworkers.terminal.dialect import Dialect, Keys, Menu
from kiroworkers.terminal.events import (
    Answered,
    Cleared,
    Completion,
    Event,
    NeedsApproval,
    NeedsConfirmation,
    NotCleared,
    Ready,
    Troubled,
)
from kiroworkers.terminal.trouble import find_trouble
from kiroworkers.terminal.typing import typed


class Expecting(Enum):
    """
    What the next proven prompt will mean.
    """

    PROMPT = auto()
    ANSWER = auto()
    CLEAR = auto()


class Conversation(ABC):
    """
    Follows one session by its `dialect`; keeps at most `max_output` bytes of a
    turn.

    The methods that return bytes say what to write, at once and as one piece;
    each may be called only when its docstring says.
    """

    #: How this kind of conversation knows the end of a turn.
    completion: Completion
    #: Does a question for a tool look like the prompt?
    asks_at_prompt = True

    def __init__(self, dialect: Dialect, max_output: int) -> None:
        self._dialect = dialect
        self._max_output = max_output
        self._expecting = Expecting.PROMPT
        self._unsubmitted = False
        self._started = False

    @property
    @abstractmethod
    def at_prompt(self) -> bool:
        """
        Is the prompt proven, with nothing typed at it?
        """

    @property
    @abstractmethod
    def last_seen(self) -> str:
        """
        The end of what the agent printed, as plain text.
        """

    @property
    def forgets(self) -> bool:
        """
        Can the conversation be cleared?
        """
        return self._dialect.clear is not None

    @property
    def wraps(self) -> bool:
        """
        May the agent cut lines of its answer?
        """
        return False

    @property
    def lost(self) -> bool:
        """
        Did it print so much that it is not followed any more?
        """
        return False

    @property
    def patience(self) -> float | None:
        """
        After how many seconds without output `silent` is to be called; None
        while silence means nothing.
        """
        return None

    @property
    def trouble(self) -> Troubled | None:
        """
        What the agent says is wrong, if that is the last it said.
        """
        return find_trouble(self._dialect.troubles, self._own_words())

    # What to write.

    def ask(self, prompt: str) -> bytes:
        """
        Type `prompt` and submit it.  Only at the prompt.

        @raise UnsafePrompt: if the line editor would not submit it as it is.
        @raise PromptTooLong: if the agent cannot be given so much.
        """
        assert self.at_prompt, "typing is safe only at a proven prompt"
        keys = typed(prompt, self._keys())
        self._expect(Expecting.ANSWER)
        self._unsubmitted = True
        return keys

    def clear(self) -> bytes:
        """
        Make the agent forget the conversation, if it `forgets`.  Only at the
        prompt.
        """
        assert self.at_prompt, "typing is safe only at a proven prompt"
        assert self._dialect.clear is not None, "it cannot forget"
        self._expect(Expecting.CLEAR)
        return self._dialect.clear.type

    def confirm_clear(self) -> bytes:
        """
        The answer to `NeedsConfirmation`.
        """
        assert self._dialect.clear is not None, "it asked whether to clear"
        self._touch()
        return self._dialect.clear.confirm

    def deny(self) -> bytes:
        """
        The next keys towards an answer to `NeedsApproval` that lets no tool run.
        """
        assert self._dialect.approval is not None, "it asked for an approval"
        return self._keys_at(self._dialect.approval.deny)

    def allow(self) -> bytes:
        """
        The next keys towards an answer to `NeedsApproval` that lets the tool run
        this once.
        """
        assert self._dialect.approval is not None, "it asked for an approval"
        return self._keys_at(self._dialect.approval.allow)

    def interrupt(self) -> bytes:
        """
        Stop the running turn.  What it said is dropped; the next proven prompt
        is only `Ready`.  Nothing to write when the prompt is already there; nor
        while the prompt is not taken yet, when this would be no interrupt: then
        again at `Submitted`.
        """
        self._expecting = Expecting.PROMPT
        self._drop()
        return b"" if self.at_prompt or self._unsubmitted else self._dialect.keys.interrupt

    def quit(self) -> bytes:
        """
        Make the agent end; nothing to write where it is not told how.  Only at
        the prompt.
        """
        return self._dialect.keys.quit

    def empty(self) -> bytes:
        """
        The answer to `NeedsEmptying`.
        """
        self._touch()
        return self._dialect.keys.empty

    # What was read.

    @abstractmethod
    def feed(self, data: bytes) -> list[Event]:
        """
        The events in `data`, which may be cut anywhere.
        """

    def silent(self) -> list[Event]:
        """
        The events in a silence of `patience` seconds.
        """
        return []

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

        @param said: the text of the turn; None when it cannot be read.
        """
        self._started = True
        expecting, clear = self._expecting, self._dialect.clear
        match expecting:
            case Expecting.ANSWER:
                question = self._approval() if self.asks_at_prompt else None
                if question is not None:
                    return NeedsApproval(question)
                trouble = self.trouble
                self._expecting = Expecting.PROMPT
                if trouble is not None:
                    return trouble
                if said is None:
                    return Troubled("unreadable", "the screen did not keep all of the answer")
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
