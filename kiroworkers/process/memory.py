"""
The memory of process groups, and what the machine has left.
"""

from __future__ import annotations

import os
from collections.abc import Collection

import psutil

#: What stays free, as a part of the machine's memory, when a second session starts.
_RESERVE = 0.05


def held_by(groups: Collection[int]) -> dict[int, int]:
    """
    The bytes that each of these process groups holds, children included.  Pages
    that processes share count for each of them.
    """
    held = dict.fromkeys(groups, 0)
    if held:
        for process in psutil.process_iter():
            try:
                group = os.getpgid(process.pid)
                if group in held:
                    held[group] += process.memory_info().rss
            except (psutil.Error, OSError):
                continue  # it has just ended
    return held


def is_free(size: int) -> bool:
    """
    Could the machine give `size` bytes more, and still have some left?
    """
    memory = psutil.virtual_memory()
    return bool(memory.available - size > memory.total * _RESERVE)
