"""
Tests for `kiroworkers.mcp.request_headers`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hypothesis import given
from hypothesis.strategies import characters, text
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp.errors import HEADER_MISMATCH, McpError
from kiroworkers.mcp.jsonrpc import Request
from kiroworkers.mcp.request_headers import (
    METHOD,
    NAME,
    PROTOCOL_VERSION,
    check_headers,
    decode,
)
from kiroworkers.mcp.revisions import STATELESS


def _encoded(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


class CheckHeadersTests(SynchronousTestCase):
    """
    Tests for `check_headers` and `decode`.
    """

    message = Request(1, "tools/call", {"name": "write"})
    headers: ClassVar[Mapping[str, Sequence[str]]] = {
        PROTOCOL_VERSION: [STATELESS],
        METHOD: ["tools/call"],
        NAME: ["write"],
    }

    def check(
        self, message: Request | None = None, revision: Any = STATELESS, **lists: Any
    ) -> None:
        """
        Check the usual headers with those of `lists`, whose names have underscores.
        """
        changed = {name.replace("_", "-"): values for name, values in lists.items()}
        check_headers(message or self.message, revision, {**self.headers, **changed})

    def refused(self, *arguments: Any, **lists: Any) -> str:
        """
        Return why headers are refused.
        """
        error = self.assertRaises(McpError, self.check, *arguments, **lists)
        self.assertEqual(error.code, HEADER_MISMATCH)
        return str(error)

    def test_agree(self) -> None:
        """
        Headers that repeat the body are accepted, with white space around them.
        """
        self.check()
        self.check(Mcp_Method=[" tools/call "], Mcp_Name=["write "])

    def test_missing(self) -> None:
        """
        Each header is needed.
        """
        for name in self.headers:
            reason = self.refused(**{name.replace("-", "_"): []})
            self.assertEqual(reason, f"Send the header {name}")

    def test_repeated(self) -> None:
        """
        Each header is allowed once, even with the same value.
        """
        for name, values in self.headers.items():
            self.assertIn("only once", self.refused(**{name.replace("-", "_"): [*values] * 2}))

    def test_contradict(self) -> None:
        """
        Each header must have what the body has, in the same case.
        """
        self.refused(MCP_Protocol_Version=["2025-11-25"])
        self.refused(None, "2025-11-25")
        self.refused(None, 20260728)
        self.refused(Mcp_Method=["Tools/Call"])
        self.refused(Mcp_Name=["Write"])
        self.refused(Mcp_Name=[""])

    def test_unnamed(self) -> None:
        """
        Methods without a name need no header for it, and neither do calls that lack the name.
        """
        self.check(Request(1, "tools/list"), Mcp_Method=["tools/list"], Mcp_Name=[])
        for params in ({}, {"name": None}, {"name": 5}):
            self.check(Request(1, "tools/call", params), Mcp_Name=[])

    def test_tasks(self) -> None:
        """
        The name of a task's method is the task.
        """
        message = Request(1, "tasks/get", {"taskId": "t1"})
        self.check(message, Mcp_Method=["tasks/get"], Mcp_Name=["t1"])
        self.refused(message, Mcp_Method=["tasks/get"], Mcp_Name=["t2"])

    def test_broken_encoding(self) -> None:
        """
        A value that says that it is encoded must be UTF-8 in base64.
        """
        for value in ("=?base64?!?=", "=?base64?abc?=", "=?base64?/w==?=", "=?base64?é?="):
            self.assertIn("base64", self.refused(Mcp_Name=[value]))

    @given(text(characters(exclude_categories=["Cs"])))
    def test_encoded(self, name: str) -> None:
        """
        An encoded name stands for the name, whatever that is.
        """
        self.assertEqual(decode(_encoded(name)), name)
        check_headers(
            Request(1, "tools/call", {"name": name}),
            STATELESS,
            {**self.headers, NAME: [_encoded(name)]},
        )

    def test_marks_are_exact(self) -> None:
        """
        A value without the exact marks stands for itself.
        """
        for value in ("=?BASE64?YQ==?=", "=?base64?YQ==", "base64?YQ==?=", ""):
            self.assertEqual(decode(value), value)
