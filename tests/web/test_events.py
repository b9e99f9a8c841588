"""
Tests for `kiroworkers.web.events`.
"""

from __future__ import annotations

import json
import socket
import tracemalloc
from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, cooperate
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kiroworkers.pool.progress import AgentNotice, PartialText, Queued, Retrying, Started
from kiroworkers.web.events import MAX_UNREAD, EventStream, EventWriter, event, json_event
from kiroworkers.web.limits import RequestLimits
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.site import ApiSite
from tests.web.streams import streamed_request


class EventWriterTests(SynchronousTestCase):
    """
    Tests for `EventWriter`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.request = streamed_request()
        self.writer = EventWriter(self.clock, self.request, event)
        self.addCleanup(self.writer.close)

    def test_begins(self) -> None:
        """
        The response begins with the first event, and has its headers then.
        """
        self.assertFalse(self.writer.started)
        self.assertEqual(self.request.written, [])
        self.assertIsNone(self.request.responseHeaders.getRawHeaders("content-type"))
        self.writer.write(json_event({"a": 1}, "first"))
        self.writer.write(event("[DONE]"))
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
        self.writer.write(event("1"))
        self.clock.advance(14)
        self.assertEqual(self.request.written, [b"data: 1\n\n"])
        self.clock.pump([1, 15])
        self.assertEqual(self.request.written[1:], [b": alive\n\n"] * 2)
        self.writer.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_paused(self) -> None:
        """
        While the client does not read, events wait in their order, pieces of text become
        one event, and there are no comments.
        """
        self.writer.write(event("1"))
        self.writer.pauseProducing()
        self.writer.write_text("2")
        self.writer.write_text("3")
        self.writer.write(event("4"))
        self.writer.write_text("5")
        self.clock.advance(100)
        self.assertEqual(self.request.sent(), b"data: 1\n\n")
        self.writer.resumeProducing()
        self.assertEqual(self.request.sent(), b"data: 1\n\ndata: 23\n\ndata: 4\n\ndata: 5\n\n")

    def test_not_read(self) -> None:
        """
        A client that reads nothing for three seconds while more than the limit waits is
        dropped: nothing is kept for it, and the log says why.
        """
        self.writer.write(event("1"))
        self.writer.pauseProducing()
        self.writer.write_text("x" * (MAX_UNREAD - 2000))
        self.clock.pump([1] * 100)
        self.assertFalse(self.request.transport.disconnected)
        self.writer.write_text("x" * 2000)
        with capturedLogs() as logged:
            self.clock.advance(1)
        self.assertTrue(self.request.transport.disconnected)
        [warning] = [entry for entry in logged if entry["log_level"] == LogLevel.warn]
        self.assertEqual((warning["client"], warning["seconds"]), ("192.0.2.1", 101))
        self.assertGreater(warning["size"], MAX_UNREAD)
        self.assertEqual(record_of(self.request).code, "not_read")
        self.writer.write_text("2")
        self.writer.write(event("3"))
        self.writer.resumeProducing()
        self.assertEqual(self.request.sent(), b"data: 1\n\n")

    def test_behind(self) -> None:
        """
        A client that is further behind than the limit, but reads, is not dropped and gets
        everything.
        """
        self.request.slow = True
        self.writer.write_text("")
        for number in range(100):
            self.writer.write_text("x" * MAX_UNREAD)
            self.clock.advance(2.9)
            self.writer.resumeProducing()
            self.assertFalse(self.request.transport.disconnected, number)
        while self.request.producer is not None and self.writer._unsent:
            self.writer.resumeProducing()
        self.assertEqual(self.request.sent().count(b"x"), 100 * MAX_UNREAD)

    def test_large_end(self) -> None:
        """
        The end of a stream may be larger than the limit, and is written as the client reads
        it, however slowly.
        """
        self.writer.write(event("1"))
        self.request.slow = True
        end = event("x" * 3 * MAX_UNREAD)
        self.writer.write(end)
        drained = self.writer.drained()
        pieces = 1
        while not drained.called:
            self.clock.advance(29)
            self.request.producer.resumeProducing()
            pieces += 1
        self.assertIsNone(self.successResultOf(drained))
        self.assertGreater(pieces, 40)
        self.assertEqual(self.request.sent(), event("1") + end)
        self.assertFalse(self.request.transport.disconnected)

    def test_stalled_end(self) -> None:
        """
        A client that reads nothing of the end of its stream for 30 seconds is dropped.
        """
        self.writer.write(event("1"))
        self.writer.pauseProducing()
        self.writer.write(event("2"))
        drained = self.writer.drained()
        self.clock.pump([1] * 29)
        self.assertFalse(self.request.transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(self.request.transport.disconnected)
        self.assertNoResult(drained)
        # The request is cancelled when its connection is lost.
        drained.cancel()
        self.failureResultOf(drained, CancelledError)
        self.writer.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hung_up(self) -> None:
        """
        Nothing is written after the connection is lost.
        """
        self.writer.write(event("1"))
        self.writer.pauseProducing()
        self.writer.write(event("2"))
        self.writer.stopProducing()
        self.writer.resumeProducing()
        self.request.channel = None
        self.writer.close()
        self.assertEqual(self.request.sent(), b"data: 1\n\n")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unregistered(self) -> None:
        """
        A writer that is closed is no longer the request's producer.
        """
        self.writer.write(event("1"))
        self.assertIs(self.request.producer, self.writer)
        self.writer.close()
        self.assertIsNone(self.request.producer)


class EventStreamTests(SynchronousTestCase):
    """
    Tests for `EventStream`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.request = streamed_request()
        self.stream = EventStream(self.clock, self.request)

    def events(self) -> list[Any]:
        """
        Return the events after the first comment, as their names and data.
        """
        events = self.request.sent().decode().split("\n\n")[1:-1]
        lines = [event.partition("\ndata: ") for event in events]
        return [(name.removeprefix("event: "), json.loads(data)) for name, _, data in lines]

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
        self.successResultOf(self.stream.end("answer", {"a": 1}))
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

    def test_slow_client(self) -> None:
        """
        A client that reads slowly gets every event, and text that waited for it as one.
        """
        self.request.producer.pauseProducing()
        self.stream.on_progress(Started("worker1", 1))
        for piece in ("One ", "two"):
            self.stream.on_progress(PartialText(piece))
            self.clock.advance(0.1)
        self.stream.on_progress(Retrying("the session ended", "new_conversation"))
        ended = self.stream.end("answer", {"a": 1})
        self.assertEqual(self.events(), [])
        self.assertNoResult(ended)
        self.request.producer.resumeProducing()
        self.assertIsNone(self.successResultOf(ended))
        self.assertEqual(
            self.events(),
            [
                ("started", {"worker": "worker1", "attempt": 1}),
                ("text", {"text": "One two"}),
                ("retry", {"reason": "the session ended", "where": "new_conversation"}),
                ("answer", {"a": 1}),
            ],
        )
        self.stream.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_agent(self) -> None:
        """
        What the agent tells about its turn, and that it starts its answer anew, are events
        that come after the text before them.
        """
        self.stream.on_progress(AgentNotice("compaction", "The conversation is summarized"))
        self.stream.on_progress(PartialText("One"))
        self.stream.on_progress(Retrying("the service restarted", "same_turn"))
        self.stream.send_headers({"X-Kiroworkers-Credits": "0.05"})
        self.successResultOf(self.stream.end("answer", {"a": 1}))
        self.stream.close()
        self.assertEqual(
            self.events(),
            [
                ("notice", {"kind": "compaction", "detail": "The conversation is summarized"}),
                ("text", {"text": "One"}),
                ("retry", {"reason": "the service restarted", "where": "same_turn"}),
                ("headers", {"X-Kiroworkers-Credits": "0.05"}),
                ("answer", {"a": 1}),
            ],
        )

    def test_dropped(self) -> None:
        """
        A client that does not read the progress of its request is dropped.
        """
        self.request.producer.pauseProducing()
        for _ in range(1100):
            self.stream.on_progress(PartialText("x" * 1000))
        self.clock.pump([1] * 2)
        self.assertFalse(self.request.transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(self.request.transport.disconnected)
        self.stream.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


real: Any = reactor


class FloodingResource(Resource):
    """
    Stream a large text to each client.

    Attributes:
        clock: The clock of the streams.
        streamed: Fires when everything was streamed to 20 clients.
        lost: Fires when all of them are gone.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.streamed: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self._streams: list[EventStream] = []

    def render_GET(self, request: Any) -> int:
        stream = EventStream(self.clock, request)
        self._streams.append(stream)

        def on_lost(_: object) -> None:
            stream.close()
            self._streams.remove(stream)
            if not self._streams:
                self.lost.callback(None)

        request.notifyFinish().addErrback(on_lost)
        if len(self._streams) == 20:
            cooperate(self._flood())
        return NOT_DONE_YET

    def _flood(self) -> Iterator[None]:
        for _ in range(60):
            for stream in self._streams:
                stream.on_progress(PartialText("All work and no play. " * 5000))
                yield None
        self.streamed.callback(None)


class SocketTests(TestCase):
    """
    Tests for streams over real connections.
    """

    timeout = 60

    async def test_not_read(self) -> None:
        """
        Twenty clients that never read are all dropped; until then each costs what an agent
        writes in a few seconds, and nothing afterwards.
        """
        resource = FloodingResource()
        site = ApiSite(real, resource, RequestLimits(max_body=100, receive_timeout=10))
        port = real.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", port.getHost().port))
            self.addCleanup(client.close)
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await resource.streamed
        written = 20 * 60 * 5000 * len("All work and no play. ")
        self.assertLess(tracemalloc.get_traced_memory()[1], 1.1 * written)
        with capturedLogs() as logged:
            resource.clock.pump([1] * 4)
            await resource.lost
        dropped = [entry for entry in logged if "dropped a stream" in entry["log_format"]]
        self.assertEqual(len(dropped), 20)
        self.assertLess(tracemalloc.get_traced_memory()[0], 20 * MAX_UNREAD / 4)
