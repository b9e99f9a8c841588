"""
Decide what each request may do.

If the server has tokens, a request must carry one whose scopes include what it wants to
do.  Without tokens, every client that can connect may use and watch the server.  To
operate it, a request must also come directly from this machine: to one of the machine's
own names, not from a page of another origin, and not through a proxy that identifies itself
as one.  A proxy that does not cannot be told apart from a local client, so a server behind
a proxy needs tokens.

A browser that has exchanged a token for a session (see `browser_sessions`) sends a cookie instead.
Browsers also add it to requests that other pages make, so a request that may change something, and
one that opens a WebSocket, must then come from one of this server's own pages.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.web.addresses import LOOPBACK, host_of, hostname_of, is_local, rate_key
from kiroworkers.web.browser_sessions import BrowserSessions, session_id, session_ids
from kiroworkers.web.errors import HttpError
from kiroworkers.web.origins import comes_from_own_page
from kiroworkers.web.proxies import NO_PROXIES, TrustedProxies
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.tokens import GRANTED_BY, ApiToken, Scope, find_token

#: Headers that proxies add.
_PROXY_HEADERS = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")

#: The files of the page, and the part of a request that each counts as: a browser asks for dozens
#: at once, and none costs more than the bytes that are sent.
_ASSETS, _ASSET_WEIGHT = b"/assets/", 0.1

#: Methods that only read.
_READ_METHODS = (b"GET", b"HEAD")


class Authorizer:
    """
    Authorize requests by their token, or by where they come from.

    Attributes:
        tokens: The tokens that are accepted.  If empty, no request needs a token.
        sessions: The browsers that are signed in.
        proxies: The proxies that are believed about the address that a browser shows.

    Args:
        rate_limiter: Limits how often each client may send requests, and how often an
            address may send wrong tokens.  None for no limit.  Reading (the health, a
            job, the models) is not counted, because a client that waits for a job
            polls it.
        anonymous_limiter: Limits how often each address may send requests without a valid
            token, if the server has tokens.  None for no limit.
        sessions: As above.
        proxies: As above.
    """

    def __init__(
        self,
        tokens: Sequence[ApiToken] = (),
        rate_limiter: RateLimiter | None = None,
        anonymous_limiter: RateLimiter | None = None,
        sessions: BrowserSessions | None = None,
        proxies: TrustedProxies = NO_PROXIES,
    ) -> None:
        self.tokens = tuple(tokens)
        self.sessions = sessions or BrowserSessions(time.monotonic)
        self.proxies = proxies
        self._rate_limiter = rate_limiter
        self._anonymous_limiter = anonymous_limiter

    def admit(self, request: IRequest) -> None:
        """
        Note in the record of `request` whose token it has, or count it as anonymous.

        Call it before anything else is done for the request.

        Raises:
            HttpError: The address sends too many requests without a valid token.
        """
        if not self.tokens:
            return
        token = self.token_of(request)
        if token is not None:
            record_of(request).user = token.name
        else:
            self._count_anonymous(request)

    def token_of(self, request: IRequest) -> ApiToken | None:
        """
        Return the token that `request` carries or has a session of, or None.

        A token in the request decides, also if it is wrong.
        """
        text = _token_text(request)
        if text is not None:
            return find_token(text, self.tokens)
        id = session_id(request) if self.tokens else None
        return None if id is None else self.sessions.find(id, self.tokens)

    def allows(self, request: IRequest, scope: Scope) -> bool:
        """
        Return whether a `request` that was authorized before may still do what `scope` allows.

        It does not count towards a rate.
        """
        if not self.tokens:
            return scope != "operate" or self.is_operator(request)
        token = self.token_of(request)
        return token is not None and token.allows(scope)

    def sign_in(self, request: IRequest, text: str) -> str:
        """
        Begin a session of the browser that has sent the token `text`, and return its identifier.

        The session that it had is ended.

        Raises:
            HttpError: The token is unknown, or was sent by another page; or the client sends too
                many wrong ones.
        """
        self.require_own_page(request)
        token = find_token(text, self.tokens)
        if token is None:
            signed_in = self.token_of(request) is not None
            self._count(rate_key(host_of(request.getClientAddress())))
            if signed_in:
                # Otherwise it was counted when it arrived.
                self._count_anonymous(request)
            raise HttpError(ErrorCode.WRONG_TOKEN, "Unknown token")
        self.end_session(request)
        record_of(request).user = token.name
        return self.sessions.begin(token)

    def end_session(self, request: IRequest) -> None:
        """
        End the sessions that `request` has cookies of: one at most, if nobody interferes.
        """
        for id in session_ids(request):
            self.sessions.end(id)

    def require_own_page(self, request: IRequest) -> None:
        """
        Check that `request` does not come from a page of another origin.

        Raises:
            HttpError: It does.
        """
        headers = request.requestHeaders
        said = headers.hasHeader(b"origin") or headers.hasHeader(b"sec-fetch-site")
        if said and not comes_from_own_page(request, self.proxies):
            raise _wrong_origin()

    def authorize(self, request: IRequest, scope: Scope, *, counted: bool = True) -> str:
        """
        Return the client that sent `request`, if it may do what `scope` allows.

        The client is identified by the name of its token, or else by its address, as
        `rate_key` returns it.  The request counts towards the client's rate.

        Args:
            request: The request to authorize.
            scope: The scope that the request needs.
            counted: Whether the request counts; `count` may count it later.

        Raises:
            HttpError: The request is not allowed, or the client sends too many requests.
        """
        host = host_of(request.getClientAddress())
        if self.tokens:
            try:
                client = self._authenticate(request, scope).name
            except HttpError:
                self._count(rate_key(host))
                raise
        else:
            if scope == "operate":
                _require_direct_local(request, host)
            client = rate_key(host)
        record_of(request).client = client
        if counted and scope != "watch" and request.method not in _READ_METHODS:
            self.count(client)
        return client

    def count(self, client: str) -> None:
        """
        Count a request towards the rate of the `client` that `authorize` returned for it.

        Raises:
            HttpError: The client sends too many requests.
        """
        self._count(f"token {client}" if self.tokens else client)

    def is_operator(self, request: IRequest) -> bool:
        """
        Return whether an authorized `request` also has an operator's rights.
        """
        try:
            self.require_operator(request)
        except HttpError:
            return False
        return True

    def require_operator(self, request: IRequest) -> None:
        """
        Check that an authorized `request` also has an operator's rights.

        This does not count towards the client's rate a second time.

        Raises:
            HttpError: The request has only the rights of an ordinary client.
        """
        if self.tokens:
            self._authenticate(request, "operate")
        else:
            _require_direct_local(request, host_of(request.getClientAddress()))

    def _count_anonymous(self, request: IRequest) -> None:
        if self._anonymous_limiter is not None:
            # A request that is rejected while it is received has no path yet.
            weight = _ASSET_WEIGHT if (request.path or b"").startswith(_ASSETS) else 1.0
            key = rate_key(host_of(request.getClientAddress()))
            _take(self._anonymous_limiter, key, weight)

    def _count(self, key: str) -> None:
        if self._rate_limiter is not None:
            _take(self._rate_limiter, key)

    def _authenticate(self, request: IRequest, scope: Scope) -> ApiToken:
        token = self.token_of(request)
        if token is None and _token_text(request) is None:
            raise HttpError(
                ErrorCode.NO_TOKEN,
                "Send a token in the header Authorization: Bearer … or x-api-key: …"
                if session_id(request) is None
                else "The session has ended: sign in again at /",
                {"WWW-Authenticate": "Bearer"},
            )
        if token is None:
            raise HttpError(
                ErrorCode.WRONG_TOKEN,
                "Unknown token",
                {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if (
            _token_text(request) is None
            and _may_change_something(request)
            and not comes_from_own_page(request, self.proxies)
        ):
            raise _wrong_origin()
        if not token.allows(scope):
            names = " or ".join(map(repr, GRANTED_BY[scope]))
            raise HttpError(
                ErrorCode.WRONG_SCOPE, f"The token {token.name!r} does not have the scope {names}"
            )
        return token


def _token_text(request: IRequest) -> str | None:
    """
    Return the text of the token that `request` carries, or None.

    It is in ``Authorization: Bearer``, or else in ``x-api-key``, which clients of Anthropic's API
    send.
    """
    scheme, _, text = (request.getHeader(b"authorization") or b"").partition(b" ")
    if scheme.lower() != b"bearer" or not text.strip():
        text = request.getHeader(b"x-api-key") or b""
    return text.strip().decode("utf-8", "surrogateescape") or None


def _may_change_something(request: IRequest) -> bool:
    """
    Return whether a page of another origin must not send `request` in a user's name.

    A WebSocket begins with a GET, and any page can read what comes through it.
    """
    return request.method not in _READ_METHODS or request.requestHeaders.hasHeader(b"upgrade")


def _wrong_origin() -> HttpError:
    return HttpError(
        ErrorCode.WRONG_ORIGIN,
        "A request with a session's cookie must come from a page of this server, with its scheme, "
        "host and port (behind a proxy, name the proxy with --trusted-proxy)",
    )


def _take(limiter: RateLimiter, key: str, weight: float = 1.0) -> None:
    """
    Count a request under `key`, as this part of a usual one.

    Raises:
        HttpError: There were too many.
    """
    wait = limiter.take(key, weight)
    if wait:
        raise HttpError(
            ErrorCode.RATE_LIMITED,
            f"Too many requests, try again in {wait} s",
            retry_after=wait,
        )


def _require_direct_local(request: IRequest, client: str) -> None:
    """
    Check that `request` comes directly from this machine.

    Raises:
        HttpError: The request may come from somewhere else.
    """
    host = (request.getHeader(b"host") or b"").decode("latin-1")
    origin = (request.getHeader(b"origin") or b"").decode("latin-1")
    if client != "unix" and not (is_local(client) and hostname_of(host) in LOOPBACK):
        reason = "this one does not come from this machine"
    elif origin and origin.partition("://")[2] != host:
        reason = "this one comes from a page of another origin"
    elif any(request.getHeader(name) is not None for name in _PROXY_HEADERS):
        reason = "this one comes through a proxy"
    else:
        return
    raise HttpError(
        ErrorCode.OPERATORS_ONLY,
        "Operator requests need a token (see --token-file) unless they come directly from this "
        f"machine: {reason}",
    )
