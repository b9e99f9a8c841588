"""
Provide the base of conversations with programs that print from top to bottom.
"""

from __future__ import annotations

from io import StringIO

from kiroworkers.conversations.dialects.dialect import Dialect
from kiroworkers.conversations.events import Event, Overflowed, TextChunk
from kiroworkers.conversations.terminal.conversation import Expecting, TerminalConversation
from kiroworkers.conversations.transcript import Transcript, plain_text

#: The bytes of output that are kept outside of a turn, for `recent_output`.
RECENT_OUTPUT_SIZE = 8192

#: The bytes of output that are kept before the first prompt, where a menu may come late.
STARTUP_OUTPUT_SIZE = 65536

#: The bytes of a turn that are converted to text together: about a millisecond's work.
_MAX_UNCONVERTED = 65536

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
        # The end of the output, and the text of the turn.
        self._output = bytearray()
        self._turn_size = 0
        self._turn_lines = StringIO()
        self._turn_transcript: Transcript | None = None
        self._unconverted = bytearray()
        self._answer_started = False
        self._answer_transcript = Transcript()

    @property
    def recent_output(self) -> str:
        """
        Return the end of what was printed, as plain text.
        """
        return plain_text(bytes(self._output[-RECENT_OUTPUT_SIZE:])).strip()

    def _append_output(self, output: bytes, events: list[Event]) -> None:
        """
        Keep `output`: the text of a turn, up to the limit, and the end of any output.

        Report the complete lines of an answer, if anybody wants them.
        """
        start = max(0, len(self._output) - _MAX_PREFIX_LENGTH)
        self._output += output
        answer = output if self._answer_started else b""
        prefix = self._dialect.answer.prefix
        if prefix is not None and not self._answer_started:
            match = prefix.search(self._output, start)
            if match is not None:
                self._answer_started = True
                answer = bytes(self._output[match.end() :])
        kept = RECENT_OUTPUT_SIZE if self._started else STARTUP_OUTPUT_SIZE
        if len(self._output) > 2 * kept:
            del self._output[:-kept]
        if self._expecting is not Expecting.ANSWER:
            return
        self._turn_size += len(output)
        if self._turn_size > self._max_output:
            self._expecting = Expecting.PROMPT
            events.append(Overflowed(self._max_output))
            return
        self._unconverted += output
        if len(self._unconverted) > _MAX_UNCONVERTED:
            self._convert()
        if self.streaming and answer:
            # A complete line is never redrawn.
            lines = self._answer_transcript.feed(answer)
            events += map(TextChunk, lines.splitlines(keepends=True))

    def _text_of_turn(self) -> str:
        """
        Return as plain text what was printed since the last input.
        """
        if self._turn_transcript is None:
            return plain_text(self._unconverted)
        transcript = self._convert()
        return self._turn_lines.getvalue() + transcript.rest()

    def _convert(self) -> Transcript:
        """
        Convert what is unconverted, and return what holds the line that is not complete yet.
        """
        transcript = self._turn_transcript = self._turn_transcript or Transcript()
        self._turn_lines.write(transcript.feed(bytes(self._unconverted)))
        self._unconverted.clear()
        return transcript

    def _discard_output(self) -> None:
        self._output.clear()
        self._turn_size = 0
        self._turn_lines = StringIO()
        self._turn_transcript = None
        self._unconverted.clear()
        self._answer_started = False
        self._answer_transcript = Transcript()

    def _text_before_answer(self) -> str:
        return "" if self._answer_started else plain_text(bytes(self._output[-RECENT_OUTPUT_SIZE:]))
