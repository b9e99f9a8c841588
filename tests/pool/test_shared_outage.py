"""
Tests for how a pool uses a `SharedOutage`: no probe begins without permission.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from kiroworkers.errors import FailureKind
from kiroworkers.pool.circuit_breaker import LoginPolicy
from kiroworkers.pool.progress import Started
from kiroworkers.pool.shared_outage import Outage, OutageFollower
from kiroworkers.testing import MemoryKiro
from tests.memory import results_of, submit_to
from tests.pool.test_circuit_breaker import FailsAtStart, OutageTestCase


class HeldOutage:
    """
    Share an outage when the test says so.

    Attributes:
        known: What the follower waits for at the start; None if it does not wait.
        calls: What the follower did.
    """

    def __init__(self, known: Deferred[None] | None = None) -> None:
        self.known = known
        self.calls: list[str] = []
        self.follower: OutageFollower

    def follow(self, follower: OutageFollower, /) -> Deferred[None] | None:
        self.follower = follower
        return self.known

    def publish(self) -> None:
        outage = self.follower.current_outage()
        self.calls.append("closed" if outage is None else outage.kind.value)

    def claim_probe(self) -> None:
        self.calls.append("claim")

    def release_probe(self) -> None:
        self.calls.append("release")

    def stop(self) -> None:
        self.calls.append("stop")


def outage(delay: float, kind: FailureKind = FailureKind.THROTTLED) -> Outage:
    """
    Return an outage that another server reports.
    """
    return Outage(kind, "no", False, 1, delay, reported_by="other")


class HeldOutageTestCase(OutageTestCase):
    """
    A test with an outage that is shared when the test says so.
    """

    def begin(self, **changes: Any) -> None:
        """
        Start a pool, whose outage is over so far that it may be probed.
        """
        self.shared = HeldOutage()
        super().begin(shared_outage=self.shared, **changes)

    def learn(self, what: Outage | None) -> None:
        self.shared.follower.learn(what)
        self.reactor.advance(0)

    def grant(self) -> None:
        self.shared.follower.may_probe()
        self.reactor.advance(0)


class ProbeTests(HeldOutageTestCase):
    """
    Tests for probes.
    """

    def test_waits_for_permission(self) -> None:
        """
        A request that probes waits until the server may, also if there is no room in the queue.
        """
        self.begin(backlog=0)
        self.learn(outage(30))
        self.reactor.advance(30)
        probe, progress = self.ask("a"), self.progress
        self.assertEqual((probe, self.asked(), self.shared.calls), ([], 0, ["claim"]))
        self.assertEqual([error.kind for error in self.ask("b")], ["throttled"])
        self.grant()
        # It did not wait for a worker.
        self.assertEqual((self.asked(), [type(step) for step in progress]), (1, [Started]))
        self.answer("good")
        self.assertEqual((len(probe), self.shared.calls), (1, ["claim", "closed"]))

    def test_another_probes(self) -> None:
        """
        If another server probes, the request is refused for as long as that one may do so.
        """
        self.begin()
        self.learn(outage(30))
        self.reactor.advance(30)
        probe = self.ask("a")
        self.learn(outage(15))
        self.assert_refused(probe, FailureKind.THROTTLED, 15)
        self.assertEqual(self.asked(), 0)
        self.reactor.advance(15)
        self.assertEqual((self.ask("b"), self.shared.calls), ([], ["claim", "claim"]))

    def test_ends_meanwhile(self) -> None:
        """
        If the outage ends while a request waits for permission, it is asked at once.
        """
        self.begin()
        self.learn(outage(30))
        self.reactor.advance(30)
        probe = self.ask("a")
        self.learn(None)
        self.assertEqual((probe, self.asked(), self.shared.calls), ([], 1, ["claim"]))
        # Permission that comes too late is given back.
        self.grant()
        self.assertEqual(self.shared.calls, ["claim", "release"])

    def test_cancelled(self) -> None:
        """
        Permission that nobody needs any more is given back.
        """
        self.begin()
        self.learn(outage(30))
        self.reactor.advance(30)
        probe = submit_to(self.dispatcher, "a")
        results_of(probe)
        probe.cancel()
        self.grant()
        self.assertEqual(self.shared.calls, ["claim", "release"])
        self.assertEqual((self.ask("b"), self.asked()), ([], 0))
        self.assertEqual(self.shared.calls, ["claim", "release", "claim"])

    def test_repair_and_retry(self) -> None:
        """
        A request from before the outage is neither repaired nor retried without permission.
        """
        for end in ("unfit", "lost"):
            self.begin(workers=2)
            before = self.ask("before")
            self.learn(outage(30))
            self.reactor.advance(30)
            if end == "unfit":
                self.say(0, "bad")
            else:
                self.kill(0)
            self.assertEqual((before, self.asked(), self.shared.calls), ([], 1, ["claim"]))
            self.grant()
            self.assertEqual(self.asked(), 2)
            self.answer("good")
            self.assertEqual((len(before), self.shared.calls), (1, ["claim", "closed"]))

    def test_login_check(self) -> None:
        """
        A login is not checked without permission.
        """
        checks: list[None] = []

        def check() -> Deferred[bool]:
            checks.append(None)
            return succeed(len(checks) > 1)

        self.begin(login=LoginPolicy(check, 60.0))
        self.learn(outage(60, FailureKind.LOGIN_EXPIRED))
        self.reactor.advance(60)
        self.assertEqual((len(checks), self.shared.calls), (0, ["claim"]))
        self.assertEqual([error.retry_after for error in self.ask("a")], [1])
        self.grant()
        self.assertEqual((len(checks), self.shared.calls), (1, ["claim", "login_expired"]))
        self.reactor.advance(60)
        self.grant()
        self.assertEqual((len(checks), self.shared.calls[2:]), (2, ["claim", "closed"]))
        self.assertEqual(self.dispatcher.state().name, "serving")

    def test_stop(self) -> None:
        """
        A pool that stops follows no longer.
        """
        self.begin()
        self.dispatcher.stopService()
        self.assertEqual(self.shared.calls, ["stop"])
        self.learn(outage(30))
        self.assertFalse(self.dispatcher.worker_pool.circuit_breaker.is_open)


class StartTests(HeldOutageTestCase):
    """
    Tests for pools that start, and for sessions that do.
    """

    def begin_unknown(self, **changes: Any) -> None:
        """
        Start a pool that does not know yet whether there is an outage.
        """
        self.shared = HeldOutage(Deferred())
        OutageTestCase.begin(self, shared_outage=self.shared, **changes)

    def known(self) -> None:
        assert self.shared.known is not None
        self.shared.known.callback(None)
        self.reactor.advance(0)

    def test_unknown(self) -> None:
        """
        No session starts before it is known whether there is an outage; requests wait.
        """
        self.begin_unknown(workers=2, max_workers=4)
        results = self.ask("a")
        self.assertEqual((results, self.reactor.programs), ([], []))
        self.known()
        self.assertEqual((len(self.reactor.programs), self.asked()), (2, 1))

    def test_outage(self) -> None:
        """
        No session starts while the outage lasts; then one does, and the others after its success.
        """
        self.begin_unknown(workers=3)
        self.learn(outage(30))
        self.known()
        self.assertEqual(self.reactor.programs, [])
        self.reactor.advance(29)
        self.assertEqual(self.reactor.programs, [])
        program = MemoryKiro()
        program.mute = True
        self.new_program = lambda: program  # type: ignore[method-assign]
        self.reactor.advance(1)
        self.assertEqual(self.reactor.programs, [program])
        del self.new_program
        program.show_prompt()
        self.reactor.advance(0)
        self.assertEqual(len(self.reactor.programs), 3)

    def test_stops_before_it_knows(self) -> None:
        """
        A pool that stops before it knows starts no session.
        """
        self.begin_unknown()
        self.dispatcher.stopService()
        self.known()
        self.assertEqual(self.reactor.programs, [])

    def test_session_as_a_probe(self) -> None:
        """
        If the outage was reported by a session that started, none starts without permission.
        """
        self.begin_unknown()
        reported = Outage(FailureKind.SUSPENDED, "no", True, 1, 600.0, reported_by="other")
        self.learn(reported)
        self.known()
        self.reactor.advance(600)
        self.assertEqual((self.reactor.programs, self.shared.calls), ([], ["claim"]))
        self.grant()
        self.assertEqual(self.dispatcher.state().name, "serving")
        self.assertEqual(self.shared.calls, ["claim", "closed"])

    def test_session_fails_as_a_probe(self) -> None:
        """
        If that session fails, the others learn of it; if it ends for another reason, the server
        goes on with its next one before it gives its permission back.
        """
        self.begin_unknown(workers=2)
        reported = Outage(FailureKind.SUSPENDED, "no", True, 1, 600.0, reported_by="other")
        self.learn(reported)
        self.known()
        text = "Your User ID (d-1) temporarily is suspended"
        self.new_program = lambda: FailsAtStart(text)  # type: ignore[method-assign]
        self.reactor.advance(600)
        self.grant()
        self.reactor.pump([0.1] * 5)
        self.assertEqual(self.shared.calls, ["claim", "suspended"])
        self.assertEqual(len(self.reactor.programs), 1)
        self.new_program = lambda: FailsAtStart("oops")  # type: ignore[method-assign]
        self.reactor.advance(1200)
        self.grant()
        self.reactor.pump([0.1] * 5)
        self.assertEqual(self.shared.calls[2:], ["claim", "release"])
        self.assertEqual(len(self.reactor.programs), 3)
