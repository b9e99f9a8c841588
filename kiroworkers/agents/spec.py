"""
Hold what the operator specified about an agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from attrs import frozen

from kiroworkers.conversations import Dialect

#: The characters that make a name of `--pass-env` a pattern.
_WILDCARDS = frozenset("*?[")


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
        model: The model that answers; empty for the agent's default.
        effort: The model's reasoning effort; empty for the agent's default.
        kiro_agent: The name of Kiro's configuration, or ``minimal``; empty for the user's
            default.
    """

    agent: str = "auto"
    command: str = ""
    prompt: str = ""
    pass_env: tuple[str, ...] = ()
    foreign_patterns: tuple[str, ...] = ()
    model: str = ""
    effort: str = ""
    kiro_agent: str = ""

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
