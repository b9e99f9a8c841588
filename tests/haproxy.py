"""
Run HAProxy for the tests, as an ordinary user on loopback, with the configuration in ``deploy/``.

KIROWORKERS_HAPROXY names the program; without it, tests that need it are skipped.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.programs import ROOT, Program

CONFIGURATION = ROOT / "deploy" / "cluster" / "haproxy.cfg"

#: Why tests that need HAProxy are skipped; None if they are not.
SKIP: str | None = (
    None if "KIROWORKERS_HAPROXY" in os.environ else "KIROWORKERS_HAPROXY does not name the program"
)

#: The names of the servers in the configuration.
NAMES = ("a", "b", "c")

#: The user that HAProxy runs as if the tests run as root.
_USER = "nobody"


def configuration(port: int, servers: Sequence[int]) -> str:
    """
    Return the configuration, with other addresses.

    Args:
        port: The port of 127.0.0.1 to listen on.
        servers: The ports of the servers on 127.0.0.1.
    """
    text = CONFIGURATION.read_text(encoding="utf-8")
    addresses = {
        f"{name}.example:8080": server for name, server in zip(NAMES, servers, strict=True)
    }
    for address, server in addresses.items():
        text, found = re.subn(re.escape(address), f"127.0.0.1:{server}", text)
        assert found == 2, f"both backends have {address}"
    text, found = re.subn(r"^    bind :8080$", f"    bind 127.0.0.1:{port}", text, flags=re.M)
    assert found == 1, "there is one address to listen on"
    return text


def unused_port() -> int:
    """
    Return a port of 127.0.0.1 on which nobody listens.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class HAProxy(Program):
    """
    Run HAProxy as a master with a worker, as its unit for systemd does.

    Attributes:
        port: The port that it listens on.

    Args:
        file: The configuration to write.
        servers: The ports of the servers on 127.0.0.1.
    """

    def __init__(self, file: Path, servers: Sequence[int]) -> None:
        super().__init__()
        self.port = unused_port()
        self._file = file
        file.write_text(configuration(self.port, servers), encoding="utf-8")
        file.chmod(0o644)

    def run(self, reactor: Any) -> Deferred[re.Match[str]]:
        """
        Start it, and return a Deferred that fires when it listens.
        """
        ids: dict[str, int] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            ids = {"uid": user.pw_uid, "gid": user.pw_gid}
        program = os.environ["KIROWORKERS_HAPROXY"]
        # The file is open by the time that the user cannot see its folder.
        arguments = [program, "-W", "-db", "-f", str(self._file)]
        reactor.spawnProcess(self, program, arguments, env={}, path="/", **ids)
        return self.says("Loading success")

    def reload(self) -> Deferred[re.Match[str]]:
        """
        Replace the worker by a new one, and return a Deferred that fires when that listens.

        The old one goes on with the requests that it has.
        """
        times = self.output.count("Loading success") + 1
        reloaded = self.says(f"(?:Loading success[\\s\\S]*){{{times}}}")
        os.kill(self.pid, signal.SIGUSR2)
        return reloaded
