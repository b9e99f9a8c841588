"""
Tests for `kiroworkers.conversations.acp.known_sessions`, and for its use by conversations.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import AgentFailure, Cleared, Ready, load_dialect
from kiroworkers.conversations.acp.known_sessions import KnownSessions, digest_of
from kiroworkers.conversations.dialects.dialect import StateDir
from kiroworkers.errors import FailureKind
from tests.conversations.acp.agent import CLOSES, Agent


class KnownSessionsTests(SynchronousTestCase):
    """
    Tests for `KnownSessions`.
    """

    def test_add(self) -> None:
        """
        An identifier is new once, and its digest is reported then; the digest does not contain it.
        """
        new: list[str] = []
        known = KnownSessions(on_new=new.append)
        self.assertEqual([known.add(id) for id in ("/home/ann", "\ud800", "/home/ann")], [1, 1, 0])
        self.assertEqual(new, [digest_of("/home/ann"), digest_of("\ud800")])
        self.assertCountEqual(known, new)
        self.assertNotIn("ann", new[0])

    def test_earlier(self) -> None:
        """
        Identifiers that are known from the beginning are not new, and not reported.
        """
        new: list[str] = []
        known = KnownSessions([digest_of("s1")], new.append)
        self.assertEqual([known.add("s1"), known.add("s2")], [False, True])
        self.assertEqual(new, [digest_of("s2")])

    @given(st.lists(st.integers(0, 9).map(str), max_size=50))
    def test_limit(self, ids: list[str]) -> None:
        """
        The identifiers that were seen last are known, and no others.
        """
        known = KnownSessions(limit=4)
        seen: list[str] = []
        for id in ids:
            self.assertEqual(known.add(id), id not in seen[-4:])
            seen = [other for other in seen if other != id] + [id]
        self.assertEqual(list(known), [digest_of(id) for id in seen[-4:]])


class Sharing:
    """
    Start conversations that share a `KnownSessions`.
    """

    def setUp(self) -> None:
        self.known = KnownSessions()

    def new_agent(self, dialect: Any = "acp") -> Agent:
        """
        Return the agent of another conversation, which was asked for its first session.
        """
        agent = Agent(greeting=CLOSES, dialect=dialect, known_sessions=self.known)
        assert agent.next_request()["method"] == "session/new", "the second request"
        return agent


class SharedTests(Sharing, SynchronousTestCase):
    """
    Tests for conversations that share a `KnownSessions`.
    """

    def test_other_process(self) -> None:
        """
        A session that a conversation had is refused in another one, which may run at the same
        time; nothing is sent to the agent, so the session of the first one goes on.
        """
        first, second = self.new_agent(), self.new_agent()
        self.assertEqual(first.session("s1"), [Ready()])
        [failure] = second.session("s1")
        self.assertEqual(second.conversation.failure, failure)
        assert isinstance(failure, AgentFailure), failure
        self.assertEqual(failure.kind, FailureKind.PROTOCOL)
        self.assertIn("the agent resumed session s1, which another request may", failure.detail)
        self.assertIn("([[state]] in the agent's dialect)", failure.detail)
        self.assertFalse(second.conversation.at_prompt)
        self.assertEqual(second.data_to_send(), [])

    def test_never_used(self) -> None:
        """
        A session that was only prepared, and had no prompt, is refused in another conversation.
        """
        first, second = self.new_agent(), self.new_agent()
        first.session("s1")
        first.ask()
        first.chunk("yes")
        first.next_request()
        self.assertEqual(first.session("s2"), [])
        [failure] = second.session("s2")
        self.assertIsInstance(failure, AgentFailure)

    def test_prepared(self) -> None:
        """
        A session of another conversation is not prepared, nor used after a clear.
        """
        first, second = self.new_agent(), self.new_agent()
        first.session("s1")
        second.session("s2")
        second.ask()
        prompt_id = second.last_id
        second.chunk("yes", "s2")
        second.next_request()
        self.assertEqual(second.session("s1"), [])
        second.last_id = prompt_id
        second.stop()
        self.assertEqual(second.clear()["method"], "session/new")
        [failure] = second.session("s1")
        self.assertIsInstance(failure, AgentFailure)
        self.assertFalse(second.conversation.at_prompt)

    def test_new(self) -> None:
        """
        Conversations with different sessions do not affect each other.
        """
        first, second = self.new_agent(), self.new_agent()
        self.assertEqual(first.session("s1"), [Ready()])
        self.assertEqual(second.session("s2"), [Ready()])
        first.clear()
        self.assertEqual(first.session("s3"), [Cleared()])

    def test_long(self) -> None:
        """
        The failure shows a part of a long identifier, without its control characters.
        """
        id = "\x1b[31m/home/work" * 20
        self.new_agent().session(id)
        [failure] = self.new_agent().session(id)
        assert isinstance(failure, AgentFailure), failure
        self.assertLess(len(failure.detail), 400)
        self.assertNotIn("\x1b", failure.detail)
        self.assertIn("/home/work", failure.detail)


class OwnStateTests(Sharing, SynchronousTestCase):
    """
    Tests for agents whose sessions have state folders of their own.
    """

    def dialect(self, sessions: bool) -> Any:
        state_dir = StateDir("AGENT_HOME", ".agent", sessions=sessions)
        return evolve(load_dialect("acp"), state_dirs=(state_dir,))

    def test_holds_sessions(self) -> None:
        """
        If the agent keeps its conversations in the folder, a session of another process may have
        the same identifier, because that conversation is gone; one of the same process may not.
        """
        dialect = self.dialect(sessions=True)
        self.assertEqual(self.new_agent(dialect).session("s1"), [Ready()])
        second = self.new_agent(dialect)
        self.assertEqual(second.session("s1"), [Ready()])
        second.clear()
        [failure] = second.session("s1")
        assert isinstance(failure, AgentFailure), failure
        self.assertIn("use --reset recycle", failure.detail)

    def test_holds_other_files(self) -> None:
        """
        If the dialect does not say so, the identifier is refused, and the failure names the key.
        """
        dialect = self.dialect(sessions=False)
        self.new_agent(dialect).session("s1")
        [failure] = self.new_agent(dialect).session("s1")
        assert isinstance(failure, AgentFailure), failure
        self.assertIn("set sessions = true there", failure.detail)
