"""
Tests for `kiroworkers.session.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from attrs import astuple
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import (
    AgentRefused,
    AgentUnavailable,
    OutputTooLong,
    PromptTooLarge,
    SessionLost,
)
from kiroworkers.offline import classic
from kiroworkers.offline.editor import LineEditor
from kiroworkers.session.session import (
    Reply,
    ReplyValidator,
    Reset,
    Session,
    SessionState,
    accept_any,
)
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import MemoryAcp, MemoryJournal, MemoryLine, new_session_in, watched


class SessionTestCase(SynchronousTestCase):
    """
    A session in memory, started, whose program answers when it is told to.
    """

    program: Callable[[], MemoryKiro] = staticmethod(lambda: MemoryKiro(lambda prompt: None))

    def setUp(self) -> None:
        self.reactor = MemoryReactor(self.program)
        self.idle = 0
        self.gone: list[str] = []
        self.session = self.make()
        self.session.start()
        self.kiro = self.reactor.programs[-1]

    #: What is unusual of the session.
    changes: Mapping[str, Any] = MappingProxyType({})

    def make(self) -> Session:
        def count() -> None:
            self.idle += 1

        new_session = new_session_in(self.reactor, **self.changes)
        return new_session("worker1", count, self.gone.append)

    def settle(self, seconds: float = 0) -> None:
        """
        Let everything happen that happens within `seconds`.
        """
        self.reactor.pump([0, seconds, 0])

    def signals(self) -> list[str]:
        return self.kiro.process.signals


class StartTests(SessionTestCase):
    """
    Tests for a session's start.
    """

    def test_ready(self) -> None:
        """
        A session is idle when its prompt shows, not before.
        """
        self.assertIs(self.session.state, SessionState.STARTING)
        self.settle()
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.idle, 1)

    def test_too_slow(self) -> None:
        """
        A session that shows no prompt in time is ended, and says what it
        showed instead.
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

    def test_exits_at_once(self) -> None:
        """
        A session that exits before its prompt is gone, with its last words.
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
        A session that says why it cannot be used is gone for that reason.
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
        self.assertEqual(self.gone, ["login_required: ? Login now? › (it cannot go on)"])


class TurnTests(SessionTestCase):
    """
    Tests for turns that go well, or are given up.
    """

    def setUp(self) -> None:
        super().setUp()
        self.settle()

    def test_answer(self) -> None:
        """
        A turn's answer is delivered at once; the session is idle again when the
        conversation is cleared.
        """
        reply = self.session.ask("hello")
        states: list[SessionState] = []

        def note(reply: Reply) -> Reply:
            states.append(self.session.state)
            return reply

        results = watched(reply.addCallback(note))
        self.settle()
        self.assertIs(self.session.state, SessionState.BUSY)
        self.kiro.say("world")
        self.settle()
        self.assertIn("world", results[0].text)
        self.assertEqual(states, [SessionState.CLEARING])
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.kiro.typed, ["hello", "/clear", "y"])
        self.assertEqual(self.idle, 2)

    def test_approval_is_denied(self) -> None:
        """
        A question whether a tool may run is answered no, and the turn goes on.
        """
        results = watched(self.session.ask("hello"))
        self.settle()
        self.kiro.ask_approval()
        self.settle()
        [reply] = results
        self.assertIn("denied", reply.text)
        self.assertEqual(len(reply.denied), 1)
        self.assertIn("Allow this action?", reply.denied[0])
        self.assertEqual(reply.allowed, ())
        self.assertEqual(self.kiro.typed[:2], ["hello", "n"])

    def test_given_up(self) -> None:
        """
        A turn that is given up is interrupted once; the session is idle again
        after its prompt has come and stayed, and the conversation is cleared.
        """
        reply = self.session.ask("hello")
        results = watched(reply)
        self.settle()
        reply.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.assertIs(self.session.state, SessionState.INTERRUPTING)
        self.settle()
        self.assertIs(self.session.state, SessionState.SETTLING)
        self.assertEqual(self.idle, 1)
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.kiro.typed, ["hello", "/clear", "y"])
        self.assertEqual(self.idle, 2)

    def test_late_answer_answers_nobody(self) -> None:
        """
        What a given-up turn still says is not the next turn's answer.
        """
        self.kiro.interruptible = False
        reply = self.session.ask("first")
        watched(reply)
        self.settle()
        reply.cancel()
        self.settle(5)
        self.kiro.say("late answer to the first")
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)
        results = watched(self.session.ask("second"))
        self.settle()
        self.kiro.say("answer to the second")
        self.settle()
        self.assertNotIn("late", results[0].text)

    def test_crossed_interrupt(self) -> None:
        """
        When the answer and the interrupt cross, the interrupt is read at the
        prompt; nothing is typed until the prompt it draws has stayed.
        """
        reply = self.session.ask("hello")
        watched(reply)
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
        A session that ignores the interrupt is ended, and killed if it ignores
        that, too.
        """
        self.kiro.interruptible = False
        self.kiro.obeys = False
        reply = self.session.ask("hello")
        watched(reply)
        self.settle()
        reply.cancel()
        self.settle(10)
        self.assertEqual(self.signals(), ["TERM"])
        self.assertIs(self.session.state, SessionState.STOPPING)
        self.settle(5)
        self.assertEqual(self.signals()[:2], ["TERM", "KILL"])
        self.assertEqual(self.gone, ["its prompt did not come back within 10 s"])

    def test_too_much_output(self) -> None:
        """
        A turn that says too much fails and is interrupted, and the session
        lives.
        """
        results = watched(self.session.ask("hello"))
        self.settle()
        self.kiro.print("y" * 100_001)
        self.settle()
        self.assertEqual(repr(results), repr([OutputTooLong(100_000)]))
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_unconfirmed_clear(self) -> None:
        """
        A session that does not confirm its clear is not used again.
        """
        self.kiro.confirms = False
        results = watched(self.session.ask("hello"))
        self.settle()
        self.kiro.say("world")
        self.settle()
        self.assertIn("world", results[0].text)
        self.assertEqual(self.idle, 1)
        self.assertIs(self.session.state, SessionState.GONE)
        self.assertIn("Not now.", self.gone[0])

    def test_trouble(self) -> None:
        """
        A turn that ends with a trouble fails with its name and time, and the
        session is cleared and serves again.
        """
        detail = "Too many requests, please wait 30 seconds before trying again"
        results = watched(self.session.ask("x"))
        self.settle()
        self.kiro.print(f"{classic.SPINNER_GONE}{detail}\n\n")
        self.kiro.show_prompt()
        self.settle()
        [problem] = results
        self.assertIsInstance(problem, AgentUnavailable)
        self.assertEqual(astuple(problem), ("throttled", detail, 30))
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_trouble_with_the_prompt(self) -> None:
        """
        A conversation that is too large is the request's trouble.
        """
        results = watched(self.session.ask("x"))
        self.settle()
        detail = "Your conversation is too large to continue"
        self.kiro.print(f"{classic.SPINNER_GONE}{detail}\n")
        self.kiro.show_prompt()
        self.settle()
        [problem] = results
        self.assertIsInstance(problem, AgentRefused)
        self.assertEqual(astuple(problem), ("context_full", detail))

    def test_trouble_with_a_menu(self) -> None:
        """
        A trouble that leaves a menu fails the turn without waiting for a
        prompt; nothing is chosen, and the turn is interrupted.
        """
        results = watched(self.session.ask("x"))
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
        A session that exits while it is asked fails the turn.
        """
        results = watched(self.session.ask("hello"))
        self.settle()
        self.kiro.process.end(signal=9)
        self.settle()
        self.assertEqual(repr(results), repr([SessionLost("killed by SIGKILL")]))
        self.assertEqual(self.gone, ["killed by SIGKILL"])

    def test_nothing_is_typed_before_the_prompt(self) -> None:
        """
        Only an idle session may be asked.
        """
        self.session.ask("hello").addErrback(lambda _: None)
        with self.assertRaises(AssertionError):
            self.session.ask("again")

    def test_strays(self) -> None:
        """
        An idle session whose prompt goes away is cleared before it serves.
        """
        self.kiro.process.deliver(b"\x1b[?2004l\r\nnews\r\n")
        self.settle()
        self.assertIs(self.session.state, SessionState.INTERRUPTING)
        self.kiro.show_prompt()
        self.settle(0.2)
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.kiro.typed, ["/clear", "y"])

    def test_not_understood(self) -> None:
        """
        A session whose prompt strays while it is being cleared is no longer
        understood, and is ended.
        """
        watched(self.session.ask("hello"))
        self.settle()
        self.kiro.say("done")
        self.kiro.stray()
        self.settle()
        self.assertIs(self.session.state, SessionState.GONE)
        self.assertIn("unexpected while clearing", self.gone[0])

    def test_fault_of_ours(self) -> None:
        """
        A fault while its output is read ends the session, not the server.
        """
        results = watched(self.session.ask("hello"))

        def fault(event: object) -> None:
            raise ZeroDivisionError

        self.patch(self.session, "_handle_event", fault)
        self.settle()
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(self.gone, ["a fault while reading its output"])
        self.assertIsInstance(results[0], SessionLost)


class JudgeTests(SessionTestCase):
    """
    Tests for answers that are looked at before they are forgotten.
    """

    def setUp(self) -> None:
        super().setUp()
        self.settle()
        self.judged: list[Reply] = []
        self.told: list[str] = []

    def validate(self, reply: Reply) -> str | None:
        self.judged.append(reply)
        return None if "good" in reply.text else "again, please"

    def ask(self) -> list[Any]:
        results = watched(self.session.ask("a", self.validate, self.told.append))
        self.settle()
        return results

    def say(self, text: str) -> None:
        self.kiro.say(text)
        self.settle(0.3)

    def test_fits(self) -> None:
        """
        An answer that fits is the end of the turn.
        """
        results = self.ask()
        self.say("good")
        [reply] = results
        self.assertEqual((reply.repairs, reply.unfit), (0, False))
        self.assertEqual(self.kiro.typed[:2], ["a", "/clear"])

    def test_repaired(self) -> None:
        """
        One that does not is asked for once more in the same conversation, before
        that is cleared.
        """
        results = self.ask()
        self.say("bad")
        self.assertEqual((results, self.session.state), ([], SessionState.BUSY))
        self.say("good")
        [reply] = results
        self.assertEqual((reply.text.split()[1], reply.repairs, reply.unfit), ("good", 1, False))
        self.assertEqual(self.kiro.typed[1].partition(",")[0], "again")
        self.assertEqual(self.kiro.typed[2], "/clear")
        self.assertEqual(self.session.answers, 1)

    def test_not_repaired(self) -> None:
        """
        It is not asked for a third time.
        """
        results = self.ask()
        self.say("bad")
        self.say("worse")
        [reply] = results
        self.assertEqual((reply.text.split()[1], reply.repairs, reply.unfit), ("worse", 1, True))
        self.assertEqual(len(self.judged), 2)
        self.assertEqual(self.kiro.typed[2], "/clear")

    def test_given_up(self) -> None:
        """
        A repair that is given up is interrupted like any turn, and nobody looks
        at what is said late.
        """
        results = watched(reply := self.session.ask("a", self.validate))
        self.settle()
        self.say("bad")
        reply.cancel()
        self.settle(0.5)
        self.assertIsInstance(results[0], CancelledError)
        self.assertEqual(len(self.judged), 1)
        self.settle()
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_nothing_said(self) -> None:
        """
        Where nothing was said the turn may not have begun, and nothing is typed.
        """
        results = self.ask()
        self.kiro.print(classic.SPINNER_GONE + " \n")
        self.kiro.show_prompt()
        self.settle()
        [reply] = results
        self.assertEqual((reply.repairs, reply.unfit), (0, True))

    def test_given_up_while_heard(self) -> None:
        """
        A turn may be given up by whoever hears it, though more was read already.
        """
        told: list[str] = []

        def hear(text: str) -> None:
            told.append(text)
            reply.cancel()

        results = watched(reply := self.session.ask("a", self.validate, hear))
        self.settle()
        self.kiro.print(classic.SPINNER_GONE + classic.answer("one\ntwo\nthree"))
        self.settle(0.5)
        self.assertIsInstance(results[0], CancelledError)
        self.assertEqual(len(told), 1)
        self.settle()
        self.assertIs(self.session.state, SessionState.IDLE)

    def test_heard(self) -> None:
        """
        The lines of an answer are told as they are printed.
        """
        self.ask()
        self.kiro.print(classic.SPINNER_GONE + classic.answer("good\nand more\nand").rstrip())
        self.settle()
        self.assertEqual("".join(self.told).split(), ["good", "and", "more"])


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

    def turn(self, text: str, validate: ReplyValidator = accept_any) -> list[Any]:
        """
        Have a turn in which the agent says `text`.
        """
        results = watched(self.session.ask("a", validate))
        self.settle()
        self.kiro.chunk(text)
        self.kiro.end_turn()
        self.settle()
        return results

    def only_good(self, reply: Reply) -> str | None:
        return None if reply.text.endswith("good") else "again, please"

    def test_keeps(self) -> None:
        """
        An answer is delivered at once; its conversation is used again when no late
        output arrived for a moment.
        """
        [reply] = self.turn("good")
        self.assertEqual((reply.text, self.session.state), ("good", SessionState.CLEARING))
        self.settle(0.3)
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 1))

    def test_soon(self) -> None:
        """
        Output that follows an answer at once ends its conversation.
        """
        self.turn("good")
        self.kiro.chunk("more")
        self.settle()
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 2))

    def test_idle(self) -> None:
        """
        So does output that arrives while the session is idle.
        """
        self.turn("good")
        self.settle(0.3)
        self.kiro.chunk("more")
        self.settle()
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 2))

    def test_completes(self) -> None:
        """
        An answer that does not fit is completed by its late output, then its
        conversation ends.
        """
        results = self.turn("go", self.only_good)
        self.assertEqual((results, self.session.state), ([], SessionState.BUSY))
        self.kiro.chunk("od")
        self.settle()
        [reply] = results
        self.assertEqual((reply.text, reply.repairs, reply.unfit), ("good", 0, False))
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 2))

    def test_repaired(self) -> None:
        """
        Without late output the answer is repaired, and its conversation ends.
        """
        results = self.turn("bad", self.only_good)
        self.settle(0.3)
        self.assertEqual(self.kiro.typed, ["a", "again, please"])
        self.kiro.chunk("good")
        self.kiro.end_turn()
        self.settle()
        [reply] = results
        self.assertEqual((reply.text, reply.repairs), ("good", 1))
        self.settle()
        self.assertEqual((self.session.state, self.kiro.session), (SessionState.IDLE, 2))


class StopTests(SessionTestCase):
    """
    Tests for ending a session.
    """

    def test_stop(self) -> None:
        """
        A stopped session is told to end, once, and is gone when it has.
        """
        self.settle()
        self.session.stop("because")
        self.session.stop("again")
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
        results = watched(self.session.ask("hello"))
        self.settle()
        self.session.stop("because")
        self.settle()
        self.assertEqual(repr(results), repr([SessionLost("because")]))


class ReadTests(SessionTestCase):
    """
    Tests for what comes in one read.
    """

    def test_prompt_that_goes_at_once(self) -> None:
        """
        A prompt that came and went in one read is not one to be asked at.
        """
        self.settle()
        drawn = LineEditor(classic.prompt()).open()
        self.kiro.process.deliver(b"\x1b[?2004l\r\n" + drawn + b"\x1b[?2004l\r\n")
        self.settle()
        self.assertIs(self.session.state, SessionState.INTERRUPTING)
        self.assertEqual(self.idle, 1)


class AllowTests(SessionTestCase):
    """
    Tests for a session whose operator allows tools.
    """

    changes = MappingProxyType({"allow_tools": True})

    def test_approval_is_given(self) -> None:
        """
        A question whether a tool may run is answered yes, for this once.
        """
        self.settle()
        results = watched(self.session.ask("hello"))
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
        What the journal says is the answer.
        """
        self.settle()
        results = watched(self.session.ask("hello"))
        self.settle()
        self.kiro.say("as it was drawn")
        self.settle()
        [reply] = results
        self.assertEqual((reply.text, reply.source), ("as it was written", "journal"))
        self.assertEqual((reply.completion, reply.wrapped), ("prompt", False))
        self.assertEqual(self.kiro.typed[0], "hello #1")


