"""
Tests for `kiroworkers.sessions.worker`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.sessions.worker import Worker
from kiroworkers.testing import MemoryReactor
from tests.sessions.support import MemoryLine, new_session_in, watched


class WorkerTests(SynchronousTestCase):
    """
    Tests for `Worker`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.idle: list[Worker] = []
        self.worker = Worker(
            "worker1", self.reactor, new_session_in(self.reactor), 5.0, self.idle.append
        )
        self.worker.start()
        self.reactor.advance(0)

    def test_idle(self) -> None:
        """
        A worker says when it can be asked.
        """
        self.assertEqual(self.idle, [self.worker])
        snapshot = self.worker.snapshot()
        self.assertEqual((snapshot.state, snapshot.healthy, snapshot.pid), ("idle", True, 1000))

    def test_comes_back(self) -> None:
        """
        After an unexpected end the next session starts 5 seconds later.
        """
        self.reactor.programs[0].process.end(status=3)
        self.reactor.advance(0)
        snapshot = self.worker.snapshot()
        self.assertEqual((snapshot.state, snapshot.healthy, snapshot.pid), ("waiting", False, None))
        self.assertEqual(snapshot.consecutive_failures, 1)
        self.assertEqual(snapshot.last_error, "exit status 3")
        self.reactor.advance(4.9)
        self.assertEqual(len(self.reactor.programs), 1)
        self.reactor.advance(0.1)
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)

    def test_renew(self) -> None:
        """
        A renewed session is followed by another as soon as it is gone, once,
        however many ask for it.
        """
        self.worker.renew("tired")
        self.worker.renew("very tired")
        self.reactor.advance(0)
        self.assertEqual(len(self.reactor.programs), 2)
        self.assertEqual(self.reactor.running, {1001})
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)

    def test_one_owner_of_a_restart(self) -> None:
        """
        A session that dies while it is renewed is followed by one session.
        """
        self.worker.renew("tired")
        self.reactor.programs[0].process.end(signal=9)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.programs), 2)
        self.assertEqual(self.reactor.running, {1001})

    def test_cannot_start(self) -> None:
        """
        A session that cannot be started is tried again after the delay.
        """
        self.reactor.refuse = OSError("no more processes")
        self.worker.renew("tired")
        self.reactor.advance(0)
        self.assertEqual(self.worker.snapshot().last_error, "could not start: no more processes")
        self.reactor.refuse = None
        self.reactor.advance(5)
        self.assertTrue(self.worker.idle)

    def test_stop(self) -> None:
        """
        A stopped worker ends its session and starts no other.
        """
        stopped = watched(self.worker.stop())
        self.assertEqual(stopped, [])
        self.reactor.advance(60)
        self.assertEqual(stopped, [None])
        self.assertEqual(len(self.reactor.programs), 1)
        self.assertEqual(self.reactor.running, set())

    def test_stop_while_waiting(self) -> None:
        """
        A worker that waits for its restart stops at once and for good.
        """
        self.reactor.programs[0].process.end(status=1)
        self.reactor.advance(0)
        self.assertEqual(watched(self.worker.stop()), [None])
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.programs), 1)


class SpentTests(SynchronousTestCase):
    """
    Tests for a worker whose sessions cannot forget.
    """

    def test_successor(self) -> None:
        """
        A spent session has its successor at once; that is no failure, and the
        worker is healthy all the while.
        """
        reactor = MemoryReactor(MemoryLine)
        new_session = new_session_in(reactor, dialect="generic")
        worker = Worker("worker1", reactor, new_session, 5.0, lambda worker: None)
        worker.start()
        self.assertFalse(worker.snapshot().healthy)
        reactor.pump([0, 0.5])
        results = watched(worker.ask("hello"))
        reactor.advance(0)
        reactor.programs[0].say("world")
        for seconds in (0, 0.5, 0, 0):
            reactor.advance(seconds)
            self.assertTrue(worker.snapshot().healthy, worker.snapshot())
        self.assertEqual(results[0].text, "world\n")
        self.assertEqual(len(reactor.programs), 2)
        snapshot = worker.snapshot()
        self.assertEqual((snapshot.consecutive_failures, snapshot.last_error), (0, None))
        reactor.pump([0, 0.5])
        self.assertTrue(worker.idle)
