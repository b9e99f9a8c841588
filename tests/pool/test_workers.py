"""
Tests for `kiroworkers.pool.workers` and `renewal`.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import AgentFailure
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.circuit_breaker import LoginPolicy
from kiroworkers.pool.dispatcher import Dispatcher
from kiroworkers.session.session import Reset
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import RECYCLING, LoggedOut, pool_in, watched


class CrewTestCase(SynchronousTestCase):
    """
    A crew in memory whose programs answer when they are told to.
    """

    def start(self, **changes: Any) -> Dispatcher:
        self.logged_in = True
        self.reactor = MemoryReactor(self.make)
        self.pool = pool_in(self.reactor, **changes)
        self.worker_pool = self.pool.worker_pool
        self.pool.startService()
        self.reactor.advance(0)
        return self.pool

    def make(self) -> MemoryKiro:
        return MemoryKiro(lambda prompt: None) if self.logged_in else LoggedOut()

    def ask(self, *prompts: str) -> list[list[Any]]:
        results = [watched(self.pool.submit(prompt)) for prompt in prompts]
        self.reactor.advance(0)
        return results

    def answer(self) -> None:
        """
        Every running turn is answered.
        """
        for program in list(self.reactor.programs):
            if program.answering and program.process.pid in self.reactor.running:
                program.say("answer")
        self.reactor.advance(0)

    def states(self) -> list[str]:
        return [each.state for each in self.worker_pool.snapshots()]


class ScalingTests(CrewTestCase):
    """
    Tests for how many workers there are.
    """

    def test_grows_and_shrinks(self) -> None:
        """
        There are more while requests wait, never more than may be; they go when
        they were not needed for a whole round, and take their names with them.
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
            [each.name for each in self.worker_pool.workers][2:], ["worker3", "worker4"]
        )

    def test_names(self) -> None:
        """
        A crew may call its workers something else; those that come later, too.
        """
        self.start(workers=1, max_workers=2, called="q-worker")
        self.ask("a", "b")
        self.assertEqual(
            [each.name for each in self.worker_pool.workers], ["q-worker1", "q-worker2"]
        )

    def test_keeps_some_spare(self) -> None:
        """
        One more is started when the last idle worker is asked.
        """
        self.start(workers=2, max_workers=4)
        self.ask("a")
        self.assertEqual(len(self.worker_pool.workers), 2)
        self.ask("b")
        self.assertEqual(self.states(), ["busy", "busy", "idle"])

    def test_not_in_vain(self) -> None:
        """
        Where sessions fail to start, no more are started.
        """
        self.start(workers=1, max_workers=4)
        self.reactor.programs[0].process.end(status=1)
        self.reactor.advance(0)
        self.ask("a")
        self.assertEqual(self.states(), ["waiting"])

    def test_not_without_memory(self) -> None:
        """
        Nor where there is no memory for one.
        """
        self.start(workers=1, max_workers=4, is_free=lambda size: False)
        self.ask(*"abc")
        self.assertEqual(self.states(), ["busy"])

    def test_not_while_paused(self) -> None:
        """
        What waits because the pool is paused is no load; when it resumes it is.
        """
        self.start(workers=1, max_workers=4)
        self.pool.pause()
        self.ask(*"abc")
        self.assertEqual(self.states(), ["idle"])
        self.pool.resume()
        self.assertEqual(len(self.worker_pool.workers), 4)

    def test_set_workers(self) -> None:
        """
        Another number is started, or let go, busy ones after their turns; the
        limit of dynamic scaling stays.
        """
        self.start(workers=2)
        self.worker_pool.set_workers(3)
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle"] * 3)
        results = self.ask(*"abc")
        self.worker_pool.set_workers(1)
        self.assertEqual(self.states(), ["busy"])
        self.answer()
        self.assertEqual([len(each) for each in results], [1, 1, 1])
        self.assertEqual(self.reactor.running, {1000})
        self.start(workers=2, max_workers=8)
        self.worker_pool.set_workers(8)
        self.worker_pool.set_workers(2)
        self.assertEqual(self.worker_pool.scale, AutoscalePolicy(2, 8, 1, 2))

    def test_let_go_first(self) -> None:
        """
        Those without a session are let go before those that are idle, and those
        before busy ones.
        """
        self.start(workers=3)
        self.ask("a")
        self.worker_pool.drain(self.worker_pool.workers[1])
        self.reactor.advance(0)
        for number, left in ((2, ["worker1", "worker3"]), (1, ["worker1"])):
            self.worker_pool.set_workers(number)
            self.assertEqual([worker.name for worker in self.worker_pool.workers], left)


