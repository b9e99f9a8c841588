"""
Tests for `kiroworkers.jobs.retention`.
"""

from __future__ import annotations

from pathlib import Path

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.jobs.job import JobAnswer
from kiroworkers.jobs.retention import Retention
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
from tests.jobs.faults import Faults
from tests.jobs.support import UNLIMITED, memory_store, new_job

KEY = IdempotencyKey("ann", "generate-story", "k1")


class RetentionTests(SynchronousTestCase):
    """
    Tests for `Retention`.
    """

    def setUp(self) -> None:
        self.clock, self.faults, self.wall_offset = Clock(), Faults(), 1e9
        self.store = memory_store(self.clock, self.wall_clock, factory=self.faults.connection)
        self.addCleanup(self.store.close)
        self.retention = Retention(self.clock, self.wall_clock, self.store, 60.0)
        self.retention.startService()
        self.addCleanup(self.retention.stopService)

    def wall_clock(self) -> float:
        return self.clock.seconds() + self.wall_offset

    def save(self, key: IdempotencyKey, after: float = 0.0) -> None:
        self.store.save_response(key, "print", StoredResponse(200, {}), self.wall_clock() + after)

    def is_stored(self, key: IdempotencyKey) -> bool:
        return self.successResultOf(self.store.find_record(key)) is not None

    def test_forgets(self) -> None:
        """
        A response stays for its time to live and is deleted soon after; until then the
        store is not queried.
        """
        other = evolve(KEY, key="k2")
        self.clock.advance(10)
        self.save(KEY)
        self.save(other, 30)
        self.clock.advance(59)
        self.assertTrue(self.is_stored(KEY))
        self.clock.pump([1] * 10)
        self.assertFalse(self.is_stored(KEY))
        self.assertTrue(self.is_stored(other))
        [timer] = self.clock.getDelayedCalls()
        self.assertEqual(timer.getTime(), 101)
        self.retention.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_clock_set_back(self) -> None:
        """
        If the wall clock is set back, the store is queried no later than usual.
        """
        self.save(KEY)
        self.wall_offset -= 3600
        self.clock.advance(61)
        [timer] = self.clock.getDelayedCalls()
        self.assertLessEqual(timer.getTime() - self.clock.seconds(), 61)

    def test_from_the_future(self) -> None:
        """
        What a server stored whose clock was ahead expires as if it had been stored when the
        next server started.
        """
        file = Path(self.mktemp())
        earlier = memory_store(self.clock, lambda: 2e9, file)
        earlier.add(new_job("a"), UNLIMITED)
        earlier.mark_ended("a", "done", JobAnswer({}), 2e9)
        earlier.save_response(KEY, "print", StoredResponse(200, {}), 2e9)
        earlier.close()
        store = memory_store(self.clock, self.wall_clock, file)
        self.addCleanup(store.close)
        self.assertEqual(self.successResultOf(store.oldest()), self.wall_clock())

    def test_storage_fails(self) -> None:
        """
        If the storage fails, records are deleted when it works again.
        """
        self.save(KEY)
        self.faults.fault = "full"
        self.clock.pump([1] * 70)
        self.assertTrue(self.is_stored(KEY))
        self.faults.fault = None
        self.clock.pump([1] * 70)
        self.assertFalse(self.is_stored(KEY))

    def test_other_server(self) -> None:
        """
        While another server deletes what has expired, this one looks every ten seconds.
        """
        self.save(KEY)
        attempts: list[float] = []

        def delete_expired(until: float) -> Deferred[bool]:
            attempts.append(self.clock.seconds())
            return succeed(False)

        self.patch(self.store, "delete_expired", delete_expired)
        self.clock.pump([1] * 90)
        self.assertEqual(attempts, [61.0, 71.0, 81.0])
