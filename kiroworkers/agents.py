"""
Which program answers: choosing it, and the command that starts it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import evolve, frozen

from kiroworkers.errors import BadSetting, CannotStart
from kiroworkers.terminal import BadDialect, Dialect, load_dialect, read_dialect
from kiroworkers.terminal.dialect import Line, Version, version_in

#: The names `--agent` takes, and the dialects that each may speak, by its version.
_DIALECTS = {
    "kiro": ("kiro-classic", "kiro-tui"),
    "kiro-classic": ("kiro-classic",),
    "kiro-tui": ("kiro-tui",),
    "q": ("q",),
    "llm": ("llm",),
    "codex": ("codex",),
    "offline": ("offline",),
}

#: The dialect of `--agent-command`.
_GENERIC = "generic"

#: Seconds a program may take to say its version.
_VERSION_PATIENCE = 10.0


@frozen
class Wanted:
    """
    What the operator asks for.

    @ivar agent: `auto`, a name or a dialect file.
    @ivar command: a program of any kind, with its arguments, instead; empty
        without.
    @ivar prompt: the pattern of that program's prompt; empty for the usual one.
    """

    agent: str = "auto"
    command: str = ""
    prompt: str = ""


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


def check_agent(wanted: Wanted) -> None:
    """
    Can `wanted` be meant?

    @raise BadSetting: if not.
    """
    if wanted.command:
        if wanted.agent != "auto":
            raise BadSetting("--agent-command", wanted.command, "goes without --agent")
        try:
            named = shlex.split(wanted.command)
        except ValueError as problem:
            raise BadSetting("--agent-command", wanted.command, str(problem)) from None
        if not named:
            raise BadSetting("--agent-command", wanted.command, "names no program")
        try:
            re.compile(wanted.prompt)
        except (re.error, OverflowError, RecursionError) as problem:
            raise BadSetting("--prompt-pattern", wanted.prompt, str(problem)) from None
    elif wanted.prompt:
        raise BadSetting("--prompt-pattern", wanted.prompt, "goes with --agent-command")
    elif wanted.agent != "auto":
        try:
            _dialects(wanted.agent)
        except BadDialect as problem:
            raise BadSetting("--agent", wanted.agent, str(problem)) from None


def _dialects(name: str) -> list[Dialect]:
    if name in _DIALECTS:
        return [load_dialect(each) for each in _DIALECTS[name]]
    if name.endswith(".toml"):
        return [read_dialect(Path(name).expanduser())]
    raise BadDialect(f"must be auto, {', '.join(_DIALECTS)} or a dialect file (.toml)")


def _generic(wanted: Wanted) -> Dialect:
    """
    The dialect of any program.
    """
    program, *arguments = shlex.split(wanted.command)
    dialect = load_dialect(_GENERIC)
    readiness = dialect.readiness
    if wanted.prompt:
        assert isinstance(readiness, Line), "its prompt is a pattern"
        readiness = evolve(readiness, prompt=re.compile(wanted.prompt))
    label = f"the program {shlex.join([program, *arguments])}"
    return evolve(
        dialect,
        label=label,
        program=program,
        arguments=tuple(arguments),
        readiness=readiness,
    )


def choose_agent(
    wanted: Wanted,
    environment: Mapping[str, str],
    said_version: Callable[[list[str], Mapping[str, str]], str],
) -> Agent:
    """
    The agent that is `wanted`, on this machine, given the server's
    `environment`.

    @param said_version: runs a command that prints a version; what it printed.
    @raise CannotStart: when it is not to be had.
    """
    path = environment.get("PATH", os.defpath)
    name, reason = wanted.agent, "chosen with --agent"
    if wanted.command:
        name, reason = "command", "chosen with --agent-command"
        dialects = [_generic(wanted)]
    else:
        if name == "auto":
            kiro = _dialects("kiro")[0].program
            assert kiro is not None, "Kiro is a program on PATH"
            found = shutil.which(kiro, path=path)
            name = "kiro" if found else "offline"
            reason = f"--agent auto: {kiro} is {'' if found else 'not '}on PATH"
        dialects = _dialects(name)
    first = dialects[0]
    executable = sys.executable if first.program is None else shutil.which(first.program, path=path)
    if executable is None:
        raise CannotStart(f"kiroworkers: --agent {name}: {first.program} is not on PATH")
    version: Version | None = None
    if first.version_arguments:
        said = said_version([executable, *first.version_arguments], first.environment(environment))
        version = version_in(said)
        reason += f", {said.strip() or 'version unknown'}"
    dialect = _for_version(dialects, version, executable)
    return Agent(
        dialect,
        reason,
        executable,
        dialect.command(version),
        dialect.environment(environment),
    )


def _for_version(dialects: Sequence[Dialect], version: Version | None, executable: str) -> Dialect:
    """
    The first of `dialects` that drives `version`, or may where it is not known.
    """
    for dialect in dialects:
        if version is None or dialect.until is None or version < dialect.until:
            return dialect
    last = dialects[-1]
    assert version is not None and last.until is not None, "it was too new for all"
    raise CannotStart(
        f"kiroworkers: {executable} is version {_dotted(version)}, and {last.label} ended before "
        f"{_dotted(last.until)}; use an older version, or --agent offline"
    )


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


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
