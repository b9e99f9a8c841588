r"""
Turn terminal output into the plain text that a person would have read.

For example::

    >>> plain_text(b"\r\xe2\xa0\x8b Thinking...\x1b[2K\x1b[1GDone.\r\n")
    'Done.\n'

This is for interfaces that print from top to bottom and rewrite at most the line that
the cursor is on.  Only the last version of a rewritten line counts, and cursor movements
between lines are not followed.  The cost is linear in the length of the output.

A `Transcript` also shows whether text was rendered.  A program that prints a model's text
unchanged changes no style inside a line.  A program that renders Markdown removes characters
and changes the style there instead.  `Transcript.styled` has the offsets of

- an SGR sequence that sets an attribute or a colour;
- an SGR sequence that only resets some, unless nothing else follows on its line: classic
  interfaces print two resets at the end of each line;
- any other sequence that erases, inserts, deletes or moves the cursor, a hyperlink, a device
  string, and a character set other than the usual one;
- a control character that is dropped, such as a backspace or DEL;
- a byte that is not UTF-8;
- the beginning of a line that was rewritten.

Modes (such as the visibility of the cursor) and titles are not styles.  The
sequences around a code fence are outside of its content.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from codecs import getincrementaldecoder
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
#: SGR sequences that only end what others began.
_RESET = rb"\x1b\[(?:0|2[2-9]|[345]9|;)*m"
#: Modes, titles and other commands except hyperlinks, the usual character set (after which
#: some terminals get SI), and keypad modes.
_NOT_STYLE = (
    rb"\x1b(?:\[[?><=][0-?]{0,256}[ -/]{0,16}[@-~]"
    rb"|\](?!0*8;)[^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"
    rb"|[()*+]B"
    rb"|[=>])|\x0f"
)
#: What the text of a line lacks, by what it does to the line.
_SEQUENCES = re.compile(
    rb"(?P<restart>(?:\r|\x1b\[(?:2K|1?G))+)"
    rb"|(?P<reset>(?:" + _RESET + rb")+)"
    rb"|(?P<mode>(?:" + _NOT_STYLE + rb")+)"
    rb"|(?P<style>" + _ESCAPES.pattern + rb"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f])"
)
#: What may make the text of lines differ from their bytes.
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")

#: What is not part of the text of a line, except for carriage returns.
_DROPPED = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REPLACEMENT = re.compile("\ufffd")

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
        >>> transcript.feed(b"\rThink\rThou"), transcript.feed(b"ght.\r\nAnd \x1b[1mso")
        ('', 'Thought.\n')
        >>> transcript.rest()
        'And so'
        >>> transcript.styled()
        (0, 13)

    The text of a transcript is what all calls of `feed` returned and what `rest` returns.
    """

    def __init__(self) -> None:
        # The last version of the incomplete line, without escape sequences.
        self._line = bytearray()
        # Whether the next character of the line replaces what is there, and whether it comes
        # after a reset, which then was not at the end of the line.
        self._restarted = False
        self._reset = False
        # The beginning of a sequence whose end may still come.
        self._incomplete = b""
        # The offset of the incomplete line, in characters.
        self._offset = 0
        self._styled: list[int] = []
        # How many of them are not in the incomplete line.
        self._styled_before = 0
        # How much of the incomplete line was decoded: in bytes, and in characters.
        self._decoded = self._decoded_length = 0
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """
        Return the lines that end in `data`, each with its newline.

        Args:
            data: The next output of a terminal, which may be cut at any byte.
        """
        return "".join(map(self._feed_block, _blocks(data)))

    def rest(self) -> str:
        """
        Return the line that is not complete yet.
        """
        # An incomplete sequence loses its ESC, or all of it if it already is a sequence.
        rest = Transcript()
        rest._line, rest._restarted = bytearray(self._line), self._restarted
        rest._append(self._incomplete)
        return rest._line.decode("utf-8", "replace")

    def styled(self) -> tuple[int, ...]:
        """
        Return the offsets in the text, in ascending order, at which it was styled.
        """
        # An incomplete sequence may count as text that replaces the incomplete line.
        length = self._offset + len(self.rest())
        styled = self._styled[:]
        _, replaced = _decode(self._line)
        if replaced:
            styled[self._styled_before :] = self._styled_in_line(replaced)
        return tuple(styled[: bisect_right(styled, length)])

    def _styled_in_line(self, replaced: list[int]) -> list[int]:
        """
        Return the places of style in the incomplete line, with those of `replaced` bytes.
        """
        places = (self._offset + place for place in replaced)
        return sorted({*self._styled[self._styled_before :], *places})

    def _feed_block(self, block: bytes) -> str:
        block = self._incomplete + block
        self._incomplete = b""
        incomplete = _incomplete_sequence(block)
        if incomplete is not None:
            block, self._incomplete = block[: incomplete.start()], _shortest(incomplete)
        first, newline, others = block.partition(b"\n")
        self._append(first)
        if not newline:
            return ""
        lines = self._end_line()
        middle, newline, last = others.rpartition(b"\n")
        if newline:
            lines += self._feed_lines(middle)
        self._append(last)
        return lines

    def _feed_lines(self, lines: bytes) -> str:
        """
        Return the text of complete `lines`, of which the last one has no newline.
        """
        plain = lines.replace(b"\r\n", b"\n").removesuffix(b"\r")
        if _NOT_TEXT.search(plain) is None:
            text, replaced = _decode(plain)
            self._styled += (self._offset + place for place in replaced)
            self._styled_before = len(self._styled)
            self._offset += len(text) + 1
            return text + "\n"
        texts = []
        for line in lines.split(b"\n"):
            self._append(line.rstrip(b"\r"))
            texts.append(self._end_line())
        return "".join(texts)

    def _append(self, part: bytes) -> None:
        """
        Append `part`, which has no newline, to the incomplete line.
        """
        if _DROPPED.search(part) is None:
            # Only the last version of the line counts.
            text = part.rstrip(b"\r")
            before, restart, version = text.rpartition(b"\r")
            if before.strip(b"\r"):
                self._append_text(b" ")
            self._restarted = self._restarted or bool(restart)
            self._append_text(version)
            self._restarted = self._restarted or len(text) < len(part)
            return
        end = 0
        for sequence in _SEQUENCES.finditer(part):
            start = sequence.start()
            if start > end:
                self._append_text(part[end:start])
            end = sequence.end()
            match sequence.lastgroup:
                case "restart":
                    self._restarted = True
                case "reset":
                    self._reset = True
                case "style":
                    self._mark()
        self._append_text(part[end:])

    def _append_text(self, text: bytes) -> None:
        text = text.translate(None, _CONTROLS)
        if not text:
            return
        if self._restarted:
            self._restarted = False
            if self._line:
                self._clear_line()
                self._mark()
        if self._reset:
            self._reset = False
            self._mark()
        self._line += text

    def _mark(self) -> None:
        """
        Record that the style changes at the end of the incomplete line.
        """
        if len(self._line) > self._decoded:
            new = self._line[self._decoded :]
            self._decoded_length += len(self._decoder.decode(new))
            self._decoded += len(new)
        offset = self._offset + self._decoded_length
        if self._styled[-1:] != [offset]:
            self._styled.append(offset)

    def _clear_line(self) -> None:
        self._line.clear()
        del self._styled[self._styled_before :]
        self._decoded = self._decoded_length = 0
        self._decoder.reset()

    def _end_line(self) -> str:
        """
        Return the incomplete line, which is complete now, and begin another one.
        """
        text, replaced = _decode(self._line)
        if replaced:
            self._styled[self._styled_before :] = self._styled_in_line(replaced)
        text += "\n"
        self._offset += len(text)
        self._styled_before = len(self._styled)
        self._clear_line()
        self._restarted = self._reset = False
        return text


