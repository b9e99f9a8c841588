"""
Tests for `kiroworkers.web.mcp.sessions`.
"""

from __future__ import annotations

from itertools import count

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.mcp import sessions
from kiroworkers.web.mcp.sessions import LIFETIME, Sessions


class SessionsTests(SynchronousTestCase):
    """
    Tests for `Sessions`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        numbers = count(1)
        self.sessions = Sessions(self.clock.seconds, lambda: f"s{next(numbers)}")

    def begin(self, client: str = "ann") -> str:
        """
        Begin a session.
        """
        return self.sessions.begin(client, "2025-11-25")

    def exists(self, id: str, client: str = "ann") -> bool:
        """
        Return whether the session is found.
        """
        return self.sessions.find(id, client) is not None

    def test_found(self) -> None:
        """
        A session has what was agreed on.
        """
        found = self.sessions.find(self.begin(), "ann")
        assert found is not None
        self.assertEqual((found.client, found.revision), ("ann", "2025-11-25"))

    def test_foreign(self) -> None:
        """
        A session is found and ended only by its client.
        """
        id = self.begin()
        self.assertFalse(self.exists(id, "bob"))
        self.assertFalse(self.sessions.end(id, "bob"))
        self.assertTrue(self.exists(id))

    def test_ended(self) -> None:
        """
        A session that was ended is gone.
        """
        id = self.begin()
        self.assertTrue(self.sessions.end(id, "ann"))
        self.assertFalse(self.exists(id))
        self.assertFalse(self.sessions.end(id, "ann"))

    def test_idle(self) -> None:
        """
        A session ends a day after it was used last.
        """
        id = self.begin()
        self.clock.advance(LIFETIME - 1)
        self.assertTrue(self.exists(id))
        self.clock.advance(LIFETIME - 1)
        self.assertTrue(self.exists(id))
        self.clock.advance(LIFETIME)
        self.assertFalse(self.exists(id))
        self.assertEqual(len(self.sessions), 0)

    def test_cleared_up(self) -> None:
        """
        Sessions that have ended take no memory once another begins.
        """
        for _ in range(3):
            self.begin()
        self.clock.advance(LIFETIME)
        self.begin("bob")
        self.assertEqual(len(self.sessions), 1)

    def test_most_of_a_client(self) -> None:
        """
        A client with too many sessions loses the one that it has not used for the longest time.
        """
        self.patch(sessions, "MAX_PER_CLIENT", 2)
        other, first, second = self.begin("bob"), self.begin(), self.begin()
        self.exists(first)
        third = self.begin()
        self.assertEqual([*map(self.exists, (first, second, third))], [True, False, True])
        self.assertTrue(self.exists(other, "bob"))
        self.sessions.end(first, "ann")
        self.begin()
        self.assertTrue(self.exists(third))

    def test_most_of_all(self) -> None:
        """
        With too many sessions in all, the one that was not used for the longest time ends.
        """
        self.patch(sessions, "MAX_SESSIONS", 2)
        first, second, third = self.begin("ann"), self.begin("bob"), self.begin("eve")
        self.assertFalse(self.exists(first, "ann"))
        self.assertTrue(self.exists(second, "bob"))
        self.assertTrue(self.exists(third, "eve"))

    def test_any_text(self) -> None:
        """
        Any text may be asked for.
        """
        for id in ("", "\udcff", "é" * 10_000):
            self.assertFalse(self.exists(id))

    def test_unguessable(self) -> None:
        """
        The server's own identifiers are long, and none is like another.
        """
        sessions = Sessions(self.clock.seconds)
        ids = {sessions.begin("ann", "2025-11-25") for _ in range(10)}
        self.assertEqual({len(id) for id in ids}, {43})
        self.assertEqual(len(ids), 10)
