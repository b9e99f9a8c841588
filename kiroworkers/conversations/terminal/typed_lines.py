r"""
Find the lines that somebody typed in a recording.

A terminal sends input too: it answers the program's queries, and reports the mouse, the focus,
its size and released keys.  Such replies are not part of a line, even if the recording has cut
them or joined them to typed text::

    >>> chunks = [Chunk(1.0, "i", b"\x1b[24;"), Chunk(1.1, "i", b"1Rhellp\x7fo\r")]
    >>> [line.text for line in typed_lines(chunks)]
    ['hello']

Every reply differs by its form from what keys send.  The only exception is the position of the
cursor, which some terminals also send for F3; that key is not text either.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

from attrs import field, frozen, mutable

from kiroworkers.conversations.terminal.recording import Chunk

#: How a line ended: by Enter, by a Ctrl-C or Esc that dropped it, by a Ctrl-D in an empty line,
#: or not at all.
End: TypeAlias = Literal["submitted", "dropped", "end of input", "unfinished"]

#: What a terminal sends that is no key; see "XTerm Control Sequences"
#: (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html) and "Comprehensive keyboard handling"
#: (https://sw.kovidgoyal.net/kitty/keyboard-protocol/).
_REPLY = rb"""
\x1b\[ (?:
    \?? [0-9]+ (?:;[0-9]+)+ R             # the cursor's position
  | \?? [0-9;]+ n                         # the terminal's status
  | [?>=] [0-9;]* c                       # its attributes
  | \?? [0-9]+ ; [0-9]+ \$y               # a mode
  | \? [0-9]+ u                           # the flags of Kitty's keyboard protocol
  | > [0-9;]+ m                           # how modified keys are reported
  | [0-9:;]* :3 [u~A-Z]                   # a key that is released
  | [0-9]+ (?:;[0-9:]+)* t                # the window's size or state
  | [IO]                                  # the focus
  | < [0-9;]+ [Mm]                        # the mouse, in its three forms
  | [0-9]+ ; [0-9]+ ; [0-9]+ M
  | M [\x20-\xff]{3}
)
| \x1b\] (?:[0-9]+;|[lL]) [^\x07\x1b]* (?:\x07|\x1b\\)   # a colour, the clipboard, the title
| \x1bP [>!|0-9] [^\x1b]* \x1b\\          # the terminal's version, a setting, a capability
| \x1b_G [^\x1b]* \x1b\\                  # a report about graphics
"""
_PASTE = rb"\x1b\[200~ (?P<paste>.*?) (?:\x1b\[201~|\Z)"
#: Keys that send a sequence, or are pressed together with Alt.
_KEY = rb"\x1b (?: \[[0-?]*[ -/]*[@-~] | O[ -~] | [^\x1b\[O] )"
_INPUT = re.compile(
    rb"(?P<reply> %b ) | %b | (?P<key> %b | . )" % (_REPLY, _PASTE, _KEY), re.VERBOSE | re.DOTALL
)

_INTERRUPT, _ESCAPE, _END_OF_INPUT, _NEWLINE = b"\x03", b"\x1b", b"\x04", b"\n"
_ERASE_KEYS = frozenset({b"\x7f", b"\b"})
_ERASE_LINE, _ERASE_WORD = b"\x15", b"\x17"


@frozen
class TypedLine:
    """
    Represent a line that was typed, or what was typed instead of one.

    Attributes:
        first: The index, among the chunks of the recording, of the one with the first key.
        last: The same for the last key.
        data: What the keys sent, without replies of the terminal.
        text: The text of the line, as far as it can be known from the keys.
        end: How the line ended.
    """

    first: int
    last: int
    data: bytes
    text: str
    end: End


@mutable
class _Line:
    """
    Hold a line while it is typed.
    """

    first: int
    last: int = 0
    data: bytearray = field(factory=bytearray)
    text: bytearray = field(factory=bytearray)

    def press(self, key: bytes) -> None:
        """
        Change the text as line editors do at `key`.
        """
        if key in _ERASE_KEYS:
            self.text[:] = self.text.decode("utf-8", "replace")[:-1].encode()
        elif key == _ERASE_LINE:
            self.text.clear()
        elif key == _ERASE_WORD:
            self.text[:] = re.sub(rb"[^ ]*[ ]*\Z", b"", self.text)
        elif key == _NEWLINE or (key >= b" " and len(key) == 1):
            self.text += key

    def finish(self, end: End) -> TypedLine:
        """
        Return the line, given how it ended.
        """
        text = self.text.decode("utf-8", "replace")
        return TypedLine(self.first, self.last, bytes(self.data), text, end)


def without_replies(data: bytes) -> bytes:
    """
    Return `data` without the terminal's replies, which must be complete.
    """
    matches = _INPUT.finditer(data)
    return b"".join(match[0] for match in matches if match["reply"] is None)


def typed_lines(chunks: Sequence[Chunk], submit: bytes = b"\r") -> Iterator[TypedLine]:
    """
    Yield the lines that were typed in a recording, in order.

    Args:
        chunks: The recording.
        submit: What the key sends that submits a line.
    """
    typed = [(index, chunk.data) for index, chunk in enumerate(chunks) if chunk.direction == "i"]
    starts = [0, *accumulate(len(data) for _, data in typed)]

    def index_at(position: int) -> int:
        return typed[bisect_right(starts, position) - 1][0]

    line: _Line | None = None
    data = b"".join(data for _, data in typed)
    position = 0
    while (match := _INPUT.match(data, position)) is not None:
        start, position = match.span()
        if match["reply"] is not None:
            continue
        key = match["key"]
        if key is not None and len(key) == 2 and index_at(start) != index_at(start + 1):
            # Not a key with Alt, but Esc and another key.
            key, position = _ESCAPE, start + 1
        line = line or _Line(index_at(start))
        line.last = index_at(position - 1)
        line.data += data[start:position]
        if match["paste"] is not None:
            line.text += match["paste"].replace(b"\r", b"\n")
            continue
        end: End
        if key == submit:
            end = "submitted"
        elif key == _INTERRUPT or (key == _ESCAPE and not line.text):
            end = "dropped"
        elif key == _END_OF_INPUT and not line.text:
            end = "end of input"
        else:
            line.press(key)
            continue
        yield line.finish(end)
        line = None
    if line is not None:
        yield line.finish("unfinished")
