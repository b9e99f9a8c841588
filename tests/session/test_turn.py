"""
Tests for `kiroworkers.session.turn`, and for how a session runs its turns.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    Event,
    LateOutput,
    NotCleared,
    Notice,
    PromptLost,
    Ready,
    TextChunk,
    TextDiscarded,
    Usage,
)
from kiroworkers.errors import AgentRefused, AgentUnavailable, FailureKind
from kiroworkers.session.session import Reset
from kiroworkers.session.state import SessionState
from kiroworkers.session.turn import Reply, TurnEvent
from tests.memory import MemoryJournal, results_of
from tests.session.scripted import ScriptedSession


def answer(percent: float | None = None, text: str = "fine") -> Answered:
    """
    Return an answer after which so much of the context is filled.
    """
    return Answered(text, "prompt", usage=Usage(0.5, percent))


class ScriptedTestCase(SynchronousTestCase):
    """
    A test with a session that is idle.
    """

    reset = Reset.CLEAR

    def setUp(self) -> None:
        self.begin(reset=self.reset)

    def begin(self, **changes: Any) -> None:
        """
        Start a session with these arguments.
        """
        self.scripted = ScriptedSession(**changes)
        self.session = self.scripted.session
        self.conversation = self.scripted.conversation
        self.report(Ready())

    def report(self, *events: Event, at_prompt: bool | None = None) -> None:
        self.scripted.report(*events, at_prompt=at_prompt)

    def turn(self, event: Answered) -> Reply:
        """
        Run a turn that ends with `event`, and return its reply.
        """
        results = results_of(self.session.ask("prompt"))
        self.report(event, at_prompt=True)
        self.session.end_turn()
        return self.scripted.reply_of(results)

    def assert_state(self, state: SessionState) -> None:
        self.assertIs(self.session.state, state)


class EventTests(ScriptedTestCase):
    """
    Tests for what the caller of a turn is told before its reply.
    """

    def test_told(self) -> None:
        """
        The caller gets text, and learns that it is taken back and what the agent tells; what
        arrives after the reply is told to nobody.
        """
        told: list[TurnEvent] = []
        results = results_of(self.session.ask("prompt", told.append))
        notice = Notice("retry", "attempt 2")
        during: list[Any] = [TextChunk("a"), TextDiscarded(), notice, TextChunk("b")]
        self.report(*during)
        self.report(answer(), notice, at_prompt=True)
        self.assertEqual((told, len(results)), (during, 1))

    def test_late_notice(self) -> None:
        """
        A notice never ends a session, whatever its state.
        """
        notice = Notice("stall", "silent for 60 seconds")
        self.report(notice)
        self.assert_state(SessionState.IDLE)
        self.turn(answer())
        self.report(notice)
        self.assert_state(SessionState.CLEARING)
        self.report(Cleared(), at_prompt=True)
        reply = self.session.ask("prompt")
        results_of(reply)
        reply.cancel()
        self.report(notice, TextDiscarded())
        self.assert_state(SessionState.INTERRUPTING)

    def test_usage(self) -> None:
        """
        The reply tells what the answer cost, also if its text comes from a journal.
        """
        self.assertEqual(self.turn(answer(12.5)).usage, Usage(0.5, 12.5))
        self.begin(journal=MemoryJournal("recorded"))
        reply = self.turn(answer(12.5))
        self.assertEqual(
            (reply.text, reply.source, reply.usage), ("recorded", "journal", Usage(0.5, 12.5))
        )


class ModelTests(ScriptedTestCase):
    """
    Tests for turns that another model answers.
    """

    def test_model(self) -> None:
        """
        The whole turn has the model; the next one has its own.
        """
        self.conversation.selects_models = True
        results_of(self.session.ask("one", model="large"))
        self.report(answer(), at_prompt=True)
        results_of(self.session.ask_again("again"))
        self.report(answer(), at_prompt=True)
        self.session.end_turn()
        self.report(Cleared(), at_prompt=True)
        results_of(self.session.ask("two"))
        asked = [call for call in self.conversation.calls if call != "clear"]
        self.assertEqual(
            asked, [("ask", "one", "large"), ("ask", "again", "large"), ("ask", "two", "")]
        )

    def test_cannot_select(self) -> None:
        """
        An agent that cannot be given a model is not asked, and stays idle.
        """
        with self.assertRaises(AgentUnavailable) as raised:
            self.session.ask("one", model="large")
        self.assertEqual(raised.exception.kind, "model_gone")
        self.assertEqual(self.conversation.calls, [])
        self.assert_state(SessionState.IDLE)


class ContextTests(ScriptedTestCase):
    """
    Tests for sessions whose context is nearly full.
    """

    reset = Reset.NONE

    def test_cleared_in_time(self) -> None:
        """
        A conversation that is kept otherwise is cleared before it is too large.
        """
        self.turn(answer(79.9))
        self.scripted.reactor.advance(0)
        self.assert_state(SessionState.IDLE)
        self.turn(answer(80.0))
        self.assertEqual(self.conversation.calls[-1], "clear")
        self.report(Cleared(), at_prompt=True)
        self.turn(answer(10.0))
        self.assertNotEqual(self.conversation.calls[-1], "clear")

    def test_clear_does_not_help(self) -> None:
        """
        A session that is still full after a clear is renewed.
        """
        for reset in (Reset.NONE, Reset.CLEAR):
            self.begin(reset=reset)
            self.turn(answer(95.0))
            self.report(Cleared(), at_prompt=True)
            self.turn(answer(95.0))
            self.scripted.reactor.pump([0, 0])
            self.assertTrue(self.session.exhausted)
            self.assert_state(SessionState.GONE)

    def test_grows_again(self) -> None:
        """
        A session that fills its context twice is not renewed if it was empty in between.
        """
        self.turn(answer(99.0))
        self.report(Cleared(), at_prompt=True)
        for percent in (10.0, 99.0):
            self.turn(answer(percent))
            self.scripted.reactor.advance(0)
        self.assertFalse(self.session.exhausted)


class ClearTests(ScriptedTestCase):
    """
    Tests for the way from the end of a turn to the next idle session.
    """

    def setUp(self) -> None:
        super().setUp()
        self.conversation.quick_clear = True

    def test_quick(self) -> None:
        """
        A conversation that had prepared another one is cleared at once, without anything
        written and without any wait.
        """
        results = results_of(self.session.ask("prompt"))
        self.report(answer(), at_prompt=True)
        self.scripted.reply_of(results)
        self.session.end_turn()
        # Not within `end_turn`: its caller is not finished.
        self.assertEqual(self.scripted.idle_count, 1)
        self.scripted.reactor.advance(0)
        self.assert_state(SessionState.IDLE)
        self.assertEqual(self.scripted.idle_count, 2)
        self.assertEqual(self.scripted.reactor.getDelayedCalls(), [])

    def test_doubted_turn(self) -> None:
        """
        The conversation is told if the answer was doubted, so that output may still come.
        """
        for doubted in (False, True, False):
            results = results_of(self.session.ask("prompt"))
            self.report(answer(), at_prompt=True)
            self.assertEqual(len(results), 1)
            if doubted:
                results_of(self.session.ask_again("again"))
                self.report(answer(), at_prompt=True)
            self.session.end_turn()
            self.assertIs(self.conversation.turn_may_go_on, doubted)
            self.scripted.reactor.advance(0)
            self.conversation.at_prompt = True

    def test_failed_turn(self) -> None:
        """
        The caller of a failed turn is told before the session takes another, even if the clear
        takes no time.
        """
        order: list[Any] = []
        reply = self.session.ask("prompt")
        reply.addErrback(lambda failure: order.append(failure.type))
        self.scripted.on_idle = lambda: order.append("idle")
        self.report(AgentFailure(FailureKind.AGENT_ERROR, "oh no"), at_prompt=True)
        self.assertEqual(order, [AgentRefused, "idle"])

    def test_asked_as_it_becomes_idle(self) -> None:
        """
        A session that is asked in the moment in which it becomes idle after a quick clear is
        busy, and no timer is left from before.
        """
        self.turn(answer())
        asked: list[Deferred[Reply]] = []
        self.scripted.on_idle = lambda: asked.append(self.session.ask("next"))
        self.scripted.reactor.advance(0)
        self.assert_state(SessionState.BUSY)
        self.scripted.reactor.advance(1000)
        self.assert_state(SessionState.BUSY)
        self.assertEqual(len(asked), 1)

    def test_time_limit(self) -> None:
        """
        A clear has the time of an interrupt, or that of a start if it is as slow.
        """
        for slow, seconds in ((False, 10), (True, 60)):
            self.begin()
            self.conversation.slow_clear = slow
            self.turn(answer())
            self.scripted.reactor.advance(seconds - 0.1)
            self.assert_state(SessionState.CLEARING)
            self.scripted.reactor.pump([0.1, 0])
            self.assertEqual(
                self.scripted.gone, [f"the clear was not confirmed within {seconds} s"]
            )

    def test_answers_a_silence(self) -> None:
        """
        What a conversation wants written after a silence is written, during a turn as well.
        """
        results_of(self.session.ask("prompt"))
        self.conversation.quiet_timeout = 2.0
        self.report()
        self.conversation.late_data = b"\r"
        self.scripted.reactor.advance(2)
        self.assertEqual(self.scripted.typed, ["ask\r", "\r"])


class UnstablePromptTests(ScriptedTestCase):
    """
    Tests for agents that only look as if they were ready for a prompt.
    """

    def test_lost_while_clearing(self) -> None:
        """
        A session whose prompt goes away while it clears is cleared once more when it is back,
        and is not idle before.
        """
        self.turn(answer())
        self.report(PromptLost(), at_prompt=False)
        self.assert_state(SessionState.INTERRUPTING)
        self.report(Ready(), at_prompt=True)
        self.assertEqual(self.conversation.calls[1:], ["clear", "clear"])
        self.assertEqual(self.scripted.idle_count, 1)
        self.report(Cleared(), at_prompt=True)
        self.assertEqual(self.scripted.idle_count, 2)

    def test_lost_as_it_is_cleared(self) -> None:
        """
        A prompt that is gone again when the clear is confirmed makes no idle session.
        """
        self.turn(answer())
        self.report(Cleared(), PromptLost(), at_prompt=False)
        self.assert_state(SessionState.INTERRUPTING)
        self.assertEqual(self.scripted.idle_count, 1)

    def test_not_cleared(self) -> None:
        """
        A clear that is not confirmed is tried once more at a prompt that has stayed, after each
        turn.
        """
        for turn in (1, 2):
            self.turn(answer())
            self.report(NotCleared("late output"), at_prompt=True)
            self.assert_state(SessionState.SETTLING)
            self.scripted.reactor.advance(0.2)
            self.assert_state(SessionState.CLEARING)
            self.report(Cleared(), at_prompt=True)
            self.assert_state(SessionState.IDLE)
            self.assertEqual(self.scripted.idle_count, turn + 1)

    def test_never_cleared(self) -> None:
        """
        A session that does not confirm the second clear either is ended.
        """
        self.turn(answer())
        for _ in range(2):
            self.report(NotCleared("no"), at_prompt=True)
            self.scripted.reactor.pump([0.2, 0])
        [reason] = self.scripted.gone
        self.assertIn("NotCleared", reason)
        self.assertEqual(self.conversation.calls[1:], ["clear", "clear"])

    def test_late_text(self) -> None:
        """
        Text that arrives after the clear, or while it lasts, makes the session clear again.
        """
        self.turn(answer())
        self.report(LateOutput("late"), at_prompt=True)
        self.assert_state(SessionState.CLEARING)
        self.report(Cleared(), at_prompt=True)
        self.assert_state(SessionState.IDLE)
        self.report(LateOutput("later"), at_prompt=True)
        self.assert_state(SessionState.CLEARING)
        self.assertEqual(self.conversation.calls[1:], ["clear"] * 3)
