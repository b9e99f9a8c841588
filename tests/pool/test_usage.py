"""
Tests for `kiroworkers.pool.usage`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.usage import Measured, UsageMonitor, WorkerUsage
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro
from tests.memory import dispatcher_in


@frozen
class Used:
    """
    What the processes of a session use, as a test says.
    """

    memory: int
    cpu: float


class UsageMonitorTests(SynchronousTestCase):
    """
    Tests for `UsageMonitor`.
    """

    def setUp(self) -> None:
        """
        Run two workers, whose processes use what `self.used` says.
        """
        self.reactor = MemoryReactor(lambda: MemoryKiro(fakekiro.answer_text))
        self.dispatcher = dispatcher_in(self.reactor)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups = AgentGroups([AgentGroup(agent, self.dispatcher)])
        self.dispatcher.startService()
        self.reactor.advance(0)
        self.used = {1000: Used(5_000, 1.0), 1001: Used(7_000, 0.5)}
        self.measured: list[set[int]] = []
        self.threads: list[tuple[Deferred[Mapping[int, Measured]], Callable[[], object]]] = []
        self.monitor = UsageMonitor(self.reactor, groups, self.measure, self.run_in_thread, 2.0)

    def measure(self, pids: Collection[int]) -> Mapping[int, Measured]:
        """
        Return what the processes use.
        """
        self.measured.append(set(pids))
        return dict(self.used)

    def run_in_thread(
        self, call: Callable[[], Mapping[int, Measured]]
    ) -> Deferred[Mapping[int, Measured]]:
        """
        Wait for `finish` to run `call`.
        """
        result: Deferred[Mapping[int, Measured]] = Deferred()
        self.threads.append((result, call))
        return result

    def finish(self) -> None:
        """
        Run what is to run in a thread.
        """
        result, call = self.threads.pop()
        try:
            result.callback(call())  # type: ignore[arg-type]
        except ZeroDivisionError:
            result.errback()

    def test_workers(self) -> None:
        """
        The memory of each worker is known, and its CPU time since the measurement before.
        """
        refreshed = self.monitor.refresh()
        self.assertNoResult(refreshed)
        self.finish()
        self.successResultOf(refreshed)
        self.assertEqual(self.measured, [{1000, 1001}])
        first = {"worker1": WorkerUsage(5_000, None), "worker2": WorkerUsage(7_000, None)}
        self.assertEqual(self.monitor.workers, first)
        self.assertEqual(self.monitor.cpu_seconds, {"kiro": 1.5})
        self.reactor.advance(4)
        self.used = {1000: Used(6_000, 3.0), 1001: Used(7_000, 0.5)}
        self.monitor.refresh()
        self.finish()
        second = {"worker1": WorkerUsage(6_000, 50.0), "worker2": WorkerUsage(7_000, 0.0)}
        self.assertEqual(self.monitor.workers, second)
        self.assertEqual(self.monitor.cpu_seconds, {"kiro": 3.5})

    def test_ended_process(self) -> None:
        """
        The CPU time of an agent never falls, even if one of its processes ends.
        """
        self.monitor.refresh()
        self.finish()
        self.reactor.advance(3)
        self.used = {1000: Used(5_000, 0.25), 1001: Used(7_000, 0.75)}
        self.monitor.refresh()
        self.finish()
        self.assertEqual(self.monitor.cpu_seconds, {"kiro": 1.75})

    def test_not_too_often(self) -> None:
        """
        Those who ask meanwhile or soon after get the same measurement.
        """
        first, second = self.monitor.refresh(), self.monitor.refresh()
        self.assertEqual(len(self.threads), 1)
        self.finish()
        self.successResultOf(first)
        self.successResultOf(second)
        self.reactor.advance(1.5)
        self.successResultOf(self.monitor.refresh())
        self.assertEqual(len(self.measured), 1)

    def test_failure(self) -> None:
        """
        A measurement that fails is logged, and the next one is made.
        """

        def fail(pids: Collection[int]) -> Mapping[int, Measured]:
            raise ZeroDivisionError

        self.monitor._measure = fail
        refreshed = self.monitor.refresh()
        self.finish()
        self.successResultOf(refreshed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.monitor._measure = self.measure
        self.monitor.refresh()
        self.finish()
        self.assertEqual(len(self.monitor.workers), 2)
