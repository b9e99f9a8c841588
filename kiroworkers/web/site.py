"""
A request before any route sees it: its body bounded, its host and its origin
judged, its path and method made sense of.  Whatever is refused here is refused
in JSON.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.web import http
from twisted.web.iweb import IAccessLogFormatter
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import provider

from kiroworkers.web.addresses import LOOPBACK, host_of, name_in
from kiroworkers.web.channel import Channel
from kiroworkers.web.errors import HttpError, respond_to_http_error
from kiroworkers.web.headers import SECURITY_HEADERS, allows_origin, cors_headers

#: Others are no methods, or only look like one to the router.
_METHOD = re.compile(rb"[A-Z]+")

#: Those that change nothing and cost nothing.
_HARMLESS = (b"GET", b"HEAD", b"OPTIONS")

#: Seconds that a connection may be silent between requests.
_SILENCE = 60

#: Seconds in which a response is given to the kernel.
_LOGGED_AFTER = 0.01


@frozen
class RequestLimits:
    """
    What the door lets in.

    Attributes:
        max_body: bytes of a body.
        receive_timeout: seconds from a request's first byte to its last.
        cors_origins: whose pages may call from a browser.
        hosts: what else the server is called, besides the names of this machine
            and the address that was reached.
        any_host: does it answer to any name?
    """

    max_body: int
    receive_timeout: float
    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    any_host: bool = False


class BoundedRequest(Request):
    """
    A request whose body ends where it is longer than the rules allow.
    """

    _received = 0

    @property
    def _door(self) -> ApiSite:
        # Twisted sets `site` only when it processes the request.
        channel: Any = self.channel
        door: ApiSite = channel.site
        return door

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= self._door.rules.max_body:
            super().handleContentChunk(data)
        else:
            channel: Any = self.channel
            channel.refuse_body()

    def process(self) -> None:
        try:
            self._tell_browser()
            self._judge()
            self._judge_host()
            self._judge_origin()
        except HttpError as refusal:
            self._refuse(refusal)
            return
        if self.method == b"OPTIONS":
            self.setResponseCode(204)
            self.finish()
            return
        super().process()

    def _judge(self) -> None:
        if not _METHOD.fullmatch(self.method):
            raise HttpError(405, "wrong_method", "Nothing here takes that method")
        try:
            self.uri.decode("ascii")
            unquote_to_bytes(self.path).decode("utf-8")
        except UnicodeDecodeError:
            raise HttpError(400, "bad_path", "The path is not UTF-8") from None
        if not self.path.startswith(b"/") and (self.method, self.path) != (b"OPTIONS", b"*"):
            raise HttpError(400, "bad_path", "The path does not begin with /")

    def _judge_host(self) -> None:
        """
        A page of another site may have been led here by a name of its own.
        """
        said = self.requestHeaders.getRawHeaders(b"host", [])
        if len(said) > 1 or (not said and self.clientproto == b"HTTP/1.1"):
            raise HttpError(400, "bad_host", "Send one header Host")
        if not all(each.isascii() for each in said):
            raise HttpError(400, "bad_host", "The header Host is not ASCII")
        rules = self._door.rules
        # No browser reaches a socket in the file system; a proxy may, for one.
        private = host_of(self.getClientAddress()) == "unix"
        if rules.any_host or (private and not rules.hosts):
            return
        name = name_in("".join(each.decode("ascii") for each in said))
        if name not in {*LOOPBACK, *rules.hosts, host_of(self.getHost())}:
            raise HttpError(
                403,
                "wrong_host",
                "This server does not answer to this name in the header Host "
                "(see --allow-host; with --token-file any will do)",
            )

    def _judge_origin(self) -> None:
        """
        A page may not spend or change anything behind its reader's back.
        """
        origin = self._origin()
        if self.method in _HARMLESS or not origin:
            return
        # A page of this server's own is no stranger; its host was judged before.
        own = origin.partition("://")[2] == (self.getHeader(b"host") or b"").decode("latin-1")
        if not own and not allows_origin(origin, self._door.rules.cors_origins):
            raise HttpError(
                403, "wrong_origin", "Pages of this origin may not ask (see --cors-origin)"
            )

    def _origin(self) -> str:
        return (self.getHeader(b"origin") or b"").decode("latin-1")

    def _refuse(self, refusal: HttpError) -> None:
        body = respond_to_http_error(self, refusal)
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def _tell_browser(self) -> None:
        headers = cors_headers(self._origin(), self._door.rules.cors_origins)
        for name, value in {**SECURITY_HEADERS, **headers}.items():
            self.setHeader(name, value)


class ApiSite(Site):
    """
    Serves `resource` by the `rules`.
    """

    # Twisted's own chooses between versions of HTTP, and this is the one that we speak.
    protocol: Any = Channel
    requestFactory = BoundedRequest

    def __init__(self, clock: IReactorTime, resource: IResource, rules: RequestLimits) -> None:
        super().__init__(resource, timeout=_SILENCE, logFormatter=log_line, reactor=clock)
        self.rules = rules
        self.displayTracebacks = False
        # Nothing here takes a form, and a large one takes long to read.
        self._parsePOSTFormSubmission = False
        self._clock = clock
        self._unlogged: list[http.Request] = []

    def log(self, request: http.Request) -> None:
        """
        Log that `request` was answered, when its response is on its way: writing a line
        takes a fifth of the time that passes between an answer and its client.
        """
        if not self._unlogged:
            self._clock.callLater(_LOGGED_AFTER, self._log_all)
        self._unlogged.append(request)

    def _log_all(self) -> None:
        requests, self._unlogged = self._unlogged, []
        for each in requests:
            super().log(each)

    def stopFactory(self) -> None:
        self._log_all()
        super().stopFactory()

    def getResourceFor(self, request: Request) -> IResource:
        # Twisted has just said its own name and version.
        request.setHeader(b"Server", SECURITY_HEADERS[b"Server"])
        resource: IResource = super().getResourceFor(request)
        return resource


@provider(IAccessLogFormatter)
def log_line(timestamp: str, request: Any) -> str:
    """
    A line of the log in the combined format, without what clients may have put
    into the queries of URLs.
    """
    referrer = (request.getHeader(b"referer") or b"-").partition(b"?")[0]
    agent = request.getHeader(b"user-agent") or b"-"
    said = b" ".join((request.method, request.path, request.clientproto))
    return (
        f'"{host_of(request.getClientAddress())}" - - {timestamp} "{_plain(said)}" '
        f'{request.code} {request.sentLength or "-"} "{_plain(referrer)}" "{_plain(agent)}"'
    )


def _plain(said: bytes) -> str:
    return said.decode("latin-1").replace('"', "'").encode("unicode_escape").decode("ascii")
