"""
Tests for `kiroworkers.mcp.jsonrpc`.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp.errors import INVALID_PARAMS, INVALID_REQUEST
from kiroworkers.mcp.jsonrpc import InvalidMessage, Notification, Request, parse_message


class ParseMessageTests(SynchronousTestCase):
    """
    Tests for `parse_message`.
    """

    def refused(self, body: Any) -> InvalidMessage:
        """
        Return why `body` is no message.
        """
        problem: InvalidMessage = self.assertRaises(InvalidMessage, parse_message, body)
        return problem

    def test_request(self) -> None:
        """
        A message with an id is a request, and null or no parameters are none.
        """
        body: Any
        for id in (0, -1, 10**300, "", "a"):
            body = {"jsonrpc": "2.0", "id": id, "method": "ping"}
            self.assertEqual(parse_message(body), Request(id, "ping", {}))
            self.assertEqual(parse_message({**body, "params": None}), Request(id, "ping", {}))
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": 1}}
        self.assertEqual(parse_message(body), Request(1, "ping", {"a": 1}))

    def test_notification(self) -> None:
        """
        A message without an id is a notification, whatever its method.
        """
        body = {"jsonrpc": "2.0", "method": "tools/call"}
        self.assertEqual(parse_message(body), Notification("tools/call", {}))

    def test_wrong_id(self) -> None:
        """
        An id that is neither a string nor a whole number makes no notification of a request.
        """
        id: Any
        for id in (None, True, False, 1.0, [], {}):
            problem = self.refused({"jsonrpc": "2.0", "id": id, "method": "ping"})
            self.assertEqual((problem.id, problem.error.code), (None, INVALID_REQUEST), id)

    def test_no_object(self) -> None:
        """
        Batches, and values that are not objects, are refused without an id.
        """
        for body in ([], [{"jsonrpc": "2.0", "id": 1, "method": "ping"}], None, 1, "x", True):
            problem = self.refused(body)
            self.assertEqual((problem.id, problem.error.code), (None, INVALID_REQUEST), body)
        self.assertIn("batch", str(self.refused([])))

    def test_wrong_members(self) -> None:
        """
        A wrong version or method is refused with the id of the request, if that is valid.
        """
        for wrong in (
            {"jsonrpc": "1.0"},
            {"jsonrpc": 2.0},
            {"method": None},
            {"method": 5},
            {"method": ["ping"]},
        ):
            problem = self.refused({"jsonrpc": "2.0", "id": 7, "method": "ping", **wrong})
            self.assertEqual((problem.id, problem.error.code), (7, INVALID_REQUEST), wrong)
        self.assertEqual(self.refused({}).error.code, INVALID_REQUEST)

    def test_response(self) -> None:
        """
        A response is refused, because nothing was asked.
        """
        for outcome in ("result", "error"):
            problem = self.refused({"jsonrpc": "2.0", "id": 1, outcome: {}})
            self.assertEqual(problem.id, None)
            self.assertIn("sends no requests", str(problem))

    def test_wrong_params(self) -> None:
        """
        Parameters by position are refused as parameters.
        """
        for params in ([], [1], "x", 5, True):
            problem = self.refused({"jsonrpc": "2.0", "id": 1, "method": "x", "params": params})
            self.assertEqual((problem.id, problem.error.code), (1, INVALID_PARAMS), params)
