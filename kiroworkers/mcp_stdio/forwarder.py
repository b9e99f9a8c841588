"""
Send the messages of a client to a server, and pass on what it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimedOut
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseFailed
from twisted.web.iweb import IResponse

from kiroworkers.client.event_stream import EventReader, EventTooLong
from kiroworkers.client.http import WholeBody, send_request
from kiroworkers.client.response_body import BodyCutOff, deliver_body
from kiroworkers.mcp_stdio.headers import Session, headers_for, session_headers
from kiroworkers.mcp_stdio.messages import (
    INVALID_REQUEST,
    SERVER_ERROR,
    Id,
    InvalidMessage,
    Message,
    read_message,
    with_id,
    write_cancelled,
    write_error,
)
from kiroworkers.mcp_stdio.replies import answers_message, failure_reply, is_session_lost

#: The maximum size of a message from the client, in bytes.  A server's own limit is lower.
MAX_LINE_BYTES = 8 * 1024 * 1024

#: The maximum size of a message from the server, in bytes.
_MAX_REPLY_BYTES = 32 * 1024 * 1024

#: How many requests may run at once.  The server has a limit of its own for those of an agent.
_MAX_RUNNING = 256

#: Seconds for what needs no agent.
_AGENTLESS_TIMEOUT = 30.0

#: Seconds to tell the server that a session ends, or that the client gave up a request.
_FAREWELL_TIMEOUT = 1.0

_CALL, _LISTEN = "tools/call", "subscriptions/listen"
_INITIALIZE, _INITIALIZED = "initialize", "notifications/initialized"

_NEEDS_TOKEN = "(give `kiroworkers mcp` a token with --token-file or KIROWORKERS_TOKEN)"


@frozen
class Target:
    """
    Describe the server and what goes with each message to it.

    Attributes:
        url: The address of its MCP endpoint.
        headers: The headers of each request.
        call_headers: The headers of each call of a tool besides.
        call_timeout: Seconds after which such a call is given up; None leaves that to the server.
    """

    url: str
    headers: Mapping[str, str] = field(factory=dict)
    call_headers: Mapping[str, str] = field(factory=dict)
    call_timeout: float | None = None


class ForwardingFailed(Exception):
    """
    Raised when a message gets no answer from the server; the text says why.
    """


@define(eq=False)
class _Running:
    """
    Hold a request of the client that has no answer yet.

    Attributes:
        request: The request.
        work: Fires when the request ends.
        is_sent: Whether the server may know of it.
        is_cancelled: Whether the client has given it up; it gets no answer then.
    """

    request: Message
    work: Deferred[None] = field(factory=Deferred)
    is_sent: bool = False
    is_cancelled: bool = False


class Forwarder:
    """
    Forward the messages of one client.

    Its state is the requests that run and the session that the handshake has begun.  Messages
    wait while there is a handshake; otherwise they run side by side.

    Args:
        reactor: The reactor.
        target: The server.
        write: Called with each message for the client.
        report: Called with each sentence for people.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target,
        write: Callable[[bytes], object],
        report: Callable[[str], object],
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._write = write
        self._report = report
        self._running: dict[Id, _Running] = {}
        # The deliveries of what gets no answer.
        self._deliveries: set[Deferred[None]] = set()
        self._handshake = DeferredLock()
        self._session: Session | None = None
        # What begins a session, to begin another one when the server has lost it.
        self._opening: Message | None = None
        self._opened: Message | None = None

    def receive(self, line: bytes | None) -> None:
        """
        Take a line from the client; None stands for one that is too long.
        """
        if line is None:
            sentence = f"the message has more than {MAX_LINE_BYTES} bytes"
            self._write(write_error(None, INVALID_REQUEST, sentence))
            return
        if not line.strip():
            return
        try:
            message = read_message(line)
        except InvalidMessage as error:
            self._write(write_error(error.id, error.code, str(error)))
            return
        if message.is_request:
            self._start(message)
        elif message.cancelled_id is not None:
            self._cancel(message, message.cancelled_id)
        else:
            self._deliver(self._send_unanswered(message))

    async def finish(self, grace: float) -> None:
        """
        Give what runs some time to end, cancel the rest, and end the session.

        Args:
            grace: The time, in seconds.
        """
        pending = [running.work for running in self._running.values()] + [*self._deliveries]
        if pending:
            ended: Deferred[Any] = DeferredList(pending)
            ended.addTimeout(grace, self._reactor)
            await ended
        self.stop()
        session, self._session = self._session, None
        if session is not None and session.id is not None:
            headers = {**self._target.headers, **session_headers(session)}
            farewell = send_request(self._reactor, "DELETE", self._target.url, headers)
            farewell.addTimeout(_FAREWELL_TIMEOUT, self._reactor)
            # The session would end by itself.
            farewell.addErrback(lambda _: None)
            await farewell

    def stop(self) -> None:
        """
        Cancel everything that runs.
        """
        # First what waits for a handshake, or the end of that would start it.
        for delivery in list(self._deliveries):
            delivery.cancel()
        for running in reversed(list(self._running.values())):
            running.is_cancelled = True
            running.work.cancel()

    def _start(self, request: Message) -> None:
        assert request.id is not None, "it is a request"
        if request.id in self._running:
            # With the identifier, this would be taken for the answer to the other one.
            sentence = f"there is already a request with the id {request.id!r}"
            self._write(write_error(None, INVALID_REQUEST, sentence))
            return
        if len(self._running) >= _MAX_RUNNING:
            sentence = f"{_MAX_RUNNING} requests are running: wait for one of them"
            self._write(write_error(request.id, SERVER_ERROR, sentence))
            return
        running = self._running[request.id] = _Running(request)
        running.work = Deferred.fromCoroutine(self._answer(running))
        running.work.addErrback(self._note_failure, running)
        running.work.addCallback(self._remove, request.id)

    def _remove(self, _: None, id: Id) -> None:
        del self._running[id]

    def _note_failure(self, failure: Failure, running: _Running) -> None:
        """
        Answer a request that has failed, unless it was cancelled.
        """
        if running.is_cancelled or failure.check(CancelledError) is not None:
            return
        sentence = str(failure.value)
        if failure.check(ForwardingFailed) is None:
            self._report(failure.getTraceback())
            sentence = f"kiroworkers mcp has failed: {sentence}"
        self._report(sentence)
        assert running.request.id is not None, "it is a request"
        self._write(write_error(running.request.id, SERVER_ERROR, sentence))

    def _deliver(self, delivery: Coroutine[Deferred[Any], Any, None]) -> None:
        """
        Run the delivery of what gets no answer, and report it if it fails.
        """
        delivered = Deferred.fromCoroutine(delivery)
        self._deliveries.add(delivered)

        def note(outcome: Failure | None) -> None:
            self._deliveries.discard(delivered)
            if isinstance(outcome, Failure) and outcome.check(CancelledError) is None:
                self._report(str(outcome.value))

        delivered.addBoth(note)

    def _cancel(self, notification: Message, id: Id) -> None:
        """
        Give up the request `id`; one that is unknown has ended already.
        """
        running = self._running.get(id)
        if running is None or running.request.method == _INITIALIZE:
            return
        running.is_cancelled = True
        if running.is_sent and running.request.version is None:
            self._deliver(self._cancel_in_session(notification, running))
        else:
            running.work.cancel()

    async def _cancel_in_session(self, notification: Message, running: _Running) -> None:
        """
        Tell the server which request of the session is given up, then close its connection.
        """
        try:
            await self._deliver_within(_FAREWELL_TIMEOUT, notification)
        finally:
            running.work.cancel()

    async def _send_unanswered(self, message: Message) -> None:
        """
        Send a notification, or the client's response to a request of the server.
        """
        async with self._handshake:
            if message.method == _INITIALIZED:
                self._opened = message
                await self._deliver_within(_AGENTLESS_TIMEOUT, message)
                return
        await self._deliver_within(_AGENTLESS_TIMEOUT, message)

    async def _deliver_within(self, seconds: float, message: Message) -> None:
        await self._within(seconds, self._post_unanswered(message, self._session))

    async def _post_unanswered(self, message: Message, session: Session | None) -> None:
        """
        Send what gets no answer.

        Raises:
            ForwardingFailed: The server does not take it.
        """
        response = await self._post(message, session)
        with self._translated_errors():
            await self._read_body(response)
        if response.code >= 400:
            what = message.method or "a response"
            raise ForwardingFailed(f"{self._target.url} answered {response.code} to {what}")

    async def _answer(self, running: _Running) -> None:
        """
        Send a request and pass on what it is answered with.

        Raises:
            ForwardingFailed: There was no answer.
        """
        request = running.request
        if request.method == _INITIALIZE:
            async with self._handshake:
                await self._open_session(running)
            return
        async with self._handshake:
            pass
        match request.method:
            case "tools/call":
                limit = self._target.call_timeout
            case "subscriptions/listen":
                limit = None
            case _:
                limit = _AGENTLESS_TIMEOUT
        await self._exchange_in_session(running, limit)

    async def _exchange_in_session(self, running: _Running, seconds: float | None) -> None:
        """
        Send a request; if the server has lost the session, begin another one and send it again.
        """
        running.is_sent = True
        session = None if running.request.version is not None else self._session
        exchange = self._exchange(running, session)
        lost = await self._within(seconds, exchange)
        if not lost:
            return
        assert session is not None, "it has been lost"
        await self._renew_session(session)
        if await self._within(seconds, self._exchange(running, self._session)):
            raise ForwardingFailed(f"{self._target.url} has ended the session again")

    async def _open_session(self, running: _Running) -> None:
        """
        Begin a session, as the client has asked for.
        """
        self._opening, self._opened, self._session = running.request, None, None
        running.is_sent = True
        await self._within(_AGENTLESS_TIMEOUT, self._exchange(running, None))

    async def _renew_session(self, lost: Session) -> None:
        """
        Begin another session in place of `lost`, unless another request has done so.

        Raises:
            ForwardingFailed: The server does not begin one like that.
        """
        async with self._handshake:
            if self._session is not lost:
                return
            opening, opened = self._opening, self._opened
            assert opening is not None, "there was a session"
            hidden = _Running(opening, is_cancelled=True)
            await self._within(_AGENTLESS_TIMEOUT, self._exchange(hidden, None))
            session = self._session
            if session is lost or session is None or session.version != lost.version:
                self._session = lost
                raise ForwardingFailed(
                    f"{self._target.url} has ended the session and begins none like it: "
                    "connect again"
                )
            if opened is not None:
                await self._deliver_within(_AGENTLESS_TIMEOUT, opened)
            self._report(f"{self._target.url} had ended the session; there is a new one")

    async def _exchange(self, running: _Running, session: Session | None) -> bool:
        """
        Send a request of the client and pass on all messages that it is answered with.

        Returns:
            True if the server has lost the session, so that the request was not answered.

        Raises:
            ForwardingFailed: There was no answer.
        """
        request, url = running.request, self._target.url
        assert request.id is not None, "it is a request"
        response = await self._post(request, session)
        with self._translated_errors():
            if response.code == 200 and _media_type(response) == "text/event-stream":
                await self._pass_on_stream(running, response)
                return False
            body = await self._read_body(response)
        if response.code == 200:
            self._pass_on(running, self._read_reply(body), response)
        elif session is not None and session.id and is_session_lost(response.code, body):
            return True
        elif not running.is_cancelled:
            has_token = "Authorization" in self._target.headers
            hint = _NEEDS_TOKEN if response.code == 401 and not has_token else ""
            if not answers_message(body):
                self._report(f"{url} answered {response.code} to {request.method} {hint}".rstrip())
            self._write(failure_reply(request.id, url, response.code, body, hint))
        return False

    async def _pass_on_stream(self, running: _Running, response: IResponse) -> None:
        reader = EventReader(_MAX_REPLY_BYTES)
        answered = False

        def read(data: bytes) -> bool:
            nonlocal answered
            for event in reader.feed(data):
                if event.data:
                    message = self._read_reply(event.data.encode())
                    answered = answered or message.is_response
                    self._pass_on(running, message, response)
            return answered

        try:
            await deliver_body(response, read)
        except BodyCutOff:
            if running.request.method != _LISTEN:
                raise
        if answered or running.is_cancelled:
            return
        assert running.request.id is not None, "it is a request"
        if running.request.method == _LISTEN:
            # So says the specification: there is no stream of its own that could end.
            self._write(write_cancelled(running.request.id, "the server has ended the stream"))
        else:
            raise ForwardingFailed(f"{self._target.url} ended the stream without a response")

    def _pass_on(self, running: _Running, message: Message, response: IResponse) -> None:
        """
        Write a message that answers a request, or that belongs to it.
        """
        if message.is_response:
            version = message.result.get("protocolVersion")
            if running.request.method == _INITIALIZE and isinstance(version, str):
                self._session = Session(_header(response, "Mcp-Session-Id"), version)
        if running.is_cancelled:
            return
        assert running.request.id is not None, "it is a request"
        is_answer = message.is_response
        self._write(with_id(message, running.request.id) if is_answer else message.body)

    def _read_reply(self, body: bytes) -> Message:
        try:
            return read_message(body)
        except InvalidMessage as error:
            raise ForwardingFailed(f"{self._target.url} sent no message of MCP: {error}") from None

    async def _read_body(self, response: IResponse) -> bytes:
        pieces: list[bytes] = []
        size = 0

        def collect(data: bytes) -> bool:
            nonlocal size
            size += len(data)
            if size > _MAX_REPLY_BYTES:
                raise EventTooLong(f"the response has more than {_MAX_REPLY_BYTES} bytes")
            pieces.append(data)
            return False

        await deliver_body(response, collect)
        return b"".join(pieces)

    async def _post(self, message: Message, session: Session | None) -> IResponse:
        """
        Send a message, and return the response, whose body was not read yet.

        Raises:
            ForwardingFailed: There is none.
        """
        headers = {**self._target.headers, **headers_for(message, session)}
        if message.method == _CALL:
            headers.update(self._target.call_headers)
        url = self._target.url
        try:
            data = WholeBody(message.body)
            return await send_request(self._reactor, "POST", url, headers, data=data)
        except (ConnectError, DNSLookupError, ConnectTimedOut) as error:
            raise ForwardingFailed(
                f"cannot reach {url}: {error} Start a server with `kiroworkers serve`, or give "
                "the address of another one with --url or KIROWORKERS_URL."
            ) from None
        except (RequestTransmissionFailed, ResponseFailed, ConnectionClosed) as error:
            raise self._cut_off(error) from None

    def _cut_off(self, error: Exception) -> ForwardingFailed:
        """
        Return the error for a connection that ended too early.
        """
        reasons = getattr(error, "reasons", [])
        detail = "; ".join(str(reason.value) for reason in reasons) or str(error)
        return ForwardingFailed(f"{self._target.url} ended the connection: {detail}")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """
        Turn the errors of reading a body into `ForwardingFailed`.
        """
        try:
            yield
        except BodyCutOff as error:
            raise self._cut_off(error.reason) from None
        except EventTooLong as error:
            raise ForwardingFailed(f"{self._target.url}: {error}") from None

    async def _within(self, seconds: float | None, work: Coroutine[Any, Any, Any]) -> Any:
        """
        Return the result of `work`.

        Raises:
            ForwardingFailed: It takes longer than `seconds`.
        """
        result: Deferred[Any] = Deferred.fromCoroutine(work)
        if seconds is not None:
            result.addTimeout(seconds, self._reactor)
        try:
            return await result
        except DeferredTimedOut:
            sentence = f"{self._target.url} did not answer within {seconds:g} s"
            raise ForwardingFailed(sentence) from None


def _media_type(response: IResponse) -> str:
    return (_header(response, "Content-Type") or "").partition(";")[0].strip().lower()


def _header(response: IResponse, name: str) -> str | None:
    values: Any = response.headers.getRawHeaders(name)
    return values[0] if values else None
