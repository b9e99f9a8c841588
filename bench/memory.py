"""
Show what the memory of an idle server consists of.

Each row is the resident memory of a process that has imported what the rows before it have
imported, and something more.  The last row is a server with two sessions of the offline agent.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from bench.figures import resident
from bench.server import agent, serving
from tests.programs import environment

_SESSIONS = 2

#: Seconds until a server that has started does nothing more.
_IDLE_AFTER = 5.0

#: What each row imports, after those before it.
_STEPS = (
    ("Python", ""),
    ("Twisted: twistd, reactor, TLS", "twisted.scripts.twistd, twisted.internet.reactor"),
    ("Twisted: HTTP", "twisted.web.server"),
    ("klein, with werkzeug", "klein"),
    ("attrs, jinja2", "attrs, jinja2"),
    ("jsonschema, jsonschema-rs", "jsonschema, jsonschema_rs"),
    ("prometheus_client", "prometheus_client"),
    ("cattrs, psutil, pyte, wsproto", "cattrs, psutil, pyte, wsproto"),
    ("kiroworkers", "kiroworkers.tap"),
)


def rows() -> Iterator[tuple[str, int]]:
    """
    Yield the name of each row and its memory in bytes.
    """
    modules: list[str] = []
    for name, more in _STEPS:
        modules += [f"import {more}"] if more else []
        code = "; ".join([*modules, "print(flush=True)", "input()"])
        with subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            yield name, resident(process.pid)
            process.communicate("\n")
    with agent() as started, serving(started, _SESSIONS, "--agent", "offline") as server:
        time.sleep(_IDLE_AFTER)
        yield f"a server with {_SESSIONS} offline sessions", resident(server.pid)


def main() -> None:
    """
    Measure, and print a table.
    """
    before = 0
    for name, size in rows():
        print(f"{name:40}{size / 1e6:>8.1f} MB{(size - before) / 1e6:>+9.1f} MB", flush=True)
        before = size


if __name__ == "__main__":
    main()
