"""
A full-screen program, by the signs on its screen.

Such a program draws the same answer many times, and nothing it prints marks the
end of a turn.  It shows whether it is idle or busy, though, and that is read
from the rows where the signs stand and from nowhere else, since an answer may
say anything.  A turn::

    ask ──▶ the idle sign goes ── busy sign (Submitted) ──▶ idle sign, quiet (Answered)

What was drawn above the first busy row is echo.  The answer is what stands from
there on; if a part of it was erased or has scrolled away, it is unreadable, and
that is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kiroworkers.conversations.dialects.dialect import Dialect, Marker, Menu, StatusMarkers
from kiroworkers.conversations.events import (
    Event,
    NeedsApproval,
    NeedsChoice,
    NeedsEmptying,
    Overflowed,
    PromptLost,
    Submitted,
)
from kiroworkers.conversations.failures import find_failure
from kiroworkers.conversations.terminal.emulator import Emulator
from kiroworkers.conversations.terminal.keyboard import Expecting, KeyboardConversation


class ScreenConversation(KeyboardConversation):
    """
    Looks at a screen.
    """

    completion = "idle-sign"
    asks_at_prompt = False

    def __init__(self, dialect: Dialect, signs: StatusMarkers, max_output: int) -> None:
        super().__init__(dialect, max_output)
        self._signs = signs
        assert dialect.window is not None, "signs stand on a screen"
        self._emulator = Emulator(*dialect.window, max_output)
        self._unseen = False
        self._idle = self._busy = False
        # Was the screen seen otherwise than idle since something was typed?
        self._stirred = True
        self._at_prompt = False
        self._output: int | None = None
        self._wrapped = 0
        self._printed = 0
        # The menu that was told last, and the one at which keys were pressed.
        self._last_menu: tuple[str, str] | None = None
        self._pressed: tuple[str, str] | None = None
        self._may_empty = False
        # Enter is to follow what was typed, and when it does.
        self._held = False
        self._enter = b""
        self._blocked = False
        self._lost = False
        self._rows_before: dict[int, str] = {}

    @property
    def at_prompt(self) -> bool:
        return self._at_prompt

    @property
    def last_seen(self) -> str:
        rows = self._emulator.rows()
        return "\n".join(rows).strip("\n")

    @property
    def wraps(self) -> bool:
        return self._signs.wraps

    @property
    def lost(self) -> bool:
        return self._lost

    @property
    def quiet_timeout(self) -> float | None:
        if self._emulator.updating or self._lost:
            return None
        waits = self._held or self._unseen or self._proven or self._left_over
        return self._signs.quiet if waits else None

    @property
    def _proven(self) -> bool:
        """
        Is the agent idle, and was it otherwise since something was typed: busy,
        if that was a question?
        """
        asked = self._expecting is Expecting.ANSWER and self._unsubmitted
        return self._idle and self._stirred and not self._at_prompt and not asked

    @property
    def _left_over(self) -> bool:
        return self._may_empty and self._stirred and not self._busy and not self._idle

    def data_to_send(self) -> bytes:
        keys, self._enter = self._enter, b""
        return keys

    def ask(self, prompt: str) -> bytes:
        return self._hold(super().ask(prompt))

    def clear(self) -> bytes:
        return self._hold(super().clear())

    def _hold(self, keys: bytes) -> bytes:
        """
        `keys`, without Enter where that is to come apart.
        """
        self._held = self._dialect.keys.apart
        return keys.removesuffix(self._dialect.keys.submit) if self._held else keys

    def interrupt(self) -> bytes:
        keys = super().interrupt()
        self._may_empty = bool(keys and self._dialect.keys.empty)
        return keys

    def empty(self) -> bytes:
        self._may_empty = False
        return super().empty()

    def _keys_at(self, menus: Iterable[Menu]) -> bytes:
        # However many events told of it, keys are pressed once at each place.
        if self._last_menu is not None and self._pressed == self._last_menu:
            return b""
        self._pressed = self._last_menu
        return super()._keys_at(menus)

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if self._lost:
            return events
        self._printed += len(data)
        if self._expecting is Expecting.ANSWER and self._printed > self._max_output:
            # Drawing a flood would take longer than printing it.
            self._lost = True
            return [Overflowed(self._max_output)]
        self._unseen = True
        self._emulator.feed(data, lambda whole: self._look(events, whole))
        return events

    def on_quiet(self) -> list[Event]:
        events: list[Event] = []
        if self.quiet_timeout is None:
            return events
        if self._held:
            self._held, self._enter = False, self._dialect.keys.submit
            return events
        self._look(events, whole=True)
        if self._proven:
            self._at_prompt = True
            self._may_empty = False
            said = self._said() if self._expecting is Expecting.ANSWER else ""
            events.append(self._prompted(said))
        elif self._left_over:
            events.append(NeedsEmptying())
        return events

    def _look(self, events: list[Event], whole: bool) -> None:
        """
        What the screen shows now.  Keys are only pressed for a question on a
        `whole` one: while it is half drawn, the cursor may be elsewhere.
        """
        self._unseen = not whole
        rows = "\n".join(self._emulator.last_rows(self._signs.rows))
        self._busy = self._shows(self._signs.busy, rows)
        self._idle = not self._busy and self._shows(self._signs.idle, rows)
        if not self._idle or self._confirms():
            self._stirred = True
        if self._at_prompt and not self._idle:
            self._at_prompt = False
            events.append(PromptLost())
        if self._busy and self._unsubmitted:
            self._unsubmitted = False
            events.append(Submitted())
        if self._expecting is Expecting.ANSWER and self._output is None and self._busy:
            self._output = self._first_row_of_output()
        if self._busy or self._idle:
            self._last_menu = self._pressed = None
        elif whole:
            self._look_for_questions(events)

    def _shows(self, sign: Marker, rows: str) -> bool:
        emulator = self._emulator
        texts = ((sign.screen, rows), (sign.title, emulator.title), (sign.state, emulator.state))
        return all(pattern is None or pattern.search(text) for pattern, text in texts)

    def _first_row_of_output(self) -> int | None:
        top, rows, before = self._emulator.top, self._emulator.rows(), self._rows_before
        # When all was erased since, the rows have new numbers, and the same places.
        moved = top - min(before) if before and max(before) < self._emulator.first else 0
        for row in range(len(rows) - 1, -1, -1):
            # What stands where it stood before is of another turn.
            was = before.get(top + row - moved)
            if rows[row] != was and self._signs.output.search(rows[row]):
                return top + row
        return None

    def _look_for_questions(self, events: list[Event]) -> None:
        """
        Neither idle nor busy: is there something that waits for a key?
        """
        shown = self._shown()
        if not self._started:
            for menu in self._dialect.menus:
                found = menu.question.search(shown)
                if found is not None:
                    self._once(events, NeedsChoice(found[0].strip(), menu.keys), found[0])
                    return
        elif self._expecting is Expecting.ANSWER:
            question = self._approval()
            if question is not None:
                self._once(events, NeedsApproval(question), self._cursor(shown))
                return
        self._last_menu = self._pressed = None
        blocking = [sign for sign in self._dialect.failures if sign.blocks]
        failure = find_failure(blocking, shown)
        if failure is not None and not self._blocked:
            self._blocked = True
            events.append(failure)

    def _once(self, events: list[Event], event: NeedsChoice | NeedsApproval, at: str) -> None:
        """
        `event`, unless it was the last, with the cursor where it is now.
        """
        menu = (event.question, at)
        if menu != self._last_menu:
            self._last_menu = menu
            events.append(event)

    def _cursor(self, shown: str) -> str:
        """
        Where in the menu of an approval the cursor is.
        """
        approval = self._dialect.approval
        assert approval is not None, "it asked"
        found = (menu.question.search(shown) for menu in (*approval.deny, *approval.allow))
        return next((each[0] for each in found if each is not None), "")

    def _said(self) -> str | None:
        """
        What stands on the screen since the turn began; None when not all of it
        is known.
        """
        if self._output is None or self._output < self._emulator.first:
            return None
        if self.wraps and self._emulator.wrapped != self._wrapped:
            return None
        return self._emulator.text(self._output)

    def _own_words(self) -> str:
        said = (self._said() or "") if self._started else self._shown()
        prefix = self._dialect.answer_prefix
        return "" if prefix is not None and prefix.search(said.encode()) else said

    def _shown(self) -> str:
        """
        In a turn, what stands below the echo; else the rows that were not there
        before something was typed.
        """
        if self._expecting is Expecting.ANSWER:
            return "" if self._output is None else self._emulator.text(self._output)
        before = Counter(self._rows_before.values())
        news: list[str] = []
        for row in self._emulator.rows():
            if before[row] > 0:
                before[row] -= 1
            else:
                news.append(row)
        return "\n".join(news)

    def _confirms(self) -> bool:
        """
        Is a clear confirmed?
        """
        clear = self._dialect.clear
        return (
            self._expecting is Expecting.CLEAR
            and clear is not None
            and clear.done.search(self._shown()) is not None
        )

    def _touch(self) -> None:
        self._at_prompt = False
        # Where it was not idle, its idle sign will be news.
        self._stirred = not self._idle

    def _drop(self) -> None:
        self._rows_before = dict(enumerate(self._emulator.rows(), self._emulator.top))
        self._output = None
        self._wrapped = self._emulator.wrapped
        self._printed = 0
        self._blocked = False
