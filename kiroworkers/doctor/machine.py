"""
Check the machine, Python and the environment that the server would run in.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from kiroworkers.doctor.finding import Finding, failure, ok, warning

#: The oldest Python that the package supports.
OLDEST_PYTHON = (3, 11)

#: The packages whose versions are shown.
_PACKAGES = ("twisted", "klein", "attrs", "jsonschema", "pyte", "psutil")

#: The clock is wrong if it shows an earlier time (seconds since the epoch): no version of this
#: command is older.
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()

#: The clock is wrong if it shows a later time: certificates of today have expired by then.
_LATEST = datetime(2046, 1, 1, tzinfo=UTC).timestamp()

#: Bytes that must be free in the folder for temporary files.
_MIN_TEMPORARY = 64 * 1024**2

_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def check_python(
    python: Sequence[int] = sys.version_info[:3],
    system: str = sys.platform,
    get_version: Callable[[str], str] = version,
) -> Finding:
    """
    Check the versions of Python and of the most important packages.
    """
    name = f"Python {'.'.join(map(str, python))} on {platform.platform()}"
    if tuple(python) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return failure("python", name, f"Install Python {oldest} or later")
    if system != "linux":
        return failure("python", name, "Run the server on Linux: it uses Linux's system calls")
    versions, missing = [], []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {get_version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        advice = "Install kiroworkers again with pip, in a virtual environment of its own"
        return failure("python", f"{name}; missing: {', '.join(missing)}", advice)
    return ok("python", f"{name}; {', '.join(versions)}")


def check_user(uid: int, name: str) -> Finding:
    """
    Check that the server does not run as the administrator.
    """
    if uid == 0:
        return warning(
            "user",
            "you are root, so agents and their tools would run as root",
            "Run the server, and this command, as a user without privileges",
        )
    return ok("user", f"{name} (uid {uid})")


def check_clock(now: float) -> Finding:
    """
    Check that the clock shows a possible time.

    Args:
        now: The time in seconds since the epoch.
    """
    shown = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if not _EARLIEST <= now <= _LATEST:
        return failure(
            "clock",
            f"it shows {shown}",
            "Set it, for example with timedatectl set-ntp true: certificates and logins do not "
            "work at a wrong time",
        )
    return ok("clock", shown)


def check_locale(environ: Mapping[str, str], filesystem_encoding: str) -> Finding:
    """
    Check that programs on a terminal use UTF-8.
    """
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = environ.get(name, "")
        if value:
            break
    else:
        name, value = "LANG", ""
    codeset = value.partition("@")[0].partition(".")[2].lower().replace("-", "")
    if filesystem_encoding.lower().replace("-", "") != "utf8":
        detail = f"Python uses {filesystem_encoding} for names of files"
        return failure("locale", detail, "Set LANG=C.UTF-8 in the server's environment")
    if codeset != "utf8":
        detail = f"{name}={value}" if value else "none of LC_ALL, LC_CTYPE and LANG is set"
        return warning(
            "locale",
            f"{detail}: agents may not print UTF-8",
            "Set LANG=C.UTF-8 in the server's environment",
        )
    return ok("locale", f"{name}={value}")


def check_temporary_folder(
    free: Callable[[Path], int], folder: Callable[[], str] = tempfile.gettempdir
) -> Finding:
    """
    Check that temporary files can be written.

    Args:
        free: Returns the number of free bytes at a path.
        folder: Returns the folder for temporary files; raises `FileNotFoundError` if none can
            be written to.
    """
    advice = "Free some space, or set TMPDIR to another folder"
    try:
        path = Path(folder())
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
        space = free(path)
    except OSError as error:
        return failure("temporary files", f"they cannot be written: {error}", advice)
    if space < _MIN_TEMPORARY:
        return warning("temporary files", f"{path}: {space // 1024**2} MiB free", advice)
    return ok("temporary files", f"{path}, {space // 1024**2} MiB free")


def check_proxies(environ: Mapping[str, str]) -> Finding:
    """
    Check the variables that name proxies, which agents inherit.

    The finding shows hosts only: a proxy's URL may have a password in it.
    """
    found, problems = [], []
    for upper in _PROXY_VARIABLES:
        lower = upper.lower()
        values = [environ[name] for name in (upper, lower) if environ.get(name)]
        if not values:
            continue
        hosts = [_proxy_host(value) for value in values]
        if None in hosts:
            problems.append(f"{upper} is not a URL such as http://proxy:3128")
        elif len(set(values)) > 1:
            problems.append(f"{upper} and {lower} differ")
        else:
            found.append(f"{upper} names {hosts[0]}")
    if problems:
        advice = "Correct the variables, or unset them for the server: agents inherit them"
        return warning("proxy", "; ".join(problems), advice)
    if not found:
        return ok("proxy", "no proxy is set")
    return ok("proxy", f"{'; '.join(found)}: agents use it")


def _proxy_host(text: str) -> str | None:
    """
    Return the host and the port in the URL of a proxy; None if it is not such a URL.
    """
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port
    except ValueError:
        return None
    if not url.hostname:
        return None
    return url.hostname if port is None else f"{url.hostname}:{port}"


def check_folder(folder: Path, workdir: str, git: str | None) -> Finding:
    """
    Check the folder that sessions run in.

    Args:
        folder: The folder of --repo-path.
        workdir: The value of --workdir.
        git: The path of git; None if it is not installed.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        return failure(
            "folder", f"{folder} cannot be entered", "Choose another one with --repo-path"
        )
    if workdir != "git-worktree":
        return ok("folder", f"{folder} (--workdir {workdir})")
    if git is None:
        return failure(
            "folder", "--workdir git-worktree needs git", "Install git, or choose another --workdir"
        )
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return failure(
            "folder",
            f"{folder} is not in a git repository, which --workdir git-worktree needs",
            "Choose another --repo-path or --workdir",
        )
    return ok("folder", f"checkouts of {folder} (--workdir git-worktree)")
