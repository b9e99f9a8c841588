"""
Locate the database file of the jobs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from kiroworkers.workspaces.state_folder import JOBS

_FILE = "jobs.sqlite3"


def jobs_file(state: Path) -> Path:
    """
    Return the path of the jobs' database in the state folder `state`.

    The database's own folder is created if it does not exist, readable only by the user.
    """
    folder = state / JOBS
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / _FILE


def default_state_dir(environ: Mapping[str, str], endpoint: str, port: int) -> Path | None:
    """
    Return the state folder of a server without --state-dir, derived from its endpoint.

    The folder is below ``$XDG_STATE_HOME`` or ``~/.local/state``.

    Args:
        environ: The environment variables.
        endpoint: The Twisted endpoint description that the server listens on.
        port: The port; 0 if the system chooses one.

    Returns:
        The folder, or None if the next server could not find it again: on a port that the
        system chooses, or without a home directory.
    """
    state_home, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    # The XDG specification says to ignore a relative path.
    base = Path(state_home) if state_home.startswith("/") else Path(home, ".local", "state")
    if port == 0 or not base.is_absolute():
        return None
    # A server with another --max-connections is the same server.
    address = re.sub(r":backlog=\d+", "", endpoint)
    return base / "kiroworkers" / re.sub(r"[^A-Za-z0-9.=_-]+", "-", address)
