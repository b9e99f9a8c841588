"""
One session's terminal, read to the byte: bytes to events, prompts to bytes.

The line editor of a classic interface brackets what it reads: it writes
`prompt_open`, draws the prompt, and writes `prompt_close` when Enter was
pressed.  So the stream alternates between *editing* (echo, never an answer)
and *output* (what the agent says), and a turn is exact::

    ask ──▶ echo ── prompt_close (Submitted) ──▶ output ── prompt_open, prompt (Answered)

Nothing is guessed from silence.  A mark or a character cut in two by the end
of a read is kept until the rest of it comes.
"""

from __future__ import annotations

import unicodedata
from enum import Enum, auto

from kiroworkers.terminal.dialect import Dialect
from kiroworkers.terminal.events import (
    Answered,
    Cleared,
    Event,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    NotCleared,
    Overflowed,
    Ready,
    Strayed,
    Submitted,
    Troubled,
)
from kiroworkers.terminal.transcript import plain
from kiroworkers.terminal.trouble import find_trouble

#: A prompt with its parts and its hint is far shorter; what comes after this
#: much is redrawn echo.
_LONGEST_PROMPT = 4096

#: How much output is kept of what is no answer, to say what was last seen.
_LAST_SEEN = 8192

#: A question is at the very end of what was printed.
_LONGEST_QUESTION = 4096


class UnsafePrompt(ValueError):
    """
    The prompt would mean more to the line editor than its text.
    """


class _Expecting(Enum):
    """
    What the next proven prompt will mean.
    """

    PROMPT = auto()
    ANSWER = auto()
    CLEAR = auto()


