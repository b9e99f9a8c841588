"""
What a table of figures was measured with.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

#: What the figures depend on.
_PACKAGES = ("twisted", "klein", "jsonschema", "jsonschema-rs", "pyte", "pexpect")


def conditions(command: str, seconds: float) -> Mapping[str, str]:
    """
    The command, when and how long it ran, the machine, and the versions.
    """
    found = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    today = datetime.now(UTC).date()
    return {
        "Command": f"``{command}``, {today}, {seconds / 60:.1f} minutes",
        "Machine": f"{cores} cores of {found[0] if found else platform.machine()}, "
        f"{memory:.0f} GiB, Linux {platform.release().partition('-')[0]}",
        "Versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                *(f"{each} {version(each)}" for each in _PACKAGES),
            ]
        ),
    }
