"""
Tests for `kiroworkers.web.listener`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.listener import with_socket_mode


class SocketModeTests(SynchronousTestCase):
    """
    Tests for `with_socket_mode`.
    """

    def test_default(self) -> None:
        """
        Only the owner and the group of a Unix socket may connect to it.
        """
        self.assertEqual(with_socket_mode("unix:/run/k.sock"), "unix:/run/k.sock:mode=660")

    def test_own(self) -> None:
        """
        The operator's permissions and other endpoints stay as they are.
        """
        for endpoint in ("unix:/run/k.sock:mode=600", "unix:/k:mode=666:lockfile=0", "tcp:80"):
            self.assertEqual(with_socket_mode(endpoint), endpoint)