def plain_text(data: bytes | bytearray) -> str:
    r"""
    Return the text in `data`, without escape sequences and with ``\n`` as line ends.

    Bytes that are not UTF-8 become U+FFFD.

    Args:
        data: The output of a terminal, complete or cut anywhere.
    """
    if len(data) <= _BLOCK_SIZE:
        text = _without_escapes(data).replace(b"\r\n", b"\n")
        if b"\r" in text:
            text = b"\n".join(map(_last_version, text.split(b"\n")))
        return text.decode("utf-8", "replace")
    transcript = Transcript()
    return transcript.feed(bytes(data)) + transcript.rest()


def _decode(data: bytes | bytearray) -> tuple[str, list[int]]:
    """
    Return the text that `data` encodes, and where in it U+FFFD may stand for other bytes.
    """
    try:
        return data.decode(), []
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        return text, [match.start() for match in _REPLACEMENT.finditer(text)]


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
    # The number of an OSC string tells whether it is a hyperlink.
    number = incomplete[0][2:].rstrip(b"\x1b").lstrip(b"0")[:2] if string == b"]" else b""
    return b"\x1b" + string + number + (incomplete["end"] or incomplete["other_end"] or b"")


def _last_version(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def _without_escapes(data: bytes | bytearray) -> bytes:
    return _ESCAPES.sub(b"", _RESTARTS_LINE.sub(b"\r", data)).translate(None, _CONTROLS)
