"""
Choose the program that answers requests, and the command that starts it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from attrs import Factory, evolve, field, frozen

from kiroworkers.agents.dialects import (
    MINIMAL,
    can_select_effort,
    can_select_model,
    command_dialect,
    configuration_name,
    is_built_in,
    name_for,
    named_dialects,
    possible_dialects,
)
from kiroworkers.agents.program import version_line
from kiroworkers.agents.spec import AgentSpec
from kiroworkers.conversations import Dialect
from kiroworkers.conversations.dialects.dialect import (
    MinimalAgent,
    StartOption,
    Version,
    version_in,
)
from kiroworkers.errors import CannotStart, VersionUnknown


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
        model: The model that each session must select over the protocol; empty if `arguments`
            select it, or for the agent's default.
        effort: The reasoning effort that each session must select; empty likewise.
        agent_name: The agent's configuration that each session runs; empty for the user's
            default.
        minimal: How to run without tools; None to run with the user's configuration.
    """

    dialect: Dialect
    reason: str
    executable: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    name: str = field(default=Factory(lambda self: self.dialect.name, takes_self=True))
    version: str = ""
    model: str = ""
    effort: str = ""
    agent_name: str = ""
    minimal: MinimalAgent | None = None

    @property
    def needs_folders(self) -> bool:
        """
        Return whether each session needs directories of its own for the agent's state.
        """
        return bool(self.dialect.state_dirs) or self.minimal is not None

    @property
    def is_built_in(self) -> bool:
        """
        Return whether the dialect is the package's own for this agent.
        """
        return is_built_in(self.name, self.dialect)

    @property
    def session_meta(self) -> Mapping[str, Any] | None:
        """
        Return the ``_meta`` of the agent's ACP sessions; None for none.
        """
        if self.minimal is None or self.minimal.meta is None:
            return None
        meta: Mapping[str, Any] = json.loads(self.minimal.meta)
        return meta

    def journal_folder(self, environment: Mapping[str, str]) -> Path | None:
        """
        Return where a session keeps its journal; None if it keeps none.

        Args:
            environment: The environment of the session.
        """
        journal, home = self.dialect.answer.journal, environment.get("HOME")
        if not journal:
            return None
        minimal = self.dialect.minimal
        if minimal is not None and environment.get(minimal.variable):
            # The journal is below the configuration folder, which is elsewhere.
            folder, default = PurePosixPath(journal), PurePosixPath(minimal.default)
            if folder.is_relative_to(default):
                return Path(environment[minimal.variable]) / folder.relative_to(default)
        return Path(home) / journal if home else None


def choose_agent(
    spec: AgentSpec,
    environment: Mapping[str, str],
    get_output: Callable[[list[str], Mapping[str, str]], str],
    previous: str | None = None,
    *,
    needs_version: bool = False,
) -> Agent:
    """
    Choose the program and the dialect for `spec`, given what is installed.

    Args:
        spec: What the operator specified.
        environment: The server's own environment.
        get_output: Runs a command that prints a version or help, in an environment, and
            returns its output; see `read_output`.
        previous: The agent that ``auto`` has chosen before, which stays.
        needs_version: Whether the program must say its version and, if asked, print its help,
            because it did before.

    Raises:
        VersionUnknown: If it does not do what it must.
        CannotStart: If the program is not installed, or if no dialect supports its
            version with the options of `spec`.
    """
    path = environment.get("PATH", os.defpath)
    requested, reason = spec.agent, "chosen with --agent"
    if spec.command:
        requested, reason = "command", "chosen with --agent-command"
        dialects = [command_dialect(spec)]
    else:
        if requested == "auto":
            kiro = named_dialects("kiro")[0].start.program
            assert kiro is not None, "Kiro is a program on PATH"
            is_installed = shutil.which(kiro, path=path) is not None
            requested = previous or ("kiro" if is_installed else "offline")
            reason = f"--agent auto: {kiro} is {'' if is_installed else 'not '}on PATH"
        dialects = named_dialects(requested)
    first = dialects[0]
    name = name_for(requested, first)
    program = first.start.program
    executable = sys.executable if program is None else shutil.which(program, path=path)
    if executable is None:
        option = "--agent-command" if spec.command else f"--agent {requested}"
        raise CannotStart(f"kiroworkers: {option}: {program} is not on PATH")
    version: Version | None = None
    line = ""
    if first.start.version_arguments:
        output = get_output(
            [executable, *first.start.version_arguments], spec.environment(name, first, environment)
        )
        line = version_line(output, Path(executable).name)
        if needs_version and not line:
            # First: without a version, another dialect would be tried.
            raise VersionUnknown(f"{executable} does not say its version")
        version = version_in(line)
        reason += f", {line or 'version unknown'}"

    def get_help(dialect: Dialect) -> str:
        output = get_output(
            [executable, *dialect.start.help_arguments],
            spec.environment(name, dialect, environment),
        )
        if needs_version and not output:
            # It may be as busy as one that does not say its version.
            raise VersionUnknown(f"{executable} does not print its help")
        return output

    dialect = _first_usable(dialects, version, executable, get_help)
    served_since = dialect.start.served_since
    if version is not None and served_since is not None and version < served_since:
        reason += f"; its service refuses versions before {_dotted(served_since)}"
    agent = Agent(
        dialect, reason, executable, (), spec.environment(name, dialect, environment), name, line
    )
    return _with_options(agent, spec, version)


