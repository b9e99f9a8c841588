"""
Measure the memory of process groups and of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Collection

import psutil

#: Fraction of the machine's memory that must stay free after an allocation.
_RESERVE = 0.05


def memory_by_group(groups: Collection[int]) -> dict[int, int]:
    """
    Return the resident memory of each of the process groups `groups`, in bytes.

    Children in the same group count.  Pages that processes share count once for each
    process.
    """
    sizes = dict.fromkeys(groups, 0)
    if sizes:
        for process in psutil.process_iter():
            try:
                group = os.getpgid(process.pid)
                if group in sizes:
                    sizes[group] += process.memory_info().rss
            except (psutil.Error, OSError):
                continue  # It has just ended.
    return sizes


def has_free_memory(size: int) -> bool:
    """
    Return whether the machine could allocate `size` bytes and keep 5% of its memory free.
    """
    memory = psutil.virtual_memory()
    return bool(memory.available - size > memory.total * _RESERVE)
