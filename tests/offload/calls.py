"""
Calls for the tests of `kiroworkers.offload`; a helper process imports this module.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from attrs import frozen


class Failed(Exception):
    """
    Raised by the calls in this module if they are stopped.
    """


class _Call:
    """
    Return the outcome as it is.
    """

    def run(self) -> Any:
        return None

    def result(self, outcome: Any) -> Any:
        return outcome

    def failure(self, reason: str) -> Exception:
        return Failed(reason)


@frozen
class Echo(_Call):
    """
    Return a value, which must be JSON.
    """

    value: Any

    def run(self) -> Any:
        return self.value


class ProcessId(_Call):
    """
    Return the id of the process that runs the call.
    """

    def run(self) -> Any:
        return os.getpid()


class Environment(_Call):
    """
    Return the names of the variables of the process, and its folder.
    """

    def run(self) -> Any:
        return sorted(os.environ), os.getcwd()


class Forever(_Call):
    """
    Use CPU time without end.
    """

    def run(self) -> Any:
        while True:
            pass


class Memory(_Call):
    """
    Use a gigabyte of memory.
    """

    def run(self) -> Any:
        return len(b"x" * 2**30)


class Print(_Call):
    """
    Print to standard output, as a library might.
    """

    def run(self) -> Any:
        print("printed", flush=True)
        os.write(1, b"written\n")
        return "returned"


@frozen
class DieOnce(_Call):
    """
    Kill the process, unless the file `path` exists, which is made first.
    """

    path: str

    def run(self) -> Any:
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "survived"
        os.kill(os.getpid(), signal.SIGKILL)
        return None


class Die(_Call):
    """
    Kill the process.
    """

    def run(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
