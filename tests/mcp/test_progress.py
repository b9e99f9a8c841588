"""
Tests for `kiroworkers.mcp.progress`.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp.progress import ProgressNotes
from kiroworkers.pool.progress import (
    AgentNotice,
    PartialText,
    Progress,
    Queued,
    Retrying,
    Started,
)


class ProgressNotesTests(SynchronousTestCase):
    """
    Tests for `ProgressNotes`.
    """

    def notes(self, *changes: Progress) -> list[Any]:
        """
        Return the notifications of `changes`.
        """
        notes = ProgressNotes("t")
        return [params for change in changes for params in notes.of(change)]

    def test_increases(self) -> None:
        """
        Each notification has the token, and more progress than the one before.
        """
        notes = self.notes(
            Queued(2, 12.4),
            Queued(1, 6),
            Started("worker1", 1),
            AgentNotice("retry", "the service is busy"),
            AgentNotice("stall", ""),
            Retrying("the session ended", "new_conversation"),
            Started("worker2", 2),
        )
        self.assertEqual({note["progressToken"] for note in notes}, {"t"})
        self.assertEqual([note["progress"] for note in notes], [1, 2, 3, 4, 5, 6, 7])
        self.assertEqual(
            [note["message"] for note in notes],
            [
                "Position 2 in the queue, about 12 s to wait",
                "Position 1 in the queue, about 6 s to wait",
                "worker1 is working on it",
                "retry: the service is busy",
                "stall",
                "Asking again: the session ended",
                "worker2 is working on it, attempt 2",
            ],
        )

    def test_text(self) -> None:
        """
        The first text is reported, and then each thousand of characters, not each piece.
        """
        notes = self.notes(*[PartialText("x" * 10)] * 301)
        self.assertEqual(
            [note["message"].split()[4] for note in notes], ["10", "1010", "2010", "3010"]
        )

    def test_text_again(self) -> None:
        """
        After a retry, the length is that of the new answer.
        """
        notes = self.notes(
            PartialText("x" * 500), Retrying("it did not fit", "same_turn"), PartialText("xx")
        )
        self.assertIn(" 2 characters", notes[-1]["message"])

    def test_empty_text(self) -> None:
        """
        Nothing is reported of an empty piece.
        """
        self.assertEqual(self.notes(PartialText("")), [])
