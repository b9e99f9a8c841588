"""
Tests for `kiroworkers.web.auth`, and for how the site treats requests that come too soon.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from kiroworkers.web.auth import Authorizer
from kiroworkers.web.errors import HttpError
from kiroworkers.web.proxies import TrustedProxies
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.tokens import ApiToken
from tests.web.test_site import LIMITS, SiteTestCase

_TOKEN = "0123456789abcdef"
_TOKENS = (ApiToken("backend", frozenset({"ask"}), sha256(_TOKEN.encode()).digest()),)
_AUTHORIZATION = f"Authorization: Bearer {_TOKEN}"

_ADDRESS = IPv4Address("TCP", "192.0.2.1", 1)


class AuthorizerTestCase(SiteTestCase):
    """
    Base of tests with a site that authorizes its requests, and allows two without a token.
    """

    def setUp(self) -> None:
        self.open()
        self.authorizer = Authorizer(_TOKENS, None, RateLimiter(self.clock, 60, 2))
        self.site.admit = self.authorizer.admit

    def get(self, path: str, *headers: str, peer: Any = _ADDRESS) -> int:
        """
        Send a request on a new connection, and return the status of its response, if any.
        """
        self.transport = StringTransport(peerAddress=peer)
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        head = (f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", "")
        self.send("\r\n".join(head).encode())
        return self.status()


class AnonymousTests(AuthorizerTestCase):
    """
    Tests for the limit of requests without a valid token.
    """

    def exhaust(self, peer: Any = _ADDRESS) -> None:
        """
        Send as many requests as are allowed.
        """
        self.assertEqual([self.get("/kiro", peer=peer) for _ in range(2)], [200, 200])

    def test_limit(self) -> None:
        """
        A request over the limit is rejected before it is routed, and not at once.
        """
        self.exhaust()
        self.assertEqual(self.get("/kiro"), 0)
        self.clock.advance(0.9)
        self.assertEqual(self.status(), 0)
        self.clock.advance(0.1)
        self.assertEqual(self.code(), (429, "rate_limited"))
        self.assertIn(b"\r\nRetry-After: 1\r\n", self.transport.value())
        self.assertEqual(self.resource.seen, 2)
        self.clock.advance(1)
        self.assertEqual(self.get("/kiro"), 200)

    def test_wrong_token(self) -> None:
        """
        A wrong token counts as none; a valid one is never limited.
        """
        self.exhaust()
        self.assertEqual(self.get("/kiro", "Authorization: Bearer fedcba9876543210"), 0)
        self.assertEqual(self.get("/kiro", "Authorization: Basic x"), 0)
        for _ in range(10):
            self.assertEqual(self.get("/kiro", _AUTHORIZATION), 200)

    def test_invalid(self) -> None:
        """
        Requests that would be rejected count as well.
        """
        self.assertEqual([self.get("//x", "Origin: y") for _ in range(2)], [200, 200])
        self.assertEqual(self.get("//x"), 0)

    def test_incomplete(self) -> None:
        """
        A request that is rejected while it is received counts as well, and over the limit
        its client waits for the error.
        """
        for status in (400, 400, 0):
            self.transport = StringTransport(peerAddress=_ADDRESS)
            self.channel = self.site.buildProtocol(None)
            self.channel.makeConnection(self.transport)
            self.send(b"nonsense\r\n\r\n")
            self.assertEqual((self.status(), self.transport.disconnecting), (status, status > 0))
        self.assertEqual(self.get("/kiro"), 0)
        self.clock.advance(1)
        self.assertEqual(self.code(), (429, "rate_limited"))

    def test_incomplete_is_sent(self) -> None:
        """
        An error that was delayed closes the connection as one that was not.
        """
        self.exhaust()
        self.assertEqual(self.get("/kiro", "Content-Length: 101"), 0)
        self.clock.advance(1)
        self.assertEqual((self.code(), self.transport.disconnecting), ((413, "too_large"), True))
        self.clock.advance(5)
        self.assertTrue(self.transport.disconnected)

    def test_incomplete_hung_up(self) -> None:
        """
        An error that was delayed is not sent to a client that has hung up.
        """
        self.exhaust()
        self.get("/kiro", "Content-Length: 101")
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(1)
        self.assertEqual(self.status(), 0)

    def test_addresses(self) -> None:
        """
        Each address has a limit of its own, and so has each /64 network of IPv6.
        """
        self.exhaust()
        self.exhaust(IPv4Address("TCP", "192.0.2.2", 1))
        self.exhaust(IPv6Address("TCP", "2001:db8::1", 1))
        self.assertEqual(self.get("/kiro", peer=IPv6Address("TCP", "2001:db8::2", 1)), 0)
        self.assertEqual(self.get("/kiro", peer=IPv6Address("TCP", "::ffff:192.0.2.2", 1)), 0)
        self.assertEqual(self.get("/kiro", peer=IPv6Address("TCP", "2001:db8:0:1::1", 1)), 200)

    def test_proxy(self) -> None:
        """
        The clients of a trusted proxy have limits of their own.
        """
        self.site.limits = evolve(LIMITS, trusted_proxies=TrustedProxies(("192.0.2.1/32",)))
        self.exhaust()
        self.assertEqual(self.get("/kiro", "X-Forwarded-For: 198.51.100.1"), 200)

    def test_ready(self) -> None:
        """
        A probe of /ready is answered as usual, but not at once.
        """
        self.exhaust()
        self.assertEqual(self.get("/ready"), 0)
        self.clock.advance(0.25)
        self.assertEqual(self.status(), 200)

    def test_assets(self) -> None:
        """
        A file of the page counts as a tenth of a request: a browser asks for dozens at once.
        """
        self.assertEqual([self.get("/assets/a.js") for _ in range(20)], [200] * 20)
        self.assertEqual(self.get("/assets/a.js"), 0)
        self.assertEqual(self.get("/assets"), 0)

    def test_hung_up(self) -> None:
        """
        A client that hangs up is not answered any more.
        """
        self.exhaust()
        self.get("/ready")
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(1)
        self.assertEqual(self.resource.seen, 2)

    def test_unlimited(self) -> None:
        """
        Without tokens nothing is limited, and neither is it with a limit of 0.
        """
        self.authorizer.tokens = ()
        self.assertEqual({self.get("/kiro") for _ in range(100)}, {200})
        self.site.admit = Authorizer(_TOKENS).admit
        self.assertEqual({self.get("/kiro") for _ in range(100)}, {200})


class ClientTests(AuthorizerTestCase):
    """
    Tests for who a client is.
    """

    def client(self, authorizer: Authorizer, *headers: str, peer: Any = _ADDRESS) -> str:
        """
        Return the client of a request.
        """
        self.get("/slow", _AUTHORIZATION, *headers, peer=peer)
        request = self.resource.waiting.pop()
        self.assertEqual(record_of(request).user, "backend")
        return authorizer.authorize(request, "ask")

    def test_token(self) -> None:
        """
        With tokens, a client is the name of its token, which is in the record.
        """
        self.assertEqual(self.client(self.authorizer), "backend")

    def test_address(self) -> None:
        """
        Without tokens, a client is its address, or its /64 network of IPv6.
        """
        open_to_all = Authorizer()
        for host, client in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8::ffff:2", "2001:db8::/64"),
        ]:
            kind = IPv6Address if ":" in host else IPv4Address
            self.assertEqual(self.client(open_to_all, peer=kind("TCP", host, 1)), client)

    def test_proxy(self) -> None:
        """
        Behind a trusted proxy, a client is the address that the proxy names.
        """
        self.site.limits = evolve(LIMITS, trusted_proxies=TrustedProxies(("192.0.2.1/32",)))
        forwarded = "X-Forwarded-For: 198.51.100.1"
        self.assertEqual(self.client(Authorizer(), forwarded), "198.51.100.1")


class ApiKeyTests(AuthorizerTestCase):
    """
    Tests for tokens in the header ``x-api-key``, which clients of Anthropic's API send.
    """

    def authorize(self, *headers: str, rate: RateLimiter | None = None) -> str:
        """
        Send a request with `headers`, and return its client or the code of the error.
        """
        self.get("/slow", *headers)
        try:
            return Authorizer(_TOKENS, rate).authorize(self.resource.waiting.pop(), "ask")
        except HttpError as error:
            return error.code.value

    def test_valid(self) -> None:
        """
        A valid token authorizes and is never limited, as in the header Authorization.
        """
        for _ in range(10):
            self.assertEqual(self.get("/kiro", f"x-api-key: {_TOKEN}"), 200)
        for header in (f"x-api-key: {_TOKEN}", f"X-API-Key:  {_TOKEN} "):
            self.assertEqual(self.authorize(header), "backend")

    def test_wrong(self) -> None:
        """
        A wrong token is rejected, and counts for its address at both limits.
        """
        self.assertEqual(self.authorize("x-api-key:"), "no_token")
        rate = RateLimiter(self.clock, 60, 1)
        wrong = "x-api-key: fedcba9876543210"
        self.assertEqual(self.authorize(wrong, rate=rate), "wrong_token")
        self.assertEqual(self.get("/kiro", wrong), 0)
        self.site.admit = Authorizer(_TOKENS).admit
        self.assertEqual(self.authorize(wrong, rate=rate), "rate_limited")

    def test_both(self) -> None:
        """
        A token in the header Authorization decides; other credentials there are no token.
        """
        wrong = "x-api-key: fedcba9876543210"
        self.assertEqual(self.authorize(wrong, _AUTHORIZATION), "backend")
        right = f"x-api-key: {_TOKEN}"
        self.assertEqual(self.authorize(right, "Authorization: Bearer x"), "wrong_token")
        for other in ("Authorization: Basic eA==", "Authorization: Bearer "):
            self.assertEqual(self.authorize(right, other), "backend")
