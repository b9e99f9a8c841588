"""
The file that jobs are kept in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from kiroworkers.workspaces.state_folder import JOBS

_FILE = "jobs.sqlite3"


def jobs_file(state: Path) -> Path:
    """
    The file below the state folder of a server; its folder is there then.
    """
    folder = state / JOBS
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / _FILE


def default_folder(environ: Mapping[str, str], endpoint: str, port: int) -> Path | None:
    """
    The state folder of a server that was given none, by where it listens: below
    ``$XDG_STATE_HOME`` or ``~/.local/state``.  None where the next server could not
    know it: on a port that is taken as it comes, or without a home.
    """
    given, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    # The XDG specification: what is not absolute is to be ignored.
    base = Path(given) if given.startswith("/") else Path(home, ".local", "state")
    if port == 0 or not base.is_absolute():
        return None
    return base / "kiroworkers" / re.sub(r"[^A-Za-z0-9.=_-]+", "-", endpoint)
