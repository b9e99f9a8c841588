"""
Tests for what holds for every `HistoryStorage` that a later server of the same name reads.

Whoever subclasses `HistoryContract` says how a server opens its history.  The tests of this module
alone are not collected.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from kiroworkers.telemetry.request_history import (
    ENDED_WITHOUT_SAVING,
    HistoryGap,
    HistoryStorage,
    SavedEntry,
    SavedHistory,
)


class HistoryContract(TestCase):
    """
    Test what every storage of the request history must do.

    Attributes:
        clock: The wall clock of the servers.
    """

    clock: Clock

    async def open(self, limit: int = 10) -> tuple[HistoryStorage, SavedHistory]:
        """
        Return the storage of the next server, and what the servers before have saved.

        What is older than 100 seconds has expired.
        """
        raise NotImplementedError

    async def save(
        self, storage: HistoryStorage, *numbers: int, removed: tuple[int, ...] = ()
    ) -> None:
        now = self.clock.seconds()
        entries = [SavedEntry(number, now, {"a": (1, "ü\0\ud800")}) for number in numbers]
        await storage.save(entries, removed)

    async def numbers(self, limit: int = 10) -> list[int]:
        """
        Return the numbers of the entries that the next server has.
        """
        _, saved = await self.open(limit)
        return [entry.number for entry in saved.entries]

    async def test_saved(self) -> None:
        """
        What is saved is read by the next server, and what is removed is gone, but its number is
        not used again.
        """
        first, saved = await self.open()
        self.assertEqual((saved.last_number, [*saved.entries]), (0, []))
        await self.save(first, 1, 2, 3)
        await self.save(first, 2, removed=(1, 3))
        await first.end()
        _, saved = await self.open()
        self.assertEqual(saved.last_number, 3)
        self.assertEqual(saved.entries, [SavedEntry(2, 1000.0, {"a": [1, "ü\0\ud800"]})])
        self.assertEqual(saved.gaps, [])

    async def test_changed(self) -> None:
        """
        An entry that is saved again replaces the earlier one; one that is removed at once is not
        saved.
        """
        storage, _ = await self.open()
        await self.save(storage, 1)
        await storage.save([SavedEntry(1, 1001.0, {}), SavedEntry(2, 1001.0, {})], [2])
        self.clock.advance(5)
        _, saved = await self.open()
        self.assertEqual(saved.entries, [SavedEntry(1, 1001.0, {})])
        self.assertEqual(saved.last_number, 2)

    async def test_expired(self) -> None:
        """
        Entries that are too old, or too many, are not read again; a time in the future does not
        keep an entry for ever.
        """
        storage, _ = await self.open()
        await self.save(storage, 1)
        self.clock.advance(60)
        await self.save(storage, *range(2, 9))
        self.clock.advance(60)
        self.assertEqual(await self.numbers(), [*range(2, 9)])
        self.assertEqual(await self.numbers(limit=3), [6, 7, 8])
        self.clock.rightNow = 500.0
        _, saved = await self.open()
        self.assertEqual([entry.ended for entry in saved.entries], [500.0] * 3)

    async def test_gap(self) -> None:
        """
        A server that ends without saving leaves a gap, from when it saved last, which is known
        until it is too old.
        """
        storage, _ = await self.open()
        await self.save(storage, 1)
        self.clock.advance(50)
        _, saved = await self.open()
        self.assertEqual(saved.gaps, [HistoryGap(ENDED_WITHOUT_SAVING, 1000.0, 1050.0)])
        self.clock.advance(10)
        _, saved = await self.open()
        self.assertEqual(len(saved.gaps), 1)
        self.clock.advance(91)
        _, saved = await self.open()
        self.assertEqual(saved.gaps, [])
