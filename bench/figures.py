"""
Compute statistics of samples, and read what the kernel counts of a process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

__all__ = ["cpu", "median", "percentile", "resident"]


def percentile(samples: Sequence[float], rank: int) -> float:
    """
    Return the sample that `rank` of a hundred samples do not exceed.
    """
    return quantiles(samples, n=100, method="inclusive")[rank - 1]


def cpu(pid: int) -> float:
    """
    Return the CPU time that a process has used, in seconds.

    All threads count, to the nanosecond, as far as the scheduler has accounted for them.
    """
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def resident(pid: int) -> int:
    """
    Return the resident memory of a process, in bytes.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
