"""
Tests for `kiroworkers.pool.worker`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import SessionLost
from kiroworkers.pool.worker import MACHINE, Worker, WorkerState
from kiroworkers.session.session import Reset, Session
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import (
    RECYCLING,
    RESTARTS,
    MemoryLine,
    MemorySupervisor,
    new_session_in,
    new_worker_in,
    results_of,
    why,
)


def run_turn(worker: Worker, prompt: str) -> list[Any]:
    """
    Begin a turn, and return a list that gets its result; then the turn is ended.
    """
    reply = worker.ask(prompt)
    results = results_of(reply)
    reply.addBoth(lambda _: worker.end_turn())
    return results


class WorkerTestCase(SynchronousTestCase):
    """
    A test with a worker in memory and a supervisor that records its changes.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.supervisor = MemorySupervisor()
        self.worker = new_worker_in(self.reactor)("worker1", self.supervisor)
        self.begin(self.worker)

    def begin(self, worker: Worker) -> None:
        worker.start()
        self.reactor.advance(0)

    def ask(self, prompt: str, worker: Worker | None = None) -> list[Any]:
        """
        Begin a turn, and return a list that gets its result; then the turn is ended.
        """
        return run_turn(worker or self.worker, prompt)

    def state(self) -> str:
        return self.worker.snapshot().state

    def die(self, screen: str = "") -> None:
        """
        End the newest session's process.
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
        A worker notifies its supervisor when it is ready for a request.
        """
        self.assertEqual(self.supervisor.idle, ["worker1"])
        snapshot = self.worker.snapshot()
        self.assertEqual((snapshot.state, snapshot.healthy, snapshot.pid), ("idle", True, 1000))

    def test_restarts_after_a_delay(self) -> None:
        """
        After a session ended by itself, the next one starts 5 seconds later.
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

    def test_stable_session(self) -> None:
        """
        A session that lives for long resets the count of failures, for itself and for
        its successor.
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
        After five sessions that ended early a worker has failed; a later session that
        starts takes requests again.
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
        The screen of a session that never reached its prompt is kept until one does;
        later output may be a client's, and is not kept.
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

    def test_restart(self) -> None:
        """
        A restarted worker starts exactly one session, however many restarts were
        requested.
        """
        self.worker.restart(why("tired"), overlap=False)
        self.worker.restart(why("very tired"), overlap=False)
        self.assertTrue(self.worker.snapshot().healthy)
        self.reactor.advance(0)
        self.assertEqual(len(self.reactor.programs), 2)
        self.assertEqual(self.reactor.running, {1001})
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)

    def test_quits_first(self) -> None:
        """
        An idle agent is asked to quit before it gets a signal.
        """
        self.worker.restart(why("tired"), overlap=False)
        self.reactor.advance(0)
        first = self.reactor.programs[0]
        self.assertEqual((first.typed, first.process.signals), (["/quit"], []))

    def test_does_not_quit(self) -> None:
        """
        An agent that does not quit gets signals.
        """
        self.reactor.programs[0].obeys_sigterm = False
        self.patch(self.reactor.programs[0], "receive", lambda data: None)
        self.worker.restart(why("tired"), overlap=False)
        self.reactor.advance(5)
        self.assertEqual(self.reactor.programs[0].process.signals, ["TERM"])
        self.reactor.advance(5)
        self.assertEqual(self.reactor.running, {1001})

    def test_restart_in_a_turn(self) -> None:
        """
        A busy worker is restarted after its turn.
        """
        self.reactor.programs[0].interruptible = True
        results = self.ask("hello")
        self.worker.restart(why("tired"), overlap=False)
        self.assertTrue(self.worker.restarting)
        self.reactor.advance(0)
        self.assertIn("hello", results[0].text)
        self.assertEqual(self.reactor.running, {1001})
        self.assertFalse(self.worker.restarting)

    def test_restart_before_the_first_turn(self) -> None:
        """
        A restart is not forgotten if the session is no longer starting but was never ready:
        the next one starts without a delay.
        """
        for overlap in (False, True):
            reactor = MemoryReactor()
            worker = new_worker_in(reactor)("worker1", MemorySupervisor())
            worker.start()
            [program] = reactor.programs
            program.mute, program.obeys_sigterm = True, False
            reactor.advance(60)
            self.assertEqual(worker.snapshot().state, "stopping")
            worker.restart(why("tired"), overlap)
            reactor.advance(5)
            reactor.advance(0)
            self.assertEqual((worker.snapshot().state, len(reactor.programs)), ("idle", 2))

    def test_overlap(self) -> None:
        """
        With memory for two, the old session takes requests until the new one is ready.
        """
        self.worker.restart(why("tired"), overlap=True)
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.reactor.running, {1000, 1001})
        results = self.ask("hello")
        self.reactor.advance(0)
        self.assertEqual(self.reactor.programs[0].typed[0], "hello")
        self.assertIn("hello", results[0].text)
        self.assertEqual(self.reactor.running, {1001})
        self.assertEqual((self.worker.idle, self.worker.restarting), (True, False))
        self.assertEqual(self.worker.snapshot().last_error, None)

    def test_successor_fails(self) -> None:
        """
        The old session stays if its successor fails to start.
        """
        self.patch(self.reactor, "_make", silent)
        self.worker.restart(why("tired"), overlap=True)
        self.die()
        self.assertEqual(self.reactor.running, {1000})
        self.assertEqual((self.worker.idle, self.worker.restarting), (True, False))
        self.assertEqual(
            self.worker.snapshot().last_error,
            "exit status 3, after 'Model: auto (/model to change)'",
        )

    def test_old_session_dies_first(self) -> None:
        """
        If the old session ends while its successor starts, no third one is started.
        """
        self.worker.restart(why("tired"), overlap=True)
        self.reactor.programs[0].process.end(signal=9)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1001})
        self.assertTrue(self.worker.idle)

    def test_one_owner_of_a_restart(self) -> None:
        """
        A session that ends while it is restarted has exactly one successor.
        """
        self.worker.restart(why("tired"), overlap=False)
        self.reactor.programs[0].process.end(signal=9)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.programs), 2)
        self.assertEqual(self.reactor.running, {1001})

    def test_restart_now(self) -> None:
        """
        `restart_now` ends a session in the middle of its turn; the next one starts at
        once, and no failure is counted.
        """
        self.reactor.programs[0].obeys_sigterm = False
        self.ask("hello")
        self.worker.restart_now(why("stuck"))
        self.reactor.advance(5)
        self.assertEqual(self.reactor.running, {1001})
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)

    def test_restart_now_in_overlap(self) -> None:
        """
        `restart_now` leaves the successor alone, which takes over when the session is gone.
        """
        self.patch(self.reactor, "_make", silent)
        self.reactor.programs[0].obeys_sigterm = False
        self.ask("hello")
        self.worker.restart(why("tired"), overlap=True)
        self.worker.restart_now(why("stuck"))
        self.assertFalse(self.worker.healthy)
        self.worker.restart(why("very tired"), overlap=False)
        self.reactor.advance(5)
        self.assertEqual(self.reactor.running, {1001})
        self.assertEqual((self.state(), self.worker.healthy), ("starting", True))
        self.reactor.programs[1].show_prompt()
        self.reactor.advance(0)
        self.assertTrue(self.worker.idle)
        self.assertEqual(self.worker.snapshot().last_error, None)

    def test_successor_fails_while_aborting(self) -> None:
        """
        If both sessions of a worker end, it starts a third one.
        """
        self.patch(self.reactor, "_make", silent)
        self.reactor.programs[0].obeys_sigterm = False
        self.worker.restart(why("tired"), overlap=True)
        self.worker.restart_now(why("stuck"))
        self.die()
        self.assertEqual(self.reactor.running, {1000})
        self.reactor.advance(5)
        self.assertEqual((self.reactor.running, len(self.reactor.programs)), ({1002}, 3))

    def test_healthy_while_starting(self) -> None:
        """
        A worker whose session starts is healthy only if the last one ended as planned.
        """
        worker = new_worker_in(self.reactor)("worker2", self.supervisor)
        self.assertEqual(worker.snapshot().state, "unstarted")
        worker.start()
        self.assertEqual((worker.snapshot().state, worker.healthy), ("starting", False))
        self.reactor.advance(0)
        self.patch(self.reactor, "_make", silent)
        worker.restart(why("tired"), overlap=False)
        self.reactor.advance(0)
        self.assertEqual((worker.snapshot().state, worker.healthy), ("starting", True))
        self.die()
        self.reactor.advance(5)
        self.assertEqual((worker.snapshot().state, worker.healthy), ("starting", False))

    def test_aborted(self) -> None:
        """
        A session that was stopped because a cancelled turn did not end has a successor
        at once: it had started well.
        """
        self.reactor.programs[0].interruptible = False
        self.patch(self.reactor.programs[0], "_reply", lambda prompt: None)
        reply = self.worker.ask("hello")
        results_of(reply)
        self.reactor.advance(0)
        reply.cancel()
        self.reactor.advance(10)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1001})
        self.assertEqual(self.worker.snapshot().consecutive_failures, 0)
        self.assertIn("did not come back", self.worker.snapshot().last_error or "")

    def test_cannot_start(self) -> None:
        """
        A session that could not be started is followed by another after the delay.
        """
        self.reactor.refuse = OSError("no more processes")
        self.worker.restart(why("tired"), overlap=False)
        self.reactor.advance(0)
        self.assertEqual(self.worker.snapshot().last_error, "could not start: no more processes")
        self.reactor.refuse = None
        self.reactor.advance(5)
        self.assertTrue(self.worker.idle)

    def test_due(self) -> None:
        """
        A worker is due for a restart when its session has given as many answers as it
        may.
        """
        policy = evolve(RECYCLING, max_requests=2)
        worker = new_worker_in(self.reactor, recycling=policy)("worker2", self.supervisor)
        self.begin(worker)
        for prompt in "ab":
            self.assertEqual(self.supervisor.due, [])
            self.ask(prompt, worker)
            self.reactor.advance(0)
        self.assertEqual(self.supervisor.due, ["gave 2 answers"])

    def test_drain(self) -> None:
        """
        A drained worker ends its session after its turn, and starts no other until it
        is restarted.
        """
        results = self.ask("hello")
        self.worker.drain(why("drained"))
        self.assertFalse(self.worker.idle)
        self.reactor.advance(0)
        self.assertIn("hello", results[0].text)
        self.reactor.advance(60)
        self.assertEqual((self.state(), self.reactor.running), ("drained", set()))
        self.worker.restart(why("go on"), overlap=False)
        self.reactor.advance(0)
        self.assertTrue(self.worker.idle)

    def test_start_while_draining(self) -> None:
        """
        A worker that is put back to work before its turn is over ends that session, which
        was told to, and starts another at once.
        """
        results = self.ask("hello")
        self.worker.drain(why("drained"))
        self.assertTrue(self.worker.drained)
        self.worker.start()
        self.assertFalse(self.worker.drained)
        self.assertTrue(self.worker.healthy)
        self.reactor.advance(0)
        self.assertIn("hello", results[0].text)
        self.reactor.advance(0)
        self.assertEqual((self.worker.idle, self.reactor.running), (True, {1001}))

    def test_drain_in_backoff(self) -> None:
        """
        A worker without a session is drained at once.
        """
        self.die()
        self.worker.drain(why("drained"))
        self.assertTrue(self.worker.gone)
        self.reactor.advance(60)
        self.assertEqual(self.state(), "drained")

    def test_drain_both(self) -> None:
        """
        A worker that is being restarted drains both of its sessions.
        """
        self.worker.restart(why("tired"), overlap=True)
        self.worker.drain(why("drained"))
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
        An agent that has not quit yet can be stopped at once.
        """
        self.patch(self.reactor.programs[0], "receive", lambda data: None)
        self.worker.stop()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1000})
        self.worker.stop(now=True)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, set())

    def test_stop_in_backoff(self) -> None:
        """
        A worker without a session stops at once and for good.
        """
        self.die()
        self.worker.stop()
        self.assertTrue(self.worker.gone)
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.programs), 1)

    def test_stop_both(self) -> None:
        """
        A worker that is being restarted stops both of its sessions.
        """
        self.worker.restart(why("tired"), overlap=True)
        self.worker.stop()
        self.reactor.advance(0)
        self.assertEqual((self.worker.gone, self.reactor.running), (True, set()))


def silent() -> MemoryKiro:
    """
    Return a program that never shows its prompt.
    """
    program = MemoryKiro()
    program.mute = True
    return program


class FailureTests(WorkerTestCase):
    """
    Tests for sessions that report why they fail.
    """

    def fail_to_start(self, affects_all: bool) -> None:
        self.supervisor.affects_all = affects_all
        self.patch(self.reactor, "_make", silent)
        self.worker.restart_now(why("to start another"))
        self.reactor.advance(0)
        self.die("You are not logged in, please log in with kiro-cli login\n")

    def test_circuit_open(self) -> None:
        """
        After a failure that affects every session, no other session is started.
        """
        self.fail_to_start(affects_all=True)
        self.assertEqual(self.supervisor.failures[0].kind, "login_required")
        self.assertEqual((self.state(), self.worker.awaiting_recovery), ("held", True))
        self.reactor.advance(10_000)
        self.assertEqual(len(self.reactor.programs), 2)
        self.patch(self.reactor, "_make", MemoryKiro)
        self.worker.start()
        self.reactor.advance(0)
        self.assertTrue(self.worker.idle)

    def test_failure_of_one_session(self) -> None:
        """
        A failure that concerns one session is followed by another after the delay.
        """
        self.fail_to_start(affects_all=False)
        self.assertEqual(self.state(), "waiting")

    def test_stopped_by_supervisor(self) -> None:
        """
        A worker that is stopped when it reports a failure stays stopped.
        """

        class StoppingSupervisor(MemorySupervisor):
            def session_failed(self, worker: Worker, failure: AgentFailure, at_start: bool) -> bool:
                worker.stop()
                return True

        self.supervisor = StoppingSupervisor()
        self.worker = new_worker_in(self.reactor)("worker2", self.supervisor)
        self.begin(self.worker)
        self.fail_to_start(affects_all=True)
        self.assertEqual((self.state(), self.worker.gone), ("ended", True))


class MachineTests(WorkerTestCase):
    """
    Tests for the worker's state machine.
    """

    def test_complete(self) -> None:
        """
        Whatever the pool wants of a worker, and the end of its session, is provided for in
        every state in which it may happen.
        """
        accepted = {
            (old.name, name) for old, name, *_ in MACHINE.__automat_automaton__.allTransitions()
        }
        states = {state.value for state in WorkerState}
        down = {"unstarted", "undecided", "waiting", "failed", "held", "drained", "ended"}
        for name in ("start", "restart", "drain", "stop"):
            self.assertEqual({state for state, input in accepted if input == name}, states)
        for name in ("abort", "session_gone"):
            self.assertEqual({state for state, input in accepted if input == name}, states - down)

    def test_supervisor_calls_back(self) -> None:
        """
        What the supervisor does while it is notified has an effect at once.
        """
        restarting: list[bool] = []

        class RestartingSupervisor(MemorySupervisor):
            def worker_idle(self, worker: Worker) -> None:
                if not restarting:
                    worker.restart(why("because"), overlap=True)
                    restarting.append(worker.restarting)

        worker = new_worker_in(self.reactor)("worker2", RestartingSupervisor())
        self.begin(worker)
        self.assertEqual(restarting, [True])
        self.assertEqual(worker.snapshot().starts, 2)
        self.reactor.advance(0)
        self.assertEqual((worker.idle, worker.restarting), (True, False))


class ReplacedAgentTests(SynchronousTestCase):
    """
    Tests for sessions that find at their start that another agent is to be started.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.supervisor = MemorySupervisor(has_memory=True)
        self.launches: list[Deferred[None]] = []
        make = new_session_in(self.reactor)

        def new_session(
            name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None]
        ) -> Session:
            session = make(name, on_idle, on_gone)
            launch = session._launch
            launching: Deferred[None] = Deferred()

            def discard(failure: Failure) -> Failure:
                session.exhausted = True
                return failure

            launching.addCallback(lambda _: launch(session._process)).addErrback(discard)
            self.launches.append(launching)
            self.patch(session, "_launch", lambda _: launching)
            return session

        rng = random.Random(1)
        self.worker = Worker(
            "worker1", self.reactor, rng, new_session, RESTARTS, RECYCLING, self.supervisor
        )
        self.worker.start()

    def replace_agent(self) -> None:
        self.launches[-1].errback(OSError("the agent's program has changed"))

    def test_current_session(self) -> None:
        """
        The worker starts another session at once; that is no failure.
        """
        self.replace_agent()
        self.launches[-1].callback(None)
        self.reactor.advance(0)
        snapshot = self.worker.snapshot()
        self.assertEqual((len(self.launches), snapshot.state), (2, "idle"))
        self.assertEqual((snapshot.consecutive_failures, snapshot.last_error), (0, None))

    def test_successor(self) -> None:
        """
        The same holds for a successor: the old session serves until the new one is ready.
        """
        self.launches[-1].callback(None)
        self.reactor.advance(0)
        self.worker.restart(why("tired"), overlap=True)
        self.replace_agent()
        self.assertTrue(self.worker.idle)
        self.launches[-1].callback(None)
        self.reactor.pump([0, 0])
        snapshot = self.worker.snapshot()
        self.assertEqual((len(self.launches), snapshot.pid), (3, 1001))
        self.assertEqual((snapshot.consecutive_failures, snapshot.last_error), (0, None))

    def test_version_refused(self) -> None:
        """
        If no session of what is to be started may start, the worker waits.
        """
        self.supervisor.may_start = False
        self.replace_agent()
        snapshot = self.worker.snapshot()
        self.assertEqual((len(self.launches), snapshot.state), (1, "held"))
        self.assertEqual((snapshot.consecutive_failures, snapshot.last_error), (0, None))
        self.worker.restart(why("tired"), overlap=False)
        self.worker.start()
        self.assertEqual((len(self.launches), self.worker.awaiting_recovery), (1, True))
        self.supervisor.may_start = True
        self.worker.start()
        self.launches[-1].callback(None)
        self.reactor.advance(0)
        self.assertTrue(self.worker.idle)

    def test_version_of_successor_refused(self) -> None:
        """
        The old session serves on, and no other successor is started.
        """
        self.launches[-1].callback(None)
        self.reactor.advance(0)
        self.worker.restart(why("tired"), overlap=True)
        self.supervisor.may_start = False
        self.replace_agent()
        self.assertEqual((len(self.launches), self.worker.idle), (2, True))

    def test_version_refused_while_finishing(self) -> None:
        """
        A worker whose session ends as planned waits as well, and so does one that is aborted.
        """
        self.supervisor.may_start = True
        for restart in (
            lambda: self.worker.restart(why("tired"), overlap=False),
            lambda: self.worker.restart_now(why("stuck")),
        ):
            self.launches[-1].callback(None)
            self.reactor.advance(0)
            self.supervisor.may_start = False
            restart()
            self.reactor.pump([0, 0, 0])
            self.assertEqual(self.worker.snapshot().state, "held")
            self.supervisor.may_start = True
            self.worker.start()


