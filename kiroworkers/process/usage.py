"""
Measure the memory and the CPU time of processes and of all that they have started.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from attrs import frozen

from kiroworkers.process.supervisor import descendants

_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

#: The positions of utime, stime and rss in /proc/PID/stat (proc(5)), counted from the state,
#: which follows the name.
_USER_TIME, _SYSTEM_TIME, _RESIDENT_PAGES = 11, 12, 21


@frozen
class TreeUsage:
    """
    Hold what the processes below one process use.

    Attributes:
        memory: Their resident memory, in bytes; pages that they share count for each.
        cpu: The CPU time that they have used so far, in seconds.
    """

    memory: int = 0
    cpu: float = 0.0


def usage_by_tree(roots: Collection[int]) -> dict[int, TreeUsage]:
    """
    Return what the processes below each of `roots` use.  It reads files for each process.
    """
    return {root: _usage(descendants(root)) for root in roots}


def _usage(pids: Collection[int]) -> TreeUsage:
    pages = ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                stat = file.read()
        except OSError:
            continue  # It has just ended.
        # The name is in parentheses, and may contain any character.
        fields = stat.rpartition(b")")[2].split()
        ticks += int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])
        pages += int(fields[_RESIDENT_PAGES])
    return TreeUsage(pages * _PAGE_SIZE, ticks / _TICKS_PER_SECOND)
