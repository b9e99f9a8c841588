"""
Tests for `kiroworkers.pool.health_monitor`.
"""

from __future__ import annotations

from collections.abc import Collection

from attrs import evolve
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kiroworkers.pool.dispatcher import Dispatcher
from kiroworkers.pool.health_monitor import HealthLimits, HealthMonitor
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import RECYCLING, pool_in, watched


@implementer(ILogObserver)
class Lines(list[str]):
    """
    The monitor's log.
    """

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "kiroworkers.pool.health_monitor.HealthMonitor":
            self.append(formatEvent(event))


class MonitorTests(SynchronousTestCase):
    """
    Tests for `HealthMonitor`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.size = 100
        self.room = False
        self.pool = pool_in(self.reactor, request_timeout=10_000.0, is_free=lambda size: self.room)
        self.monitor = HealthMonitor(
            self.reactor,
            self.pool.worker_pool,
            60.0,
            HealthLimits(idle=300, unsettled=1000),
            lambda groups: dict.fromkeys(groups, self.size),
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
        Of two workers that both sat idle for too long, the second is renewed when
        the first is ready again.
        """
        self.rounds(5)
        self.assertEqual(len(self.reactor.programs), 2)
        states: list[list[str]] = []

        def make() -> MemoryKiro:
            states.append([each.state for each in self.pool.worker_pool.snapshots()])
            return MemoryKiro()

        self.patch(self.reactor, "_make", make)
        self.rounds(1)
        self.assertEqual(states, [["starting", "idle"], ["idle", "starting"]])
        self.rounds(4)
        self.assertEqual(len(self.reactor.programs), 4)
        self.assertEqual(self.reactor.running, {1002, 1003})

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
        worker = self.pool.worker_pool.workers[0]
        self.patch(worker, "replace", lambda reason: 1 / 0)
        watched(self.pool.submit("a"))
        self.rounds(20)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(len(self.lines) - sum("while" in line for line in self.lines), 40)

    def test_ahead(self) -> None:
        """
        Where memory allows, the successor starts before the old session goes,
        and even a worker that is alone is renewed.
        """
        self.room = True
        watched(self.pool.submit("a"))
        self.rounds(6)
        self.assertEqual(len(self.reactor.programs), 3)
        self.assertEqual(self.reactor.running, {1000, 1002})

    def test_too_old(self) -> None:
        """
        A session is renewed by its age, though it was never idle for long.
        """
        policy = evolve(RECYCLING, max_age=300.0)
        pool = pool_in(self.reactor, workers=1, recycling=policy)
        self.on_progress(pool)
        for _ in range(6):
            watched(pool.submit("a"))
            self.reactor.advance(0)
            self.reactor.programs[2].say("A")
            self.reactor.advance(60)
        self.assertEqual(len(self.reactor.programs), 4)

    def test_too_large(self) -> None:
        """
        A session whose processes hold too much memory is renewed after its turn.
        """
        pool = pool_in(self.reactor, workers=1, recycling=evolve(RECYCLING, memory_max=1000))
        self.on_progress(pool)
        self.rounds(1)
        self.assertEqual(len(self.reactor.programs), 3)
        results = watched(pool.submit("a"))
        self.size = 1001
        self.rounds(1)
        self.assertEqual(len(self.reactor.programs), 4)
        self.assertIn(1002, self.reactor.running)
        self.reactor.programs[2].say("A")
        self.reactor.advance(0)
        self.assertEqual(len(results), 1)
        self.assertNotIn(1002, self.reactor.running)
        self.assertTrue(pool.worker_pool.workers[0].idle)

    def on_progress(self, pool: Dispatcher) -> None:
        """
        Monitor `pool`, which starts now, instead.
        """
        self.monitor.stopService()
        pool.startService()
        monitor = HealthMonitor(
            self.reactor,
            pool.worker_pool,
            60.0,
            HealthLimits(idle=300, unsettled=1000),
            lambda groups: dict.fromkeys(groups, self.size),
        )
        monitor.startService()
        self.reactor.advance(0)

    def test_memory_unknown(self) -> None:
        """
        Where memory cannot be measured, the rounds go on.
        """

        def fail(groups: Collection[int]) -> dict[int, int]:
            raise OSError("no /proc")

        self.patch(self.monitor, "_measure", fail)
        self.rounds(1)
        self.assertTrue(self.flushLoggedErrors(OSError))
        self.assertEqual(len(self.lines) - sum("while" in line for line in self.lines), 2)

    def test_stop(self) -> None:
        """
        A stopped monitor looks no more.
        """
        self.monitor.stopService()
        self.rounds(10)
        self.assertEqual(self.lines, [])
