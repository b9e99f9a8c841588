"""
Run the server that is proven: a real process of this installation, on a free port of loopback.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from kiroworkers.proof.http import Client, Response
from kiroworkers.proof.program_log import ProgramEnded, ProgramLog
from kiroworkers.proof.setup import Setup

#: Seconds that the server has from SIGTERM to its end; sessions have some of them.
_STOP_TIMEOUT = 25.0

#: Becomes the server, whose arguments follow the id of this process.  Once this process has ended,
#: the kernel tells the server to end: this process may be killed, and then it stops nothing.
_BOUND_SERVER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that started this server is gone")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

#: Starts Python, given the protocol of its process, its arguments, environment and folder.
StartPython: TypeAlias = Callable[[ProcessProtocol, list[str], Mapping[str, str], Path], object]

#: The beginning of each line of the server's log: the time and the system.
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\S+ \[[^]]*\] ")


class NotReady(Exception):
    """
    Raised when a worker does not become ready; the message has the server's own reason.
    """


@frozen
class ServerOptions:
    """
    Hold how the server is run.

    Attributes:
        agent: The value of --agent.
        workers: The number of workers.
        startup_timeout: Seconds that a session may take to become ready.
        request_timeout: Seconds that a request may take.
        extra: More options.
    """

    agent: str
    workers: int = 2
    startup_timeout: float = 60.0
    request_timeout: float = 120.0
    extra: tuple[str, ...] = ()

    def arguments(self, setup: Setup) -> tuple[str, ...]:
        """
        Return the arguments of ``kiroworkers serve``.
        """
        pass_env = ("--pass-env", ",".join(setup.pass_env)) if setup.pass_env else ()
        return (
            *("--port", "0", "--interface", "127.0.0.1"),
            *("--agent", self.agent, "--workers", str(self.workers)),
            *("--repo-path", str(setup.folder), "--tasks", str(setup.tasks)),
            *("--state-dir", str(setup.state_dir)),
            *("--startup-timeout", f"{self.startup_timeout:g}"),
            *("--request-timeout", f"{self.request_timeout:g}"),
            *("--queue-timeout", f"{self.request_timeout:g}"),
            *("--max-body", "8MiB", "--graceful-timeout", "1"),
            # An agent that cannot start is to be reported soon.
            *("--start-limit-burst", "2", "--restart-delay", "0.5"),
            *pass_env,
            *self.extra,
        )


class _Process(ProcessProtocol):
    """
    Collect the output of the server, and report its end.
    """

    def __init__(self, log: ProgramLog) -> None:
        self.ended: Deferred[None] = Deferred()
        self.has_ended = False
        self._log = log

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        Add output to the log.
        """
        self._log.feed(data)

    def processEnded(self, reason: Failure) -> None:
        """
        Note the end.
        """
        self.has_ended = True
        self._log.end(f"the server has ended: {reason.getErrorMessage()}")
        self.ended.callback(None)


def _start_bound(
    reactor: Any,
    protocol: ProcessProtocol,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
) -> None:
    """
    Start Python in a process that ends if this one does.
    """
    reactor.spawnProcess(
        protocol,
        sys.executable,
        [sys.executable, "-I", "-S", "-c", _BOUND_SERVER, str(os.getpid()), *arguments],
        env=dict(environment),
        path=str(folder),
    )


