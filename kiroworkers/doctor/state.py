"""
Check the folder that the server keeps its jobs in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kiroworkers.doctor.finding import Finding, failure, ok, warning
from kiroworkers.workspaces.state_folder import is_foreign, is_in_use, owner_problem

#: Free bytes below which jobs soon cannot be stored.
_MIN_FREE = 64 * 1024**2

#: File systems that are emptied when the machine starts.
_VOLATILE = {"tmpfs", "ramfs"}

#: File systems on which locks or the database's memory map may not work.
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs"}

_NAME = "state folder"


def check_state_folder(
    folder: Path | None,
    configured: bool,
    is_writable: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK | os.X_OK),
) -> Finding:
    """
    Check that the server can use its state folder.

    Args:
        folder: The folder; None if the server would keep jobs in memory.
        configured: Whether the operator has named it, with --state-dir.
        is_writable: Returns whether this user may create files in a folder.
    """
    # Without --state-dir, a server that cannot use its default folder keeps jobs in memory.
    bad = failure if configured else warning
    option = "--state-dir" if configured else "the default; without it jobs are kept in memory"
    if folder is None:
        return warning(
            _NAME,
            "there is none: jobs are lost when the server stops",
            "Choose one with --state-dir",
        )
    if not folder.exists():
        parent = next(parent for parent in folder.parents if parent.exists())
        if (configured and parent != folder.parent) or not is_writable(parent):
            return bad(
                _NAME,
                f"{folder} ({option}) does not exist, and cannot be created",
                f"Create it: install -d -m 700 -o {os.geteuid()} {folder}",
            )
        return ok(_NAME, f"{folder} will be created")
    problem = owner_problem(folder.stat())
    if problem is not None:
        return bad(
            _NAME, f"{folder} ({option}): {problem}", "Correct that, or choose another --state-dir"
        )
    if not is_writable(folder):
        return bad(_NAME, f"{folder} ({option}) cannot be written to", f"Run chmod u+rwx {folder}")
    if is_foreign(folder):
        return bad(
            _NAME,
            f"{folder} ({option}) is not empty and was not created by kiroworkers",
            "Choose an empty folder with --state-dir",
        )
    if is_in_use(folder):
        return warning(
            _NAME,
            f"{folder} is in use by a running server, so another one cannot start with it",
            "If that is not the server you are looking at, choose another --state-dir",
        )
    return ok(_NAME, f"{folder} ({option})")


def check_disk(folder: Path | None, needed: int, free: Callable[[Path], int]) -> Finding:
    """
    Check that there is space for jobs.

    Args:
        folder: The state folder, which need not exist.
        needed: The value of --max-job-bytes.
        free: Returns the number of free bytes at a path.
    """
    if folder is None:
        return ok("disk", "jobs are kept in memory")
    space, path = free(_existing(folder)), _existing(folder)
    shown = f"{space // 1024**2} MiB free at {path}"
    if space < _MIN_FREE:
        return failure("disk", shown, "Free some space: jobs cannot be stored")
    if space < needed:
        return warning(
            "disk",
            f"{shown}, but jobs may take {needed // 1024**2} MiB",
            "Free some space, or lower --max-job-bytes",
        )
    return ok("disk", shown)


def check_file_system(folder: Path | None, mounts: str) -> Finding:
    """
    Check that the file system of the state folder is a lasting, local one.

    Args:
        folder: The state folder, which need not exist.
        mounts: The text of ``/proc/self/mounts``.
    """
    kind = None if folder is None else file_system(_existing(folder), mounts)
    if kind in _VOLATILE:
        return warning(
            "file system",
            f"{folder} is on {kind}: jobs are lost when the machine restarts",
            "Choose a --state-dir on a disk",
        )
    if kind in _REMOTE:
        return warning(
            "file system",
            f"{folder} is on {kind}, where SQLite's locks are not reliable",
            "Choose a --state-dir on a local disk",
        )
    return ok("file system", kind or "unknown")


def file_system(path: Path, mounts: str) -> str | None:
    """
    Return the type of the file system that `path` is on; None if it is unknown.

    Args:
        path: An existing path.
        mounts: The text of ``/proc/self/mounts``; later mounts hide earlier ones.
    """
    resolved, best, kind = path.resolve(), -1, None
    for entry in mounts.splitlines():
        words = entry.split()
        if len(words) < 3:
            continue
        # Spaces in paths are written as \040.
        mounted_at = Path(words[1].encode().decode("unicode_escape"))
        if resolved.is_relative_to(mounted_at) and len(mounted_at.parts) >= best:
            best, kind = len(mounted_at.parts), words[2]
    return kind


def _existing(folder: Path) -> Path:
    """
    Return `folder`, or the nearest folder above it that exists.
    """
    return next(path for path in (folder, *folder.parents) if path.exists())
