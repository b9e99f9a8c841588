"""
Tests that replay captures of Kiro over ACP.

They need the folder of recordings, which the variable KIROWORKERS_RECORDINGS names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.conversations.acp.replay import Replay, cut_anywhere, whole

_RECORDINGS = os.environ.get("KIROWORKERS_RECORDINGS", "")

#: How often each capture is replayed with other cuts.
_CUTS = 5


class RecordingsTests(SynchronousTestCase):
    """
    Tests that replay each capture.
    """

    if not _RECORDINGS:
        skip = "KIROWORKERS_RECORDINGS does not name a folder of recordings"

    def replay_all(self, cut: Callable[[bytes], list[bytes]]) -> None:
        """
        Replay all captures, and fail with what was not as expected.
        """
        captures = sorted(Path(_RECORDINGS, "acp").glob("*.jsonl"))
        self.assertGreater(len(captures), 0, "there are captures")
        problems = {}
        for path in captures:
            dialect = "kiro-acp-v3" if path.name.startswith("v3") else "kiro-acp"
            problems[path.name] = Replay(path, dialect, cut).run()
        self.assertEqual({name: found for name, found in problems.items() if found}, {})

    def test_whole(self) -> None:
        """
        Each capture replays as its first line expects.
        """
        self.replay_all(whole)

    def test_cut(self) -> None:
        """
        Each capture replays the same wherever the bytes of its messages are cut.
        """
        for seed in range(_CUTS):
            self.replay_all(cut_anywhere(seed))
