"""
Tests for `kiroworkers.offload.framing`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offload.framing import HEADER, FrameReader


class FrameReaderTests(SynchronousTestCase):
    """
    Tests for `FrameReader`.
    """

    @given(st.lists(st.binary(max_size=50), max_size=3), st.integers(1, 20))
    def test_cut_anywhere(self, frames: list[bytes], size: int) -> None:
        """
        Frames come out whole, one after the other, however the stream is cut.
        """
        reader = FrameReader()
        found = []
        for frame in frames:
            stream = HEADER.pack(len(frame)) + frame
            for start in range(0, len(stream), size):
                found.append(reader.feed(stream[start : start + size]))
        self.assertEqual([frame for frame in found if frame is not None], frames)
