"""
Follow a full-screen program by the status markers on its screen.

Such a program draws the same answer many times, and nothing that it prints marks the end
of a turn.  It does show whether it is idle or busy.  This is read only from the rows that
hold the markers, since an answer may say anything.  A turn::

    ask ──▶ idle marker goes ── busy marker (Submitted) ──▶ idle marker, quiet (Answered)

Everything above the first busy row is echo.  The answer begins with that row.  If a part of
it was erased or has scrolled away, the answer is reported as unreadable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from attrs import evolve

from kiroworkers.conversations.dialects.dialect import Dialect, Marker, Menu, StatusMarkers
from kiroworkers.conversations.events import (
    AgentFailure,
    ComposerNotEmpty,
    Event,
    NeedsApproval,
    NeedsChoice,
    Overflowed,
    PromptLost,
    Submitted,
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.conversations.terminal.conversation import Expecting, TerminalConversation
from kiroworkers.conversations.terminal.emulator import Emulator
from kiroworkers.conversations.terminal.highlighting import without_highlighting
from kiroworkers.conversations.terminal.patience import (
    CLEAR_UNCONFIRMED_AFTER,
    ENTER_LOST_AFTER,
    TYPED_UNSEEN_AFTER,
    holds_text,
    patience,
)
from kiroworkers.conversations.terminal.queries import TerminalQueries
from kiroworkers.errors import FailureKind
from kiroworkers.images import Image

#: The number of rows above the screen that are remembered when something is typed, to tell new
#: rows from old ones that are drawn again.
_MAX_ROWS_BEFORE = 2000

#: A row of the echo has at least this many characters that are not blanks or frames.
_MIN_ECHO_LENGTH = 8
_FRAME = " │┃|>›❯"


#: Why an answer cannot be read although it is still on the screen.
_UNCERTAIN = "it is not known how many columns the agent reserves for the answer's emoji"

#: Escape sequences and control characters in what is typed.
_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f]")


class ScreenConversation(TerminalConversation):
    """
    Read the state of an agent from its screen.

    Args:
        dialect: The agent's dialect.
        markers: The agent's status markers.
        max_output: The maximum output of a turn, in bytes.
    """

    completion = "idle-sign"
    asks_at_prompt = False

    def __init__(self, dialect: Dialect, markers: StatusMarkers, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._markers = markers
        assert dialect.window is not None, "status markers need a screen"
        self._queries = TerminalQueries()
        self._emulator = Emulator(*dialect.window, max_output, self._queries)
        # Whether something was drawn that was not inspected on a complete screen yet.
        self._uninspected = False
        self._idle = self._busy = False
        # Whether the screen was seen in another state than idle since something was typed.
        self._left_idle = True
        self._at_prompt = False
        # The number of the row in which the output of the turn begins.
        self._output_row: int | None = None
        # Whether a row of the screen may be that row, besides those that change from now on.
        self._output_is_possible = True
        # Whether the screen is complete and was not searched for menus yet.
        self._menus_due = False
        self._wrap_count_before = 0
        self._turn_size = 0
        # The menu that was reported last, and the one at which keys were pressed last.
        self._last_menu: tuple[str, str] | None = None
        self._answered_menu: tuple[str, str] | None = None
        self._expect_restored_prompt = False
        # Whether Enter is still to follow what was typed, and the keys to send then.
        self._enter_held = False
        self._keys_to_send = b""
        self._blocked = False
        self._desynchronized = False
        # The rows by number, and the first row of the screen, when something was typed last.
        self._rows_before: dict[int, str] = {}
        self._top_before = 0
        # The first row of the answer that a clear is to remove from the screen.
        self._row_to_clear = ""
        # The text that was typed last, and the rows of the screen at that time.
        self._typed = ""
        self._rows_when_typed: set[str] = set()
        self._enter_repeated = False

    @property
    def at_prompt(self) -> bool:
        """
        Return whether the idle marker was shown and followed by silence.
        """
        return self._at_prompt

    @property
    def recent_output(self) -> str:
        """
        Return the text of the whole screen.
        """
        rows = self._emulator.rows()
        return "\n".join(rows).strip("\n")

    @property
    def wraps(self) -> bool:
        """
        Return whether the agent itself cuts long lines of its answer.
        """
        return self._markers.wraps

    @property
    def desynchronized(self) -> bool:
        """
        Return whether a turn printed too much, so that the screen is no longer drawn.
        """
        return self._desynchronized

    @property
    def quiet_timeout(self) -> float | None:
        """
        Return the seconds of silence that prove something; None while silence proves nothing.
        """
        if self._emulator.updating or self._desynchronized:
            return None
        quiet = self._markers.quiet
        if self._enter_held:
            # Enter is lost, or submits too little, if the agent has not read the text yet.
            seen = self._show_text(self._emulator.rows())
            return quiet if seen else max(quiet, TYPED_UNSEEN_AFTER)
        if self._uninspected or self._prompt_restored:
            return quiet
        if self._idle_after_input:
            if self._clear_unconfirmed():
                return max(quiet, CLEAR_UNCONFIRMED_AFTER)
            if self._expecting is Expecting.ANSWER:
                return patience(quiet, self._turn_text() or "")
            # A prompt that was cancelled too early may be about to be submitted.
            return max(quiet, ENTER_LOST_AFTER) if self._unsubmitted else quiet
        return max(quiet, ENTER_LOST_AFTER) if self._enter_lost() else None

    @property
    def _idle_after_input(self) -> bool:
        """
        Return whether the agent has become idle since something was typed.

        After a prompt it must also have been busy in between.
        """
        unsubmitted = self._expecting is Expecting.ANSWER and self._unsubmitted
        return self._idle and self._left_idle and not self._at_prompt and not unsubmitted

    @property
    def _prompt_restored(self) -> bool:
        """
        Return whether the agent seems to have put a cancelled prompt back to be edited.
        """
        neither = not self._busy and not self._idle
        return self._expect_restored_prompt and self._left_idle and neither

    def data_to_send(self) -> bytes:
        """
        Return the answers to the agent's queries, and an Enter that is due.
        """
        keys, self._keys_to_send = self._keys_to_send, b""
        return self._queries.data_to_send() + keys

    def ask(self, prompt: str, model: str = "", images: Sequence[Image] = ()) -> bytes:
        """
        Return the keys that type `prompt`, without Enter if that is sent separately.
        """
        keys = super().ask(prompt, model, images)
        self._typed = prompt
        return self._hold_enter(keys)

    def clear(self) -> bytes:
        """
        Return the keys of the clear command, without Enter if that is sent separately.
        """
        row_to_clear = self._first_row_of_answer()
        keys = super().clear()
        self._row_to_clear = row_to_clear
        self._typed = _SEQUENCES.sub("", keys.decode("utf-8", "replace")).strip()
        return self._hold_enter(keys)

    def _hold_enter(self, keys: bytes) -> bytes:
        """
        Return `keys`, but hold Enter back to send it later if the dialect wants it separate.
        """
        self._queries.prompted()
        self._enter_repeated = False
        self._rows_when_typed = set(self._emulator.rows())
        self._enter_held = self._dialect.keys.apart
        return keys.removesuffix(self._dialect.keys.submit) if self._enter_held else keys

    def interrupt(self) -> bytes:
        """
        Return the keys that stop the running turn, and discard what it has printed.

        Empty at the prompt, and while the agent has not taken the prompt yet.
        """
        keys = super().interrupt()
        self._expect_restored_prompt = bool(keys and self._dialect.keys.empty)
        return keys

    def empty_composer(self) -> bytes:
        """
        Return the keys that erase a cancelled prompt from the agent's input field.
        """
        self._expect_restored_prompt = False
        return super().empty_composer()

    def _keys_for_menu(self, menus: Iterable[Menu]) -> bytes:
        # Several events may report the same menu; keys are pressed once for each position
        # of its cursor.
        if self._last_menu is not None and self._answered_menu == self._last_menu:
            return b""
        self._answered_menu = self._last_menu
        return super()._keys_for_menu(menus)

    def feed(self, data: bytes) -> list[Event]:
        """
        Return the events in `data`, which may be cut at any byte.
        """
        events: list[Event] = []
        if self._desynchronized:
            return events
        self._turn_size += len(data)
        if self._expecting is Expecting.ANSWER and self._turn_size > self._max_output:
            # Drawing a flood would take longer than printing it.
            self._desynchronized = True
            return [Overflowed(self._max_output)]
        self._uninspected = True
        self._emulator.feed(data, lambda complete: self._inspect(events, complete))
        self._find_due_menus(events)
        return events

    def on_quiet(self) -> list[Event]:
        """
        Return the events that follow from the silence, or make a held Enter due.
        """
        events: list[Event] = []
        if self.quiet_timeout is None:
            return events
        if self._enter_held:
            self._enter_held, self._keys_to_send = False, self._dialect.keys.submit
            return events
        if self._uninspected:
            self._inspect(events, complete=True)
            self._find_due_menus(events)
            if self.quiet_timeout != self._markers.quiet:
                # A longer silence is needed.
                return events
        self._queries.on_quiet(self._emulator.cursor_row)
        if self._idle_after_input:
            self._at_prompt = True
            self._expect_restored_prompt = self._unsubmitted = False
            events.append(self._handle_idle())
        elif self._prompt_restored:
            events.append(ComposerNotEmpty())
        elif self._enter_lost():
            self._enter_repeated, self._keys_to_send = True, self._dialect.keys.submit
        return events

    def _handle_idle(self) -> Event:
        """
        Return the events that follow when the agent is idle and stays idle.
        """
        if self._expecting is not Expecting.ANSWER:
            return self._handle_prompt("")
        text = self._turn_text()
        event = self._handle_prompt(text, self._styled(text))
        match event:
            case AgentFailure(kind=FailureKind.UNREADABLE) if self._uncertain:
                return evolve(event, detail=_UNCERTAIN)
            case _:
                return event

    @property
    def _uncertain(self) -> bool:
        """
        Return whether text of the turn may be misplaced.
        """
        return self._output_row is not None and self._emulator.uncertain_from(self._output_row)

    def _inspect(self, events: list[Event], complete: bool) -> None:
        """
        Report what the screen shows now.

        Menus and a lost prompt are only reported when the screen is `complete`: while it is
        half drawn, the menu's cursor and the idle marker may be missing.
        """
        self._uninspected = not complete
        rows = "\n".join(self._emulator.last_rows(self._markers.rows))
        self._busy = self._shows(self._markers.busy, rows)
        self._idle = not self._busy and self._shows(self._markers.idle, rows)
        if not self._idle or (complete and self._clear_confirmed()):
            self._left_idle = True
        if complete and self._at_prompt and not self._idle:
            self._at_prompt = False
            events.append(PromptLost())
        if self._busy and self._unsubmitted:
            self._unsubmitted = False
            events.append(Submitted())
        if self._expecting is Expecting.ANSWER and self._output_row is None and self._busy:
            self._output_row = self._find_output_row()
        if self._busy or self._idle:
            self._last_menu = self._answered_menu = None
        self._menus_due = complete and not self._busy and not self._idle
        if not self._started:
            self._find_due_menus(events)

    def _shows(self, marker: Marker, rows: str) -> bool:
        emulator = self._emulator
        texts = (
            (marker.screen, rows),
            (marker.title, emulator.title),
            (marker.state, emulator.state),
        )
        return all(pattern is None or pattern.search(text) for pattern, text in texts)

    def _find_due_menus(self, events: list[Event]) -> None:
        """
        Search a complete screen for menus.

        A menu waits.  So in a turn, one that is gone at the end of a read is of no interest, and
        not every screen that a model draws is searched.
        """
        if self._menus_due:
            self._menus_due = False
            self._find_menus(events)

    def _find_output_row(self) -> int | None:
        changed = self._emulator.changed_rows()
        if not self._output_is_possible and not any(map(self._markers.output.search, changed)):
            return None
        self._output_is_possible = False
        top, rows, before = self._emulator.top_row, self._emulator.rows(), self._rows_before
        # If everything was erased since, the rows have new numbers, but the same positions.
        shift = top - self._top_before if self._erased else 0

        def is_new(position: int) -> bool:
            # A row that has not changed belongs to an earlier turn.
            return rows[position] != before.get(top + position - shift)

        for position in range(len(rows) - 1, -1, -1):
            if not self._markers.output.search(rows[position]):
                continue
            self._output_is_possible = True
            if is_new(position):
                # So does one above the echo, such as a spinner that was left there.
                if any(map(self._is_echo, rows[position + 1 :])):
                    return None
                # The output may begin with several such rows.
                while position and self._is_output(rows[position - 1]) and is_new(position - 1):
                    position -= 1
                return top + position
        return None

    def _is_output(self, row: str) -> bool:
        """
        Return whether `row` may be the first of the output, and is no echo.
        """
        return bool(self._markers.output.search(row)) and not self._is_echo(row)

    @property
    def _erased(self) -> bool:
        """
        Return whether everything was erased since something was typed.
        """
        before = self._rows_before
        return bool(before) and max(before) < self._emulator.first_row

    def _is_echo(self, row: str) -> bool:
        """
        Return whether `row` is part of the typed text.
        """
        text = row.strip(_FRAME)
        return len(text) >= _MIN_ECHO_LENGTH and text in self._typed

    def _find_menus(self, events: list[Event]) -> None:
        """
        Report a menu that waits for a key; the agent is then neither idle nor busy.
        """
        text = self._text_since_input()
        if not self._started:
            for menu in self._dialect.menus:
                match = menu.question.search(text)
                if match is not None:
                    choice = NeedsChoice(match[0].strip(), menu.keys)
                    self._report_menu(events, choice, match[0])
                    return
        elif self._expecting is Expecting.ANSWER:
            question = self._approval_question()
            if question is not None:
                self._report_menu(events, NeedsApproval(question), self._menu_cursor(text))
                return
        self._last_menu = self._answered_menu = None
        blocking = [pattern for pattern in self._dialect.failures if pattern.blocks]
        failure = find_failure(blocking, text)
        if failure is not None and not self._blocked:
            self._blocked = True
            events.append(failure)

    def _report_menu(
        self, events: list[Event], event: NeedsChoice | NeedsApproval, cursor: str
    ) -> None:
        """
        Report `event`, unless it was the last one and the menu's cursor has not moved.
        """
        menu = (event.question, cursor)
        if menu != self._last_menu:
            self._last_menu = menu
            events.append(event)

    def _menu_cursor(self, text: str) -> str:
        """
        Return the part of `text` that shows where an approval menu's cursor is.
        """
        approval = self._dialect.approval
        assert approval is not None, "it asked"
        menus = (*approval.deny_menus, *approval.allow_menus)
        matches = (menu.question.search(text) for menu in menus)
        return next((match[0] for match in matches if match is not None), "")

    def _turn_text(self) -> str | None:
        """
        Return what the turn has printed, or None if a part of it is no longer known.
        """
        if self._output_row is None or self._output_row < self._emulator.first_row:
            return None
        if self.wraps and self._emulator.wrap_count != self._wrap_count_before:
            return None
        if self._uncertain:
            return None
        return self._emulator.text_from(self._output_row)

    def _styled(self, text: str | None) -> tuple[int, ...]:
        """
        Return the offsets in the turn's text at which the agent has rendered Markdown.
        """
        if text is None or self._output_row is None:
            return ()
        return without_highlighting(text, self._emulator.restyled_from(self._output_row))

    def _text_before_answer(self) -> str:
        text = (self._turn_text() or "") if self._started else self._text_since_input()
        prefix = self._dialect.answer.prefix
        return "" if prefix is not None and prefix.search(text.encode()) else text

    def _text_since_input(self) -> str:
        """
        Return the new text on the screen.

        In a turn, this is everything below the echo; otherwise, it is the rows that were
        not there before something was typed.
        """
        if self._expecting is Expecting.ANSWER:
            return "" if self._output_row is None else self._emulator.text_from(self._output_row)
        emulator = self._emulator
        start = max(min(self._rows_before, default=0), emulator.first_row)
        # Fewer rows than were remembered: old ones may be drawn again on other rows.
        above = emulator.rows_from(start)[: -len(emulator.rows())][-_MAX_ROWS_BEFORE // 2 :]
        rows = [*filter(None, above), *emulator.rows()]
        if self._erased and self._row_to_clear and self._row_to_clear not in rows:
            # The old answer is gone, so nothing on the screen is left from before.
            return "\n".join(rows)
        # Blank rows count only on the screen: a clear leaves more of them there.
        rows_before = Counter(
            row for number, row in self._rows_before.items() if row or number >= self._top_before
        )
        new_rows: list[str] = []
        for row in rows:
            if rows_before[row] > 0:
                rows_before[row] -= 1
            else:
                new_rows.append(row)
        return "\n".join(new_rows)

    def _first_row_of_answer(self) -> str:
        """
        Return the first row of the last answer that has letters or digits; empty without one.
        """
        rows = (self._turn_text() or "").split("\n") if self._started else []
        return next((row for row in rows if any(map(str.isalnum, row))), "")

    def _clear_unconfirmed(self) -> bool:
        """
        Return whether the agent looks idle, but still seems to be clearing.
        """
        clear = self._dialect.clear
        if clear is None or self._expecting is not Expecting.CLEAR or self._clear_confirmed():
            return False
        return clear.question is None or not clear.question.search(self._text_since_input())

    def _enter_lost(self) -> bool:
        """
        Return whether the composer still holds the typed text, so that nothing was submitted.
        """
        # Even a cancelled prompt must be submitted, so that it can be interrupted.
        waits = self._unsubmitted or (
            self._expecting is Expecting.CLEAR and not self._clear_confirmed()
        )
        # An idle marker on the screen is the hint of an empty composer.
        empty = self._idle and self._markers.idle.screen is not None
        if not waits or self._enter_repeated or self._busy or empty or self._uninspected:
            return False
        return self._show_text(self._emulator.last_rows(self._markers.rows))

    def _show_text(self, rows: list[str]) -> bool:
        """
        Return whether `rows` show the typed text, and did not show it before.
        """
        return holds_text([row for row in rows if row not in self._rows_when_typed], self._typed)

    def _clear_confirmed(self) -> bool:
        """
        Return whether the screen shows that the agent has cleared the conversation.
        """
        clear = self._dialect.clear
        return (
            self._expecting is Expecting.CLEAR
            and clear is not None
            and clear.done.search(self._text_since_input()) is not None
        )

    def _invalidate_prompt(self) -> None:
        self._at_prompt = False
        # An idle marker proves nothing if it was already shown; otherwise it is new.
        self._left_idle = not self._idle

    def _discard_output(self) -> None:
        self._top_before = self._emulator.top_row
        start = max(self._emulator.first_row, self._top_before - _MAX_ROWS_BEFORE)
        self._rows_before = dict(enumerate(self._emulator.rows_from(start), start))
        self._row_to_clear = ""
        self._output_row = None
        self._output_is_possible = True
        self._wrap_count_before = self._emulator.wrap_count
        self._turn_size = 0
        self._blocked = False
