"""
Provide the base of conversations with programs that print from top to bottom.
"""

from __future__ import annotations

from kiroworkers.conversations.dialects.dialect import Dialect
from kiroworkers.conversations.events import Event, Overflowed, TextChunk
from kiroworkers.conversations.terminal.conversation import Expecting, TerminalConversation
from kiroworkers.conversations.transcript import plain_text

#: The bytes of output that are kept outside of a turn, for `recent_output`.
RECENT_OUTPUT_SIZE = 8192

#: The bytes of output that are kept before the first prompt, where a menu may come late.
STARTUP_OUTPUT_SIZE = 65536

#: An answer's prefix is far shorter than this many bytes.
_MAX_PREFIX_LENGTH = 256


class BufferedConversation(TerminalConversation):
    """
    Keep what is printed, up to a limit, and know whether an answer has begun in it.

    Args:
        dialect: The agent's dialect.
        max_output: The maximum output of a turn, in bytes.
    """

    def __init__(self, dialect: Dialect, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._output = bytearray()
        self._answer_started = False
        # Where the answer's first line that was not reported yet begins.
        self._unreported = 0

    @property
    def recent_output(self) -> str:
        """
        Return the end of what was printed, as plain text.
        """
        return plain_text(bytes(self._output[-RECENT_OUTPUT_SIZE:])).strip()

    def _append_output(self, output: bytes, events: list[Event]) -> None:
        """
        Keep `output`: all of it during a turn, up to the limit, and only the end otherwise.
        """
        start = max(0, len(self._output) - _MAX_PREFIX_LENGTH)
        self._output += output
        prefix = self._dialect.answer.prefix
        if prefix is not None and not self._answer_started:
            match = prefix.search(self._output, start)
            if match is not None:
                self._answer_started, self._unreported = True, match.end()
        if self._expecting is not Expecting.ANSWER:
            kept = RECENT_OUTPUT_SIZE if self._started else STARTUP_OUTPUT_SIZE
            if len(self._output) > 2 * kept:
                del self._output[:-kept]
        elif len(self._output) > self._max_output:
            self._expecting = Expecting.PROMPT
            events.append(Overflowed(self._max_output))

    def _report_text(self, events: list[Event]) -> None:
        """
        Report the complete lines of the answer; a complete line is never redrawn.
        """
        if self.streaming and self._answer_started and self._expecting is Expecting.ANSWER:
            end = self._output.rfind(b"\n", self._unreported) + 1
            if end > 0:
                text = plain_text(bytes(self._output[self._unreported : end]))
                events += map(TextChunk, text.splitlines(keepends=True))
                self._unreported = end

    def _discard_output(self) -> None:
        self._output.clear()
        self._answer_started = False
        self._unreported = 0

    def _text_before_answer(self) -> str:
        return "" if self._answer_started else plain_text(bytes(self._output[-RECENT_OUTPUT_SIZE:]))
