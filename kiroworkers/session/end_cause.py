"""
Define why sessions end: in a word, and in a sentence.
"""

from __future__ import annotations

from enum import Enum
from typing import Self


class EndCause(Enum):
    """
    Represent why a session ended, in a word that metrics and the log have.

    Attributes:
        meaning: A sentence for operators.
    """

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Self:
        """
        Return a member whose value is `word`.
        """
        member = object.__new__(cls)
        member._value_, member.meaning = word, meaning
        return member

    # The agent ends it, or fails.
    EXITED = "exited", "The agent ended by itself, or was killed by somebody else."
    NOT_STARTED = "not_started", "The agent's program could not be started."
    START_TIMEOUT = "start_timeout", "The agent showed no prompt within --startup-timeout."
    CLEAR_TIMEOUT = "clear_timeout", "The agent did not confirm that it forgot a conversation."
    INTERRUPT_TIMEOUT = (
        "interrupt_timeout",
        "The agent's prompt did not come back after an interrupt within --cancel-timeout.",
    )
    ACCOUNT = "account", "The agent reported that it cannot answer, such as without a login."
    TOOL_NOT_PERMITTED = "tool_not_permitted", "The agent used a tool without permission."
    OUTPUT_OVERFLOW = "output_overflow", "The agent wrote too much to be followed."
    UNEXPECTED_EVENT = "unexpected_event", "The agent did something that it must not do then."
    INTERNAL_ERROR = "internal_error", "The server could not read the agent's output: a bug."

    # It has done its work.
    SINGLE_USE = "single_use", "The session answers one request only."
    CONTEXT_FULL = "context_full", "The model's context stayed full after it was cleared."
    MAX_REQUESTS = "max_requests", "The session gave --max-requests answers."
    MAX_AGE = "max_age", "The session was older than --max-age."
    MEMORY = "memory", "The session's processes used more than --memory-max."
    IDLE = "idle", "The session had no request for --idle-timeout."
    STUCK = "stuck", "The session stayed in one state for longer than all its time limits."
    VERSION_CHANGED = "version_changed", "The agent's program was replaced by another version."

    # Somebody wants it.
    OPERATOR = "operator", "An operator restarted the worker or all workers."
    DRAINED = "drained", "An operator drained the worker."
    SCALED_DOWN = "scaled_down", "The worker was not needed any more."
    RELOAD = "reload", "The server read its files again (SIGHUP)."
    LOGIN = "login", "A user logged in, and the session had started before."
    DISMISSED = "dismissed", "The successor of a session was not needed any more."
    SHUTDOWN = "shutdown", "The server stopped."


class EndReason(str):
    """
    Represent the sentence that says why a session ends, with the cause.

    Attributes:
        cause: The cause.
    """

    cause: EndCause

    def __new__(cls, cause: EndCause, sentence: str) -> Self:
        """
        Return `sentence` with its `cause`.
        """
        reason = super().__new__(cls, sentence)
        reason.cause = cause
        return reason
