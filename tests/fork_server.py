"""
Start servers and commands as forks of a process that has imported their modules already.

Most of what such a start takes is imports, about a second of CPU time, and the tests start
hundreds.  So a test process starts one more process before its first server: the fork server, which
imports what servers import, and forks for each of them.  It ends when the test process does.

A program that starts by a fork shows nothing about the following, which is for tests that run
``python`` (`tests.servers.ServerTestCase.forked`):

- whether its modules can be imported in a fresh interpreter, and in its own order;
- what the interpreter does with its command line, which ``/proc`` shows, and its environment;
- its parent, which is not the test process.

The forks of one fork server also share the seed of `hash`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.internet.interfaces import IProcessProtocol
from twisted.internet.process import Process, ProcessReader, ProcessWriter

#: What a server imports.  The rest, of what only some servers import, is little.
_MODULES = (
    "kiroworkers.tap",
    "twisted.internet.default",
    "twisted.internet.epollreactor",
    "twisted.scripts.twistd",
)
_REACTOR = "twisted.internet.reactor"

#: The variables that the interpreter, the C library or OpenSSL may read once, at their start.
_READ_AT_START = re.compile(r"PYTHON|LANG|LC_|LD_|MALLOC_|OPENSSL|TZ|GLIBC")

#: The program of the fork server, of which the code of each server becomes a part.
_PROGRAM = "from tests.fork_server import serve; exec(serve(3))"

#: The most bytes of a request: command line and environment.
_MAX_REQUEST = 1 << 18

#: The name, among a process's pipes, of the one that reports its end.
_REPORT = 3

#: What is reported if the fork server ends first.
_LOST = 255 << 8


def serve(descriptor: int) -> str:
    """
    Fork for each request that arrives, until the other end of the socket closes.

    Returns:
        In each child, the code that it is to run.

    Args:
        descriptor: The socket's.
    """
    _import_modules()
    # Garbage collection would copy memory that the children share.
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=descriptor)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    children: dict[int, tuple[int, int]] = {}
    while True:
        try:
            events = poll.poll()
        except KeyboardInterrupt:
            os._exit(1)
        for ready, _ in events:
            if ready in children:
                poll.unregister(ready)
                pid, report = children.pop(ready)
                _report(report, os.waitpid(pid, 0)[1])
                os.close(report)
                os.close(ready)
                continue
            data, descriptors, _, _ = socket.recv_fds(control, _MAX_REQUEST, 4)
            if not data:
                # The test process has ended, perhaps without stopping what it had started.
                for pid, _ in children.values():
                    os.kill(pid, signal.SIGTERM)
                os._exit(0)
            *streams, report = descriptors
            try:
                pid = os.fork()
            except OSError as error:
                _report(report, -(error.errno or 0))
                for descriptor in descriptors:
                    os.close(descriptor)
                continue
            if pid == 0:
                # Objects must not close descriptors that will be others' numbers.
                control.detach()
                return _become(json.loads(data), streams)
            for stream in streams:
                os.close(stream)
            _report(report, pid)
            ended = os.pidfd_open(pid)
            children[ended] = pid, report
            poll.register(ended, select.POLLIN)


def _import_modules() -> None:
    """
    Import what a server imports, but install no reactor.

    Klein imports the reactor together with its modules, and uses it only if asked to run one.
    """

    def look_up(name: str) -> Any:
        if _REACTOR not in sys.modules or sys.modules[_REACTOR] is stand_in:
            raise AttributeError(name)
        return getattr(sys.modules[_REACTOR], name)

    stand_in: Any = ModuleType(_REACTOR)
    stand_in.__getattr__ = look_up
    sys.modules[_REACTOR] = stand_in
    for name in _MODULES:
        importlib.import_module(name)
    # These import more, and generate the code that reads dialects.
    list(importlib.import_module("twisted.plugin").getPlugins(IServiceMaker))
    importlib.import_module("kiroworkers.conversations").load_dialect("kiro-classic")
    del sys.modules[_REACTOR]
    vars(sys.modules["twisted.internet"]).pop("reactor", None)


def _report(descriptor: int, number: int) -> None:
    """
    Write a number for the test process, unless that has ended.
    """
    with contextlib.suppress(BrokenPipeError):
        os.write(descriptor, b"%d\n" % number)


def _become(request: Mapping[str, Any], streams: list[int]) -> str:
    """
    Give this process what a fresh interpreter would have, and return the code to run.
    """
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["folder"])
    variables = dict(request["env"])
    if "LC_CTYPE" in os.environ:
        # The interpreter may have set it (PEP 538), as it would have for the server.
        variables.setdefault("LC_CTYPE", os.environ["LC_CTYPE"])
    os.environ.clear()
    os.environ.update(variables)
    flag, program, *arguments = request["arguments"]
    sys.argv = [flag, *arguments]
    sys.orig_argv = [sys.executable, *request["arguments"]]
    if flag == "-c":
        return str(program)
    sys.path[0] = os.getcwd()
    # This is what the interpreter does.
    return f"import runpy; runpy._run_module_as_main({program!r})"


class ForkServer:
    """
    Start processes as forks of one that has imported a server's modules.

    That one ends when this process does, or when this object is deleted.

    Args:
        env: Its environment.

    Attributes:
        pid: Its number.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._executable = sys.executable
        # Text streams notice whether they are terminals or files, so these are pipes as well.
        self._output, stream = os.pipe()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        actions = [(os.POSIX_SPAWN_DUP2, self._output, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, stream, standard) for standard in (1, 2)]
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", _PROGRAM],
            env,
            file_actions=[*actions, (os.POSIX_SPAWN_DUP2, number, 3)],
            setsigdef=[*(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})],
        )
        os.close(stream)
        theirs.close()

    def matches(self, arguments: list[str], env: Mapping[str, str]) -> bool:
        """
        Return whether ``python`` with `arguments` would run the same way in `env`.
        """
        same = (sys.executable, _at_start(env)) == (self._executable, _at_start(self._env))
        return same and arguments[0] in ("-c", "-m")

    def start(
        self,
        reactor: Any,
        protocol: IProcessProtocol,
        arguments: list[str],
        env: Mapping[str, str],
        folder: Path,
    ) -> None:
        """
        Run what ``python`` would run with `arguments`, as `reactor.spawnProcess` does.

        Raises:
            RuntimeError: If the fork server has ended.
            OSError: If there can be no such process.
        """
        request = {"arguments": arguments, "env": dict(env), "folder": str(folder)}
        (theirs_in, ours_in), *outputs = (os.pipe() for _ in range(4))
        ours = [ours_in, *(read for read, _ in outputs)]
        theirs = [theirs_in, *(write for _, write in outputs)]
        try:
            pid = self._request(request, theirs, ours[_REPORT])
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        ForkedProcess(reactor, protocol, pid, ours)

    def _request(self, request: Mapping[str, Any], descriptors: list[int], report: int) -> int:
        """
        Request a process, close `descriptors`, which it has then, and return its number.
        """
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The report below ends at once.
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(report, 1)
            if not byte:
                raise RuntimeError(f"no fork server: {os.read(self._output, 65536).decode()}")
            line += byte
        pid = int(line)
        if pid <= 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if _READ_AT_START.match(name)}


