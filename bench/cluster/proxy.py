"""
Run HAProxy in front of the servers, with the configuration that its documentation shows.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import IO

from bench.chaos.world import free_port
from bench.figures import cpu
from kiroworkers.process.supervisor import descendants
from tests.haproxy import NAMES, configuration

#: What HAProxy prints when it listens, and the seconds until then.
_LISTENS = b"Loading success"
_START_TIMEOUT = 30

#: The user of the process if this one is root.
_USER = "nobody"


class Proxy:
    """
    Run HAProxy as a master with a worker, as its unit for systemd does.

    Attributes:
        port: The port that it listens on.

    Args:
        servers: The ports of the servers, at most three.
        workers: The number of workers of each.
    """

    def __init__(self, servers: Sequence[int], workers: int) -> None:
        self.port = free_port()
        self._starts = 0
        self._changed = Condition()
        self._folder = Path(tempfile.mkdtemp(prefix="haproxy-"))
        user = _USER if os.geteuid() == 0 else None
        if user is not None:
            os.chown(self._folder, pwd.getpwnam(user).pw_uid, -1)
        file = self._folder / "haproxy.cfg"
        file.write_text(_for_servers(self.port, servers, workers))
        self._process = subprocess.Popen(
            [os.environ["KIROWORKERS_HAPROXY"], "-W", "-db", "-f", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=user,
        )
        assert self._process.stdout is not None, "it is a pipe"
        Thread(target=self._read_log, args=(self._process.stdout,), daemon=True).start()
        self._await_start(1)

    def cpu(self) -> float:
        """
        Return the CPU time that its processes have used, in seconds.
        """
        pid = self._process.pid
        return sum(cpu(process) for process in (pid, *descendants(pid)))

    def reload(self) -> None:
        """
        Replace the worker by a new one, and wait until that listens.

        The old one goes on with the requests that it has.
        """
        starts = self._starts
        self._process.send_signal(signal.SIGUSR2)
        self._await_start(starts + 1)

    def close(self) -> None:
        """
        End it.
        """
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder)

    def _await_start(self, number: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._starts >= number, _START_TIMEOUT):
                raise RuntimeError("HAProxy does not listen")

    def _read_log(self, log: IO[bytes]) -> None:
        for line in log:
            if _LISTENS in line:
                with self._changed:
                    self._starts += 1
                    self._changed.notify_all()


def _for_servers(port: int, servers: Sequence[int], workers: int) -> str:
    """
    Return the configuration for so many servers, each with so many workers.
    """
    text = configuration(port, (*servers, *range(1, 1 + len(NAMES) - len(servers))))
    unused = "|".join(NAMES[len(servers) :])
    if unused:
        text = re.sub(rf"^    server ({unused}) .*\n?", "", text, flags=re.M)
    return re.sub(r"maxconn 2$", f"maxconn {workers}", text, flags=re.M)
