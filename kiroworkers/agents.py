"""
Which program answers: choosing it, and the command that starts it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from kiroworkers.errors import BadSetting, CannotStart
from kiroworkers.terminal import BadDialect, Dialect, load_dialect, read_dialect
from kiroworkers.terminal.dialect import Version, version_in

#: The names `--agent` takes, and the dialect each speaks.
_DIALECTS = {"kiro": "kiro-classic", "q": "q", "offline": "offline"}

#: Seconds a program may take to say its version.
_VERSION_PATIENCE = 10.0


@frozen
class Agent:
    """
    The program that every session runs.

    @ivar reason: why this one, in one sentence for people.
    @ivar executable, arguments: the command.
    """

    dialect: Dialect
    reason: str
    executable: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.dialect.name


def check_agent(wanted: str) -> None:
    """
    Is `wanted` something `--agent` can mean?

    @raise BadSetting: if not.
    """
    if wanted == "auto":
        return
    try:
        _dialect(wanted)
    except BadDialect as problem:
        raise BadSetting("--agent", wanted, str(problem)) from None


def _dialect(wanted: str) -> Dialect:
    if wanted in _DIALECTS:
        return load_dialect(_DIALECTS[wanted])
    if wanted.endswith(".toml"):
        return read_dialect(Path(wanted).expanduser())
    raise BadDialect(f"must be auto, {', '.join(_DIALECTS)} or a dialect file (.toml)")


def choose_agent(
    wanted: str,
    environment: Mapping[str, str],
    said_version: Callable[[list[str], Mapping[str, str]], str],
) -> Agent:
    """
    The agent that `wanted` (`auto`, a name or a dialect file) means on this
    machine, given the server's `environment`.

    @param said_version: runs a command that prints a version; what it printed.
    @raise CannotStart: when it is not to be had.
    """
    reason = "chosen with --agent"
    if wanted == "auto":
        kiro = _dialect("kiro")
        assert kiro.program is not None, "Kiro is a program on PATH"
        found = shutil.which(kiro.program, path=environment.get("PATH", os.defpath))
        wanted = "kiro" if found else "offline"
        reason = f"--agent auto: {kiro.program} is {'' if found else 'not '}on PATH"
    dialect = _dialect(wanted)
    session_environment = dialect.environment(environment)
    if dialect.program is None:
        executable: str | None = sys.executable
    else:
        executable = shutil.which(dialect.program, path=environment.get("PATH", os.defpath))
    if executable is None:
        raise CannotStart(f"kiroworkers: --agent {wanted}: {dialect.program} is not on PATH")
    version: Version | None = None
    if dialect.version_arguments:
        said = said_version([executable, *dialect.version_arguments], session_environment)
        version = version_in(said)
        reason += f", {said.strip() or 'version unknown'}"
    if version is not None and dialect.until is not None and version >= dialect.until:
        raise CannotStart(
            f"kiroworkers: {executable} is version {'.'.join(map(str, version))}, and "
            f"{dialect.label} ended before {'.'.join(map(str, dialect.until))}; use an older "
            "version, or --agent offline"
        )
    return Agent(dialect, reason, executable, dialect.command(version), session_environment)


def ask_version(command: list[str], environment: Mapping[str, str]) -> str:
    """
    What `command` prints, in one line; nothing when it cannot be asked.
    """
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    return lines[0][:200] if lines else ""
