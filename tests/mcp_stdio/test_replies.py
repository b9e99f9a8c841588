"""
Tests for `kiroworkers.mcp_stdio.replies`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp_stdio.replies import failure_reply, is_session_lost

URL = "http://127.0.0.1:8080/mcp"


def error_body(number: int, **data: Any) -> bytes:
    """
    Return the body of a failure that the server describes.
    """
    error = {"code": number, "message": "There is a reason", "data": data}
    return json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()


class FailureTests(SynchronousTestCase):
    """
    Tests for `failure_reply`.
    """

    def reply(self, status: int, body: bytes, hint: str = "") -> Any:
        """
        Return the error of the reply to the request 7.
        """
        reply = json.loads(failure_reply(7, URL, status, body, hint))
        self.assertEqual((reply["jsonrpc"], reply["id"]), ("2.0", 7))
        return reply["error"]

    def test_own_error(self) -> None:
        """
        The server's own error is passed on, with all its data, as the answer to the request.
        """
        error = self.reply(429, error_body(-32600, code="too_many_requests", retryAfter=3))
        self.assertEqual((error["code"], error["message"]), (-32600, "There is a reason"))
        self.assertEqual(error["data"], {"code": "too_many_requests", "retryAfter": 3})

    def test_hint(self) -> None:
        """
        A hint follows the server's sentence.
        """
        error = self.reply(401, error_body(-32600, code="no_token"), "(give a token)")
        self.assertEqual(error["message"], "There is a reason (give a token)")
        self.assertEqual(error["data"], {"code": "no_token"})

    def test_other_body(self) -> None:
        """
        Without such an error, as from a proxy, the reply has the status and a piece of the body.
        """
        for body, shown in (
            (b"<h1>Bad\n gateway</h1>", ": <h1>Bad gateway</h1>"),
            (b"", ""),
            (b"\xff" * 999, ": " + "\ufffd" * 200),
            (b'{"jsonrpc":"2.0","id":1,"result":{}}', ': {"jsonrpc":"2.0","id":1,"result":{}}'),
        ):
            error = self.reply(502, body)
            self.assertEqual(error["message"], f"{URL} answered 502{shown}")
            self.assertEqual((error["code"], error["data"]), (-32000, {"status": 502}))


class SessionLostTests(SynchronousTestCase):
    """
    Tests for `is_session_lost`.
    """

    def test_lost(self) -> None:
        """
        A 404 means that there is no such session, unless it is the method that is unknown.
        """
        for status, body, expected in (
            (404, b"", True),
            (404, error_body(-32600, code="session_not_found"), True),
            (404, error_body(-32601), False),
            (400, error_body(-32600), False),
            (200, b"", False),
        ):
            self.assertEqual(is_session_lost(status, body), expected)
