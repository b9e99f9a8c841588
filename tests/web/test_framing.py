"""
Tests for `kiroworkers.web.framing`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from kiroworkers.web.framing import framing_problem, header_list


class FramingTests(SynchronousTestCase):
    """
    Tests for `framing_problem`.
    """

    def test_clear(self) -> None:
        """
        One length, or chunked alone, says where a body ends (RFC 9112, section 6.3).
        """
        for headers in (
            {},
            {b"Content-Length": [b"0"]},
            {b"Content-Length": [b"005"]},
            {b"Transfer-Encoding": [b"chunked"]},
            {b"Transfer-Encoding": [b"Chunked"]},
        ):
            self.assertIsNone(framing_problem(b"HTTP/1.1", Headers(headers)), headers)

    def test_ambiguous(self) -> None:
        """
        What two parsers may read differently is a problem (RFC 9112, sections 6.1 and 6.3).
        """
        for headers in (
            {b"Transfer-Encoding": [b"chunked", b"identity"]},
            {b"Transfer-Encoding": [b"identity", b"chunked"]},
            {b"Transfer-Encoding": [b"identity"]},
            {b"Transfer-Encoding": [b"gzip, chunked"]},
            {b"Transfer-Encoding": [b"chunked, chunked"]},
            {b"Transfer-Encoding": [b""]},
            {b"Transfer-Encoding": [b"chunked"], b"Content-Length": [b"5"]},
            {b"Content-Length": [b"5", b"5"]},
            {b"Content-Length": [b"5", b"6"]},
            {b"Content-Length": [b"5, 5"]},
            *({b"Content-Length": [text]} for text in (b"+5", b"-5", b"0x5", b"5 ", b"5_0", b"")),
        ):
            self.assertIsNotNone(framing_problem(b"HTTP/1.1", Headers(headers)), headers)

    def test_old_version(self) -> None:
        """
        A request of HTTP/1.0 has no transfer coding (RFC 9112, section 6.1).
        """
        headers = Headers({b"Transfer-Encoding": [b"chunked"]})
        self.assertIsNotNone(framing_problem(b"HTTP/1.0", headers))


class ListTests(SynchronousTestCase):
    """
    Tests for `header_list`.
    """

    def test_members(self) -> None:
        """
        Members come from all lines, without blanks and empty ones (RFC 9110, section 5.6.1).
        """
        headers = Headers({b"Connection": [b"Keep-Alive , close,,", b"\tTE"]})
        self.assertEqual(header_list(headers, b"connection"), [b"keep-alive", b"close", b"te"])
        self.assertEqual(header_list(headers, b"expect"), [])
