"""
Tests for `kiroworkers.web.events`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from kiroworkers.pool.progress import PartialText, Queued, Started
from kiroworkers.web.events import EventStream, EventWriter


def memory_request() -> Any:
    """
    Return a request that keeps what is written to it.
    """
    return DummyRequest([b""])


class EventWriterTests(SynchronousTestCase):
    """
    Tests for `EventWriter`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.request = memory_request()
        self.writer = EventWriter(self.clock, self.request)
        self.addCleanup(self.writer.close)

    def test_begins(self) -> None:
        """
        The response begins with the first event, and has its headers then.
        """
        self.assertFalse(self.writer.started)
        self.assertEqual(self.request.written, [])
        self.assertIsNone(self.request.responseHeaders.getRawHeaders("content-type"))
        self.writer.write_json({"a": 1}, "first")
        self.writer.write("[DONE]")
        self.assertTrue(self.writer.started)
        self.assertEqual(
            self.request.written, [b'event: first\ndata: {"a":1}\n\n', b"data: [DONE]\n\n"]
        )
        for name, value in (
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store"),
            ("x-accel-buffering", "no"),
        ):
            self.assertEqual(self.request.responseHeaders.getRawHeaders(name), [value])

    def test_keep_alive(self) -> None:
        """
        A comment follows 15 seconds of silence, until the writer is closed.
        """
        self.clock.advance(14)
        self.writer.write("1")
        self.clock.advance(14)
        self.assertEqual(self.request.written, [b"data: 1\n\n"])
        self.clock.pump([1, 15])
        self.assertEqual(self.request.written[1:], [b": alive\n\n"] * 2)
        self.writer.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class EventStreamTests(SynchronousTestCase):
    """
    Tests for `EventStream`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.request = memory_request()
        self.stream = EventStream(self.clock, self.request)

    def test_begins_at_once(self) -> None:
        """
        The response begins before there is an event, and leaves no timer when it ends.
        """
        self.assertEqual(self.request.written, [b": kiroworkers\n\n"])
        self.stream.on_progress(PartialText("lost"))
        self.stream.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_text(self) -> None:
        """
        Pieces of text that come within a tenth of a second become one event, which comes
        before any later event.
        """
        self.stream.on_progress(Queued(2, 3.14))
        self.stream.on_progress(Started("worker1", 1))
        for piece in ("One ", "two"):
            self.stream.on_progress(PartialText(piece))
        self.clock.advance(0.1)
        self.stream.on_progress(PartialText("three"))
        self.stream.send("answer", {"a": 1})
        self.stream.close()
        self.assertEqual(
            self.request.written[1:],
            [
                b'event: queued\ndata: {"position":2,"estimate":3.1}\n\n',
                b'event: started\ndata: {"worker":"worker1","attempt":1}\n\n',
                b'event: text\ndata: {"text":"One two"}\n\n',
                b'event: text\ndata: {"text":"three"}\n\n',
                b'event: answer\ndata: {"a":1}\n\n',
            ],
        )
