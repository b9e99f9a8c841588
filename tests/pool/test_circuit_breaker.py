"""
Tests for `kiroworkers.pool.circuit_breaker`: an account that cannot answer is left alone.
"""

from __future__ import annotations

from typing import Any

from kiroworkers.classic import drawing as classic
from kiroworkers.errors import AgentPerhapsUnavailable, AgentUnavailable, FailureKind, WorkError
from kiroworkers.pool.dispatcher import Dispatcher
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.test_execution import ExecutionTestCase

#: What an agent says about its account, with the seconds until the next attempt.
OUTAGES = {
    FailureKind.THROTTLED: ("ThrottlingException", 30),
    FailureKind.SUSPENDED: ("Your User ID (d-1) temporarily is suspended", 600),
    FailureKind.OUT_OF_CREDITS: ("Monthly request limit reached", 600),
    FailureKind.LOGIN_EXPIRED: ("Your login session has expired. Please log in again.", 60),
}


class OutageTestCase(ExecutionTestCase):
    """
    A test whose workers' programs answer when the test says so.
    """

    def new_program(self) -> MemoryKiro:
        return MemoryKiro(lambda prompt: None)

    def begin(self, **changes: Any) -> None:
        """
        Start a dispatcher with programs of its own.
        """
        self.reactor = MemoryReactor(lambda: self.new_program())
        self.dispatcher = self.start(**changes)

    def answer(self, text: str) -> None:
        """
        Let the only program that runs and has been asked answer.
        """
        running = self.reactor.running
        [program] = [
            program
            for program in self.reactor.programs
            if program.answering and program.process.pid in running
        ]
        program.say(text)
        self.reactor.advance(0)

    def fail(self, number: int, text: str) -> None:  # type: ignore[override]
        """
        Let program `number` report a failure and show its prompt.
        """
        program = self.reactor.programs[number]
        program.print(f"{classic.SPINNER_GONE}{text}\n\n")
        program.show_prompt()
        self.reactor.advance(0)

    def asked(self) -> int:
        """
        Return the number of prompts that all programs received.
        """
        return sum(len(self.prompts(number)) for number in range(len(self.reactor.programs)))

    def assert_refused(self, results: list[Any], kind: FailureKind, seconds: int) -> None:
        """
        Assert that a request failed with `AgentUnavailable`.
        """
        [error] = results
        self.assertIsInstance(error, AgentUnavailable)
        self.assertEqual((error.kind, error.retry_after), (kind, seconds))


