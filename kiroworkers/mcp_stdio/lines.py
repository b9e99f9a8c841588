r"""
Split a stream into lines, of a limited length.

Feed a `LineReader` bytes, cut anywhere, and it returns the lines that they complete::

    >>> reader = LineReader(limit=4)
    >>> reader.feed(b"one\ntw")
    [b'one']
    >>> reader.feed(b"o\nthree\nfour\n")
    [b'two', None, b'four']
"""

from __future__ import annotations

from collections.abc import Iterator


class LineReader:
    """
    Find the lines in a stream.

    Args:
        limit: The maximum length of a line, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial = bytearray()
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """
        Return the lines that `data` completes, without their ends; None for one that is too long.
        """
        # Search only the new data: a long line may come in very many pieces.
        *ends, rest = data.split(b"\n")
        lines = list(self._complete(ends))
        self._add(rest)
        return lines

    def end(self) -> list[bytes | None]:
        """
        Return the last line, if the stream has ended without the end of a line.
        """
        return [self._take()] if self._partial or self._too_long else []

    def _complete(self, ends: list[bytes]) -> Iterator[bytes | None]:
        for end in ends:
            self._add(end)
            yield self._take()

    def _add(self, piece: bytes) -> None:
        if len(self._partial) + len(piece) > self._limit:
            self._too_long = True
        if self._too_long:
            self._partial.clear()
        else:
            self._partial += piece

    def _take(self) -> bytes | None:
        line = None if self._too_long else bytes(self._partial)
        self._partial.clear()
        self._too_long = False
        return line
