"""
Talk to an agent, on a terminal or over pipes: bytes in, events out; prompts in, bytes out.

A `Dialect` describes one agent as data.  A `Conversation` follows one session of that
agent.  Neither uses a clock, a file or a socket, so a recording of a session gives the
same events no matter where its bytes are cut.
"""

from collections.abc import Mapping
from typing import Any

from kiroworkers.conversations.acp.conversation import AcpConversation
from kiroworkers.conversations.acp.known_sessions import KnownSessions
from kiroworkers.conversations.conversation import Conversation
from kiroworkers.conversations.dialects.dialect import (
    Acp,
    BracketedPastePrompt,
    Dialect,
    Layout,
    LinePrompt,
)
from kiroworkers.conversations.dialects.dialect_file import BadDialect, load_dialect, read_dialect
from kiroworkers.conversations.events import (
    Access,
    AgentFailure,
    Answered,
    Cleared,
    Completion,
    ComposerNotEmpty,
    Event,
    LateOutput,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    NotCleared,
    Notice,
    NoticeKind,
    Overflowed,
    PromptLost,
    Ready,
    Source,
    Submitted,
    TextChunk,
    TextDiscarded,
    ToolUsed,
    Usage,
    Working,
)
from kiroworkers.conversations.terminal.bracketed_paste import BracketedPasteConversation
from kiroworkers.conversations.terminal.line import LineConversation
from kiroworkers.conversations.terminal.prompt_encoding import LineTooLong, UnsafePrompt
from kiroworkers.conversations.terminal.screen import ScreenConversation


def new_conversation(
    dialect: Dialect,
    max_output: int,
    folder: str = "/",
    *,
    model: str = "",
    effort: str = "",
    agent_name: str = "",
    session_meta: Mapping[str, Any] | None = None,
    known_sessions: KnownSessions | None = None,
) -> Conversation:
    """
    Return a new conversation of the kind that `dialect` needs.

    Args:
        dialect: The agent that the conversation is with.
        max_output: The maximum output of a turn, in bytes.
        folder: The agent's working directory, as an absolute path.
        model: The model to select over the protocol; empty for the agent's own.
        effort: The reasoning effort to select over the protocol; empty for the agent's own.
        agent_name: The configuration with which an agent that speaks ACP has to run; empty
            for any.
        session_meta: The ``_meta`` of its sessions; None for none.
        known_sessions: The identifiers of the sessions that an agent that speaks ACP had before;
            None if this conversation is the first and only one.
    """
    readiness = dialect.readiness
    if isinstance(readiness, Acp):
        return AcpConversation(
            dialect,
            folder,
            max_output,
            agent_name,
            model,
            effort,
            session_meta,
            known_sessions,
        )
    if isinstance(readiness, BracketedPastePrompt):
        return BracketedPasteConversation(dialect, readiness, max_output)
    if isinstance(readiness, LinePrompt):
        return LineConversation(dialect, readiness, max_output)
    return ScreenConversation(dialect, readiness, max_output)


__all__ = [
    "Access",
    "AgentFailure",
    "Answered",
    "BadDialect",
    "Cleared",
    "Completion",
    "ComposerNotEmpty",
    "Conversation",
    "Dialect",
    "Event",
    "KnownSessions",
    "LateOutput",
    "Layout",
    "LinePrompt",
    "LineTooLong",
    "NeedsApproval",
    "NeedsChoice",
    "NeedsConfirmation",
    "NotCleared",
    "Notice",
    "NoticeKind",
    "Overflowed",
    "PromptLost",
    "Ready",
    "Source",
    "Submitted",
    "TextChunk",
    "TextDiscarded",
    "ToolUsed",
    "UnsafePrompt",
    "Usage",
    "Working",
    "load_dialect",
    "new_conversation",
    "read_dialect",
]
