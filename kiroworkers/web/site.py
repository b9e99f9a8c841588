"""
Check each request before it is routed.

The site limits the size of the body, validates the method and the path, and checks the Host
and Origin headers.  Every rejection is a JSON response.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IReactorTime
from twisted.web import http
from twisted.web.iweb import IAccessLogFormatter
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import provider

from kiroworkers.errors import ErrorCode
from kiroworkers.web.addresses import LOOPBACK, host_of, hostname_of
from kiroworkers.web.channel import Channel
from kiroworkers.web.errors import HttpError, respond_to_error
from kiroworkers.web.headers import SECURITY_HEADERS, allows_origin, cors_headers
from kiroworkers.web.limits import RequestLimits

#: Anything else is not a method, or only looks like one to the router.
_METHOD = re.compile(rb"[A-Z]+")

#: Methods that change nothing and cost nothing, so that any page may send them.
_SAFE_METHODS = (b"GET", b"HEAD", b"OPTIONS")

#: Seconds that a connection may be idle between requests.
_IDLE_TIMEOUT = 60

#: Seconds after a response until its log line is written; by then the kernel has the
#: response.
_LOG_DELAY = 0.01


class BoundedRequest(Request):
    """
    Represent a request that is rejected when it exceeds the site's `RequestLimits`.
    """

    _body_length = 0

    @property
    def _limits(self) -> RequestLimits:
        # Twisted sets `site` only when it processes the request.
        channel: Any = self.channel
        limits: RequestLimits = channel.site.limits
        return limits

    def handleContentChunk(self, data: bytes) -> None:
        """
        Store a piece of the body, or reject the request if the body is too large.
        """
        self._body_length += len(data)
        if self._body_length <= self._limits.max_body:
            super().handleContentChunk(data)
        else:
            channel: Any = self.channel
            channel.reject_body()

    def process(self) -> None:
        """
        Check the request, and answer it with an error or pass it to its route.
        """
        try:
            self._set_browser_headers()
            self._check_request_line()
            self._check_host()
            self._check_origin()
        except HttpError as error:
            self._reject(error)
            return
        if self.method == b"OPTIONS":
            self.setResponseCode(204)
            self.finish()
            return
        super().process()

    def _check_request_line(self) -> None:
        if not _METHOD.fullmatch(self.method):
            raise HttpError(ErrorCode.WRONG_METHOD, "No path here accepts this method")
        try:
            self.uri.decode("ascii")
            unquote_to_bytes(self.path).decode("utf-8")
        except UnicodeDecodeError:
            raise HttpError(ErrorCode.BAD_PATH, "The path is not UTF-8") from None
        if not self.path.startswith(b"/") and (self.method, self.path) != (b"OPTIONS", b"*"):
            raise HttpError(ErrorCode.BAD_PATH, "The path must begin with /")

    def _check_host(self) -> None:
        """
        Reject a request for a host name that is not this server's.

        Such a name may belong to another site that resolves it to this server, so that
        the site's pages can read the responses (DNS rebinding).
        """
        hosts = self.requestHeaders.getRawHeaders(b"host", [])
        if len(hosts) > 1 or (not hosts and self.clientproto == b"HTTP/1.1"):
            raise HttpError(ErrorCode.BAD_HOST, "Send exactly one Host header")
        if not all(host.isascii() for host in hosts):
            raise HttpError(ErrorCode.BAD_HOST, "The Host header is not ASCII")
        limits = self._limits
        # No browser connects to a UNIX domain socket; a proxy may, on behalf of one.
        private = host_of(self.getClientAddress()) == "unix"
        if limits.any_host or (private and not limits.hosts):
            return
        name = hostname_of("".join(host.decode("ascii") for host in hosts))
        if name not in {*LOOPBACK, *limits.hosts, host_of(self.getHost())}:
            raise HttpError(
                ErrorCode.WRONG_HOST,
                "This server does not serve the host in the Host header "
                "(see --allow-host; with --token-file, any host is served)",
            )

    def _check_origin(self) -> None:
        """
        Reject a request with which a page of another origin would change or spend something.
        """
        origin = self._origin()
        if self.method in _SAFE_METHODS or not origin:
            return
        # This server's own pages are allowed; the Host header was checked before.
        same_origin = origin.partition("://")[2] == (self.getHeader(b"host") or b"").decode(
            "latin-1"
        )
        if not same_origin and not allows_origin(origin, self._limits.cors_origins):
            raise HttpError(
                ErrorCode.WRONG_ORIGIN,
                "Requests from this origin are not allowed (see --cors-origin)",
            )

    def _origin(self) -> str:
        return (self.getHeader(b"origin") or b"").decode("latin-1")

    def _reject(self, error: HttpError) -> None:
        body = respond_to_error(self, error)
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def _set_browser_headers(self) -> None:
        headers = cors_headers(self._origin(), self._limits.cors_origins)
        for name, value in {**SECURITY_HEADERS, **headers}.items():
            self.setHeader(name, value)


class ApiSite(Site):
    """
    Serve a resource to requests that meet the limits.

    Attributes:
        limits: The `RequestLimits` that each request must meet.
    """

    # Twisted's own protocol negotiates the version of HTTP; this site only speaks 1.1.
    protocol: Any = Channel
    requestFactory = BoundedRequest

    def __init__(self, clock: IReactorTime, resource: IResource, limits: RequestLimits) -> None:
        super().__init__(resource, timeout=_IDLE_TIMEOUT, logFormatter=log_line, reactor=clock)
        self.limits = limits
        self.displayTracebacks = False
        # No route accepts a form, and parsing a large one takes a long time.
        self._parsePOSTFormSubmission = False
        self._clock = clock
        self._unlogged: list[http.Request] = []

    def log(self, request: http.Request) -> None:
        """
        Write the access log line of `request` shortly after its response is on its way.

        Writing a line takes a fifth of the time that a response needs to reach its
        client, so the client does not wait for it.
        """
        if not self._unlogged:
            self._clock.callLater(_LOG_DELAY, self._log_all)
        self._unlogged.append(request)

    def _log_all(self) -> None:
        requests, self._unlogged = self._unlogged, []
        for request in requests:
            super().log(request)

    def stopFactory(self) -> None:
        """
        Write the log lines that are still due, and close the log.
        """
        self._log_all()
        super().stopFactory()

    def getResourceFor(self, request: Request) -> IResource:
        """
        Return the resource for `request`, without naming Twisted in its response.
        """
        # Twisted has just set this header to its own name and version.
        request.setHeader(b"Server", SECURITY_HEADERS[b"Server"])
        resource: IResource = super().getResourceFor(request)
        return resource


@provider(IAccessLogFormatter)
def log_line(timestamp: str, request: Any) -> str:
    """
    Return an access log line in the combined format.

    It leaves out the queries of URLs, which may hold what clients want to keep private.
    """
    referrer = (request.getHeader(b"referer") or b"-").partition(b"?")[0]
    agent = request.getHeader(b"user-agent") or b"-"
    request_line = b" ".join((request.method, request.path, request.clientproto))
    return (
        f'"{host_of(request.getClientAddress())}" - - {timestamp} "{_escaped(request_line)}" '
        f'{request.code} {request.sentLength or "-"} "{_escaped(referrer)}" "{_escaped(agent)}"'
    )


def _escaped(text: bytes) -> str:
    return text.decode("latin-1").replace('"', "'").encode("unicode_escape").decode("ascii")
