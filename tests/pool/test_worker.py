"""
Tests for `kiroworkers.pool.worker`.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.worker import Worker
from kiroworkers.session.session import Reset
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import RECYCLING, MemoryLine, Watcher, new_worker_in, watched


def asked_of(worker: Worker, prompt: str) -> list[Any]:
    """
    What comes of a turn, after which the worker is told that it is over.
    """
    reply = worker.ask(prompt)
    results = watched(reply)
    reply.addCallback(lambda _: worker.end_turn())
    return results


class WorkerTestCase(SynchronousTestCase):
    """
    A worker in memory, watched.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.watcher = Watcher()
        self.worker = new_worker_in(self.reactor)("worker1", self.watcher)
        self.begin(self.worker)

    def begin(self, worker: Worker) -> None:
        worker.start()
        self.reactor.advance(0)

    def ask(self, prompt: str, worker: Worker | None = None) -> list[Any]:
        """
        What comes of a turn, after which the worker is told that it is over.
        """
        return asked_of(worker or self.worker, prompt)

    def state(self) -> str:
        return self.worker.snapshot().state

    def die(self, screen: str = "") -> None:
        """
        The newest session ends by itself.
        """
        program = self.reactor.programs[-1]
        program.print(screen)
        self.reactor.advance(0)
        program.process.end(status=3)
        self.reactor.advance(0)


