"""
Tests for `kiroworkers.conversations.terminal.queries`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.queries import TerminalQueries, answer_to

ANSWERS = {
    "\x1b[5n": b"\x1b[0n",
    "\x1b[6n": b"\x1b[4;8R",
    "\x1b[?6n": b"\x1b[?4;8R",
    "\x1b[c": b"\x1b[?62;22c",
    "\x1b[0c": b"\x1b[?62;22c",
    "\x1b[>c": b"\x1b[>1;10;0c",
    "\x1b[>0c": b"\x1b[>1;10;0c",
    "\x1b[?2026$p": b"\x1b[?2026;2$y",
    "\x1b[?2027$p": b"\x1b[?2027;0$y",
    "\x1b[>q": b"\x1bP>|kiroworkers\x1b\\",
    "\x1b]10;?\x07": b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
    "\x1b]11;?\x1b\\": b"\x1b]11;rgb:0000/0000/0000\x1b\\",
}


def asked_at_start(*queries: str) -> TerminalQueries:
    """
    Return what has answered `queries` before the first prompt.
    """
    asked = TerminalQueries()
    for query in queries:
        asked.asked(query, 3, 7, number=3)
    asked.data_to_send()
    asked.prompted()
    return asked


class AnswerTests(SynchronousTestCase):
    """
    Tests for `answer_to`.
    """

    def test_answers(self) -> None:
        """
        Each query has the answer that a terminal gives, with positions counted from 1.
        """
        for query, answer in ANSWERS.items():
            result = answer_to(query, 3, 7)
            assert result is not None, query
            self.assertEqual(result[1], answer, query)

    def test_others(self) -> None:
        """
        No other sequence is answered, nor are queries for what the terminal does not have.
        """
        for sequence in (
            *("\x1b[?u", "\x1b[m", "\x1b[2J", "\x1b[>6n", "\x1b[1c", "\x1b[2 q", "\x1b[6c"),
            *("\x1b]11;red\x07", "\x1b]0;title?\x07", "\x1bP+q544e\x1b\\", "\x1b[3;4R"),
        ):
            self.assertIs(answer_to(sequence, 0, 0), None, repr(sequence))


class TerminalQueriesTests(SynchronousTestCase):
    """
    Tests for `TerminalQueries`.
    """

    @given(st.lists(st.integers(0, 200), max_size=10))
    def test_cut(self, cuts: list[int]) -> None:
        """
        Queries in raw output are found wherever it was cut.
        """
        data = "".join(f"text{query}" for query in ANSWERS).encode() + b"\x1b[m"
        queries = TerminalQueries()
        start = 0
        for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
            queries.feed(data[start:end])
            start = end
        answers = (answer_to(query, 0, 0) for query in ANSWERS)
        self.assertEqual(
            queries.data_to_send(), b"".join(answer[1] for answer in answers if answer is not None)
        )
        self.assertEqual(queries.data_to_send(), b"")

    def test_later(self) -> None:
        """
        After the first prompt, a query is answered if the program has asked it before, and
        when it is silent with the cursor where it was.
        """
        queries = asked_at_start("\x1b[6n")
        queries.asked("\x1b[6n", 4, 0, number=9)
        self.assertEqual(queries.data_to_send(), b"")
        self.assertTrue(queries.waits(9))
        queries.on_quiet(9)
        self.assertEqual(queries.data_to_send(), b"\x1b[5;1R")
        self.assertFalse(queries.waits(9))

    def test_quoted(self) -> None:
        """
        A query in the text of an answer is not answered: the cursor has moved on.
        """
        queries = asked_at_start("\x1b[6n")
        queries.asked("\x1b[6n", 4, 0, number=9)
        self.assertFalse(queries.waits(12))
        queries.on_quiet(12)
        queries.on_quiet(9)
        self.assertEqual(queries.data_to_send(), b"")

    def test_unknown_to_the_program(self) -> None:
        """
        A program that has not asked a query before its first prompt never gets its answer.
        """
        queries = asked_at_start("\x1b[6n")
        for query in ("\x1b[c", "\x1b]11;?\x07", "\x1b[5n"):
            queries.asked(query, 0, 0)
        queries.on_quiet()
        self.assertEqual(queries.data_to_send(), b"")

    def test_limit(self) -> None:
        """
        A program that asks without end gets a limited number of answers.
        """
        queries = TerminalQueries()
        queries.feed(b"\x1b[5n" * 1000)
        self.assertEqual(queries.data_to_send(), b"\x1b[0n" * 64)
        queries.prompted()
        for _ in range(100):
            queries.asked("\x1b[5n", 0, 0)
        queries.on_quiet()
        self.assertEqual(queries.data_to_send(), b"\x1b[0n" * 8)
        self.assertFalse(queries.waits())
