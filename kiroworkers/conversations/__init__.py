"""
How an agent talks, at a terminal or over pipes: bytes in, events out; prompts in,
bytes out.

A `Dialect` is what is known of one agent, as data.  A `Conversation` follows one
session by it.  Neither knows a clock, a file or a
socket, so a recording of a session gives the same events however it is cut.
"""

from kiroworkers.conversations.acp.conversation import AcpConversation
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
    AgentFailure,
    Answered,
    Cleared,
    Completion,
    Event,
    LateOutput,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    NeedsEmptying,
    NotCleared,
    Overflowed,
    PromptLost,
    Ready,
    Source,
    Submitted,
    TextChunk,
    Working,
)
from kiroworkers.conversations.terminal.bracketed_paste import BracketedPasteConversation
from kiroworkers.conversations.terminal.line import LineConversation
from kiroworkers.conversations.terminal.screen import ScreenConversation
from kiroworkers.conversations.terminal.typing import LineTooLong, UnsafePrompt


def new_conversation(dialect: Dialect, max_output: int, folder: str = "/") -> Conversation:
    """
    A conversation of the kind that `dialect` needs; it keeps at most
    `max_output` bytes of a turn.

    Args:
        folder: where the agent works, as an absolute path.
    """
    readiness = dialect.readiness
    if isinstance(readiness, Acp):
        return AcpConversation(dialect, folder, max_output)
    if isinstance(readiness, BracketedPastePrompt):
        return BracketedPasteConversation(dialect, readiness, max_output)
    if isinstance(readiness, LinePrompt):
        return LineConversation(dialect, readiness, max_output)
    return ScreenConversation(dialect, readiness, max_output)


__all__ = [
    "AgentFailure",
    "Answered",
    "BadDialect",
    "Cleared",
    "Completion",
    "Conversation",
    "Dialect",
    "Event",
    "LateOutput",
    "Layout",
    "LinePrompt",
    "LineTooLong",
    "NeedsApproval",
    "NeedsChoice",
    "NeedsConfirmation",
    "NeedsEmptying",
    "NotCleared",
    "Overflowed",
    "PromptLost",
    "Ready",
    "Source",
    "Submitted",
    "TextChunk",
    "UnsafePrompt",
    "Working",
    "load_dialect",
    "new_conversation",
    "read_dialect",
]
