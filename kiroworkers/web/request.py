"""
A request before any route sees it: its body bounded, its origin judged, its
path and method made sense of.  Whatever is refused here is refused in JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from kiroworkers.web.errors import Refusal, respond_to_refusal
from kiroworkers.web.gate import LOOPBACK
from kiroworkers.web.headers import TOLD

_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")

#: What pages of other origins may read besides `TOLD`.
_EXPOSED = (b"Idempotency-Replayed", b"Location", b"Preference-Applied", b"Retry-After")

#: Seconds that a connection may be silent while it says nothing or sends.
_SILENCE = 60


class BoundedRequest(Request):
    """
    A request whose body is read but not kept beyond `Door.max_body` bytes.
    """

    _received = 0

    @property
    def _door(self) -> Door:
        # Twisted sets `site` only when it processes the request.
        channel: Any = self.channel
        door: Door = channel.site
        return door

    def gotLength(self, length: int | None) -> None:
        # Twisted would reserve a file for a long body; one that is too long is
        # never kept, so it gets none.
        fits = length is None or length <= self._door.max_body
        super().gotLength(length if fits else 0)

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= self._door.max_body:
            super().handleContentChunk(data)

    def process(self) -> None:
        try:
            self._allow_origin()
            self._judge()
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if self.method == b"OPTIONS":
            self.setResponseCode(204)
            self.finish()
            return
        super().process()

    def _judge(self) -> None:
        if self._received > self._door.max_body:
            raise Refusal(413, "too_large", f"The body is larger than {self._door.max_body} bytes")
        if self.method not in _METHODS:
            raise Refusal(405, "wrong_method", "Nothing here takes that method")
        try:
            self.uri.decode("ascii")
            unquote_to_bytes(self.path).decode("utf-8")
        except UnicodeDecodeError:
            raise Refusal(400, "bad_path", "The path is not UTF-8") from None
        if not (self.getHeader(b"host") or b"").isascii():
            raise Refusal(400, "bad_host", "The header Host is not ASCII")

    def _refuse(self, refusal: Refusal) -> None:
        body = respond_to_refusal(self, refusal)
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def _allow_origin(self) -> None:
        origin = (self.getHeader(b"origin") or b"").decode("latin-1")
        allowed = self._door.cors_origins
        if allowed != ("*",):
            self.setHeader(b"vary", b"Origin")
        if origin and _allowed(origin, allowed):
            said = "*" if "*" in allowed else origin
            self.setHeader(b"access-control-allow-origin", said.encode("latin-1"))
            self.setHeader(
                b"access-control-expose-headers",
                b", ".join((*_EXPOSED, *TOLD)),
            )
            self.setHeader(b"access-control-allow-methods", b"GET, POST, PUT, DELETE, OPTIONS")
            self.setHeader(
                b"access-control-allow-headers",
                b"Authorization, Content-Type, Idempotency-Key, Prefer, X-Agent, X-Callback, "
                b"X-Priority, X-Request-Timeout",
            )
            self.setHeader(b"access-control-max-age", b"600")


class Door(Site):
    """
    Serves `resource`; keeps at most `max_body` bytes of a body and lets pages
    of `cors_origins` call from a browser.
    """

    requestFactory = BoundedRequest

    def __init__(self, resource: IResource, max_body: int, cors_origins: Sequence[str]) -> None:
        super().__init__(resource, timeout=_SILENCE)
        self.max_body = max_body
        self.cors_origins = tuple(cors_origins)
        self.displayTracebacks = False


def _allowed(origin: str, allowed: Sequence[str]) -> bool:
    if "*" in allowed or origin in allowed:
        return True
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        return False
    return "loopback" in allowed and host in LOOPBACK
