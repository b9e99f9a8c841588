"""
Leave one line in the access log for each request, however it ends.

A request ends when its response is complete, when its connection is lost, or when it is
rejected while it is being received.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request

from kiroworkers.clocks import WallClock
from kiroworkers.errors import ErrorCode
from kiroworkers.request_record import CLIENT_CLOSED_REQUEST, OnRequestEvent, RequestRecord
from kiroworkers.telemetry.access_log import write_record
from kiroworkers.trace_context import parse_traceparent
from kiroworkers.web.addresses import host_of
from kiroworkers.web.request_ids import NewId, choose_request_id, new_request_id

#: The header with the identifier of a request.
REQUEST_ID = b"X-Request-ID"

#: Seconds after a response until its log line is written; by then the kernel has the response.
#: The lines and the ends of several requests take a third of the time that they take one by one.
_LOG_DELAY = 0.1


def record_of(request: IRequest) -> RequestRecord:
    """
    Return the record of `request`, which the modules that handle it fill in.
    """
    record: RequestRecord = vars(request).setdefault("record", RequestRecord())
    return record


class AccessLog:
    """
    Write the line of each request that has ended.

    Attributes:
        on_event: Called with the events of each request; None if nobody observes them.
        new_id: Returns an identifier for a request.

    Args:
        clock: Measures durations and schedules calls.
        wall_clock: Returns the current time in seconds since the epoch.
        on_event: Called with the events of each request; None if nobody observes them.
        new_id: Returns an identifier for a request.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock = time.time,
        on_event: OnRequestEvent | None = None,
        new_id: NewId = new_request_id,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self.on_event = on_event
        self.new_id = new_id
        self._ended: list[RequestRecord] = []

    def seconds(self) -> float:
        """
        Return the current time of the clock that measures durations.
        """
        return self._clock.seconds()

    def write(self, record: RequestRecord) -> None:
        """
        Write the line of `record`, and report that the request has ended.
        """
        ended = self._wall_clock()
        if record.completed_at is not None:
            ended -= self._clock.seconds() - record.completed_at
        write_record(record, ended)
        record.report("ended", status=record.status, total=record.total)

    def write_soon(self, record: RequestRecord) -> None:
        """
        Write the line of `record` shortly after its response is on its way.

        Writing a line takes a fifth of the time that a response needs to reach its client, so
        the client does not wait for it.
        """
        if not self._ended:
            self._clock.callLater(_LOG_DELAY, self.flush)
        self._ended.append(record)

    def write_rejected(self, host: str, code: ErrorCode, sent: int, id: str) -> None:
        """
        Write the line of a request from `host` of which nothing is known but the failure.
        """
        self.write(RequestRecord(id, host=host, status=code.status, code=code.value, sent=sent))

    def flush(self) -> None:
        """
        Write the lines that are due.
        """
        ended, self._ended = self._ended, []
        for record in ended:
            self.write(record)


class RecordedRequest(Request):
    """
    Represent a request that is logged, with the address of its real client.

    Attributes:
        record: What is known about the request.
    """

    def __init__(self, channel: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(channel, *arguments, **options)
        self._access_log: AccessLog = channel.site.access_log
        self.record = RequestRecord(on_event=self._access_log.on_event)
        self._proxies = channel.site.limits.trusted_proxies
        self._began = self._access_log.seconds()

    def identify(self) -> None:
        """
        Give the request its identifier, which its response has as well.
        """
        record = self.record
        record.trace = parse_traceparent(text_of(self.getHeader(b"traceparent") or b""))
        given = text_of(self.getHeader(REQUEST_ID) or b"")
        record.id = choose_request_id(given, record.trace, self._access_log.new_id)
        self.responseHeaders.setRawHeaders(REQUEST_ID, [record.id.encode()])

    def getClientAddress(self) -> IAddress:
        """
        Return the address of the client, also if the request came through trusted proxies.

        The port of a client behind a proxy is 0.
        """
        connected: IAddress = self.client
        peer = host_of(connected)
        if peer not in self._proxies:
            return connected
        host = self._proxies.client_of(
            peer, self._headers(b"x-forwarded-for"), self._headers(b"forwarded")
        )
        if host == peer:
            return connected
        return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 0)

    def connectionLost(self, reason: Failure) -> None:
        """
        Give up the request, because its client has hung up.
        """
        channel = self.channel
        # This cancels the handler, which completes the record.
        super().connectionLost(reason)
        if self.record.status is None:
            self.record.aborted = True
            self.record.report("cancelled")
            self._complete_record(
                channel, self.code if self.startedWriting else CLIENT_CLOSED_REQUEST
            )
            self._access_log.write(self.record)

    def log_finished(self) -> None:
        """
        Log that the response is complete.
        """
        self._complete_record(self.channel, self.code)
        self._access_log.write_soon(self.record)

    def log_rejected(self, code: ErrorCode, sent: int) -> None:
        """
        Log that the request was rejected while it was received, with a body of `sent` bytes.
        """
        self.record.code = code.value
        self.record.report("failed", code=code.value, reason="")
        self._complete_record(self.channel, code.status)
        self.record.sent = sent
        self._access_log.write(self.record)

    def _complete_record(self, channel: Any, status: int) -> None:
        record = self.record
        record.status = status
        record.completed_at = self._access_log.seconds()
        record.total = record.completed_at - self._began
        record.sent = self.sentLength
        # Only the channel knows the first line of a request that is not yet complete.
        if hasattr(channel, "_command"):
            first_line = channel._command, channel._path.partition(b"?")[0], channel._version
        else:
            first_line = self.method, self.path, self.clientproto
        if first_line[1] is not None:
            record.method, record.path, record.protocol = map(text_of, first_line)
        record.host = host_of(self.getClientAddress())
        record.referrer = text_of(self.getHeader(b"referer") or b"").partition("?")[0] or None
        record.user_agent = text_of(self.getHeader(b"user-agent") or b"") or None
        agent = self.responseHeaders.getRawHeaders(b"x-kiroworkers-agent", [b""])[0]
        record.agent = text_of(agent) or None
        record.replayed = self.responseHeaders.hasHeader(b"idempotency-replayed")

    def _headers(self, name: bytes) -> list[str]:
        return [text_of(value) for value in self.requestHeaders.getRawHeaders(name, [])]


def text_of(data: bytes) -> str:
    """
    Return the text in a part of the head of a request.
    """
    return data.decode("latin-1")
