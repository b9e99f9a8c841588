"""
Provide the base of conversations with programs that print from top to bottom.

The text of a turn begins at the prefix of its answer.  After each use of a tool the agent prints
another prefix.  The text before it was not the answer, so the text begins again there, and
the text that was streamed is taken back.
"""

from __future__ import annotations

import re

from kiroworkers.conversations.dialects.dialect import Dialect
from kiroworkers.conversations.events import (
    AgentFailure,
    Event,
    Overflowed,
    TextChunk,
    TextDiscarded,
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.conversations.terminal.conversation import Expecting, TerminalConversation
from kiroworkers.conversations.terminal.tool_words import ToolReader
from kiroworkers.conversations.terminal.turn_text import TurnText
from kiroworkers.conversations.transcript import plain_text
from kiroworkers.errors import FailureKind

#: The bytes of output that are kept outside of a turn, for `recent_output`.
RECENT_OUTPUT_SIZE = 8192

#: The bytes of output that are kept before the first prompt, where a menu may come late.
STARTUP_OUTPUT_SIZE = 65536

#: The maximum number of characters of a failure's message that its detail quotes.
_MAX_DETAIL_LENGTH = 400

#: The maximum length of an answer's prefix and of the header of a failure, in bytes.
_MAX_MARK_LENGTH = 256


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
        # The number of bytes of the output that were searched for marks.
        self._searched = 0
        self._turn_size = 0
        self._text = TurnText(dialect.answer.suffix)
        self._tools = ToolReader(dialect.tools)
        self._styled: tuple[int, ...] = ()
        self._answer_started = self._streamed = False
        # What was printed from the header of a failure on.
        self._failed: bytearray | None = None

    @property
    def recent_output(self) -> str:
        """
        Return the end of what was printed, as plain text.
        """
        return plain_text(bytes(self._output[-RECENT_OUTPUT_SIZE:])).strip()

    @property
    def answer_started(self) -> bool:
        """
        Return whether the text that precedes an answer was printed since the last prompt.
        """
        return self._answer_started

    @property
    def failure(self) -> AgentFailure | None:
        """
        Return the failure that the output shows; None once an answer has begun.

        A failure whose header the agent prints in its own style counts even after an answer
        has begun.
        """
        if self._failed is None:
            return super().failure
        text = plain_text(self._failed)
        failure = find_failure(self._dialect.failures, text)
        if failure is None or failure.kind is FailureKind.AGENT_ERROR:
            message = text.partition("\n\n")[0]
            detail = " ".join(message.split())[:_MAX_DETAIL_LENGTH]
            failure = AgentFailure(FailureKind.AGENT_ERROR, detail)
        return failure

    def _append_output(self, output: bytes, events: list[Event]) -> None:
        """
        Keep `output`: the text of a turn, up to the limit, and the end of any output.

        Report the complete lines of an answer, if anybody wants them.
        """
        if not output:
            return
        start = len(self._output)
        self._output += output
        for mark in self._marks():
            self._searched = mark.end()
            self._add(bytes(self._output[start : mark.start()]), events)
            start = max(start, mark.start())
            if mark.re is not self._dialect.answer.prefix:
                if self._failed is None:
                    self._failed = bytearray(mark[0])
                    start = mark.end()
            elif not self._answer_started or self._tools.seen or self._failed is not None:
                self._begin_answer(events)
                start = mark.end()
        self._add(bytes(self._output[start:]), events)
        self._searched = max(self._searched, len(self._output) - _MAX_MARK_LENGTH)
        kept = RECENT_OUTPUT_SIZE if self._started else STARTUP_OUTPUT_SIZE
        if len(self._output) > 2 * kept:
            removed = len(self._output) - kept
            del self._output[:removed]
            self._searched = max(0, self._searched - removed)
        if self._expecting is Expecting.ANSWER:
            self._turn_size += len(output)
            if self._turn_size > self._max_output:
                self._expecting = Expecting.PROMPT
                events.append(Overflowed(self._max_output))

    def _marks(self) -> list[re.Match[bytes]]:
        """
        Return where an answer or a failure begins in the output that was not searched yet.
        """
        patterns = (self._dialect.answer.prefix, self._dialect.answer.failure)
        marks = [
            mark
            for pattern in patterns
            if pattern is not None
            for mark in pattern.finditer(self._output, self._searched)
        ]
        return sorted(marks, key=re.Match.start)

    def _begin_answer(self, events: list[Event]) -> None:
        """
        Begin another part of the turn, because the previous one was not the answer.
        """
        events += self._tools.used()
        if self._streamed:
            events.append(TextDiscarded())
        self._text = TurnText(self._dialect.answer.suffix)
        self._streamed = False
        self._failed = None
        self._answer_started = True

    def _add(self, output: bytes, events: list[Event]) -> None:
        """
        Add `output`, in which no answer begins, to the current part of the turn.
        """
        if self._expecting is not Expecting.ANSWER or not output:
            return
        if self._failed is not None:
            if len(self._failed) < RECENT_OUTPUT_SIZE:
                self._failed += output
            return
        self._text.add(output)
        if self.streaming or self._tools.reads or self._text.is_due:
            # A complete line is never redrawn.
            for line in self._text.convert():
                self._tools.read(line)
                if self.streaming and self._answer_started and not self._tools.seen:
                    self._stream(self._text.release(line), events)

    def _stream(self, text: str, events: list[Event]) -> None:
        if text:
            self._streamed = True
            events.append(TextChunk(text))

    def _finish_turn(self, events: list[Event]) -> str:
        """
        Return the text of the turn, or of its last answer, and report what is left of it.
        """
        for line in self._text.convert():
            self._tools.read(line)
        if self.failure is not None:
            events += self._tools.used()
            return ""
        text, self._styled = self._text.finish()
        events += self._tools.end(text)
        if self.streaming:
            self._stream(self._text.unreleased(text), events)
        return text

    def _text_of_turn(self) -> str:
        """
        Return as plain text what was printed since the last input, or since its last answer began.
        """
        return self._text.finish()[0]

    def _discard_output(self) -> None:
        self._output.clear()
        self._searched = 0
        self._turn_size = 0
        self._text = TurnText(self._dialect.answer.suffix)
        self._tools = ToolReader(self._dialect.tools)
        self._answer_started = self._streamed = False
        self._failed = None

    def _text_before_answer(self) -> str:
        return "" if self._answer_started else plain_text(bytes(self._output[-RECENT_OUTPUT_SIZE:]))
