"""
Sign browsers in and out: exchange a token for a session's cookie.
"""

from __future__ import annotations

from typing import Any

from twisted.web.iweb import IRequest

from kiroworkers.errors import InvalidInput
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.body import json_body
from kiroworkers.web.browser_sessions import COOKIE, LIFETIME
from kiroworkers.web.errors import respond
from kiroworkers.web.origins import own_origin
from kiroworkers.web.tokens import SCOPES

#: The longest token that is looked at, in characters.
_MAX_LENGTH = 1000


class SessionHandler:
    """
    Answer the requests for ``/session``.

    Args:
        authorizer: Knows the tokens and the sessions.
    """

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def show(self, request: IRequest) -> bytes:
        """
        Respond with whether a token is needed, and whose rights the request has.
        """
        return respond(request, 200, self._rights(request))

    def sign_in(self, request: IRequest) -> bytes:
        """
        Exchange the token in the body for a session's cookie.

        Raises:
            HttpError: The token is unknown, or comes from another page.
            InvalidInput: There is no token in the body, or the server has none.
        """
        if not self._authorizer.tokens:
            raise InvalidInput("token", "this server has no tokens (--token-file): nobody signs in")
        body = json_body(request)
        text = body.get("token") if isinstance(body, dict) else None
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_LENGTH:
            raise InvalidInput("token", f"token must be a text of 1 to {_MAX_LENGTH} characters")
        id = self._authorizer.sign_in(request, text.strip())
        self._set_cookie(request, id.encode(), LIFETIME)
        # What the session allows, not an Authorization header that the request has as well.
        token = self._authorizer.sessions.find(id, self._authorizer.tokens)
        assert token is not None, "the session has just begun"
        return respond(request, 200, _rights_of(token.name, token.scopes))

    def sign_out(self, request: IRequest) -> bytes:
        """
        End the session, and remove its cookie.

        Raises:
            HttpError: The request comes from another page.
        """
        self._authorizer.require_own_page(request)
        self._authorizer.end_session(request)
        self._set_cookie(request, b"", 0)
        request.setResponseCode(204)
        return b""

    def _rights(self, request: IRequest) -> dict[str, Any]:
        if not self._authorizer.tokens:
            operator = self._authorizer.is_operator(request)
            scopes = SCOPES if operator else SCOPES[:2]
            return {**_rights_of(None, frozenset(scopes)), "needsToken": False, "signedIn": False}
        token = self._authorizer.token_of(request)
        if token is None:
            return {**_rights_of(None, frozenset()), "signedIn": False}
        return _rights_of(token.name, token.scopes)

    def _set_cookie(self, request: Any, value: bytes, seconds: int) -> None:
        # The type of `request`: `IRequest` does not have the last two options.
        request.addCookie(
            COOKIE,
            value,
            path=b"/",
            max_age=b"%d" % seconds,
            secure=own_origin(request, self._authorizer.proxies).startswith("https:"),
            httpOnly=True,
            sameSite=b"Strict",
        )


def _rights_of(name: str | None, scopes: frozenset[str]) -> dict[str, Any]:
    return {
        "needsToken": True,
        "signedIn": True,
        "name": name,
        "scopes": [scope for scope in SCOPES if scope in scopes],
        "operator": "operate" in scopes,
    }
