"""
Describe the conditions of a measurement.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

#: Packages whose versions influence the figures.
_PACKAGES = ("twisted", "klein", "jsonschema", "jsonschema-rs", "pyte", "pexpect")


def conditions(command: str, seconds: float) -> Mapping[str, str]:
    """
    Return the command, its date and duration, the machine, and the versions.
    """
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    today = datetime.now(UTC).date()
    return {
        "Command": f"``{command}``, {today}, {seconds / 60:.1f} minutes",
        "Machine": f"{cores} cores of {models[0] if models else platform.machine()}, "
        f"{memory:.0f} GiB, Linux {platform.release().partition('-')[0]}",
        "Versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                *(f"{package} {version(package)}" for package in _PACKAGES),
            ]
        ),
    }
