"""
Tests for `kiroworkers.mcp.meta`, `kiroworkers.mcp.handshake` and `kiroworkers.mcp.revisions`.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp.errors import INVALID_PARAMS, McpError
from kiroworkers.mcp.handshake import parse_initialize
from kiroworkers.mcp.jsonrpc import Request
from kiroworkers.mcp.meta import (
    CLIENT_CAPABILITIES,
    PROTOCOL_VERSION,
    client_capabilities,
    declared_revision,
    extensions,
    progress_token,
)
from kiroworkers.mcp.revisions import HANDSHAKE, STATELESS


def _request(meta: Any) -> Request:
    return Request(1, "tools/list", {"_meta": meta})


class MetaTests(SynchronousTestCase):
    """
    Tests for what a request says about itself.
    """

    def refused(self, function: Any, message: Request) -> str:
        """
        Return the field that `function` finds wrong in `message`.
        """
        error = self.assertRaises(McpError, function, message)
        self.assertEqual(error.code, INVALID_PARAMS)
        return str(error.data["field"])

    def test_capabilities(self) -> None:
        """
        The capabilities are those of the request itself.
        """
        found = client_capabilities(
            _request({PROTOCOL_VERSION: "x", CLIENT_CAPABILITIES: {"a": {}}})
        )
        self.assertEqual(found, {"a": {}})

    def test_no_capabilities(self) -> None:
        """
        A request that lacks what the stateless revision demands is refused.
        """
        complete = {PROTOCOL_VERSION: STATELESS, CLIENT_CAPABILITIES: {}}
        for name in complete:
            meta = {key: value for key, value in complete.items() if key != name}
            self.assertEqual(
                self.refused(client_capabilities, _request(meta)), f"params._meta.{name}"
            )
        wrong: Any
        for wrong in (None, [], 5, "x"):
            message = _request({**complete, CLIENT_CAPABILITIES: wrong})
            field = f"params._meta.{CLIENT_CAPABILITIES}"
            self.assertEqual(self.refused(client_capabilities, message), field)
            self.assertEqual(self.refused(client_capabilities, _request(wrong)), "params._meta")

    def test_revision(self) -> None:
        """
        The revision is what the request says, if it says anything.
        """
        self.assertEqual(declared_revision(_request({PROTOCOL_VERSION: 5})), 5)
        meta: Any
        for meta in (None, [], {}, "x"):
            self.assertIsNone(declared_revision(_request(meta)))

    def test_extensions(self) -> None:
        """
        Extensions are an object, or there are none.
        """
        self.assertEqual(extensions({"extensions": {"a/b": {}}}), {"a/b": {}})
        for wrong in ({}, {"extensions": None}, {"extensions": ["a/b"]}):
            self.assertEqual(extensions(wrong), {})

    def test_progress_token(self) -> None:
        """
        A token is a string or a whole number, as it was sent; nothing and null are none.
        """
        for token in ("", "t", 0, 5):
            self.assertEqual(progress_token(_request({"progressToken": token})), token)
        for meta in (None, {}, {"progressToken": None}):
            self.assertIsNone(progress_token(_request(meta)))
        self.assertIsNone(progress_token(Request(1, "x")))

    def test_wrong_progress_token(self) -> None:
        """
        Any other token is refused.
        """
        token: Any
        for token in (True, 1.5, [], {}):
            message = _request({"progressToken": token})
            self.assertEqual(self.refused(progress_token, message), "params._meta.progressToken")
        self.assertEqual(self.refused(progress_token, _request([])), "params._meta")

    def test_initialize(self) -> None:
        """
        A client gets the revision it wants, or else the newest one that has a handshake.
        """
        for wanted, expected in (
            *zip(HANDSHAKE, HANDSHAKE, strict=True),
            (STATELESS, HANDSHAKE[0]),
            ("2024-11-05", HANDSHAKE[0]),
            ("", HANDSHAKE[0]),
        ):
            message = Request(
                1, "initialize", {"protocolVersion": wanted, "capabilities": {"a": {}}}
            )
            self.assertEqual(parse_initialize(message), expected)

    def test_wrong_initialize(self) -> None:
        """
        Parameters of the handshake that are missing or of another type are refused.
        """
        params = {"protocolVersion": "2025-11-25", "capabilities": {}}
        for name in params:
            wrong: Any
            for wrong in (None, 5, []):
                message = Request(1, "initialize", {**params, name: wrong})
                self.assertEqual(self.refused(parse_initialize, message), f"params.{name}")
