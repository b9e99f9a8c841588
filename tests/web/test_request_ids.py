"""
Tests for the identifiers of requests, and for the events of requests, on a pool in memory.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.testing import MemoryKiro
from kiroworkers.trace_context import TraceContext
from kiroworkers.web.request_ids import choose_request_id
from tests import fakekiro
from tests.web.test_errors import MemoryServer

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_TRACEPARENT = f"00-{_TRACE}-00f067aa0ba902b7-01"


class ChoiceTests(SynchronousTestCase):
    """
    Tests for `choose_request_id`.
    """

    def test_client(self) -> None:
        """
        The client's own identifier counts if it is valid, else its trace, else a new one.
        """
        trace = TraceContext(_TRACE, "00f067aa0ba902b7")
        for given, context, chosen in [
            ("order-7.a_B", trace, "order-7.a_B"),
            ("x" * 128, None, "x" * 128),
            ("x" * 129, None, "new"),
            ("a b", trace, _TRACE),
            ("a\r\nSet-Cookie: b", None, "new"),
            ("a\n", None, "new"),
            ("ä", None, "new"),
            ("", trace, _TRACE),
            ("", None, "new"),
        ]:
            self.assertEqual(choose_request_id(given, context, lambda: "new"), chosen, given)


@define
class Events:
    """
    Keep the events of each request.
    """

    records: list[RequestRecord] = field(factory=list)
    events: dict[str, list[RequestEvent]] = field(factory=dict)

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        if record not in self.records:
            self.records.append(record)
        self.events.setdefault(record.id, []).append(event)

    def names(self, id: str) -> list[str]:
        return [event.name for event in self.events[id]]


class Unfit(MemoryKiro):
    """
    An agent whose first answer does not fit the schema.
    """

    def __init__(self) -> None:
        self._prompt: str | None = None
        super().__init__(self._answer)

    def _answer(self, prompt: str) -> str:
        if self._prompt is None:
            self._prompt = prompt
            return '{"title": 1}'
        return fakekiro.answer_text(self._prompt)


class EventTests(SynchronousTestCase):
    """
    Tests that each step of a request is an event with the request's identifier.
    """

    def setUp(self) -> None:
        self.seen = Events()

    def server(self, **options: Any) -> MemoryServer:
        return MemoryServer(observers=[self.seen], **options)

    def test_response(self) -> None:
        """
        Every response has the identifier, and so has the body of every error.
        """
        server = self.server()
        self.assertEqual(server.story(X_Request_ID="mine").headers["x-request-id"], "mine")
        for path, options in [
            ("/kiro/generate-story", {"traceparent": _TRACEPARENT}),
            ("/kiro/generate-story", {"traceparent": _TRACEPARENT, "Accept": "text/event-stream"}),
            ("/v1/chat/completions", {"traceparent": _TRACEPARENT}),
            ("/nothing", {"traceparent": _TRACEPARENT}),
        ]:
            response = server.request("POST", path, {}, **options)
            self.assertEqual(response.headers["x-request-id"], _TRACE)
            self.assertEqual(response.error["requestId"], _TRACE, path)
        ids = {server.request("GET", "/health").headers["x-request-id"] for _ in range(2)}
        self.assertEqual(len(ids), 2)

    def test_malformed(self) -> None:
        """
        A request that cannot be parsed is answered with an identifier as well, the client's own
        if its header was read before.
        """
        server = self.server()
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: mine\r\n"
        responses = [
            server.send(data)()
            for data in (b"\x16\x03\x01\n", head + b"Content-Length: 99999999\r\n\r\n")
        ]
        for response in responses:
            self.assertEqual(response.error["requestId"], response.headers["x-request-id"])
        self.assertEqual(responses[1].error["requestId"], "mine")

    def test_answered(self) -> None:
        """
        The events of an answered request are in order; the last one comes when the agent has
        forgotten the conversation.
        """
        server = self.server()
        self.assertEqual(server.story(X_Request_ID="mine").status, 200)
        server.settle()
        names = self.seen.names("mine")
        steps = ["received", "started", "submitted", "first_output", "answered"]
        self.assertEqual(names[:5], steps)
        self.assertEqual({*names[5:]}, {"ended", "cleared"})
        times = [event.at for event in self.seen.events["mine"]]
        self.assertEqual(times, sorted(times))
        [record] = [record for record in self.seen.records if record.id == "mine"]
        self.assertEqual((record.status, record.task), (200, "generate-story"))

    def test_silent(self) -> None:
        """
        The echo of a prompt is not taken for output of the agent.
        """
        server = self.server(program=lambda: MemoryKiro(lambda prompt: None))
        server.begin("POST", "/kiro/generate-story", {"idea": "a"}, X_Request_ID="mine")
        server.settle()
        self.assertEqual(self.seen.names("mine"), ["received", "started", "submitted"])

    def test_repaired(self) -> None:
        """
        An answer that is corrected in the same conversation is a retry that was repaired.
        """
        server = self.server(program=Unfit)
        self.assertEqual(server.story(X_Request_ID="mine").status, 200)
        names = self.seen.names("mine")
        for name in ("retry", "repaired"):
            self.assertEqual(names.count(name), 1)
        self.assertEqual(names.count("answered"), 2)

    def test_failed(self) -> None:
        """
        A request that is refused has an event with the failure's code, whatever its kind.
        """
        server = self.server()
        for number, (path, headers) in enumerate(
            [
                ("/kiro/generate-story", {}),
                ("/kiro/generate-story", {"Accept": "text/event-stream"}),
                ("/v1/chat/completions", {}),
            ]
        ):
            server.request("POST", path, {}, X_Request_ID=f"r{number}", **headers)
            [failed] = [e for e in self.seen.events[f"r{number}"] if e.name == "failed"]
            self.assertEqual(failed.data["code"], "invalid_input")

    def test_queued(self) -> None:
        """
        A request that must wait has an event with its position.
        """
        server = self.server(program=lambda: MemoryKiro(lambda prompt: None))
        server.begin("POST", "/kiro/generate-story", {"idea": "a"}, X_Request_ID="first")
        server.begin("POST", "/kiro/generate-story", {"idea": "b"}, X_Request_ID="second")
        server.settle()
        [queued] = [e for e in self.seen.events["second"] if e.name == "queued"]
        self.assertEqual(queued.data["position"], 1)
        self.assertIn("started", self.seen.names("first"))
