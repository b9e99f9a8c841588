"""
How an agent's terminal talks: bytes in, events out; prompts in, bytes out.

A `Dialect` is what is known of one agent's terminal, as data.  A
`Conversation` follows one session by it.  Neither knows a clock, a file or a
socket, so a recording of a session gives the same events however it is cut.
"""

from kiroworkers.terminal.conversation import Conversation, UnsafePrompt
from kiroworkers.terminal.dialect import Dialect
from kiroworkers.terminal.dialect_file import BadDialect, load_dialect, read_dialect
from kiroworkers.terminal.events import (
    Answered,
    Cleared,
    Event,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    NotCleared,
    Overflowed,
    Ready,
    Strayed,
    Submitted,
    Troubled,
)

__all__ = [
    "Answered",
    "BadDialect",
    "Cleared",
    "Conversation",
    "Dialect",
    "Event",
    "NeedsApproval",
    "NeedsChoice",
    "NeedsConfirmation",
    "NotCleared",
    "Overflowed",
    "Ready",
    "Strayed",
    "Submitted",
    "Troubled",
    "UnsafePrompt",
    "load_dialect",
    "read_dialect",
]
