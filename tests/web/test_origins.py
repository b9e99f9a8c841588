"""
Tests for `kiroworkers.web.origins`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from kiroworkers.web.origins import comes_from_own_page, own_origin
from kiroworkers.web.proxies import NO_PROXIES, TrustedProxies

_PROXY = TrustedProxies(("192.0.2.1/32",))


def request(peer: str = "127.0.0.1", /, **headers: str | list[str]) -> Any:
    """
    Return a request with these headers, with underscores for dashes.
    """
    made: Any = DummyRequest([b""])
    made.isSecure = lambda: False
    made.client = IPv4Address("TCP", peer, 1)
    for name, value in headers.items():
        values = [value] if isinstance(value, str) else value
        made.requestHeaders.setRawHeaders(name.replace("_", "-"), values)
    return made


class OwnOriginTests(SynchronousTestCase):
    """
    Tests for `own_origin`.
    """

    def test_direct(self) -> None:
        """
        The origin of a server without a proxy is its Host header, without the default port.
        """
        for host, origin in (
            ("localhost:8000", "http://localhost:8000"),
            ("LocalHost:80", "http://localhost"),
            ("[::1]:8000", "http://[::1]:8000"),
            ("localhost:443", "http://localhost:443"),
        ):
            self.assertEqual(own_origin(request(host=host), NO_PROXIES), origin)
        self.assertEqual(own_origin(request(), NO_PROXIES), "http://")

    def test_untrusted(self) -> None:
        """
        Nobody but a trusted proxy is believed about the scheme and the host.
        """
        headers = {"x_forwarded_proto": "https", "x_forwarded_host": "kiro.example"}
        for proxies in (NO_PROXIES, _PROXY):
            made = request(host="localhost", **headers)
            self.assertEqual(own_origin(made, proxies), "http://localhost")
        made = request(host="localhost", forwarded="proto=https;host=kiro.example")
        self.assertEqual(own_origin(made, _PROXY), "http://localhost")

    def test_trusted(self) -> None:
        """
        A trusted proxy says the scheme, the host or both.
        """
        for headers, origin in (
            ({"x_forwarded_proto": "https"}, "https://localhost:8000"),
            ({"x_forwarded_proto": "HTTPS", "x_forwarded_host": "Kiro"}, "https://kiro"),
            ({"x_forwarded_proto": "https", "x_forwarded_host": "kiro:443"}, "https://kiro"),
            ({"forwarded": 'for=1.2.3.4;proto=https;host="kiro:8443"'}, "https://kiro:8443"),
            ({"forwarded": "proto=http, Proto=https"}, "https://localhost:8000"),
        ):
            made = request("192.0.2.1", host="localhost:8000", **headers)
            self.assertEqual(own_origin(made, _PROXY), origin, headers)

    def test_nearest(self) -> None:
        """
        What the nearest proxy has written counts, which comes last.
        """
        made = request(
            "192.0.2.1",
            host="localhost",
            x_forwarded_proto=["http", "http, https"],
            x_forwarded_host="evil.example, kiro",
        )
        self.assertEqual(own_origin(made, _PROXY), "https://kiro")

    def test_malformed(self) -> None:
        """
        What is malformed is not believed, and neither is one who sends both kinds of headers.
        """
        for headers in (
            {"x_forwarded_proto": "javascript", "x_forwarded_host": "a/b"},
            {"x_forwarded_proto": "", "x_forwarded_host": ""},
            {"forwarded": "proto=https;proto=http"},
            {"forwarded": "proto=https;"},
            {"forwarded": "nonsense"},
            {"forwarded": "proto=https", "x_forwarded_proto": "https"},
        ):
            made = request("192.0.2.1", host="localhost", **headers)
            expected = "https" if headers == {"forwarded": "proto=https;"} else "http"
            self.assertEqual(own_origin(made, _PROXY), f"{expected}://localhost", headers)


class OwnPageTests(SynchronousTestCase):
    """
    Tests for `comes_from_own_page`.
    """

    def check(self, expected: bool, **headers: str | list[str]) -> None:
        made = request(host="localhost:8000", **headers)
        self.assertEqual(comes_from_own_page(made, NO_PROXIES), expected, headers)

    def test_origin(self) -> None:
        """
        The scheme, the host and the port of the page must be the server's.
        """
        self.check(True, origin="http://localhost:8000")
        for origin in (
            "http://localhost:8001",
            "http://localhost",
            "https://localhost:8000",
            "http://127.0.0.1:8000",
            "http://localhost:8000.evil.example",
            "http://evil.example/localhost:8000",
            "null",
            "",
            "localhost:8000",
        ):
            self.check(False, origin=origin)
        self.check(False)
        self.check(False, origin=["http://localhost:8000", "http://evil.example"])

    def test_fetch_site(self) -> None:
        """
        Where the browser says what the page is, that decides: a site is more than an origin.
        """
        self.check(True, sec_fetch_site="same-origin")
        self.check(True, sec_fetch_site="same-origin", origin="https://behind.a.proxy")
        for site in ("same-site", "cross-site", "none", "", "SAME-ORIGIN"):
            self.check(False, sec_fetch_site=site, origin="http://localhost:8000")
        self.check(False, sec_fetch_site=["same-origin", "cross-site"])
