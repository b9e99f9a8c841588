"""
Tests for `kiroworkers.web.mcp.accepted`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import ErrorCode
from kiroworkers.web.errors import HttpError
from kiroworkers.web.mcp.accepted import AcceptedTypes, accepted_types
from tests.web.streams import streamed_request


class AcceptedTypesTests(SynchronousTestCase):
    """
    Tests for `accepted_types`.
    """

    def accepted(self, *lines: str) -> AcceptedTypes:
        """
        Return what a client accepts that sends `lines`.
        """
        request = streamed_request()
        request.requestHeaders.setRawHeaders("accept", lines)
        return accepted_types(request)

    def test_both(self) -> None:
        """
        A client accepts both if it lists both, anything, or nothing.
        """
        both = AcceptedTypes(json=True, events=True)
        for lines in (
            ("application/json, text/event-stream",),
            ("text/event-stream;q=0.9,APPLICATION/JSON;charset=utf-8",),
            ("application/json", "text/event-stream"),
            ("text/html, */*;q=0.1",),
            ("application/*, text/*",),
        ):
            self.assertEqual(self.accepted(*lines), both, lines)
        self.assertEqual(accepted_types(streamed_request()), both)

    def test_one(self) -> None:
        """
        A client may accept only one.
        """
        self.assertEqual(self.accepted("application/json"), AcceptedTypes(json=True, events=False))
        self.assertEqual(
            self.accepted("text/event-stream, application/json;q=0.0"),
            AcceptedTypes(json=False, events=True),
        )

    def test_neither(self) -> None:
        """
        A client that accepts neither is refused.
        """
        for line in ("text/html", "", "application/jsonx", "*/*;q=0", ",;q=1"):
            error = self.assertRaises(HttpError, self.accepted, line)
            self.assertEqual(error.code, ErrorCode.NOT_ACCEPTABLE, line)
