"""
Tests for `kiroworkers.web.proxies`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.proxies import NO_PROXIES, TrustedProxies

PROXIES = TrustedProxies(("127.0.0.1/32", "10.0.0.0/8", "2001:db8:ffff::/48", "unix"))


class MembershipTests(SynchronousTestCase):
    """
    Tests for which addresses are proxies.
    """

    def test_contains(self) -> None:
        """
        Addresses, networks and UNIX domain sockets can be named.
        """
        for host in ("127.0.0.1", "10.255.0.1", "2001:db8:ffff::1", "unix"):
            self.assertIn(host, PROXIES)
            self.assertNotIn(host, NO_PROXIES)
        for host in ("127.0.0.2", "192.0.2.1", "2001:db8::1", "", "nonsense", "::1"):
            self.assertNotIn(host, PROXIES)


class ForwardedForTests(SynchronousTestCase):
    """
    Tests for X-Forwarded-For.
    """

    def client(self, *values: str, peer: str = "127.0.0.1") -> str:
        return PROXIES.client_of(peer, values, ())

    def test_untrusted(self) -> None:
        """
        The header of a client that is no proxy is not read.
        """
        self.assertEqual(self.client("198.51.100.1", peer="192.0.2.9"), "192.0.2.9")
        self.assertEqual(NO_PROXIES.client_of("127.0.0.1", ["192.0.2.1"], ()), "127.0.0.1")

    def test_nearest(self) -> None:
        """
        The client is the nearest address that is no proxy's: what it claims itself stands to
        the left of that.
        """
        self.assertEqual(self.client("192.0.2.1"), "192.0.2.1")
        self.assertEqual(self.client("192.0.2.1", peer="unix"), "192.0.2.1")
        self.assertEqual(self.client("198.51.100.1, 192.0.2.1"), "192.0.2.1")
        self.assertEqual(self.client("198.51.100.1", "192.0.2.1,10.0.0.1"), "192.0.2.1")
        self.assertEqual(self.client("10.1.1.1, 192.0.2.1 ,\t10.0.0.1"), "192.0.2.1")

    def test_only_proxies(self) -> None:
        """
        If there are only proxies, the farthest one is the client.
        """
        self.assertEqual(self.client("10.0.0.2, 10.0.0.1"), "10.0.0.2")
        self.assertEqual(self.client(), "127.0.0.1")

    def test_notations(self) -> None:
        """
        An address may have a port or brackets; IPv4 within IPv6 is IPv4.
        """
        for text, host in [
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ]:
            self.assertEqual(self.client(text), host)

    def test_malformed(self) -> None:
        """
        Where an entry is malformed or hidden, the proxy that passed it on is the client.
        """
        for text in (
            "", "unknown", "_hidden", "a.example", "192.0.2.1:x", "192.0.2.1:123456", "192.0.2.256",
            "192.0.2.1 192.0.2.2", "[192.0.2.1", "fe80::1%\x1b[31m", "fe80::1%eth0", "010.0.0.1",
            '"192.0.2.1"', "192.0.2.1\x00", "1", "::1::",
        ):  # fmt: skip
            self.assertEqual(self.client(f"198.51.100.1, {text}"), "127.0.0.1", text)
            self.assertEqual(self.client(f"198.51.100.1, {text}, 10.0.0.1"), "10.0.0.1", text)
        self.assertEqual(self.client("192.0.2.1,"), "127.0.0.1")


class ForwardedTests(SynchronousTestCase):
    """
    Tests for Forwarded (RFC 7239).
    """

    def client(self, *values: str) -> str:
        return PROXIES.client_of("127.0.0.1", (), values)

    def test_nearest(self) -> None:
        """
        The client is the nearest address that is no proxy's.
        """
        for values, host in [
            (["for=192.0.2.1"], "192.0.2.1"),
            (["For=192.0.2.1;proto=http;by=203.0.113.43"], "192.0.2.1"),
            (["proto=http ; for=192.0.2.1"], "192.0.2.1"),
            (['for="192.0.2.1:4711"'], "192.0.2.1"),
            (['for="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17"),
            (['for="[2001:db8:cafe::17]:_port"'], "2001:db8:cafe::17"),
            (["for=198.51.100.1, for=192.0.2.1"], "192.0.2.1"),
            (["for=198.51.100.1", "for=192.0.2.1, for=10.0.0.1"], "192.0.2.1"),
            (["for=192.0.2.1, for=10.0.0.2;by=10.0.0.1"], "192.0.2.1"),
            ([r'for="192.0.2.\1"'], "192.0.2.1"),
        ]:
            self.assertEqual(self.client(*values), host, values)

    def test_malformed(self) -> None:
        """
        A malformed header and a hidden client leave the proxy as the client.
        """
        for value in (
            "", "for=unknown", "for=_secret", "proto=http", "for=", "for", "192.0.2.1",
            "for=192.0.2.1;for=192.0.2.2", "for=2001:db8::1", 'for="2001:db8::1"',
            "for=[2001:db8::1]", "for=192.0.2.1:80", "for=192.0.2.1,", "for = 192.0.2.1",
            'for="192.0.2.1', 'for="fe80::1%\x1b"', 'for="[fe80::1%eth0]"',
        ):  # fmt: skip
            self.assertEqual(self.client(value), "127.0.0.1", value)
            self.assertEqual(self.client("for=198.51.100.1", value), "127.0.0.1", value)

    def test_quotes(self) -> None:
        """
        A client cannot hide what the proxy appends in a quoted text of its own.
        """
        for claim in ('for="', 'for=198.51.100.1;x="', 'for=198.51.100.1, for="\\', 'for=";for='):
            for appended in ('for="[2001:db8::1]"', "for=192.0.2.1", 'for="[2001:db8::1]";by="x"'):
                client = self.client(f"{claim}, {appended}")
                self.assertIn(client, ("127.0.0.1", "192.0.2.1", "2001:db8::1"), claim)


class BothTests(SynchronousTestCase):
    """
    Tests for requests with both headers.
    """

    def test_neither_is_read(self) -> None:
        """
        If a request has both headers, the client has written one of them, so the proxy is the
        client.
        """
        client = PROXIES.client_of("127.0.0.1", ["192.0.2.1"], ["for=198.51.100.1"])
        self.assertEqual(client, "127.0.0.1")
