"""
Tests for `kiroworkers.proof.checks.asking` and the checks of fresh conversations.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.proof.checks import fresh
from kiroworkers.proof.checks.asking import all_of, judge, plant, probe, require_right
from kiroworkers.proof.checks.check import CheckFailed
from kiroworkers.proof.report import Level, Outcome
from tests.proof.memory import ProofTestCase, model_request

T = TypeVar("T")


class AskingTests(ProofTestCase):
    """
    Tests for `plant`, `probe`, `judge` and `require_right`.
    """

    def setUp(self) -> None:
        super().setUp()
        self.proof = self.new_proof()

    def result(self, awaitable: Awaitable[T]) -> T:
        """
        Return the result of `awaitable`, which must be there.
        """

        async def wait() -> T:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def failure(self, awaitable: Awaitable[object]) -> CheckFailed:
        """
        Return the failure of `awaitable`.
        """

        async def wait() -> None:
            await awaitable

        failure = self.failureResultOf(Deferred.fromCoroutine(wait()), CheckFailed)
        assert isinstance(failure.value, CheckFailed)
        return failure.value

    def test_fresh(self) -> None:
        """
        Without a leak the finding says how many requests the model got.
        """
        mark, worker = self.result(plant(self.proof))
        self.result(probe(self.proof, worker))
        finding = judge(self.proof, mark, "the next request")
        self.assertEqual((finding.outcome, finding.details), (Outcome.PASSED, {"requests": 5}))

    def test_leak(self) -> None:
        """
        A planted text in a later request leaks, although all answers are right.
        """
        mark, worker = self.result(plant(self.proof))
        planted = self.proof.cases[0]
        self.server.history = [f"earlier: {planted.text}"]
        self.result(probe(self.proof, worker))
        finding = judge(self.proof, mark, "the next request")
        self.assertEqual((finding.outcome, finding.level), (Outcome.FAILED, Level.LEAKS))
        self.assertIn(f"held {planted.id}", finding.evidence)
        leak = finding.details["leaks"][0]
        self.assertEqual(leak["foreign"], [planted.id])
        self.assertIn("Remember this for all later", leak["excerpt"])

    def test_leak_before_the_mark(self) -> None:
        """
        A leak that came before the mark is the finding of another check.
        """
        self.result(plant(self.proof))
        self.server.history = [self.proof.cases[0].id]
        self.result(plant(self.proof))
        self.server.history = []
        mark, _ = self.result(plant(self.proof))
        self.assertIs(judge(self.proof, mark, "").outcome, Outcome.PASSED)

    def test_nothing_seen(self) -> None:
        """
        If the model was asked for nothing, nothing is proven.
        """
        self.model.reply_to(model_request("no identifier"))
        self.assertIs(judge(self.proof, 0, "").outcome, Outcome.FAILED)

    def test_wrong(self) -> None:
        """
        A wrong answer ends the check; it counts as a leak if the model was sent other texts.
        """
        self.result(plant(self.proof))
        self.server.answer = lambda case: (502, {"code": "answer_unfit", "error": "It does not"})
        self.assertIs(self.failure(plant(self.proof)).finding.level, Level.LOSSY)
        self.server.history = [self.proof.cases[0].id]
        finding = self.failure(plant(self.proof)).finding
        self.assertIs(finding.level, Level.LEAKS)
        self.assertIn("leaks", finding.details)

    def test_require_right(self) -> None:
        """
        A right answer is no problem.
        """
        case = self.proof.new_case("a text")
        require_right(self.proof, case, self.result(self.proof.ask(case)))

    def test_probe_twice(self) -> None:
        """
        A worker is asked twice, because its conversation for the first of the requests may have
        been opened before the text was planted.
        """
        self.result(probe(self.proof, "worker1"))
        self.assertEqual(self.server.answered.count("worker1"), 2)

    def test_probe_waits(self) -> None:
        """
        A worker that starts is waited for.
        """
        self.server.states["worker2"] = "starting"
        self.result(probe(self.proof, "worker2"))
        self.assertIn("wait for worker2", self.server.calls)

    def test_probe_in_vain(self) -> None:
        """
        A worker that answers no request was not checked, and is no success.
        """
        self.server.states["worker2"] = "clearing"
        self.assertIn(
            "worker2 answered 0 of", self.failure(probe(self.proof, "worker2")).finding.evidence
        )

    def test_steps(self) -> None:
        """
        Each check of fresh conversations takes its step between the planted text and the next.
        """
        for run, steps in (
            (fresh.next_request, []),
            (fresh.other_worker, []),
            (fresh.next_server, ["stop", "start"]),
            (fresh.killed_server, ["kill", "start"]),
        ):
            self.server.calls.clear()
            self.assertIs(self.result(run(self.proof)).outcome, Outcome.PASSED)
            calls = [call for call in self.server.calls if not call.startswith("/kiro")]
            self.assertEqual(calls, steps)
            self.assertEqual([self.server.calls[0]], ["/kiro/copy-text"])

    def test_next_process(self) -> None:
        """
        The worker that got the planted text is restarted.
        """
        self.result(fresh.next_process(self.proof))
        self.assertIn(self.server.calls[1], ["restart worker1", "restart worker2"])

    def test_row(self) -> None:
        """
        The evidence of requests in a row says whether the process stayed.
        """
        finding = self.result(fresh.row(self.proof))
        self.assertIn("its process stayed", finding.evidence)
        self.assertEqual(finding.details["processes"], 1)


class AllOfTests(SynchronousTestCase):
    """
    Tests for `all_of`.
    """

    def test_results(self) -> None:
        """
        All results are returned in order.
        """

        async def one(number: int) -> int:
            return number

        results = Deferred.fromCoroutine(all_of(one(number) for number in (1, 2)))
        self.assertEqual(self.successResultOf(results), [1, 2])

    def test_failure(self) -> None:
        """
        The first failure cancels the others and is raised itself.
        """
        waiting: list[Deferred[None]] = [Deferred(), Deferred()]
        cancelled = []

        async def wait(deferred: Deferred[None]) -> None:
            try:
                await deferred
            except CancelledError:
                cancelled.append(deferred)
                raise

        results = Deferred.fromCoroutine(all_of(map(wait, waiting)))
        waiting[1].errback(ZeroDivisionError())
        self.failureResultOf(results, ZeroDivisionError)
        self.assertEqual(cancelled, waiting[:1])
