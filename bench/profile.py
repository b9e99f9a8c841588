"""
Show where the CPU time of an instant turn goes, for the server and for bare Twisted.

Each server is asked as in ``turns``, while it counts in which package it spends its time.  Python's
own library and the kernel count for the package that calls them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from attrs import frozen

from bench.figures import cpu
from bench.server import UNRENEWED, Server, agent, other_server, serving
from bench.turns import rate

_CLIENTS, _WORKERS = 4, 2
_SECONDS = 15.0

#: Seconds in which a server writes its counts.
_WRITTEN_AFTER = 0.5


@frozen
class Profile:
    """
    Hold what a turn costs.

    Attributes:
        turn: The CPU time of a turn in the server, in milliseconds.
        shares: The share of each package in it.
    """

    turn: float
    shares: Mapping[str, float]


def profiled(server: Server, file: Path) -> Profile:
    """
    Return the profile of `server`, which ``bench.sampled`` runs with this `file`.
    """
    rate(server.port, _CLIENTS, 1.0)
    used = cpu(server.pid)
    turns = rate(server.port, _CLIENTS, _SECONDS / 3) * _SECONDS / 3
    used = cpu(server.pid) - used
    os.kill(server.pid, signal.SIGUSR2)
    rate(server.port, _CLIENTS, _SECONDS)
    os.kill(server.pid, signal.SIGUSR2)
    time.sleep(_WRITTEN_AFTER)
    samples = json.loads(file.read_text())
    total = sum(samples.values())
    return Profile(used / turns * 1000, {part: n / total for part, n in samples.items()})


def main() -> None:
    """
    Measure, and print a table.
    """
    with ExitStack() as stack:
        stopwatch = stack.enter_context(agent())
        files = {name: stopwatch.folder / name for name in ("kiroworkers", "bare")}
        run = (str(files["kiroworkers"]), "twisted.scripts.twistd.run")
        sampled = (sys.executable, "-m", "bench.sampled", *run)
        servers = {
            "kiroworkers": stack.enter_context(
                serving(stopwatch, _WORKERS, *UNRENEWED, twistd=sampled)
            ),
            "bare": stack.enter_context(
                other_server(
                    stopwatch, "bench.sampled", str(files["bare"]), "bench.bare.main", str(_WORKERS)
                )
            ),
        }
        profiles = {name: profiled(server, files[name]) for name, server in servers.items()}
    for name, profile in profiles.items():
        print(f"{name}: {profile.turn:.2f} ms of CPU a turn")
        for part, share in sorted(profile.shares.items(), key=lambda item: -item[1]):
            if share >= 0.005:
                print(f"  {part:32}{profile.turn * share * 1000:>8.0f} us{100 * share:>7.1f} %")


if __name__ == "__main__":
    main()
