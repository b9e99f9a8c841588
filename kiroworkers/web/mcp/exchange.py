"""
Run the method that a message asks for, and respond with its result: as JSON, or as an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from kiroworkers.errors import WorkError
from kiroworkers.mcp.errors import REQUEST_CANCELLED, McpError
from kiroworkers.mcp.jsonrpc import Request, error_response, response
from kiroworkers.mcp.meta import progress_token
from kiroworkers.mcp.server_info import complete
from kiroworkers.web.errors import INTERNAL_ERROR, HttpError, log_internal_error, respond
from kiroworkers.web.mcp.accepted import AcceptedTypes
from kiroworkers.web.mcp.call import Call, Method
from kiroworkers.web.mcp.responses import ErrorResponse, failure_response, protocol_error
from kiroworkers.web.mcp.sessions import CallInProgress, Session
from kiroworkers.web.mcp.stream import MessageStream
from kiroworkers.web.recorded_request import record_of

_log = Logger()

#: The status of a call whose client has cancelled it, and in a session of one that has failed: an
#: error status would be about the session.
_OK = 200


@frozen(eq=False)
class Exchange:
    """
    Hold a POST whose body is a request of JSON-RPC.

    Attributes:
        clock: Times the comments that keep a stream open.
        request: The HTTP request.
        client: The client that sent it.
        accepted: The media types that the client accepts.
        message: The request of JSON-RPC.
        revision: The revision of MCP.
        capabilities: What the client can do, as far as the revision says it in each request.
        session: The session that the message belongs to; None if it belongs to none.
    """

    clock: IReactorTime
    request: IRequest
    client: str
    accepted: AcceptedTypes
    message: Request
    revision: str
    capabilities: Mapping[str, Any]
    session: Session | None = None

    async def run(self, method: Method) -> bytes:
        """
        Run `method`, and return the body of the response; empty if that was a stream.

        Raises:
            CancelledError: The client has closed the connection.
        """
        stream = MessageStream(self.clock, self.request)
        try:
            return await self._respond(stream, method)
        finally:
            stream.close()

    async def _respond(self, stream: MessageStream, method: Method) -> bytes:
        progress = CallInProgress(Deferred.fromCoroutine(self._call(stream, method)))
        calls = {} if self.session is None else self.session.calls
        calls[self.message.id] = progress
        try:
            result = await progress.running
        except Exception as error:
            if progress.cancelled:
                # Its client does not want to know what became of it.
                return await self._end_cancelled(stream)
            if isinstance(error, CancelledError):
                raise
            return await self._fail(stream, self._error_response(error))
        finally:
            del calls[self.message.id]
        if progress.cancelled:
            return await self._end_cancelled(stream)
        message = response(self.message.id, result)
        if stream.is_open:
            await stream.end(message)
            return b""
        return respond(self.request, _OK, message)

    async def _call(self, stream: MessageStream, method: Method) -> Mapping[str, Any]:
        """
        Return the result of `method`.
        """
        token = progress_token(self.message)
        call = Call(
            self.request,
            self.client,
            self.message,
            self.revision,
            self.capabilities,
            token,
            stream if self.accepted.events else None,
        )
        if self.accepted.events and (token is not None or not self.accepted.json):
            stream.open()
        result = await method(call)
        return complete(result) if call.is_stateless else result

    async def _fail(self, stream: MessageStream, error: ErrorResponse) -> bytes:
        """
        Send an `error`: as an event if the stream has begun, or else with its status.
        """
        if stream.started:
            await stream.end(error.message)
            return b""
        return error.send(self.request)

    def _error_response(self, error: Exception) -> ErrorResponse:
        id = self.message.id
        if isinstance(error, McpError):
            return protocol_error(self.request, id, error, None if self.session is None else _OK)
        if isinstance(error, (WorkError, HttpError)):
            return failure_response(self.request, id, error)
        log_internal_error(_log, self.request, Failure(error))
        return failure_response(self.request, id, INTERNAL_ERROR)

    async def _end_cancelled(self, stream: MessageStream) -> bytes:
        """
        End the response to a call that its client has cancelled.

        A stream ends without a response of JSON-RPC.
        """
        record = record_of(self.request)
        record.aborted = True
        record.report("cancelled")
        if stream.is_open:
            await stream.end_without_response()
            return b""
        message = error_response(
            self.message.id, REQUEST_CANCELLED, "The client has cancelled the request", {}
        )
        return respond(self.request, _OK, message)
