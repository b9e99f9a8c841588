"""
What a person looking at the terminal would have read, as plain text::

    >>> plain(b"\\r\\xe2\\xa0\\x8b Thinking...\\x1b[2K\\x1b[1GDone.\\r\\n")
    'Done.\\n'

Written for line interfaces, which print from top to bottom and rewrite at most
the line they are on.  A rewritten line counts as its last writing; cursor
movements between lines are not followed.  The cost is linear in the length.
"""

from __future__ import annotations

import re

#: Erasing the line or going back to its first column: what follows replaces it.
_LINE_AGAIN = re.compile(rb"\x1b\[(?:2K|1?G)")

#: CSI, OSC (ended by BEL or ST), DCS/SOS/PM/APC, charset and two-byte escapes.
#: A string that is never ended is dropped up to the end of its line.
_ESCAPES = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]*[ -/]*[@-~]"
    rb"|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"
    rb"|[PX^_][^\x1b\r\n]*(?:\x1b\\)?"
    rb"|[ -/]+[0-~]"
    rb"|[0-~]"
    rb")"
)
#: All but tab, newline and carriage return.
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\r"))


#: Bytes that are read at once: what fits a cache is read fastest, and what a copy
#: needs is bounded.
_PIECE = 1 << 18


def plain(data: bytes | bytearray, piece: int = _PIECE) -> str:
    """
    The text in `data`, without escapes, its newlines as ``\\n``.  Bytes that
    are not UTF-8 become U+FFFD.

    Args:
        piece: so many bytes are read at once, where lines are not longer.
    """
    shown = []
    start = 0
    while start < len(data):
        end = start + piece
        if end < len(data):
            end = data.rfind(b"\n", start, end) + 1
            if not end:
                # One line that is longer.
                end = data.find(b"\n", start) + 1 or len(data)
                start = _last_writing(data, start, end)
        # No character goes on behind the end of a line.
        shown.append(_lines(data[start:end]).decode("utf-8", "replace"))
        start = end
    return "".join(shown)


def _lines(data: bytes | bytearray) -> bytes:
    """
    What is shown of whole lines.
    """
    lines = _unescaped(data).split(b"\n")
    return b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines)


def _last_writing(data: bytes | bytearray, start: int, end: int) -> int:
    """
    From where on the line between `start` and `end` is as good as all of it: it may be
    rewritten thousands of times, and only the last one is shown.
    """
    behind = end
    while True:
        again = data.rfind(b"\r", start, behind)
        if again < 0:
            return start
        if _unescaped(data[again:behind]).strip(b"\r\n"):
            return again
        behind = again


def _unescaped(data: bytes | bytearray) -> bytes:
    return _ESCAPES.sub(b"", _LINE_AGAIN.sub(b"\r", data)).translate(None, _CONTROLS)
