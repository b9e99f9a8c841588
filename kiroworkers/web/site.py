"""
Check each request before it is routed.

The site limits the size of the body, validates the method and the path, and checks the Host
and Origin headers.  Every rejection is a JSON response.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from kiroworkers.errors import ErrorCode
from kiroworkers.web.addresses import LOOPBACK, host_of, hostname_of
from kiroworkers.web.channel import Channel
from kiroworkers.web.errors import HttpError, respond_to_error
from kiroworkers.web.frames import wants_websocket
from kiroworkers.web.headers import SECURITY_HEADERS, allows_origin, cors_headers
from kiroworkers.web.limits import RequestLimits
from kiroworkers.web.origins import comes_from_own_page
from kiroworkers.web.recorded_request import AccessLog, RecordedRequest, text_of

#: The beginning of a request target in absolute form: the scheme and the authority.
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)

#: Methods that change nothing and cost nothing, so that any page may send them.
_SAFE_METHODS = (b"GET", b"HEAD", b"OPTIONS")

#: The path that load balancers probe.
_PROBE_PATH = b"/ready"

#: Seconds that a connection may be idle between requests.
_IDLE_TIMEOUT = 60

#: Seconds after which a request that comes too soon is answered with an error, and one for
#: /ready as usual; load balancers wait longer for the answer to a probe.
_ERROR_DELAY, _PROBE_DELAY = 1.0, 0.25


class BoundedRequest(RecordedRequest):
    """
    Represent a request that is rejected when it exceeds the site's `RequestLimits`.
    """

    _body_length = 0

    def __init__(self, channel: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(channel, *arguments, **options)
        self._admit: Callable[[IRequest], None] = channel.site.admit
        self._clock: IReactorTime = channel.site.clock

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
        Answer the request: at once, or later if it comes too soon.
        """
        self.identify()
        self.record.report("received", method=text_of(self.method), path=text_of(self.path))
        self._set_browser_headers()
        try:
            self._admit(self)
        except HttpError as error:
            self._throttle(error)
        else:
            self._route()

    def _throttle(self, error: HttpError) -> None:
        """
        Answer with `error` a little later, or else the client sends its next request at once.

        A probe of /ready is answered as usual: to a load balancer, an error means that the
        server has failed.
        """
        if self.path == _PROBE_PATH:
            call = self._clock.callLater(_PROBE_DELAY, self._route)
        else:
            call = self._clock.callLater(_ERROR_DELAY, self._reject, error)
        self.notifyFinish().addErrback(lambda _: call.cancel() if call.active() else None)

    def _route(self) -> None:
        """
        Check the request, and answer it with an error or pass it to its route.
        """
        try:
            self._check_host_count()
            self._use_origin_form()
            self._check_path()
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

    def ping(self) -> None:
        """
        Write something that the client ignores, if there is such a thing.

        RFC 9110, section 15.2.1: a client discards a 100 Continue that it did not ask for.
        Clients of HTTP/1.0 know none.
        """
        channel: Any = self.channel
        content_type = self.responseHeaders.getRawHeaders(b"content-type", [b""])[0]
        if not self.startedWriting and self.clientproto == b"HTTP/1.1":
            channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self.startedWriting and content_type == b"text/event-stream":
            # Every event is written as a whole, so a comment may follow.
            self.write(b": alive\n\n")

    def getRequestHostname(self) -> bytes:
        """
        Return the host that the client asked for, ``localhost`` if it named none.
        """
        if not self.requestHeaders.hasHeader(b"host"):
            # Twisted would look for the host of the address, which a UNIX socket has not.
            return b"localhost"
        name: bytes = super().getRequestHostname()
        return name

    def _check_host_count(self) -> None:
        """
        Reject a request with several Host headers, or without one (RFC 9112, section 3.2).

        A request of HTTP/1.0 may have none: DNS rebinding is an attack by pages, and
        browsers always send the header.  A load balancer's probe may have none either.
        """
        hosts = self.requestHeaders.getRawHeaders(b"host", [])
        may_have_none = self.clientproto != b"HTTP/1.1" or self.path == _PROBE_PATH
        if len(hosts) > 1 or not (hosts or may_have_none):
            raise HttpError(ErrorCode.BAD_HOST, "Send exactly one Host header")

    def _use_origin_form(self) -> None:
        """
        Turn a target in absolute form into a path and a Host header.

        RFC 9112, section 3.2.2: the host in the target replaces that of the header.
        """
        match = _ABSOLUTE_FORM.match(self.uri)
        if match is not None:
            self.requestHeaders.setRawHeaders(b"host", [match[1]])
            rest = self.uri[match.end() :]
            self.uri = rest if rest.startswith(b"/") else b"/" + rest
            self.path = self.uri.partition(b"?")[0]

    def _check_path(self) -> None:
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
        host = self.getHeader(b"host")
        if host is None:
            return
        if not host.isascii():
            raise HttpError(ErrorCode.BAD_HOST, "The Host header is not ASCII")
        limits = self._limits
        # No browser connects to a UNIX domain socket; a proxy may, on behalf of one.
        private = host_of(self.client) == "unix"
        if limits.any_host or (private and not limits.hosts):
            return
        name = hostname_of(host.decode("ascii"))
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
        # Browsers let any page read what a WebSocket sends.
        is_safe = self.method in _SAFE_METHODS and not wants_websocket(self.requestHeaders)
        if is_safe or not origin:
            return
        # This server's own pages are allowed; the Host header was checked before.  A proxy that is
        # not trusted may have changed it, or the scheme.
        same_origin = origin.partition("://")[2] == (self.getHeader(b"host") or b"").decode(
            "latin-1"
        ) or comes_from_own_page(self, self._limits.trusted_proxies)
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


