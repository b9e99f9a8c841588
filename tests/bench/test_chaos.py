"""
Tests for `bench.chaos`, and by it for whole servers.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from bench.chaos.ledger import Ledger
from bench.chaos.plan import Plan, draw
from bench.chaos.world import read_log
from tests.programs import ROOT, environment


class ChaosTests(TestCase):
    """
    Tests for a short run.
    """

    timeout = 600

    async def test_nothing_forbidden(self) -> None:
        """
        While processes are killed, the disk is full, the clock is set and clients disconnect,
        every request gets its own answer, and nothing is lost or left behind.
        """
        arguments = ("-m", "bench.chaos", "--requests", "200", "--seed", "1")
        output, error, status = await getProcessOutputAndValue(
            sys.executable, arguments, environment(), str(ROOT)
        )
        self.assertEqual(status, 0, (output + error).decode(errors="replace"))


class PlanTests(SynchronousTestCase):
    """
    Tests for `draw`.
    """

    def test_repeatable(self) -> None:
        """
        The seed and the number of a request decide what it does.
        """
        first, second = (
            [(plan.kind, plan.agent, plan.idea()) for plan in map(partial(draw, 7), range(200))]
            for _ in range(2)
        )
        self.assertEqual(first, second)
        self.assertGreater(len({kind for kind, *_ in first}), 9)


class LedgerTests(SynchronousTestCase):
    """
    Tests for `Ledger`: what must not happen is noticed.
    """

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "turns-5").write_text("..")
        self.ledger = Ledger(folder)
        self.plan: Plan = draw(1, 5, steady=True)

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.ledger.counts.items() if count}

    def check(self, **changes: object) -> dict[str, int]:
        notes = ["0 earlier prompts remembered"]
        story = {"title": "idea 5", "iWant": "turn 2", "acceptanceCriteria": notes, **changes}
        self.ledger.check_story(self.plan, "idea 5", story)
        return self.counted()

    def test_right(self) -> None:
        """
        The answer of the latest turn, in a conversation of its own, is right.
        """
        self.assertEqual(self.check(), {})

    def test_wrong(self) -> None:
        """
        Another caller's answer is noticed.
        """
        self.assertEqual(self.check(title="idea 6"), {"wrong answers": 1})

    def test_earlier(self) -> None:
        """
        The answer of an earlier turn is noticed.
        """
        self.assertEqual(self.check(iWant="turn 1"), {"answers of an earlier turn": 1})

    def test_not_cleared(self) -> None:
        """
        An answer that remembers another prompt is noticed.
        """
        notes = ["1 earlier prompts remembered"]
        self.assertEqual(self.check(acceptanceCriteria=notes), {"conversations not cleared": 1})

    def test_log(self) -> None:
        """
        A request without a line in the log is noticed, and one with two lines or with that
        of another client; one that was cut when the server was killed needs none.
        """
        line = '"127.0.0.1" - {} [x] "GET / HTTP/1.1" 200 5 "-" "chaos/{}" total=0.1\n'
        log = line.format("alpha", 1) + 2 * line.format("alpha", 2) + line.format("bravo", 3)
        for number in range(1, 5):
            self.ledger.note_sent(str(number), "alpha", 100.0, optional=False)
        lines, clients, _ = read_log(log)
        self.ledger.check_log(lines, clients)
        missing = {"log lines missing": 1}
        others = {"log lines doubled": 1, "log lines of another client": 1}
        self.assertEqual(self.counted(), {**others, **missing})
        self.ledger.kills.append(101.0)
        self.ledger.check_log(lines, clients)
        self.assertEqual(self.ledger.counts["log lines missing"], 1)

    def test_callbacks(self) -> None:
        """
        A callback above the limit of CPU time is found in the log.
        """
        text = "event loop: 66 ms of CPU in a.b (70 ms, 0 ms of garbage collection)"
        self.assertEqual(read_log(text)[2], [(66, "a.b")])
