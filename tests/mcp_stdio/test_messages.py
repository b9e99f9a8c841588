"""
Tests for `kiroworkers.mcp_stdio.messages`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp_stdio.messages import (
    InvalidMessage,
    read_message,
    with_id,
    write_cancelled,
    write_error,
)


class ReadTests(SynchronousTestCase):
    """
    Tests for `read_message`.
    """

    def invalid(self, line: bytes) -> tuple[int, Any, str]:
        """
        Return the code, the identifier and the sentence of the error of a line.
        """
        with self.assertRaises(InvalidMessage) as caught:
            read_message(line)
        return caught.exception.code, caught.exception.id, str(caught.exception)

    def test_kinds(self) -> None:
        """
        Requests, notifications and responses are told apart; identifiers keep their types.
        """
        for line, is_request, is_response, id in (
            (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', True, False, 1),
            (b'{"jsonrpc":"2.0","id":"1","method":"ping","params":[]}', True, False, "1"),
            (b'{"jsonrpc":"2.0","method":"notifications/initialized"}', False, False, None),
            (b'{"jsonrpc":"2.0","id":0,"result":{}}', False, True, 0),
            (b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}', False, True, None),
        ):
            message = read_message(line)
            self.assertEqual(
                (message.is_request, message.is_response, message.id),
                (is_request, is_response, id),
            )
            self.assertIs(type(message.id), type(id))
            self.assertEqual(message.params, {})

    def test_body(self) -> None:
        """
        A message passes byte by byte, apart from the ends of lines between its tokens.
        """
        line = '{"id": 1.0,\r\n "method":"é\\n", "jsonrpc": "2.0", "x": 1e+2, "x": 12345678901}'
        body = read_message(line.encode()).body
        self.assertEqual(body, line.replace("\r\n", "  ").encode())
        self.assertEqual(json.loads(body), json.loads(line))

    def test_not_json(self) -> None:
        """
        A line that is not JSON in UTF-8 is a parse error.
        """
        for line in (
            b"hello",
            b"{",
            b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}',
            b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
            '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"),
            b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
            b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}',
            b'{"id":' + b"1" * 5000 + b"}",
            b"[" * 200_000,
        ):
            self.assertEqual(self.invalid(line)[:2], (-32700, None))

    def test_not_a_message(self) -> None:
        """
        Other JSON is an invalid request; the error has the identifier if there is one.
        """
        for line, id, part in (
            (b"[]", None, "batches"),
            (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', None, "batches"),
            (b"1", None, "not an object"),
            (b'{"id":1,"method":"ping"}', None, "jsonrpc"),
            (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', None, "jsonrpc"),
            (b'{"jsonrpc":"2.0","id":1,"method":7}', 1, "method"),
            (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', None, "id"),
            (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None, "id"),
            (b'{"jsonrpc":"2.0","id":[],"result":{}}', None, "id"),
            (b'{"jsonrpc":"2.0","id":1}', 1, "neither"),
            (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', 1, "neither"),
        ):
            code, found_id, sentence = self.invalid(line)
            self.assertEqual((code, found_id), (-32600, id))
            self.assertIn(part, sentence)

    def test_version(self) -> None:
        """
        A message names its revision in its metadata, or does not.
        """
        key = "io.modelcontextprotocol/protocolVersion"
        for params, version in (
            ({"_meta": {key: "2026-07-28"}}, "2026-07-28"),
            ({"_meta": {key: 1}}, None),
            ({"_meta": []}, None),
            ({}, None),
            ([], None),
        ):
            value = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": params}
            self.assertEqual(read_message(json.dumps(value).encode()).version, version)

    def test_cancelled(self) -> None:
        """
        Only a valid notification that cancels a request names one.
        """
        for method, id, expected in (
            ("notifications/cancelled", 7, 7),
            ("notifications/cancelled", "7", "7"),
            ("notifications/cancelled", None, None),
            ("notifications/cancelled", True, None),
            ("notifications/progress", 7, None),
        ):
            value = {"jsonrpc": "2.0", "method": method, "params": {"requestId": id}}
            message = read_message(json.dumps(value).encode())
            self.assertEqual(message.cancelled_id, expected)


class WriteTests(SynchronousTestCase):
    """
    Tests for the functions that write messages.
    """

    def test_errors(self) -> None:
        """
        What is written is a message on one line, in ASCII, whatever it says.
        """
        line = write_error("\ud800", -32000, "one\ntwo é", {"status": 502})
        self.assertEqual(
            json.loads(line.decode("ascii")),
            {
                "jsonrpc": "2.0",
                "id": "\ud800",
                "error": {"code": -32000, "message": "one\ntwo é", "data": {"status": 502}},
            },
        )
        self.assertNotIn(b"\n", line)
        self.assertEqual(read_message(write_cancelled(3, "gone")).cancelled_id, 3)

    def test_with_id(self) -> None:
        """
        A response keeps its bytes if its identifier is right, and its value otherwise.
        """
        body = b'{"jsonrpc":"2.0", "id":1, "result":{"x": 1.50}}'
        self.assertEqual(with_id(read_message(body), 1), body)
        for id in ("1", 2, 1.0):
            changed = json.loads(with_id(read_message(body), id))
            self.assertEqual(changed, {"jsonrpc": "2.0", "id": id, "result": {"x": 1.5}})