class SingleUseTests(SynchronousTestCase):
    """
    Tests for a worker whose sessions serve one request each.
    """

    def setUp(self) -> None:
        self.supervisor = MemorySupervisor()

    def start(self, program: type[MemoryKiro], **session: Any) -> Worker:
        self.reactor = MemoryReactor(program)
        worker = new_worker_in(self.reactor, **session)("worker1", self.supervisor)
        worker.start()
        self.reactor.pump([0, 0.5])
        self.assertTrue(worker.idle)
        return worker

    def test_successor(self) -> None:
        """
        An exhausted session has a successor at once; that is no failure, and the worker
        stays healthy.
        """
        worker = self.start(MemoryLine, dialect="generic")
        results = run_turn(worker, "hello")
        self.reactor.advance(0)
        self.reactor.programs[0].say("{world}")
        for seconds in (0, 0.5, 0, 0):
            self.reactor.advance(seconds)
            self.assertTrue(worker.snapshot().healthy, worker.snapshot())
        self.assertEqual(results[0].text.strip(), "{world}")
        self.assertEqual(len(self.reactor.programs), 2)
        snapshot = worker.snapshot()
        self.assertEqual((snapshot.consecutive_failures, snapshot.last_error), (0, None))
        self.reactor.pump([0, 0.5])
        self.assertTrue(worker.idle)

    def test_successor_overlaps(self) -> None:
        """
        With memory for two, the successor starts with the turn, and is ready as soon as
        the turn is over.
        """
        self.supervisor.has_memory = True
        worker = self.start(MemoryLine, dialect="generic")
        for number in range(3):
            results = run_turn(worker, "hello")
            self.reactor.pump([0, 0.5, 0])
            self.reactor.programs[number].say("{world}")
            self.reactor.pump([0, 0.5])
            self.assertEqual(results[0].text.strip(), "{world}")
            self.assertTrue(worker.idle)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1003})

    def test_dies_in_its_turn(self) -> None:
        """
        A session that ends by itself in its only turn has failed, though its successor
        takes over: its last output is the last error, and after five the worker has failed.
        """
        self.supervisor.has_memory = True
        worker = self.start(MemoryLine, dialect="generic")
        for number in range(5):
            [lost] = self.die_in_turn(worker, number)
            self.assertIsInstance(lost, SessionLost)
            self.assertIn(r"Traceback\nboom", str(lost))
            snapshot = worker.snapshot()
            self.assertEqual(snapshot.consecutive_failures, number + 1)
            self.assertEqual(snapshot.last_error, lost.reason)
            self.assertEqual(snapshot.state, "idle" if number < 4 else "failed")
        self.reactor.advance(5)
        self.assertEqual(self.reactor.running, set())

    def test_answer_resets_failures(self) -> None:
        """
        A session that has served its only turn ends a row of failures; one whose turn was
        cancelled does not.
        """
        self.supervisor.has_memory = True
        worker = self.start(MemoryLine, dialect="generic")
        self.die_in_turn(worker, 0)
        reply = worker.ask("hello")
        results_of(reply)
        self.reactor.pump([0, 0.5, 0])
        reply.cancel()
        worker.end_turn()
        self.reactor.pump([0, 0.5, 0])
        self.assertEqual(worker.snapshot().consecutive_failures, 1)
        results = run_turn(worker, "hello")
        self.reactor.pump([0, 0.5, 0])
        self.reactor.programs[2].say("{world}")
        self.reactor.pump([0, 0.5, 0])
        self.assertEqual(results[0].text.strip(), "{world}")
        self.assertEqual(worker.snapshot().consecutive_failures, 0)

    def die_in_turn(self, worker: Worker, number: int) -> list[Any]:
        """
        Ask `worker`, and end its session before it answers.
        """
        results = run_turn(worker, "hello")
        self.reactor.pump([0, 0.5, 0])
        self.reactor.programs[number].print("Traceback\nboom\n")
        self.reactor.advance(0)
        self.reactor.programs[number].process.end(status=1)
        self.reactor.pump([0, 0])
        return results

    def test_recycle(self) -> None:
        """
        With `Reset.RECYCLE`, an agent that could be cleared is replaced instead.
        """
        worker = self.start(MemoryKiro, reset=Reset.RECYCLE)
        results = run_turn(worker, "hello")
        self.reactor.advance(0)
        self.assertIn("hello", results[0].text)
        self.assertEqual(self.reactor.programs[0].typed, ["hello"])
        self.assertEqual(self.reactor.running, {1001})

    def test_recycle_cancelled(self) -> None:
        """
        With `Reset.RECYCLE`, a cancelled turn is not interrupted: its session ends.
        """
        worker = self.start(MemoryKiro, reset=Reset.RECYCLE)
        self.patch(self.reactor.programs[0], "_reply", lambda prompt: None)
        reply = worker.ask("hello")
        results_of(reply)
        self.reactor.advance(0)
        reply.cancel()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1001})

    def test_none(self) -> None:
        """
        With `Reset.NONE`, requests share a conversation, which is only cleared after a
        cancelled one.
        """
        worker = self.start(MemoryKiro, reset=Reset.NONE)
        for prompt in "ab":
            results = run_turn(worker, prompt)
            self.reactor.advance(0)
            self.assertEqual(len(results), 1)
            self.assertTrue(worker.idle)
        self.assertEqual(self.reactor.programs[0].typed, ["a", "b"])
        self.patch(self.reactor.programs[0], "_reply", lambda prompt: None)
        reply = worker.ask("c")
        results_of(reply)
        self.reactor.advance(0)
        reply.cancel()
        self.reactor.pump([0, 0.2, 0])
        self.assertEqual(self.reactor.programs[0].typed, ["a", "b", "c", "/clear", "y"])
        self.assertTrue(worker.idle)
