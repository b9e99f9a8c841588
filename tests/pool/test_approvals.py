"""
Tests for `kiroworkers.pool.approvals`, and for requests that wait for operators.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import RequestTimedOut, UnknownApproval
from kiroworkers.pool.approvals import Approval, Approvals
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.tool_policy import ToolPolicy
from tests.memory import results_of
from tests.pool.test_dispatcher import DispatcherTestCase


def new_approvals(clock: Clock) -> Approvals:
    """
    Return approvals whose identifiers are numbers.
    """
    numbers = count(1)
    return Approvals(clock, lambda: str(next(numbers)))


class ApprovalsTests(SynchronousTestCase):
    """
    Tests for `Approvals`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.approvals = new_approvals(self.clock)
        self.decisions: list[bool] = []

    def add(self, question: str) -> Any:
        return self.approvals.add(
            "kiro", "worker1", 7, question, 60.0, on_decision=self.decisions.append
        )

    def test_decide(self) -> None:
        """
        An operator decides by the identifier, once.
        """
        self.clock.advance(5)
        self.add("date")
        self.add("rm -r x")
        expected = Approval("1", "kiro", "worker1", 7, "date", 5.0, 60.0)
        self.assertEqual(self.approvals.pending()[0], expected)
        self.approvals.decide("2", False)
        self.assertEqual((self.decisions, self.approvals.pending()), ([False], [expected]))
        self.approvals.decide("1", True)
        self.assertEqual((self.decisions, self.approvals.pending()), ([False, True], []))
        with self.assertRaises(UnknownApproval):
            self.approvals.decide("1", False)

    def test_withdraw(self) -> None:
        """
        A question that was withdrawn can no longer be decided, and may be withdrawn again.
        """
        withdraw = self.add("date")
        withdraw()
        withdraw()
        self.assertEqual(self.approvals.pending(), [])
        with self.assertRaises(UnknownApproval) as raised:
            self.approvals.decide("1", True)
        self.assertEqual(raised.exception.code, "unknown_approval")
        self.assertEqual(self.decisions, [])


class RequestTests(DispatcherTestCase):
    """
    Tests for requests in whose turn the agent asks to use a tool.
    """

    def setUp(self) -> None:
        super().setUp()
        self.approvals = new_approvals(self.reactor)
        self.reactor.programs.clear()
        self.dispatcher = self.start(
            session={"tools": ToolPolicy.ASK}, approvals=self.approvals, agent="kiro"
        )
        self.record = RequestRecord()
        self.request = self.dispatcher.submit("a", RequestOptions(record=self.record))
        self.results = results_of(self.request.reply)
        self.reactor.advance(0)
        self.kiro = self.reactor.programs[0]
        self.kiro.ask_approval()
        self.reactor.advance(0)

    def decide(self, allow: bool) -> None:
        [approval] = self.approvals.pending()
        self.approvals.decide(approval.id, allow)
        self.reactor.advance(0)

    def test_asked(self) -> None:
        """
        Operators see who asks, in which request, and until when they can decide.
        """
        [approval] = self.approvals.pending()
        self.assertEqual(
            (approval.agent, approval.worker, approval.request), ("kiro", "worker1", 1)
        )
        self.assertIn("Allow this action?", approval.question)
        self.assertEqual(approval.deadline, self.request.arrived + 120)

    def test_allowed(self) -> None:
        """
        A tool that an operator allows is used.
        """
        self.decide(True)
        self.assertEqual(self.kiro.typed, ["a", "y"])
        [reply] = self.results
        self.assertEqual((len(reply.allowed), reply.denied), (1, ()))
        self.assertIsNone(self.record.tools_denied)

    def test_denied(self) -> None:
        """
        A tool that an operator denies is not used, and the record counts it.
        """
        self.decide(False)
        self.assertEqual(self.kiro.typed, ["a", "n"])
        self.assertEqual(len(self.results[0].denied), 1)
        self.assertEqual(self.record.tools_denied, 1)

    def test_deadline(self) -> None:
        """
        At the deadline of its request, an undecided question is denied; the client is told what
        was missing, and the worker serves again.
        """
        [approval] = self.approvals.pending()
        self.reactor.advance(120)
        [error] = self.results
        self.assertIsInstance(error, RequestTimedOut)
        self.assertIn("No operator decided", str(error))
        with self.assertRaises(UnknownApproval):
            self.approvals.decide(approval.id, True)
        self.reactor.pump([0, 0.2, 0, 0])
        self.assertEqual(self.kiro.typed[:3], ["a", "n", "/clear"])
        self.assertEqual(self.dispatcher.workers()[0].state, "idle")

    def test_deadline_after_a_decision(self) -> None:
        """
        A request that times out after the decision is not said to lack one.
        """
        self.kiro.ask_approval()
        self.decide(True)
        self.assertEqual(len(self.results), 1)

    def test_hang_up(self) -> None:
        """
        A question whose client hangs up is denied.
        """
        self.request.reply.cancel()
        self.assertEqual(self.approvals.pending(), [])
        self.reactor.pump([0, 0.2, 0, 0])
        self.assertEqual(self.kiro.typed[:3], ["a", "n", "/clear"])
