"""
Tests for `kiroworkers.web.rate_limiter` and `addresses`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.addresses import is_local, name_in, rate_key
from kiroworkers.web.rate_limiter import RateLimiter


class RatesTests(SynchronousTestCase):
    """
    Tests for `RateLimiter`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1e9)
        self.rates = RateLimiter(self.clock, per_minute=20, burst=3)

    def test_burst(self) -> None:
        """
        So many at once, then one each time that the rate allows it; who is told to
        wait need not wait longer.
        """
        self.assertEqual([self.rates.take("a") for _ in range(5)], [0, 0, 0, 3, 3])
        self.clock.advance(2.5)
        self.assertEqual(self.rates.take("a"), 1)
        self.clock.advance(0.5)
        self.assertEqual([self.rates.take("a") for _ in range(2)], [0, 3])
        self.clock.advance(3600)
        self.assertEqual([self.rates.take("a") for _ in range(4)], [0, 0, 0, 3])

    def test_each(self) -> None:
        """
        One client's requests are not another's.
        """
        self.assertEqual([self.rates.take("a") for _ in range(4)], [0, 0, 0, 3])
        self.assertEqual(self.rates.take("b"), 0)

    def test_uneven(self) -> None:
        """
        A rate that does not divide a minute evenly allows exactly its number.
        """
        rates = RateLimiter(self.clock, per_minute=7, burst=7)
        self.assertEqual([rates.take("a") for _ in range(8)], [0] * 7 + [9])

    def test_forgets(self) -> None:
        """
        A client whose bucket is full again takes no memory.
        """
        for number in range(100):
            self.rates.take(str(number))
        self.assertEqual(len(self.rates), 100)
        self.clock.advance(9)
        self.rates.take("a")
        self.assertEqual(len(self.rates), 1)

    def test_bounded(self) -> None:
        """
        Of too many clients, the one longest unseen is forgotten.
        """
        rates = RateLimiter(self.clock, per_minute=1, burst=1, most=3)
        self.assertEqual([rates.take(name) for name in "abcabc"], [0, 0, 0, 60, 60, 60])
        rates.take("d")
        self.assertEqual(len(rates), 3)

    def test_clock_set_back(self) -> None:
        """
        Nobody waits longer than for one request when the clock is set back.
        """
        for _ in range(3):
            self.rates.take("a")
        self.clock.rightNow -= 86400
        self.assertEqual(self.rates.take("a"), 3)


class AddressTests(SynchronousTestCase):
    """
    Tests for what an address says of a client.
    """

    def test_owner(self) -> None:
        """
        A network of IPv6 is one client, and so is an address of IPv4 however it is
        written.
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

    def test_local(self) -> None:
        """
        Who is on this machine comes from it.
        """
        hosts = ["unix", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "192.0.2.1", ""]
        self.assertEqual([is_local(host) for host in hosts], [True] * 5 + [False] * 2)

    def test_name(self) -> None:
        """
        A Host header has a name, with a port or without.
        """
        for said, name in [
            ("Localhost:80", "localhost"),
            ("kiro.example.", "kiro.example"),
            ("[::1]:80", "::1"),
            ("[", None),
            ("", None),
            (":80", None),
            ("evil.example@localhost", None),
            ("localhost/x", None),
        ]:
            self.assertEqual(name_in(said), name, said)
