"""
Tests for `kiroworkers.process.systemd`, with real datagram sockets and a clock in memory.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from secrets import token_hex

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.process.systemd import (
    ServiceManager,
    ServiceState,
    socket_address,
    watchdog_interval,
)
from tests.programs import folder_outside

_STARTING = ServiceState(False, "0 of 2 workers ready (starting)")
_SERVING = ServiceState(True, "2 of 2 workers ready")


class ServiceManagerTests(SynchronousTestCase):
    """
    Tests for `ServiceManager`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.state = _STARTING

    def listen(self, name: str | None = None) -> str:
        """
        Receive datagrams, and return the name of the socket as in NOTIFY_SOCKET.
        """
        name = name or str(folder_outside(self) / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(self.socket.close)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        return name

    def manager(self, address: str, **variables: str) -> ServiceManager:
        environment = {"NOTIFY_SOCKET": address, **variables}
        manager = ServiceManager(self.clock, environment, 7, lambda: self.state, self.clock.seconds)
        self.addCleanup(manager.stop)
        return manager

    def received(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def fill(self) -> int:
        """
        Send datagrams until there is no room for more, and return how many there are.
        """
        count = 0
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as filler,
            contextlib.suppress(BlockingIOError),
        ):
            while count < 10_000:
                filler.sendto(b"filler", self.socket.getsockname())
                count += 1
        self.assertLess(count, 10_000)
        return count

    def test_ready(self) -> None:
        """
        The status is sent whenever it changes, and READY=1 once, with the state that starts
        the service.
        """
        manager = self.manager(self.listen())
        manager.start()
        self.clock.advance(1)
        self.assertEqual(self.received(), [f"STATUS={_STARTING.status}"])
        self.state = _SERVING
        for _ in range(3):
            manager.changed()
        self.clock.advance(1)
        self.assertEqual(self.received(), [f"READY=1\nSTATUS={_SERVING.status}"])
        manager.changed()
        self.clock.advance(1)
        self.assertEqual(self.received(), [])
        self.state = ServiceState(True, "1 of 2\nworkers ready")
        manager.changed()
        self.clock.advance(1)
        self.assertEqual(self.received(), ["STATUS=1 of 2 workers ready"])

    def test_abstract_socket(self) -> None:
        """
        A name that begins with @ is that of an abstract socket.
        """
        self.state = _SERVING
        self.manager(self.listen(f"@kiroworkers-{token_hex(8)}")).start()
        self.clock.advance(1)
        self.assertEqual(self.received(), [f"READY=1\nSTATUS={_SERVING.status}"])

    def test_watchdog(self) -> None:
        """
        WATCHDOG=1 is sent at half of the limit, also while the server stops, until the end.
        """
        manager = self.manager(self.listen(), WATCHDOG_USEC="10000000", WATCHDOG_PID="7")
        manager.start()
        for _ in range(2):
            self.clock.advance(5)
        self.assertEqual(self.received().count("WATCHDOG=1"), 3)
        manager.stopping()
        self.clock.advance(5)
        stopping = "STOPPING=1\nSTATUS=Finishing accepted requests"
        self.assertEqual(self.received(), [stopping, "WATCHDOG=1"])
        manager.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reload(self) -> None:
        """
        A reload is reported with the time of its beginning, in microseconds, and its end is;
        one before the first READY=1, or while the server stops, is not reported.
        """
        manager = self.manager(self.listen())
        manager.start()
        manager.set_reloading(True)
        manager.set_reloading(False)
        self.clock.advance(1)
        self.state = _SERVING
        manager.changed()
        self.clock.advance(1)
        self.received()
        manager.set_reloading(True)
        self.assertEqual(self.received(), ["RELOADING=1\nMONOTONIC_USEC=2000000"])
        manager.set_reloading(False)
        self.assertEqual(self.received(), ["READY=1"])
        manager.stopping()
        self.received()
        manager.set_reloading(True)
        self.assertEqual(self.received(), [])

    def test_full(self) -> None:
        """
        Messages that do not fit into the manager's socket are sent later, in order; beats are not.
        """
        self.state = _SERVING
        manager = self.manager(self.listen(), WATCHDOG_USEC="10000000")
        count = self.fill()
        manager.start()
        self.clock.advance(0.3)
        manager.set_reloading(True)
        self.assertEqual(self.received(), ["filler"] * count)
        self.clock.advance(0.1)
        ready, reloading = self.received()
        self.assertEqual(ready, f"READY=1\nSTATUS={_SERVING.status}")
        self.assertIn("RELOADING=1", reloading)
        manager.stop()

    def test_superseded(self) -> None:
        """
        While there is no room, a status replaces an earlier one, so that they do not pile up;
        a beat replaces none.
        """
        self.state = _SERVING
        manager = self.manager(self.listen(), WATCHDOG_USEC="1000000")
        manager.start()
        self.clock.advance(1)
        self.received()
        count = self.fill()
        for ready in (1, 0):
            self.state = ServiceState(True, f"{ready} of 2 workers ready")
            manager.changed()
            self.clock.advance(0.4)
        self.clock.advance(0.4)
        self.assertEqual(self.received(), ["filler"] * count)
        self.clock.advance(0.1)
        messages = [message for message in self.received() if message != "WATCHDOG=1"]
        self.assertEqual(messages, ["STATUS=0 of 2 workers ready"])

    def test_first_failure(self) -> None:
        """
        The first state counts at once: a session that has failed may start again soon.
        """
        manager = self.manager(self.listen())
        manager.start()
        self.clock.advance(1)
        self.state = ServiceState(True, "0 of 2 workers ready (starting)")
        manager.changed()
        self.clock.advance(0)
        self.state = _STARTING
        self.clock.advance(1)
        self.assertIn("READY=1", self.received())

    def test_no_descriptors(self) -> None:
        """
        The watchdog and the others are told even when no file can be opened any more.
        """
        self.state = _SERVING
        manager = self.manager(self.listen(), WATCHDOG_USEC="2000000")
        manager.start()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            self.assertRaises(OSError, os.open, os.devnull, os.O_RDONLY)
            self.clock.advance(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertEqual(
            self.received(), ["WATCHDOG=1", f"READY=1\nSTATUS={_SERVING.status}", "WATCHDOG=1"]
        )

    def test_nobody_listens(self) -> None:
        """
        A service manager that is gone is logged once, and so is an address of another kind;
        neither stops the server.
        """
        gone = str(folder_outside(self) / "gone")
        for address, reason in [
            (gone, "cannot notify the service manager: [Errno 2]"),
            ("vsock:2:1", "NOTIFY_SOCKET vsock:2:1: not a Unix socket"),
        ]:
            with capturedLogs() as logs:
                manager = self.manager(address, WATCHDOG_USEC="1000000")
                manager.start()
                self.clock.advance(1)
                manager.stopping()
                manager.stop()
            [event] = logs
            self.assertIn(reason, str(formatEvent(event)))

    def test_no_service_manager(self) -> None:
        """
        Without NOTIFY_SOCKET nothing is scheduled.
        """
        variables = {"WATCHDOG_USEC": "1000000"}
        manager = ServiceManager(self.clock, variables, 7, lambda: self.state)
        manager.start()
        manager.changed()
        manager.set_reloading(True)
        manager.stopping()
        manager.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ParsingTests(SynchronousTestCase):
    """
    Tests for the functions that read what systemd tells a service.
    """

    def test_socket_address(self) -> None:
        """
        An absolute path is used as it is, @ becomes a null byte, and nothing else is an address.
        """
        for text, address in [
            ("/run/systemd/notify", "/run/systemd/notify"),
            ("@a/b", b"\0a/b"),
            ("@", None),
            ("run/notify", None),
            ("vsock:2:1234", None),
        ]:
            self.assertEqual(socket_address(text), address)

    def test_watchdog_interval(self) -> None:
        """
        The interval is half of the limit in seconds, for the process that systemd means.
        """
        for variables, interval in [
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
            ({"WATCHDOG_USEC": "500000"}, 0.25),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
            ({"WATCHDOG_USEC": "0"}, None),
            ({"WATCHDOG_USEC": "-1"}, None),
            ({"WATCHDOG_USEC": "soon"}, None),
            ({}, None),
        ]:
            self.assertEqual(watchdog_interval(variables, 7), interval, variables)
        self.assertEqual(watchdog_interval({"WATCHDOG_USEC": "2000000"}, os.getpid()), 1.0)
