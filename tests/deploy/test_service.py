"""
End-to-end tests of a server that runs as a service: what it tells systemd, and the doctor.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from kiroworkers.process.supervisor import descendants
from tests.programs import DescriptorReader, Program, environment, variables_of
from tests.servers import ServerTestCase

real: Any = reactor


class NotifySocket:
    """
    Receive what a service tells its manager.

    Attributes:
        messages: What was received and not waited for yet.
    """

    def __init__(self, path: Path) -> None:
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._awaited: list[tuple[str, Deferred[str]]] = []
        self._reader = DescriptorReader(real, self._socket.detach(), self._read)
        self.close = self._reader.close

    def wait_for(self, text: str) -> Deferred[str]:
        """
        Return a Deferred that fires with the next message that contains `text`.
        """
        received: Deferred[str] = Deferred()
        self._awaited.append((text, received))
        self._check()
        return received

    def _read(self) -> None:
        receiver = socket.socket(fileno=self._reader.fileno())
        try:
            self.messages.append(receiver.recv(4096).decode())
        finally:
            receiver.detach()
        self._check()

    def _check(self) -> None:
        for awaited in list(self._awaited):
            text, received = awaited
            for number, message in enumerate(self.messages):
                if text in message:
                    del self.messages[: number + 1]
                    self._awaited.remove(awaited)
                    received.callback(message)
                    break


class ServiceTests(ServerTestCase):
    """
    Tests for a server below a service manager.
    """

    foreground = ("-m", "kiroworkers", "serve")

    async def test_service(self) -> None:
        """
        The server reports that it is ready, alive, reloading and stopping, and no agent can:
        none inherits the variables.  Meanwhile the doctor recognizes the server.
        """
        path = self.folder / "notify"
        manager = NotifySocket(path)
        self.addCleanup(manager.close)
        state = str(self.folder / "state")
        variables = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "2000000"}
        await self.start(
            "--agent",
            "offline",
            "--state-dir",
            state,
            *("--lame-duck", "60"),
            workers=1,
            **{**variables, "KIROWORKERS_PASS_ENV": "*"},
        )
        ready = await manager.wait_for("READY=1")
        self.assertEqual(ready, "READY=1\nSTATUS=1 of 1 workers ready")
        await manager.wait_for("WATCHDOG=1")
        [pid] = await self.pids()
        session = list(descendants(pid))
        self.assertNotEqual(session, [])
        for process in session:
            self.assertEqual(variables.keys() & variables_of(process).keys(), set())
        await self.check_doctor(state)
        manager.messages.clear()
        self.server.transport.signalProcess("HUP")  # type: ignore[union-attr]
        self.assertIn("MONOTONIC_USEC=", await manager.wait_for("RELOADING=1"))
        await manager.wait_for("READY=1")
        self.server.signal("TERM")
        await manager.wait_for("STOPPING=1")
        # Not ready for requests, and alive: the manager waits for the end.
        self.assertEqual((await self.fetch("GET", "/ready"))[0].code, 503)
        await manager.wait_for("WATCHDOG=1")
        self.assertFalse([text for text in manager.messages if "READY" in text])
        self.server.signal("TERM")
        self.assertEqual(await self.server.ended, 0)

    async def check_doctor(self, state: str) -> None:
        """
        Check what the doctor finds with the options of the server that runs.
        """
        doctor = Program()
        command = ["-m", "kiroworkers", "doctor", "--json", "--no-start", "--agent", "offline"]
        port = self.base.rpartition(":")[2]
        doctor.start(
            real,
            [*command, "--port", port, "--state-dir", state],
            environment(PATH=self.path),
            self.folder,
        )
        self.assertEqual(await doctor.ended, 0, doctor.output)
        document = json.loads(doctor.output)
        findings = {check["check"]: check for check in document["checks"]}
        self.assertIs(document["ok"], True)
        self.assertEqual(findings["address"]["outcome"], "warning")
        self.assertIn("kiroworkers server already listens", findings["address"]["detail"])
        self.assertIn("in use by a running server", findings["state folder"]["detail"])
        self.assertEqual(findings["session offline"]["outcome"], "skipped")
