"""
List the dialects that an agent may speak, and what can be chosen with each of them.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from attrs import evolve

from kiroworkers.agents.spec import AgentSpec
from kiroworkers.conversations import BadDialect, Dialect, load_dialect, read_dialect
from kiroworkers.conversations.dialects.dialect import Version, version_in

#: The names that `--agent` accepts, each with the dialects that the agent may speak.  The
#: version of the installed program decides between several.
AGENT_DIALECTS = {
    "kiro": ("kiro-classic", "kiro-acp", "kiro-acp-v3"),
    "kiro-acp": ("kiro-acp",),
    "kiro-acp-v3": ("kiro-acp-v3",),
    "kiro-classic": ("kiro-classic",),
    "kiro-tui": ("kiro-tui",),
    "q": ("q",),
    "claude": ("claude",),
    "copilot": ("copilot",),
    "codex": ("codex",),
    "gemini": ("gemini",),
    "gemini-acp": ("gemini-acp",),
    "opencode": ("opencode-acp",),
    "opencode-acp": ("opencode-acp",),
    "llm": ("llm",),
    "offline": ("offline",),
}

#: With ``--agent kiro``, the classic interface is used only before this version.  From then on
#: it stops at a menu and announces its removal.
_CLASSIC_UNTIL = {"kiro": "2.28"}

#: The dialects of `--agent-command`: a program with a prompt, and one that speaks ACP.
_GENERIC = "generic"
ACP = "acp"

#: The value of --kiro-agent that stands for the dialect's `MinimalAgent`.
MINIMAL = "minimal"


def possible_dialects(spec: AgentSpec) -> list[Dialect]:
    """
    Return the dialects that the valid `spec` may speak; what is installed decides between them.
    """
    if spec.command:
        return [command_dialect(spec)]
    if spec.agent == "auto":
        return [*named_dialects("kiro"), *named_dialects("offline")]
    return named_dialects(spec.agent)


def named_dialects(agent: str) -> list[Dialect]:
    """
    Return the dialects that `agent`, a name or the path of a dialect file, may speak.

    Raises:
        BadDialect: If the name is unknown or the file is invalid.
    """
    if agent in AGENT_DIALECTS:
        dialects = [load_dialect(name) for name in AGENT_DIALECTS[agent]]
        if agent in _CLASSIC_UNTIL:
            until = version_in(_CLASSIC_UNTIL[agent])
            dialects[0] = evolve(dialects[0], start=evolve(dialects[0].start, until=until))
        return dialects
    if agent.endswith(".toml"):
        return [read_dialect(Path(agent).expanduser())]
    raise BadDialect(f"must be auto, {', '.join(AGENT_DIALECTS)}, acp or a dialect file (.toml)")


def is_built_in(agent: str, dialect: Dialect) -> bool:
    """
    Return whether `dialect` is one of the package's for `agent`.

    A dialect file may have the same name.
    """
    return agent in AGENT_DIALECTS and dialect in named_dialects(agent)


def command_dialect(spec: AgentSpec) -> Dialect:
    """
    Return the dialect for the program of `--agent-command`.
    """
    program, *arguments = shlex.split(spec.command)
    dialect = load_dialect(ACP if spec.agent == ACP else _GENERIC)
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


def agent_name(spec: AgentSpec) -> str:
    """
    Return the name of the agent of the valid `spec`, which is not ``auto``.
    """
    return ACP if spec.agent == ACP else name_for(spec.agent, named_dialects(spec.agent)[0])


def name_for(requested: str, dialect: Dialect) -> str:
    """
    Return the name of the agent `requested`; for a dialect file, the name in the file.
    """
    return requested if requested in AGENT_DIALECTS else dialect.name


def can_select_model(dialect: Dialect, version: Version | None = None) -> bool:
    """
    Return whether `version`, or any version if it is None, can be given a model.
    """
    # Without an option of the program, each session selects the model over the protocol.
    return dialect.transport == "acp" or dialect.has_option("model", version)


def can_select_effort(dialect: Dialect, version: Version | None = None) -> bool:
    """
    Return whether `version`, or any version if it is None, can be given an effort.
    """
    return _is_v3(dialect) or dialect.has_option("effort", version)


def configuration_name(dialect: Dialect, kiro_agent: str, version: Version | None = None) -> str:
    """
    Return the name of the configuration that `kiro_agent` selects; empty if none can be selected.
    """
    if not (_is_v3(dialect) or dialect.has_option("agent", version)):
        return ""
    if kiro_agent == MINIMAL:
        return "" if dialect.minimal is None else dialect.minimal.name
    return kiro_agent


def _is_v3(dialect: Dialect) -> bool:
    """
    Return whether a session can select its configuration and effort over the protocol.
    """
    return dialect.acp is not None and dialect.acp.engine == "v3"