def _with_options(agent: Agent, spec: AgentSpec, version: Version | None) -> Agent:
    """
    Return `agent` with its arguments and the values of --model, --effort and --kiro-agent.

    Raises:
        CannotStart: If this version of the agent lacks one of them.
    """
    dialect = agent.dialect
    by_chance = spec.agent == "auto" and agent.name == "offline"
    agent_name = configuration_name(dialect, spec.kiro_agent, version)
    # --kiro-agent does not apply to agents other than Kiro.
    concerns_kiro = any(
        configuration_name(other, spec.kiro_agent) for other in possible_dialects(spec)
    )
    for option, value, is_supported in [
        ("--model", spec.model, can_select_model(dialect, version)),
        ("--effort", spec.effort, can_select_effort(dialect, version)),
        ("--kiro-agent", concerns_kiro and spec.kiro_agent, bool(agent_name)),
    ]:
        if value and not is_supported and not by_chance:
            raise CannotStart(
                f"kiroworkers: {option} {value}: {agent.executable} "
                f"({agent.version or 'version unknown'}) does not support it over this interface: "
                f"{dialect.label}"
            )
    values: dict[StartOption, str] = {
        "model": spec.model,
        "effort": spec.effort,
        "agent": agent_name,
    }
    options = {
        option: value
        for option, value in values.items()
        if value and dialect.has_option(option, version)
    }
    return evolve(
        agent,
        arguments=dialect.command(version, options),
        model="" if by_chance or "model" in options else spec.model,
        effort="" if by_chance or "effort" in options else spec.effort,
        agent_name=agent_name,
        minimal=dialect.minimal if agent_name and spec.kiro_agent == MINIMAL else None,
    )


def _first_usable(
    dialects: Iterable[Dialect],
    version: Version | None,
    executable: str,
    get_help: Callable[[Dialect], str],
) -> Dialect:
    """
    Return the first of `dialects` that can drive the program.

    Args:
        dialects: The dialects in order of preference.
        version: The program's version; None if it is unknown.
        executable: The program.
        get_help: Returns the program's help about the interface of a dialect.

    Raises:
        CannotStart: If there is none.
    """
    reasons = []
    for dialect in dialects:
        start = dialect.start
        if version is not None and start.until is not None and version >= start.until:
            reasons.append(f"{dialect.label} needs a version before {_dotted(start.until)}")
        elif version is not None and start.since is not None and version < start.since:
            reasons.append(f"{dialect.label} needs {_dotted(start.since)} or later")
        elif start.gone is not None and start.gone.search(get_help(dialect)):
            command = shlex.join([Path(executable).name, *start.help_arguments])
            reasons.append(f"{command} no longer offers {dialect.label}")
        else:
            return dialect
    found = "of unknown version" if version is None else f"version {_dotted(version)}"
    raise CannotStart(
        f"kiroworkers: {executable} is {found}, but {', and '.join(reasons)}; install another "
        "version, or choose another --agent"
    )


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
