"""
Which program answers: choosing it, and the command that starts it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryFile

from attrs import Factory, evolve, field, frozen

from kiroworkers.conversations import BadDialect, Dialect, load_dialect, read_dialect
from kiroworkers.conversations.dialects.dialect import LinePrompt, Version, version_in
from kiroworkers.conversations.dialects.environment import EVERYTHING
from kiroworkers.errors import CannotStart, InvalidSetting

#: The names `--agent` takes, and the dialects that each may speak, by its version.
_DIALECTS = {
    "kiro": ("kiro-classic", "kiro-acp"),
    "kiro-acp": ("kiro-acp",),
    "kiro-classic": ("kiro-classic",),
    "kiro-tui": ("kiro-tui",),
    "q": ("q",),
    "llm": ("llm",),
    "codex": ("codex",),
    "gemini": ("gemini",),
    "gemini-acp": ("gemini-acp",),
    "opencode-acp": ("opencode-acp",),
    "offline": ("offline",),
}

#: Kiro that can be chosen is driven through its classic interface only before this
#: version: then that stops at a menu, and says that it will go.
_CLASSIC_UNTIL = {"kiro": "2.28"}

#: The dialects of `--agent-command`: of a program with a prompt, and of one that
#: speaks ACP.
_GENERIC = "generic"
_ACP = "acp"

#: What makes a name a pattern.
_WILD = frozenset("*?[")

#: Most bytes that a version is looked for in.
_LONGEST_VERSION = 4096

#: Seconds a program may take to say its version.
_VERSION_PATIENCE = 10.0


@frozen
class AgentSpec:
    """
    What the operator asks for.

    Attributes:
        agent: `auto`, a name or a dialect file.
        command: a program of any kind, with its arguments, instead; empty
            without.
        prompt: the pattern of that program's prompt; empty for the usual one.
        pass_env: variables that it gets besides its own: names or patterns,
            those for one agent behind its name and a colon.
        of_others: names or patterns that agents beside it have for their own.
    """

    agent: str = "auto"
    command: str = ""
    prompt: str = ""
    pass_env: tuple[str, ...] = ()
    of_others: tuple[str, ...] = ()

    def environment(
        self, called: str, dialect: Dialect, inherited: Mapping[str, str]
    ) -> dict[str, str]:
        """
        What the agent of this name and `dialect` gets of the variables `inherited`.
        """
        also: list[str] = []
        for each in self.pass_env:
            agent, _, name = each.rpartition(":")
            if agent == called or (agent == "" and not _WILD.intersection(name)):
                also.append(name)
            elif agent == "":
                # Meant for all, but not what is another's own.
                also += (
                    variable
                    for variable in inherited
                    if fnmatchcase(variable, name)
                    and not any(fnmatchcase(variable, own) for own in self.of_others)
                )
        return dialect.environment(inherited, also, self.of_others)


@frozen
class Agent:
    """
    The program that every session runs.

    Attributes:
        reason: why this one, in one sentence for people.
        executable, arguments: the command.
        name: what it is asked for by: as the operator spelt it, or as its
            dialect says where that was a file, a command or `auto`.
    """

    dialect: Dialect
    reason: str
    executable: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    name: str = field(default=Factory(lambda self: self.dialect.name, takes_self=True))


def validate_agents(wanted: Sequence[AgentSpec]) -> None:
    """
    Can they be meant, side by side?

    Raises:
        InvalidSetting: if not.
    """
    names: set[str] = set()
    for each in wanted:
        validate_agent(each)
        if len(wanted) > 1:
            if each.agent == "auto":
                raise InvalidSetting("--agent", each.agent, "goes without others")
            name = _name_of(each)
            if name in names:
                raise InvalidSetting("--agent", each.agent, f"there is another agent named {name}")
            names.add(name)


def isolate_env(wanted: Sequence[AgentSpec]) -> list[AgentSpec]:
    """
    Agents that were checked, each of which gets nothing that is another's own.
    """
    return [
        evolve(
            each,
            of_others=tuple(
                name for other in wanted if other is not each for name in _own_variables(other)
            ),
        )
        for each in wanted
    ]


def _own_variables(wanted: AgentSpec) -> Iterator[str]:
    for dialect in [] if wanted.command else _dialects(wanted.agent):
        yield from (each for each in dialect.pass_environment if each != EVERYTHING)
    for each in wanted.pass_env:
        agent, _, name = each.rpartition(":")
        if agent == _name_of(wanted):
            yield name


def validate_agent(wanted: AgentSpec) -> None:
    """
    Can `wanted` be meant?

    Raises:
        InvalidSetting: if not.
    """
    if wanted.command:
        if wanted.agent not in ("auto", _ACP):
            raise InvalidSetting(
                "--agent-command", wanted.command, "goes without --agent, or with --agent acp"
            )
        if wanted.agent == _ACP and wanted.prompt:
            raise InvalidSetting("--prompt-pattern", wanted.prompt, "ACP has no prompt to be seen")
        try:
            named = shlex.split(wanted.command)
        except ValueError as problem:
            raise InvalidSetting("--agent-command", wanted.command, str(problem)) from None
        if not named:
            raise InvalidSetting("--agent-command", wanted.command, "names no program")
        try:
            re.compile(wanted.prompt)
        except (re.error, OverflowError, RecursionError) as problem:
            raise InvalidSetting("--prompt-pattern", wanted.prompt, str(problem)) from None
    elif wanted.prompt:
        raise InvalidSetting("--prompt-pattern", wanted.prompt, "goes with --agent-command")
    elif wanted.agent == _ACP:
        raise InvalidSetting("--agent", wanted.agent, "goes with --agent-command")
    elif wanted.agent != "auto":
        try:
            _dialects(wanted.agent)
        except BadDialect as problem:
            raise InvalidSetting("--agent", wanted.agent, str(problem)) from None


def _dialects(name: str) -> list[Dialect]:
    if name in _DIALECTS:
        found = [load_dialect(each) for each in _DIALECTS[name]]
        if name in _CLASSIC_UNTIL:
            found[0] = evolve(found[0], until=version_in(_CLASSIC_UNTIL[name]))
        return found
    if name.endswith(".toml"):
        return [read_dialect(Path(name).expanduser())]
    raise BadDialect(f"must be auto, {', '.join(_DIALECTS)}, acp or a dialect file (.toml)")


def _name_of(wanted: AgentSpec) -> str:
    return _ACP if wanted.agent == _ACP else _name(wanted.agent, _dialects(wanted.agent)[0])


def _name(asked_for: str, dialect: Dialect) -> str:
    return asked_for if asked_for in _DIALECTS else dialect.name


def _generic(wanted: AgentSpec) -> Dialect:
    """
    The dialect of any program.
    """
    program, *arguments = shlex.split(wanted.command)
    dialect = load_dialect(_ACP if wanted.agent == _ACP else _GENERIC)
    readiness = dialect.readiness
    if wanted.prompt:
        assert isinstance(readiness, LinePrompt), "its prompt is a pattern"
        readiness = evolve(readiness, prompt=re.compile(wanted.prompt))
    label = f"the program {shlex.join([program, *arguments])}"
    if dialect.transport == "acp":
        label += ", over ACP"
    return evolve(
        dialect,
        label=label,
        program=program,
        arguments=tuple(arguments),
        readiness=readiness,
    )


def choose_agent(
    wanted: AgentSpec,
    environment: Mapping[str, str],
    said_version: Callable[[list[str], Mapping[str, str]], str],
) -> Agent:
    """
    The agent that is `wanted`, on this machine, given the server's
    `environment`.

    Args:
        said_version: runs a command that prints a version; what it printed.

    Raises:
        CannotStart: when it is not to be had.
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
    called = _name(name, first)
    executable = sys.executable if first.program is None else shutil.which(first.program, path=path)
    if executable is None:
        asked = "--agent-command" if wanted.command else f"--agent {name}"
        raise CannotStart(f"kiroworkers: {asked}: {first.program} is not on PATH")
    version: Version | None = None
    if first.version_arguments:
        said = said_version(
            [executable, *first.version_arguments], wanted.environment(called, first, environment)
        )
        version = version_in(said)
        reason += f", {said.strip() or 'version unknown'}"
    dialect = _for_version(dialects, version, executable)
    return Agent(
        dialect,
        reason,
        executable,
        dialect.command(version),
        wanted.environment(called, dialect, environment),
        called,
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


def read_version(command: list[str], environment: Mapping[str, str]) -> str:
    """
    What `command` prints, in one line; nothing when it cannot be asked.
    """
    with TemporaryFile() as said:
        try:
            program = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                # Not a pipe: a child that it leaves need not be waited for.
                stdout=said,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return ""
        try:
            program.wait(_VERSION_PATIENCE)
        except subprocess.TimeoutExpired:
            return ""
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        said.seek(0)
        lines = said.read(_LONGEST_VERSION).decode("utf-8", "replace").strip().splitlines()
    return lines[0][:200] if lines else ""