def _new_body(length: int | None) -> BytesIO:
    """
    Return a file in memory for a body; `BoundedRequest` limits its size.
    """
    return BytesIO()


class ApiSite(Site):
    """
    Serve a resource to requests that meet the limits.

    Attributes:
        limits: The `RequestLimits` that each request must meet.
        admit: Raises `HttpError` for a request that comes too soon.
        access_log: Where the end of each request is logged.
        clock: Measures durations.

    Args:
        clock: Measures durations.
        resource: Serves the requests.
        limits: The limits that each request must meet.
        admit: Called with each request before anything else; it raises `HttpError` for one
            that comes too soon.
        access_log: Where the end of each request is logged.
    """

    # Twisted's own protocol negotiates the version of HTTP; this site only speaks 1.1.
    protocol: Any = Channel
    requestFactory = BoundedRequest

    def __init__(
        self,
        clock: IReactorTime,
        resource: IResource,
        limits: RequestLimits,
        admit: Callable[[IRequest], None] | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        super().__init__(resource, timeout=_IDLE_TIMEOUT, reactor=clock)
        self.limits = limits
        self.admit = admit or (lambda request: None)
        self.access_log = access_log or AccessLog(clock)
        self.displayTracebacks = False
        # Twisted would write large and chunked bodies to a file in /tmp.
        self.getContentFile = _new_body
        # No route accepts a form, and parsing a large one takes a long time.
        self._parsePOSTFormSubmission = False
        self.clock = clock

    def startFactory(self) -> None:
        """
        Leave out Twisted's own access log, and the timer of its dates.
        """

    def log(self, request: Any) -> None:
        """
        Write the access log line of `request`, whose response is complete.
        """
        request.log_finished()

    def rejection_delay(self, request: RecordedRequest) -> float:
        """
        Return the seconds after which to reject `request`, which is incomplete.

        It counts like any other request towards what clients without a token may send.
        """
        try:
            self.admit(request)
        except HttpError:
            return _ERROR_DELAY
        return 0.0

    def incomplete_request(self, channel: Channel) -> BoundedRequest:
        """
        Return the request that `channel` receives; an empty one if there is only noise.
        """
        request: BoundedRequest = (
            channel.requests[-1] if channel.requests else self.requestFactory(channel)
        )
        if not request.record.id:
            request.identify()
        return request

    def stopFactory(self) -> None:
        """
        Write the log lines that are still due.
        """
        self.access_log.flush()
        super().stopFactory()

    def getResourceFor(self, request: Request) -> IResource:
        """
        Return the resource for `request`, without naming Twisted in its response.
        """
        # Twisted has just set this header to its own name and version.
        request.setHeader(b"Server", SECURITY_HEADERS[b"Server"])
        resource: IResource = super().getResourceFor(request)
        return resource
