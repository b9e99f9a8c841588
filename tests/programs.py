"""
Helpers that run real programs for the tests: servers, and stand-ins for agents.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

ROOT = Path(__file__).parents[1]

#: Matches the variables that the stand-ins read, for --pass-env.
FAULTS = "FAKEKIRO*"

#: The variables that servers do not inherit from the tests: those of the server's settings without
#: our prefix, and the one that would make each server and stand-in compile all its modules again,
#: which takes a third of the time of a start.
_LEFT_OUT = ("PORT", "REPO_PATH", "PYTHONDONTWRITEBYTECODE")


def environment(**changes: str) -> dict[str, str]:
    """
    Return this process's environment with `changes`, without the server's settings.

    PYTHONPATH makes the checkout importable from any folder.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KIROWORKERS_", "FAKEKIRO")) and name not in _LEFT_OUT
    }
    return {**inherited, "PYTHONPATH": str(ROOT), **changes}


def folder_outside(case: SynchronousTestCase) -> Path:
    """
    Return a new folder outside the checkout, which is removed after the test `case`.

    Unlike a path from `mktemp`, it is not inside a git repository, and it is short
    enough for a Unix socket, wherever the checkout is.
    """
    folder = Path(tempfile.mkdtemp(prefix="test-")).resolve()
    # A session that is about to exit may still write to it.
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    return folder


def install_fake_kiro(folder: Path, module: str = "tests.fakekiro", name: str = "kiro-cli") -> str:
    """
    Install a stand-in for an agent, and return a PATH on which it comes first.

    Args:
        folder: The folder to install it in.
        module: The Python module of the stand-in.
        name: The name of the agent's program.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    command = shlex.join([sys.executable, "-m", module])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def git(folder: Path, *arguments: str) -> str:
    """
    Run git in `folder` and return its standard output.
    """
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def new_repository(folder: Path, files: Mapping[str, str]) -> Path:
    """
    Make `folder` a git repository with one commit of `files`, and return it.

    Args:
        folder: The folder, which need not exist.
        files: The text of each file, by its path in the folder.
    """
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "config", "user.name", "A")
    git(folder, "config", "user.email", "a@example.org")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "All")
    return folder


def variables_of(pid: int) -> dict[str, str]:
    """
    Return the environment of the process `pid`.
    """
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def alive(pid: int) -> bool:
    """
    Return whether the process `pid` exists and is not a zombie.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def exits(reactor: Any, pid: int) -> Deferred[None]:
    """
    Return a Deferred that fires when the process `pid` has ended.

    It need not be a child of this process.
    """
    ended: Deferred[None] = Deferred()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        ended.callback(None)
        return ended

    def report_end() -> None:
        reader.close()
        ended.callback(None)

    reader = DescriptorReader(reactor, descriptor, report_end)
    return ended


class TypedLines:
    """
    Collect the lines that a server's sessions submit to the stand-ins, as they arrive.

    Attributes:
        path: The named pipe that FAKEKIRO_LOG must name.
    """

    def __init__(self, reactor: Any, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._lines: list[str] = []
        self._rest = b""
        self._awaited: list[tuple[str, int, Deferred[None]]] = []
        # Opened for writing, too, so that reading never reaches an end.
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._reader = DescriptorReader(reactor, descriptor, self._read)
        self.close = self._reader.close

    @property
    def lines(self) -> list[str]:
        """
        Return the lines submitted so far, also those that the reactor has not reported yet.
        """
        while self._read():
            pass
        return self._lines

    def wait_for(self, text: str, times: int = 1) -> Deferred[None]:
        """
        Return a Deferred that fires when so many lines that contain `text` were submitted.
        """
        submitted: Deferred[None] = Deferred()
        self._awaited.append((text, times, submitted))
        self._check()
        return submitted

    def _read(self) -> bool:
        """
        Read what there is, and return whether there was anything.
        """
        try:
            data = self._rest + os.read(self._reader.fileno(), 65536)
        except BlockingIOError:
            return False
        *lines, self._rest = data.split(b"\n")
        self._lines += map(json.loads, lines)
        self._check()
        return True

    def _check(self) -> None:
        for awaited in list(self._awaited):
            text, times, submitted = awaited
            if sum(text in line for line in self._lines) >= times:
                self._awaited.remove(awaited)
                submitted.callback(None)


@implementer(IReadDescriptor)
class DescriptorReader:
    """
    Call `read` whenever `descriptor` is readable, until it is closed.
    """

    def __init__(self, reactor: Any, descriptor: int, read: Callable[[], object]) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._read = read
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> None:
        self._read()

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def logPrefix(self) -> str:
        return "test"

    def close(self) -> None:
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1


class Program(ProcessProtocol):
    """
    Run a Python program and search its output.

    Attributes:
        output: Its standard output and standard error so far.
        ended: Fires with the exit status, or with minus the number of the signal that
            killed it.
    """

    def __init__(self) -> None:
        self.output = ""
        self.ended: Deferred[int] = Deferred()
        self._awaited: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []

    def start(self, reactor: Any, arguments: list[str], env: dict[str, str], folder: Path) -> None:
        """
        Run Python with `arguments` in `folder`.
        """
        reactor.spawnProcess(
            self, sys.executable, [sys.executable, *arguments], env=env, path=str(folder)
        )

    @property
    def pid(self) -> int:
        assert self.transport is not None and self.transport.pid is not None
        pid: int = self.transport.pid
        return pid

    def says(self, pattern: str) -> Deferred[re.Match[str]]:
        """
        Return a Deferred that fires with the first match of `pattern` in the output.

        It fails if the program ends before its output contains a match.
        """
        matched: Deferred[re.Match[str]] = Deferred()
        self._awaited.append((re.compile(pattern), matched))
        self._check()
        return matched

    def type(self, text: str) -> None:
        """
        Write `text` to the program's standard input.
        """
        assert self.transport is not None
        self.transport.write(text.encode())

    def signal(self, name: str) -> Deferred[int]:
        """
        Send a signal, named without SIG, and return `ended`.
        """
        assert self.transport is not None
        self.transport.signalProcess(name)
        return self.ended

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data.decode("utf-8", "replace")
        self._check()

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        awaited, self._awaited = self._awaited, []
        for pattern, matched in awaited:
            matched.errback(RuntimeError(f"never printed {pattern.pattern!r}: {self.output}"))
        self.ended.callback(-value.signal if value.signal else value.exitCode or 0)

    def _check(self) -> None:
        for awaited in list(self._awaited):
            pattern, matched = awaited
            match = pattern.search(self.output)
            if match is not None:
                self._awaited.remove(awaited)
                matched.callback(match)
