"""
Tests for `kiroworkers.proof.recorded`.
"""

from __future__ import annotations

from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import Answered, Event, LateOutput, Ready
from kiroworkers.conversations.request_mark import RequestMark
from kiroworkers.proof.recorded import check_answers
from kiroworkers.proof.report import Outcome


def marks(text: str, **data: str) -> list[tuple[float, RequestMark]]:
    """
    Return the markers of a request that was answered with `text`.
    """
    digest = sha256(text.encode()).hexdigest()[:16]
    facts = {"sha256": digest, "completion": "prompt", "characters": str(len(text)), **data}
    return [
        (1.0, RequestMark("asked", "r-1")),
        (2.0, RequestMark("answered", "r-1", facts)),
        (3.0, RequestMark("ended", "r-1")),
    ]


class CheckTests(SynchronousTestCase):
    """
    Tests for `check_answers`.
    """

    def outcome(
        self, events: list[tuple[float, Event]], expected: list[tuple[float, RequestMark]]
    ) -> tuple[Outcome, str]:
        """
        Return the result of the only answer.
        """
        [result] = check_answers(events, expected)
        self.assertEqual(result.request, "r-1")
        return result.outcome, result.evidence

    def test_same(self) -> None:
        """
        The same text counts, also if a part of it came late, and only within the request.
        """
        answered = Answered("text", "prompt")
        before: list[tuple[float, Event]] = [(0.5, Answered("other", "prompt")), (1.5, answered)]
        self.assertEqual(
            self.outcome(before, marks("text")), (Outcome.PASSED, "the same 4 characters")
        )
        late: list[tuple[float, Event]] = [*before, (1.6, LateOutput(" more"))]
        self.assertEqual(self.outcome(late, marks("text more"))[0], Outcome.PASSED)

    def test_different(self) -> None:
        """
        Another text, another end of the turn, and no answer are faults.
        """
        cases: list[tuple[Event, str]] = [
            (Answered("ext", "prompt"), "another text: 3 characters, and the server found 4"),
            (Answered("text", "quiet"), "the same text, but complete by quiet, not by prompt"),
            (Ready(), "the dialect finds no answer here, but Ready"),
        ]
        for event, reason in cases:
            self.assertEqual(self.outcome([(1.5, event)], marks("text")), (Outcome.FAILED, reason))
        self.assertIn("but nothing", self.outcome([(2.5, Ready())], marks("text"))[1])

    def test_unknown(self) -> None:
        """
        An answer that the server did not read from the terminal, or without digest, is skipped.
        """
        for data in ({"source": "journal"}, {"sha256": ""}):
            self.assertEqual(self.outcome([], marks("text", **data))[0], Outcome.SKIPPED)
