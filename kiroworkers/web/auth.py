"""
Decide what each request may do.

If the server has tokens, a request must carry one whose scopes include what it wants to
do.  Without tokens, every client that can connect may use and watch the server.  To
operate it, a request must also come directly from this machine: to one of the machine's
own names, not from a page of another origin, and not through a proxy that identifies itself
as one.  A proxy that does not cannot be told apart from a local client, so a server behind
a proxy needs tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.web.addresses import LOOPBACK, host_of, hostname_of, is_local, rate_key
from kiroworkers.web.errors import HttpError
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.tokens import GRANTED_BY, ApiToken, Scope, find_token

#: Headers that proxies add.
_PROXY_HEADERS = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")

#: Methods that only read.
_READ_METHODS = (b"GET", b"HEAD")


class Authorizer:
    """
    Authorize requests by their token, or by where they come from.

    Attributes:
        tokens: The tokens that are accepted.  If empty, no request needs a token.

    Args:
        rate_limiter: Limits how often each client may send requests, and how often an
            address may send wrong tokens.  None for no limit.  Reading (the health, a
            job, the models) is not counted, because a client that waits for a job
            polls it.
        anonymous_limiter: Limits how often each address may send requests without a valid
            token, if the server has tokens.  None for no limit.
    """

    def __init__(
        self,
        tokens: Sequence[ApiToken] = (),
        rate_limiter: RateLimiter | None = None,
        anonymous_limiter: RateLimiter | None = None,
    ) -> None:
        self.tokens = tuple(tokens)
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
        token = _token(request, self.tokens)
        if token is not None:
            record_of(request).user = token.name
        elif self._anonymous_limiter is not None:
            _take(self._anonymous_limiter, rate_key(host_of(request.getClientAddress())))

    def authorize(self, request: IRequest, scope: Scope) -> str:
        """
        Return the client that sent `request`, if it may do what `scope` allows.

        The client is identified by the name of its token, or else by its address, as
        `rate_key` returns it.  The request counts towards the client's rate.

        Args:
            request: The request to authorize.
            scope: The scope that the request needs.

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
            key = f"token {client}"
        else:
            if scope == "operate":
                _require_direct_local(request, host)
            client = key = rate_key(host)
        if scope != "watch" and request.method not in _READ_METHODS:
            self._count(key)
        return client

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

    def _count(self, key: str) -> None:
        if self._rate_limiter is not None:
            _take(self._rate_limiter, key)

    def _authenticate(self, request: IRequest, scope: Scope) -> ApiToken:
        if _bearer(request) is None:
            raise HttpError(
                ErrorCode.NO_TOKEN,
                "Send a token in the header Authorization: Bearer …",
                {"WWW-Authenticate": "Bearer"},
            )
        token = _token(request, self.tokens)
        if token is None:
            raise HttpError(
                ErrorCode.WRONG_TOKEN,
                "Unknown token",
                {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if not token.allows(scope):
            names = " or ".join(map(repr, GRANTED_BY[scope]))
            raise HttpError(
                ErrorCode.WRONG_SCOPE, f"The token {token.name!r} does not have the scope {names}"
            )
        return token


def _bearer(request: IRequest) -> str | None:
    """
    Return the text of the token that `request` carries, or None.
    """
    scheme, _, text = (request.getHeader(b"authorization") or b"").partition(b" ")
    if scheme.lower() != b"bearer" or not text.strip():
        return None
    return text.strip().decode("utf-8", "surrogateescape")


def _token(request: IRequest, tokens: Sequence[ApiToken]) -> ApiToken | None:
    """
    Return the entry of `tokens` for the token that `request` carries, or None.
    """
    text = _bearer(request)
    return None if text is None else find_token(text, tokens)


def _take(limiter: RateLimiter, key: str) -> None:
    """
    Count a request under `key`.

    Raises:
        HttpError: There were too many.
    """
    wait = limiter.take(key)
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
