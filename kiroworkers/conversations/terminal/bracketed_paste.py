"""
Follow the line editor of a classic interface, byte by byte.

The line editor brackets what it reads: it writes `BracketedPastePrompt.open` and draws
the prompt, and it writes `BracketedPastePrompt.close` when Enter is pressed.  So the output
alternates between *editing* (echo, never an answer) and *output* (what the agent prints),
and the limits of a turn are exact::

    ask ──▶ echo ── close (Submitted) ──▶ output ── open, prompt (Answered)

A mark or a character that the end of a read has cut in two is kept until the rest of it
arrives.  The end of a turn is not guessed from silence, with two exceptions:

- Some programs print answers from one thread and draw the prompt from another, so the end of an
  answer may come after the opening mark, or after the prompt.  The marks and the prompt are each
  written in one piece.  Therefore the output around them is joined.  If it does not end as it
  should, the prompt counts only after a short silence.
- If the line editor has drawn all of the typed text and nothing follows for some time, the
  program has lost the Enter, and it is pressed once more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kiroworkers.conversations.dialects.dialect import BracketedPastePrompt, Dialect
from kiroworkers.conversations.events import (
    Event,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    PromptLost,
    Submitted,
    Usage,
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.conversations.terminal.buffered import STARTUP_OUTPUT_SIZE, BufferedConversation
from kiroworkers.conversations.terminal.conversation import Expecting
from kiroworkers.conversations.terminal.patience import (
    CLEAR_UNCONFIRMED_AFTER,
    ENTER_LOST_AFTER,
)
from kiroworkers.conversations.terminal.queries import TerminalQueries
from kiroworkers.conversations.terminal.turn_text import number_in
from kiroworkers.conversations.terminal.typed_text import TypedText
from kiroworkers.conversations.transcript import plain_text
from kiroworkers.images import Image

#: The maximum size in bytes of a prompt with its parts and its hint.  Real prompts are far
#: shorter; what comes after this many bytes is redrawn echo.
_MAX_PROMPT_LENGTH = 4096

#: A question of the agent is within this many bytes at the end of the output.
_MAX_QUESTION_LENGTH = 4096

#: The maximum length of a match of `BracketedPastePrompt.settled`, in bytes.
_MAX_END_LENGTH = 64

#: How the line editor begins to draw the prompt again.
_REDRAW = b"\r\x1b[K"

#: Seconds without output after which a prompt counts although the output before it does not end
#: as it should.
_OUTPUT_COMPLETE_AFTER = 0.1


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
        self._queries = TerminalQueries()
        self._prompt = prompt
        self._unread = b""
        self._editing = False
        self._at_prompt = False
        self._typed = False
        self._choices_reported = 0
        self._blocked = False
        # Whether the line editor is reading although it has drawn no prompt.
        self._no_prompt = False
        # The seconds of silence after which the drawn prompt counts; None if it counts already.
        self._awaited_quiet: float | None = None
        # Whether a clear was confirmed, so that its question does not count again.
        self._confirmed = False
        self._context_percent: float | None = None
        # The typed text, as long as Enter may have to be pressed again.
        self._typed_text = TypedText()
        self._to_send = b""
        # The number of questions, and whether the last one is still open.
        self._questions = 0
        self._question_is_open = False

    @property
    def at_prompt(self) -> bool:
        """
        Return whether the line editor has drawn its prompt, and nothing was typed yet.
        """
        return self._at_prompt and not self._typed and self._awaited_quiet is None

    @property
    def _reads_keys(self) -> bool:
        return super()._reads_keys or self._awaited_quiet is not None

    @property
    def quiet_timeout(self) -> float | None:
        """
        Return the seconds of silence that prove a prompt or a lost Enter; usually None.
        """
        if self._awaited_quiet is not None:
            return self._awaited_quiet
        return ENTER_LOST_AFTER if self._enter_may_be_lost() else None

    def on_quiet(self) -> list[Event]:
        """
        Return the events of a drawn prompt, or press Enter once more.
        """
        events: list[Event] = []
        if self._awaited_quiet is not None:
            self._finish_prompt(events)
        elif self._enter_may_be_lost():
            self._typed_text.forget()
            self._to_send += self._dialect.keys.submit
        return events

    def data_to_send(self) -> bytes:
        """
        Return answers to the agent's queries, and the Enter to press once more.
        """
        data, self._to_send = self._to_send, b""
        return self._queries.data_to_send() + data

    def ask(self, prompt: str, model: str = "", images: Sequence[Image] = ()) -> bytes:
        """
        Return the keys that submit `prompt`; see `TerminalConversation.ask`.
        """
        keys = super().ask(prompt, model, images)
        self._question_is_open = False
        self._typed_text.type(prompt)
        return keys

    def clear(self) -> bytes:
        """
        Return the keys that make the agent forget.  Call it only at the prompt.
        """
        keys = super().clear()
        self._typed_text.type(keys.decode("utf-8", "replace"))
        self._confirmed = False
        return keys

    def confirm_clear(self) -> bytes:
        """
        Return the keys that answer `NeedsConfirmation` with yes.
        """
        self._confirmed = True
        return super().confirm_clear()

    def deny(self) -> bytes:
        """
        Return the keys that deny an approval.
        """
        self._question_is_open = False
        return super().deny()

    def allow(self) -> bytes:
        """
        Return the keys that allow the tool this one time.
        """
        self._question_is_open = False
        self._tools.allow()
        return super().allow()

    def _enter_may_be_lost(self) -> bool:
        """
        Return whether the line editor has drawn all that was typed, and reads on.
        """
        return self._editing and self._at_prompt and self._typed_text.is_drawn

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
        if not self._started:
            # Later output may quote a query, and nothing shows whether the agent waits.
            self._queries.feed(data)
        self._unread += data
        while self._read_editing(events) if self._editing else self._read_output(events):
            pass
        return events

    def _read_output(self, events: list[Event]) -> bool:
        """
        Read output up to the next opening mark; return False if that is not there yet.

        What a model writes may contain the mark, and a prompt.  But a line editor reads keys, not
        lines, before it writes the mark.
        """
        mark = self._prompt.open
        end = self._unread.find(mark)
        opened = end >= 0
        if opened and self.collects_lines():
            # The line editor is not reading: an answer prints its mark.
            end += len(mark)
            self._append_output(self._unread[:end], events)
            self._unread = self._unread[end:]
            return True
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
            # The failure's line is reported as a whole, wherever it is cut.
            text = self._text_before_answer()
            text = text[: text.rfind("\n") + 1]
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
        if not self._at_prompt and not self._read_prompt(events):
            return False
        mark = self._prompt.close
        end = self._unread.find(mark)
        closed = end >= 0
        if not closed:
            end = len(self._unread) - _overlap(self._unread, mark)
        self._read_echo(self._unread[:end], events)
        self._unread = self._unread[end + len(mark) if closed else end :]
        if closed:
            self._editing = self._no_prompt = False
            self._handle_close(events)
        return closed

    def _read_prompt(self, events: list[Event]) -> bool:
        """
        Read the prompt; return False if neither the prompt nor the closing mark is there yet.
        """
        end = self._unread.find(self._prompt.close)
        closed = end >= 0
        drawn = self._unread[: min(end, _MAX_PROMPT_LENGTH) if closed else _MAX_PROMPT_LENGTH]
        ready = None if self._no_prompt else self._prompt.ready.search(drawn)
        if ready is not None:
            self._at_prompt = True
            self._typed = False
            if self._prompt.settled is not None:
                # Another thread may have printed this between the mark and the prompt.
                self._append_output(drawn[: ready.start()].removesuffix(b"\r"), events)
            self._unread = self._unread[ready.end() :]
            self._handle_drawn_prompt(ready, events)
        elif not closed and len(self._unread) <= _MAX_PROMPT_LENGTH and not self._no_prompt:
            return False
        else:
            # What follows is too long for a prompt, wherever the reads cut it.
            self._no_prompt = True
        return True

    def _handle_drawn_prompt(self, prompt: re.Match[bytes], events: list[Event]) -> None:
        """
        Report the meaning of the drawn prompt, or wait until it is certain.
        """
        context = prompt.groupdict().get("context")
        self._context_percent = None if context is None else number_in(context.decode())
        clear = self._dialect.clear
        if self._expecting is Expecting.CLEAR and clear is not None:
            if clear.prompt is not None and clear.prompt.search(prompt[0]):
                events.append(NeedsConfirmation())
                return
            if not self._clear_is_answered():
                self._awaited_quiet = CLEAR_UNCONFIRMED_AFTER
                return
        elif self._expecting is Expecting.ANSWER and not self._is_settled():
            self._awaited_quiet = _OUTPUT_COMPLETE_AFTER
            return
        self._finish_prompt(events)

    def _clear_is_answered(self) -> bool:
        """
        Return whether the agent confirmed a clear, or asks whether to clear.
        """
        clear = self._dialect.clear
        assert clear is not None, "it was typed"
        shown = self._text_since_input()
        return clear.done.search(shown) is not None or self._asks_to_confirm(shown)

    def _asks_to_confirm(self, shown: str) -> bool:
        return not self._confirmed and super()._asks_to_confirm(shown)

    def _is_settled(self) -> bool:
        """
        Return whether what was printed before the prompt ends as it should.
        """
        settled = self._prompt.settled
        return settled is None or settled.search(self._output[-_MAX_END_LENGTH:]) is not None

    def _finish_prompt(self, events: list[Event]) -> None:
        """
        Report what the prompt means.
        """
        self._awaited_quiet = None
        text = ""
        usage = Usage()
        if self._expecting is Expecting.ANSWER and self._approval_question() is None:
            text = self._finish_turn(events)
            usage = Usage(self._text.credits, self._context_percent)
        events.append(self._handle_prompt(text, self._styled, usage))

    def _read_echo(self, echo: bytes, events: list[Event]) -> None:
        """
        Read what is printed while the line editor reads.

        It is echo, or belongs to the output before a prompt that does not count yet.
        """
        if not echo:
            return
        if self._awaited_quiet is None:
            self._typed_text.draw(echo)
            return
        self._append_output(echo.partition(_REDRAW)[0], events)
        is_complete = (
            self._clear_is_answered() if self._expecting is Expecting.CLEAR else self._is_settled()
        )
        if is_complete:
            self._finish_prompt(events)

    def _approval_request(self) -> NeedsApproval | None:
        """
        Return the agent's request to use a tool, with the tool and a number of its own.
        """
        question = self._approval_question()
        if question is None:
            return None
        if not self._question_is_open:
            self._questions += 1
            self._question_is_open = True
        tool = self._tools.ask(self._text_since_input())
        return NeedsApproval(f"{tool}: {question}" if tool else question, str(self._questions))

    def _handle_close(self, events: list[Event]) -> None:
        """
        Report that the line editor stopped reading, with or without our Enter.
        """
        if self._awaited_quiet is not None:
            self._finish_prompt(events)
        lost = self._at_prompt and not self._typed
        self._at_prompt = False
        self._typed_text.forget()
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
