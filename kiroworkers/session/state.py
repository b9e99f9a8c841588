"""
Define the states of a session.
"""

from __future__ import annotations

from enum import Enum


class SessionState(Enum):
    """
    Represent the state of a session; `/health` shows the values.

    In `BUSY`, a caller waits for the agent; in `ANSWERED`, the agent waits for the caller.
    """

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ANSWERED = "answered"
    CLEARING = "clearing"
    INTERRUPTING = "interrupting"
    SETTLING = "settling"
    STOPPING = "stopping"
    GONE = "gone"
