"""
Tests for `kiroworkers.cluster.event_table`: what holds for every `EventTable`.

The tests of this module alone are not collected.
"""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from kiroworkers.cluster.event_cursor import MARK, EventRow
from kiroworkers.cluster.event_table import MAX_ROWS, EventBatch, EventTable
from kiroworkers.jobs.job_events import EventId

_START = EventId(0, 1)


def row(run: int, number: int, data: str = "{}", name: str = "text") -> EventRow:
    """
    Return an event.
    """
    return EventRow(EventId(run, number), name, data)


def batch(id: str, *rows: EventRow, first: int = 1) -> EventBatch:
    """
    Return events of the job `id`.
    """
    return EventBatch(id, rows[0].id.run, first, rows)


class EventTableContract(TestCase):
    """
    Test what every table of events must do.

    Attributes:
        table: An empty table.
        heard: The notifications so far; `hear` waits for them.
    """

    table: EventTable
    heard: list[str]

    async def add(self, id: str) -> None:
        """
        Add a job.
        """
        raise NotImplementedError

    async def claim(self) -> tuple[str, int, bool]:
        """
        Claim the next job, and return its id, the number of its claims, and whether it is watched.
        """
        raise NotImplementedError

    async def put_back(self, id: str) -> None:
        """
        Queue a job that was claimed again.
        """
        raise NotImplementedError

    async def cancel(self, id: str) -> None:
        """
        Cancel a job.
        """
        raise NotImplementedError

    async def delete(self, id: str) -> None:
        """
        Delete a job.
        """
        raise NotImplementedError

    async def hear(self, notification: str) -> None:
        """
        Wait until `notification` has come.
        """
        raise NotImplementedError

    async def rows(self, id: str, first: EventId = _START) -> list[EventRow]:
        stored = await self.table.read(id, first)
        assert stored is not None
        return [*stored.rows]

    async def running(self, id: str) -> None:
        await self.add(id)
        self.assertEqual((await self.claim())[:2], (id, 1))

    async def test_stored(self) -> None:
        """
        Events are read as they were stored, in their order, from any of them on; those that are
        stored twice are there once.
        """
        await self.running("a")
        rows = [row(1, 1, '{"text": "\\u0000\\ud800 \\u00e9"}'), row(1, 2), row(1, 3, "", MARK)]
        self.assertEqual(await self.table.store([batch("a", *rows[:2])]), {"a"})
        self.assertEqual(await self.table.keep(batch("a", *rows[1:])), {"a"})
        self.assertEqual(await self.rows("a"), rows)
        self.assertEqual(await self.rows("a", EventId(1, 2)), rows[1:])
        self.assertEqual(await self.rows("a", EventId(2, 1)), [])
        await self.hear("events a")

    async def test_several(self) -> None:
        """
        The events of several jobs are stored together; those of a job that is gone are ignored.
        """
        await self.running("a")
        await self.running("b")
        batches = [batch("a", row(1, 1)), batch("gone", row(1, 1)), batch("b", row(1, 1))]
        self.assertEqual(await self.table.store(batches), {"a", "b"})
        self.assertEqual(await self.rows("b"), [row(1, 1)])

    async def test_many(self) -> None:
        """
        Many events are read in pieces.
        """
        await self.running("a")
        many = [row(1, number) for number in range(1, MAX_ROWS + 10)]
        await self.table.store([batch("a", *many)])
        self.assertEqual(await self.rows("a"), many[:MAX_ROWS])
        self.assertEqual(await self.rows("a", EventId(1, MAX_ROWS)), many[MAX_ROWS - 1 :])

    async def test_state(self) -> None:
        """
        Events are read together with the state of their job.
        """
        await self.add("a")
        for change, expected in [
            (None, (0, "queued", False)),
            (self.claim, (1, "running", False)),
            (lambda: self.cancel("a"), (1, "cancelled", True)),
        ]:
            if change is not None:
                await change()
            stored = await self.table.read("a", _START)
            assert stored is not None
            self.assertEqual((stored.claims, stored.state, stored.ended), expected)
        job = await self.table.job("a")
        assert job is not None
        self.assertEqual((job.id, job.state), ("a", "cancelled"))
        await self.delete("a")
        self.assertIsNone(await self.table.read("a", _START))
        self.assertIsNone(await self.table.job("a"))

    async def test_fence(self) -> None:
        """
        Late events of a run are accepted until the job is begun anew, or has ended.
        """
        await self.running("a")
        await self.put_back("a")
        self.assertEqual(await self.table.store([batch("a", row(1, 1))]), {"a"})
        await self.claim()
        self.assertEqual(await self.table.store([batch("a", row(1, 2))]), set())
        self.assertEqual(await self.table.store([batch("a", row(2, 1))]), {"a"})
        await self.cancel("a")
        self.assertEqual(await self.table.store([batch("a", row(2, 2))]), set())
        self.assertEqual(await self.rows("a"), [row(1, 1), row(2, 1)])

    async def test_dropped(self) -> None:
        """
        Events that the server does not keep any more are deleted, as are those of the runs before
        the last one.
        """
        await self.add("a")
        for run in (1, 2, 3):
            await self.claim()
            await self.table.store([batch("a", row(run, 1), row(run, 2), row(run, 3))])
            await self.put_back("a")
        self.assertEqual((await self.rows("a"))[0], row(2, 1))
        await self.table.store([batch("a", row(3, 4), first=3)])
        kept = [row(2, 1), row(2, 2), row(2, 3), row(3, 3), row(3, 4)]
        self.assertEqual(await self.rows("a"), kept)

    async def test_watch(self) -> None:
        """
        The server that runs a job, or will run it, learns that somebody listens.
        """
        await self.running("a")
        await self.table.watch("a")
        await self.hear("watch a")
        await self.add("b")
        await self.table.watch("b")
        self.assertEqual(await self.claim(), ("b", 1, True))
        await self.table.watch("gone")
        await self.cancel("a")
        await self.hear("ended a")
        await self.delete("b")
        await self.hear("ended b")

    async def test_changed(self) -> None:
        """
        Jobs that have ended, are gone or have more events are found, and those that run here to
        which somebody has begun to listen.
        """
        for id in "abcd":
            await self.running(id)
        await self.table.store([batch("a", row(1, 1), row(1, 2)), batch("b", row(1, 1))])
        await self.cancel("c")
        await self.table.watch("d")
        first = EventId(1, 1)
        seen = [("a", first), ("b", first), ("c", first), ("gone", first)]
        self.assertEqual(await self.table.changed(seen, ["b", "d"]), {"a", "c", "gone", "d"})
        self.assertEqual(await self.table.changed([("b", first)], []), set())
        self.assertEqual(await self.table.changed([], []), set())

    async def test_deleted(self) -> None:
        """
        The events of a job are deleted with it.
        """
        await self.running("a")
        await self.table.store([batch("a", row(1, 1))])
        await self.delete("a")
        await self.running("a")
        self.assertEqual(await self.rows("a"), [])
