"""
Tests for `kiroworkers.session.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from attrs import astuple
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.editor import LineEditor
from kiroworkers.conversations import Cleared, TextChunk
from kiroworkers.errors import (
    AgentRefused,
    AgentUnavailable,
    OutputTooLong,
    PromptTooLarge,
    SessionLost,
)
from kiroworkers.process.agent_process import AgentProcess
from kiroworkers.session.session import (
    TABLE,
    CannotAskAgain,
    Reset,
    Session,
)
from kiroworkers.session.state import SessionState
from kiroworkers.session.tool_policy import ToolPolicy
from kiroworkers.session.turn import Reply, TurnEvent
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import MemoryAcp, MemoryJournal, MemoryLine, new_session_in, results_of, why


class SessionTestCase(SynchronousTestCase):
    """
    Start a session in memory, whose program answers when the test makes it.
    """

    program: Callable[[], MemoryKiro] = staticmethod(lambda: MemoryKiro(lambda prompt: None))

    def setUp(self) -> None:
        self.reactor = MemoryReactor(self.program)
        self.idle_count = 0
        self.gone: list[str] = []
        self.session = self.make()
        self.session.start()
        self.kiro = self.reactor.programs[-1]

    #: Arguments of the session that differ from the usual ones.
    changes: Mapping[str, Any] = MappingProxyType({})

    def make(self) -> Session:
        def count() -> None:
            self.idle_count += 1

        new_session = new_session_in(self.reactor, **self.changes)
        return new_session("worker1", count, self.gone.append)

    def settle(self, seconds: float = 0) -> None:
        """
        Advance the clock by `seconds`, and run what is due before and after.
        """
        self.reactor.pump([0, seconds, 0])

    def ask(self, prompt: str) -> Deferred[Reply]:
        """
        Ask the session, and end the turn after its reply.
        """

        def end_turn(result: Any) -> Any:
            self.session.end_turn()
            return result

        return self.session.ask(prompt).addBoth(end_turn)

    def signals(self) -> list[str]:
        return self.kiro.process.signals


class StartTests(SessionTestCase):
    """
    Tests for a session's start.
    """

    def test_ready(self) -> None:
        """
        A session is idle when its prompt is shown, not before.
        """
        self.assertIs(self.session.state, SessionState.STARTING)
        self.settle()
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.idle_count, 1)

    def test_too_slow(self) -> None:
        """
        A session that shows no prompt in time is ended, and the reason quotes
        what it showed instead.
        """
        self.kiro.mute = True
        self.settle(59)
        self.assertEqual(self.signals(), [])
        self.settle(1)
        self.assertEqual(self.signals()[:1], ["TERM"])
        self.settle()
        [reason] = self.gone
        self.assertIn("no prompt within 60 s", reason)
        self.assertIn("Model: auto", reason)

    def test_cannot_start(self) -> None:
        """
        A session whose process cannot be started is gone.
        """
        self.reactor.refuse = OSError("no more processes")
        session = self.make()
        with self.assertRaises(OSError):
            session.start()
        self.assertIs(session.state, SessionState.GONE)

    def test_slow_launch(self) -> None:
        """
        A session whose process starts later is starting until then.
        """
        launching, session = self.launch_slowly()
        self.assertIs(session.state, SessionState.STARTING)
        self.assertIsNone(session.pid)
        launching.callback(None)
        self.settle()
        self.assertIs(session.state, SessionState.IDLE)
        self.assertIsNotNone(session.pid)

    def test_slow_launch_fails(self) -> None:
        """
        A session whose process cannot be started later is gone for that reason.
        """
        launching, session = self.launch_slowly()
        launching.errback(OSError("kiro-cli is not on PATH"))
        self.assertIs(session.state, SessionState.GONE)
        self.assertEqual(self.gone, ["could not start: kiro-cli is not on PATH"])

    def test_stopped_before_its_launch(self) -> None:
        """
        A session that is stopped before its process has started starts none.
        """
        _, session = self.launch_slowly()
        session.stop(why("the test is over"))
        self.assertIs(session.state, SessionState.GONE)
        self.assertEqual(self.gone, ["the test is over"])
        self.settle(100)
        self.assertEqual(len(self.reactor.programs), 1)

    def launch_slowly(self) -> tuple[Deferred[None], Session]:
        """
        Start a session whose process starts when the Deferred fires.
        """
        launching: Deferred[None] = Deferred()
        session = self.make()
        launch = session._launch

        def launch_later(process: AgentProcess) -> Deferred[None]:
            return launching.addCallback(lambda _: launch(process))

        self.patch(session, "_launch", launch_later)
        session.start()
        return launching, session

    def test_exits_at_once(self) -> None:
        """
        A session that exits before its prompt is gone, and the reason quotes its
        last line.
        """
        self.kiro.mute = True
        self.settle()
        self.kiro.print("No such file\n")
        self.settle()
        self.kiro.process.end(status=1)
        self.settle()
        self.assertIs(self.session.state, SessionState.GONE)
        self.assertEqual(self.gone, ["exit status 1, after 'No such file'"])

    def test_exits_with_a_reason(self) -> None:
        """
        A session that reports a failure and exits is gone for that reason.
        """
        self.kiro.mute = True
        self.settle()
        self.kiro.print("You are not logged in, please log in with kiro-cli login\n")
        self.settle()
        self.kiro.process.end(status=1)
        self.settle()
        [reason] = self.gone
        self.assertEqual(
            reason,
            "login_required: You are not logged in, please log in with kiro-cli login "
            "(exit status 1)",
        )

    def test_waits_for_a_login(self) -> None:
        """
        A session that asks for a login instead of showing a prompt is ended at
        once, for that reason, and nothing is typed.
        """
        self.kiro.mute = True
        self.settle()
        self.kiro.print("? Login now? ›\n")
        self.settle()
        self.assertEqual(self.signals()[:1], ["TERM"])
        self.assertEqual(self.gone, ["login_required: ? Login now? › (the agent cannot start)"])


class TurnTests(SessionTestCase):
    """
    Tests for turns that end with an answer, fail or are cancelled.
    """

    def setUp(self) -> None:
        super().setUp()
        self.settle()

    def test_answer(self) -> None:
        """
        A turn's answer is delivered at once, and its conversation is kept open; the session
        is idle again when the turn was ended and the conversation is cleared.
        """
        reply = self.session.ask("hello")
        states: list[SessionState] = []

        def record(reply: Reply) -> Reply:
            states.append(self.session.state)
            return reply

        results = results_of(reply.addCallback(record))
        self.settle()
        self.assertIs(self.session.state, SessionState.BUSY)
        self.kiro.say("world")
        self.settle()
        self.assertIn("world", results[0].text)
        self.assertEqual(states, [SessionState.ANSWERED])
        self.assertEqual((self.session.busy, self.session.answers), (True, 0))
        self.assertEqual(self.kiro.typed, ["hello"])
        self.session.end_turn()
        self.assertEqual((self.session.busy, self.session.answers), (False, 1))
        self.assertIs(self.session.state, SessionState.CLEARING)
        self.session.end_turn()
        self.settle()
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.kiro.typed, ["hello", "/clear", "y"])
        self.assertEqual(self.idle_count, 2)

    def test_approval_is_denied(self) -> None:
        """
        A request to use a tool is denied, and the turn goes on.
        """
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.ask_approval()
        self.settle()
        [reply] = results
        self.assertIn("denied", reply.text)
        self.assertEqual(len(reply.denied), 1)
        self.assertIn("Allow this action?", reply.denied[0])
        self.assertEqual(reply.allowed, ())
        self.assertEqual(self.kiro.typed[:2], ["hello", "n"])

    def test_cancelled(self) -> None:
        """
        A turn that is cancelled is interrupted once; the session is idle again
        when its prompt has come back and stayed, and the conversation is cleared.
        """
        reply = self.ask("hello")
        results = results_of(reply)
        self.settle()
        reply.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.assertIs(self.session.state, SessionState.INTERRUPTING)
        self.settle()
        self.assertIs(self.session.state, SessionState.SETTLING)
        self.assertEqual(self.idle_count, 1)
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.kiro.typed, ["hello", "/clear", "y"])
        self.assertEqual(self.idle_count, 2)

    def test_late_answer_is_discarded(self) -> None:
        """
        The late answer of a cancelled turn is not the answer of the next one.
        """
        self.kiro.interruptible = False
        reply = self.ask("first")
        results_of(reply)
        self.settle()
        reply.cancel()
        self.settle(5)
        self.kiro.say("late answer to the first")
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)
        results = results_of(self.ask("second"))
        self.settle()
        self.kiro.say("answer to the second")
        self.settle()
        self.assertNotIn("late", results[0].text)

    def test_crossed_interrupt(self) -> None:
        """
        When the answer and the interrupt cross, the interrupt is read at the
        prompt; nothing is typed until the prompt it draws has stayed.
        """
        reply = self.ask("hello")
        results_of(reply)
        self.settle()
        self.kiro.say("done")
        reply.cancel()
        self.settle()
        self.assertIs(self.session.state, SessionState.SETTLING)
        self.assertEqual(self.kiro.typed, ["hello"])
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_prompt_does_not_come_back(self) -> None:
        """
        A session that ignores the interrupt is terminated, and killed if it
        ignores that, too.
        """
        self.kiro.interruptible = False
        self.kiro.obeys_sigterm = False
        reply = self.ask("hello")
        results_of(reply)
        self.settle()
        reply.cancel()
        self.settle(10)
        self.assertEqual(self.signals(), ["TERM"])
        self.assertIs(self.session.state, SessionState.STOPPING)
        self.settle(5)
        self.assertEqual(self.signals()[:2], ["TERM", "KILL"])
        self.assertEqual(self.gone, ["the prompt did not come back within 10 s"])

    def test_too_much_output(self) -> None:
        """
        A turn that prints too much fails and is interrupted; the session lives on.
        """
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.print("y" * 100_001)
        self.settle()
        self.assertEqual(repr(results), repr([OutputTooLong(100_000)]))
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_unconfirmed_clear(self) -> None:
        """
        A session that does not confirm its clear, nor the second attempt, is not used again.
        """
        self.kiro.confirms_clear = False
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.say("world")
        self.settle()
        self.assertIn("world", results[0].text)
        self.settle(3)
        self.assertIs(self.session.state, SessionState.SETTLING)
        self.settle(0.2)
        self.assertEqual(self.kiro.typed, ["hello", "/clear", "y", "/clear", "y"])
        self.settle(3)
        self.assertEqual(self.idle_count, 1)
        self.assertIs(self.session.state, SessionState.GONE)
        self.assertIn("Not now.", self.gone[0])

    def test_failure(self) -> None:
        """
        A failure that the agent reports fails the turn, with its kind and the time
        to wait, and is logged; the session is cleared and serves again.
        """
        detail = "Too many requests, please wait 30 seconds before trying again"
        results = results_of(self.ask("x"))
        self.settle()
        self.kiro.print(f"{classic.SPINNER_GONE}{detail}\n\n")
        self.kiro.show_prompt()
        with capturedLogs() as events:
            self.settle()
        line = str(formatEvent(events[0]))
        self.assertIn("worker1: turn failed: throttled: Too many requests", line)
        [problem] = results
        self.assertIsInstance(problem, AgentUnavailable)
        self.assertEqual(astuple(problem), ("throttled", detail, 30))
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_failure_of_the_prompt(self) -> None:
        """
        A conversation that is too large is the request's failure, not the agent's; the log has
        only its kind, because the rest may quote the client.
        """
        events = self.enterContext(capturedLogs())
        results = results_of(self.ask("x"))
        self.settle()
        detail = "Your conversation is too large to continue"
        self.kiro.print(f"{classic.SPINNER_GONE}{detail}\n")
        self.kiro.show_prompt()
        self.settle()
        [problem] = results
        self.assertIsInstance(problem, AgentRefused)
        self.assertEqual(astuple(problem), ("context_full", detail))
        lines = [str(formatEvent(event)) for event in events]
        self.assertIn("worker1: turn failed: context_full", lines)
        self.assertNotIn("too large", "".join(lines))

    def test_failure_with_a_menu(self) -> None:
        """
        A failure that leaves a menu fails the turn without waiting for a prompt;
        nothing is chosen, and the turn is interrupted.
        """
        results = results_of(self.ask("x"))
        self.settle()
        self.kiro.print("The model you've selected is temporarily unavailable.\n❯ other\n")
        self.settle(0.2)
        [problem] = results
        self.assertIsInstance(problem, AgentUnavailable)
        self.assertEqual(problem.kind, "model_gone")
        self.assertEqual(self.kiro.typed, ["x", "/clear", "y"])
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_dies_in_a_turn(self) -> None:
        """
        A session that exits during a turn fails it, and the reason quotes the end of what it
        printed in this turn, without control characters.
        """
        self.answer_one("secret of another client")
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.print("Traceback\x9b2J\n  ValueError: x\n")
        self.settle()
        self.kiro.process.end(status=1)
        self.settle()
        [reason] = self.gone
        self.assertEqual(repr(results), repr([SessionLost(reason, cause="exit status 1")]))
        self.assertTrue(reason.startswith("exit status 1, after '"), reason)
        self.assertTrue(reason.endswith("Traceback\\x9b2J\\n  ValueError: x'"), reason)
        self.assertNotIn("secret", reason)

    def test_reason_is_bounded(self) -> None:
        """
        The reason for an end is short, whatever the session printed.
        """
        self.ask("hello").addErrback(lambda _: None)
        self.settle()
        self.kiro.print("\u202e\x07 \n" * 60_000)
        self.settle()
        self.kiro.process.end(status=1)
        self.settle()
        self.assertLess(len(self.gone[0]), 2001)
        self.assertTrue(self.gone[0].isprintable())

    def test_dies_while_idle(self) -> None:
        """
        A session that exits between two turns does not quote them.
        """
        self.answer_one("secret of a client")
        self.kiro.process.end(signal=9)
        self.settle()
        self.assertEqual(self.gone, ["killed by SIGKILL"])

    def answer_one(self, text: str) -> None:
        """
        Have one turn answered with `text`.
        """
        self.ask("another prompt")
        self.settle()
        self.kiro.say(text)
        self.settle()
        self.settle()

    def test_ask_while_busy(self) -> None:
        """
        A session that is not idle cannot be asked.
        """
        self.session.ask("hello").addErrback(lambda _: None)
        with self.assertRaises(AssertionError):
            self.session.ask("again")

    def test_prompt_lost(self) -> None:
        """
        An idle session whose prompt goes away is cleared before it serves again.
        """
        self.kiro.process.deliver(b"\x1b[?2004l\r\nnews\r\n")
        self.settle()
        self.assertIs(self.session.state, SessionState.INTERRUPTING)
        self.kiro.show_prompt()
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.kiro.typed, ["/clear", "y"])

    def test_unexpected_event(self) -> None:
        """
        A session that does what it should not be able to can no longer be trusted, and is
        ended.
        """
        results_of(self.ask("hello"))
        self.settle()
        self.session._handle_event(Cleared())
        self.settle()
        self.assertIs(self.session.state, SessionState.GONE)
        self.assertIn("unexpected event while busy", self.gone[0])

    def test_prompt_drawn_twice(self) -> None:
        """
        A session that draws its prompt once more as its clear is typed is cleared again, when
        the prompt has stayed.
        """
        results_of(self.ask("hello"))
        self.settle()
        self.kiro.say("done")
        self.kiro.lose_prompt()
        self.settle()
        self.settle(0.2)
        self.settle()
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.gone, [])

    def test_internal_error(self) -> None:
        """
        An internal error while output is read ends the session, not the server.
        """
        results = results_of(self.ask("hello"))

        def fail(event: object) -> None:
            raise ZeroDivisionError

        self.patch(self.session, "_handle_event", fail)
        self.settle()
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(self.gone, ["internal error while reading its output"])
        self.assertIsInstance(results[0], SessionLost)


class AskAgainTests(SessionTestCase):
    """
    Tests for replies after which the agent is asked again in the same conversation.
    """

    def setUp(self) -> None:
        super().setUp()
        self.settle()
        self.events: list[TurnEvent] = []

    def begin(self) -> list[Any]:
        results = results_of(self.session.ask("a", self.events.append))
        self.settle()
        return results

    def say(self, text: str) -> None:
        self.kiro.say(text)
        self.settle(0.3)

    def test_same_conversation(self) -> None:
        """
        The agent is asked again before the conversation is cleared; both are one turn.
        """
        results = self.begin()
        self.settle(5)
        since = self.session.since
        self.say("bad")
        self.assertEqual((len(results), self.session.state), (1, SessionState.ANSWERED))
        again = results_of(self.session.ask_again("again, please"))
        self.settle()
        self.assertIs(self.session.state, SessionState.BUSY)
        self.say("good")
        [reply] = again
        self.assertEqual(reply.text, "good")
        self.session.end_turn()
        self.settle()
        self.assertEqual(self.kiro.typed[1].partition(",")[0], "again")
        self.assertEqual(self.kiro.typed[2], "/clear")
        self.assertEqual((self.session.turns, self.session.answers), (1, 1))
        self.assertGreater(self.session.since, since)

    def test_turn_has_one_beginning(self) -> None:
        """
        Asking again does not make the turn look younger.
        """
        self.begin()
        since = self.session.since
        self.settle(5)
        self.say("bad")
        results_of(self.session.ask_again("again, please"))
        self.assertEqual(self.session.since, since)

    def test_cancelled(self) -> None:
        """
        A second question that is cancelled is interrupted like any turn.
        """
        self.begin()
        self.say("bad")
        again = results_of(reply := self.session.ask_again("again, please"))
        self.settle()
        reply.cancel()
        self.settle(0.5)
        self.assertIsInstance(again[0], CancelledError)
        self.settle()
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_empty_answer(self) -> None:
        """
        A turn without text may not have begun, so nothing more is typed into it.
        """
        self.begin()
        self.kiro.print(classic.SPINNER_GONE + " \n")
        self.kiro.show_prompt()
        self.settle()
        with self.assertRaises(CannotAskAgain):
            self.session.ask_again("again, please")
        self.session.end_turn()
        self.settle()
        self.assertEqual(self.kiro.typed[:2], ["a", "/clear"])

    def test_turn_is_over(self) -> None:
        """
        Nothing is typed into a turn that has ended or whose session is being stopped.
        """
        self.begin()
        self.say("bad")
        self.session.stop(why("because"))
        with self.assertRaises(CannotAskAgain):
            self.session.ask_again("again, please")
        self.session.end_turn()
        self.settle()
        self.assertEqual(self.gone, ["because"])

    def test_dies_while_the_caller_decides(self) -> None:
        """
        A session that exits between the reply and the decision is gone, and the turn is
        over.
        """
        self.begin()
        self.say("bad")
        self.kiro.process.end(signal=9)
        self.settle()
        self.assertEqual((self.gone, self.session.busy), (["killed by SIGKILL"], False))
        with self.assertRaises(CannotAskAgain):
            self.session.ask_again("again, please")
        self.session.end_turn()
        self.assertEqual(self.session.answers, 0)

    def test_cancelled_by_on_event(self) -> None:
        """
        The callback for events may cancel the turn, even if more was read already.
        """
        events: list[TurnEvent] = []

        def cancel(event: TurnEvent) -> None:
            events.append(event)
            reply.cancel()

        results = results_of(reply := self.session.ask("a", cancel))
        self.settle()
        self.kiro.print(classic.SPINNER_GONE + classic.answer("one\ntwo\nthree"))
        self.settle(0.5)
        self.assertIsInstance(results[0], CancelledError)
        self.assertEqual(len(events), 1)
        self.settle()
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_streamed(self) -> None:
        """
        The lines of an answer are passed on as they are printed.
        """
        self.begin()
        self.kiro.print(classic.SPINNER_GONE + classic.answer("good\nand more\nand").rstrip())
        self.settle()
        text = "".join(event.text for event in self.events if isinstance(event, TextChunk))
        self.assertEqual(text.split(), ["good", "and", "more"])


class LateOutputTests(SessionTestCase):
    """
    Tests for output that arrives after the end of its turn, without a reset.
    """

    program = staticmethod(MemoryAcp)
    changes = MappingProxyType({"dialect": "acp", "reset": Reset.NONE})
    kiro: MemoryAcp

    def setUp(self) -> None:
        super().setUp()
        self.settle()
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 1))

    def turn(self, text: str) -> Reply:
        """
        Run a turn in which the agent answers `text`, and return the reply.
        """
        results = results_of(self.session.ask("a"))
        self.settle()
        self.kiro.chunk(text)
        self.kiro.end_turn()
        self.settle()
        [reply] = results
        assert isinstance(reply, Reply)
        return reply

    def assert_ends(self, state: SessionState, session: int) -> None:
        """
        Assert that the turn ends in `state`, with so many sessions of the protocol so far.
        """
        self.session.end_turn()
        self.settle(0.3)
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (state, session))

    def test_kept(self) -> None:
        """
        A conversation is used again if no late output arrives for a moment after its turn.
        """
        reply = self.turn("good")
        self.assertEqual((reply.text, reply.more_may_follow), ("good", True))
        self.session.end_turn()
        self.assertIs(self.session.state, SessionState.CLEARING)
        self.assertFalse(self.session.busy)
        self.settle(0.3)
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 1))

    def test_late_while_waiting(self) -> None:
        """
        Output that arrives shortly after a turn ends the conversation.
        """
        self.turn("good")
        self.session.end_turn()
        self.kiro.chunk("more")
        self.settle()
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 2))

    def test_late_while_idle(self) -> None:
        """
        Output that arrives while the session is idle ends the conversation.
        """
        self.turn("good")
        self.assert_ends(SessionState.IDLE, 1)
        self.kiro.chunk("more")
        self.settle()
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 2))

    def test_read_on(self) -> None:
        """
        A caller that reads on gets the answer with its late output; then the conversation
        ends.
        """
        self.turn("go")
        results = results_of(self.session.read_on())
        self.assertIs(self.session.state, SessionState.BUSY)
        self.kiro.chunk("od")
        self.settle()
        [reply] = results
        self.assertEqual((reply.text, reply.more_may_follow), ("good", True))
        self.assert_ends(SessionState.IDLE, 2)

    def test_nothing_follows(self) -> None:
        """
        Without late output, a caller that reads on gets the same answer after a moment, and
        may ask again; the conversation ends.
        """
        self.turn("bad")
        results = results_of(self.session.read_on())
        self.settle(0.2)
        self.assertEqual(results, [])
        self.settle(0.2)
        [reply] = results
        self.assertEqual((reply.text, reply.more_may_follow), ("bad", False))
        results = results_of(self.session.ask_again("again, please"))
        self.settle()
        self.assertEqual(self.kiro.typed, ["a", "again, please"])
        self.kiro.chunk("good")
        self.kiro.end_turn()
        self.settle()
        self.assertEqual(results[0].text, "good")
        self.assert_ends(SessionState.IDLE, 2)

    def test_late_while_the_caller_decides(self) -> None:
        """
        Output that arrives between the reply and the decision is not lost.
        """
        self.turn("go")
        self.kiro.chunk("o")
        self.settle()
        self.assertIs(self.session.state, SessionState.ANSWERED)
        results = results_of(self.session.read_on())
        self.kiro.chunk("d")
        self.settle()
        self.assertEqual(results[0].text, "good")
        self.assert_ends(SessionState.IDLE, 2)

    def test_cancelled_while_reading_on(self) -> None:
        """
        A caller may stop waiting for late output; the conversation ends.
        """
        self.turn("bad")
        results = results_of(reply := self.session.read_on())
        reply.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.settle(0.5)
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 2))

    def test_dies_while_reading_on(self) -> None:
        """
        A session that exits while its caller reads on fails the turn.
        """
        self.turn("bad")
        results = results_of(self.session.read_on())
        self.kiro.process.end(signal=9)
        self.settle()
        self.assertIsInstance(results[0], SessionLost)


class TableTests(SynchronousTestCase):
    """
    Tests for the table of the state machine.
    """

    def test_complete(self) -> None:
        """
        Every state is in the table, can be reached, and leads to the end.
        """
        self.assertEqual([*TABLE], [*SessionState])
        following = {
            state: {row.next_state for rows in triggers.values() for row in rows} - {None}
            for state, triggers in TABLE.items()
        }
        reached = {SessionState.STARTING}.union(*following.values())
        self.assertEqual(reached, set(SessionState))
        for state in SessionState:
            if state is not SessionState.GONE:
                self.assertIn(SessionState.GONE, following[state])

    def test_no_row_is_hidden(self) -> None:
        """
        Only the last row of a trigger has no condition, so every row can be taken.
        """
        for triggers in TABLE.values():
            for rows in triggers.values():
                self.assertTrue(all(row.condition is not None for row in rows[:-1]))


class StopTests(SessionTestCase):
    """
    Tests for ending a session.
    """

    def test_stop(self) -> None:
        """
        A stopped session is terminated once, and is gone when it has exited.
        """
        self.settle()
        self.session.stop(why("because"))
        self.session.stop(why("again"))
        self.settle()
        self.assertEqual(self.gone, ["because"])
        self.assertEqual(self.signals(), ["TERM"])
        self.assertEqual(self.reactor.running, set())
        self.settle(100)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_in_a_turn(self) -> None:
        """
        Stopping a session fails its turn.
        """
        self.settle()
        results = results_of(self.ask("hello"))
        self.settle()
        self.session.stop(why("because"))
        self.settle()
        self.assertEqual(repr(results), repr([SessionLost("because", cause="because")]))


class ReadTests(SessionTestCase):
    """
    Tests for several events in one read.
    """

    def test_prompt_that_goes_at_once(self) -> None:
        """
        A prompt that came and went in one read does not make the session idle.
        """
        self.settle()
        drawn = LineEditor(classic.prompt()).open()
        self.kiro.process.deliver(b"\x1b[?2004l\r\n" + drawn + b"\x1b[?2004l\r\n")
        self.settle()
        self.assertIs(self.session.state, SessionState.INTERRUPTING)
        self.assertEqual(self.idle_count, 1)


class AllowTests(SessionTestCase):
    """
    Tests for a session whose operator allows tools.
    """

    changes = MappingProxyType({"tools": ToolPolicy.ALLOW})

    def test_approval_is_given(self) -> None:
        """
        A request to use a tool is allowed, this one time.
        """
        self.settle()
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.ask_approval()
        self.settle()
        self.assertEqual((len(results[0].allowed), results[0].denied), (1, ()))
        self.assertEqual(self.kiro.typed[:2], ["hello", "y"])


class JournalTests(SessionTestCase):
    """
    Tests for a session that keeps a journal.
    """

    changes = MappingProxyType({"journal": MemoryJournal("as it was written")})

    def test_journal_before_terminal(self) -> None:
        """
        The answer is the one that the journal has.
        """
        self.settle()
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.say("as it was drawn")
        self.settle()
        [reply] = results
        self.assertEqual((reply.text, reply.source), ("as it was written", "journal"))
        self.assertEqual((reply.completion, reply.wrapped), ("prompt", False))
        self.assertEqual(self.kiro.typed[0], "hello #1")


class EmptyJournalTests(SessionTestCase):
    """
    Tests for a session whose journal has no answer.
    """

    changes = MappingProxyType({"journal": MemoryJournal(None)})

    def test_terminal(self) -> None:
        """
        The answer is the one that the terminal shows.
        """
        self.settle()
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.say("as it was drawn")
        self.settle()
        self.assertIn("as it was drawn", results[0].text)
        self.assertEqual(results[0].source, "terminal")


class SlowJournalTests(SessionTestCase):
    """
    Tests for a session whose journal is read slowly.
    """

    def setUp(self) -> None:
        self.text: Deferred[str | None] = Deferred()
        self.changes = MappingProxyType({"journal": MemoryJournal(self.text)})
        super().setUp()
        self.settle()

    def test_answer_waits(self) -> None:
        """
        The turn goes on until the journal has been read.
        """
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.say("as it was drawn")
        self.settle()
        self.assertEqual((results, self.session.state), ([], SessionState.BUSY))
        self.text.callback("as it was written")
        self.assertEqual(results[0].text, "as it was written")

    def test_cannot_be_read(self) -> None:
        """
        If the journal cannot be read, the answer is the one that the terminal shows.
        """
        results = results_of(self.ask("hello"))
        self.settle()
        self.kiro.say("as it was drawn")
        self.settle()
        self.text.errback(OSError("no such disk"))
        self.assertIn("as it was drawn", results[0].text)
        [failure] = self.flushLoggedErrors(OSError)
        self.assertEqual(str(failure.value), "no such disk")

    def test_cancelled(self) -> None:
        """
        An answer that is found after its turn was cancelled is dropped.
        """
        answer = self.ask("hello")
        results = results_of(answer)
        self.settle()
        self.kiro.say("as it was drawn")
        self.settle()
        answer.cancel()
        self.text.callback("as it was written")
        self.settle(1)
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertIsInstance(results[0], CancelledError)


class QuietTests(SessionTestCase):
    """
    Tests for a session that is known by its silence and cannot be cleared.
    """

    program = staticmethod(lambda: MemoryLine(lambda prompt: None))
    changes = MappingProxyType({"dialect": "generic"})

    def test_ready_when_quiet(self) -> None:
        """
        A session is idle when its prompt has stayed; each output restarts the wait.
        """
        self.settle()
        self.assertIs(self.session.state, SessionState.STARTING)
        self.settle(0.4)
        self.kiro.print("no\n> ")
        self.settle(0.4)
        self.assertIs(self.session.state, SessionState.STARTING)
        self.settle(0.1)
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_turn_is_the_last(self) -> None:
        """
        A session ends with its first turn, answered or not.
        """
        for aborted in (False, True):
            self.setUp()
            self.settle(0.5)
            turn = self.ask("two\nlines")
            results = results_of(turn)
            self.settle()
            self.assertEqual(self.kiro.typed, ["two lines"])
            if aborted:
                turn.cancel()
            else:
                self.kiro.say("{yes}")
                self.settle(0.5)
                [reply] = results
                self.assertEqual((reply.text.strip(), reply.completion), ("{yes}", "quiet"))
            self.settle()
            self.assertTrue(self.session.exhausted)
            self.assertEqual(self.signals(), ["TERM", "KILL"][: len(self.signals())])
            self.assertEqual(len(self.gone), 1)
            self.assertIs(self.session.state, SessionState.GONE)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_too_long(self) -> None:
        """
        A prompt that cannot be typed is refused, and the session stays idle.
        """
        self.settle(0.5)
        with self.assertRaises(PromptTooLarge):
            self.ask("x" * 5000)
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.kiro.typed, [])
