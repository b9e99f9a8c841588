"""
Send a request, read its response, and send it again where that may help, without I/O.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from kiroworkers_client._version import __version__
from kiroworkers_client.base_errors import (
    CutOffError,
    InvalidResponseError,
    JobCancelledError,
    KiroError,
    UnreachableError,
)
from kiroworkers_client.errors import StorageUnavailableError, TimedOutError
from kiroworkers_client.event_stream import EventReader, EventTooLong, ServerSentEvent
from kiroworkers_client.events import Postponed, progress_from
from kiroworkers_client.options import header_value
from kiroworkers_client.responses import decode_body, error_within, json_object
from kiroworkers_client.retries import RetryPolicy, may_have_run
from kiroworkers_client.steps import (
    Head,
    Lost,
    NotSent,
    Open,
    Read,
    Script,
    Silent,
    Sleep,
    Undecodable,
)

#: The header with the idempotency key.
KEY = "Idempotency-Key"

#: The type of a stream of events.
EVENT_STREAM = "text/event-stream"

#: Seconds to wait beyond a request's own timeout: the server's error says more about what
#: happened than this client can.
_GRACE = 5.0

#: Seconds for a connection to the server.
_CONNECT_TIMEOUT = 5.0

#: Seconds for the next bytes of a stream.  The server sends a comment every 15 seconds.
_STREAM_READ_TIMEOUT = 60.0

#: Seconds for which to try to connect again to a stream of a job's events: the server may be
#: restarted meanwhile.
_RESTART_TIMEOUT = 60.0

#: The maximum size of a response, or of one event of a stream, in bytes.
_MAX_RESPONSE_BYTES = 32 * 1024 * 1024

#: The longest time to wait for the next bytes, in seconds.  The operating system cannot wait for
#: much longer.
_MAX_READ_TIMEOUT = 1_000_000.0

_ADDRESS = re.compile(r"https?://[^/?#\s@]+(/[^?#\s]*)?", re.I)

_log = logging.getLogger("kiroworkers_client")


def checked_address(base_url: str) -> str:
    """
    Return the address of a server without a slash at its end.

    Raises:
        ValueError: If it is not an address such as ``http://127.0.0.1:8080``.
    """
    if "@" in base_url:
        # It may be a password, so the error does not show it.
        raise ValueError("the address of a server must not have a user name or password")
    problem = f"{base_url!r} is not an address such as http://127.0.0.1:8080"
    if not _ADDRESS.fullmatch(base_url):
        raise ValueError(problem)
    try:
        parts = urlsplit(base_url)
        # Raises ValueError if the port is not a number.
        _ = parts.port
        # Raises ValueError if the system could not look up the name.
        host = (parts.hostname or "").encode("idna")
    except ValueError:
        raise ValueError(problem) from None
    if not host:
        raise ValueError(problem)
    return base_url.rstrip("/")


@dataclass(frozen=True)
class Deadline:
    """
    Say until when a request may take.

    Attributes:
        ends: The time at which it ends; None for never.
        clock: Returns the time.
        announced: Whether the server is told about it.
    """

    ends: float | None
    clock: Callable[[], float]
    announced: bool = False

    def left(self) -> float | None:
        """
        Return the seconds that are left; None if there is no end.
        """
        return None if self.ends is None else self.ends - self.clock()


@dataclass(frozen=True)
class Request:
    """
    Hold a request, and how its response is to be treated.

    Attributes:
        method: The method.
        path: The path and query.
        headers: The headers, apart from those of every request.
        body: The body.
        accepted: The statuses that are no errors.
        repeatable: Whether the request has no further effect if the server has run it before.
        own_key: Whether this client added the idempotency key, not its caller.
        patient: Whether it is sent again until its deadline if the policy allows any retries.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    accepted: tuple[int, ...] = (200,)
    repeatable: bool = True
    own_key: bool = False
    patient: bool = False

    def without_key(self) -> Request:
        """
        Return the request without its idempotency key.
        """
        headers = {name: value for name, value in self.headers.items() if name != KEY}
        return replace(self, headers=headers, repeatable=False, own_key=False)


@dataclass(frozen=True)
class Reply:
    """
    Hold what a server answered.

    Attributes:
        value: The JSON object.
        headers: The headers, with names in lower case.
        status: The status.
    """

    value: dict[str, Any]
    headers: Mapping[str, str]
    status: int


