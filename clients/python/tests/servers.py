"""
Start real servers for the tests, with the offline agent.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")

#: Seconds for anything that a server does, on a busy machine.
_TIMEOUT = 60.0


class Server:
    """
    Run a server in a subprocess.

    Args:
        *options: The server's flags.
        delay: The seconds that each turn takes.

    Attributes:
        folder: The server's working directory, which is removed with it.
    """

    def __init__(self, *options: str, delay: float = 0.0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="test-client-"))
        self._delay = delay
        self._options = options
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._output = ""
        self._changed = threading.Condition()

    @property
    def base(self) -> str:
        """
        Return the URL of the server, without a path.
        """
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """
        Start the server, on the same port as before, and wait until a worker is ready.
        """
        env = {
            name: value
            for name, value in os.environ.items()
            # With the second one, each server would compile all its modules again.
            if not name.startswith("KIROWORKERS_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        env["KIROWORKERS_OFFLINE_DELAY"] = str(self._delay)
        options = ["--port", str(self._port), "--agent", "offline", "--state-dir", "state"]
        options += ["--graceful-timeout", "0.1", *self._options]
        self._output = ""
        self._process = subprocess.Popen(
            [*_TWISTD, "-n", "--pidfile=", "kiroworkers", *options],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()
        self._port = int(self.says(r"listening on .*port=(\d+)")[1])
        self.says("worker1: ready")

    def says(self, pattern: str) -> re.Match[str]:
        """
        Return the first match of `pattern` in the server's log, after waiting for it.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: re.search(pattern, self._output), _TIMEOUT):
                raise RuntimeError(f"the server has not logged {pattern!r}: {self._output}")
            match = re.search(pattern, self._output)
        assert match is not None, "it was found"
        return match

    def kill(self) -> None:
        """
        End the server at once, as a crash would.
        """
        self._end("kill")

    def remove(self) -> None:
        """
        Stop the server and remove its folder.
        """
        if self._process is not None:
            self._end("terminate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, method: str) -> None:
        assert self._process is not None and self._reader is not None, "it was started"
        getattr(self._process, method)()
        self._process.wait(_TIMEOUT)
        self._reader.join()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None, "it is a pipe"
        with process.stdout:
            for line in process.stdout:
                with self._changed:
                    self._output += line
                    self._changed.notify_all()
