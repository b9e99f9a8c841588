r"""
Turn terminal output into the plain text that a person would have read.

For example::

    >>> plain_text(b"\r\xe2\xa0\x8b Thinking...\x1b[2K\x1b[1GDone.\r\n")
    'Done.\n'

This is for interfaces that print from top to bottom and rewrite at most the line that
the cursor is on.  Only the last version of a rewritten line counts, and cursor movements
between lines are not followed.  The cost is linear in the length of the output.
"""

from __future__ import annotations

import re

#: Erasing the line or going back to its first column: what follows replaces it.
_RESTARTS_LINE = re.compile(rb"\x1b\[(?:2K|1?G)")

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
#: All control characters except tab, newline and carriage return.
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\r"))


#: The number of bytes to convert at once: small enough for a CPU cache, and a bound on
#: the memory that the intermediate copies take.
_BLOCK_SIZE = 1 << 18


def plain_text(data: bytes | bytearray, block_size: int = _BLOCK_SIZE) -> str:
    r"""
    Return the text in `data`, without escape sequences and with ``\n`` as line ends.

    Bytes that are not UTF-8 become U+FFFD.

    Args:
        data: The output of a terminal, complete or cut anywhere.
        block_size: The number of bytes to convert at once.  A longer line is still
            converted as a whole.
    """
    blocks = []
    start = 0
    while start < len(data):
        end = start + block_size
        if end < len(data):
            end = data.rfind(b"\n", start, end) + 1
            if not end:
                # One line that is longer than a block.
                end = data.find(b"\n", start) + 1 or len(data)
                start = _last_version(data, start, end)
        # A block ends with a line, so it never cuts a character in two.
        blocks.append(_convert_lines(data[start:end]).decode("utf-8", "replace"))
        start = end
    return "".join(blocks)


def _convert_lines(data: bytes | bytearray) -> bytes:
    """
    Return whole lines as they finally look, without escape sequences.
    """
    lines = _without_escapes(data).split(b"\n")
    return b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines)


def _last_version(data: bytes | bytearray, start: int, end: int) -> int:
    """
    Return where the last version of the line between `start` and `end` begins.

    A line may be rewritten thousands of times, and only its last version is visible.
    """
    version_end = end
    while True:
        position = data.rfind(b"\r", start, version_end)
        if position < 0:
            return start
        if _without_escapes(data[position:version_end]).strip(b"\r\n"):
            return position
        version_end = position


def _without_escapes(data: bytes | bytearray) -> bytes:
    return _ESCAPES.sub(b"", _RESTARTS_LINE.sub(b"\r", data)).translate(None, _CONTROLS)
