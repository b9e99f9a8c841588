"""
Read what Linux knows about processes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kiroworkers.process.supervisor import descendants

#: What the command lines of the server's helper processes have in common.
_HELPER = "kiroworkers.offload"


def marked(mark: str) -> set[int]:
    """
    Return the processes whose environment has `mark`, such as ``NAME=VALUE``.

    A process inherits it, whatever its parent, group and session become.  Zombies have no
    environment.
    """
    entry = mark.encode()
    found = set()
    for pid in _pids():
        with suppress(OSError):
            if entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    return found


def zombies(parents: set[int]) -> set[int]:
    """
    Return the processes that have ended and were not reaped by `parents`.
    """
    found = set()
    for pid in _pids():
        with suppress(OSError):
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) in parents:
                found.add(pid)
    return found


def is_stopped(pid: int) -> bool:
    """
    Return whether the process `pid` is stopped, by SIGSTOP for example.
    """
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


def children(pid: int) -> set[int]:
    """
    Return the processes that the process `pid` has started itself.
    """
    found = set()
    for child in descendants(pid):
        with suppress(OSError):
            if int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(child)
    return found


def command(pid: int) -> str:
    """
    Return the command line of the process `pid`; empty if it has ended.
    """
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""


def descriptors(pid: int) -> Counter[str]:
    """
    Return how many descriptors of each kind the server `pid` has open.

    Those of its helper processes are left out, which end when they have been idle for a
    while; each has three pipes.
    """
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            kinds[os.readlink(entry).partition(":")[0]] += 1
    helpers = [child for child in descendants(pid) if _HELPER in command(child)]
    kinds["pipe"] -= 3 * len(helpers)
    return kinds


def _pids() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)
