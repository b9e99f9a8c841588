"""
Servers for the tests, started by twistd itself.
"""

from __future__ import annotations

import json
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.programs import (
    FAULTS,
    Program,
    Typed,
    environment,
    folder_outside,
    install_fake_kiro,
)

real: Any = reactor

TWISTD = ["-c", "from twisted.scripts.twistd import run; run()"]


class ServerTestCase(TestCase):
    """
    Starts servers in a folder of the test's own, and ends them.
    """

    timeout = 60

    #: The arguments that make Python run a server in the foreground.
    foreground: tuple[str, ...] = (*TWISTD, "-n", "--pidfile=", "kiroworkers")

    def setUp(self) -> None:
        self.folder = folder_outside(self)
        self.path = install_fake_kiro(self.folder / "bin")
        self.typed = Typed(real, self.folder / "typed")
        self.addCleanup(self.typed.close)

    def run_twistd(self, *options: str, background: bool = False, **env: Any) -> Program:
        """
        Run twistd with the stand-in as Kiro.
        """
        program = Program()
        command = (*TWISTD, "kiroworkers") if background else self.foreground
        usual = {
            "FAKEKIRO_LOG": str(self.typed.path),
            "KIROWORKERS_PASS_ENV": FAULTS,
            "XDG_STATE_HOME": str(self.folder / "home-state"),
        }
        variables = environment(PATH=self.path, **{**usual, **env})
        program.start(real, [*command, *options], variables, self.folder)
        return program

    async def start(self, *options: str, workers: int = 2, **env: Any) -> Program:
        """
        A server with all its workers ready, to be stopped after the test.
        """
        usual = ("--port", "0", "--workers", str(workers), "--graceful-timeout", "0.1")
        options = (*usual, *options)
        self.server = self.run_twistd(*options, **env)
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        for number in range(1, workers + 1):
            await self.server.says(f"worker{number}: ready")
        return self.server

    async def stop(self) -> None:
        if not self.server.ended.called:
            self.server.signal("TERM")
        await self.server.ended

    async def ask(self, task: str, body: Any, **kwargs: Any) -> tuple[Any, Any]:
        """
        The response to a request to `task`, and its body.
        """
        return await self.fetch("POST", f"/kiro/{task}", json=body, **kwargs)

    def story(self, idea: str, **kwargs: Any) -> Deferred[tuple[Any, Any]]:
        """
        A request for a story, under way.
        """
        return Deferred.fromCoroutine(self.ask("generate-story", {"idea": idea}, **kwargs))

    async def fetch(self, method: str, path: str, **kwargs: Any) -> tuple[Any, Any]:
        response = await treq.request(method, self.base + path, persistent=False, **kwargs)
        return response, json.loads(await response.content())

    async def health(self) -> Any:
        _, body = await self.fetch("GET", "/health")
        return body

    async def pids(self) -> list[int]:
        workers = (await self.health())["workers"]
        return [worker["pid"] for worker in workers.values()]

    def header(self, response: Any, name: str) -> str:
        value: str = response.headers.getRawHeaders(name)[0]
        return value