class OutageTests(OutageTestCase):
    """
    Tests for a failure of the account that is reported in a turn.
    """

    def test_no_other_prompt(self) -> None:
        """
        After it, nothing is asked until the next attempt: no queued request, no new one, no
        repair and no retry of one that is being answered.
        """
        for kind, (text, delay) in OUTAGES.items():
            self.begin(workers=3)
            failing, unfit, lost = (self.ask(prompt) for prompt in ("a", "b", "c"))
            queued = self.ask("d")
            self.fail(0, text)
            self.assert_refused(failing, kind, delay)
            self.assert_refused(queued, kind, delay)
            self.reactor.advance(1)
            self.say(1, "bad")
            self.kill(2)
            for results in (unfit, lost, self.ask("e")):
                self.assert_refused(results, kind, delay - 1)
            self.reactor.pump([1] * (delay - 2))
            self.assert_refused(self.ask("f"), kind, 1)
            self.assertEqual(self.asked(), 3)

    def test_quoted(self) -> None:
        """
        An agent that may only quote the client's own words stops nobody else.
        """
        for kind, (text, _) in OUTAGES.items():
            self.begin(workers=2)
            failing = self.ask(f"What does this mean: {text}")
            self.fail(0, f"error: cannot use {text}")
            [error] = failing
            self.assertIsInstance(error, AgentPerhapsUnavailable)
            self.assertEqual(error.kind, kind)
            self.assertGreater(error.retry_after, 0)
            self.assertEqual(self.dispatcher.state().name, "serving")
            other = self.ask("b")
            self.say(1, "good")
            self.assertNotIsInstance(other[0], WorkError)

    def test_worse_failure(self) -> None:
        """
        A turn that ends during an outage may tell that another one lasts longer; a failure of
        the same kind changes nothing, and neither does one that ends earlier.
        """
        cases = (
            (
                "ThrottlingException",
                "Your User ID (d-1) temporarily is suspended",
                FailureKind.SUSPENDED,
                600,
            ),
            ("ThrottlingException", "ThrottlingException", FailureKind.THROTTLED, 20),
            (
                "Too many requests, please wait 5 minutes",
                "Too many requests, please wait 1 hour",
                FailureKind.THROTTLED,
                3600,
            ),
            (
                "Monthly request limit reached",
                "ThrottlingException",
                FailureKind.OUT_OF_CREDITS,
                590,
            ),
        )
        for first, second, kind, seconds in cases:
            self.begin(workers=2)
            self.ask("a")
            self.ask("b")
            self.fail(0, first)
            self.reactor.advance(10)
            self.fail(1, second)
            self.assert_refused(self.ask("c"), kind, seconds)
            self.reactor.advance(seconds)
            self.assertEqual((self.ask("d"), self.asked()), ([], 3))

    def test_one_probe(self) -> None:
        """
        Then exactly one request is asked, whatever arrives, until it is answered.
        """
        for kind, (text, delay) in OUTAGES.items():
            self.begin(workers=3)
            self.ask("a")
            self.fail(0, text)
            self.reactor.advance(delay)
            results = [self.ask(prompt) for prompt in "bcdef"]
            self.assertEqual([len(result) for result in results], [0, 1, 1, 1, 1])
            self.assertEqual({result[0].kind for result in results[1:]}, {kind})
            self.assertEqual(self.asked(), 2)
            self.answer("good")
            self.assertEqual((len(results[0]), self.ask("g")), (1, []))

    def test_retry_during_the_probe(self) -> None:
        """
        A request from before the outage is neither repaired nor retried while another one is
        the probe.
        """
        for end in ("unfit", "lost"):
            self.begin(workers=3)
            before, failing = self.ask("before"), self.ask("failing")
            self.fail(1, "ThrottlingException")
            self.assertEqual(len(failing), 1)
            self.reactor.advance(30)
            probe = self.ask("probe")
            if end == "unfit":
                self.say(0, "bad")
            else:
                self.kill(0)
            self.assertEqual((probe, [error.kind for error in before]), ([], ["throttled"]))
            self.assertEqual(self.asked(), 3)

    def test_retry_is_the_probe(self) -> None:
        """
        A request from before the outage that is repaired or retried without a probe is the
        probe.
        """
        for end in ("unfit", "lost"):
            self.begin(workers=3)
            before, failing = self.ask("before"), self.ask("failing")
            self.fail(1, "ThrottlingException")
            self.assertEqual(len(failing), 1)
            self.reactor.advance(30)
            if end == "unfit":
                self.say(0, "bad")
            else:
                self.kill(0)
            self.assertEqual((before, self.asked()), ([], 3))
            self.assertEqual([error.kind for error in self.ask("another")], ["throttled"])
            self.answer("good")
            self.assertEqual(len(before), 1)
            self.assertNotIsInstance(before[0], WorkError)
            self.assertEqual(self.dispatcher.state().name, "serving")

    def test_named_delay(self) -> None:
        """
        The time that the agent names is kept, also a longer one than ours; but no more than a
        day.
        """
        for wait, seconds in (
            ("5 seconds", 5),
            ("2 hours", 7200),
            ("99999 hours", 24 * 3600),
        ):
            self.begin()
            failing = self.ask("a")
            self.fail(0, f"Too many requests, please wait {wait} before trying again")
            self.assert_refused(failing, FailureKind.THROTTLED, seconds)
            self.reactor.advance(seconds - 1)
            self.assert_refused(self.ask("b"), FailureKind.THROTTLED, 1)
            self.reactor.advance(1)
            self.assertEqual((self.ask("c"), self.asked()), ([], 2))

    def test_reported_as_it_ends(self) -> None:
        """
        A session that reports it between two turns and ends is followed by a probe: that another
        session starts does not prove that the account answers again.
        """
        self.begin()
        program = self.reactor.programs[0]
        program.process.deliver(b"\x1b[?2004l\r\nThrottlingException\r\n")
        self.reactor.advance(0)
        program.process.end(1)
        self.reactor.advance(0)
        self.assertEqual(self.dispatcher.state().name, "throttled")
        self.reactor.advance(30)
        self.reactor.pump([1] * 5)
        self.assertEqual(self.dispatcher.state().name, "trying")
        results = [self.ask(prompt) for prompt in "abc"]
        self.assertEqual([len(result) for result in results], [0, 1, 1])


class FailsAtStart(MemoryKiro):
    """
    A program that prints a text instead of a prompt, and exits.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def begin(self) -> None:
        self.print(f"{self._text}\n")
        self.process.reactor.callLater(0, self.process.end, 1)


class StartTests(OutageTestCase):
    """
    Tests for a failure of the account that is reported when a session starts.
    """

    outage = ""

    def new_program(self) -> MemoryKiro:
        return FailsAtStart(self.outage) if self.outage else super().new_program()

    def start_suspended(self, text: str) -> Dispatcher:
        """
        Let the session of one of two workers end, and the next one report `text`.
        """
        self.outage = ""
        self.begin()
        self.outage = text
        self.kill(0)
        self.reactor.pump([1] * 6)
        return self.dispatcher

    def test_no_prompt(self) -> None:
        """
        Requests are refused, though another worker has a session, and none is started.
        """
        for kind, (text, delay) in OUTAGES.items():
            dispatcher = self.start_suspended(text)
            self.assertEqual(dispatcher.state().name, kind)
            started = len(self.reactor.programs)
            self.reactor.pump([1] * (delay - 5))
            [error] = self.ask("a")
            self.assertEqual(error.kind, kind)
            self.assertEqual((self.asked(), len(self.reactor.programs)), (0, started))

    def test_recovers(self) -> None:
        """
        The session that starts as a probe ends the outage.
        """
        dispatcher = self.start_suspended("Monthly request limit reached")
        self.outage = ""
        self.reactor.pump([1] * 600)
        self.assertEqual(dispatcher.state().name, "serving")
