"""
The classic interface on a real terminal: a prompt, a turn, a prompt again.

While the line editor reads, the terminal is raw; while a turn runs it is
cooked, so that Ctrl-C is a signal then and a key otherwise.  `Console` is the
interface; what it answers is its subclass's business.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kiroworkers.offline import classic
from kiroworkers.offline.editor import LineEditor, Signal

_READ_SIZE = 65536


class Console(ABC):
    """
    Talks on the terminal `terminal` (a file descriptor, read and written).
    """

    hint = ""

    def __init__(self, terminal: int = 0) -> None:
        self._terminal = terminal
        self._in_turn = False
        self._interrupted = False

    # For subclasses.

    def banner(self) -> str:
        """
        What to print before the first prompt.
        """
        return ""

    def prompt(self) -> str:
        """
        The prompt, with its colours.
        """
        return classic.prompt()

    @abstractmethod
    def turn(self, text: str) -> None:
        """
        Answer what was typed.  A `KeyboardInterrupt` cancels the turn.
        """

    def forget(self) -> None:  # noqa: B027  # nothing to forget is a fine default
        """
        The conversation was cleared.
        """

    # The conversation.

    def run(self) -> int:
        """
        Talk until told to quit; the process's exit status.
        """
        signal.signal(signal.SIGINT, self._interrupt)
        self.write(self.banner())
        warned = False
        while True:
            line = self.read_line(self.prompt(), self.hint)
            if line is Signal.END_OF_INPUT or (line is Signal.INTERRUPTED and warned):
                return 0
            if line is Signal.INTERRUPTED:
                warned = True
                self.write(classic.EXIT_HINT)
                continue
            assert isinstance(line, str), "signals were handled above"
            warned = False
            if line.strip() in ("/quit", "/exit"):
                return 0
            if line.strip():
                self._cancellable(self.command if line.startswith("/") else self.turn, line)

    def _cancellable(self, act: Callable[[str], None], line: str) -> None:
        """
        Do `act` to `line`; a Ctrl-C since the line was read cancels it.
        """
        try:
            self._in_turn = True
            if self._interrupted:
                raise KeyboardInterrupt
            act(line)
            self._in_turn = False
        except KeyboardInterrupt:
            self._in_turn = False
            self._interrupted = False
            self.write(classic.CANCELLED)

    def _interrupt(self, *_: object) -> None:
        """
        A Ctrl-C came as a signal.  Raised at once it would end the program when
        it comes between two turns; so it is remembered then.
        """
        if self._in_turn:
            # Only once: the next one may come while this one is handled.
            self._in_turn = False
            raise KeyboardInterrupt
        self._interrupted = True

    def command(self, line: str) -> None:
        """
        Do a slash command.
        """
        line = line.strip()
        if line == "/clear":
            self.clear()
        else:
            self.write(f"\nThere is no command {line.split()[0]}. Try /help, /clear or /quit.\n\n")

    def clear(self) -> None:
        """
        Forget the conversation, if whoever typed it is sure.
        """
        self.write(classic.CLEAR_QUESTION)
        if self.read_line(classic.CLEAR_PROMPT) in ("y", "Y"):
            self.forget()
            self.write(classic.CLEAR_DONE)
        else:
            self.write("\n")

    def allowed(self, action: str) -> bool:
        """
        Ask whether a tool may be used.
        """
        self.write(f"I will run the following command: {action} (using tool: shell)\n\n")
        self.write(classic.APPROVAL_QUESTION)
        return self.read_line(self.prompt()) in ("y", "Y", "t", "T", "")

    def think(self, seconds: float) -> None:
        """
        Show the spinner for `seconds`, at least one frame of it.
        """
        until = time.monotonic() + seconds
        for frame in classic.spinner():
            self.write(frame)
            left = until - time.monotonic()
            if left <= 0:
                break
            self.wait(min(left, classic.FRAME))
        self.write(classic.SPINNER_GONE)

    def wait(self, seconds: float) -> None:
        """
        Do nothing; a Ctrl-C ends it.
        """
        select.select([], [], [], seconds)

    # The terminal.

    def read_line(self, prompt: str, hint: str = "") -> str | Signal:
        """
        Draw `prompt` and read a line behind it.
        """
        editor = LineEditor(prompt, hint)
        outcome: str | Signal | None = None
        drawn = b""
        with self._raw():
            self.write(editor.open())
            if self._interrupted:
                # It came just before the editor took over the keys.
                self._interrupted = False
                drawn, outcome = editor.feed(b"\x03")
            while outcome is None:
                try:
                    data = os.read(self._terminal, _READ_SIZE)
                except OSError:
                    data = b""  # the other side of the terminal is gone
                if not data:
                    return Signal.END_OF_INPUT
                drawn, outcome = editor.feed(data)
                if outcome is None:
                    self.write(drawn)
        # As Kiro's editor does: whoever sees its last mark can rely on the
        # terminal being cooked again, so that a Ctrl-C is a signal.
        self.write(drawn)
        return outcome

    def write(self, text: str | bytes) -> None:
        """
        Print all of `text`.
        """
        data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._terminal, data) :]

    @contextmanager
    def _raw(self) -> Iterator[None]:
        before: list[Any] = termios.tcgetattr(self._terminal)
        raw = list(before)
        raw[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, raw)
        try:
            yield
        finally:
            with suppress(termios.error):  # the other side of the terminal is gone
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, before)
