"""
How a server starts and stops: ``twistd kiroworkers``, from the outside.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.programs import ROOT, Program, alive, environment, exits
from tests.servers import TWISTD, ServerTestCase, real


class StartTests(ServerTestCase):
    """
    Starts that go wrong, and say so in one line.
    """

    async def refused(self, *options: str, **env: Any) -> str:
        """
        The last line of a server that does not start.
        """
        program = self.run_twistd(*options, **env)
        self.assertEqual(await program.ended, 1, program.output)
        self.assertNotIn("Traceback", program.output)
        self.assertNotIn("started, pid", program.output)
        return program.output.strip().splitlines()[-1]

    async def test_port_taken(self) -> None:
        """
        On a port that is taken there is one line and status 1, in the
        foreground and in the background, and no session was started.
        """
        await self.start(workers=1)
        port = self.base.rpartition(":")[2]
        line = await self.refused("--port", port)
        self.assertIn(f"cannot listen on tcp:{port}", line)
        self.assertIn("Address already in use", line)
        program = self.run_twistd("--port", port, background=True)
        self.assertEqual(await program.ended, 1)
        self.assertIn("cannot listen", program.output)
        self.assertNotIn("started, pid", (self.folder / "twistd.log").read_text())
        pidfile = self.folder / "twistd.pid"
        with contextlib.suppress(FileNotFoundError):
            # It may still be on its way out.
            await exits(real, int(pidfile.read_text()))
        self.assertFalse(pidfile.exists())

    async def test_usage(self) -> None:
        """
        An option that cannot be names itself, as does a variable.
        """
        self.assertIn("--workers: '0'", await self.refused("--workers", "0"))
        self.assertIn("--agent: 'emacs'", await self.refused("--agent", "emacs"))
        self.assertIn("PORT: 'http'", await self.refused(PORT="http"))
        self.assertIn("--listen", await self.refused("--listen", "carrier-pigeon:1"))

    async def test_others_can_reach_it(self) -> None:
        """
        An address that other machines can reach needs a word from the operator.
        """
        line = await self.refused("--interface", "0.0.0.0", "--port", "0")
        self.assertIn("--insecure", line)
        self.assertIn("--insecure", await self.refused("--listen", "tcp:0"))

    async def test_no_kiro(self) -> None:
        """
        Kiro asked for by name and not there, or too new for the interface that is
        asked for, is no start.
        """
        line = await self.refused(
            "--port", "0", "--agent", "kiro-classic", FAKEKIRO_VERSION="3.0.2"
        )
        self.assertIn("3.0.2", line)
        self.path = "/usr/bin:/bin"
        line = await self.refused("--port", "0", "--agent", "kiro")
        self.assertIn("kiro-cli is not on PATH", line)

    async def test_session_that_does_not_start(self) -> None:
        """
        A session that cannot start is told in the log and in /health with its
        last words, and is tried again.
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
    What is left behind: nothing.
    """

    async def left_after(self, number: signal.Signals, *ideas: str, **env: Any) -> None:
        """
        Wait until nothing is left of a server that `number` ended while it was
        asked `ideas`.
        """
        await self.start("--stop-timeout", "0.2", **env)
        for idea in ideas:
            self.story(idea).addErrback(lambda _: None)
            await self.typed.heard(idea)
        pids = await self.pids()
        self.assertTrue(all(alive(pid) for pid in pids))
        family = [each for pid in pids for each in self.group(pid)]
        self.assertLessEqual(len(pids), len(family))
        os.kill(self.server.pid, number)
        await self.server.ended
        for pid in family:
            await exits(real, pid)

    def group(self, leader: int) -> list[int]:
        """
        The processes of a group.
        """
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(fields[2]) == leader:
                    found.append(int(entry.name))
        return found

    async def test_idle(self) -> None:
        """
        Stopping an idle server ends its sessions.
        """
        await self.left_after(signal.SIGTERM)

    async def test_busy(self) -> None:
        """
        Stopping a server ends sessions that hang, or left a child behind.
        """
        await self.left_after(signal.SIGTERM, "x [[hang]]", "y [[orphan silent]]")

    async def test_killed(self) -> None:
        """
        A server that is killed leaves no session either.
        """
        await self.left_after(signal.SIGKILL)

    async def test_killed_with_stubborn_sessions(self) -> None:
        """
        Not even sessions that ignore the hang-up.
        """
        ideas = ("x [[hang]]", "y [[orphan silent]]")
        await self.left_after(signal.SIGKILL, *ideas, FAKEKIRO="stubborn")

    async def test_background(self) -> None:
        """
        In the background, too: twistd's pid file names the server, and its end
        is that of its sessions.
        """
        port = self.free_port()
        program = self.run_twistd("--port", port, background=True)
        self.assertEqual(await program.ended, 0, program.output)
        self.base = f"http://127.0.0.1:{port}"
        pids = await self.pids()
        server = int((self.folder / "twistd.pid").read_text())
        os.kill(server, signal.SIGTERM)
        for pid in [server, *pids]:
            await exits(real, pid)

    def free_port(self) -> str:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            return str(taken.getsockname()[1])


class PackageTests(TestCase):
    """
    The command line as a user meets it.
    """

    async def test_help(self) -> None:
        """
        `twistd kiroworkers --help` lists the knobs.
        """
        program = Program()
        arguments = [*TWISTD, "kiroworkers", "--help"]
        program.start(real, arguments, environment(), Path(self.mktemp()).parent.absolute())
        self.assertEqual(await program.ended, 0, program.output)
        for flag in ("--port=", "--workers=", "--queue-timeout=", "--insecure"):
            self.assertIn(flag, program.output)

    async def test_light_plugin(self) -> None:
        """
        Listing twistd's plugins imports none of the server.
        """
        program = Program()
        script = (
            "import sys; from twisted.plugins import kiroworkers_plugin as p; "
            "print(p.kiroworkers.tapname, 'klein' in sys.modules, 'kiroworkers.tap' in sys.modules)"
        )
        program.start(real, ["-c", script], environment(), ROOT)
        await program.ended
        self.assertEqual(program.output.split(), ["kiroworkers", "False", "False"])