class ServerProcess:
    """
    Start and stop the server, and ask it over HTTP.

    A server that was stopped or killed can be started again: it then has the same home, the
    same folders and the same state folder.

    Args:
        reactor: Runs the process and the connections.
        setup: The folders and the environment.
        options: How the server is run.
        start_python: Starts the process; by default as one that ends if this process does.

    Attributes:
        log: What the server has printed, over all its starts.
        options: How the server is run; what is changed holds from the next start on.
    """

    def __init__(
        self,
        reactor: Any,
        setup: Setup,
        options: ServerOptions,
        start_python: StartPython | None = None,
    ) -> None:
        self.log = ProgramLog()
        self.options = options
        self._reactor = reactor
        self._setup = setup
        self._start_python = start_python or partial(_start_bound, reactor)
        self._process: _Process | None = None
        self._client: Client | None = None

    @property
    def workers(self) -> list[str]:
        """
        Return the names of the workers.
        """
        return [f"worker{number}" for number in range(1, self.options.workers + 1)]

    @property
    def pid(self) -> int | None:
        """
        Return the id of the process; None if it does not run.
        """
        if self._process is None or self._process.has_ended:
            return None
        pid: int | None = self._process.transport.pid  # type: ignore[union-attr]
        return pid

    @property
    def running(self) -> bool:
        """
        Return whether the process runs.
        """
        return self._process is not None and not self._process.has_ended

    async def start(self) -> float:
        """
        Start the server, wait until all workers are ready, and return the seconds it took.

        Raises:
            NotReady: If a worker does not become ready.
        """
        started_at, mark = self._reactor.seconds(), self.log.count
        self._process = _Process(self.log)
        arguments = ["-m", "kiroworkers", "serve", *self.options.arguments(self._setup)]
        self._start_python(self._process, arguments, self._setup.environment, self._setup.folder)
        try:
            port = (await self.log.wait(r"listening on .*port=(\d+)", mark))[1]
        except ProgramEnded as error:
            raise NotReady(f"{error}: {self._last_words(mark)}") from None
        self._client = Client(self._reactor, f"http://127.0.0.1:{port}")
        await self.wait_ready(self.workers, mark)
        seconds: float = self._reactor.seconds() - started_at
        return seconds

    async def wait_ready(self, workers: Sequence[str], since: int) -> None:
        """
        Wait until new sessions of `workers` are ready.

        Args:
            workers: The names of the workers.
            since: The number of lines of the log to disregard.

        Raises:
            NotReady: If one of them does not become ready.
            CancelledError: If this is cancelled.
        """
        for worker in workers:
            ready = self.log.wait(rf"{worker}: ready \(", since)
            given_up = self.log.wait(rf"{worker}: \w+ -> (failed): |circuit open: (.*)", since)
            try:
                _, index = await DeferredList(
                    [ready, given_up], fireOnOneCallback=True, fireOnOneErrback=True
                )
            except FirstError as error:
                error.subFailure.trap(ProgramEnded)
                reason = error.subFailure.getErrorMessage()
                raise NotReady(f"{reason}: {self._last_words(since)}") from None
            finally:
                for waiting in (ready, given_up):
                    waiting.addErrback(lambda _: None)
                    waiting.cancel()
            if index == 1:
                raise NotReady(await self.reason())

    async def reason(self) -> str:
        """
        Return why the workers are not ready, as the server says it.
        """
        health = (await self.get("/health")).body
        errors = [worker["lastError"] for worker in health["workers"].values()]
        detail: str = health["pool"]["detail"] or ""
        others = [error for error in dict.fromkeys(errors) if error and error not in detail]
        return "; ".join(filter(None, [detail, *others])) or "no worker is ready"

    async def stop(self) -> None:
        """
        Stop the server and its sessions, if it runs.
        """
        process = self._signal("TERM")
        if process is not None:
            kill = self._reactor.callLater(_STOP_TIMEOUT, self._signal, "KILL")
            await process.ended
            if kill.active():
                kill.cancel()

    async def kill(self) -> None:
        """
        Kill the server alone, as a lack of memory would.
        """
        process = self._signal("KILL")
        if process is not None:
            await process.ended

    async def restart_worker(self, worker: str) -> None:
        """
        Replace the session of `worker`, and wait until the new one is ready.
        """
        mark = self.log.count
        await self.post(f"/operator/workers/{worker}/restart", {})
        await self.wait_ready([worker], mark)

    async def health(self) -> Mapping[str, Any]:
        """
        Return the body of ``GET /health``.
        """
        body: Mapping[str, Any] = (await self.get("/health")).body
        return body

    async def get(self, path: str) -> Response:
        """
        Send a GET request.
        """
        return await self._connected().request("GET", path)

    async def post(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Response:
        """
        Send a POST request with a JSON body.
        """
        return await self._connected().request("POST", path, body, headers)

    def _connected(self) -> Client:
        assert self._client is not None, "the server was started"
        return self._client

    def _signal(self, name: str) -> _Process | None:
        """
        Send a signal; return the process, or None if it does not run.
        """
        if self._process is None or self._process.has_ended:
            return None
        assert self._process.transport is not None
        with suppress(ProcessExitedAlready):  # Its end has not been reported yet.
            self._process.transport.signalProcess(name)
        return self._process

    def _last_words(self, since: int) -> str:
        lines = [_STAMP.sub("", line) for line in self.log.since(since) if line.strip()]
        return " / ".join(lines[-2:])
