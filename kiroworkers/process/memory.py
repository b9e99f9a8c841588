"""
Measure the memory of processes and of the machine.
"""

from __future__ import annotations

from collections.abc import Collection

import psutil

from kiroworkers.process.usage import usage_by_tree

#: Fraction of the machine's memory that must stay free after an allocation.
_RESERVE = 0.05


def memory_by_tree(roots: Collection[int]) -> dict[int, int]:
    """
    Return the resident memory of all processes below each of `roots`, in bytes.

    Pages that processes share count once for each process.
    """
    return {root: usage.memory for root, usage in usage_by_tree(roots).items()}


def has_free_memory(size: int) -> bool:
    """
    Return whether the machine could allocate `size` bytes and keep 5% of its memory free.
    """
    memory = psutil.virtual_memory()
    return bool(memory.available - size > memory.total * _RESERVE)
