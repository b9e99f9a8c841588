"""
Tests for `kiroworkers.proof.prover`: how checks become results.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import load_dialect
from kiroworkers.conversations.dialects.dialect import ModelServerSettings
from kiroworkers.proof.checks.check import Check, CheckFailed, Finding, failed, passed
from kiroworkers.proof.prover import CannotProve, Target, hidden, make_checks
from kiroworkers.proof.report import CheckResult, Level, Model, Outcome
from kiroworkers.proof.run import ProofOptions, ProofRun, TurnsSpent
from kiroworkers.proof.server_process import NotReady
from tests.proof.memory import ProofTestCase


def check(
    name: str,
    finding: Finding | Exception | Callable[[ProofRun], Awaitable[Finding]],
    level: Level | None = Level.LOSSY,
    **options: Any,
) -> Check:
    """
    Return a check that finds `finding`, raises it or calls it.
    """

    async def run(proof: ProofRun) -> Finding:
        if isinstance(finding, Exception):
            raise finding
        return finding if isinstance(finding, Finding) else await finding(proof)

    return Check(name, level, run, **options)


class MakeChecksTests(ProofTestCase):
    """
    Tests for `make_checks`.
    """

    def setUp(self) -> None:
        super().setUp()
        self.results: list[CheckResult] = []

    def make(self, *checks: Check, kind: Model = "loopback") -> Deferred[list[CheckResult]]:
        """
        Make `checks`.
        """
        making = make_checks(self.new_proof(kind), checks, self.results.append)
        return Deferred.fromCoroutine(making)

    def test_results(self) -> None:
        """
        Each check has a result with its level, reported when it is known; a failure may have a
        level of its own, and the log of the server goes with it.
        """

        async def find(proof: ProofRun) -> Finding:
            self.server.log.feed(b"worker1: session ended\n")
            self.clock.advance(2)
            return failed("it leaked", level=Level.LEAKS, which=1)

        results = self.successResultOf(
            self.make(
                check("one", passed("fine", count=2)),
                check("two", find),
                check("three", passed("")),
            )
        )
        self.assertEqual(results, self.results)
        one, two, _ = results
        self.assertEqual(one, CheckResult("one", Outcome.PASSED, "fine", Level.LOSSY, {"count": 2}))
        self.assertEqual((two.outcome, two.level, two.seconds), (Outcome.FAILED, Level.LEAKS, 2))
        self.assertEqual(two.details, {"which": 1, "log": ["worker1: session ended"]})

    def test_new_server(self) -> None:
        """
        After a check that failed, the next one gets a new server, if there is a next one.
        """
        self.successResultOf(self.make(check("one", failed("")), check("two", failed(""))))
        self.assertEqual(self.server.calls, ["stop", "start"])

    def test_raised(self) -> None:
        """
        A check can end with a finding from any depth.  One that cannot be judged has failed, but
        is no proof of a leak.
        """
        results = self.successResultOf(
            self.make(
                check("one", CheckFailed(failed("wrong")), Level.LEAKS),
                check("two", NotReady("worker1 is gone"), Level.LEAKS),
                check("three", ZeroDivisionError("no"), None),
            )
        )
        self.assertEqual([result.outcome for result in results], [Outcome.FAILED] * 3)
        self.assertEqual([result.level for result in results], [Level.LEAKS, Level.LOSSY, None])
        self.assertEqual([result.evidence for result in results[:2]], ["wrong", "worker1 is gone"])
        self.assertIn("cannot be judged: ZeroDivisionError", results[2].evidence)
        self.assertIn("Traceback", results[2].details["traceback"])

    def test_time_limit(self) -> None:
        """
        A check that takes longer than its limit is cancelled and has failed.
        """
        cancelled: list[Deferred[None]] = []

        async def wait(proof: ProofRun) -> Finding:
            await Deferred[None](cancelled.append)
            return passed("never")

        making = self.make(check("slow", wait, Level.UNSAFE, time_limit=5))
        self.clock.advance(4.9)
        self.assertNoResult(making)
        self.clock.advance(0.2)
        (result,) = self.successResultOf(making)
        self.assertEqual((result.outcome, len(cancelled)), (Outcome.FAILED, 1))
        self.assertIs(result.level, Level.LOSSY)
        self.assertEqual(result.evidence, "not done within 5 s")

    def test_cancelled(self) -> None:
        """
        A cancelled proof ends with the check that runs.
        """

        async def wait(proof: ProofRun) -> Finding:
            await Deferred()
            return passed("never")

        making = self.make(check("one", wait), check("two", passed("")))
        making.cancel()
        self.failureResultOf(making, CancelledError)
        self.assertEqual(self.results, [])

    def test_never_ready(self) -> None:
        """
        If the agent is not ready, no other check is made, and no server is started again.
        """
        results = self.successResultOf(
            self.make(check("ready", failed("exit status 1"), None), check("exact", passed("")))
        )
        self.assertEqual([r.outcome for r in results], [Outcome.FAILED, Outcome.SKIPPED])
        self.assertEqual(self.server.calls, [])

    def test_not_ready_again(self) -> None:
        """
        If the new server after a failed check is not ready, the other checks are skipped, and
        say why.
        """
        self.server.broken = "exit status 1"
        _, two = self.successResultOf(self.make(check("one", failed("")), check("two", passed(""))))
        self.assertEqual(two.outcome, Outcome.SKIPPED)
        self.assertIn("not ready after the check one: exit status 1", two.evidence)

    def test_needs_model_server(self) -> None:
        """
        Without a model server that sees the requests, only some checks are made.
        """
        kinds: tuple[Model, ...] = ("mock", "service")
        for kind in kinds:
            results = self.successResultOf(
                self.make(
                    check("one", passed("")),
                    check("two", passed(""), needs_model_server=False),
                    kind=kind,
                )
            )
            self.assertEqual([r.outcome for r in results], [Outcome.SKIPPED, Outcome.PASSED])


class HiddenTests(SynchronousTestCase):
    """
    Tests for `hidden`, which keeps what belongs to the machine out of reports.
    """

    def test_hidden(self) -> None:
        """
        The folders of the machine, and the values of variables that look like secrets, are
        replaced wherever they are.
        """
        variables = {"HOME": "/home/ann", "MY_TOKEN": "s3cret-value", "KEY": "x", "LANG": "C.UTF-8"}
        result = CheckResult(
            "exact",
            Outcome.FAILED,
            "no answer: cannot read /home/ann/.agent",
            Level.LOSSY,
            {"log": ["/tmp/proof-1/home/x: s3cret-value", "C.UTF-8 x"], "count": 1},
        )
        shown = hidden(result, Path("/tmp/proof-1"), variables)
        self.assertEqual(shown.evidence, "no answer: cannot read $HOME/.agent")
        self.assertEqual(
            shown.details, {"log": ["$proof/home/x: $MY_TOKEN", "C.UTF-8 x"], "count": 1}
        )

    def test_short(self) -> None:
        """
        A home directory that is the root of the file system is no secret.
        """
        result = CheckResult("exact", Outcome.FAILED, "see /etc/hosts")
        self.assertEqual(hidden(result, Path("/tmp/p"), {"HOME": "/"}), result)


class ProofTests(ProofTestCase):
    """
    Tests for `ProofRun`.
    """

    def test_cases(self) -> None:
        """
        Each case has an identifier that a text can contain, and the model knows it.
        """
        proof = self.new_proof()
        one, two = proof.new_case("a text"), proof.new_case("my project is {}".format)
        self.assertNotEqual(one.id, two.id)
        self.assertEqual(two.text, f"my project is {two.id}")
        self.assertEqual(proof.cases, [one, two])

    def test_ask(self) -> None:
        """
        A case is a request to the task, and its response is judged.
        """
        proof = self.new_proof()
        case = proof.new_case("a text")
        response = self.successResultOf(Deferred.fromCoroutine(proof.ask(case)))
        self.assertIsNone(proof.problem(case, response))
        self.assertEqual(self.server.calls, ["/kiro/copy-text"])

    def test_repeats(self) -> None:
        """
        A request that no worker could take is repeated after the time that the server names.
        """
        proof = self.new_proof()
        case = proof.new_case("a text")
        self.server.refusals = [{"retry-after": "5"}, {"retry-after": "1"}]
        asking = Deferred.fromCoroutine(proof.ask(case))
        self.clock.advance(5)
        self.assertNoResult(asking)
        self.clock.advance(1)
        self.assertIsNone(proof.problem(case, self.successResultOf(asking)))
        self.assertEqual(proof.repeats, 2)

    def test_refused(self) -> None:
        """
        A request is not repeated if that helps only much later, or not at all, nor for ever.
        """
        proof = self.new_proof()
        for refusals, seconds in (
            ([{}], 0),
            ([{"retry-after": "61"}], 0),
            ([{"retry-after": "1"}] * 4, 1),
        ):
            self.server.refusals = [*refusals]
            asking = Deferred.fromCoroutine(proof.ask(proof.new_case("a text")))
            self.clock.pump([seconds] * 3)
            self.assertEqual(self.successResultOf(asking).code, 503)
            self.assertEqual(self.server.refusals, [])

    def test_spend(self) -> None:
        """
        No more turns of the agent's own service are taken than are allowed.
        """
        proof = self.new_proof("service", ProofOptions(spend=4))
        case = proof.new_case("a text")
        self.successResultOf(Deferred.fromCoroutine(proof.ask(case)))
        self.failureResultOf(Deferred.fromCoroutine(proof.ask(case)), TurnsSpent)
        self.assertEqual(len(self.server.calls), 1)

    def test_spend_repairs(self) -> None:
        """
        Repairs and retries are turns as well; an error counts as the most that it can have taken.
        """
        proof = self.new_proof("service", ProofOptions(spend=7))
        self.server.headers = lambda case: {
            "x-kiroworkers-attempts": "2",
            "x-kiroworkers-repairs": "1",
        }
        self.successResultOf(Deferred.fromCoroutine(proof.ask(proof.new_case("one"))))
        self.assertEqual(proof.spent, 3)
        self.server.answer = lambda case: (502, {"code": "answer_unfit"})
        self.successResultOf(Deferred.fromCoroutine(proof.ask(proof.new_case("two"))))
        self.assertEqual(proof.spent, 7)
        asking = Deferred.fromCoroutine(proof.ask(proof.new_case("three")))
        self.failureResultOf(asking, TurnsSpent)


class TargetTests(SynchronousTestCase):
    """
    Tests for `Target`.
    """

    def kind(self, settings: ModelServerSettings | None, spend: int = 0) -> Model:
        dialect = evolve(load_dialect("llm"), model_server=settings)
        return Target("llm", "llm", dialect, "", ProofOptions(spend=spend)).model_kind

    def test_model_kind(self) -> None:
        """
        The packaged model server answers if it can; then the service, if turns may be spent; then
        a file.
        """
        server, mock = ModelServerSettings({"URL": "$url"}), ModelServerSettings({"F": "$answers"})
        self.assertEqual(self.kind(server), "loopback")
        self.assertEqual(self.kind(server, spend=3), "loopback")
        self.assertEqual(self.kind(mock), "mock")
        self.assertEqual(self.kind(mock, spend=3), "service")
        self.assertEqual(self.kind(None, spend=3), "service")

    def test_none(self) -> None:
        """
        An agent without any model cannot be proven, whether the table is missing or empty.
        """
        for settings in (None, ModelServerSettings()):
            error = self.assertRaises(CannotProve, self.kind, settings)
            self.assertIn("--spend", str(error))
