"""
Check the limits that the operating system sets for the server.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

from kiroworkers.doctor.finding import Finding, failure, ok, warning

#: The descriptors that a server needs besides those of connections and sessions: its log, its
#: database, its helpers, and the modules that are being imported.
_OWN_FILES = 64

#: The descriptors that a session needs: its terminal or pipes, and those of a restart.
_SESSION_FILES = 8

#: The processes and threads that a session has at least; those of Node.js have about so many.
_SESSION_PROCESSES = 24

#: The memory that a session is assumed to use at least, in bytes.
_SESSION_MEMORY = 256 * 1024**2

_GIB = 1024**3


def check_open_files(
    soft: int, hard: int, connections: int, sessions: int, infinity: int = resource.RLIM_INFINITY
) -> Finding:
    """
    Check the limit of open files, which connections and terminals count towards.

    Args:
        soft: The limit in force (RLIMIT_NOFILE).
        hard: The limit to which it can be raised.
        connections: The value of --max-connections.
        sessions: The largest number of sessions at the same time.
        infinity: The limit that means that there is none.
    """
    least = _OWN_FILES + _SESSION_FILES * sessions
    wanted = least + connections
    if soft == infinity or soft >= wanted:
        shown = "unlimited" if soft == infinity else str(soft)
        return ok("open files", f"limit {shown}, {wanted} needed")
    raising = f"Raise the limit to {wanted} (systemd: LimitNOFILE={wanted}; shell: ulimit -n)"
    if hard != infinity and hard < wanted:
        raising += f"; the hard limit is {hard}"
    if soft < least:
        return failure("open files", f"limit {soft}, but the sessions alone need {least}", raising)
    return warning(
        "open files",
        f"limit {soft}, but with --max-connections {connections} the server may need {wanted}",
        f"{raising}, or lower --max-connections to {soft - least}",
    )


def check_processes(
    soft: int, running: int, sessions: int, uid: int, infinity: int = resource.RLIM_INFINITY
) -> Finding:
    """
    Check the limit of the user's processes and threads.

    Args:
        soft: The limit in force (RLIMIT_NPROC).
        running: How many the user has.
        sessions: The largest number of sessions at the same time.
        uid: The user; there is no limit for root.
        infinity: The limit that means that there is none.
    """
    if soft == infinity or uid == 0:
        return ok("processes", "unlimited")
    free, wanted = soft - running, _SESSION_PROCESSES * sessions
    if free >= wanted:
        return ok("processes", f"limit {soft}, {running} in use")
    return warning(
        "processes",
        f"limit {soft}, of which {max(0, free)} are free, but {sessions} session(s) may need "
        f"{wanted}",
        "Raise the limit (systemd: TasksMax= and LimitNPROC=; shell: ulimit -u)",
    )


def check_memory(available: int, total: int, sessions: int, memory_max: int) -> Finding:
    """
    Check that there is memory for the sessions.

    Args:
        available: The memory that programs can still use, in bytes.
        total: The memory of the machine, or of the container.
        sessions: The largest number of sessions at the same time.
        memory_max: The value of --memory-max.
    """
    least, most = sessions * _SESSION_MEMORY, sessions * memory_max
    free = f"{available / _GIB:.1f} GiB of {total / _GIB:.1f} GiB are available"
    if available < least:
        return warning(
            "memory",
            f"{free}, but {sessions} session(s) usually need {least / _GIB:.1f} GiB",
            "Lower --workers and --max-workers, or add memory",
        )
    if total < most:
        return warning(
            "memory",
            f"{free}, but {sessions} session(s) may use {most / _GIB:.1f} GiB",
            "Lower --memory-max or the number of workers",
        )
    return ok("memory", f"{free}; {sessions} session(s) may use {most / _GIB:.1f} GiB")


def cgroup_limit(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """
    Return the limit of memory of the container, in bytes; None if there is none.
    """
    try:
        text = (folder / "memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def check_terminals(
    sessions: int,
    openpty: Callable[[], tuple[int, int]] = os.openpty,
    folder: Path = Path("/proc/sys/kernel/pty"),
) -> Finding:
    """
    Check that there are free pseudo-terminals for the sessions.

    Args:
        sessions: How many sessions may need one at the same time.
        openpty: Opens one.
        folder: Where the kernel tells how many there are.
    """
    try:
        for descriptor in openpty():
            os.close(descriptor)
    except OSError as error:
        return failure(
            "terminals",
            f"no pseudo-terminal can be opened: {error.strerror}",
            "End programs that hold terminals or raise the sysctl kernel.pty.max; in a container, "
            "mount devpts at /dev/pts",
        )
    try:
        limit, used = (int((folder / name).read_text()) for name in ("max", "nr"))
    except (OSError, ValueError):
        return ok("terminals", "a pseudo-terminal can be opened")
    if limit - used < sessions:
        return warning(
            "terminals",
            f"{limit - used} of {limit} pseudo-terminals are free, but {sessions} session(s) may "
            "run",
            "End programs that hold terminals, or raise the sysctl kernel.pty.max",
        )
    return ok("terminals", f"{limit - used} of {limit} pseudo-terminals are free")
