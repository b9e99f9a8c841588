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
from tests.memory import RECYCLING, dispatcher_in, results_of, submit_to


@implementer(ILogObserver)
class Lines(list[str]):
    """
    The lines that the monitor logs.
    """

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "kiroworkers.pool.health_monitor.HealthMonitor":
            self.append(formatEvent(event))


class HealthMonitorTests(SynchronousTestCase):
    """
    Tests for `HealthMonitor`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.size = 100
        self.has_memory = False
        self.dispatcher = dispatcher_in(
            self.reactor, request_timeout=10_000.0, has_free_memory=lambda size: self.has_memory
        )
        self.monitor = HealthMonitor(
            self.reactor,
            self.dispatcher,
            60.0,
            HealthLimits(idle=300, stuck=1000),
            lambda pids: dict.fromkeys(pids, self.size),
        )
        self.dispatcher.startService()
        self.monitor.startService()
        self.lines = Lines()
        globalLogPublisher.addObserver(self.lines)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines)
        self.reactor.advance(0)

    def run_checks(self, count: int) -> None:
        self.reactor.pump([60.0] * count)

    def test_a_line_for_each_worker(self) -> None:
        """
        Each check logs a line per worker, and types nothing.
        """
        self.reactor.advance(15)
        results_of(submit_to(self.dispatcher, "a"))
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
        Of two workers that were both idle for too long, the second is restarted when
        the first is ready again.
        """
        self.run_checks(5)
        self.assertEqual(len(self.reactor.programs), 2)
        states: list[list[str]] = []

        def make() -> MemoryKiro:
            states.append([worker.state for worker in self.dispatcher.worker_pool.snapshots()])
            return MemoryKiro()

        self.patch(self.reactor, "_make", make)
        self.run_checks(1)
        self.assertEqual(states, [["starting", "idle"], ["idle", "starting"]])
        self.run_checks(4)
        self.assertEqual(len(self.reactor.programs), 4)
        self.assertEqual(self.reactor.running, {1002, 1003})

    def test_only_while_another_is_ready(self) -> None:
        """
        An idle worker is not restarted while the other one is busy.
        """
        results_of(submit_to(self.dispatcher, "a"))
        self.run_checks(10)
        self.assertEqual(len(self.reactor.programs), 2)
        self.reactor.programs[0].say("A")
        self.reactor.advance(0)
        self.run_checks(1)
        self.assertEqual(len(self.reactor.programs), 3)

    def test_stuck(self) -> None:
        """
        A worker is restarted when none of its own time-outs has ended its turn.
        """
        results_of(submit_to(self.dispatcher, "a"))
        self.reactor.advance(1000)
        self.assertEqual(len(self.reactor.programs), 2)
        self.run_checks(1)
        self.assertEqual(self.reactor.programs[0].process.signals[0], "TERM")

    def test_exception_in_a_check(self) -> None:
        """
        An exception in one worker's check affects neither the others nor the next check.
        """
        worker = self.dispatcher.worker_pool.workers[0]
        self.patch(worker, "restart_now", lambda reason: 1 / 0)
        results_of(submit_to(self.dispatcher, "a"))
        self.run_checks(20)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(len(self.lines) - sum("failed" in line for line in self.lines), 40)

    def test_overlap(self) -> None:
        """
        With enough memory the successor starts before the old session ends, even while
        the other worker is busy.
        """
        self.has_memory = True
        results_of(submit_to(self.dispatcher, "a"))
        self.run_checks(6)
        self.assertEqual(len(self.reactor.programs), 3)
        self.assertEqual(self.reactor.running, {1000, 1002})

    def test_too_old(self) -> None:
        """
        A session that is too old is replaced, though it was never idle for long.
        """
        policy = evolve(RECYCLING, max_age=300.0)
        pool = dispatcher_in(self.reactor, workers=1, recycling=policy)
        self.monitor_only(pool)
        for _ in range(6):
            results_of(submit_to(pool, "a"))
            self.reactor.advance(0)
            self.reactor.programs[2].say("A")
            self.reactor.advance(60)
        self.assertEqual(len(self.reactor.programs), 4)

    def test_too_large(self) -> None:
        """
        A session whose processes use too much memory is replaced after its turn.
        """
        pool = dispatcher_in(self.reactor, workers=1, recycling=evolve(RECYCLING, memory_max=1000))
        self.monitor_only(pool)
        self.run_checks(1)
        self.assertEqual(len(self.reactor.programs), 3)
        results = results_of(submit_to(pool, "a"))
        self.size = 1001
        self.run_checks(1)
        self.assertEqual(len(self.reactor.programs), 4)
        self.assertIn(1002, self.reactor.running)
        self.reactor.programs[2].say("A")
        self.reactor.advance(0)
        self.assertEqual(len(results), 1)
        self.assertNotIn(1002, self.reactor.running)
        self.assertTrue(pool.worker_pool.workers[0].idle)

    def monitor_only(self, pool: Dispatcher) -> None:
        """
        Start `pool`, and monitor it instead of the first one.
        """
        self.monitor.stopService()
        pool.startService()
        monitor = HealthMonitor(
            self.reactor,
            pool,
            60.0,
            HealthLimits(idle=300, stuck=1000),
            lambda pids: dict.fromkeys(pids, self.size),
        )
        monitor.startService()
        self.reactor.advance(0)

    def test_memory_unknown(self) -> None:
        """
        The checks continue if memory cannot be measured.
        """

        def fail(pids: Collection[int]) -> dict[int, int]:
            raise OSError("no /proc")

        self.patch(self.monitor, "_measure", fail)
        self.run_checks(1)
        self.assertTrue(self.flushLoggedErrors(OSError))
        self.assertEqual(len(self.lines) - sum("failed" in line for line in self.lines), 2)

    def test_stop(self) -> None:
        """
        A stopped monitor checks nothing.
        """
        self.monitor.stopService()
        self.run_checks(10)
        self.assertEqual(self.lines, [])
