"""
End-to-end tests for how ``twistd kiroworkers`` starts and stops.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.programs import ROOT, Program, alive, environment, exits
from tests.servers import TWISTD, ServerTestCase, real


class StartTests(ServerTestCase):
    """
    Tests for servers that cannot start, and say why in one line.
    """

    async def error_line(self, *options: str, status: int = 78, **env: Any) -> str:
        """
        Run a server that cannot start, and return the last line of its output.
        """
        program = self.run_twistd(*options, **env)
        self.assertEqual(await program.ended, status, program.output)
        self.assertNotIn("Traceback", program.output)
        self.assertNotIn("started, pid", program.output)
        return program.output.strip().splitlines()[-1]

    async def test_port_taken(self) -> None:
        """
        If the port is taken, the server prints one line and exits with status 78, or in
        the background with twistd's own status 1, and starts no session.
        """
        self.forked = False
        await self.start(workers=1)
        port = self.base.rpartition(":")[2]
        line = await self.error_line("--port", port)
        self.assertIn(f"cannot listen on tcp:{port}", line)
        self.assertIn("Address already in use", line)
        program = self.run_twistd("--port", port, background=True)
        self.assertEqual(await program.ended, 1)
        self.assertIn("cannot listen", program.output)
        self.assertNotIn("started, pid", (self.folder / "twistd.log").read_text())
        pidfile = self.folder / "twistd.pid"
        with contextlib.suppress(FileNotFoundError):
            # The server may not have exited yet.
            await exits(real, int(pidfile.read_text()))
        self.assertFalse(pidfile.exists())

    async def test_usage(self) -> None:
        """
        The error for an invalid option or variable names it.
        """
        self.assertIn("--workers 0: must be", await self.error_line("--workers", "0", status=64))
        self.assertIn("--agent emacs: ", await self.error_line("--agent", "emacs", status=64))
        self.assertIn("PORT=http: ", await self.error_line(status=64, PORT="http"))
        self.assertIn("--listen", await self.error_line("--listen", "carrier-pigeon:1"))

    async def test_public_address(self) -> None:
        """
        An address that other machines can reach needs --insecure or --token-file.
        """
        line = await self.error_line("--interface", "0.0.0.0", "--port", "0", status=64)
        self.assertIn("--insecure", line)
        self.assertIn("--insecure", await self.error_line("--listen", "tcp:0"))

    async def test_no_kiro(self) -> None:
        """
        The server does not start if Kiro is named and not installed, or if its version
        does not have the interface that is named.
        """
        line = await self.error_line(
            "--port", "0", "--agent", "kiro-classic", FAKEKIRO_VERSION="3.0.2"
        )
        self.assertIn("3.0.2", line)
        self.path = "/usr/bin:/bin"
        line = await self.error_line("--port", "0", "--agent", "kiro")
        self.assertIn("kiro-cli is not on PATH", line)

    async def test_broken_agent(self) -> None:
        """
        A session that cannot start is restarted; the log and /health show its last
        output.
        """
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1", "--restart-delay", "0.1"), FAKEKIRO="broken"
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        await self.server.says(r"(?:worker1: started, pid[\s\S]*){3}")
        worker = (await self.health())["workers"]["worker1"]
        self.assertIn("the database of models is locked", worker["lastError"])
        self.assertIn("the database of models is locked", worker["lastScreen"])
        self.assertIs(worker["healthy"], False)
        self.assertLessEqual(2, worker["consecutiveFailures"])
        response, _ = await self.fetch("GET", "/ready")
        self.assertEqual(response.code, 503)


class StopTests(ServerTestCase):
    """
    Tests for the processes of a server that ends.
    """

    async def assert_all_end(self, number: signal.Signals, *ideas: str, **env: Any) -> None:
        """
        Send a signal to a server that is busy with `ideas`, and wait until all its
        processes have ended.
        """
        await self.start("--stop-timeout", "0.2", **env)
        for idea in ideas:
            self.story(idea).addErrback(lambda _: None)
            await self.typed.wait_for(idea)
        pids = await self.pids()
        self.assertTrue(all(alive(pid) for pid in pids))
        members = [member for pid in pids for member in self.group(pid)]
        self.assertLessEqual(len(pids), len(members))
        os.kill(self.server.pid, number)
        await self.server.ended
        for pid in members:
            await exits(real, pid)

    def group(self, leader: int) -> list[int]:
        """
        Return the ids of the processes in the group of `leader`.
        """
        members = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(fields[2]) == leader:
                    members.append(int(entry.name))
        return members

    async def test_idle(self) -> None:
        """
        Stopping an idle server ends its sessions.
        """
        await self.assert_all_end(signal.SIGTERM)

    async def test_busy(self) -> None:
        """
        Stopping a server ends sessions that hang, and the children of sessions.
        """
        await self.assert_all_end(signal.SIGTERM, "x [[hang]]", "y [[orphan silent]]")

    async def test_killed(self) -> None:
        """
        If a server is killed, its sessions end.
        """
        self.forked = False
        await self.assert_all_end(signal.SIGKILL)

    async def test_killed_with_stubborn_sessions(self) -> None:
        """
        If a server is killed, sessions that ignore SIGHUP end, too.
        """
        ideas = ("x [[hang]]", "y [[orphan silent]]")
        await self.assert_all_end(signal.SIGKILL, *ideas, FAKEKIRO="stubborn")

    async def test_background(self) -> None:
        """
        Stopping a server in the background, by its pid file, ends its sessions.
        """
        program = self.run_twistd("--port", "0", background=True)
        self.assertEqual(await program.ended, 0, program.output)
        log = (self.folder / "twistd.log").read_text()
        [port] = re.findall(r"listening on .*port=(\d+)", log)
        self.base = f"http://127.0.0.1:{port}"
        pids = await self.pids()
        server = int((self.folder / "twistd.pid").read_text())
        os.kill(server, signal.SIGTERM)
        for pid in [server, *pids]:
            await exits(real, pid)


class PackageTests(TestCase):
    """
    Tests for the plugin of twistd.
    """

    async def test_help(self) -> None:
        """
        `twistd kiroworkers --help` lists the options.
        """
        program = Program()
        arguments = [*TWISTD, "kiroworkers", "--help"]
        program.start(real, arguments, environment(), Path(self.mktemp()).parent.absolute())
        self.assertEqual(await program.ended, 0, program.output)
        for flag in ("--port PORT", "--workers N", "--queue-timeout SECONDS", "--insecure"):
            self.assertIn(flag, program.output)

    async def test_light_plugin(self) -> None:
        """
        Listing the plugins of twistd does not import the server.
        """
        program = Program()
        script = (
            "import sys; from twisted.plugins import kiroworkers_plugin as p; "
            "print(p.kiroworkers.tapname, 'klein' in sys.modules, 'kiroworkers.tap' in sys.modules)"
        )
        program.start(real, ["-c", script], environment(), ROOT)
        await program.ended
        self.assertEqual(program.output.split(), ["kiroworkers", "False", "False"])
