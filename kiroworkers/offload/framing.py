"""
Cut a stream of bytes into frames: each is its length, in 8 bytes, and as many bytes.
"""

from __future__ import annotations

from struct import Struct

#: The length of a frame, with the most significant byte first.
HEADER = Struct(">Q")


class FrameReader:
    """
    Assemble frames from pieces of a stream that is cut anywhere.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes | None:
        """
        Return the frame that `data` completes, or None.

        The sender waits for a reply to each frame, so nothing follows it.
        """
        self._pieces.append(data)
        self._size += len(data)
        if self._size < HEADER.size:
            return None
        if len(self._pieces[0]) < HEADER.size:
            self._pieces = [b"".join(self._pieces)]
        [length] = HEADER.unpack_from(self._pieces[0])
        if self._size < HEADER.size + length:
            return None
        frame = b"".join(self._pieces)[HEADER.size :]
        self._pieces, self._size = [], 0
        return frame