class WorkerTests(WorkerTestCase):
    """
    Tests for `Worker`.
    """

    def test_idle(self) -> None:
        """
        A worker says when it can be asked.
        """
        self.assertEqual(self.watcher.idle, ["worker1"])
        snapshot = self.worker.snapshot()
        self.assertEqual((snapshot.state, snapshot.healthy, snapshot.pid), ("idle", True, 1000))

    def test_comes_back(self) -> None:
        """
        After an unexpected end the next session starts 5 seconds later.
        """
        self.die()
        snapshot = self.worker.snapshot()
        self.assertEqual((snapshot.state, snapshot.healthy, snapshot.pid), ("waiting", False, None))
        self.assertEqual(snapshot.consecutive_failures, 1)
        self.assertEqual(snapshot.last_error, "exit status 3")
        self.assertEqual(snapshot.next_start, self.reactor.seconds() + 5)
        self.reactor.advance(4.9)
        self.assertEqual(len(self.reactor.programs), 1)
        self.reactor.advance(0.1)
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.worker.snapshot().next_start, None)

    def test_long_life(self) -> None:
        """
        A session that lives for long ends a row of failures, while it lives and
        for its successor.
        """
        self.die()
        self.reactor.advance(5)
        self.assertEqual(self.worker.snapshot().consecutive_failures, 1)
        self.reactor.advance(300)
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)
        self.die()
        self.reactor.advance(5)
        self.assertTrue(self.worker.idle)

    def test_fails(self) -> None:
        """
        After five short lives in a row a worker has failed, with the reason and
        the last screen; a probe that comes to its prompt serves again.
        """
        for program in range(5):
            self.reactor.programs[-1].mute = True
            self.die()
            self.assertEqual(len(self.reactor.programs), program + 1)
            self.reactor.advance(300)
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.worker.snapshot().consecutive_failures, 5)
        self.die()
        self.assertEqual(self.state(), "failed")
        self.reactor.advance(239)
        self.assertEqual(self.state(), "failed")
        self.reactor.advance(61)
        self.assertEqual(self.state(), "idle")

    def test_last_screen(self) -> None:
        """
        What a session showed that never came to its prompt is kept until one does;
        what one showed later may be a client's, and is not.
        """
        self.die("secret words")
        self.assertEqual(self.worker.snapshot().last_screen, "")
        self.assertNotIn("secret", self.worker.snapshot().last_error or "")
        self.reactor.programs.clear()
        self.reactor.advance(4)
        self.patch(self.reactor, "_make", silent)
        self.reactor.advance(1)
        self.die("no such model\n")
        self.assertIn("no such model", self.worker.snapshot().last_screen)
        self.patch(self.reactor, "_make", MemoryKiro)
        self.reactor.advance(20)
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.worker.snapshot().last_screen, "")

    def test_renew(self) -> None:
        """
        A renewed session is followed by another as soon as it is gone, once,
        however many ask for it.
        """
        self.worker.renew("tired", ahead=False)
        self.worker.renew("very tired", ahead=False)
        self.assertTrue(self.worker.snapshot().healthy)
        self.reactor.advance(0)
        self.assertEqual(len(self.reactor.programs), 2)
        self.assertEqual(self.reactor.running, {1001})
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)

    def test_is_told_to_quit(self) -> None:
        """
        An idle agent is told to quit before it is told by a signal.
        """
        self.worker.renew("tired", ahead=False)
        self.reactor.advance(0)
        first = self.reactor.programs[0]
        self.assertEqual((first.typed, first.process.signals), (["/quit"], []))

    def test_does_not_quit(self) -> None:
        """
        One that does not is told by signals.
        """
        self.reactor.programs[0].obeys = False
        self.patch(self.reactor.programs[0], "receive", lambda data: None)
        self.worker.renew("tired", ahead=False)
        self.reactor.advance(5)
        self.assertEqual(self.reactor.programs[0].process.signals, ["TERM"])
        self.reactor.advance(5)
        self.assertEqual(self.reactor.running, {1001})

    def test_renew_in_a_turn(self) -> None:
        """
        A session that is asked is renewed after its turn.
        """
        self.reactor.programs[0].interruptible = True
        results = self.ask("hello")
        self.worker.renew("tired", ahead=False)
        self.assertTrue(self.worker.renewing)
        self.reactor.advance(0)
        self.assertIn("hello", results[0].text)
        self.assertEqual(self.reactor.running, {1001})
        self.assertFalse(self.worker.renewing)

    def test_ahead(self) -> None:
        """
        With room for two, the old session serves until the new one is ready.
        """
        self.worker.renew("tired", ahead=True)
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.reactor.running, {1000, 1001})
        results = self.ask("hello")
        self.reactor.advance(0)
        self.assertEqual(self.reactor.programs[0].typed[0], "hello")
        self.assertIn("hello", results[0].text)
        self.assertEqual(self.reactor.running, {1001})
        self.assertEqual((self.worker.idle, self.worker.renewing), (True, False))
        self.assertEqual(self.worker.snapshot().last_error, None)

    def test_successor_fails(self) -> None:
        """
        A successor that does not start leaves the old session where it is.
        """
        self.patch(self.reactor, "_make", silent)
        self.worker.renew("tired", ahead=True)
        self.die()
        self.assertEqual(self.reactor.running, {1000})
        self.assertEqual((self.worker.idle, self.worker.renewing), (True, False))
        self.assertEqual(
            self.worker.snapshot().last_error,
            "exit status 3, after 'Model: auto (/model to change)'",
        )

    def test_old_session_dies_first(self) -> None:
        """
        When the old session dies while its successor starts, that one is waited
        for, and no third is started.
        """
        self.worker.renew("tired", ahead=True)
        self.reactor.programs[0].process.end(signal=9)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1001})
        self.assertTrue(self.worker.idle)

    def test_one_owner_of_a_restart(self) -> None:
        """
        A session that dies while it is renewed is followed by one session.
        """
        self.worker.renew("tired", ahead=False)
        self.reactor.programs[0].process.end(signal=9)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.programs), 2)
        self.assertEqual(self.reactor.running, {1001})

    def test_replace(self) -> None:
        """
        A replaced session is ended whatever it does; no time is lost and no
        failure counted.
        """
        self.reactor.programs[0].obeys = False
        self.ask("hello")
        self.worker.replace("stuck")
        self.reactor.advance(5)
        self.assertEqual(self.reactor.running, {1001})
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)

    def test_given_up(self) -> None:
        """
        A session that was ended because of what a turn left behind has its
        successor at once: it had started well.
        """
        self.reactor.programs[0].interruptible = False
        self.patch(self.reactor.programs[0], "_reply", lambda prompt: None)
        reply = self.worker.ask("hello")
        watched(reply)
        self.reactor.advance(0)
        reply.cancel()
        self.reactor.advance(10)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1001})
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)
        self.assertIn("did not come back", self.worker.snapshot().last_error or "")

    def test_cannot_start(self) -> None:
        """
        A session that cannot be started is tried again after the delay.
        """
        self.reactor.refuse = OSError("no more processes")
        self.worker.renew("tired", ahead=False)
        self.reactor.advance(0)
        self.assertEqual(self.worker.snapshot().last_error, "could not start: no more processes")
        self.reactor.refuse = None
        self.reactor.advance(5)
        self.assertTrue(self.worker.idle)

    def test_due(self) -> None:
        """
        A session that gave as many answers as it may is due, each time one more is
        given until it is renewed.
        """
        policy = evolve(RECYCLING, max_requests=2)
        worker = new_worker_in(self.reactor, recycling=policy)("worker2", self.watcher)
        self.begin(worker)
        for prompt in "ab":
            self.assertEqual(self.watcher.due, [])
            self.ask(prompt, worker)
            self.reactor.advance(0)
        self.assertEqual(self.watcher.due, ["gave 2 answers"])

    def test_drain(self) -> None:
        """
        A drained worker ends its session after its turn, and starts none until it
        is told to.
        """
        results = self.ask("hello")
        self.worker.drain()
        self.assertFalse(self.worker.idle)
        self.reactor.advance(0)
        self.assertIn("hello", results[0].text)
        self.reactor.advance(60)
        self.assertEqual((self.state(), self.reactor.running), ("drained", set()))
        self.worker.renew("go on", ahead=False)
        self.reactor.advance(0)
        self.assertTrue(self.worker.idle)

    def test_drain_while_waiting(self) -> None:
        """
        A worker that waits for its restart is drained at once.
        """
        self.die()
        self.worker.drain()
        self.assertTrue(self.worker.gone)
        self.reactor.advance(60)
        self.assertEqual(self.state(), "drained")

    def test_drain_both(self) -> None:
        """
        A worker that is being renewed drains both of its sessions.
        """
        self.worker.renew("tired", ahead=True)
        self.worker.drain()
        self.reactor.advance(0)
        self.assertEqual((self.worker.gone, self.reactor.running), (True, set()))

    def test_stop(self) -> None:
        """
        A stopped worker ends its session and starts no other.
        """
        self.worker.stop()
        self.assertFalse(self.worker.gone)
        self.reactor.advance(60)
        self.assertEqual((self.worker.gone, self.state()), (True, "ended"))
        self.assertEqual(len(self.reactor.programs), 1)
        self.assertEqual(self.reactor.running, set())

    def test_stop_now(self) -> None:
        """
        One that is quitting can be told to hurry.
        """
        self.patch(self.reactor.programs[0], "receive", lambda data: None)
        self.worker.stop()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1000})
        self.worker.stop(now=True)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, set())

    def test_stop_while_waiting(self) -> None:
        """
        A worker that waits for its restart stops at once and for good.
        """
        self.die()
        self.worker.stop()
        self.assertTrue(self.worker.gone)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.programs), 1)

    def test_stop_both(self) -> None:
        """
        A worker that is being renewed stops both of its sessions.
        """
        self.worker.renew("tired", ahead=True)
        self.worker.stop()
        self.reactor.advance(0)
        self.assertEqual((self.worker.gone, self.reactor.running), (True, set()))


