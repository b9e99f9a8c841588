"""
Tests for `kiroworkers.sessions.monitor`.
"""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kiroworkers.sessions.monitor import HealthLimits, HealthMonitor
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.sessions.support import pool_in, watched


@implementer(ILogObserver)
class Lines(list[str]):
    """
    The monitor's log.
    """

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "kiroworkers.sessions.monitor.HealthMonitor":
            self.append(formatEvent(event))


class MonitorTests(SynchronousTestCase):
    """
    Tests for `HealthMonitor`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.pool = pool_in(self.reactor, request_timeout=10_000.0)
        self.monitor = HealthMonitor(
            self.reactor, self.pool, 60.0, HealthLimits(idle=300, unsettled=1000)
        )
        self.pool.startService()
        self.monitor.startService()
        self.lines = Lines()
        globalLogPublisher.addObserver(self.lines)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines)
        self.reactor.advance(0)

    def rounds(self, count: int) -> None:
        self.reactor.pump([60.0] * count)

    def test_a_line_for_each_worker(self) -> None:
        """
        Every minute each worker has its line, and nothing is typed.
        """
        self.reactor.advance(15)
        watched(self.pool.submit("a"))
        self.reactor.pump([0, 45])
        self.assertEqual(
            self.lines,
            [
                "📊 worker1: BUSY, last activity 45s ago",
                "📊 worker2: IDLE, last activity 60s ago",
            ],
        )
        self.assertEqual(self.reactor.programs[1].typed, [])

    def test_one_at_a_time(self) -> None:
        """
        Of two workers that both sat idle for too long, one is renewed in each
        round.
        """
        self.rounds(5)
        self.assertEqual(len(self.reactor.programs), 2)
        self.rounds(1)
        self.assertEqual(len(self.reactor.programs), 3)
        self.rounds(1)
        self.assertEqual(len(self.reactor.programs), 4)
        self.rounds(3)
        self.assertEqual(len(self.reactor.programs), 4)

    def test_only_while_another_is_ready(self) -> None:
        """
        While the other worker is busy, the idle one is left in place.
        """
        watched(self.pool.submit("a"))
        self.rounds(10)
        self.assertEqual(len(self.reactor.programs), 2)
        self.reactor.programs[0].say("A")
        self.reactor.advance(0)
        self.rounds(1)
        self.assertEqual(len(self.reactor.programs), 3)

    def test_stuck(self) -> None:
        """
        A worker that every time-out of its own has missed is renewed.
        """
        watched(self.pool.submit("a"))
        self.reactor.advance(1000)
        self.assertEqual(len(self.reactor.programs), 2)
        self.rounds(1)
        self.assertEqual(self.reactor.programs[0].process.signals[0], "TERM")

    def test_rounds_go_on(self) -> None:
        """
        A fault while one worker is checked costs neither the others nor the
        next round.
        """
        worker = self.pool.workers[0]
        self.patch(worker, "renew", lambda reason: 1 / 0)
        watched(self.pool.submit("a"))
        self.rounds(20)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(len(self.lines) - sum("while" in line for line in self.lines), 40)

    def test_stop(self) -> None:
        """
        A stopped monitor looks no more.
        """
        self.monitor.stopService()
        self.rounds(10)
        self.assertEqual(self.lines, [])
