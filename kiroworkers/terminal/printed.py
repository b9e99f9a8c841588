"""
What is common to terminals that print from top to bottom: their output is kept,
bounded, and read as text.
"""

from __future__ import annotations

from kiroworkers.terminal.conversation import Conversation, Expecting
from kiroworkers.terminal.dialect import Dialect
from kiroworkers.terminal.events import Event, Overflowed
from kiroworkers.terminal.transcript import plain

#: How much output is kept of what is no answer, to say what was last seen.
LAST_SEEN = 8192


class PrintedConversation(Conversation):
    """
    Keeps what is printed.
    """

    def __init__(self, dialect: Dialect, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._output = bytearray()

    @property
    def last_seen(self) -> str:
        return plain(bytes(self._output[-LAST_SEEN:])).strip()

    def _keep(self, output: bytes, events: list[Event]) -> None:
        """
        Keep `output`: all of a turn, unless it is too much; of anything else,
        the end.
        """
        self._output += output
        if self._expecting is not Expecting.ANSWER:
            if len(self._output) > 2 * LAST_SEEN:
                del self._output[:-LAST_SEEN]
        elif len(self._output) > self._max_output:
            self._expecting = Expecting.PROMPT
            events.append(Overflowed(self._max_output))

    def _drop(self) -> None:
        self._output.clear()

    def _own_words(self) -> str:
        prefix = self._dialect.answer_prefix
        if prefix is not None and prefix.search(self._output):
            return ""
        return plain(bytes(self._output[-LAST_SEEN:]))