@dataclass
class Place:
    """
    Remember how far the events of a job were read.

    Attributes:
        last_id: The identifier of the last one; empty for none.
        ended: Whether that was the last one of the job.
        was_connected: Whether the server has sent the events since the last attempt to connect.
    """

    last_id: str = ""
    ended: bool = False
    was_connected: bool = False


class Sender:
    """
    Send requests to one server.

    Attributes:
        base: The address of the server, without a slash at its end.
        retries: Whether failed requests are sent again.

    Args:
        base_url: The address of the server.
        token: The token to send, or None.
        retry: Whether and how failed requests are sent again; None for never.
        clock: Returns the time in seconds, from a clock that nobody sets.
        random: Returns a random number from 0 to 1.

    Raises:
        ValueError: If an argument is invalid.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None,
        retry: RetryPolicy | None,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.base = checked_address(base_url)
        self.retries = retry is not None
        self._headers = {"Accept": "application/json"}
        self._headers["User-Agent"] = f"kiroworkers-client/{__version__}"
        if token is not None:
            self._headers["Authorization"] = f"Bearer {header_value('token', token)}"
        self._retry = retry
        self._clock = clock
        self._random = random

    def deadline(self, seconds: float | None, announced: bool = False) -> Deadline:
        """
        Return a deadline that many seconds from now.

        Args:
            seconds: The seconds; None for no limit.
            announced: Whether the server is told about it.
        """
        ends = None if seconds is None else self._clock() + seconds
        return Deadline(ends, self._clock, announced)

    def send(self, request: Request, deadline: Deadline) -> Script[Reply]:
        """
        Return the reply to a request, which is sent again as the policy allows.

        Raises:
            KiroError: There is no reply, or it is an error.
        """
        retries = 0
        has_run = False
        while True:
            try:
                return (yield from self.send_once(request, deadline))
            except KiroError as error:
                failure = error
            has_run = has_run or may_have_run(failure)
            if isinstance(failure, StorageUnavailableError) and request.own_key and not has_run:
                # Without a key, the server needs no storage to answer.
                request = request.without_key()
                continue
            if self._retry is None:
                raise failure
            most = self._retry.max_retries
            delay = self._retry.delay(
                failure,
                retries=min(retries, most - 1) if request.patient and most else retries,
                repeatable=request.repeatable,
                left=deadline.left(),
                random=self._random,
            )
            if delay is None:
                raise failure
            retries += 1
            _log.info("%s %s: again in %.1f s: %s", request.method, request.path, delay, failure)
            yield Postponed(str(failure), delay)
            yield Sleep(delay)

    def follow(self, request: Request, deadline: Deadline) -> Script[Reply]:
        """
        Yield the events of a job until it has an answer, which is returned.

        If the connection is lost, the events continue after the last one that was read.

        Raises:
            KiroError: The job has no answer, or its events cannot be read.
        """
        place = Place()
        retries = 0
        patience = self.deadline(_RESTART_TIMEOUT)
        while True:
            place.was_connected = False
            headers = {**request.headers, "Accept": EVENT_STREAM}
            if place.last_id:
                headers["Last-Event-ID"] = place.last_id
            try:
                return (
                    yield from self.send_once(replace(request, headers=headers), deadline, place)
                )
            except KiroError as error:
                failure = error
            if place.ended or self._retry is None:
                raise failure
            if place.was_connected:
                retries = 0
                patience = self.deadline(_RESTART_TIMEOUT)
            left = [left for limit in (deadline, patience) if (left := limit.left()) is not None]
            most = self._retry.max_retries
            delay = self._retry.delay(
                failure,
                retries=min(retries, most - 1) if most else retries,
                repeatable=True,
                left=min(left),
                random=self._random,
            )
            if delay is None:
                raise failure
            retries += 1
            _log.info("%s: again in %.1f s: %s", request.path, delay, failure)
            yield Sleep(delay)

    def send_once(
        self, request: Request, deadline: Deadline, place: Place | None = None
    ) -> Script[Reply]:
        """
        Return the reply to a request, which is sent once.

        Args:
            request: The request.
            deadline: Until when it may take.
            place: Is told how far the events of a job were read.

        Raises:
            KiroError: There is no reply, or it is an error.
        """
        left = deadline.left()
        if left is not None and left <= 0:
            raise self._timed_out()
        try:
            head: Head = yield self._open(request, deadline.announced, left)
            is_stream = head.headers.get("content-type", "").startswith(EVENT_STREAM)
            if is_stream and head.status == 200:
                return (yield from self._read_events(head, deadline, place or Place()))
            content = yield from self._read_body(deadline)
        except NotSent as error:
            raise UnreachableError(f"cannot reach {self.base}: {error}") from error
        except Lost as error:
            raise self._cut_off(str(error)) from error
        except Silent as error:
            left = deadline.left()
            if left is None or left > 0:
                # A stream is never silent for so long.
                raise self._cut_off(f"it was silent: {error}") from error
            raise self._timed_out() from error
        except Undecodable as error:
            raise InvalidResponseError(f"{self.base}: {error}") from error
        value = decode_body(head, content, request.accepted, self.base)
        return Reply(value, head.headers, head.status)

    def _open(self, request: Request, announced: bool, left: float | None) -> Open:
        """
        Return the step that sends a request.

        The token is in no variable of the scripts, whose variables a report of an error may show.
        """
        headers = {**self._headers, **request.headers}
        if announced and left is not None:
            headers["X-Request-Timeout"] = f"{max(left, 0.001):.3f}"
        connect_timeout = _CONNECT_TIMEOUT if left is None else min(left, _CONNECT_TIMEOUT)
        read_timeout = None if left is None else min(left + _GRACE, _MAX_READ_TIMEOUT)
        if headers["Accept"] == EVENT_STREAM:
            read_timeout = min(read_timeout or _STREAM_READ_TIMEOUT, _STREAM_READ_TIMEOUT)
        return Open(
            request.method, request.path, headers, request.body, connect_timeout, read_timeout
        )

    def _read_body(self, deadline: Deadline) -> Script[bytes]:
        pieces: list[bytes] = []
        size = 0
        while data := (yield from self._read(deadline)):
            size += len(data)
            if size > _MAX_RESPONSE_BYTES:
                problem = f"the response of {self.base} has more than {_MAX_RESPONSE_BYTES} bytes"
                raise InvalidResponseError(problem)
            pieces.append(data)
        return b"".join(pieces)

    def _read_events(self, head: Head, deadline: Deadline, place: Place) -> Script[Reply]:
        """
        Yield the events of a stream, and return the answer at its end.

        Raises:
            KiroError: The stream reports an error, or ends without an answer.
        """
        place.was_connected = True
        reader = EventReader(_MAX_RESPONSE_BYTES)
        headers = dict(head.headers)
        while data := (yield from self._read(deadline)):
            for event in self._feed(reader, data):
                payload = json_object(event.data)
                if payload is None:
                    continue
                place.last_id = event.id
                place.ended = event.name in ("answer", "error", "cancelled")
                match event.name:
                    case "headers":
                        # Those of the response were sent before the work began.
                        headers |= {name.lower(): str(value) for name, value in payload.items()}
                    case "answer":
                        return Reply(payload, headers, 200)
                    case "error":
                        raise error_within(payload)
                    case "cancelled":
                        raise JobCancelledError("the job was cancelled")
                    case name:
                        progress = progress_from(name, payload)
                        if progress is not None:
                            yield progress
        raise self._cut_off("the stream has no answer")

    def _feed(self, reader: EventReader, data: bytes) -> list[ServerSentEvent]:
        try:
            return reader.feed(data)
        except EventTooLong as error:
            raise InvalidResponseError(f"{self.base}: {error}") from None

    def _read(self, deadline: Deadline) -> Script[bytes]:
        """
        Return the next bytes of the response.

        Raises:
            TimedOutError: They came, or would come, long after the deadline.
        """
        left = deadline.left()
        if left is not None and left + _GRACE <= 0:
            raise self._timed_out()
        data: bytes = yield Read()
        return data

    def _timed_out(self) -> TimedOutError:
        error = TimedOutError(f"{self.base} did not answer in time")
        error.status = None
        return error

    def _cut_off(self, detail: str) -> CutOffError:
        return CutOffError(f"the connection to {self.base} was lost: {detail}")
