"""
Tests for why sessions end, as their workers report it.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import WorkError
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.session.session import Reset
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import DiesAtStart, LoggedOut, MemorySupervisor, new_worker_in

#: Longer than any time limit of the sessions.
_LONG = 1000.0


class EndCauseTests(SynchronousTestCase):
    """
    Tests for the causes that a worker reports to its supervisor.
    """

    def start(self, make: type[MemoryKiro] = MemoryKiro, **session: Any) -> None:
        """
        Start a worker whose agents are of the class `make`.
        """
        self.reactor = MemoryReactor(make)
        self.supervisor = MemorySupervisor()
        self.worker = new_worker_in(self.reactor, **session)("worker1", self.supervisor)
        self.worker.start()

    def ready(self, **session: Any) -> None:
        """
        Start a worker, and wait until it is ready.
        """
        self.start(**session)
        self.reactor.advance(0)
        self.assertTrue(self.worker.idle)

    def settle(self, seconds: float = 0.0) -> None:
        """
        Let time pass.
        """
        self.reactor.pump([0, seconds, 0, 0])

    def check(self, *causes: EndCause) -> None:
        """
        Check why sessions have ended so far.
        """
        self.assertEqual(self.supervisor.ends, [*causes])

    def test_exited(self) -> None:
        """
        An agent that ends by itself has exited, whether it was ready or not.
        """
        self.ready()
        self.reactor.programs[0].process.end(status=3)
        self.settle()
        self.check(EndCause.EXITED)
        self.start(DiesAtStart)
        self.settle()
        self.check(EndCause.EXITED)

    def test_not_started(self) -> None:
        """
        An agent whose process cannot be started was not started.
        """
        self.reactor = MemoryReactor()
        self.supervisor = MemorySupervisor()
        self.reactor.refuse = OSError("no more processes")
        new_worker_in(self.reactor)("worker1", self.supervisor).start()
        self.check(EndCause.NOT_STARTED)

    def test_account(self) -> None:
        """
        An agent that says that nobody is logged in ends because of its account.
        """
        self.start(LoggedOut)
        self.settle()
        self.check(EndCause.ACCOUNT)

    def test_start_timeout(self) -> None:
        """
        An agent without a prompt is ended at its time limit.
        """
        self.start()
        self.reactor.programs[0].mute = True
        self.reactor.pump([60, 0, 0])
        self.check(EndCause.START_TIMEOUT)

    def test_interrupt_timeout(self) -> None:
        """
        An agent that goes on after an interrupt is ended at its time limit.
        """
        self.ready()
        self.patch(self.reactor.programs[0], "receive", lambda data: None)
        pending = self.worker.ask("hello")
        self.settle()
        pending.cancel()
        self.failureResultOf(pending)
        self.settle(_LONG)
        self.assertEqual(self.supervisor.ends[0], EndCause.INTERRUPT_TIMEOUT)

    def test_clear_timeout(self) -> None:
        """
        An agent that does not forget its conversation is ended at its time limit.
        """
        self.ready()
        pending = self.worker.ask("hello")
        self.settle()
        self.successResultOf(pending)
        self.patch(self.reactor.programs[0], "receive", lambda data: None)
        self.worker.end_turn()
        self.settle(_LONG)
        self.assertEqual(self.supervisor.ends[0], EndCause.CLEAR_TIMEOUT)

    def test_single_use(self) -> None:
        """
        A session that answers one request only ends after it, also if its successor is ready.
        """
        for has_memory in (False, True):
            self.ready(reset=Reset.RECYCLE)
            self.supervisor.has_memory = has_memory
            pending = self.worker.ask("hello")
            self.settle()
            self.successResultOf(pending)
            self.worker.end_turn()
            self.settle()
            self.check(EndCause.SINGLE_USE)

    def test_restarts(self) -> None:
        """
        A restart ends the session for the reason of the restart, with and without a successor,
        at once and after a turn.
        """
        reason = EndReason(EndCause.MAX_AGE, "3601 s old")
        for overlap in (False, True):
            for busy in (False, True):
                self.ready()
                pending = self.worker.ask("hello") if busy else None
                self.worker.restart(reason, overlap)
                self.settle()
                if pending is not None:
                    self.successResultOf(pending)
                    self.worker.end_turn()
                self.settle(_LONG / 10)
                self.check(EndCause.MAX_AGE)

    def test_stuck(self) -> None:
        """
        A session that is stopped in its turn ends for the reason given.
        """
        self.ready()
        pending = self.worker.ask("hello")
        self.worker.restart_now(EndReason(EndCause.STUCK, "stuck"))
        self.settle()
        self.failureResultOf(pending, WorkError)
        self.check(EndCause.STUCK)

    def test_drained(self) -> None:
        """
        A session ends for the reason why its worker is drained, after its turn.
        """
        self.ready()
        pending = self.worker.ask("hello")
        self.worker.drain(EndReason(EndCause.SCALED_DOWN, "not needed any more"))
        self.settle()
        self.successResultOf(pending)
        self.worker.end_turn()
        self.settle()
        self.check(EndCause.SCALED_DOWN)

    def test_shutdown(self) -> None:
        """
        Sessions end because the server stops.
        """
        for now in (False, True):
            self.ready()
            self.worker.stop(now)
            self.settle()
            self.check(EndCause.SHUTDOWN)

    def test_log(self) -> None:
        """
        The lines about a restart and about a session that has failed have the cause as a field.
        """
        self.ready()
        with capturedLogs() as logs:
            self.worker.restart(EndReason(EndCause.MAX_AGE, "3601 s old"), overlap=False)
            self.settle()
            self.reactor.programs[-1].process.end(status=3)
            self.settle()
        causes = [(event.get("new"), event["cause"]) for event in logs if event.get("cause")]
        self.assertEqual(
            causes, [("finishing", "max_age"), ("renewing", "max_age"), ("waiting", "exited")]
        )

    def test_one_line_each(self) -> None:
        """
        Each change of the state is one line, which has the reason and the delay of the next start.
        """
        with capturedLogs() as logs:
            self.ready()
            self.worker.restart(EndReason(EndCause.MAX_AGE, "3601 s old"), overlap=False)
            self.settle()
            self.reactor.programs[-1].process.end(status=3)
            self.settle()
        lines = [
            (event["log_level"].name, formatEvent(event))
            for event in logs
            if event["log_namespace"] == "kiroworkers.pool.worker.Worker"
        ]
        delay = next(event["delay"] for event in logs if event.get("new") == "waiting")
        self.assertEqual(
            lines,
            [
                ("info", "worker1: unstarted -> starting"),
                ("info", "worker1: ready (starting -> serving)"),
                ("info", "worker1: serving -> finishing: 3601 s old"),
                ("info", "worker1: finishing -> renewing: 3601 s old"),
                ("info", "worker1: ready (renewing -> serving)"),
                (
                    "warn",
                    "worker1: serving -> waiting: session ended: exit status 3; "
                    f"the next session starts in {delay:.3g} s",
                ),
            ],
        )

    def test_due(self) -> None:
        """
        A worker that has given its last answer says so as the reason of its restart.
        """
        self.ready()
        self.worker._answers_left = 1
        pending = self.worker.ask("hello")
        self.settle()
        self.successResultOf(pending)
        self.worker.end_turn()
        [reason] = self.supervisor.due
        assert isinstance(reason, EndReason)
        self.assertEqual((reason, reason.cause), ("gave 1 answers", EndCause.MAX_REQUESTS))
