"""
Who may do what.

With tokens, a request bears one that is good for what it wants.  Without, whoever
reaches the port by a name of this machine may ask and watch; to operate, it must
also come from this machine, from no page of another origin and through no proxy
that says what it is.  One that does not cannot be told from a local client: a
proxy needs tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from twisted.internet.address import UNIXAddress
from twisted.web.iweb import IRequest

from kiroworkers.web.errors import Refusal
from kiroworkers.web.tokens import Bearer, bearer_of

#: Names of this machine.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

#: What proxies add.
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


class Gate:
    """
    Lets requests in.

    @ivar bearers: who has tokens; none at all means that none are needed.
    @param any_host: may those without tokens use any name of the server?
    """

    def __init__(self, bearers: Sequence[Bearer] = (), any_host: bool = False) -> None:
        self.bearers = tuple(bearers)
        self._any_host = any_host

    def admit(self, request: IRequest, scope: str) -> str:
        """
        Let `request` do what `scope` stands for; whose share of the pool it uses.

        @raise Refusal: when it may not.
        """
        address = request.getClientAddress()
        host = "unix" if isinstance(address, UNIXAddress) else str(getattr(address, "host", ""))
        if not self.bearers:
            if scope == "operate":
                _refuse_strangers(request, host)
            elif not self._any_host:
                _refuse_foreign(request, host)
            return host
        kind, _, token = (request.getHeader(b"authorization") or b"").partition(b" ")
        if kind.lower() != b"bearer" or not token.strip():
            raise Refusal(
                401,
                "no_token",
                "Send a token, with the header Authorization: Bearer …",
                {"WWW-Authenticate": "Bearer"},
            )
        bearer = bearer_of(token.strip().decode("utf-8", "surrogateescape"), self.bearers)
        if bearer is None:
            raise Refusal(
                401,
                "wrong_token",
                "Nobody has this token",
                {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if not bearer.may(scope):
            raise Refusal(403, "wrong_scope", f"The token of {bearer.name} may not {scope}")
        return bearer.name


def _refuse_foreign(request: IRequest, client: str) -> None:
    """
    A page of another site may have been led here by a name of its own.

    @raise Refusal: when `request` is for a host that is not this machine.
    """
    host = (request.getHeader(b"host") or b"").decode("latin-1")
    if client != "unix" and host and not _names_this_machine(f"//{host}"):
        raise Refusal(
            403,
            "wrong_host",
            "Without tokens, this server answers to names of its own machine only, such as "
            "127.0.0.1 (see --token-file and --insecure)",
        )


def _refuse_strangers(request: IRequest, client: str) -> None:
    """
    @raise Refusal: when `request` may not be of somebody on this machine.
    """
    host = (request.getHeader(b"host") or b"").decode("latin-1")
    origin = (request.getHeader(b"origin") or b"").decode("latin-1")
    address = f"//[{client}]" if ":" in client else f"//{client}"
    if client != "unix" and not (_names_this_machine(address) and _names_this_machine(f"//{host}")):
        why = "it does not come from this machine"
    elif origin and origin.partition("://")[2] != host:
        why = "it comes from another origin's page"
    elif any(request.getHeader(name) is not None for name in _FORWARDED):
        why = "it comes through a proxy"
    else:
        return
    raise Refusal(403, "operators_only", f"To operate, this needs a token (--token-file): {why}")


def _names_this_machine(url: str) -> bool:
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False
