"""
How an agent talks, at a terminal or over pipes: bytes in, events out; prompts in,
bytes out.

A `Dialect` is what is known of one agent, as data.  A `Conversation` follows one
session by it.  Neither knows a clock, a file or a
socket, so a recording of a session gives the same events however it is cut.
"""

from kiroworkers.conversations.acp.conversation import AcpConversation
from kiroworkers.conversations.conversation import Conversation
from kiroworkers.conversations.dialects.dialect import Acp, Cycle, Dialect, Layout, Line
from kiroworkers.conversations.dialects.dialect_file import BadDialect, load_dialect, read_dialect
from kiroworkers.conversations.events import (
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
    Ready,
    Said,
    Source,
    Strayed,
    Submitted,
    Troubled,
    Working,
)
from kiroworkers.conversations.terminal.bracketed_paste import CycleConversation
from kiroworkers.conversations.terminal.line import LineConversation
from kiroworkers.conversations.terminal.screen import ScreenConversation
from kiroworkers.conversations.terminal.typing import PromptTooLong, UnsafePrompt


def new_conversation(dialect: Dialect, max_output: int, folder: str = "/") -> Conversation:
    """
    A conversation of the kind that `dialect` needs; it keeps at most
    `max_output` bytes of a turn.

    @param folder: where the agent works, as an absolute path.
    """
    readiness = dialect.readiness
    if isinstance(readiness, Acp):
        return AcpConversation(dialect, folder, max_output)
    if isinstance(readiness, Cycle):
        return CycleConversation(dialect, readiness, max_output)
    if isinstance(readiness, Line):
        return LineConversation(dialect, readiness, max_output)
    return ScreenConversation(dialect, readiness, max_output)


__all__ = [
    "Answered",
    "BadDialect",
    "Cleared",
    "Completion",
    "Conversation",
    "Dialect",
    "Event",
    "LateOutput",
    "Layout",
    "Line",
    "NeedsApproval",
    "NeedsChoice",
    "NeedsConfirmation",
    "NeedsEmptying",
    "NotCleared",
    "Overflowed",
    "PromptTooLong",
    "Ready",
    "Said",
    "Source",
    "Strayed",
    "Submitted",
    "Troubled",
    "UnsafePrompt",
    "Working",
    "load_dialect",
    "new_conversation",
    "read_dialect",
]