class RenewalTests(CrewTestCase):
    """
    Tests for when workers have new sessions.
    """

    def test_one_at_a_time(self) -> None:
        """
        All are renewed, and no more than one is missing at any time.
        """
        self.start(workers=4, is_free=lambda size: False)
        missing: list[int] = []
        make = self.reactor._make

        def on_progress() -> MemoryKiro:
            missing.append(sum(state != "idle" for state in self.states()))
            return make()

        self.patch(self.reactor, "_make", on_progress)
        self.worker_pool.renew_all("because")
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1004, 1005, 1006, 1007})
        self.assertEqual(missing, [1, 1, 1, 1])

    def test_without_memory_under_load(self) -> None:
        """
        Without memory for two, and with no worker ever idle, one that is due goes
        after its turn while another serves.
        """
        policy = evolve(RECYCLING, max_requests=3)
        self.start(is_free=lambda size: False, recycling=policy)
        for _ in range(20):
            self.ask(*"abcd")
            self.answer()
            self.answer()
        self.assertTrue(all(each.starts > 5 for each in self.worker_pool.snapshots()))

    def test_alone_without_memory(self) -> None:
        """
        A worker that is alone is renewed all the same.
        """
        self.start(workers=1, is_free=lambda size: False)
        self.worker_pool.renew_all("because")
        self.reactor.advance(0)
        self.assertEqual(self.reactor.running, {1001})

    def test_without_a_session(self) -> None:
        """
        Workers that have no session need no memory for two.
        """
        self.start(is_free=lambda size: False)
        for worker in self.worker_pool.workers:
            self.worker_pool.drain(worker)
        self.reactor.advance(0)
        for worker in self.worker_pool.workers:
            self.worker_pool.renew(worker, "go on")
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_drain_beats_renewal(self) -> None:
        """
        A worker that is drained while it is due stays drained.
        """
        self.start(is_free=lambda size: False)
        self.worker_pool.renew_all("because")
        self.worker_pool.drain(self.worker_pool.workers[1])
        self.reactor.advance(0)
        self.worker_pool.renew_all("again")
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle", "drained"])

    def test_restart_while_draining(self) -> None:
        """
        A worker that is restarted while it is drained works on.
        """
        self.start()
        self.ask("a")
        worker = self.worker_pool.workers[0]
        self.worker_pool.drain(worker)
        self.worker_pool.renew(worker, "after all")
        self.answer()
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_served_once(self) -> None:
        """
        A successor that was started before somebody wanted new sessions is not
        the new one.
        """
        self.start(workers=1, session={"reset": Reset.RECYCLE})
        self.ask("a")
        self.assertEqual(self.reactor.running, {1000, 1001})
        self.worker_pool.renew_all("because")
        self.reactor.advance(0)
        self.answer()
        self.assertEqual(self.reactor.running, {1002})


class OutageTests(CrewTestCase):
    """
    Tests for troubles that every session has.
    """

    def log_out(self, **changes: Any) -> None:
        """
        Sessions that cannot start, because nobody is logged in.
        """
        self.start(**changes)
        self.logged_in = False
        for program in list(self.reactor.programs):
            program.process.end(status=1)
        self.reactor.pump([0, 5])
        self.assertEqual(self.states(), ["held", "held"])

    def test_asked_about(self) -> None:
        """
        Where the agent can be asked whether somebody is logged in, it is, from time
        to time, and nothing is started until somebody is.
        """
        self.log_out(login=LoginPolicy(lambda: succeed(self.logged_in), 60.0))
        self.reactor.pump([60.0] * 100)
        self.assertEqual(len(self.reactor.programs), 4)
        self.logged_in = True
        self.reactor.advance(60)
        self.assertEqual(self.states(), ["idle", "idle"])
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_tried(self) -> None:
        """
        Where it cannot, one session is started from time to time, and when it comes
        to its prompt all are.
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

    def test_trial_is_drained(self) -> None:
        """
        When the worker that tries is drained, another tries.
        """
        self.log_out()
        self.logged_in = True
        self.reactor.callLater(60, lambda: self.worker_pool.drain(self.worker_pool.workers[0]))
        self.reactor.advance(60)
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["drained", "idle"])
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_operator_restarts(self) -> None:
        """
        A session that an operator starts shows as much.
        """
        self.log_out()
        self.logged_in = True
        self.reactor.advance(1)
        self.worker_pool.renew(self.worker_pool.workers[1], "somebody logged in")
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle", "idle"])
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_new_login(self) -> None:
        """
        Sessions that live are renewed after a login, but not those that were
        drained.
        """
        self.start(workers=3, login=LoginPolicy(lambda: succeed(True), 60.0))
        self.worker_pool.drain(self.worker_pool.workers[2])
        self.worker_pool.record_failure(AgentFailure("login_expired", "it ended"))
        self.reactor.advance(60)
        self.assertEqual(self.states(), ["idle", "idle", "drained"])
        self.assertEqual(self.reactor.running, {1003, 1004})

    def test_of_one(self) -> None:
        """
        Other troubles are those of one session.
        """
        self.start()
        self.assertFalse(self.worker_pool.record_failure(AgentFailure("network", "it is gone")))
        self.assertFalse(self.worker_pool.circuit_breaker.is_open)

    def test_checking(self) -> None:
        """
        While the agent is being asked, no request tries.
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
        stopped = watched(self.pool.stopService())
        self.assertEqual((stopped, self.reactor.getDelayedCalls()), ([None], []))
