"""
End-to-end tests for processes: those that agents leave behind, updates, and PID 1.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from kiroworkers.process.supervisor import descendants
from tests.programs import Program, exits
from tests.servers import ServerTestCase
from tests.trees import HELPERS, LITTER, Holders

real: Any = reactor


class LitterTests(ServerTestCase):
    """
    Tests for agents whose helpers leave their group, their session and their parent, and
    ignore SIGTERM.
    """

    def setUp(self) -> None:
        super().setUp()
        self.holders = Holders(self)
        litter = self.folder / "litter.py"
        litter.write_text(self.holders.script(LITTER))
        prepend(
            self.folder / "bin" / "kiro-cli",
            f"[ $1 != chat ] || {sys.executable} {litter}",
        )

    async def start_session(self) -> int:
        """
        Start a server with one session, and return the session's process id.
        """
        await self.start("--stop-timeout", "0.2", workers=1)
        await self.holders.holds(*HELPERS)
        [pid] = await self.pids()
        return pid

    async def test_stop(self) -> None:
        """
        When the server stops, they are gone.
        """
        await self.start_session()
        await self.server.signal("TERM")
        await self.holders.emptied

    async def test_server_is_killed(self) -> None:
        """
        When the server is killed, they are gone soon.
        """
        self.forked = False
        pid = await self.start_session()
        await self.server.signal("KILL")
        await self.holders.emptied
        await exits(real, pid)

    async def test_restarts(self) -> None:
        """
        After four restarts only the processes of the current session are left, none is a
        zombie, and the server has the same files open as before.
        """
        pid = await self.start_session()
        before = self.files()
        for number in range(2, 6):
            ready = self.server.says(r"(worker1: ready[\s\S]*){" + str(number) + "}")
            ended = exits(real, pid)
            os.kill(self.server.pid, signal.SIGHUP)
            await ready
            await ended
            await self.holders.holds(*HELPERS * number)
            [pid] = await self.pids()
        states = {process: state_of(process) for process in descendants(self.server.pid)}
        self.assertEqual(set(states), {pid, *descendants(pid)})
        self.assertNotIn("Z", states.values())
        self.assertEqual(self.files(), before)
        await self.server.signal("TERM")
        await self.holders.emptied

    def files(self) -> list[str]:
        """
        Return what the server's descriptors lead to, without the numbers, except sockets.
        """
        folder = Path(f"/proc/{self.server.pid}/fd")
        links = [os.readlink(entry) for entry in folder.iterdir()]
        return sorted(link.split(":")[0] for link in links if not link.startswith("socket:"))


class FirstProcessTests(ServerTestCase):
    """
    Tests for a server that is the first process of a container.
    """

    forked = False

    def run_twistd(self, *options: str, background: bool = False, **env: Any) -> Program:
        """
        Run twistd as the first process of a namespace.
        """
        self.patch(sys, "executable", write_script(self.folder / "python", _IN_A_NAMESPACE))
        return super().run_twistd(*options, background=background, **env)

    async def test_reaps_orphans(self) -> None:
        """
        Orphans that the agent's other commands leave do not stay as zombies; sessions start
        and end as usual, and so does the server.
        """
        if subprocess.run(["unshare", "-rpf", "--mount-proc", "true"], check=False).returncode:
            raise SkipTest("this machine allows no namespaces")
        holders = Holders(self)
        orphan = self.folder / "orphan.py"
        orphan.write_text(holders.script("daemon(lambda: hold('orphan'))"))
        prepend(
            self.folder / "bin" / "kiro-cli",
            f"[ $1 != --version ] || {sys.executable} {orphan}",
        )
        await self.start(workers=1)
        await holders.emptied
        response, body = await self.story("x")
        self.assertEqual((response.code, body["title"]), (200, "x"))
        states = [state_of(process) for process in descendants(self.server.pid)]
        self.assertNotIn("Z", states)
        # SIGTERM reaches the first process by its number outside of the namespace.
        [first, *_] = descendants(self.server.pid)
        os.kill(first, signal.SIGTERM)
        self.assertEqual(await self.server.ended, 0, self.server.output)


class UpdateTests(ServerTestCase):
    """
    Tests for an agent that is replaced while the server runs.
    """

    async def test_newer_version(self) -> None:
        """
        A newer version that does not know a flag is started without it, by the first restart
        that follows its installation, and /health shows it.
        """
        await self.start(workers=1, FAKEKIRO_VERSION="2.11.0", KIROWORKERS_PASS_ENV="FAKEKIRO*")
        self.assertIn("kiro-cli 2.11.0", (await self.health())["agentDetail"])
        newer = write_script(
            self.folder / "newer",
            f"#!/bin/sh\nexport FAKEKIRO_VERSION=2.30.0\n"
            'case "$*" in *--legacy-ui*) exit 2;; esac\n'
            f'exec {sys.executable} -m tests.fakekiro "$@"\n',
        )
        os.replace(newer, self.folder / "bin" / "kiro-cli")
        ready = self.server.says(r"(worker1: ready[\s\S]*){2}")
        os.kill(self.server.pid, signal.SIGHUP)
        await ready
        health = await self.health()
        self.assertIn("kiro-cli 2.30.0", health["agentDetail"])
        self.assertEqual(health["transport"], "acp")
        self.assertEqual(health["workers"]["worker1"]["consecutiveFailures"], 0)
        self.assertIsNone(health["workers"]["worker1"]["lastError"])
        response, _ = await self.story("x")
        self.assertEqual(response.code, 200)


#: A Python that runs as the first process of a namespace.
_IN_A_NAMESPACE = f"""#!/bin/sh
exec unshare -rpf --mount-proc {sys.executable} "$@"
"""


def write_script(path: Path, text: str) -> str:
    """
    Write an executable script, and return its path.
    """
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def prepend(script: Path, line: str) -> None:
    """
    Have the shell script `script` run `line` first.
    """
    first, rest = script.read_text().split("\n", 1)
    script.write_text(f"{first}\n{line}\n{rest}")


def state_of(pid: int) -> str:
    """
    Return the state of a process as one letter; it is Z for a zombie.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
