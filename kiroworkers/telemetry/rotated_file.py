"""
Write a file of bounded size, and keep a few of the files before it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

#: The size at which a new file is begun, in bytes.
MAX_SIZE = 1024**2

#: The number of earlier files that are kept, as NAME.1, NAME.2, …; NAME.1 is the newest.
KEPT = 3


class RotatedFile:
    """
    Append to a file that only its owner can read.  Blocks.

    Args:
        path: The path of the file.
        max_size: The size at which a new file is begun, in bytes.
        kept: The number of earlier files that are kept.
    """

    def __init__(self, path: Path, max_size: int = MAX_SIZE, kept: int = KEPT) -> None:
        self._path = path
        self._max_size = max_size
        self._kept = kept
        self._descriptor: int | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """
        Append `data`, to a new file if the old one has reached its size.

        Raises:
            OSError: It cannot be written, or only in part.
        """
        if self._descriptor is not None and self._size and self._size + len(data) > self._max_size:
            self._rotate()
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
            if self._size and self._size + len(data) > self._max_size:
                self._rotate()
                self.write(data)
                return
        while data:
            written = os.write(self._descriptor, data)
            self._size += written
            data = data[written:]

    def close(self) -> None:
        """
        Close the file; the next write opens it again.
        """
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _rotate(self) -> None:
        self.close()
        names = [self._path, *(Path(f"{self._path}.{n}") for n in range(1, self._kept + 1))]
        for newer, older in reversed([*pairwise(names)]):
            with suppress(FileNotFoundError):
                newer.replace(older)
