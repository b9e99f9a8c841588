"""
Tests for bench.sampled.
"""

from __future__ import annotations

import sys
from json import JSONDecoder
from types import FrameType

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from bench.sampled import part_of


def frames() -> list[FrameType]:
    """
    Return the frames of all that runs, from the caller of this function on.
    """
    frame: FrameType | None = sys._getframe(1)
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


class PartTests(SynchronousTestCase):
    """
    Tests for `part_of`.
    """

    def test_project(self) -> None:
        """
        A frame of this project belongs to the package that has its module.
        """
        self.assertEqual(part_of(frames()[0]), "tests.bench")

    def test_installed(self) -> None:
        """
        A frame of an installed package belongs to that package.
        """
        called: list[FrameType] = []
        succeed(None).addCallback(lambda _: called.extend(frames()))
        self.assertEqual(part_of(called[1]), "twisted")

    def test_library(self) -> None:
        """
        A frame of Python's own library belongs to its caller.
        """
        called: list[FrameType] = []
        JSONDecoder(object_hook=lambda _: called.extend(frames())).decode("{}")
        self.assertIn("json", called[1].f_code.co_filename)
        self.assertEqual(part_of(called[1]), "tests.bench")
