"""
Tests for `kiroworkers.jobs.ssrf`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.jobs.ssrf import CallbackHosts


class CallbackHostsTests(SynchronousTestCase):
    """
    Tests for `CallbackHosts`.
    """

    def test_default(self) -> None:
        """
        Without a list, public addresses may be called and others may not, in whatever
        notation.
        """
        hosts = CallbackHosts(())
        for address in [
            "93.184.215.14",
            "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
            "64:ff9b::5db8:d70e",
        ]:
            self.assertEqual(hosts.allowed_addresses("x.example", [address]), [address])
        for address in [
            "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
            "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1",
            "fe80::1%eth0", "fec0::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1",
            "ff02::1", "2001:0:53aa:64c:0:0:80ff:fffe", "::127.0.0.1", "::ffff:0:127.0.0.1",
            "64:ff9b:1::7f00:1", "5f00::1", "4000::1",
        ]:  # fmt: skip
            self.assertEqual(hosts.allowed_addresses("x.example", [address]), (), address)
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
