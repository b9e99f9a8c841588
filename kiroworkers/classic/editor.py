r"""
Edit a line: read keys and draw a prompt, without a terminal.

The editor behaves like that of the classic interface, because a program on the other side
of the terminal depends on it.  It writes ``ESC[?2004h`` when it begins to read and
``ESC[?2004l`` when it ends.  It takes a bracketed paste as text and submits at CR, but
inserts a newline at LF, and at a CR after a backslash or inside an open code fence.  It
loses all input that follows the submitting CR in the same read.

Newlines in its output are ``\n``; a terminal's output post-processing makes them
CR LF.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from enum import Enum, auto

from kiroworkers.classic.drawing import width

_PASTE_START = b"\x1b[200~"
_PASTE_END = b"\x1b[201~"
#: Keys that begin with an escape and are ignored, such as arrows.
_OTHER_KEYS = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])", re.DOTALL)
_UNFINISHED_KEY = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")


class Signal(Enum):
    """
    Name the ways in which reading ends without a line.
    """

    INTERRUPTED = auto()
    END_OF_INPUT = auto()


class LineEditor:
    """
    Read one line at a time.

    Args:
        prompt: The prompt to draw before the line; may contain colours.
        hint: The text to show dimmed until the first key.
    """

    def __init__(self, prompt: str, hint: str = "") -> None:
        self._prompt = prompt
        self._hint = hint
        self._text = ""
        self._pasting = False
        self._pasted = b""
        self._pending = b""
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def open(self) -> bytes:
        """
        Begin to read and return the bytes to draw.
        """
        self._text = ""
        self._pasting = False
        self._pasted = b""
        self._pending = b""
        hint = f"\x1b[38;5;240m{self._hint}\x1b[m" if self._hint else ""
        drawn = f"\r\x1b[K{self._prompt}{hint}\r\x1b[{width(self._prompt)}C"
        return b"\x1b[?25h\x1b[0m\x1b[0m\x1b[?2004h" + drawn.encode()

    def feed(self, data: bytes) -> tuple[bytes, str | Signal | None]:
        """
        Read the keys in `data`.

        Returns:
            The bytes to draw, and the line or signal that ended the reading, or None while
            it goes on.
        """
        data = self._pending + data
        self._pending = b""
        hinted = bool(self._hint) and not self._text
        plain_keys = not self._pasting
        before = self._text
        outcome: str | Signal | None = None
        while data and outcome is None:
            if self._pasting:
                data = self._paste(data)
            elif data[:1] == b"\x1b":
                plain_keys = False
                data = self._escape(data)
            else:
                outcome, data = self._key(data)
        drawn = self._draw(before, direct=plain_keys and not hinted)
        if outcome is not None:
            drawn += b"\x1b[?2004l\n"
        return drawn, outcome

    def _paste(self, data: bytes) -> bytes:
        end = data.find(_PASTE_END)
        if end < 0:
            partial = next(
                (n for n in range(len(_PASTE_END) - 1, 0, -1) if data.endswith(_PASTE_END[:n])), 0
            )
            end = len(data) - partial
            self._pending = data[end:]
            self._pasted += data[:end]
            return b""
        pasted = (self._pasted + data[:end]).decode("utf-8", "replace")
        self._text += pasted.replace("\r\n", "\n").replace("\r", "\n")
        self._pasted = b""
        self._pasting = False
        return data[end + len(_PASTE_END) :]

    def _escape(self, data: bytes) -> bytes:
        if data.startswith(_PASTE_START):
            self._pasting = True
            return data[len(_PASTE_START) :]
        if _UNFINISHED_KEY.match(data):
            self._pending = data
            return b""
        key = _OTHER_KEYS.match(data)
        return data[key.end() if key else 1 :]

    def _key(self, data: bytes) -> tuple[str | Signal | None, bytes]:
        key, rest = data[:1], data[1:]
        match key:
            case b"\r":
                if self._text.count("```") % 2 or self._text.endswith("\\"):
                    self._text += "\n"
                else:
                    # The real editor loses the rest of this read, too.
                    return self._text, b""
            case b"\n":
                self._text += "\n"
            case b"\x03":
                return Signal.INTERRUPTED, b""
            case b"\x04" if not self._text:
                return Signal.END_OF_INPUT, b""
            case b"\x15":
                self._text = ""
            case b"\x7f" | b"\x08":
                self._text = self._text[:-1]
            case _ if key >= b" ":
                plain = re.match(rb"[^\x00-\x1f\x7f]+", data)
                assert plain is not None, "the key itself matches"
                self._text += self._decoder.decode(plain[0])
                return None, data[plain.end() :]
        return None, rest

    def _draw(self, before: str, direct: bool) -> bytes:
        if self._text == before:
            return b""
        added = self._text[len(before) :]
        if direct and self._text.startswith(before) and "\n" not in added:
            return added.encode()
        column = width(self._text.rpartition("\n")[2])
        if "\n" not in self._text:
            column += width(self._prompt)
        return f"\r\x1b[K{self._prompt}{self._text}\r\x1b[{column}C".encode()
