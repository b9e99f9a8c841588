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
from collections.abc import Iterator

#: Erasing the line or going back to its first column: what follows replaces it.
_RESTARTS_LINE = re.compile(rb"\x1b\[(?:2K|1?G)")

#: CSI, OSC (ended by BEL or ST), DCS/SOS/PM/APC, charset and two-byte escapes.
#: A string that is never ended is dropped up to the end of its line.
_ESCAPES = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]{0,256}[ -/]{0,16}[@-~]"
    rb"|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"
    rb"|[PX^_][^\x1b\r\n]*(?:\x1b\\)?"
    rb"|[ -/]{1,16}[0-~]"
    rb"|[0-~]"
    rb")"
)
#: A sequence that the end of the data may have cut; a string is dropped but for the bytes
#: that begin and end it.
_INCOMPLETE = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]{0,256}[ -/]{0,16}"
    rb"|(?P<string>\])[^\x07\x1b\r\n]*(?P<end>\x1b?)"
    rb"|(?P<other_string>[PX^_])[^\x1b\r\n]*(?P<other_end>\x1b?)"
    rb"|[ -/]{1,16}"
    rb")?\Z"
)
#: All control characters except tab, newline and carriage return.
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\r"))


#: The number of bytes to convert at once: small enough for a CPU cache, and a bound on
#: the memory that the intermediate copies take.
_BLOCK_SIZE = 1 << 18


class Transcript:
    r"""
    Convert output to plain text piece by piece, as it arrives.

    What is kept is the line that is not complete yet, so the cost of each piece depends on
    its own length alone::

        >>> transcript = Transcript()
        >>> transcript.feed(b"\rThink\rThou"), transcript.feed(b"ght.\r\nAnd")
        ('', 'Thought.\n')
        >>> transcript.rest()
        'And'
    """

    def __init__(self) -> None:
        # The last version of the incomplete line, without escape sequences.
        self._line = bytearray()
        # Whether the next character of the line replaces what is there.
        self._restarted = False
        # The beginning of a sequence whose end may still come.
        self._incomplete = b""

    def feed(self, data: bytes) -> str:
        """
        Return the lines that end in `data`, each with its newline.

        Args:
            data: The next output of a terminal, which may be cut at any byte.
        """
        return b"".join(map(self._feed_block, _blocks(data))).decode("utf-8", "replace")

    def rest(self) -> str:
        """
        Return the line that is not complete yet.
        """
        # An incomplete sequence loses its ESC, or all of it if it already is a sequence.
        rest = Transcript()
        rest._line, rest._restarted = bytearray(self._line), self._restarted
        rest._append(_without_escapes(self._incomplete))
        return bytes(rest._line).decode("utf-8", "replace")

    def _feed_block(self, block: bytes) -> bytes:
        block = self._incomplete + block
        self._incomplete = b""
        incomplete = _incomplete_sequence(block)
        if incomplete is not None:
            block, self._incomplete = block[: incomplete.start()], _shortest(incomplete)
        first, *others = _without_escapes(block).split(b"\n")
        self._append(first)
        if not others:
            return b""
        *middle, last = others
        lines = [bytes(self._line), *map(_last_version, middle)]
        self._line.clear()
        self._restarted = False
        self._append(last)
        return b"\n".join(lines) + b"\n"

    def _append(self, part: bytes) -> None:
        """
        Append `part`, which has no newline, to the incomplete line.
        """
        text = part.rstrip(b"\r")
        if text:
            _, restarts, version = text.rpartition(b"\r")
            if restarts or self._restarted:
                self._line.clear()
            self._line += version
        self._restarted = len(text) < len(part) or (self._restarted and not text)


def plain_text(data: bytes | bytearray) -> str:
    r"""
    Return the text in `data`, without escape sequences and with ``\n`` as line ends.

    Bytes that are not UTF-8 become U+FFFD.

    Args:
        data: The output of a terminal, complete or cut anywhere.
    """
    if len(data) <= _BLOCK_SIZE:
        lines = _without_escapes(data).split(b"\n")
        return b"\n".join(map(_last_version, lines)).decode("utf-8", "replace")
    transcript = Transcript()
    return transcript.feed(bytes(data)) + transcript.rest()


def _blocks(data: bytes) -> Iterator[bytes]:
    """
    Yield `data` in pieces of at most `_BLOCK_SIZE` bytes.
    """
    for start in range(0, len(data), _BLOCK_SIZE):
        yield data[start : start + _BLOCK_SIZE]


def _incomplete_sequence(block: bytes) -> re.Match[bytes] | None:
    """
    Return the match of the sequence that the end of `block` has cut, or None.
    """
    last = block.rfind(b"\x1b")
    if last < 0:
        return None
    if last == len(block) - 1:
        # It may be the first half of what ends a string.
        string = _INCOMPLETE.match(block, max(0, block.rfind(b"\x1b", 0, last)))
        if string is not None:
            return string
    return _INCOMPLETE.match(block, last)


def _shortest(incomplete: re.Match[bytes]) -> bytes:
    """
    Return the shortest beginning of the incomplete sequence that ends as it does.
    """
    string = incomplete["string"] or incomplete["other_string"]
    if string is None:
        return incomplete[0]
    return b"\x1b" + string + (incomplete["end"] or incomplete["other_end"] or b"")


def _last_version(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def _without_escapes(data: bytes | bytearray) -> bytes:
    return _ESCAPES.sub(b"", _RESTARTS_LINE.sub(b"\r", data)).translate(None, _CONTROLS)
