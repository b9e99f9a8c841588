"""
Note when agents cannot answer, why, and until when.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define

from kiroworkers.pool.dispatcher import PoolState
from kiroworkers.web.views import milliseconds

#: The number of outages that are kept.
MAX_OUTAGES = 50

#: The states of a pool that are no outage, except those that say nothing about one.
_FINE = ("serving", "starting", "paused", "drained")

#: The state of a server that stops, which says nothing about its agents.
_UNKNOWN = "draining"

#: The state of a pool while the next request shows whether an outage is over.
_TRYING = "trying"


@define
class Outage:
    """
    Hold one outage of an agent; the times are in seconds since the epoch.

    Attributes:
        agent: The name of the agent.
        kind: The kind of the failure.
        detail: Why, in the agent's words or the server's.
        since: When it began.
        until: When it ended; None until then.
    """

    agent: str
    kind: str
    detail: str | None
    since: float
    until: float | None = None

    def end(self, now: float) -> None:
        """
        Note that it has ended, and not before it began if the clock was set back.
        """
        self.until = max(self.since, now)

    def to_json(self) -> dict[str, Any]:
        """
        Return the outage as JSON.
        """
        return {
            "agent": self.agent,
            "kind": self.kind,
            "detail": self.detail,
            "since": milliseconds(self.since),
            "until": None if self.until is None else milliseconds(self.until),
        }


class Outages:
    """
    Hold the last outages of all agents.
    """

    def __init__(self) -> None:
        self._current: dict[str, Outage] = {}
        self._last: deque[Outage] = deque(maxlen=MAX_OUTAGES)

    def update(self, agent: str, state: PoolState, now: float) -> bool:
        """
        Compare what is known with the `state` of the pool of `agent`, at `now`.

        Returns:
            Whether an outage has begun, changed or ended.
        """
        current = self._current.get(agent)
        if state.name == _UNKNOWN or (state.name == _TRYING and current is not None):
            return False
        if state.name in _FINE:
            if current is None:
                return False
            current.end(now)
            del self._current[agent]
            return True
        if current is not None and current.kind == state.name:
            changed = current.detail != state.detail
            current.detail = state.detail
            return changed
        if current is not None:
            current.end(now)
        self._current[agent] = outage = Outage(agent, state.name, state.detail, now)
        self._last.append(outage)
        return True

    def current(self, agent: str) -> Outage | None:
        """
        Return the outage of `agent`, or None if it has none.
        """
        return self._current.get(agent)

    def to_json(self) -> dict[str, Any]:
        """
        Return the last outages as JSON, oldest first.
        """
        return {"outages": [outage.to_json() for outage in self._last]}
