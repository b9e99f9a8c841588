"""
Tests for `kiroworkers.proof.http`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from kiroworkers.proof.http import Client

real: Any = reactor


class _Echo(Resource):
    """
    Return what was sent; a request to /silent has no response.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: Deferred[None] = Deferred()
        self.hung_up: Deferred[None] = Deferred()

    def render(self, request: Any) -> Any:
        if request.path == b"/silent":
            request.notifyFinish().addErrback(lambda _: self.hung_up.callback(None))
            self.asked.callback(None)
            return NOT_DONE_YET
        request.setHeader(b"X-Method", request.method)
        request.setResponseCode(202)
        return json.dumps([request.content.read().decode()]).encode()


class ClientTests(TestCase):
    """
    Tests for `Client`.
    """

    def setUp(self) -> None:
        self.server = _Echo()
        site: Any = Site(self.server)
        port = real.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.client = Client(real, f"http://127.0.0.1:{port.getHost().port}")

    async def test_request(self) -> None:
        """
        A response has its status, its headers by lower-case names, and parsed JSON.
        """
        response = await self.client.request("POST", "/", {"a": "ü"})
        self.assertEqual((response.code, response.headers["x-method"]), (202, "POST"))
        self.assertEqual(json.loads(response.body[0]), {"a": "ü"})
        self.assertEqual((await self.client.request("GET", "/")).body, [""])

    async def test_cancel(self) -> None:
        """
        Cancelling a request hangs up, and raises nothing else.
        """
        pending = Deferred.fromCoroutine(self.client.request("GET", "/silent"))
        await self.server.asked
        pending.cancel()
        with self.assertRaises(CancelledError):
            await pending
        await self.server.hung_up
