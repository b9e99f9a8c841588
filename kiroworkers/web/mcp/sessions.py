"""
Keep the sessions of clients that begin with a handshake.

A session has what was agreed on, and the calls that are in progress, so that its client can cancel
one of them.  A client has a limited number of sessions, and so have all clients together: a new one
then ends the one that was not used for the longest time.  A session also ends when it was not used
for a day, and when the server stops.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from kiroworkers.mcp.jsonrpc import RequestId

#: Seconds without a message after which a session ends.
LIFETIME = 24 * 3600

#: The sessions that one client may have, and all clients together.
MAX_PER_CLIENT, MAX_SESSIONS = 1000, 10_000


@define(eq=False)
class CallInProgress:
    """
    Hold a call that a client may cancel.

    Attributes:
        running: The handling of the call.
        cancelled: Whether the client has cancelled it.
    """

    running: Deferred[Mapping[str, Any]]
    cancelled: bool = False

    def cancel(self) -> None:
        """
        Cancel the call, as its client asks for.
        """
        self.cancelled = True
        self.running.cancel()


@define(eq=False)
class Session:
    """
    Hold what a client and the server have agreed on.

    Attributes:
        client: The client, as `Authorizer.authorize` returns it.
        revision: The revision of MCP.
        ends: When the session ends unless it is used, on the clock of the sessions.
        calls: The calls in progress.
    """

    client: str
    revision: str
    ends: float
    calls: dict[RequestId, CallInProgress] = field(factory=dict)


class Sessions:
    """
    Hold the sessions of all clients.

    Args:
        now: Returns the time in seconds.
        new_id: Returns a new identifier, which nobody can guess.
    """

    def __init__(
        self, now: Callable[[], float], new_id: Callable[[], str] = lambda: token_urlsafe(32)
    ) -> None:
        self._now = now
        self._new_id = new_id
        # By the digest of the identifier: how long a search takes says nothing about one.  Those
        # that were not used for the longest time come first.
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """
        Return the number of sessions that are kept.
        """
        return len(self._sessions)

    def begin(self, client: str, revision: str) -> str:
        """
        Begin a session of `client`, and return its identifier.

        The capabilities of the client are not kept, because the server asks nothing of it.
        """
        now = self._now()
        while self._sessions and next(iter(self._sessions.values())).ends <= now:
            self._remove(next(iter(self._sessions)))
        if self._counts.get(client, 0) >= MAX_PER_CLIENT:
            own = (key for key, session in self._sessions.items() if session.client == client)
            self._remove(next(own))
        elif len(self._sessions) >= MAX_SESSIONS:
            self._remove(next(iter(self._sessions)))
        id = self._new_id()
        self._sessions[_digest(id)] = Session(client, revision, now + LIFETIME)
        self._counts[client] = self._counts.get(client, 0) + 1
        return id

    def find(self, id: str, client: str) -> Session | None:
        """
        Return the session `id` of `client`, which is used now, or None if there is none (any more).
        """
        key = _digest(id)
        session = self._sessions.get(key)
        if session is None or session.client != client:
            return None
        now = self._now()
        if session.ends <= now:
            self._remove(key)
            return None
        session.ends = now + LIFETIME
        self._sessions.move_to_end(key)
        return session

    def end(self, id: str, client: str) -> bool:
        """
        End the session `id` of `client`, and return whether there was one.

        The calls that are in progress go on: their connections are still open.
        """
        found = self.find(id, client) is not None
        if found:
            self._remove(_digest(id))
        return found

    def _remove(self, key: bytes) -> None:
        client = self._sessions.pop(key).client
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]


def _digest(id: str) -> bytes:
    return sha256(id.encode("utf-8", "replace")).digest()
