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
from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.access_log import CLIENT_CLOSED_REQUEST, write_record
from kiroworkers.web.addresses import host_of

#: Seconds after a response until its log line is written; by then the kernel has the
#: response.
_LOG_DELAY = 0.01


def record_of(request: IRequest) -> RequestRecord:
    """
    Return the record of `request`, which the modules that handle it fill in.
    """
    record: RequestRecord = vars(request).setdefault("record", RequestRecord())
    return record


class AccessLog:
    """
    Write the line of each request that has ended.

    Args:
        clock: Measures durations and schedules calls.
        wall_clock: Returns the current time in seconds since the epoch.
    """

    def __init__(self, clock: IReactorTime, wall_clock: WallClock = time.time) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._ended: list[RequestRecord] = []

    def seconds(self) -> float:
        """
        Return the current time of the clock that measures durations.
        """
        return self._clock.seconds()

    def write(self, record: RequestRecord) -> None:
        """
        Write the line of `record`.
        """
        write_record(record, self._wall_clock())

    def write_soon(self, record: RequestRecord) -> None:
        """
        Write the line of `record` shortly after its response is on its way.

        Writing a line takes a fifth of the time that a response needs to reach its client, so
        the client does not wait for it.
        """
        if not self._ended:
            self._clock.callLater(_LOG_DELAY, self.flush)
        self._ended.append(record)

    def write_rejected(self, host: str, code: ErrorCode, sent: int) -> None:
        """
        Write the line of a request from `host` of which nothing is known but the failure.
        """
        self.write(RequestRecord(host=host, status=code.status, code=code.value, sent=sent))

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
        self.record = RequestRecord()
        self._access_log: AccessLog = channel.site.access_log
        self._proxies = channel.site.limits.trusted_proxies
        self._began = self._access_log.seconds()

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
        self._complete_record(self.channel, code.status)
        self.record.sent = sent
        self._access_log.write(self.record)

    def _complete_record(self, channel: Any, status: int) -> None:
        record = self.record
        record.status = status
        record.total = self._access_log.seconds() - self._began
        record.sent = self.sentLength
        # Only the channel knows the first line of a request that is not yet complete.
        if hasattr(channel, "_command"):
            first_line = channel._command, channel._path.partition(b"?")[0], channel._version
        else:
            first_line = self.method, self.path, self.clientproto
        if first_line[1] is not None:
            record.method, record.path, record.protocol = map(_text, first_line)
        record.host = host_of(self.getClientAddress())
        record.referrer = _text(self.getHeader(b"referer") or b"").partition("?")[0] or None
        record.user_agent = _text(self.getHeader(b"user-agent") or b"") or None
        agent = self.responseHeaders.getRawHeaders(b"x-kiroworkers-agent", [b""])[0]
        record.agent = _text(agent) or None
        record.replayed = self.responseHeaders.hasHeader(b"idempotency-replayed")

    def _headers(self, name: bytes) -> list[str]:
        return [_text(value) for value in self.requestHeaders.getRawHeaders(name, [])]


def _text(data: bytes) -> str:
    return data.decode("latin-1")
