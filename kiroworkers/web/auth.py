"""
Who may do what.

With tokens, a request bears one that is good for what it wants.  Without, whoever
the door lets in may ask and watch; to operate, it must also come from this
machine, to a name of it, from no page of another origin and through no proxy
that says what it is.  One that does not cannot be told from a local client: a
proxy needs tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.web.iweb import IRequest

from kiroworkers.web.addresses import LOOPBACK, host_of, is_local, name_in, rate_key
from kiroworkers.web.errors import HttpError
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.tokens import ApiToken, find_token

#: What proxies add.
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")

#: Methods that only read.
_READING = (b"GET", b"HEAD")


class Authorizer:
    """
    Lets requests in.

    Attributes:
        tokens: who has tokens; none at all means that none are needed.

    Args:
        rates: how often a client may be let in, and a stranger may try; None
            for any number.  Who only watches, or reads what there is (a job, the models),
            is not counted: whoever waits for a job looks again and again.
    """

    def __init__(self, tokens: Sequence[ApiToken] = (), rates: RateLimiter | None = None) -> None:
        self.tokens = tuple(tokens)
        self._rates = rates

    def authorize(self, request: IRequest, scope: str) -> str:
        """
        Let `request` do what `scope` stands for; whose share of the pool it uses.

        Raises:
            HttpError: when it may not.
        """
        host = host_of(request.getClientAddress())
        if self.tokens:
            try:
                client = self._token(request, scope).name
            except HttpError:
                self._count(rate_key(host))
                raise
            counted = f"token {client}"
        else:
            if scope == "operate":
                _refuse_strangers(request, host)
            client, counted = host, rate_key(host)
        if scope != "watch" and request.method not in _READING:
            self._count(counted)
        return client

    def is_operator(self, request: IRequest) -> bool:
        """
        May `request`, which was let in, do what operators may, too?
        """
        try:
            self.require_operator(request)
        except HttpError:
            return False
        return True

    def require_operator(self, request: IRequest) -> None:
        """
        Let `request`, which was let in, do what operators may, too.  It counts once.

        Raises:
            HttpError: when it may not.
        """
        if self.tokens:
            self._token(request, "operate")
        else:
            _refuse_strangers(request, host_of(request.getClientAddress()))

    def _count(self, client: str) -> None:
        wait = self._rates.take(client) if self._rates is not None else 0
        if wait:
            raise HttpError(
                429, "rate_limited", f"Too many requests, try again in {wait} s", retry_after=wait
            )

    def _token(self, request: IRequest, scope: str) -> ApiToken:
        kind, _, token = (request.getHeader(b"authorization") or b"").partition(b" ")
        if kind.lower() != b"bearer" or not token.strip():
            raise HttpError(
                401,
                "no_token",
                "Send a token, with the header Authorization: Bearer …",
                {"WWW-Authenticate": "Bearer"},
            )
        bearer = find_token(token.strip().decode("utf-8", "surrogateescape"), self.tokens)
        if bearer is None:
            raise HttpError(
                401,
                "wrong_token",
                "Nobody has this token",
                {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if not bearer.may(scope):
            raise HttpError(403, "wrong_scope", f"The token of {bearer.name} may not {scope}")
        return bearer


def _refuse_strangers(request: IRequest, client: str) -> None:
    """
    Raises:
        HttpError: when `request` may not be of somebody on this machine.
    """
    host = (request.getHeader(b"host") or b"").decode("latin-1")
    origin = (request.getHeader(b"origin") or b"").decode("latin-1")
    if client != "unix" and not (is_local(client) and name_in(host) in LOOPBACK):
        why = "it does not come from this machine"
    elif origin and origin.partition("://")[2] != host:
        why = "it comes from another origin's page"
    elif any(request.getHeader(name) is not None for name in _FORWARDED):
        why = "it comes through a proxy"
    else:
        return
    raise HttpError(403, "operators_only", f"To operate, this needs a token (--token-file): {why}")
