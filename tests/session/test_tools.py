"""
Tests for `kiroworkers.session.tools`, and for how a session deals with tools.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    Access,
    AgentFailure,
    Answered,
    Cleared,
    NeedsApproval,
    Overflowed,
    Ready,
    TextChunk,
    ToolUsed,
)
from kiroworkers.errors import AgentRefused, AgentUnavailable, FailureKind, OutputTooLong
from kiroworkers.session.state import SessionState
from kiroworkers.session.tool_policy import ToolPolicy
from kiroworkers.session.tools import MAX_DENIALS, TurnTools
from tests.memory import results_of
from tests.session.scripted import ScriptedSession

ANSWER = Answered("fine", "prompt")


class Operator:
    """
    An operator who is asked by sessions, and decides when the test says so.
    """

    def __init__(self) -> None:
        self.open: dict[str, Callable[[bool], None]] = {}

    def ask(self, question: str, on_decision: Callable[[bool], None]) -> Callable[[], None]:
        self.open[question] = on_decision
        return lambda: self.open.pop(question, None) and None

    def decide(self, question: str, allow: bool) -> None:
        self.open.pop(question)(allow)


class TurnToolsTests(SynchronousTestCase):
    """
    Tests for `TurnTools`.
    """

    def setUp(self) -> None:
        self.answers: list[bool] = []
        self.operator = Operator()

    def tools(self, policy: ToolPolicy) -> TurnTools:
        answer = self.answers.append
        return TurnTools("worker1", policy, answer, self.operator.ask, queues=True)

    def test_policies(self) -> None:
        """
        Each policy decides at once, or leaves it to an operator.
        """
        for policy, answers in (
            (ToolPolicy.DENY, [False]),
            (ToolPolicy.ALLOW, [True]),
            (ToolPolicy.ASK, []),
        ):
            self.answers.clear()
            self.tools(policy).decide(NeedsApproval("date"))
            self.assertEqual(self.answers, answers)

    def test_nobody_can_say_yes(self) -> None:
        """
        A question that has no yes is denied, whoever decides.
        """
        for policy in ToolPolicy:
            self.answers.clear()
            self.tools(policy).decide(NeedsApproval("which?", grantable=False))
            self.assertEqual(self.answers, [False])
        self.assertEqual(self.operator.open, {})

    def test_equal_questions(self) -> None:
        """
        Questions in the same words are two if their numbers differ.
        """
        tools = self.tools(ToolPolicy.DENY)
        for number in ("1", "2"):
            tools.decide(NeedsApproval("date", number))
        self.assertEqual(tools.denied, ["date", "date"])

    def test_steps(self) -> None:
        """
        A question that is repeated for each step of a menu is one, and gets the same answer.
        """
        tools = self.tools(ToolPolicy.ASK)
        for _ in range(2):
            tools.decide(NeedsApproval("date"))
        self.operator.decide("date", True)
        for _ in range(2):
            tools.decide(NeedsApproval("date"))
        self.assertEqual((tools.allowed, self.answers), (["date"], [True] * 3))

    def test_in_their_order(self) -> None:
        """
        Of several open questions, operators decide the oldest; the answers keep their order.
        """
        tools = self.tools(ToolPolicy.ASK)
        for number, text in enumerate(("one", "two", "three")):
            tools.decide(NeedsApproval(text, str(number), grantable=text != "two"))
        self.assertEqual(list(self.operator.open), ["one"])
        self.operator.decide("one", True)
        self.assertEqual(list(self.operator.open), ["three"])
        self.operator.decide("three", False)
        self.assertEqual(self.answers, [True, False, False])
        self.assertEqual((tools.allowed, tools.denied), (["one"], ["two", "three"]))

    def test_replaced(self) -> None:
        """
        On a terminal, another question replaces an open one: a decision about the old one must
        not become the answer to the new one.
        """
        tools = self.tools(ToolPolicy.ASK)
        tools.queues = False
        tools.decide(NeedsApproval("date", "1"))
        tools.decide(NeedsApproval("rm -r x", "2"))
        self.assertEqual((list(self.operator.open), tools.denied), (["rm -r x"], ["date"]))
        self.operator.decide("rm -r x", True)
        self.assertEqual((self.answers, tools.allowed), ([True], ["rm -r x"]))

    def test_deny_unanswered(self) -> None:
        """
        All open questions can be denied; no operator decides about them afterwards.
        """
        tools = self.tools(ToolPolicy.ASK)
        for number in "12":
            tools.decide(NeedsApproval("date", number))
        tools.deny_unanswered()
        self.assertEqual(self.answers, [False, False])
        self.assertEqual((self.operator.open, tools.has_open_question), ({}, False))

    def test_without_operators(self) -> None:
        """
        If there is nobody to ask, the use is denied.
        """
        tools = self.tools(ToolPolicy.ASK)
        tools.ask_operator = None
        tools.decide(NeedsApproval("date"))
        self.assertEqual(tools.denied, ["date"])

    def test_permits(self) -> None:
        """
        Only reading is permitted without a question, unless everything is allowed.
        """
        permitted: dict[Access, bool] = {
            "read": True, "write": False, "execute": False, "network": False, "other": False
        }  # fmt: skip
        for access, expected in permitted.items():
            for policy in ToolPolicy:
                tools = self.tools(policy)
                self.assertTrue(tools.permits(ToolUsed("x", access, asked=True)))
                self.assertEqual(
                    tools.permits(ToolUsed("x", access, asked=False)),
                    expected or policy is ToolPolicy.ALLOW,
                )


class SessionToolsTestCase(SynchronousTestCase):
    """
    A test with a session in a turn.
    """

    policy = ToolPolicy.DENY

    def setUp(self) -> None:
        self.operator = Operator()
        self.begin()

    def begin(self) -> None:
        """
        Start a session, and ask it.
        """
        self.scripted = ScriptedSession(tools=self.policy)
        self.session = self.scripted.session
        self.scripted.report(Ready())
        self.reply = self.session.ask("prompt", ask_operator=self.operator.ask)
        self.results = results_of(self.reply)

    def report(self, *events: Any, at_prompt: bool | None = None) -> None:
        self.scripted.report(*events, at_prompt=at_prompt)

    def assert_refused(self, kind: FailureKind, detail: str) -> None:
        """
        Assert that the turn failed with `AgentRefused`.
        """
        [problem] = self.results
        self.assertIsInstance(problem, AgentRefused)
        self.assertEqual((problem.kind, problem.detail), (kind, detail))


class DenyTests(SessionToolsTestCase):
    """
    Tests for a session whose tools are denied.
    """

    def test_equal_questions(self) -> None:
        """
        The reply counts two questions in the same words as two.
        """
        for number in "12":
            self.report(NeedsApproval("date", number))
        self.report(ANSWER, at_prompt=True)
        self.assertEqual(self.scripted.reply_of(self.results).denied, ("date", "date"))

    def test_too_many(self) -> None:
        """
        An agent that asks again and again is stopped: the last question is denied before the
        interrupt, and the session serves on.
        """
        for number in range(MAX_DENIALS + 1):
            self.assertEqual(self.results, [])
            self.report(NeedsApproval("date", str(number)), at_prompt=True)
        self.assert_refused(FailureKind.APPROVAL_DENIED, "date")
        self.scripted.reactor.advance(0.2)
        calls = self.scripted.conversation.calls
        self.assertEqual(calls[-2:], ["deny", "interrupt"])
        self.assertEqual(calls.count("deny"), MAX_DENIALS + 1)
        self.assertIs(self.session.state, SessionState.INTERRUPTING)
        self.report(Ready(), at_prompt=True)
        self.report(Cleared(), at_prompt=True)
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_steps_are_not_too_many(self) -> None:
        """
        The steps through a menu do not count.
        """
        for _ in range(MAX_DENIALS + 5):
            self.report(NeedsApproval("date"))
        self.assertEqual(self.results, [])

    def test_reported_as_an_error(self) -> None:
        """
        A turn that fails after a denial failed because of it, as far as it is one request's
        failure.
        """
        for kind, expected in (
            (FailureKind.AGENT_ERROR, FailureKind.APPROVAL_DENIED),
            (FailureKind.REFUSAL, FailureKind.APPROVAL_DENIED),
            (FailureKind.CANCELLED, FailureKind.APPROVAL_DENIED),
            (FailureKind.MAX_TOKENS, FailureKind.MAX_TOKENS),
            (FailureKind.SUSPENDED, FailureKind.SUSPENDED),
            (FailureKind.NETWORK, FailureKind.NETWORK),
        ):
            self.begin()
            self.report(NeedsApproval("date"))
            self.report(AgentFailure(kind, "oh no"), at_prompt=True)
            [problem] = self.results
            self.assertIsInstance(problem, AgentRefused | AgentUnavailable)
            self.assertEqual(problem.kind, expected)

    def test_error_without_a_denial(self) -> None:
        """
        Without a denial, an error is the agent's.
        """
        self.report(AgentFailure(FailureKind.AGENT_ERROR, "oh no"), at_prompt=True)
        self.assert_refused(FailureKind.AGENT_ERROR, "oh no")

    def test_unasked_write(self) -> None:
        """
        A turn in which the agent wrote without asking fails, and its session is not used again;
        it did not fail to start.
        """
        for access in ("write", "execute", "network", "other"):
            self.begin()
            self.report(TextChunk("x"), ToolUsed("rm -r x", access, asked=False))
            detail = "it used a tool without asking: rm -r x"
            self.assert_refused(FailureKind.TOOL_NOT_PERMITTED, detail)
            self.assertIs(self.session.state, SessionState.GONE)
            self.assertEqual(self.scripted.gone, ["the agent used a tool without asking: rm -r x"])
            self.assertTrue(self.session.aborted)

    def test_unasked_write_after_the_turn(self) -> None:
        """
        A session in which the agent wrote without asking is never used again, whenever it is
        known.
        """
        late = ToolUsed("rm -r x", "write", asked=False)
        for steps in ([], [Cleared()]):
            self.begin()
            self.report(ANSWER, at_prompt=True)
            self.session.end_turn()
            for event in steps:
                self.report(event, at_prompt=True)
            self.report(late)
            self.assertEqual(self.scripted.gone, ["the agent used a tool without asking: rm -r x"])

    def test_unasked_write_before_the_decision(self) -> None:
        """
        An agent that wrote without asking is not asked again in the same conversation.
        """
        self.report(ANSWER, ToolUsed("rm -r x", "write", asked=False), at_prompt=True)
        self.assertEqual(self.scripted.reply_of(self.results).text, "fine")
        self.assertEqual(self.scripted.gone, ["the agent used a tool without asking: rm -r x"])

    def test_unasked_read(self) -> None:
        """
        Reading without asking is counted and logged, with a warning if it was not inside the
        folder.
        """
        with capturedLogs() as events:
            self.report(ToolUsed("Read a.txt", "read", asked=False, inside=True))
            self.report(ToolUsed("Read /etc/passwd", "read", asked=False))
            self.report(ToolUsed("date", "execute", asked=True))
        used = [event for event in events if "tool used" in str(formatEvent(event))]
        self.assertEqual(
            [event["log_level"] for event in used],
            [LogLevel.info, LogLevel.warn, LogLevel.info],
        )
        self.assertEqual(
            formatEvent(used[0]), "worker1: tool used without asking: Read a.txt (read)"
        )
        self.assertEqual(formatEvent(used[2]), "worker1: tool used: date (execute)")
        self.report(ANSWER, at_prompt=True)
        reply = self.scripted.reply_of(self.results)
        self.assertEqual(reply.unasked, ("Read a.txt", "Read /etc/passwd"))

    def test_unasked_read_afterwards(self) -> None:
        """
        A read that is reported after its turn changes nothing.
        """
        late = ToolUsed("Read a.txt", "read", asked=False, inside=True)
        self.report(ANSWER, late, at_prompt=True)
        self.session.end_turn()
        self.report(late)
        self.report(Cleared(), late, at_prompt=True)
        self.assertIs(self.session.state, SessionState.IDLE)


class AllowTests(SessionToolsTestCase):
    """
    Tests for a session whose tools are allowed.
    """

    policy = ToolPolicy.ALLOW

    def test_unasked(self) -> None:
        """
        Tools that are used without asking are only counted.
        """
        self.report(ToolUsed("rm -r x", "write", asked=False))
        self.report(ANSWER, at_prompt=True)
        self.assertEqual(self.scripted.reply_of(self.results).unasked, ("rm -r x",))


class AskTests(SessionToolsTestCase):
    """
    Tests for a session whose tools operators decide about.
    """

    policy = ToolPolicy.ASK

    def ask(self) -> None:
        """
        Let the agent ask at what looks like its prompt.
        """
        self.report(NeedsApproval("date"), at_prompt=True)

    def interrupt(self) -> None:
        """
        Let the time pass after which a denial is taken to be read.
        """
        self.scripted.reactor.pump([0.2, 0])

    def calls(self) -> list[Any]:
        """
        Return the calls of the conversation after that of `ask`.
        """
        return self.scripted.conversation.calls[1:]

    def test_decided(self) -> None:
        """
        Nothing is typed until an operator has decided; then the answer is.
        """
        for allow, call in ((True, "allow"), (False, "deny")):
            self.begin()
            self.ask()
            self.assertEqual(self.calls(), [])
            self.operator.decide("date", allow)
            self.assertEqual(self.calls(), [call])
            self.assertEqual(self.scripted.typed[-1], f"{call}\r")
            self.report(ANSWER, at_prompt=True)
            reply = self.scripted.reply_of(self.results)
            self.assertEqual((reply.allowed, reply.denied).index(("date",)), 0 if allow else 1)

    def test_cancelled(self) -> None:
        """
        A turn that is cancelled while its question is open is denied before anything else is
        typed: at the question, every other line would be taken as its answer or as a message.
        The interrupt follows when the denial was read.
        """
        self.ask()
        self.reply.cancel()
        self.assertIsInstance(self.results[0], CancelledError)
        self.assertIs(self.session.state, SessionState.INTERRUPTING)
        self.assertEqual((self.calls(), self.operator.open), (["deny"], {}))
        self.interrupt()
        self.assertEqual(self.calls(), ["deny", "interrupt"])
        self.report(Ready(), at_prompt=True)
        self.report(Cleared(), at_prompt=True)
        self.assertEqual(self.calls(), ["deny", "interrupt", "clear"])
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_steps_of_the_denial(self) -> None:
        """
        A denial that takes several keys is typed to its end before the interrupt, and one that
        takes too long ends the session.
        """
        self.ask()
        self.reply.cancel()
        for _ in range(2):
            self.scripted.reactor.advance(0.1)
            self.ask()
        self.assertEqual(self.calls(), ["deny"] * 3)
        self.interrupt()
        self.assertEqual(self.calls()[3:], ["interrupt"])
        for number in range(100):
            self.scripted.reactor.advance(0.1)
            self.report(NeedsApproval("date", str(number)))
        self.assertEqual(self.scripted.gone, ["the prompt did not come back within 10 s"])

    def test_ends_with_the_denial(self) -> None:
        """
        A cancelled turn that ends because of the denial needs no interrupt.
        """
        for end in (ANSWER, AgentFailure(FailureKind.AGENT_ERROR, "oh no")):
            self.begin()
            self.ask()
            self.reply.cancel()
            self.report(end, at_prompt=True)
            self.assertIs(self.session.state, SessionState.CLEARING)
            self.interrupt()
            self.assertEqual(self.calls(), ["deny", "clear"])

    def test_account_fails_with_the_denial(self) -> None:
        """
        A failure of the account is known though nobody waits for the turn any more.
        """
        for before in ((), (Ready(),)):
            self.begin()
            self.scripted.conversation.interrupt_can_race = True
            self.ask()
            self.reply.cancel()
            for event in before:
                self.report(event)
            failure = AgentFailure(FailureKind.SUSPENDED, "suspended")
            self.scripted.conversation.failure = failure
            self.report(failure, at_prompt=True)
            self.assertEqual(
                self.scripted.gone, ["suspended: suspended (the agent's account cannot answer)"]
            )
            self.assertEqual(self.session.failure, failure)

    def test_overflow(self) -> None:
        """
        A turn that prints too much while its question is open is denied first as well.
        """
        self.ask()
        self.report(Overflowed(1000))
        self.assertIsInstance(self.results[0], OutputTooLong)
        self.interrupt()
        self.assertEqual(self.calls(), ["deny", "interrupt"])

    def test_asked_as_it_is_cancelled(self) -> None:
        """
        A question that arrives with the cancellation, or after it, is denied.
        """
        self.reply.cancel()
        self.ask()
        self.interrupt()
        self.assertEqual(self.calls(), ["interrupt", "deny", "interrupt"])
        self.report(Ready(), at_prompt=True)
        self.assertIs(self.session.state, SessionState.CLEARING)

    def test_ended_by_itself(self) -> None:
        """
        An agent that does not wait for the decision has been denied, and no operator decides
        any more.
        """
        self.ask()
        self.report(ANSWER, at_prompt=True)
        self.assertEqual((self.calls(), self.operator.open), ([], {}))
        self.assertEqual(self.scripted.reply_of(self.results).denied, ("date",))
        # Asking again, and cancelling that, denies nothing more.
        again = self.session.ask_again("more")
        results_of(again)
        again.cancel()
        self.assertEqual(self.calls()[1:], ["interrupt"])

    def test_dies(self) -> None:
        """
        No operator decides about a session that has ended.
        """
        self.ask()
        self.scripted.reactor.programs[0].process.end(1)
        self.scripted.reactor.pump([0, 0])
        self.assertEqual((len(self.results), self.operator.open), (1, {}))
