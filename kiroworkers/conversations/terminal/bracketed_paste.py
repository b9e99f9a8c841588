"""
Follow the line editor of a classic interface, byte by byte.

The line editor brackets what it reads: it writes `BracketedPastePrompt.open` and draws
the prompt, and it writes `BracketedPastePrompt.close` when Enter is pressed.  So the output
alternates between *editing* (echo, never an answer) and *output* (what the agent prints),
and the limits of a turn are exact::

    ask ──▶ echo ── close (Submitted) ──▶ output ── open, prompt (Answered)

Nothing is guessed from silence.  A mark or a character that the end of a read has cut
in two is kept until the rest of it arrives.
"""

from __future__ import annotations

from kiroworkers.conversations.dialects.dialect import BracketedPastePrompt, Dialect
from kiroworkers.conversations.events import (
    Event,
    NeedsChoice,
    PromptLost,
    Submitted,
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.conversations.terminal.buffered import STARTUP_OUTPUT_SIZE, BufferedConversation
from kiroworkers.conversations.terminal.conversation import Expecting
from kiroworkers.conversations.transcript import plain_text

#: The maximum size in bytes of a prompt with its parts and its hint.  Real prompts are far
#: shorter; what comes after this many bytes is redrawn echo.
_MAX_PROMPT_LENGTH = 4096

#: A question of the agent is within this many bytes at the end of the output.
_MAX_QUESTION_LENGTH = 4096


class BracketedPasteConversation(BufferedConversation):
    """
    Follow the prompt cycles of a line editor.

    Args:
        dialect: The agent's dialect.
        prompt: The marks that the line editor writes around what it reads.
        max_output: The maximum output of a turn, in bytes.
    """

    completion = "prompt"

    def __init__(self, dialect: Dialect, prompt: BracketedPastePrompt, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._prompt = prompt
        self._unread = b""
        self._editing = False
        self._at_prompt = False
        self._typed = False
        self._choices_reported = 0
        self._blocked = False
        # Whether the line editor is reading although it has drawn no prompt.
        self._no_prompt = False

    @property
    def at_prompt(self) -> bool:
        """
        Return whether the line editor has drawn its prompt, and nothing was typed yet.
        """
        return self._at_prompt and not self._typed

    def _invalidate_prompt(self) -> None:
        self._typed = True

    def _discard_output(self) -> None:
        super()._discard_output()
        self._blocked = False

    def _text_since_input(self) -> str:
        return plain_text(bytes(self._output[-_MAX_QUESTION_LENGTH:]))

    def feed(self, data: bytes) -> list[Event]:
        """
        Return the events in `data`, which may be cut at any byte.
        """
        events: list[Event] = []
        self._unread += data
        while self._read_editing(events) if self._editing else self._read_output(events):
            pass
        return events

    def _read_output(self, events: list[Event]) -> bool:
        """
        Read output up to the next opening mark; return False if that is not there yet.
        """
        mark = self._prompt.open
        end = self._unread.find(mark)
        opened = end >= 0
        if not opened:
            end = len(self._unread) - _overlap(self._unread, mark)
        self._append_output(self._unread[:end], events)
        self._unread = self._unread[end + len(mark) if opened else end :]
        self._editing = opened
        if not self._answer_started and (self._expecting is Expecting.ANSWER or not self._started):
            self._find_menus(events)
        return opened

    def _find_menus(self, events: list[Event]) -> None:
        """
        Report a menu that waits for a key: no prompt appears until it is answered.
        """
        if not self._started and len(self._output) <= STARTUP_OUTPUT_SIZE:
            text = plain_text(self._output)
            choices = sorted(
                (match.end(), match[0], menu.keys)
                for menu in self._dialect.menus
                for match in menu.question.finditer(text)
            )
            events += [
                NeedsChoice(question, keys)
                for _, question, keys in choices[self._choices_reported :]
            ]
            self._choices_reported = len(choices)
        if not self._blocked:
            text = self._text_before_answer()
            blocking = (pattern for pattern in self._dialect.failures if pattern.blocks)
            failure = find_failure(blocking, text)
            if failure is not None:
                self._blocked = True
                events.append(failure)

    def _read_editing(self, events: list[Event]) -> bool:
        """
        Read a prompt and its echo up to the next closing mark.

        Return False if that mark is not there yet.
        """
        mark = self._prompt.close
        end = self._unread.find(mark)
        closed = end >= 0
        if not self._at_prompt:
            drawn = self._unread[: min(end, _MAX_PROMPT_LENGTH) if closed else _MAX_PROMPT_LENGTH]
            if not self._no_prompt and self._prompt.ready.search(drawn):
                self._at_prompt = True
                self._typed = False
                answered = self._expecting is Expecting.ANSWER
                events.append(self._handle_prompt(self._text_of_turn() if answered else ""))
            elif not closed and len(self._unread) <= _MAX_PROMPT_LENGTH and not self._no_prompt:
                return False
            else:
                # What follows can no longer be a prompt, wherever it is cut.
                self._no_prompt = True
        if closed:
            self._unread = self._unread[end + len(mark) :]
            self._editing = self._no_prompt = False
            self._handle_close(events)
        else:
            self._unread = self._unread[len(self._unread) - _overlap(self._unread, mark) :]
        return closed

    def _handle_close(self, events: list[Event]) -> None:
        """
        Report that the line editor stopped reading, with or without our Enter.
        """
        lost = self._at_prompt and not self._typed
        self._at_prompt = False
        if lost:
            events.append(PromptLost())
        elif self._unsubmitted:
            self._unsubmitted = False
            events.append(Submitted())


def _overlap(data: bytes, mark: bytes) -> int:
    """
    Return how many bytes at the end of `data` may be the beginning of `mark`.
    """
    for length in range(min(len(mark) - 1, len(data)), 0, -1):
        if data.endswith(mark[:length]):
            return length
    return 0