class ForkedProcess(Process):
    """
    Represent a process whose parent is the fork server.

    Args:
        reactor: The reactor.
        protocol: The protocol of the process.
        pid: Its number.
        pipes: Our ends of its standard streams and of the pipe that reports its end.
    """

    def __init__(
        self, reactor: Any, protocol: IProcessProtocol, pid: int, pipes: list[int]
    ) -> None:
        self.proto = protocol
        self.pid = self._number = pid
        self.pipes: dict[int, Any] = {}
        for name, descriptor in enumerate(pipes):
            if name == 0:
                self.pipes[0] = ProcessWriter(reactor, self, 0, descriptor, forceReadHack=True)
            else:
                self.pipes[name] = ProcessReader(reactor, self, name, descriptor)
        protocol.makeConnection(self)

    def reapProcess(self) -> None:
        """
        Leave the process to the fork server, which reaps it.
        """

    def childDataReceived(self, name: int, data: bytes) -> None:
        if name == _REPORT:
            # Some ten bytes, which are written at once.
            self.processEnded(int(data))
        else:
            super().childDataReceived(name, data)

    def childConnectionLost(self, childFD: int, reason: Any) -> None:
        if childFD == _REPORT and not self.lostProcess:
            # Nobody would stop it, since it seems to have ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._number, signal.SIGKILL)
            self.processEnded(_LOST)
        super().childConnectionLost(childFD, reason)
