"""
Tests for what a dispatcher says about its idle sessions, to whoever has work for them.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import FailureKind
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import dispatcher_in


class IdleSlotsTests(SynchronousTestCase):
    """
    Tests for `Dispatcher.idle_slots`, `expect` and `on_idle`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.calls = 0
        self.dispatcher = dispatcher_in(self.reactor, max_workers=4, min_spare=0)
        self.dispatcher.on_idle = self.on_idle

    def on_idle(self) -> None:
        self.calls += 1

    def start(self) -> None:
        self.dispatcher.startService()
        self.reactor.advance(0)

    def test_idle(self) -> None:
        """
        Idle sessions can take a request each, as soon as they are ready.
        """
        self.assertEqual(self.dispatcher.idle_slots(), 0)
        self.start()
        self.assertEqual(self.dispatcher.idle_slots(), 2)
        self.assertEqual(self.calls, 2)

    def test_busy(self) -> None:
        """
        Busy sessions can take none, and say so when they are idle again.
        """
        self.start()
        request = self.dispatcher.submit("hello", RequestOptions())
        self.assertEqual(self.dispatcher.idle_slots(), 1)
        calls = self.calls
        self.reactor.advance(0)
        [program] = [program for program in self.reactor.programs if program.typed]
        program.say("hi")
        self.reactor.pump([1] * 3)
        self.successResultOf(request.reply)
        self.dispatcher.end(request)
        self.reactor.pump([1] * 3)
        self.assertEqual(self.dispatcher.idle_slots(), 2)
        self.assertGreater(self.calls, calls)

    def test_paused(self) -> None:
        """
        A paused pool takes nothing at once, and says so when it is resumed.
        """
        self.start()
        self.dispatcher.pause()
        self.assertEqual(self.dispatcher.idle_slots(), 0)
        calls = self.calls
        self.dispatcher.resume()
        self.assertEqual((self.dispatcher.idle_slots(), self.calls), (2, calls + 1))

    def test_draining(self) -> None:
        """
        A pool that is draining takes nothing.
        """
        self.start()
        self.dispatcher.drain(0)
        self.assertEqual(self.dispatcher.idle_slots(), 0)

    def test_circuit(self) -> None:
        """
        During an outage of the agent nothing is taken, and then one probe.
        """
        self.start()
        failure = AgentFailure(FailureKind.THROTTLED, "Slow down", 30)
        self.dispatcher.worker_pool.record_failure(failure)
        self.assertEqual(self.dispatcher.idle_slots(), 0)
        self.reactor.advance(30)
        self.assertEqual(self.dispatcher.idle_slots(), 1)
        self.dispatcher.submit("hello", RequestOptions())
        self.assertEqual(self.dispatcher.idle_slots(), 0)

    def test_expect(self) -> None:
        """
        A pool that expects more requests than it has idle sessions starts more, up to its limit.
        """
        self.start()
        self.dispatcher.expect(1)
        self.assertEqual(len(self.dispatcher.workers()), 2)
        self.dispatcher.expect(3)
        self.assertEqual(len(self.dispatcher.workers()), 3)
        self.dispatcher.expect(9)
        self.assertEqual(len(self.dispatcher.workers()), 4)

    def test_expect_while_paused(self) -> None:
        """
        A paused pool starts nothing.
        """
        self.start()
        self.dispatcher.pause()
        self.dispatcher.expect(9)
        self.assertEqual(len(self.dispatcher.workers()), 2)
