"""
Numbers from samples, and what the kernel counts of a process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

__all__ = ["cpu", "median", "percentile", "resident"]


def percentile(samples: Sequence[float], rank: int) -> float:
    """
    The sample below which are `rank` of a hundred.
    """
    return quantiles(samples, n=100, method="inclusive")[rank - 1]


def cpu(pid: int) -> float:
    """
    Seconds of CPU that all threads of a process have used, to the nanosecond, as far
    as the scheduler has counted them.
    """
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def resident(pid: int) -> int:
    """
    Bytes of memory of a process that are in RAM.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
