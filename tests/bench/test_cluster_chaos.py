"""
Tests for `bench.chaos.cluster`, and by it for whole clusters.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from attrs import evolve
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from bench.chaos.cluster.audit import check_attempts, check_turns
from bench.chaos.cluster.faults import Fault, Kind, explanation, time_without_database
from bench.chaos.cluster.follower import Follower, Wrong
from bench.chaos.cluster.ledger import Attempt, Ledger
from bench.chaos.cluster.plan import Plan, draw
from bench.cluster.turns import Turn, read_turns
from tests.programs import ROOT, environment

#: Name the programs that a cluster needs.
_PROGRAMS = ("KIROWORKERS_POSTGRES", "KIROWORKERS_HAPROXY")

KILLED = Fault(Kind.KILLED, 100.0, 110.0, "a")
GONE = Fault(Kind.GONE, 200.0, 220.0)


class ChaosTests(TestCase):
    """
    Tests for a short run.
    """

    timeout = 300

    if missing := [name for name in _PROGRAMS if name not in os.environ]:
        skip = f"it needs {' and '.join(missing)}"

    async def test_nothing_forbidden(self) -> None:
        """
        While servers, PostgreSQL and HAProxy fail, every job has exactly one result, every live
        request is answered, and each prompt that is asked again is explained by a fault.
        """
        arguments = (
            *("-m", "bench.chaos.cluster", "--jobs", "150", "--live", "150", "--lease", "3"),
            *("--workers", "2", "--replace", "1", "--think", "0.2", "--margin", "10"),
        )
        programs = {name: os.environ[name] for name in _PROGRAMS}
        output, error, status = await getProcessOutputAndValue(
            sys.executable, arguments, environment(**programs), str(ROOT)
        )
        # What must not happen is on standard error: it comes first, since logs are cut.
        self.assertEqual(status, 0, (error + output).decode(errors="replace"))


class TurnTests(SynchronousTestCase):
    """
    Tests for `read_turns`.
    """

    def test_overlapping(self) -> None:
        """
        Each answer belongs to the prompt of the same process, and a killed one has none.
        """
        lines = [
            "asked 1000000000 a 7 job-1",
            "asked 2000000000 b 8 job-1",
            "asked 2500000000 b 9 live-1",
            "answered 3000000000 b 8 job-1",
        ]
        self.assertEqual(
            read_turns(lines),
            {
                "job-1": [Turn("job-1", "a", 1.0), Turn("job-1", "b", 2.0, 3.0)],
                "live-1": [Turn("live-1", "b", 2.5)],
            },
        )


class FaultTests(SynchronousTestCase):
    """
    Tests for what faults explain.
    """

    def explained(self, turn: Turn, again: float) -> bool:
        return explanation(turn, again, [KILLED, GONE]) is not None

    def test_explained(self) -> None:
        """
        A prompt may be asked again if its server was killed while it was asked.
        """
        self.assertTrue(self.explained(Turn("job-1", "a", 99.0), 112.0))
        self.assertTrue(self.explained(Turn("job-1", "a", 99.0, 99.9), 112.0))

    def test_forgotten_claim(self) -> None:
        """
        It may be asked again if the database crashed just after the job was claimed.
        """
        self.assertTrue(self.explained(Turn("job-1", "a", 199.5), 222.0))

    def test_unexplained(self) -> None:
        """
        It must not be asked again because another server was killed, because its own was after
        the answer was delivered, or because the database was away.
        """
        self.assertFalse(self.explained(Turn("job-1", "b", 99.0), 112.0))
        self.assertFalse(self.explained(Turn("job-1", "a", 90.0, 91.0), 112.0))
        self.assertFalse(self.explained(Turn("job-1", "a", 198.0), 222.0))
        self.assertFalse(self.explained(Turn("job-1", "a", 201.0), 222.0))

    def test_time_without_database(self) -> None:
        """
        Only the part of an outage that a job has met counts, with the time to recover.
        """
        faults = [KILLED, GONE]
        self.assertEqual(time_without_database(90.0, 120.0, faults, 5.0), 0.0)
        self.assertEqual(time_without_database(190.0, 300.0, faults, 5.0), 25.0)
        self.assertEqual(time_without_database(210.0, 215.0, faults, 5.0), 5.0)


class AuditTests(SynchronousTestCase):
    """
    Tests for the audit: what must not happen is noticed.
    """

    def setUp(self) -> None:
        self.ledger = Ledger()
        self.ledger.faults.append(KILLED)
        self.plan: Plan = evolve(draw(1, "live", 5, 0.1), keyed=True)

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.ledger.counts.items() if count}

    def attempt(self, began: float, ended: float, status: int, **changes: Any) -> None:
        plan = evolve(self.plan, **changes)
        self.ledger.attempts.append(Attempt(plan, began, ended, status))

    def test_retried_after_kill(self) -> None:
        """
        A request with a key whose server was killed may be asked again, and is counted.
        """
        self.attempt(99.0, 100.1, 502)
        self.attempt(100.5, 101.0, 200)
        turns = {"live-5": [Turn("live-5", "a", 99.1), Turn("live-5", "b", 100.6, 100.9)]}
        self.assertEqual(check_turns(self.ledger, turns), {KILLED: 1})
        self.assertEqual(check_attempts(self.ledger, turns), {KILLED: 1})
        self.assertEqual(self.counted(), {})

    def test_retried_without_key(self) -> None:
        """
        A request without a key must not be asked again, whatever has happened.
        """
        self.attempt(99.0, 101.0, 200, keyed=False)
        turns = {"live-5": [Turn("live-5", "a", 99.1), Turn("live-5", "b", 100.6, 100.9)]}
        check_turns(self.ledger, turns)
        check_attempts(self.ledger, turns)
        expected = {"repeated prompts without an explanation": 1, "POSTs asked twice": 1}
        self.assertEqual(self.counted(), expected)

    def test_lost_without_fault(self) -> None:
        """
        A response that is lost although nothing was killed is noticed.
        """
        self.attempt(50.0, 51.0, 502)
        check_attempts(self.ledger, {})
        self.assertEqual(self.counted(), {"answers lost without an explanation": 1})

    def test_refused_after_turn(self) -> None:
        """
        A 503 after the prompt was asked is noticed.
        """
        self.attempt(99.0, 101.0, 503)
        check_attempts(self.ledger, {"live-5": [Turn("live-5", "a", 99.1)]})
        self.assertEqual(self.counted(), {"503 after a turn had begun": 1})

    def test_changed_result(self) -> None:
        """
        A job that shows another result than before is noticed, and so is one that runs again.
        """
        job = self.ledger.note_job("id1", self.plan)
        done = {"state": "done", "result": 1}
        for shown in ({"state": "running"}, done, done, {**done, "result": 2}, {"state": "queued"}):
            self.ledger.note_shown(job, shown)
        self.assertEqual(self.counted(), {"results that changed": 2})


class FollowerTests(SynchronousTestCase):
    """
    Tests for `Follower`.
    """

    def test_pieces(self) -> None:
        """
        Events may arrive in pieces, between comments.
        """
        follower = Follower()
        self.assertEqual(follower.feed(": kiroworkers\n\nid: 1-1\nevent: qu"), [])
        (event,) = follower.feed("eued\ndata: {}\n\n")
        self.assertEqual((event.id, event.name, event.data), ("1-1", "queued", "{}"))

    def test_twice(self) -> None:
        """
        An event that comes again is wrong; a later run's first one, and the end, are not.
        """
        follower = Follower()
        for id in ("1-2", "1-10", "2-1", "end"):
            follower.feed(f"id: {id}\nevent: text\ndata: x\n\n")
        self.assertRaises(Wrong, follower.feed, "id: 2-2\nevent: text\ndata: x\n\n")
