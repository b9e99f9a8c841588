"""
Run the classic interface on a real terminal: a prompt, a turn, the next prompt.

The terminal is raw while the line editor reads and cooked while a turn runs, so that
Ctrl-C is a key in the editor and a signal during a turn.  `Console` is the interface;
its subclasses decide what it answers.
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

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.editor import LineEditor, Signal

_READ_SIZE = 65536


class Console(ABC):
    """
    Hold a conversation on a terminal.

    Args:
        terminal: The file descriptor of the terminal, for reading and writing.

    Attributes:
        hint: The dimmed text that the prompt shows until the first key.
    """

    hint = ""

    def __init__(self, terminal: int = 0) -> None:
        self._terminal = terminal
        self._in_turn = False
        self._interrupted = False

    # For subclasses.

    def banner(self) -> str:
        """
        Return the text to print before the first prompt.
        """
        return ""

    def prompt(self) -> str:
        """
        Return the prompt with its colours.
        """
        return classic.prompt()

    @abstractmethod
    def turn(self, text: str) -> None:
        """
        Answer the prompt `text`; `KeyboardInterrupt` cancels the turn.
        """

    def forget(self) -> None:  # noqa: B027  # most consoles keep nothing
        """
        Discard the conversation after the user cleared it.
        """

    # The conversation.

    def run(self) -> int:
        """
        Converse until the user quits and return the exit status.
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
            # As in a shell, a blank at the beginning only keeps a line out of the history.
            line = line.removeprefix(" ")
            if line.strip() in ("/quit", "/exit"):
                return 0
            if line.strip():
                self._cancellable(self.command if line.startswith("/") else self.turn, line)

    def _cancellable(self, act: Callable[[str], None], line: str) -> None:
        """
        Call `act` with `line`; a Ctrl-C since the line was read cancels the call.
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
        Handle a Ctrl-C that arrived as a signal.

        Between two turns an exception would end the program, so the signal is only recorded.
        """
        if self._in_turn:
            # Raise only once: another signal may arrive while this one is handled.
            self._in_turn = False
            raise KeyboardInterrupt
        self._interrupted = True

    def command(self, line: str) -> None:
        """
        Run the slash command in `line`.
        """
        line = line.strip()
        if line == "/clear":
            self.clear()
        else:
            self.write(f"\nThere is no command {line.split()[0]}. Try /help, /clear or /quit.\n\n")

    def clear(self) -> None:
        """
        Clear the conversation after the user confirmed it.
        """
        self.write(classic.CLEAR_QUESTION)
        if self.read_line(classic.CLEAR_PROMPT) in ("y", "Y"):
            self.forget()
            self.write(classic.CLEAR_DONE)
        else:
            self.write("\n")

    def think(self, seconds: float) -> None:
        """
        Show the spinner for `seconds` seconds, and at least one frame of it.
        """
        until = time.monotonic() + seconds
        for frame in classic.spinner():
            self.write(frame)
            left = until - time.monotonic()
            if left <= 0:
                break
            self.wait(min(left, classic.FRAME_SECONDS))
        self.write(classic.SPINNER_GONE)

    def wait(self, seconds: float) -> None:
        """
        Sleep for `seconds` seconds; a Ctrl-C ends the sleep.
        """
        select.select([], [], [], seconds)

    # The terminal.

    def read_line(self, prompt: str, hint: str = "") -> str | Signal:
        """
        Draw `prompt` and `hint`, and return the line or the signal that was read.
        """
        editor = LineEditor(prompt, hint)
        outcome: str | Signal | None = None
        drawn = b""
        with self._raw():
            self.draw_prompt(editor.open())
            if self._interrupted:
                # The signal arrived just before the editor took over the keys.
                self._interrupted = False
                drawn, outcome = editor.feed(b"\x03")
            while outcome is None:
                data = self.read_keys()
                if not data:
                    return Signal.END_OF_INPUT
                drawn, outcome = editor.feed(data)
                if outcome is None:
                    self.write(drawn)
        # Write the editor's last mark only now, as Kiro's editor does: a reader of the mark
        # can rely on the terminal being cooked again, so that a Ctrl-C is a signal.
        self.write(drawn)
        return outcome

    def draw_prompt(self, drawn: bytes) -> None:
        """
        Write what the line editor draws when it begins to read.
        """
        self.write(drawn)

    def read_keys(self) -> bytes:
        """
        Return the next keys; empty if the other side of the terminal was closed.
        """
        try:
            return os.read(self._terminal, _READ_SIZE)
        except OSError:
            return b""

    def write(self, text: str | bytes) -> None:
        """
        Write all of `text` to the terminal.
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
            with suppress(termios.error):  # the other side of the terminal was closed
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, before)
