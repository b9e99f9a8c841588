"""
Choose the agent that answers requests, and the command that starts it.
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
from kiroworkers.conversations.dialects.dialect import Version, version_in
from kiroworkers.conversations.dialects.environment import EVERYTHING
from kiroworkers.errors import CannotStart, InvalidSetting

#: The names that `--agent` accepts, each with the dialects that the agent may speak.  The
#: version of the installed program decides between several.
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

#: Where a name has a choice, Kiro's classic interface is used only before this version:
#: from then on it stops at a menu and announces its own removal.
_CLASSIC_UNTIL = {"kiro": "2.28"}

#: The dialects of `--agent-command`: a program with a prompt, and one that speaks ACP.
_GENERIC = "generic"
_ACP = "acp"

#: The characters that make a name of `--pass-env` a pattern.
_WILDCARDS = frozenset("*?[")

#: How much of the output of a version command is read, in bytes.
_MAX_VERSION_OUTPUT = 4096

#: How much of one of its lines is kept, in characters.
_MAX_VERSION_LENGTH = 200

#: A line with a version and nothing else, except what a program may add in brackets:
#: ``kiro-cli 2.11.0``, ``llm, version 0.36``, ``2.1.39 (Claude Code)``, ``v0.61.0``.
_VERSION_LINE = re.compile(
    r"(?:(?P<name>[\w.@/-]*[a-z][\w.@/-]*)(?:,? version)?[ :]+)?"
    r"v?\d+(?:\.\d+)+[\w.+-]*(?: *\([^()]*\))?",
    re.IGNORECASE,
)

#: Seconds that a program may take to print its version.
_VERSION_TIMEOUT = 10.0


@frozen
class AgentSpec:
    """
    Hold what the operator specified about an agent.

    Attributes:
        agent: ``auto``, an agent's name, or the path of a dialect file.
        command: The command line of any program to run instead; empty for none.
        prompt: A regular expression for that program's prompt; empty for the default.
        pass_env: Names or patterns of variables that the agent gets besides its own.  An
            entry ``AGENT:NAME`` is for that agent only.
        foreign_patterns: Names or patterns of variables that belong to the other agents
            of this server.
    """

    agent: str = "auto"
    command: str = ""
    prompt: str = ""
    pass_env: tuple[str, ...] = ()
    foreign_patterns: tuple[str, ...] = ()

    def environment(
        self, name: str, dialect: Dialect, inherited: Mapping[str, str]
    ) -> dict[str, str]:
        """
        Return the environment of the agent.

        Args:
            name: The agent's name, as in ``AGENT:NAME``.
            dialect: Names the variables that the agent needs.
            inherited: The server's own environment.
        """
        extra: list[str] = []
        for entry in self.pass_env:
            agent, _, pattern = entry.rpartition(":")
            if agent == name or (agent == "" and not _WILDCARDS.intersection(pattern)):
                extra.append(pattern)
            elif agent == "":
                # A pattern for all agents does not include what is another agent's own.
                extra += (
                    variable
                    for variable in inherited
                    if fnmatchcase(variable, pattern)
                    and not any(fnmatchcase(variable, foreign) for foreign in self.foreign_patterns)
                )
        return dialect.environment(inherited, extra, self.foreign_patterns)


@frozen
class Agent:
    """
    Represent the program that each session of an agent runs.

    Attributes:
        dialect: How to talk to the program.
        reason: Why this agent was chosen, in words for the operator.
        executable: Path of the program.
        arguments: Its arguments.
        environment: Its whole environment.
        name: The name by which requests select it: the operator's name for it, or the
            dialect's for a file, a command or ``auto``.
        version: What the program said about its version; empty if that is unknown.
    """

    dialect: Dialect
    reason: str
    executable: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    name: str = field(default=Factory(lambda self: self.dialect.name, takes_self=True))
    version: str = ""


def validate_agents(specs: Sequence[AgentSpec]) -> None:
    """
    Check agents that are to run side by side, without looking at what is installed.

    Raises:
        InvalidSetting: If one is invalid, or if two have the same name.
    """
    names: set[str] = set()
    for spec in specs:
        validate_agent(spec)
        if len(specs) > 1:
            if spec.agent == "auto":
                raise InvalidSetting("--agent", spec.agent, "cannot be combined with other agents")
            name = _agent_name(spec)
            if name in names:
                raise InvalidSetting("--agent", spec.agent, f"there is another agent named {name}")
            names.add(name)


def isolate_env(specs: Sequence[AgentSpec]) -> list[AgentSpec]:
    """
    Return `specs` so that no agent inherits a variable that belongs to another.

    The specs must be valid.
    """
    return [
        evolve(
            spec,
            foreign_patterns=tuple(
                pattern for other in specs if other is not spec for pattern in _own_variables(other)
            ),
        )
        for spec in specs
    ]


def _own_variables(spec: AgentSpec) -> Iterator[str]:
    """
    Yield the names and patterns of variables that only this agent gets.
    """
    for dialect in [] if spec.command else _dialects(spec.agent):
        yield from (pattern for pattern in dialect.variables.passed if pattern != EVERYTHING)
    for entry in spec.pass_env:
        agent, _, pattern = entry.rpartition(":")
        if agent == _agent_name(spec):
            yield pattern


def validate_agent(spec: AgentSpec) -> None:
    """
    Check one agent's options, without looking at what is installed.

    Raises:
        InvalidSetting: If an option is invalid, or if two of them contradict each other.
    """
    if spec.command:
        if spec.agent not in ("auto", _ACP):
            raise InvalidSetting(
                "--agent-command", spec.command, "can only be combined with --agent acp"
            )
        if spec.agent == _ACP and spec.prompt:
            raise InvalidSetting(
                "--prompt-pattern", spec.prompt, "does not apply to ACP, which has no prompt"
            )
        try:
            words = shlex.split(spec.command)
        except ValueError as error:
            raise InvalidSetting("--agent-command", spec.command, str(error)) from None
        if not words:
            raise InvalidSetting("--agent-command", spec.command, "does not name a program")
        try:
            re.compile(spec.prompt)
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidSetting("--prompt-pattern", spec.prompt, str(error)) from None
    elif spec.prompt:
        raise InvalidSetting("--prompt-pattern", spec.prompt, "requires --agent-command")
    elif spec.agent == _ACP:
        raise InvalidSetting("--agent", spec.agent, "requires --agent-command")
    elif spec.agent != "auto":
        try:
            _dialects(spec.agent)
        except BadDialect as error:
            raise InvalidSetting("--agent", spec.agent, str(error)) from None


def _dialects(agent: str) -> list[Dialect]:
    """
    Return the dialects that `agent`, a name or the path of a dialect file, may speak.

    Raises:
        BadDialect: If the name is unknown or the file is invalid.
    """
    if agent in _DIALECTS:
        dialects = [load_dialect(name) for name in _DIALECTS[agent]]
        if agent in _CLASSIC_UNTIL:
            until = version_in(_CLASSIC_UNTIL[agent])
            dialects[0] = evolve(dialects[0], start=evolve(dialects[0].start, until=until))
        return dialects
    if agent.endswith(".toml"):
        return [read_dialect(Path(agent).expanduser())]
    raise BadDialect(f"must be auto, {', '.join(_DIALECTS)}, acp or a dialect file (.toml)")


def _agent_name(spec: AgentSpec) -> str:
    return _ACP if spec.agent == _ACP else _name(spec.agent, _dialects(spec.agent)[0])


def _name(requested: str, dialect: Dialect) -> str:
    return requested if requested in _DIALECTS else dialect.name


def _command_dialect(spec: AgentSpec) -> Dialect:
    """
    Return the dialect for the program of `--agent-command`.
    """
    program, *arguments = shlex.split(spec.command)
    dialect = load_dialect(_ACP if spec.agent == _ACP else _GENERIC)
    line = dialect.line
    if spec.prompt:
        assert line is not None, "the generic dialect has a prompt pattern"
        line = evolve(line, prompt=re.compile(spec.prompt))
    label = f"the program {shlex.join([program, *arguments])}"
    if dialect.transport == "acp":
        label += ", over ACP"
    return evolve(
        dialect,
        label=label,
        start=evolve(dialect.start, program=program, arguments=tuple(arguments)),
        line=line,
    )


def choose_agent(
    spec: AgentSpec,
    environment: Mapping[str, str],
    get_version: Callable[[list[str], Mapping[str, str]], str],
    previous: str | None = None,
) -> Agent:
    """
    Choose the program and the dialect for `spec`, given what is installed.

    Args:
        spec: What the operator specified.
        environment: The server's own environment.
        get_version: Runs a command that prints a version, in an environment, and returns
            its output; see `read_version`.
        previous: The agent that ``auto`` has chosen before, which stays.

    Raises:
        CannotStart: If the program is not installed, or if no dialect supports its
            version.
    """
    path = environment.get("PATH", os.defpath)
    requested, reason = spec.agent, "chosen with --agent"
    if spec.command:
        requested, reason = "command", "chosen with --agent-command"
        dialects = [_command_dialect(spec)]
    else:
        if requested == "auto":
            kiro = _dialects("kiro")[0].start.program
            assert kiro is not None, "Kiro is a program on PATH"
            is_installed = shutil.which(kiro, path=path) is not None
            requested = previous or ("kiro" if is_installed else "offline")
            reason = f"--agent auto: {kiro} is {'' if is_installed else 'not '}on PATH"
        dialects = _dialects(requested)
    first = dialects[0]
    name = _name(requested, first)
    program = first.start.program
    executable = sys.executable if program is None else shutil.which(program, path=path)
    if executable is None:
        option = "--agent-command" if spec.command else f"--agent {requested}"
        raise CannotStart(f"kiroworkers: {option}: {program} is not on PATH")
    version: Version | None = None
    line = ""
    if first.start.version_arguments:
        output = get_version(
            [executable, *first.start.version_arguments], spec.environment(name, first, environment)
        )
        line = version_line(output, Path(executable).name)
        version = version_in(line)
        reason += f", {line or 'version unknown'}"
    dialect = _dialect_for_version(dialects, version, executable)
    return Agent(
        dialect,
        reason,
        executable,
        dialect.command(version),
        spec.environment(name, dialect, environment),
        name,
        line,
    )


def _dialect_for_version(
    dialects: Sequence[Dialect], version: Version | None, executable: str
) -> Dialect:
    """
    Return the first of `dialects` that supports `version`; the first one if it is unknown.

    Raises:
        CannotStart: If none does.
    """
    for dialect in dialects:
        until = dialect.start.until
        if version is None or until is None or version < until:
            return dialect
    assert version is not None and until is not None, "every dialect has ended"
    raise CannotStart(
        f"kiroworkers: {executable} is version {_dotted(version)}, but {dialect.label} needs a "
        f"version before {_dotted(until)}; install an older one or use --agent offline"
    )


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def version_line(output: str, program: str) -> str:
    """
    Return the line of `output` that has the version of `program`.

    Notices, such as that of a newer version, may come before and after it.

    Args:
        output: What a program has printed when it was asked for its version.
        program: The name of its file.

    Returns:
        The line, without control characters.  If none is certain, the last one that has any
        version, or else the first one; an empty string if there is no line.
    """
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    lines = ["".join(filter(str.isprintable, line))[:_MAX_VERSION_LENGTH] for line in lines]
    matches = [(line, _VERSION_LINE.fullmatch(line)) for line in lines]
    for line, match in matches:
        if match and match["name"] and match["name"].lower().startswith(program.lower()):
            return line
    for line, match in matches:
        if match and match["name"] is None:
            return line
    with_version = [line for line in lines if version_in(line)]
    return (with_version[-1:] or lines or [""])[0]


def read_version(command: list[str], environment: Mapping[str, str]) -> str:
    """
    Run `command` and return what it prints.  Blocks for up to 10 seconds.

    Returns:
        The first 4 KiB, or an empty string if the command cannot be started, prints nothing
        or takes too long.
    """
    with TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                # Not a pipe: a child that the command leaves behind would keep it open.
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return ""
        try:
            process.wait(_VERSION_TIMEOUT)
        except subprocess.TimeoutExpired:
            return ""
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return output.read(_MAX_VERSION_OUTPUT).decode("utf-8", "replace")
