"""
Tests for `kiroworkers_client.transport`.
"""

from __future__ import annotations

from unittest import TestCase

import httpx

from kiroworkers_client.steps import Lost, NotSent, Silent, Undecodable
from kiroworkers_client.transport import failure_from


class FailureTests(TestCase):
    """
    Tests for the failures of httpx.
    """

    def test_failures(self) -> None:
        """
        A failure says whether the server may have seen the request, and why in words.
        """
        for error, kind, problem in (
            (httpx.ConnectError("refused"), NotSent, "refused"),
            (httpx.ConnectTimeout(""), NotSent, "no connection in time"),
            (httpx.PoolTimeout(""), NotSent, "all connections of the HTTP client are in use"),
            (httpx.ReadTimeout("timed out"), Silent, "timed out"),
            (httpx.DecodingError("gzip"), Undecodable, "gzip"),
            (httpx.ReadError(""), Lost, "ReadError"),
            (httpx.WriteTimeout(""), Lost, "WriteTimeout"),
        ):
            with self.subTest(error=error):
                failure = failure_from(error)
                self.assertEqual((type(failure), str(failure)), (kind, problem))