def silent() -> MemoryKiro:
    program = MemoryKiro()
    program.mute = True
    return program


class TroubleTests(WorkerTestCase):
    """
    Tests for sessions that say what is wrong.
    """

    def start_troubled(self, of_all: bool) -> None:
        self.watcher.of_all = of_all
        self.patch(self.reactor, "_make", silent)
        self.worker.replace("to see another")
        self.reactor.advance(0)
        self.die("You are not logged in, please log in with kiro-cli login\n")

    def test_held(self) -> None:
        """
        A trouble that every session would have starts no other session.
        """
        self.start_troubled(of_all=True)
        self.assertEqual(self.watcher.failures[0].kind, "login_required")
        self.assertEqual((self.state(), self.worker.held), ("held", True))
        self.reactor.advance(10_000)
        self.assertEqual(len(self.reactor.programs), 2)
        self.patch(self.reactor, "_make", MemoryKiro)
        self.worker.start()
        self.reactor.advance(0)
        self.assertTrue(self.worker.idle)

    def test_of_one(self) -> None:
        """
        One that is the session's own is a failure like others.
        """
        self.start_troubled(of_all=False)
        self.assertEqual(self.state(), "waiting")


class ServedOnceTests(SynchronousTestCase):
    """
    Tests for a worker whose sessions serve one request each.
    """

    def setUp(self) -> None:
        self.watcher = Watcher()

    def start(self, program: type[MemoryKiro], **session: Any) -> Worker:
        self.reactor = MemoryReactor(program)
        worker = new_worker_in(self.reactor, **session)("worker1", self.watcher)
        worker.start()
        self.reactor.pump([0, 0.5])
        self.assertTrue(worker.idle)
        return worker

    def test_successor(self) -> None:
        """
        A spent session has its successor at once; that is no failure, and the
        worker is healthy all the while.
        """
        worker = self.start(MemoryLine, dialect="generic")
        results = asked_of(worker, "hello")
        self.reactor.advance(0)
        self.reactor.programs[0].say("world")
        for seconds in (0, 0.5, 0, 0):
            self.reactor.advance(seconds)
            self.assertTrue(worker.snapshot().healthy, worker.snapshot())
        self.assertEqual(results[0].text, "world\n")
        self.assertEqual(len(self.reactor.programs), 2)
        snapshot = worker.snapshot()
        self.assertEqual((snapshot.consecutive_failures, snapshot.last_error), (0, None))
        self.reactor.pump([0, 0.5])
        self.assertTrue(worker.idle)

    def test_successor_ahead(self) -> None:
        """
        With room for two, the successor starts with the turn, and can be asked
        the moment that is over.
        """
        self.watcher.room = True
        worker = self.start(MemoryLine, dialect="generic")
        for number in range(3):
            results = asked_of(worker, "hello")
            self.reactor.pump([0, 0.5, 0])
            self.reactor.programs[number].say("world")
            self.reactor.pump([0, 0.5])
            self.assertEqual(results[0].text, "world\n")
            self.assertTrue(worker.idle)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1003})

    def test_recycle(self) -> None:
        """
        An agent that could forget is not asked to where each request shall have a
        process of its own.
        """
        worker = self.start(MemoryKiro, reset=Reset.RECYCLE)
        results = asked_of(worker, "hello")
        self.reactor.advance(0)
        self.assertIn("hello", results[0].text)
        self.assertEqual(self.reactor.programs[0].typed, ["hello"])
        self.assertEqual(self.reactor.running, {1001})

    def test_recycle_given_up(self) -> None:
        """
        Such a session is not interrupted either.
        """
        worker = self.start(MemoryKiro, reset=Reset.RECYCLE)
        self.patch(self.reactor.programs[0], "_reply", lambda prompt: None)
        reply = worker.ask("hello")
        watched(reply)
        self.reactor.advance(0)
        reply.cancel()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1001})

    def test_none(self) -> None:
        """
        With no reset, the next request is asked in the same conversation, but
        after one that was given up it is cleared.
        """
        worker = self.start(MemoryKiro, reset=Reset.NONE)
        for prompt in "ab":
            results = asked_of(worker, prompt)
            self.reactor.advance(0)
            self.assertEqual(len(results), 1)
            self.assertTrue(worker.idle)
        self.assertEqual(self.reactor.programs[0].typed, ["a", "b"])
        self.patch(self.reactor.programs[0], "_reply", lambda prompt: None)
        reply = worker.ask("c")
        watched(reply)
        self.reactor.advance(0)
        reply.cancel()
        self.reactor.pump([0, 0.2, 0])
        self.assertEqual(self.reactor.programs[0].typed, ["a", "b", "c", "/clear", "y"])
        self.assertTrue(worker.idle)
