"""
Define what observes a session: its states, and the bytes that it exchanges with the agent.
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from kiroworkers.request_record import RequestRecord
from kiroworkers.session.state import SessionState


@frozen
class SessionInfo:
    """
    Hold what is known about a session before it starts.

    Attributes:
        worker: The name of the worker.
        agent: The name of the agent.
        window: The rows and the columns of the terminal; None if the agent has pipes.
        environment: The names and values of the agent's environment.
    """

    worker: str
    agent: str
    window: tuple[int, int] | None
    environment: tuple[tuple[str, str], ...] = ()


class SessionObserver(Protocol):
    """
    Define what observes one session.

    The methods are called in the event loop, some of them for each piece of output, so they
    must be quick.
    """

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        Take note that the session has entered the state `new`.

        Args:
            old: The state before.
            new: The state now.
            reason: Why the session ends; empty for other changes.
        """

    def output(self, data: bytes) -> None:
        """
        Take note of what the agent has printed: to its terminal, or to its standard output.
        """

    def stderr(self, data: bytes) -> None:
        """
        Take note of what an agent without a terminal has printed to its standard error.
        """

    def typed(self, data: bytes) -> None:
        """
        Take note of what was typed into the agent, or sent to its standard input.
        """

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Take note that a prompt is about to be typed.

        Args:
            record: The request that it belongs to; None for a question of the server's own.
            prompt: The text.
        """

    def replied(self, text: str) -> None:
        """
        Take note of the agent's reply to the last prompt.
        """
