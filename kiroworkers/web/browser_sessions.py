"""
Keep browsers signed in: a cookie stands for a token, which no page ever sees again.

A browser that was sent a token once gets a random identifier as a cookie, and the server keeps
whose it is.  A session ends 12 hours after it began, however much it is used; when the browser
signs out; when its token is gone from the file or has changed; and when the server stops.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256
from secrets import token_urlsafe

from attrs import frozen
from twisted.web.iweb import IRequest

from kiroworkers.web.tokens import ApiToken

#: The name of the cookie.
COOKIE = b"kiroworkers_session"

#: Seconds after which a session ends.
LIFETIME = 12 * 3600

#: The sessions that one token may have; a new one ends the oldest.
MAX_PER_TOKEN = 50

#: An identifier as `token_urlsafe` makes it from 32 bytes.
_ID = re.compile(rb"[A-Za-z0-9_-]{43}")


@frozen
class _BrowserSession:
    """
    Hold which token a session stands for, and when it ends on the clock of the sessions.
    """

    token: ApiToken
    ends: float


class BrowserSessions:
    """
    Hold the sessions of all browsers.

    Args:
        now: Returns the time in seconds.
        new_id: Returns a new identifier, which nobody can guess.
    """

    def __init__(
        self, now: Callable[[], float], new_id: Callable[[], str] = lambda: token_urlsafe(32)
    ) -> None:
        self._now = now
        self._new_id = new_id
        # By the digest of the identifier: how long a search takes says nothing about one.
        self._sessions: OrderedDict[bytes, _BrowserSession] = OrderedDict()

    def __len__(self) -> int:
        """
        Return the number of sessions that are kept.
        """
        return len(self._sessions)

    def begin(self, token: ApiToken) -> str:
        """
        Begin a session of a browser that has sent `token`, and return its identifier.
        """
        now = self._now()
        # The oldest come first.
        while self._sessions and next(iter(self._sessions.values())).ends <= now:
            self._sessions.popitem(last=False)
        own = [key for key, session in self._sessions.items() if session.token.name == token.name]
        for key in own[: max(0, len(own) - MAX_PER_TOKEN + 1)]:
            del self._sessions[key]
        id = self._new_id()
        self._sessions[_digest(id)] = _BrowserSession(token, now + LIFETIME)
        return id

    def find(self, id: str, tokens: Sequence[ApiToken]) -> ApiToken | None:
        """
        Return the one of `tokens` that the session `id` stands for.

        Return None if there is no such session, or it has ended; also if the token that it began
        with is not among `tokens` any more.
        """
        key = _digest(id)
        session = self._sessions.get(key)
        if session is None:
            return None
        began_with = session.token.name, session.token.digest
        # Not the scopes: those may have changed.
        token = next((token for token in tokens if (token.name, token.digest) == began_with), None)
        if token is None or session.ends <= self._now():
            del self._sessions[key]
            return None
        return token

    def end(self, id: str) -> None:
        """
        End the session `id`, if there is one.
        """
        self._sessions.pop(_digest(id), None)


def session_id(request: IRequest) -> str | None:
    """
    Return the identifier in the cookie of `request`, or None.

    Several cookies with different identifiers count as none: another server on this host, or a page
    on a subdomain, may have set one of them.
    """
    values = _cookies(request)
    return _identifier(*values) if len(values) == 1 else None


def session_ids(request: IRequest) -> set[str]:
    """
    Return all identifiers in the cookies of `request`, which its browser forgets together.
    """
    return {id for id in map(_identifier, _cookies(request)) if id is not None}


def _cookies(request: IRequest) -> set[bytes]:
    lines = request.requestHeaders.getRawHeaders(b"cookie", [])
    pairs = (pair.partition(b"=") for line in lines for pair in line.split(b";"))
    return {value.strip() for name, _, value in pairs if name.strip() == COOKIE}


def _identifier(value: bytes) -> str | None:
    return value.decode("ascii") if _ID.fullmatch(value) else None


def _digest(id: str) -> bytes:
    return sha256(id.encode("ascii", "replace")).digest()
