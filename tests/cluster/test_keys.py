"""
Tests for `kiroworkers.cluster.keys`.
"""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.keys import PostgresKeyChanges, key_digest
from kiroworkers.cluster.rows import encode_text
from kiroworkers.jobs.stored_response import IdempotencyKey
from tests import postgres
from tests.cluster.memory_events import MemoryTopics

KEY = IdempotencyKey("ann\\\0\ud800é", "generate-story", "k1")


class PostgresKeyChangesTests(SynchronousTestCase):
    """
    Tests for `PostgresKeyChanges`.
    """

    def setUp(self) -> None:
        self.clock, self.topics = Clock(), MemoryTopics()
        self.changes = PostgresKeyChanges(self.clock, self.topics, 3.0)

    def test_notified(self) -> None:
        """
        Everybody who waits for a key is told that it has changed, and nobody else.
        """
        changed = [self.changes.next(KEY), self.changes.next(KEY)]
        other = self.changes.next(evolve(KEY, key="k2"))
        self.topics.receive("key", key_digest(KEY))
        for each in changed:
            self.successResultOf(each)
        self.assertNoResult(other)
        self.topics.receive("key", key_digest(KEY))
        self.clock.advance(3.0)
        self.successResultOf(other)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reconnected(self) -> None:
        """
        Every key is looked at when notifications come again.
        """
        changed = self.changes.next(KEY)
        self.topics.reconnect()
        self.successResultOf(changed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_given_up(self) -> None:
        """
        Nothing is left of somebody who waits no more.
        """
        changed, other = self.changes.next(KEY), self.changes.next(KEY)
        changed.cancel()
        self.failureResultOf(changed, CancelledError)
        self.topics.receive("key", key_digest(KEY))
        self.successResultOf(other)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class KeyDigestTests(postgres.SynchronousDatabaseTestCase):
    """
    Tests for `key_digest`, with a real database.
    """

    def test_same(self) -> None:
        """
        The database and the server compute the same digest.
        """
        texts = [encode_text(text) for text in (KEY.client, KEY.task, KEY.key)]
        row = self.connect().execute("SELECT key_digest(%s, %s, %s)", texts).fetchone()
        self.assertEqual(row, (key_digest(KEY),))
