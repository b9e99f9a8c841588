"""
Tests for `kiroworkers.model_server.body`.
"""

from __future__ import annotations

import gzip
from importlib import import_module

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.model_server.body import read_body
from kiroworkers.model_server.content import BadRequest


class ReadBodyTests(SynchronousTestCase):
    """
    Tests for `read_body`.
    """

    body = '{"input": "ä"}'.encode()

    def refused(self, data: bytes, encoding: str = "") -> tuple[int, str]:
        with self.assertRaises(BadRequest) as caught:
            read_body(data, encoding)
        return caught.exception.status, str(caught.exception)

    def test_plain(self) -> None:
        """
        A body that is not encoded is read as it is.
        """
        for encoding in ("", "identity"):
            self.assertEqual(read_body(self.body, encoding), {"input": "ä"})

    def test_no_object(self) -> None:
        """
        A body that is no JSON object is refused, also one that is nested too deeply.
        """
        for data in (b"", b"hello", b"\xff", b'{"a": 1', b"[" * 100_000):
            self.assertEqual(self.refused(data)[0], 400, data[:10])
        self.assertEqual(self.refused(b"[1]"), (400, "The body must be a JSON object"))

    def test_gzip(self) -> None:
        """
        A gzip body is decoded; one that is cut off or has another format is refused.
        """
        data = gzip.compress(self.body)
        self.assertEqual(read_body(data, "GZIP"), {"input": "ä"})
        for wrong in (data[:-9], self.body, data[:12] + b"\xff" + data[13:]):
            self.assertIn("must be gzip data", self.refused(wrong, "gzip")[1])

    def test_too_long(self) -> None:
        """
        A body that is too long when it is decoded is refused before all of it is decoded.
        """
        data = gzip.compress(b" " * (1 << 27), 1)
        self.assertEqual(self.refused(data, "gzip")[0], 413)

    def test_zstd(self) -> None:
        """
        A zstd body is decoded where Python can do that; other data is refused.
        """
        for name in ("compression.zstd", "zstandard"):
            try:
                zstd = import_module(name)
                break
            except ImportError:
                pass
        else:
            raise SkipTest("zstandard is not installed: pip install '.[clients]'")
        self.assertEqual(read_body(zstd.compress(self.body), "zstd"), {"input": "ä"})
        self.assertIn("must be zstd data", self.refused(b"hello", "zstd")[1])

    def test_unknown_encoding(self) -> None:
        """
        An encoding that is not supported is refused, and named.
        """
        expected = (415, "Content-Encoding br is not supported")
        self.assertEqual(self.refused(self.body, "br"), expected)
