"""
Tests for `kiroworkers.session.client_words`.
"""

from __future__ import annotations

from time import thread_time

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import AgentFailure, Cleared, load_dialect
from kiroworkers.conversations.failures import find_failure
from kiroworkers.errors import AgentPerhapsUnavailable, AgentUnavailable, FailureKind
from kiroworkers.session.client_words import ClientWords
from kiroworkers.session.session import Reset
from kiroworkers.session.state import SessionState
from tests.memory import results_of
from tests.session.test_turn import ScriptedTestCase, answer

_SUSPENDED = "Your User ID (x-1) temporarily is suspended"
_FAILURES = load_dialect("kiro-acp").failures


def found(text: str) -> AgentFailure:
    """
    Return the failure that Kiro's words mean.
    """
    failure = find_failure(_FAILURES, text)
    assert failure is not None, text
    return failure


def quoted(words: str, *texts: str) -> bool:
    """
    Return whether a failure in these words may quote a client who wrote `texts`.
    """
    client_words = ClientWords()
    client_words.add(*texts)
    return client_words.judge(found(words)).quoted


class ClientWordsTests(SynchronousTestCase):
    """
    Tests for `ClientWords`.
    """

    def test_quoted(self) -> None:
        """
        Words that a client wrote prove nothing, however they are escaped, cut into lines or
        written in capitals.
        """
        for text in (
            _SUSPENDED,
            f"Tell me what {_SUSPENDED.upper()} means.",
            "user  id (x-1)\ntemporarily is\tsuspended",
            '{\\"idea\\": \\"User ID (x-1) temporarily is suspended\\"}',
        ):
            self.assertTrue(quoted(f"-32603: bad input ({_SUSPENDED})", text), text)
        self.assertTrue(quoted("Invalid model ID: ExpiredToken", "ExpiredToken"))

    def test_not_quoted(self) -> None:
        """
        Words that no client wrote are the agent's own; a part of them is not enough.
        """
        for text in ("", "temporarily", "User ID (y) temporarily is suspended", "suspended " * 9):
            self.assertFalse(quoted(_SUSPENDED, text), text)
        self.assertFalse(quoted("Rate limit exceeded", "[[error=rate-limit]]"))
        own = AgentFailure(FailureKind.THROTTLED, "from a message of another kind")
        client_words = ClientWords()
        client_words.add("from a message of another kind")
        self.assertIs(client_words.judge(own), own)

    def test_delay(self) -> None:
        """
        A quoted delay is not trusted, either.
        """
        client_words = ClientWords()
        client_words.add("Too many requests, please wait 5 hours")
        failure = client_words.judge(found("Too many requests, please wait 5 hours"))
        self.assertEqual((failure.quoted, failure.retry_after), (True, 30))

    def test_long(self) -> None:
        """
        Texts of any kind are searched in time that is proportional to their length.
        """
        for text in ("user " * 200_000, "user id" + " " * 1_000_000, "u" * 1_000_000):
            began = thread_time()
            self.assertFalse(quoted(_SUSPENDED, text))
            self.assertLess(thread_time() - began, 0.5)


class QuotingTestCase(ScriptedTestCase):
    """
    A test with a session whose agent reports that it is suspended.
    """

    def fail_turn(self, prompt: str) -> AgentUnavailable:
        """
        Let the turn of `prompt` fail, and return its error.
        """
        results = results_of(self.session.ask(prompt))
        self.conversation.failure = found(_SUSPENDED)
        self.report(self.conversation.failure, at_prompt=True)
        [error] = results
        assert isinstance(error, AgentUnavailable), error
        return error


class SessionTests(QuotingTestCase):
    """
    Tests for sessions whose agent reports a failure in a client's words.
    """

    def test_judged(self) -> None:
        """
        The client learns what the agent said, and the failure counts for no one else.
        """
        error = self.fail_turn(f"What does “{_SUSPENDED}” mean?")
        self.assertEqual(
            (type(error), error.kind, error.retry_after),
            (AgentPerhapsUnavailable, FailureKind.SUSPENDED, 600),
        )
        assert self.session.failure is not None
        self.assertFalse(self.session.failure.affects_all_sessions)
        self.begin()
        self.assertIs(type(self.fail_turn("What?")), AgentUnavailable)
        assert self.session.failure is not None
        self.assertTrue(self.session.failure.affects_all_sessions)

    def test_asked_again(self) -> None:
        """
        The agent may quote the first prompt of its conversation in a later turn.
        """
        results_of(self.session.ask(_SUSPENDED))
        self.report(answer(), at_prompt=True)
        results = results_of(self.session.ask_again("Correct it."))
        self.report(found(_SUSPENDED), at_prompt=True)
        [error] = results
        self.assertIsInstance(error, AgentPerhapsUnavailable)

    def test_forgotten(self) -> None:
        """
        Words that a client wrote before a clear are not considered.
        """
        results_of(self.session.ask(_SUSPENDED))
        self.report(answer(), at_prompt=True)
        self.session.end_turn()
        self.report(Cleared(), at_prompt=True)
        self.assertIs(type(self.fail_turn("What?")), AgentUnavailable)


class KeptSessionTests(QuotingTestCase):
    """
    Tests for a session that keeps its conversation.
    """

    reset = Reset.NONE

    def test_remembered(self) -> None:
        """
        The agent may quote what a client wrote earlier in the same conversation.
        """
        results_of(self.session.ask(_SUSPENDED))
        self.report(answer(), at_prompt=True)
        self.session.end_turn()
        self.scripted.reactor.advance(1)
        self.assert_state(SessionState.IDLE)
        self.assertIsInstance(self.fail_turn("What?"), AgentPerhapsUnavailable)
