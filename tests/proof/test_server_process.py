"""
Tests for `kiroworkers.proof.server_process`, with real servers.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kiroworkers.proof.server_process import NotReady, ServerOptions, ServerProcess
from kiroworkers.proof.setup import Setup, own_setup
from tests.programs import ROOT, Program, environment, exits, folder_outside
from tests.servers import start_similar_python

real: Any = reactor

BROKEN = """
extends = "generic"
name = "broken"
label = "a program that ends"
[start]
program = "sh"
arguments = ["-c", "echo no model is configured; exit 3"]
"""


#: Starts a server of the offline agent in the folder of its argument, and prints its process.
PROVER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from kiroworkers.proof.server_process import ServerOptions, ServerProcess
from kiroworkers.proof.setup import own_setup
async def run():
    setup = own_setup(Path(sys.argv[1]), {"PATH": "/usr/bin:/bin"})
    server = ServerProcess(reactor, setup, ServerOptions("offline"))
    await server.start()
    print("server", server.pid, flush=True)
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()))
reactor.run()
"""


class WaitReadyTests(SynchronousTestCase):
    """
    Tests for `ServerProcess.wait_ready`.
    """

    def setUp(self) -> None:
        root = Path("/proof")
        setup = Setup(root, root, root, root, root, {})
        self.server = ServerProcess(Clock(), setup, ServerOptions("an-agent"))
        self.waiting = Deferred.fromCoroutine(self.server.wait_ready(["worker1", "worker2"], 0))

    def test_ready(self) -> None:
        """
        All workers have to become ready.
        """
        self.server.log.feed(
            b"worker2: ready (starting -> serving)\nworker11: ready (starting -> serving)\n"
        )
        self.assertNoResult(self.waiting)
        self.server.log.feed(b"worker1: ready (starting -> serving)\n")
        self.successResultOf(self.waiting)

    def test_ended(self) -> None:
        """
        If the server ends meanwhile, they will not; the last words of its log say why.
        """
        self.server.log.feed(b"2026-11-29T10:00:00+0000 [-] the disk is full\n")
        self.server.log.end("the server has ended")
        failure = self.failureResultOf(self.waiting, NotReady)
        self.assertEqual(failure.getErrorMessage(), "the server has ended: the disk is full")

    def test_cancelled(self) -> None:
        """
        A wait that is cancelled is no failure of the agent.
        """
        self.waiting.cancel()
        self.failureResultOf(self.waiting, CancelledError)


class ServerProcessTests(TestCase):
    """
    Tests for `ServerProcess`.
    """

    timeout = 300

    def server(self, agent: str, *extra: str) -> ServerProcess:
        """
        Return a server of `agent`, which is stopped after the test.
        """
        setup = own_setup(self.folder, environment())
        # Only `test_killed_prover` needs the process that ends with this one.
        options = ServerOptions(agent, extra=extra)
        server = ServerProcess(real, setup, options, start_similar_python)
        self.addCleanup(server.stop)
        return server

    def setUp(self) -> None:
        self.folder = folder_outside(self)

    async def failure(self, server: ServerProcess) -> str:
        """
        Return why `server` does not become ready.
        """
        with self.assertRaises(NotReady) as raised:
            await server.start()
        return str(raised.exception)

    async def test_lifecycle(self) -> None:
        """
        A server becomes ready, restarts a worker, and can be started again after it was stopped
        and killed.
        """
        server = self.server("offline")
        self.assertGreater(await server.start(), 0)
        before = (await server.health())["workers"]
        await server.restart_worker("worker1")
        after = (await server.health())["workers"]
        self.assertNotEqual(before["worker1"]["pid"], after["worker1"]["pid"])
        self.assertEqual(before["worker2"]["pid"], after["worker2"]["pid"])
        await server.stop()
        self.assertFalse(server.running)
        await server.start()
        await server.kill()
        self.assertFalse(server.running)
        await server.start()
        self.assertEqual((await server.get("/ready")).code, 200)

    async def test_never_ready(self) -> None:
        """
        If the agent ends, the server's own reason says so.
        """
        dialect = self.folder / "broken.toml"
        dialect.write_text(BROKEN)
        reason = await self.failure(self.server(str(dialect)))
        self.assertIn("exit status 3, after 'no model is configured'", reason)

    async def test_no_server(self) -> None:
        """
        If the server itself ends, its last words say why.
        """
        reason = await self.failure(self.server("offline", "--max-requests", "none"))
        self.assertIn("--max-requests", reason)

    async def test_killed_prover(self) -> None:
        """
        If the process that started the server is killed, the server ends as well.
        """
        prover = Program()
        prover.start(real, ["-c", PROVER, str(self.folder)], environment(), ROOT)
        pid = int((await prover.says(r"server (\d+)"))[1])
        ended = exits(real, pid)
        await prover.signal("KILL")
        ended.addTimeout(30, real)
        try:
            await ended
        except TimeoutError:
            os.kill(pid, signal.SIGTERM)
            raise

    test_killed_prover.skip = (  # type: ignore[attr-defined]
        None if sys.platform == "linux" else "only Linux reports the death of a parent"
    )