class EmptyJournalTests(SessionTestCase):
    """
    Tests for a session whose journal does not say.
    """

    changes = MappingProxyType({"journal": MemoryJournal(None)})

    def test_terminal(self) -> None:
        """
        What the terminal shows is the answer then.
        """
        self.settle()
        results = watched(self.session.ask("hello"))
        self.settle()
        self.kiro.say("as it was drawn")
        self.settle()
        self.assertIn("as it was drawn", results[0].text)
        self.assertEqual(results[0].source, "terminal")


class SilenceTests(SessionTestCase):
    """
    Tests for a session that is known by its silence, and cannot forget.
    """

    program = staticmethod(lambda: MemoryLine(lambda prompt: None))
    changes = MappingProxyType({"dialect": "generic"})

    def test_ready_when_quiet(self) -> None:
        """
        It is idle when its prompt has stayed, and each output begins the wait
        anew.
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
        It is spent by its first turn, with an answer or without.
        """
        for aborted in (False, True):
            self.setUp()
            self.settle(0.5)
            reply = self.session.ask("two\nlines")
            results = watched(reply)
            self.settle()
            self.assertEqual(self.kiro.typed, ["two lines"])
            if aborted:
                reply.cancel()
            else:
                self.kiro.say("yes")
                self.settle(0.5)
                self.assertEqual((results[0].text, results[0].completion), ("yes\n", "quiet"))
            self.settle()
            self.assertTrue(self.session.exhausted)
            self.assertEqual(self.signals(), ["TERM", "KILL"][: len(self.signals())])
            self.assertEqual(len(self.gone), 1)
            self.assertIs(self.session.state, SessionState.GONE)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_too_long(self) -> None:
        """
        What cannot be typed is refused, and the session stays idle.
        """
        self.settle(0.5)
        with self.assertRaises(PromptTooLarge):
            self.session.ask("x" * 5000)
        self.assertIs(self.session.state, SessionState.IDLE)
        self.assertEqual(self.kiro.typed, [])
