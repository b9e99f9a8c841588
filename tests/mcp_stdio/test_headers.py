"""
Tests for `kiroworkers.mcp_stdio.headers`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp_stdio.headers import Session, encode_value, headers_for
from kiroworkers.mcp_stdio.messages import Message, read_message

SESSION = Session("the-session", "2025-11-25")

#: The headers of every request.
_ALWAYS = {"Content-Type", "Accept"}


def message(method: str, *, modern: bool = False, **params: Any) -> Message:
    """
    Return a request.
    """
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"} if modern else {}
    value = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    return read_message(json.dumps(value).encode())


def particular(headers: dict[str, str]) -> dict[str, str]:
    """
    Return the headers that only some requests have.
    """
    return {name: value for name, value in headers.items() if name not in _ALWAYS}


class HeadersTests(SynchronousTestCase):
    """
    Tests for `headers_for` and `encode_value`.
    """

    def test_session(self) -> None:
        """
        Messages of a session name it and its revision; the one that begins another does not.
        """
        named = {"Mcp-Session-Id": "the-session", "MCP-Protocol-Version": "2025-11-25"}
        self.assertEqual(particular(headers_for(message("tools/list"), SESSION)), named)
        response = read_message(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        self.assertEqual(particular(headers_for(response, SESSION)), named)
        self.assertEqual(particular(headers_for(message("initialize"), SESSION)), {})
        self.assertEqual(particular(headers_for(message("tools/list"), None)), {})
        no_id = particular(headers_for(message("tools/list"), Session(None, "2025-06-18")))
        self.assertEqual(no_id, {"MCP-Protocol-Version": "2025-06-18"})

    def test_stateless(self) -> None:
        """
        A message that names its revision belongs to no session; its headers repeat its method
        and the name that it is about.
        """
        for method, params, name in (
            ("tools/list", {}, None),
            ("tools/call", {"name": "generate-story"}, "generate-story"),
            ("tools/call", {"name": 7}, None),
            ("resources/read", {"uri": "file:///x", "name": "y"}, "file:///x"),
            ("tasks/get", {"taskId": "abc"}, "abc"),
            ("tasks/cancel", {"taskId": "é"}, "=?base64?w6k=?="),
        ):
            headers = particular(headers_for(message(method, modern=True, **params), SESSION))
            expected = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
            if name is not None:
                expected["Mcp-Name"] = name
            self.assertEqual(headers, expected)

    def test_encoded(self) -> None:
        """
        A value that a header could change is in base64, as in the specification's examples.
        """
        for text, value in (
            ("us-west1", "us-west1"),
            ("a b", "a b"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", "=?base64??="),
        ):
            self.assertEqual(encode_value(text), value)
        for text in ("x\r\nX-Evil: 1", "\ud800", "\0"):
            self.assertRegex(encode_value(text), r"\A=\?base64\?[\w+/=]+\?=\Z")
