"""
A line editor's terminal, exact to the byte.

The line editor of a classic interface brackets what it reads: it writes
`BracketedPastePrompt.open`, draws the prompt, and writes `BracketedPastePrompt.close` when Enter was pressed.
So the stream alternates between *editing* (echo, never an answer) and *output*
(what the agent says), and a turn is exact::

    ask ──▶ echo ── close (Submitted) ──▶ output ── open, prompt (Answered)

Nothing is guessed from silence.  A mark or a character cut in two by the end
of a read is kept until the rest of it comes.
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
from kiroworkers.conversations.terminal.keyboard import Expecting
from kiroworkers.conversations.terminal.printed import LONGEST_START, PrintedConversation
from kiroworkers.conversations.transcript import plain

#: A prompt with its parts and its hint is far shorter; what comes after this
#: much is redrawn echo.
_LONGEST_PROMPT = 4096

#: A question is at the very end of what was printed.
_LONGEST_QUESTION = 4096


class BracketedPasteConversation(PrintedConversation):
    """
    Follows the prompt cycles of a line editor.
    """

    completion = "prompt"

    def __init__(self, dialect: Dialect, cycle: BracketedPastePrompt, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._cycle = cycle
        self._pending = b""
        self._editing = False
        self._at_prompt = False
        self._typed = False
        self._choices = 0
        self._blocked = False
        # A prompt that was not drawn by now is not.
        self._hopeless = False

    @property
    def at_prompt(self) -> bool:
        return self._at_prompt and not self._typed

    def _touch(self) -> None:
        self._typed = True

    def _drop(self) -> None:
        super()._drop()
        self._blocked = False

    def _shown(self) -> str:
        return plain(bytes(self._output[-_LONGEST_QUESTION:]))

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        self._pending += data
        while self._editing_step(events) if self._editing else self._output_step(events):
            pass
        return events

    def _output_step(self, events: list[Event]) -> bool:
        """
        Read output up to the next opening mark; False when more must come.
        """
        mark = self._cycle.open
        end = self._pending.find(mark)
        found = end >= 0
        if not found:
            end = len(self._pending) - _overlap(self._pending, mark)
        self._keep(self._pending[:end], events)
        self._tell(events)
        self._pending = self._pending[end + len(mark) if found else end :]
        self._editing = found
        if not self._prefixed and (self._expecting is Expecting.ANSWER or not self._started):
            self._look_for_menus(events)
        return found

    def _look_for_menus(self, events: list[Event]) -> None:
        """
        Is there something that waits for a key, so that no prompt will come?
        """
        if not self._started and len(self._output) <= LONGEST_START:
            said = plain(self._output)
            shown = sorted(
                (found.end(), found[0], menu.keys)
                for menu in self._dialect.menus
                for found in menu.question.finditer(said)
            )
            events += [NeedsChoice(question, keys) for _, question, keys in shown[self._choices :]]
            self._choices = len(shown)
        if not self._blocked:
            said = self._own_words()
            failure = find_failure((sign for sign in self._dialect.failures if sign.blocks), said)
            if failure is not None:
                self._blocked = True
                events.append(failure)

    def _editing_step(self, events: list[Event]) -> bool:
        """
        Read a prompt and its echo up to the next closing mark; False when more
        must come.
        """
        mark = self._cycle.close
        end = self._pending.find(mark)
        found = end >= 0
        if not self._at_prompt:
            shown = self._pending[: min(end, _LONGEST_PROMPT) if found else _LONGEST_PROMPT]
            if not self._hopeless and self._cycle.ready.search(shown):
                self._at_prompt = True
                self._typed = False
                answered = self._expecting is Expecting.ANSWER
                events.append(self._prompted(plain(self._output) if answered else ""))
            elif not found and len(self._pending) <= _LONGEST_PROMPT and not self._hopeless:
                return False
            else:
                # What comes now is no prompt any more, however it is cut.
                self._hopeless = True
        if found:
            self._pending = self._pending[end + len(mark) :]
            self._editing = self._hopeless = False
            self._closed(events)
        else:
            self._pending = self._pending[len(self._pending) - _overlap(self._pending, mark) :]
        return found

    def _closed(self, events: list[Event]) -> None:
        """
        The line editor stopped reading: because we pressed Enter, or not.
        """
        strayed = self._at_prompt and not self._typed
        self._at_prompt = False
        if strayed:
            events.append(PromptLost())
        elif self._unsubmitted:
            self._unsubmitted = False
            events.append(Submitted())


def _overlap(data: bytes, mark: bytes) -> int:
    """
    How many bytes at the end of `data` may be the beginning of `mark`.
    """
    for length in range(min(len(mark) - 1, len(data)), 0, -1):
        if data.endswith(mark[:length]):
            return length
    return 0
