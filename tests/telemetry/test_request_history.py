"""
Tests for `kiroworkers.telemetry.request_history`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import MAX_FIRST, MAX_LAST, RequestRecord
from kiroworkers.telemetry.observers import RequestObservers
from kiroworkers.telemetry.request_history import (
    HistoryFilter,
    HistoryGap,
    RequestHistory,
    SavedEntry,
    SavedHistory,
    asks_agent,
)

STORY = "/kiro/generate-story"


class MemoryStorage:
    """
    Keep what is saved; this is a `HistoryStorage`.

    Attributes:
        entries: The saved entries by number.
        batches: The number of entries in each call.
        error: What saving fails with; None while it works.
        ended: Whether the server has ended properly.
        held: What a call waits for; None if it is done at once.
    """

    def __init__(self) -> None:
        self.entries: dict[int, SavedEntry] = {}
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.ended = False
        self.held: Deferred[None] | None = None

    def save(self, entries: Sequence[SavedEntry], removed: Sequence[int]) -> Deferred[None]:
        self.batches.append(len(entries))
        self.ended = False
        saved = succeed(None) if self.held is None else self.held
        return saved.addCallback(lambda _: self._save(entries, removed))

    def _save(self, entries: Sequence[SavedEntry], removed: Sequence[int]) -> None:
        if self.error is not None:
            raise self.error
        for entry in entries:
            self.entries[entry.number] = entry
        for number in removed:
            self.entries.pop(number, None)

    def end(self) -> Deferred[None]:
        self.ended = True
        return succeed(None)

    def saved(self) -> SavedHistory:
        """
        Return what the next server finds.
        """
        entries = [self.entries[number] for number in sorted(self.entries)]
        return SavedHistory(max(self.entries, default=0), entries)


class HistoryTests(SynchronousTestCase):
    """
    Tests for `RequestHistory`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.begin()

    def begin(self, limit: int = 20, max_bytes: int = 10**9) -> None:
        """
        Start a server without earlier history.
        """
        self.history = RequestHistory(self.clock, self.clock.seconds, limit, 3600, max_bytes)
        self.observers = RequestObservers(self.clock, [self.history])

    def receive(self, id: str = "a", path: str = STORY, **facts: Any) -> RequestRecord:
        """
        Return the record of a request that was received.
        """
        record = RequestRecord(id, on_event=self.observers, **{"client": "ann", **facts})
        record.report("received", method=facts.get("method", "POST"), path=path)
        return record

    def finish(self, record: RequestRecord, status: int = 200, code: str | None = None) -> None:
        record.status, record.code = status, code
        record.report("ended", status=status, total=record.total)

    def ask(self, id: str = "a", **facts: Any) -> RequestRecord:
        """
        Return the record of a request that was answered.
        """
        record = self.receive(id, **facts)
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        self.finish(record)
        return record

    def ids(self, **chosen: Any) -> list[str]:
        return [
            self.history.summary(entry)["id"]
            for entry in self.history.find(HistoryFilter(**chosen))
        ]

    def entry(self, id: str = "a") -> dict[str, Any]:
        """
        Return the newest entry of a request, as clients read it.
        """
        entry = next(self.history.find(HistoryFilter(id=id)))
        return {
            **self.history.summary(entry), "events": entry.events(), "gaps": entry.gaps(),
        }  # fmt: skip

    def test_order(self) -> None:
        """
        Events are shown in the order in which they happened: the end of a response may be
        reported after the worker is idle again.
        """
        record = self.receive("a", task="generate-story")
        self.clock.advance(1)
        record.completed_at = self.clock.seconds()
        self.clock.advance(0.005)
        record.report("cleared", worker="worker1", seconds=0.005)
        self.clock.advance(0.005)
        self.finish(record)
        self.assertEqual(
            [(event["name"], event["at"]) for event in self.entry()["events"]],
            [("received", 0.0), ("ended", 1.0), ("cleared", 1.005)],
        )

    def test_events(self) -> None:
        """
        An entry has the facts of the request, and its events with the seconds until each, also
        while it runs, and with those that come after its end.
        """
        record = self.receive("a", task="generate-story")
        self.clock.advance(0.5)
        record.worker, record.attempts, record.wait = "worker1", 1, 0.5
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        self.clock.advance(1)
        record.report("first_output")
        entry = self.entry()
        self.assertEqual(
            (entry["state"], entry["outcome"], entry["ended"]), ("running", None, None)
        )
        self.assertEqual((entry["received"], entry["firstOutput"]), (1000_000, 1.5))
        self.clock.advance(1)
        record.total = 2.5
        self.finish(record)
        self.clock.advance(0.25)
        record.report("cleared", worker="worker1", seconds=0.25)
        entry = self.entry()
        self.assertEqual(
            [(event["name"], event["at"]) for event in entry["events"]],
            [
                ("received", 0.0), ("started", 0.5), ("first_output", 1.5), ("ended", 2.5),
                ("cleared", 2.75),
            ],
        )  # fmt: skip
        for name, value in {
            "client": "ann", "task": "generate-story", "worker": "worker1", "state": "ended",
            "outcome": "answered", "status": 200, "code": None, "ended": 1002_500, "wait": 0.5,
            "total": 2.5, "attempts": 1, "repairs": 0, "gaps": [],
        }.items():  # fmt: skip
            self.assertEqual(entry[name], value, name)

    def test_clock_set_back(self) -> None:
        """
        A request ends when its response is complete, also if the end is reported later, and not
        before it was received, also if the wall clock was set back meanwhile.
        """
        wall = 5000.0
        self.history = RequestHistory(self.clock, lambda: wall, 20, 3600, 10**9)
        self.observers = RequestObservers(self.clock, [self.history])
        record = self.receive("a", task="generate-story")
        self.clock.advance(1)
        record.completed_at = self.clock.seconds()
        self.clock.advance(0.1)
        wall = 4000.0
        self.finish(record)
        self.assertEqual((self.entry()["received"], self.entry()["ended"]), (5000_000, 5001_000))

    def test_before_read(self) -> None:
        """
        Whoever reads the history learns of an end that was still to be reported.
        """
        record = self.receive()
        self.history.before_read = lambda: self.finish(record)
        self.assertEqual(self.entry()["state"], "ended")

    def test_belongs(self) -> None:
        """
        Only what asks an agent belongs in the history.
        """
        for method, path, belongs in [
            ("POST", STORY, True), ("POST", "/v1/chat/completions", True),
            ("JOB", "/jobs/x", True), ("GET", "/health", False), ("GET", "/v1/models", False),
            ("POST", "/operator/pause", False), ("POST", "/session", False),
            ("POST", None, False), (None, None, False),
        ]:  # fmt: skip
            self.assertIs(asks_agent(method, path), belongs, (method, path))
        self.finish(self.receive("b", path="/operator/pause"))
        self.assertEqual(self.ids(), [])

    def test_outcomes(self) -> None:
        """
        A request fails if it was queued or given to a worker, and is rejected before.
        """
        for id, status, code, was_queued, outcome in [
            ("answered", 200, None, True, "answered"),
            ("job", 202, None, False, "answered"),
            ("late", 504, "timed_out", True, "failed"),
            ("in a stream", 200, "session_lost", True, "failed"),
            ("wrong", 400, "invalid_input", False, "rejected"),
            ("hung up", 499, None, True, "cancelled"),
        ]:
            record = self.receive(id)
            if was_queued:
                record.report("queued", position=1, estimate=1.0)
                record.wait = 1.0
            self.finish(record, status, code)
            self.assertEqual(self.entry(id)["outcome"], outcome, id)
            self.assertIn(id, self.ids(outcome=outcome))

    def test_rejected_while_received(self) -> None:
        """
        A request that was rejected while it was received, of which only the end is reported, has
        an entry.
        """
        record = RequestRecord("a", on_event=self.observers, method="POST", path=STORY)
        record.fail("too_large", "The body is too large")
        self.finish(record, 413, "too_large")
        entry = self.entry()
        self.assertEqual((entry["outcome"], entry["code"]), ("rejected", "too_large"))

    def test_number(self) -> None:
        """
        The newest entries are kept, and those that were dropped are counted; a request that runs
        is kept.
        """
        running = self.receive("running")
        for number in range(30):
            self.ask(str(number))
        self.assertEqual(self.ids(), [*map(str, range(29, 9, -1)), "running"])
        self.assertEqual(self.history.dropped, 10)
        self.finish(running)
        self.assertEqual(len(self.ids()), 20)
        self.begin(limit=0)
        self.ask("a")
        self.assertEqual((self.ids(), self.history.dropped), ([], 0))

    def test_age(self) -> None:
        """
        Entries expire, also if no request comes.
        """
        self.ask("a")
        self.clock.advance(3000)
        self.ask("b")
        self.clock.advance(700)
        self.assertEqual(self.ids(), ["b"])
        self.clock.pump([60] * 60)
        self.assertEqual(len(self.history._entries), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bytes(self) -> None:
        """
        Entries are dropped when all together are too large, however large their events are.
        """
        self.begin(max_bytes=200_000)
        for number in range(15):
            record = self.receive(str(number))
            for _ in range(50):
                record.report("retry", reason="x" * 100_000, where="new_conversation")
            self.finish(record)
        self.assertEqual(self.ids(), ["14", "13", "12", "11"])
        self.assertLess(max(len(str(event)) for event in self.entry("14")["events"]), 700)

    def test_rejected_part(self) -> None:
        """
        Rejected requests do not replace the others.
        """
        self.ask("a")
        for number in range(100):
            self.finish(self.receive(str(number)), 401, "no_token")
        self.assertEqual(self.ids(), ["99", "98", "97", "96", "95", "a"])

    def test_many_events(self) -> None:
        """
        Of a request with very many events, those in the middle are left out, which is declared.
        """
        record = self.receive()
        for number in range(1000):
            self.clock.advance(1)
            record.report("notice", kind="stall", detail=str(number))
        self.finish(record)
        entry = self.entry()
        self.assertEqual(len(entry["events"]), MAX_FIRST + MAX_LAST)
        self.assertEqual(entry["events"][-2]["detail"], "999")
        [gap] = entry["gaps"]
        self.assertEqual((gap["events"], gap["at"]), (1002 - MAX_FIRST - MAX_LAST, 99.0))

    def test_chosen(self) -> None:
        """
        Entries are chosen by client, identifier, worker, task and outcome, and by number.
        """
        for id, client, worker, task in [
            ("a", "ann", "worker1", "generate-story"), ("b", "bob", "worker2", "generate-story"),
            ("a", "bob", "worker1", "chat"),
        ]:  # fmt: skip
            self.ask(id, client=client, worker=worker, task=task)
        self.assertEqual(self.ids(client="bob"), ["a", "b"])
        self.assertEqual(self.ids(id="a"), ["a", "a"])
        self.assertEqual(self.ids(worker="worker1", task="chat"), ["a"])
        newest = next(self.history.find())
        older = [*self.history.find(HistoryFilter(id="a"), before=newest.number)]
        self.assertEqual([self.history.summary(entry)["client"] for entry in older], ["ann"])

    def test_saved(self) -> None:
        """
        What happens within a second is saved in one call, and the next server continues.
        """
        storage = MemoryStorage()
        self.history.open(storage, SavedHistory())
        for number in range(50):
            self.ask(str(number))
        self.assertEqual(storage.batches, [])
        self.clock.advance(1)
        self.assertEqual(storage.batches, [20])
        before = self.entry("49")
        self.successResultOf(self.history.close())
        self.assertTrue(storage.ended)
        self.begin()
        self.history.open(storage, storage.saved())
        self.assertEqual(self.entry("49"), before)
        self.assertEqual((len(self.ids()), self.history.dropped), (20, 30))
        self.ask("50")
        self.assertEqual(self.ids()[:2], ["50", "49"])
        self.clock.advance(1)
        self.assertEqual([*storage.entries], [*range(32, 52)])

    def test_server_ends(self) -> None:
        """
        A request that runs when the server ends is declared to have no end.
        """
        storage = MemoryStorage()
        self.history.open(storage, SavedHistory())
        self.receive()
        self.clock.advance(1)
        self.begin()
        gap = HistoryGap("The server ended", 1000.5, 1001.0)
        saved = storage.saved()
        self.history.open(storage, SavedHistory(saved.last_number, saved.entries, [gap]))
        entry = self.entry()
        self.assertEqual((entry["state"], entry["outcome"]), ("ended", None))
        [missing] = entry["gaps"]
        self.assertEqual(missing["reason"], "The server ended before it had saved the rest")
        self.assertEqual(self.history.gaps, [gap])
        self.clock.advance(3700)
        self.assertEqual((self.ids(), self.history.gaps), ([], []))

    def test_storage_fails(self) -> None:
        """
        While the storage fails nothing is lost, one warning is logged, and requests go on.
        """
        storage = MemoryStorage()
        self.history.open(storage, SavedHistory())
        storage.error = OSError("disk full")
        with capturedLogs() as events:
            for number in range(5):
                self.ask(str(number))
                self.clock.advance(6)
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual(len(warnings), 1)
        self.assertEqual((storage.entries, len(self.ids())), ({}, 5))
        storage.error = None
        self.clock.advance(6)
        self.assertEqual(len(storage.entries), 5)

    def test_fails_to_the_end(self) -> None:
        """
        If the storage fails until the server ends, it does not note that everything was saved.
        """
        storage = MemoryStorage()
        self.history.open(storage, SavedHistory())
        storage.error = OSError("disk full")
        self.ask()
        self.successResultOf(self.history.close())
        self.assertFalse(storage.ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_storage(self) -> None:
        """
        While the storage has not answered it is given nothing more, and what comes meanwhile is
        saved afterwards.
        """
        storage = MemoryStorage()
        self.history.open(storage, SavedHistory())
        held = storage.held = Deferred()
        self.ask("a")
        self.clock.advance(1)
        self.ask("b")
        self.clock.pump([1] * 10)
        self.assertEqual(storage.batches, [1])
        closed = self.history.close()
        self.assertNoResult(closed)
        storage.held = None
        held.callback(None)
        self.successResultOf(closed)
        self.assertEqual((len(storage.entries), storage.ended), (2, True))

    def test_unreadable(self) -> None:
        """
        An entry that cannot be read is dropped with a warning.
        """
        storage = MemoryStorage()
        storage.entries[1] = SavedEntry(1, 900.0, {})
        with capturedLogs() as events:
            self.history.open(storage, storage.saved())
        self.assertEqual([event["n"] for event in events], [1])
        self.clock.advance(1)
        self.assertEqual((self.ids(), storage.entries), ([], {}))

    @given(st.lists(st.sampled_from(["begin", "end", "reject", "save", "wait"]), max_size=60))
    def test_any_order(self, steps: list[str]) -> None:
        """
        Whatever happens, no more is kept than the limits allow, the storage has the same, and
        nothing is left in other tables.
        """
        self.setUp()
        self.begin(limit=4)
        storage = MemoryStorage()
        self.history.open(storage, SavedHistory())
        running: list[RequestRecord] = []
        for step in steps:
            match step:
                case "begin":
                    running.append(self.receive())
                    running[-1].report("queued", position=1, estimate=0.0)
                case "end" if running:
                    self.finish(running.pop(0))
                case "reject":
                    self.finish(self.receive(), 400, "invalid_input")
                case "save":
                    self.clock.advance(1)
                case "wait":
                    self.clock.advance(2000)
        ended = len(self.ids()) - len(running)
        self.assertLessEqual(ended, 4)
        self.assertEqual(len(self.history._ended), ended)
        self.assertLessEqual({*self.history._rejected}, {*self.history._ended})
        entries = self.history._entries
        self.assertEqual(self.history._bytes, sum(entry.size for entry in entries.values()))
        self.clock.pump([1, 1])
        self.assertEqual({*storage.entries}, {*entries})
