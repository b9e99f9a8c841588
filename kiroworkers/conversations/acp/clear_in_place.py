"""
Clear a session of Kiro's engine v2 in a millisecond, without opening another session.

Late output of a turn cannot be told apart from output of the next turn in the same session.
Therefore a session is cleared only after a turn whose end is certain, and never again once
the agent has sent late output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.conversations.acp.session_setup import AcpSession


class ClearInPlace:
    """
    Decide when a session may be cleared, and whether it was.

    Args:
        supported: Whether the agent is known to have the command.
    """

    def __init__(self, supported: bool) -> None:
        self._trusted = supported
        self._turn_is_over = True
        self._told = False

    def is_possible(self, session: AcpSession) -> bool:
        """
        Return whether `session` can be cleared after a turn whose end is certain.
        """
        # Engine v3, which has options, has no such command.
        return self._trusted and not session.options

    def is_safe(self, session: AcpSession) -> bool:
        """
        Return whether `session` can be cleared now, after its last turn.
        """
        return self.is_possible(session) and self._turn_is_over

    def distrust(self) -> None:
        """
        Never clear a session again: the agent sends output late, or cannot clear.
        """
        self._trusted = False

    def begin_session(self) -> None:
        """
        Note that a new session is used, which has had no turn.
        """
        self._turn_is_over = True

    def begin_turn(self) -> None:
        """
        Note that a turn begins.
        """
        self._turn_is_over = False

    def end_turn(self) -> None:
        """
        Note that the turn has certainly ended.
        """
        self._turn_is_over = True

    def request(self, session: AcpSession) -> tuple[str, Mapping[str, Any]]:
        """
        Return the method and the parameters of the request that clears `session`.
        """
        self._told = False
        # The program exits if the command is a string.
        command = {"command": "clear", "args": {}}
        return "_kiro.dev/commands/execute", {"sessionId": session.id, "command": command}

    def note_told(self) -> None:
        """
        Note that the agent has reported a clear in a notification.
        """
        self._told = True

    def is_proven(self, result: Mapping[str, Any], error: Mapping[str, Any] | None) -> bool:
        """
        Return whether the response to the request proves the clear.

        Output that has come in the meantime disproves it.
        """
        if error is not None or not self._trusted or result.get("success") is not True:
            return False
        message = result.get("message")
        return self._told or (isinstance(message, str) and "cleared" in message.lower())
