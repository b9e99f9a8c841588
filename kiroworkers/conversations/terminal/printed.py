"""
What is common to terminals that print from top to bottom: their output is kept,
bounded, and read as text.
"""

from __future__ import annotations

from kiroworkers.conversations.dialects.dialect import Dialect
from kiroworkers.conversations.events import Event, Overflowed, TextChunk
from kiroworkers.conversations.terminal.keyboard import Expecting, KeyboardConversation
from kiroworkers.conversations.transcript import plain

#: How much output is kept of what is no answer, to say what was last seen.
LAST_SEEN = 8192

#: So much is kept before the first prompt, where a menu may come late.
LONGEST_START = 65536

#: What an answer begins with is far shorter.
_LONGEST_PREFIX = 256


class PrintedConversation(KeyboardConversation):
    """
    Keeps what is printed, and knows whether an answer has begun in it.
    """

    def __init__(self, dialect: Dialect, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._output = bytearray()
        self._prefixed = False
        # Where the first line of the answer begins that was not told yet.
        self._untold = 0

    @property
    def last_seen(self) -> str:
        return plain(bytes(self._output[-LAST_SEEN:])).strip()

    def _keep(self, output: bytes, events: list[Event]) -> None:
        """
        Keep `output`: all of a turn, unless it is too much; of anything else,
        the end.
        """
        start = max(0, len(self._output) - _LONGEST_PREFIX)
        self._output += output
        prefix = self._dialect.answer_prefix
        if prefix is not None and not self._prefixed:
            found = prefix.search(self._output, start)
            if found is not None:
                self._prefixed, self._untold = True, found.end()
        if self._expecting is not Expecting.ANSWER:
            most = LAST_SEEN if self._started else LONGEST_START
            if len(self._output) > 2 * most:
                del self._output[:-most]
        elif len(self._output) > self._max_output:
            self._expecting = Expecting.PROMPT
            events.append(Overflowed(self._max_output))

    def _tell(self, events: list[Event]) -> None:
        """
        Tell the lines of the answer that are complete: they are not drawn again.
        """
        if self.streaming and self._prefixed and self._expecting is Expecting.ANSWER:
            end = self._output.rfind(b"\n", self._untold) + 1
            if end > 0:
                text = plain(bytes(self._output[self._untold : end]))
                events += map(TextChunk, text.splitlines(keepends=True))
                self._untold = end

    def _drop(self) -> None:
        self._output.clear()
        self._prefixed = False
        self._untold = 0

    def _own_words(self) -> str:
        return "" if self._prefixed else plain(bytes(self._output[-LAST_SEEN:]))
