"""
Tests for `kiroworkers.pool.workers` and `rolling_restart`.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import FailureKind
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.circuit_breaker import LoginPolicy
from kiroworkers.pool.dispatcher import Dispatcher
from kiroworkers.session.session import Reset
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import RECYCLING, LoggedOut, dispatcher_in, results_of, submit_to, why


class WorkerPoolTestCase(SynchronousTestCase):
    """
    A test with a pool in memory whose programs answer when the test says so.
    """

    def start(self, **changes: Any) -> Dispatcher:
        self.logged_in = True
        self.reactor = MemoryReactor(self.make)
        self.dispatcher = dispatcher_in(self.reactor, **changes)
        self.worker_pool = self.dispatcher.worker_pool
        self.dispatcher.startService()
        self.reactor.advance(0)
        return self.dispatcher

    def make(self) -> MemoryKiro:
        return MemoryKiro(lambda prompt: None) if self.logged_in else LoggedOut()

    def ask(self, *prompts: str) -> list[list[Any]]:
        results = [results_of(submit_to(self.dispatcher, prompt)) for prompt in prompts]
        self.reactor.advance(0)
        return results

    def answer(self) -> None:
        """
        Answer every running turn.
        """
        for program in list(self.reactor.programs):
            if program.answering and program.process.pid in self.reactor.running:
                program.say("answer")
        self.reactor.advance(0)

    def states(self) -> list[str]:
        return [worker.state for worker in self.worker_pool.snapshots()]


class ScalingTests(WorkerPoolTestCase):
    """
    Tests for the number of workers.
    """

    def test_grows_and_shrinks(self) -> None:
        """
        Workers are added while requests wait, up to the limit; they are retired when
        they were not needed for a whole interval, and their names are used again.
        """
        self.start(workers=1, max_workers=4)
        self.ask(*"abcdefgh")
        names = [worker.name for worker in self.worker_pool.workers]
        self.assertEqual(names, ["worker1", "worker2", "worker3", "worker4"])
        self.worker_pool.shrink()
        self.answer()
        self.answer()
        self.worker_pool.shrink()
        self.assertEqual(len(self.worker_pool.workers), 4)
        self.worker_pool.shrink()
        self.reactor.advance(0)
        self.assertEqual(
            [worker.name for worker in self.worker_pool.workers], ["worker1", "worker2"]
        )
        self.assertEqual(len(self.reactor.running), 2)
        self.ask(*"abc")
        self.assertEqual(
            [worker.name for worker in self.worker_pool.workers][2:], ["worker3", "worker4"]
        )

    def test_names(self) -> None:
        """
        The name prefix applies to all workers, also to those that are added later.
        """
        self.start(workers=1, max_workers=2, name_prefix="q-worker")
        self.ask("a", "b")
        self.assertEqual(
            [worker.name for worker in self.worker_pool.workers], ["q-worker1", "q-worker2"]
        )

    def test_keeps_some_spare(self) -> None:
        """
        One more worker is started when the last idle one gets a request.
        """
        self.start(workers=2, max_workers=4)
        self.ask("a")
        self.assertEqual(len(self.worker_pool.workers), 2)
        self.ask("b")
        self.assertEqual(self.states(), ["busy", "busy", "idle"])

    def test_not_in_backoff(self) -> None:
        """
        No worker is added while a worker's sessions fail to start.
        """
        self.start(workers=1, max_workers=4)
        self.reactor.programs[0].process.end(status=1)
        self.reactor.advance(0)
        self.ask("a")
        self.assertEqual(self.states(), ["waiting"])

    def test_not_without_memory(self) -> None:
        """
        No worker is added without memory for its session.
        """
        self.start(workers=1, max_workers=4, has_free_memory=lambda size: False)
        self.ask(*"abc")
        self.assertEqual(self.states(), ["busy"])

    def test_not_while_paused(self) -> None:
        """
        Requests that wait in a paused pool add no workers; when it resumes they do.
        """
        self.start(workers=1, max_workers=4)
        self.dispatcher.pause()
        self.ask(*"abc")
        self.assertEqual(self.states(), ["idle"])
        self.dispatcher.resume()
        self.assertEqual(len(self.worker_pool.workers), 4)

    def test_set_workers(self) -> None:
        """
        Setting the number starts or retires workers, busy ones after their turns; the
        limit of autoscaling stays.
        """
        self.start(workers=2)
        self.worker_pool.set_workers(3)
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle"] * 3)
        results = self.ask(*"abc")
        self.worker_pool.set_workers(1)
        self.assertEqual(self.states(), ["busy"])
        self.answer()
        self.assertEqual([len(result) for result in results], [1, 1, 1])
        self.assertEqual(self.reactor.running, {1000})
        self.start(workers=2, max_workers=8)
        self.worker_pool.set_workers(8)
        self.worker_pool.set_workers(2)
        self.assertEqual(self.worker_pool.autoscale_policy, AutoscalePolicy(2, 8, 1, 2))

    def test_retired_first(self) -> None:
        """
        Workers without a session are retired before idle ones, and those before busy
        ones.
        """
        self.start(workers=3)
        self.ask("a")
        self.worker_pool.drain(self.worker_pool.workers[1], why("drained"))
        self.reactor.advance(0)
        for number, left in ((2, ["worker1", "worker3"]), (1, ["worker1"])):
            self.worker_pool.set_workers(number)
            self.assertEqual([worker.name for worker in self.worker_pool.workers], left)


class RollingRestartTests(WorkerPoolTestCase):
    """
    Tests for `RollingRestart`.
    """

    def test_one_at_a_time(self) -> None:
        """
        All workers are restarted, and never more than one is missing.
        """
        self.start(workers=4, has_free_memory=lambda size: False)
        missing: list[int] = []
        make = self.reactor._make

        def count_missing() -> MemoryKiro:
            missing.append(sum(state != "idle" for state in self.states()))
            return make()

        self.patch(self.reactor, "_make", count_missing)
        self.worker_pool.restart_all(why("because"))
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1004, 1005, 1006, 1007})
        self.assertEqual(missing, [1, 1, 1, 1])

    def test_without_memory_under_load(self) -> None:
        """
        Without memory for a second session and with no worker ever idle, a worker is
        restarted after its turn while the other one is busy.
        """
        policy = evolve(RECYCLING, max_requests=3)
        self.start(has_free_memory=lambda size: False, recycling=policy)
        for _ in range(20):
            self.ask(*"abcd")
            self.answer()
            self.answer()
        self.assertTrue(all(worker.starts > 5 for worker in self.worker_pool.snapshots()))

    def test_alone_without_memory(self) -> None:
        """
        The only worker of a pool is restarted even without memory for a second session.
        """
        self.start(workers=1, has_free_memory=lambda size: False)
        self.worker_pool.restart_all(why("because"))
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1001})

    def test_without_a_session(self) -> None:
        """
        Workers without a session are restarted without memory for two.
        """
        self.start(has_free_memory=lambda size: False)
        for worker in self.worker_pool.workers:
            self.worker_pool.drain(worker, why("drained"))
        self.reactor.advance(0)
        for worker in self.worker_pool.workers:
            self.worker_pool.restart(worker, why("go on"))
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_drain_cancels_restart(self) -> None:
        """
        A worker that is drained while its restart is scheduled stays drained.
        """
        self.start(has_free_memory=lambda size: False)
        self.worker_pool.restart_all(why("because"))
        self.worker_pool.drain(self.worker_pool.workers[1], why("drained"))
        self.reactor.advance(0)
        self.worker_pool.restart_all(why("again"))
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle", "drained"])

    def test_restart_while_draining(self) -> None:
        """
        A worker that is restarted while it drains stays in service.
        """
        self.start()
        self.ask("a")
        worker = self.worker_pool.workers[0]
        self.worker_pool.drain(worker, why("drained"))
        self.worker_pool.restart(worker, why("after all"))
        self.answer()
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_single_use_session(self) -> None:
        """
        A successor that was started before a restart was requested is replaced, too.
        """
        self.start(workers=1, session={"reset": Reset.RECYCLE})
        self.ask("a")
        self.assertEqual(self.reactor.running, {1000, 1001})
        self.worker_pool.restart_all(why("because"))
        self.reactor.advance(0)
        self.answer()
        self.assertEqual(self.reactor.running, {1002})


class CircuitBreakerTests(WorkerPoolTestCase):
    """
    Tests for failures that affect every session.
    """

    def log_out(self, **changes: Any) -> None:
        """
        Log the user out, so that no session can start.
        """
        self.start(**changes)
        self.logged_in = False
        for program in list(self.reactor.programs):
            program.process.end(status=1)
        self.reactor.pump([0, 5])
        self.assertEqual(self.states(), ["held", "held"])

    def test_login_check(self) -> None:
        """
        If the agent has a login check, it runs periodically, and no session is started
        until a user is logged in.
        """
        self.log_out(login=LoginPolicy(lambda: succeed(self.logged_in), 60.0))
        self.reactor.pump([60.0] * 100)
        self.assertEqual(len(self.reactor.programs), 4)
        self.logged_in = True
        self.reactor.advance(60)
        self.assertEqual(self.states(), ["idle", "idle"])
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_logged_once(self) -> None:
        """
        Each change of the circuit's state is logged with its reason, and a check that finds
        nobody logged in is not news.
        """
        events = self.enterContext(capturedLogs())
        self.log_out(login=LoginPolicy(lambda: succeed(self.logged_in), 60.0))
        self.reactor.pump([60.0] * 5)
        self.logged_in = True
        self.reactor.advance(60)
        changes = [event for event in events if "circuit" in event["log_format"]]
        shown = [event for event in changes if event["log_level"] is not LogLevel.debug]
        self.assertEqual(
            [(event["old"], event["new"], event["kind"].value) for event in shown],
            [("closed", "open", "login_required"), ("open", "closed", "login_required")],
        )
        self.assertIn("is over, after 36", formatEvent(shown[1]))
        self.assertGreater(len(changes), len(shown))

    def test_probe(self) -> None:
        """
        Without a login check, one session is started as a probe from time to time, and
        when it is ready all others are started.
        """
        self.log_out()
        for wait, programs in [(60, 5), (120, 6), (240, 7)]:
            self.reactor.advance(wait)
            self.reactor.advance(0)
            self.assertEqual(len(self.reactor.programs), programs)
            self.assertEqual(self.states(), ["held", "held"])
        self.logged_in = True
        self.reactor.advance(480)
        self.assertEqual(self.states(), ["idle", "idle"])
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_probe_is_drained(self) -> None:
        """
        When the worker that probes is drained, another one probes.
        """
        self.log_out()
        self.logged_in = True
        first = self.worker_pool.workers[0]
        self.reactor.callLater(60, lambda: self.worker_pool.drain(first, why("drained")))
        self.reactor.advance(60)
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["drained", "idle"])
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_operator_restarts(self) -> None:
        """
        A session that an operator starts is a probe as well.
        """
        self.log_out()
        self.logged_in = True
        self.reactor.advance(1)
        self.worker_pool.restart(self.worker_pool.workers[1], why("a user logged in"))
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle", "idle"])
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_new_login(self) -> None:
        """
        Running sessions are replaced after a login; drained workers stay drained.
        """
        self.start(workers=3, login=LoginPolicy(lambda: succeed(True), 60.0))
        self.worker_pool.drain(self.worker_pool.workers[2], why("drained"))
        self.worker_pool.record_failure(AgentFailure(FailureKind.LOGIN_EXPIRED, "it ended"))
        self.reactor.advance(60)
        self.assertEqual(self.states(), ["idle", "idle", "drained"])
        self.assertEqual(self.reactor.running, {1003, 1004})

    def test_failure_of_one_session(self) -> None:
        """
        A failure that concerns one session does not open the circuit.
        """
        self.start()
        self.assertFalse(
            self.worker_pool.record_failure(AgentFailure(FailureKind.NETWORK, "it is gone"))
        )
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_during_login_check(self) -> None:
        """
        No request probes the agent while a login check runs.
        """
        answers: list[Deferred[bool]] = []

        def check() -> Deferred[bool]:
            answers.append(Deferred())
            return answers[-1]

        self.log_out(login=LoginPolicy(check, 60.0))
        self.reactor.advance(60)
        snapshot = self.worker_pool.circuit_breaker.snapshot()
        assert snapshot is not None
        self.assertEqual((snapshot.half_open, snapshot.retry_after), (False, 1))
        answers[0].errback(OSError("no such program"))
        self.assertTrue(self.worker_pool.circuit_breaker.is_open)
        self.reactor.advance(60)
        self.assertEqual(len(answers), 2)
        stopped = results_of(self.dispatcher.stopService())
        self.assertEqual((stopped, self.reactor.getDelayedCalls()), ([None], []))
