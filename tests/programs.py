"""
Real programs for the tests: the stand-in under Kiro's name, and the server.
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

#: The variables that the stand-ins read, for --pass-env.
FAULTS = "FAKEKIRO*"


def environment(**changes: str) -> dict[str, str]:
    """
    Return this process's environment with `changes`, without the server's settings.

    The checkout can be imported from any folder.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KIROWORKERS_", "FAKEKIRO")) and name not in ("PORT", "REPO_PATH")
    }
    return {**inherited, "PYTHONPATH": str(ROOT), **changes}


def folder_outside(case: SynchronousTestCase) -> Path:
    """
    Make a folder for `case` that is removed after it.

    Unlike that of `mktemp`, it is in no repository that git could take for the
    test's own, and its path is short enough for a Unix socket, wherever the
    checkout is.
    """
    folder = Path(tempfile.mkdtemp(prefix="test-")).resolve()
    # A session that is about to end may still write there.
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    return folder


def install_fake_kiro(folder: Path, module: str = "tests.fakekiro", name: str = "kiro-cli") -> str:
    """
    Put the stand-in into `folder` as `name`; a PATH that finds it first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    command = shlex.join([sys.executable, "-m", module])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def git(folder: Path, *arguments: str) -> str:
    """
    What git prints in `folder`.
    """
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def new_repository(folder: Path, files: Mapping[str, str]) -> Path:
    """
    `folder`, as a repository of git's with one commit of these files.
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
    The environment of the process `pid`.
    """
    listed = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(each.split("=", 1) for each in listed if each)


def alive(pid: int) -> bool:
    """
    Is there a process `pid` that is more than a zombie?
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def exits(reactor: Any, pid: int) -> Deferred[None]:
    """
    Fires when the process `pid`, which need not be a child, has ended.
    """
    happened: Deferred[None] = Deferred()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        happened.callback(None)
        return happened

    def ended() -> None:
        reader.close()
        happened.callback(None)

    reader = _Reader(reactor, descriptor, ended)
    return happened


class Typed:
    """
    What the sessions of a server were told, as it happens.

    Attributes:
        path: for the stand-in's FAKEKIRO_LOG.
        lines: every line that was submitted so far.
    """

    def __init__(self, reactor: Any, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.lines: list[str] = []
        self._rest = b""
        self._awaited: list[tuple[str, Deferred[None]]] = []
        # Open for writing, too, so that it never ends.
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._reader = _Reader(reactor, descriptor, self._read)
        self.close = self._reader.close

    def heard(self, text: str) -> Deferred[None]:
        """
        Fires when a prompt that holds `text` was submitted.
        """
        awaited: Deferred[None] = Deferred()
        self._awaited.append((text, awaited))
        self._look()
        return awaited

    def _read(self) -> None:
        data = self._rest + os.read(self._reader.fileno(), 65536)
        *lines, self._rest = data.split(b"\n")
        self.lines += map(json.loads, lines)
        self._look()

    def _look(self) -> None:
        for each in list(self._awaited):
            if any(each[0] in line for line in self.lines):
                self._awaited.remove(each)
                each[1].callback(None)


@implementer(IReadDescriptor)
class _Reader:
    """
    Calls `read` whenever `descriptor` can be read.
    """

    def __init__(self, reactor: Any, descriptor: int, read: Callable[[], None]) -> None:
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
    A program whose output is read by lines.

    Attributes:
        ended: fires with the exit status, or with minus the signal's number.
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
        Fires when the output so far, or to come, holds `pattern`; fails when
        the program ends without.
        """
        said: Deferred[re.Match[str]] = Deferred()
        self._awaited.append((re.compile(pattern), said))
        self._look()
        return said

    def type(self, text: str) -> None:
        """
        Write `text` to its standard input.
        """
        assert self.transport is not None
        self.transport.write(text.encode())

    def signal(self, name: str) -> Deferred[int]:
        """
        Send a signal, by name without SIG; fires when the program has ended.
        """
        assert self.transport is not None
        self.transport.signalProcess(name)
        return self.ended

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data.decode("utf-8", "replace")
        self._look()

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        awaited, self._awaited = self._awaited, []
        for pattern, said in awaited:
            said.errback(RuntimeError(f"never said {pattern.pattern!r}: {self.output}"))
        self.ended.callback(-value.signal if value.signal else value.exitCode or 0)

    def _look(self) -> None:
        for each in list(self._awaited):
            match = each[0].search(self.output)
            if match is not None:
                self._awaited.remove(each)
                each[1].callback(match)
