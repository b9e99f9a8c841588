"""
Tests for `kiroworkers.doctor.address`, with real sockets on loopback.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kiroworkers.doctor.address import check_address, check_endpoint, is_kiroworkers
from kiroworkers.doctor.finding import Outcome
from kiroworkers.settings import Settings
from tests.programs import folder_outside

real: Any = reactor


class AddressTests(SynchronousTestCase):
    """
    Tests for `check_address`.
    """

    def listen(self) -> int:
        """
        Listen on a free port, answer nothing, and return the port.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port: int = listener.getsockname()[1]
        return port

    def test_free(self) -> None:
        """
        A free port is free again after the check.
        """
        self.assertIs(check_address(Settings(port=0)).outcome, Outcome.OK)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        for _ in range(2):
            finding = check_address(Settings(port=port))
            self.assertEqual(finding.detail, f"127.0.0.1:{port} is free")

    def test_in_use(self) -> None:
        """
        A port that another program uses is a failure; one of a kiroworkers server a warning.
        """
        port = self.listen()
        finding = check_address(Settings(port=port), lambda host, port: False)
        self.assertIs(finding.outcome, Outcome.FAILURE)
        self.assertIn(f"sport = :{port}", finding.advice)
        finding = check_address(Settings(port=port), lambda host, port: True)
        self.assertIs(finding.outcome, Outcome.WARNING)
        self.assertIn("a kiroworkers server already listens", finding.detail)

    def test_other_addresses(self) -> None:
        """
        An address of another machine cannot be bound, and one that other machines reach needs
        tokens.
        """
        settings = Settings(interface="192.0.2.1", port=0)
        finding = check_address(settings)
        self.assertIs(finding.outcome, Outcome.FAILURE)
        self.assertIn("--token-file", finding.detail)
        finding = check_address(evolve(settings, insecure=True))
        self.assertIs(finding.outcome, Outcome.FAILURE)
        self.assertIn("--interface", finding.advice)

    def test_slow_listener(self) -> None:
        """
        A listener that sends one byte after the other is not waited for longer than it may take.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        sent: list[bytes] = []
        hung_up = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                for byte in [*b"HTTP/1.0 200 OK\r\n\r\n", *b" " * 200]:
                    connection.send(bytes([byte]))
                    sent.append(bytes([byte]))
                    hung_up.wait(0.02)

        thread = threading.Thread(target=drip)
        thread.start()
        self.assertIs(is_kiroworkers("127.0.0.1", listener.getsockname()[1], 0.1), False)
        hung_up.set()
        thread.join()
        self.assertLess(len(sent), 200)

    def test_closed_connection(self) -> None:
        """
        A port on which nobody listens has no server.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.assertIs(is_kiroworkers("0.0.0.0", port), False)


class EndpointTests(TestCase):
    """
    Tests for `check_endpoint`.
    """

    def setUp(self) -> None:
        self.path = folder_outside(self) / "http.sock"

    async def assert_outcome(self, outcome: Outcome, listen: str, part: str = "") -> None:
        finding = await check_endpoint(real, Settings(listen=listen))
        self.assertIs(finding.outcome, outcome, finding)
        self.assertIn(part, finding.detail)

    async def test_free(self) -> None:
        """
        A path or a port is free before the check and after it.
        """
        for listen in (f"unix:{self.path}:mode=660", "tcp:0:interface=127.0.0.1"):
            for _ in range(2):
                await self.assert_outcome(Outcome.OK, listen, "is free")
        self.assertFalse(self.path.exists())

    async def test_invalid(self) -> None:
        """
        An endpoint that the server would refuse is a failure.
        """
        for listen, part in [
            ("bogus:1", "Unknown endpoint type"),
            ("tcp:x", "--listen tcp:x"),
            ("unix:", "cannot listen on unix:"),
            (f"unix:{self.path}/below", "cannot listen"),
            ("tcp:0:interface=0.0.0.0", "--token-file"),
        ]:
            await self.assert_outcome(Outcome.FAILURE, listen, part)

    async def test_in_use(self) -> None:
        """
        A path that another program listens on is a failure; one of a server is a warning.
        """
        listen = f"unix:{self.path}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(30)
            listener.bind(str(self.path))
            listener.listen()
            answers = iter([b"hello", b'\r\n\r\n{"ready": true, "workers": [], "agents": {}}'])

            def answer() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.send(next(answers))

            for outcome, part in [
                (Outcome.FAILURE, "in use"),
                (Outcome.WARNING, "kiroworkers server already listens"),
            ]:
                thread = threading.Thread(target=answer)
                thread.start()
                await self.assert_outcome(outcome, listen, part)
                thread.join()

    async def test_systemd(self) -> None:
        """
        A socket that systemd passes to the server cannot be checked.
        """
        await self.assert_outcome(Outcome.SKIPPED, "systemd:domain=INET:index=0")