class Conversation:
    """
    Follows one session by its `dialect`; keeps at most `max_output` bytes of a
    turn.

    The methods that return bytes say what to write, at once and as one piece;
    each may be called only when its docstring says.
    """

    def __init__(self, dialect: Dialect, max_output: int) -> None:
        self._dialect = dialect
        self._max_output = max_output
        self._pending = b""
        self._output = bytearray()
        self._editing = False
        self._at_prompt = False
        self._expecting = _Expecting.PROMPT
        self._typed = False
        self._unsubmitted = False
        self._started = False
        self._choices = 0
        self._blocked = False

    @property
    def at_prompt(self) -> bool:
        """
        Is the prompt drawn, with nothing typed at it?
        """
        return self._at_prompt and not self._typed

    @property
    def last_seen(self) -> str:
        """
        The end of what the agent printed, as plain text.
        """
        return plain(bytes(self._output[-_LAST_SEEN:])).strip()

    @property
    def trouble(self) -> Troubled | None:
        """
        What the agent says is wrong, if that is the last it said.
        """
        return find_trouble(self._dialect.troubles, self._own_words())

    # What to write.

    def ask(self, prompt: str) -> bytes:
        """
        Type `prompt`: one bracketed paste and Enter.  Only at the prompt.

        @raise UnsafePrompt: if the line editor would not submit it as it is.
        """
        assert self.at_prompt, "typing is safe only at a proven prompt"
        _check(prompt)
        self._expect(_Expecting.ANSWER)
        self._unsubmitted = True
        dialect = self._dialect
        return b"".join(
            (dialect.paste_start, prompt.encode(), dialect.paste_end, dialect.submit),
        )

    def clear(self) -> bytes:
        """
        Make the agent forget the conversation.  Only at the prompt.
        """
        assert self.at_prompt, "typing is safe only at a proven prompt"
        self._expect(_Expecting.CLEAR)
        return self._dialect.clear

    def confirm_clear(self) -> bytes:
        """
        The answer to `NeedsConfirmation`.
        """
        self._typed = True
        return self._dialect.clear_confirm

    def deny(self) -> bytes:
        """
        The answer to `NeedsApproval` that lets no tool run.
        """
        self._typed = True
        return self._dialect.approval_deny

    def interrupt(self) -> bytes:
        """
        Stop the running turn.  What it said is dropped; the next proven prompt
        is only `Ready`.  Nothing to write when the prompt is already there; nor
        while the line editor still has the keys, to which this is no signal:
        then again at `Submitted`.
        """
        self._expecting = _Expecting.PROMPT
        self._output.clear()
        return b"" if self.at_prompt or self._unsubmitted else self._dialect.interrupt

    def _expect(self, what: _Expecting) -> None:
        self._expecting = what
        self._typed = True
        self._blocked = False
        self._output.clear()

    # What was read.

    def feed(self, data: bytes) -> list[Event]:
        """
        The events in `data`, which may be cut anywhere.
        """
        events: list[Event] = []
        self._pending += data
        while self._editing_step(events) if self._editing else self._output_step(events):
            pass
        return events

    def _output_step(self, events: list[Event]) -> bool:
        """
        Read output up to the next `prompt_open`; False when more must come.
        """
        mark = self._dialect.prompt_open
        end = self._pending.find(mark)
        found = end >= 0
        if not found:
            end = len(self._pending) - _overlap(self._pending, mark)
        self._keep(self._pending[:end], events)
        self._pending = self._pending[end + len(mark) if found else end :]
        self._editing = found
        asked = self._expecting is _Expecting.ANSWER
        if len(self._output) <= _LAST_SEEN and (asked or not self._started):
            self._look_for_menus(events)
        return found

    def _look_for_menus(self, events: list[Event]) -> None:
        """
        Is there something that waits for a key, so that no prompt will come?
        """
        said = self._own_words()
        if not self._started:
            shown = sorted(
                (found.end(), found[0], menu.keys)
                for menu in self._dialect.menus
                for found in menu.question.finditer(said)
            )
            events += [NeedsChoice(question, keys) for _, question, keys in shown[self._choices :]]
            self._choices = len(shown)
        if not self._blocked:
            trouble = find_trouble((sign for sign in self._dialect.troubles if sign.blocks), said)
            if trouble is not None:
                self._blocked = True
                events.append(trouble)

    def _own_words(self) -> str:
        """
        What the agent printed, if it printed no answer yet, as plain text.
        """
        prefix = self._dialect.answer_prefix.search(self._output)
        return "" if prefix is not None else plain(bytes(self._output[-_LAST_SEEN:]))

    def _editing_step(self, events: list[Event]) -> bool:
        """
        Read a prompt and its echo up to the next `prompt_close`; False when
        more must come.
        """
        mark = self._dialect.prompt_close
        end = self._pending.find(mark)
        found = end >= 0
        if not self._at_prompt:
            shown = self._pending[: min(end, _LONGEST_PROMPT) if found else _LONGEST_PROMPT]
            if self._dialect.prompt_ready.search(shown):
                self._at_prompt = True
                self._typed = False
                self._prompted(events)
            elif not found and len(self._pending) <= _LONGEST_PROMPT:
                return False
        if found:
            self._pending = self._pending[end + len(mark) :]
            self._editing = False
            self._closed(events)
        else:
            self._pending = self._pending[len(self._pending) - _overlap(self._pending, mark) :]
        return found

    def _keep(self, output: bytes, events: list[Event]) -> None:
        self._output += output
        if self._expecting is not _Expecting.ANSWER:
            if len(self._output) > 2 * _LAST_SEEN:
                del self._output[:-_LAST_SEEN]
        elif len(self._output) > self._max_output:
            self._expecting = _Expecting.PROMPT
            events.append(Overflowed(self._max_output))

    def _prompted(self, events: list[Event]) -> None:
        """
        The prompt is proven; what it means depends on what was typed last.
        """
        dialect = self._dialect
        self._started = True
        end = plain(bytes(self._output[-_LONGEST_QUESTION:]))
        match self._expecting:
            case _Expecting.PROMPT:
                events.append(Ready())
            case _Expecting.ANSWER:
                question = dialect.approval_question.search(end)
                if question is not None:
                    events.append(NeedsApproval(question[0].strip()))
                else:
                    self._expecting = _Expecting.PROMPT
                    trouble = self.trouble
                    events.append(trouble or Answered(plain(bytes(self._output))))
            case _Expecting.CLEAR:
                if dialect.clear_done.search(end):
                    self._expecting = _Expecting.PROMPT
                    events.append(Cleared())
                elif dialect.clear_question.search(end):
                    events.append(NeedsConfirmation())
                else:
                    self._expecting = _Expecting.PROMPT
                    events.append(NotCleared(self.last_seen))

    def _closed(self, events: list[Event]) -> None:
        """
        The line editor stopped reading: because we pressed Enter, or not.
        """
        strayed = self._at_prompt and not self._typed
        self._at_prompt = False
        if strayed:
            events.append(Strayed())
        elif self._unsubmitted:
            self._unsubmitted = False
            events.append(Submitted())


def _check(prompt: str) -> None:
    """
    Refuse what the line editor would take for more than text.
    """
    if not prompt.strip():
        raise UnsafePrompt("an empty prompt is not submitted")
    for character in prompt:
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cs"):
            raise UnsafePrompt(f"the prompt holds the control character {character!r}")
    for line in prompt.split("\n"):
        if line.lstrip().startswith(("/", "!", "@")):
            raise UnsafePrompt(f"a line begins with {line.lstrip()[0]!r}, a command")
    if prompt.count("```") % 2:
        raise UnsafePrompt("with an odd number of code fences Enter does not submit")
    if prompt.rstrip().endswith("\\"):
        raise UnsafePrompt("after a backslash Enter does not submit")


def _overlap(data: bytes, mark: bytes) -> int:
    """
    How many bytes at the end of `data` may be the beginning of `mark`.
    """
    for length in range(min(len(mark) - 1, len(data)), 0, -1):
        if data.endswith(mark[:length]):
            return length
    return 0
