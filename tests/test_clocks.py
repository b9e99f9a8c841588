"""
Tests for `kiroworkers.clocks`.
"""

from __future__ import annotations

import time

from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.clocks import Now, make_monotonic


class MonotonicTests(SynchronousTestCase):
    """
    Tests for `make_monotonic`, with a reactor that never runs.
    """

    def setUp(self) -> None:
        self.reactor = SelectReactor()
        self.addCleanup(self.reactor.removeAll)
        self.now = 1_000_000.0
        # Twisted's own clock is the wall clock, which this test sets.
        self.reactor.seconds = lambda: self.wall
        self.wall = 1_700_000_000.0
        self.patch(time, "monotonic", lambda: self.now)

    def test_step(self) -> None:
        """
        A delayed call is due after its delay, however the wall clock is set meanwhile.
        """
        make_monotonic(self.reactor)
        calls: list[str] = []
        self.reactor.callLater(10, calls.append, "ten")
        for step in (3600, -7200):
            self.wall += step
            self.reactor.runUntilCurrent()
            self.assertEqual(calls, [])
            self.assertEqual(self.reactor.timeout(), 10)
        self.now += 10
        self.reactor.runUntilCurrent()
        self.assertEqual(calls, ["ten"])

    def test_reset(self) -> None:
        """
        A delayed call is reset and delayed by the same clock.
        """
        make_monotonic(self.reactor)
        calls: list[str] = []
        call = self.reactor.callLater(10, calls.append, "twenty")
        self.wall -= 3600
        self.now += 5
        call.reset(15)
        self.assertEqual(call.getTime(), self.now + 15)
        self.now += 15
        self.reactor.runUntilCurrent()
        self.assertEqual(calls, ["twenty"])

    def test_looping_call(self) -> None:
        """
        A looping call keeps its interval.
        """
        make_monotonic(self.reactor)
        calls: list[float] = []
        loop = LoopingCall(lambda: calls.append(self.now))
        loop.clock = self.reactor
        loop.start(10, now=False)
        for step in (3600, -7200, 60):
            self.wall += step
            self.now += 10
            self.reactor.runUntilCurrent()
        self.assertEqual(len(calls), 3)
        loop.stop()

    def test_scheduled_before(self) -> None:
        """
        A call that was scheduled earlier keeps its distance from now.
        """
        calls: list[str] = []
        self.reactor.callLater(10, calls.append, "ten")
        make_monotonic(self.reactor)
        self.assertEqual(self.reactor.timeout(), 10)
        self.now += 10
        self.reactor.runUntilCurrent()
        self.assertEqual(calls, ["ten"])


class NowTests(SynchronousTestCase):
    """
    Tests for `Now`.
    """

    def test_since_epoch(self) -> None:
        """
        A time of the reactor is shown by the wall clock of now.
        """
        self.assertEqual(Now(monotonic=100, wall=5000).since_epoch(90), 4990)
        self.assertEqual(Now(monotonic=100, wall=5000).since_epoch(130), 5030)
