"""
Trees of processes that hold a FIFO, so that a test learns when the last of them has ended.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.programs import DescriptorReader

real: Any = reactor

#: What every program of these trees can use.  `hold` tells the test that a process runs, and
#: keeps the test's FIFO open until it ends; `daemon` is a process that has left its parent.
_PRELUDE = """
import os, signal, sys, time
fifo = {fifo!r}
def hold(name):
    descriptor = os.open(fifo, os.O_WRONLY)
    os.write(descriptor, name.encode() + b" ")
    return descriptor
def ignore(*names):
    for name in names:
        signal.signal(getattr(signal, "SIG" + name), signal.SIG_IGN)
def forever():
    while True:
        signal.pause()
def fork(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid
def daemon(run):
    def middle():
        os.setsid()
        fork(run)
    os.waitpid(fork(middle), 0)
def helper(name, *ignored):
    ignore(*ignored)
    hold(name)
    forever()
"""

#: The part of such a program that starts helpers, which leave its group, its session and
#: itself, and ignore what they can.
LITTER = """
def leave(step, name):
    step()
    helper(name, "TERM", "HUP", "INT")
fork(lambda: leave(lambda: os.setpgid(0, 0), "group"))
fork(lambda: leave(os.setsid, "session"))
daemon(lambda: helper("daemon", "TERM", "HUP", "INT"))
fork(lambda: fork(lambda: helper("grandchild", "TERM", "HUP")))
"""


#: What these helpers call themselves.
HELPERS = ("group", "session", "daemon", "grandchild")


class _FifoReader(DescriptorReader):
    """
    Fire `closed` when the last process that could write to the FIFO has closed it.
    """

    def __init__(self, *args: Any) -> None:
        self.closed: Deferred[None] = Deferred()
        super().__init__(*args)

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self.closed.callback(None)


class Holders:
    """
    Follow all processes that hold a FIFO.

    Attributes:
        text: What they have written to it.
        emptied: Fires when none of them is left.
    """

    def __init__(self, test: TestCase) -> None:
        self._fifo = Path(test.mktemp()).absolute()
        os.mkfifo(self._fifo)
        self.text = b""
        self._awaited: tuple[bytes, Deferred[None]] | None = None
        reading = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._reader = _FifoReader(real, reading, self._read)
        self.emptied = self._reader.closed
        test.addCleanup(self._reader.close)

    def script(self, text: str) -> str:
        """
        Return `text` as a Python program that can use the functions of the prelude.
        """
        return _PRELUDE.format(fifo=str(self._fifo)) + text

    def holds(self, *names: str) -> Deferred[None]:
        """
        Return a Deferred that fires when processes with these names have called `hold`.
        """
        held: Deferred[None] = Deferred()
        self._awaited = (b"".join(sorted(f"{name} ".encode() for name in names)), held)
        self._check()
        return held

    def _read(self) -> None:
        self.text += os.read(self._reader.fileno(), 1000)
        self._check()

    def _check(self) -> None:
        names = b"".join(sorted(name + b" " for name in self.text.split()))
        if self._awaited is not None and self._awaited[0] == names:
            (_, held), self._awaited = self._awaited, None
            held.callback(None)
