"""
Check what the operator specified about agents, without looking at what is installed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from attrs import evolve

from kiroworkers.agents.dialects import (
    ACP,
    agent_name,
    can_select_effort,
    can_select_model,
    configuration_name,
    named_dialects,
    possible_dialects,
)
from kiroworkers.agents.spec import AgentSpec
from kiroworkers.conversations import BadDialect
from kiroworkers.conversations.dialects.environment import EVERYTHING
from kiroworkers.errors import InvalidSetting


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
            name = agent_name(spec)
            if name in names:
                raise InvalidSetting("--agent", spec.agent, f"there is another agent named {name}")
            names.add(name)
    _validate_kiro_agent(specs)


def validate_agent(spec: AgentSpec) -> None:
    """
    Check one agent's options, without looking at what is installed.

    Raises:
        InvalidSetting: If an option is invalid, or if two of them contradict each other.
    """
    if spec.command:
        if spec.agent not in ("auto", ACP):
            raise InvalidSetting(
                "--agent-command", spec.command, "can only be combined with --agent acp"
            )
        if spec.agent == ACP and spec.prompt:
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
    elif spec.agent == ACP:
        raise InvalidSetting("--agent", spec.agent, "requires --agent-command")
    elif spec.agent != "auto":
        try:
            named_dialects(spec.agent)
        except BadDialect as error:
            raise InvalidSetting("--agent", spec.agent, str(error)) from None
    for option, value in [
        ("--model", spec.model),
        ("--effort", spec.effort),
        ("--kiro-agent", spec.kiro_agent),
    ]:
        if not re.fullmatch(r"(?:[^\s-]\S*)?", value) or not value.isprintable():
            raise InvalidSetting(option, value, "must be one word that does not begin with -")
    for option, value, is_supported in [
        ("--model", spec.model, can_select_model),
        ("--effort", spec.effort, can_select_effort),
    ]:
        if value and not any(map(is_supported, possible_dialects(spec))):
            name = spec.command or spec.agent
            raise InvalidSetting(option, value, f"the agent {name} does not support it")


def _validate_kiro_agent(specs: Sequence[AgentSpec]) -> None:
    """
    Check that --kiro-agent applies to one of the agents, which must be valid.

    Raises:
        InvalidSetting: If it applies to none.
    """
    for name in {spec.kiro_agent for spec in specs if spec.kiro_agent}:
        dialects = [dialect for spec in specs for dialect in possible_dialects(spec)]
        if not any(configuration_name(dialect, name) for dialect in dialects):
            raise InvalidSetting("--kiro-agent", name, "none of the agents supports it")


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
    for dialect in [] if spec.command else named_dialects(spec.agent):
        yield from (pattern for pattern in dialect.variables.passed if pattern != EVERYTHING)
    for entry in spec.pass_env:
        agent, _, pattern = entry.rpartition(":")
        if agent == agent_name(spec):
            yield pattern
