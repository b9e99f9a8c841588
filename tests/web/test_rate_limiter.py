"""
Tests for `kiroworkers.web.rate_limiter` and `addresses`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.addresses import hostname_of, is_local, rate_key
from kiroworkers.web.rate_limiter import RateLimiter


class RateLimiterTests(SynchronousTestCase):
    """
    Tests for `RateLimiter`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1e9)
        self.limiter = RateLimiter(self.clock, per_minute=20, burst=3)

    def test_burst(self) -> None:
        """
        A burst is allowed, then one request per interval; the wait that is returned is
        long enough.
        """
        self.assertEqual([self.limiter.take("a") for _ in range(5)], [0, 0, 0, 3, 3])
        self.clock.advance(2.5)
        self.assertEqual(self.limiter.take("a"), 1)
        self.clock.advance(0.5)
        self.assertEqual([self.limiter.take("a") for _ in range(2)], [0, 3])
        self.clock.advance(3600)
        self.assertEqual([self.limiter.take("a") for _ in range(4)], [0, 0, 0, 3])

    def test_separate_clients(self) -> None:
        """
        Each client has a bucket of its own.
        """
        self.assertEqual([self.limiter.take("a") for _ in range(4)], [0, 0, 0, 3])
        self.assertEqual(self.limiter.take("b"), 0)

    def test_uneven_rate(self) -> None:
        """
        A rate that does not divide a minute evenly allows exactly its number.
        """
        limiter = RateLimiter(self.clock, per_minute=7, burst=7)
        self.assertEqual([limiter.take("a") for _ in range(8)], [0] * 7 + [9])

    def test_forgets(self) -> None:
        """
        A client whose bucket is full again takes no memory.
        """
        for number in range(100):
            self.limiter.take(str(number))
        self.assertEqual(len(self.limiter), 100)
        self.clock.advance(9)
        self.limiter.take("a")
        self.assertEqual(len(self.limiter), 1)

    def test_bounded(self) -> None:
        """
        Beyond the limit of clients, the one unseen for longest is forgotten.
        """
        limiter = RateLimiter(self.clock, per_minute=1, burst=1, max_clients=3)
        self.assertEqual([limiter.take(name) for name in "abcabc"], [0, 0, 0, 60, 60, 60])
        limiter.take("d")
        self.assertEqual(len(limiter), 3)

    def test_clock_set_back(self) -> None:
        """
        Nobody waits longer than for one request when the clock is set back.
        """
        for _ in range(3):
            self.limiter.take("a")
        self.clock.rightNow -= 86400
        self.assertEqual(self.limiter.take("a"), 3)

    def test_counted(self) -> None:
        """
        What was counted is passed on, as seconds; a request that is refused is not counted.
        """
        counted: list[tuple[str, float]] = []
        self.limiter.on_taken = lambda client, seconds: counted.append((client, seconds))
        for _ in range(5):
            self.limiter.take("a")
        self.limiter.take("b", 0.1)
        self.assertEqual(counted, [("a", 3.0)] * 3 + [("b", 3.0 * 0.1)])

    def test_learns(self) -> None:
        """
        What others have counted makes a client wait, up to two full buckets; a client whose bucket
        is known to be emptier is not allowed more.
        """
        self.limiter.learn("a", 7.5)
        self.assertEqual(self.limiter.take("a"), 2)
        self.clock.advance(1.5)
        self.assertEqual([self.limiter.take("a") for _ in range(2)], [0, 3])
        self.limiter.learn("a", 1.0)
        self.assertEqual(self.limiter.take("a"), 3)
        self.limiter.learn("a", 1e6)
        self.assertEqual(self.limiter.take("a"), 12)
        self.limiter.learn("b", 0.0)
        self.assertEqual(len(self.limiter), 1)


class AddressTests(SynchronousTestCase):
    """
    Tests for `kiroworkers.web.addresses`.
    """

    def test_rate_key(self) -> None:
        """
        A network of IPv6 has one key, and so does an IPv4 address in every notation.
        """
        for host, owner in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8::ffff:1", "2001:db8::/64"),
            ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::1", "::1"),
            ("unix", "unix"),
            ("", ""),
        ]:
            self.assertEqual(rate_key(host), owner, host)

    def test_is_local(self) -> None:
        """
        Loopback addresses and UNIX sockets are local.
        """
        hosts = ["unix", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "192.0.2.1", ""]
        self.assertEqual([is_local(host) for host in hosts], [True] * 5 + [False] * 2)

    def test_hostname(self) -> None:
        """
        The host name is found with and without a port.
        """
        for authority, name in [
            ("Localhost:80", "localhost"),
            ("kiro.example.", "kiro.example"),
            ("[::1]:80", "::1"),
            ("[", None),
            ("", None),
            (":80", None),
            ("evil.example@localhost", None),
            ("localhost/x", None),
        ]:
            self.assertEqual(hostname_of(authority), name, authority)
