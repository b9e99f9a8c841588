"""
Tests for `kiroworkers.jobs.ssrf`.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.jobs.ssrf import CallbackHosts

#: Networks of IANA's registries of special-purpose addresses, and others that are not for
#: public use.
NOT_PUBLIC = [
    # IPv4, https://www.iana.org/assignments/iana-ipv4-special-registry
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.170/31",
    "192.0.2.0/24", "192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
    # IPv6, https://www.iana.org/assignments/iana-ipv6-special-registry
    "::1/128", "::/128", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::7f00:0/104",
    "64:ff9b::a00:0/104", "64:ff9b::c000:0/120", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
    "2001::/23", "2001::/32", "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:db8::/32",
    "2002::/16", "2002:5db8:d70e::/48", "3fff::/20", "4000::/3", "5f00::/16", "fc00::/7",
    "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip

PUBLIC = [
    "1.1.1.1", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
    "191.255.255.255", "192.0.1.0", "192.31.196.1", "192.52.193.1", "192.175.48.1",
    "192.88.98.255", "192.88.100.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2001:200::1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2620:4f:8000::1",
    "3ffe:ffff::1", "64:ff9b::5db8:d70e",
]  # fmt: skip


class CallbackHostsTests(SynchronousTestCase):
    """
    Tests for `CallbackHosts`.
    """

    def is_public(self, address: str) -> bool:
        hosts = CallbackHosts(())
        allowed = bool(hosts.allowed_addresses("x.example", [address]))
        literal = f"[{address}]" if ":" in address else address
        if "%" not in address:
            self.assertEqual(hosts.url_problem(f"http://{literal}/") is None, allowed)
        return allowed

    def test_public(self) -> None:
        """
        Without a list, public addresses may be called.
        """
        for address in PUBLIC:
            self.assertTrue(self.is_public(address), address)

    def test_not_public(self) -> None:
        """
        Without a list, no special-purpose address may be called, in whatever notation.
        """
        for name in NOT_PUBLIC:
            network = ip_network(name)
            for address in (network[0], network[network.num_addresses // 2], network[-1]):
                self.assertFalse(self.is_public(str(address)), f"{address} of {name}")
        self.assertFalse(self.is_public("fe80::1%eth0"))

    def test_stricter_than_python(self) -> None:
        """
        No address may be called that this version of Python does not call global.
        """
        rng = Random(1)
        addresses = [ip_address(address) for address in PUBLIC]
        addresses += [ip_address(rng.getrandbits(32)) for _ in range(20_000)]
        addresses += [ip_address(2 << 124 | rng.getrandbits(125)) for _ in range(20_000)]
        for network in map(ip_network, NOT_PUBLIC):
            number = int(network[0])
            if number > 0 and number + network.num_addresses < 1 << network.max_prefixlen:
                addresses += [network[0] - 1, network[-1] + 1]
        for address in addresses:
            if not address.is_global or address.is_multicast:
                self.assertFalse(self.is_public(str(address)), str(address))

    def test_mixed(self) -> None:
        """
        A host that has a private address beside a public one is not called.
        """
        hosts = CallbackHosts(())
        self.assertEqual(hosts.allowed_addresses("x.example", ["93.184.215.14", "10.0.0.1"]), ())

    def test_listed(self) -> None:
        """
        Listed hosts may be called whatever their address, and no others.
        """
        hosts = CallbackHosts(["Hooks.example.com", "*.inner.example", "127.0.0.1"])
        for host in ["hooks.example.com", "a.inner.example", "127.0.0.1"]:
            self.assertIsNone(hosts.url_problem(f"http://{host}:1/x"))
            self.assertEqual(hosts.allowed_addresses(host, ["10.0.0.1"]), ["10.0.0.1"])
        for host in ["example.com", "inner.example", "127.0.0.2", "127.0.0.1.example.com"]:
            self.assertIn("not in --callback-hosts", hosts.url_problem(f"https://{host}/") or "")

    def test_urls(self) -> None:
        """
        An invalid URL, or one with an address that is not public, is rejected with a reason.
        """
        hosts = CallbackHosts(())
        for url in ["https://hooks.example.com/a?b=c", "http://93.184.215.14:81/"]:
            self.assertIsNone(hosts.url_problem(url))
        for url, reason in [
            ("", "URL"),
            ("hooks.example.com", "URL"),
            ("ftp://hooks.example.com", "URL"),
            ("file:///etc/passwd", "URL"),
            ("http://", "URL"),
            ("http://x:port/", "URL"),
            ("http://[::1", "URL"),
            ("http://x.example/" + "a" * 2000, "2000 characters"),
            ("http://x.example/a b", "ASCII"),
            ("http://x.example\\@y.example/", "backslashes"),
            ("http://x.example/#y", "fragment"),
            ("http://user:word@x.example/", "credentials"),
            ("http://127.0.0.1/", "not a public address"),
            ("http://[::ffff:10.0.0.1]/", "not a public address"),
        ]:
            self.assertIn(reason, hosts.url_problem(url) or "", url)
