"""
Follow any program that prints a prompt and reads a line.

A turn ends when the line that the cursor is on looks like the prompt and no more output
follows for a moment; nothing else marks its end.  Unlike the other kinds, this kind of
conversation can therefore be deceived by an answer that prints the prompt alone on a line and
pauses there, unless the program has a line editor.  Use it for programs that offer nothing
better.  Every answer has ``quiet`` as its completion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import evolve

from kiroworkers.conversations.dialects.dialect import Dialect, Keys, LinePrompt
from kiroworkers.conversations.events import Event, PromptLost
from kiroworkers.conversations.terminal.buffered import RECENT_OUTPUT_SIZE, BufferedConversation
from kiroworkers.conversations.terminal.conversation import Expecting
from kiroworkers.conversations.terminal.cursor_line import CursorLine
from kiroworkers.conversations.terminal.patience import (
    CLEAR_UNCONFIRMED_AFTER,
    ENTER_LOST_AFTER,
    ends_with,
    letters,
    patience,
)
from kiroworkers.conversations.terminal.prompt_encoding import to_one_line
from kiroworkers.conversations.terminal.queries import TerminalQueries
from kiroworkers.conversations.transcript import plain_text
from kiroworkers.images import Image

#: Blanks with which a program fills a row, such as that of a toolbar, up to the edge.
_FILLING = re.compile(rb" {40,}")

#: With these the program turns bracketed paste on and off; most line editors turn it on
#: while they read, and off at Enter.
_PASTE_ON = b"\x1b[?2004h"
_PASTE_OFF = b"\x1b[?2004l"


class LineConversation(BufferedConversation):
    """
    Wait for a last line that matches the prompt.

    Args:
        dialect: The agent's dialect.
        line: The pattern of the prompt, and how long to wait after it.
        max_output: The maximum output of a turn, in bytes.
    """

    completion = "quiet"

    def __init__(self, dialect: Dialect, line: LinePrompt, max_output: int) -> None:
        super().__init__(dialect, max_output)
        assert dialect.window is not None, "a program with a prompt has a terminal"
        self._line = line
        self._queries = TerminalQueries()
        self._rows, columns = dialect.window
        self._cursor_line = CursorLine(self._rows, columns, self._queries)
        self._typed_prompt = ""
        # The prompt of the program at which it was typed.
        self._prompt_text = ""
        # The row of the last prompt.  While the cursor is on it, the program is at that prompt.
        self._prompt_row = -1
        # The text of the turn, kept until more is printed; None if nobody has asked for it.
        self._answer: tuple[str, tuple[int, ...]] | None = None
        # The end of the output, where rows are not filled with blanks up to the edge: on a wide
        # terminal, a toolbar takes more than what is kept of the output.
        self._unfilled = bytearray()
        self._looks_ready = False
        # Whether a line editor has read at a prompt.  While the terminal passes on whole lines,
        # what looks like another prompt was then printed by a model.
        self._uses_editor = False
        self._at_prompt = False
        self._paste_is_on = False
        # The end of the output, where a mark may have been cut.
        self._tail = b""
        # Whether a mark of the program must still show that it has read the prompt, and whether
        # the mark has come.
        self._editing = self._submission_marked = False
        self._enter_repeated = False
        self._keys_to_send = b""

    @property
    def at_prompt(self) -> bool:
        """
        Return whether the last line is the prompt and was followed by silence.
        """
        return self._at_prompt

    @property
    def awaits(self) -> str:
        """
        Return the pattern of the prompt.
        """
        return self._line.prompt.pattern

    @property
    def recent_output(self) -> str:
        """
        Return the end of what was printed, as plain text.
        """
        return plain_text(bytes(self._unfilled)).strip()

    @property
    def quiet_timeout(self) -> float | None:
        """
        Return the seconds of silence that prove something; None while silence proves nothing.
        """
        if self._at_prompt:
            return None
        quiet = self._line.quiet
        if self._cursor_line.undrawn or self._waits_for_answer():
            return quiet
        if self._looks_ready:
            if self._clear_unconfirmed():
                return max(quiet, CLEAR_UNCONFIRMED_AFTER)
            if self._expecting is Expecting.ANSWER:
                return patience(quiet, self._turn_text()[0])
            return quiet
        return max(quiet, ENTER_LOST_AFTER) if self._enter_lost() else None

    def data_to_send(self) -> bytes:
        """
        Return the answers to the program's queries, and an Enter that is pressed once more.
        """
        keys, self._keys_to_send = self._keys_to_send, b""
        return keys + self._queries.data_to_send()

    def ask(self, prompt: str, model: str = "", images: Sequence[Image] = ()) -> bytes:
        """
        Return the keys that submit `prompt`, as one line unless the program takes pastes.
        """
        prompt_text = self._cursor_line.text
        keys = super().ask(prompt, model, images)
        self._answer = None
        self._typed_prompt = to_one_line(prompt)
        # A terminal in line mode has taken the line as soon as it is typed, and nothing
        # is printed that says so.
        self._unsubmitted = False
        self._prompt_text = prompt_text
        self._editing, self._submission_marked = self._paste_is_on, False
        self._enter_repeated = False
        self._prompt_row = self._cursor_line.row
        return keys

    def clear(self) -> bytes:
        """
        Return the keys that make the agent forget.  Call it only at the prompt.
        """
        self._prompt_row = self._cursor_line.row
        return super().clear()

    def _prompt_keys(self) -> Keys:
        keys = self._dialect.keys
        if not keys.paste_start and self._paste_is_on:
            return evolve(keys, paste_start=b"\x1b[200~", paste_end=b"\x1b[201~")
        return keys

    def feed(self, data: bytes) -> list[Event]:
        """
        Return the events in `data`, which may be cut at any byte.
        """
        events: list[Event] = []
        self._answer = None
        recent = self._tail + data
        self._tail = recent[1 - len(_PASTE_ON) :]
        on, off = recent.rfind(_PASTE_ON), recent.rfind(_PASTE_OFF)
        if on != off:
            self._paste_is_on = on > off
        submitted = recent.find(_PASTE_OFF)
        self._cursor_line.feed(data)
        if self._editing and submitted >= 0:
            # What the program has printed before is echo.
            self._editing, self._submission_marked = False, True
            data = recent[submitted + len(_PASTE_OFF) :]
            self._discard_output()
        self._unfilled += _FILLING.sub(b" ", data)
        del self._unfilled[:-RECENT_OUTPUT_SIZE]
        self._append_output(data, events)
        if self._expecting is not Expecting.ANSWER:
            self._find_prompt(events)
        return events

    def on_quiet(self) -> list[Event]:
        """
        Return the meaning of a prompt that was followed by silence.
        """
        events: list[Event] = []
        if self.quiet_timeout is None:
            return events
        if self._cursor_line.undrawn:
            self._find_prompt(events)
            if self.quiet_timeout != self._line.quiet:
                # A longer silence is needed.
                return events
        if self._waits_for_answer():
            self._queries.on_quiet(self._cursor_line.row)
        elif self._looks_ready and not (self._uses_editor and self.collects_lines()):
            self._uses_editor = self._uses_editor or not self.collects_lines()
            self._at_prompt = True
            answered = self._expecting is Expecting.ANSWER
            events.append(self._handle_prompt(*self._turn_text() if answered else ("",)))
        elif self._enter_lost():
            self._enter_repeated = True
            self._keys_to_send = self._dialect.keys.submit
        return events

    def _find_prompt(self, events: list[Event]) -> None:
        """
        Draw what was printed, and find out whether the cursor is at a prompt.
        """
        moved = self._cursor_line.row > self._prompt_row
        self._looks_ready = moved and self._is_prompt(self._cursor_line.text)
        if self._at_prompt and not self._looks_ready:
            self._at_prompt = False
            events.append(PromptLost())

    def _is_prompt(self, text: str) -> bool:
        """
        Return whether `text` matches the prompt, without regard to blanks at its end.
        """
        stripped = text.rstrip()
        variants = (text, stripped, f"{stripped} ")
        return bool(stripped) and any(map(self._line.prompt.search, variants))

    def _waits_for_answer(self) -> bool:
        return not self._cursor_line.undrawn and self._queries.waits(self._cursor_line.row)

    def _clear_unconfirmed(self) -> bool:
        """
        Return whether the agent is at its prompt, but still seems to be clearing.
        """
        clear = self._dialect.clear
        return (
            self._expecting is Expecting.CLEAR
            and clear is not None
            and not clear.done.search(self.recent_output)
            and not (clear.question and clear.question.search(self.recent_output))
        )

    def _enter_lost(self) -> bool:
        """
        Return whether the line editor still holds the whole prompt, so that Enter was lost.
        """
        if self._enter_repeated or not (self._editing and self._expecting is Expecting.ANSWER):
            return False
        return ends_with(self._cursor_line.text, self._typed_prompt)

    def _turn_text(self) -> tuple[str, tuple[int, ...]]:
        """
        Return the text of the turn, without the echo and the new prompt, and where it is styled.
        """
        if self._answer is None:
            self._answer = self._find_answer()
        return self._answer

    def _find_answer(self) -> tuple[str, tuple[int, ...]]:
        text, styled = self._text.finish()
        start = 0
        if not self._submission_marked:
            start = _end_of_echo(text, self._typed_prompt, self._prompt_text)
        end = max(start, self._start_of_prompt(text))
        styled = tuple(offset - start for offset in styled if start <= offset < end)
        return text[start:end], styled

    def _start_of_prompt(self, text: str) -> int:
        """
        Return where the line of the prompt begins, at the end of `text`.
        """
        # Below it may be rows that are blank, or a toolbar.
        end = len(text)
        for _ in range(self._rows):
            start = text.rfind("\n", 0, end) + 1
            if self._is_prompt(text[start:end]):
                return start
            if not start:
                break
            end = start - 1
        return text.rfind("\n") + 1

    def _invalidate_prompt(self) -> None:
        self._at_prompt = self._looks_ready = False
        self._queries.prompted()

    def _discard_output(self) -> None:
        super()._discard_output()
        self._unfilled.clear()

    def _text_since_input(self) -> str:
        return self.recent_output

    def _text_before_answer(self) -> str:
        return "" if self._answer_started else self.recent_output


def _end_of_echo(text: str, prompt: str, prefix: str) -> int:
    """
    Return the end, in `text`, of the last line of the echo of `prompt`; 0 without an echo.

    White space is ignored, because line editors break lines where they like.  They may also
    draw `prefix`, their own prompt, before the echo, and may draw both anew for each key.

    Args:
        text: What was printed since the prompt was typed.
        prompt: What was typed, as one line.
        prefix: The text that the program shows where it reads.
    """
    typed, shown = letters(prompt), letters(prefix)
    last_word = prompt.split()[-1]
    end = len(text)
    while (word := text.rfind(last_word, 0, end)) >= 0:
        start = text.rfind("\n", 0, word) + 1
        line_end = (text.find("\n", word) + 1) or len(text)
        if shown and letters(text[start:line_end]) == shown + typed:
            return line_end
        end = start
    return _end_of_first_echo(text, typed, shown)


def _end_of_first_echo(text: str, typed: str, shown: str) -> int:
    """
    Return the end of an echo of `typed` at the beginning of `text`, on one or more lines.
    """
    start = echoed = 0
    while (end := text.find("\n", start) + 1) > 0:
        line = letters(text[start:end])
        if start == 0:
            line = line.removeprefix(shown)
        rest = len(typed) - echoed
        if typed[echoed : echoed + len(line)] != line[:rest]:
            return 0
        if len(line) >= rest:
            return end
        echoed += len(line)
        start = end
    return 0
