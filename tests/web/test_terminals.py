"""
Tests for `kiroworkers.web.terminals`, on real connections.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kiroworkers.errors import InvalidInput
from kiroworkers.session.observer import SessionInfo
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.connection_limits import ConnectionLimiter
from kiroworkers.web.errors import HttpError
from kiroworkers.web.limits import RequestLimits
from kiroworkers.web.recorded_request import AccessLog
from kiroworkers.web.site import ApiSite
from kiroworkers.web.terminals import TerminalHandler, new_live_terminals
from tests.websockets import open_websocket

real: Any = reactor

#: A line of output.
_LINE = b"\x1b[32m" + b"word " * 18 + b"\r\n"


class FakeGroups:
    """
    Have one worker.
    """

    def __iter__(self) -> Any:
        return iter([self])

    @property
    def dispatcher(self) -> Any:
        return self

    def find_worker(self, name: str) -> object | None:
        return self if name == "worker1" else None


class TerminalResource(Resource):
    """
    Answer each request with the terminal of a worker.
    """

    isLeaf = True

    def __init__(self, handler: TerminalHandler) -> None:
        super().__init__()
        self._handler = handler

    def render(self, request: Any) -> Any:
        ended = Deferred.fromCoroutine(self._handler.follow(request, Authorizer()))
        request.notifyFinish().addErrback(lambda _: ended.cancel())
        ended.addCallbacks(
            lambda _: request.finish(), lambda failure: failure.trap(CancelledError) and None
        )
        return NOT_DONE_YET


class SlowViewerTests(TestCase):
    """
    Tests for a viewer that does not read.
    """

    def setUp(self) -> None:
        self.terminals = new_live_terminals(real)
        groups: Any = FakeGroups()
        self.handler = TerminalHandler(real, groups, self.terminals)
        site = ApiSite(
            real,
            TerminalResource(self.handler),
            RequestLimits(100, 10),
            access_log=AccessLog(Clock()),
        )
        self.limiter = ConnectionLimiter(site, 10, 10)
        port = real.listenTCP(0, self.limiter, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.base = f"http://127.0.0.1:{port.getHost().port}"

    async def test_jumps_to_newest(self) -> None:
        """
        However much is printed while a viewer does not read, the server keeps little of it, and
        the viewer sees the newest screen soon after it reads again.
        """
        session = self.terminals.observe(SessionInfo("worker1", "kiro", (24, 100)))
        viewer = await open_websocket(real, self.base, "/?worker=worker1")
        await viewer.messages.get()
        self.assertEqual(len(self.limiter.protocols), 1)
        transport: Any = viewer.transport
        transport.pauseProducing()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(200):
            session.output(_LINE * 1000)
            await deferLater(real, 0.001)
        self.assertLess(tracemalloc.get_traced_memory()[0], 4 * 1024**2)
        session.output(b"\r\nthe newest line")
        transport.resumeProducing()
        messages = await viewer.read_until("the newest line")
        self.assertIn("screen", [message["type"] for message in messages])
        self.assertLess(sum(len(message["data"]) for message in messages), 8 * 1024**2)
        self.handler.stop()
        self.assertEqual(await viewer.closed, (1001, "the server stops"))
        await self.limiter.close(real)

    def test_queries(self) -> None:
        """
        The query must name one worker, which exists.
        """
        cases: list[tuple[dict[bytes, list[bytes]], type[Exception]]] = [
            ({}, InvalidInput),
            ({b"worker": [b"worker1", b"worker1"]}, InvalidInput),
            ({b"worker": [b"\xff"]}, HttpError),
        ]
        for args, expected in cases:
            request: Any = type("FakeRequest", (), {"args": args})()
            self.failureResultOf(
                Deferred.fromCoroutine(self.handler.follow(request, Authorizer())), expected
            )
