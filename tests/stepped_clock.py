"""
A wall clock of a server that tests can set.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from tests.programs import ROOT

#: Makes a Python program add the number in the file STEPPED_CLOCK to its wall clock.
_SITECUSTOMIZE = """\
import mmap, os, struct, time

if "STEPPED_CLOCK" in os.environ:
    with open(os.environ["STEPPED_CLOCK"], "r+b") as file:
        step = mmap.mmap(file.fileno(), 8)
    real_time = time.time
    time.time = lambda: real_time() + struct.unpack("d", step)[0]
"""


class SteppedClock:
    """
    Change the wall clock of Python programs while they run.

    Args:
        folder: A folder for the files that this needs.

    Attributes:
        environment: The variables that such a program needs.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        path = folder / "clock"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), 8)
        self.close = self._offset.close
        self.environment = {
            "STEPPED_CLOCK": str(path),
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        }

    @property
    def offset(self) -> float:
        """
        Return how many seconds the clock is ahead.
        """
        [offset] = struct.unpack("d", self._offset)
        return float(offset)

    def step(self, seconds: float) -> None:
        """
        Set the clock this much forwards.
        """
        self._offset[:] = struct.pack("d", self.offset + seconds)
