"""
Serve MCP over streamable HTTP: a POST has one message, and the response is JSON or a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.mcp import request_headers
from kiroworkers.mcp.errors import (
    McpError,
    invalid_request,
    method_not_found,
    unsupported_revision,
)
from kiroworkers.mcp.handshake import parse_initialize
from kiroworkers.mcp.jsonrpc import (
    InvalidMessage,
    Notification,
    Request,
    is_request_id,
    parse_message,
)
from kiroworkers.mcp.meta import client_capabilities, declared_revision
from kiroworkers.mcp.revisions import HANDSHAKE, STATELESS
from kiroworkers.mcp.server_info import discover_result, initialize_result
from kiroworkers.web.body import json_body
from kiroworkers.web.errors import HttpError
from kiroworkers.web.mcp.accepted import AcceptedTypes, accepted_types
from kiroworkers.web.mcp.call import Call, Method
from kiroworkers.web.mcp.exchange import Exchange
from kiroworkers.web.mcp.responses import protocol_error
from kiroworkers.web.mcp.sessions import Session, Sessions
from kiroworkers.web.mcp.tasks import TasksExtension
from kiroworkers.web.mcp.tool_calls import ToolCalls

#: The header with the identifier of a session.
SESSION_ID = "Mcp-Session-Id"

#: The request that begins a session, and the notification that cancels another request of it.
_INITIALIZE, _CANCELLED = "initialize", "notifications/cancelled"

#: The failures of messages, except those of any request and of calls of tools, which are results.
MCP_FAILURES = (
    ErrorCode.INVALID_MESSAGE,
    ErrorCode.UNSUPPORTED_REVISION,
    ErrorCode.UNKNOWN_METHOD,
    ErrorCode.UNKNOWN_SESSION,
    ErrorCode.NOT_ACCEPTABLE,
)

#: The methods that only read.  As GET requests do, they do not count towards a client's rate, so
#: that a client can follow its tasks.
_READ_METHODS = {"ping", "server/discover", "tools/list", "tasks/get", "subscriptions/listen"}


class McpHandler:
    """
    Handle the messages of clients.

    Args:
        clock: Times the comments that keep streams open.
        tools: Handles the calls of tools.
        sessions: The sessions of clients that begin with a handshake.
        extension: Has the methods of tasks.
        count: Counts a message towards the rate of its client.
    """

    def __init__(
        self,
        clock: IReactorTime,
        tools: ToolCalls,
        sessions: Sessions,
        extension: TasksExtension,
        count: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._count = count
        self._sessions = sessions
        self._extensions = {extension.identifier: extension.settings}
        common: dict[str, Method] = {"tools/list": tools.list_all, "tools/call": tools.run}
        self._stateless_methods: Mapping[str, Method] = {
            **common,
            "server/discover": self._discover,
            **extension.methods,
        }
        self._session_methods: Mapping[str, Method] = {**common, "ping": _ping}

    async def post(self, request: IRequest, client: str) -> bytes:
        """
        Respond to the message in the body of `request`.

        Raises:
            HttpError: The body is not JSON, the client accepts no response, or its session is
                unknown.
        """
        accepted = accepted_types(request)
        try:
            message = self._parse(request, client)
        except InvalidMessage as invalid:
            return protocol_error(request, invalid.id, invalid.error).send(request)
        try:
            if _is_stateless(message, request):
                return await self._serve_stateless(request, client, accepted, message)
            return await self._serve_session(request, client, accepted, message)
        except McpError as error:
            id = message.id if isinstance(message, Request) else None
            return protocol_error(request, id, error).send(request)

    def _parse(self, request: IRequest, client: str) -> Request | Notification:
        """
        Return the message in the body of `request`, which counts unless it only reads.

        Raises:
            HttpError: The body is not JSON, or the client sends too many messages.
            InvalidMessage: The body is not a message.
        """
        message = None
        try:
            message = parse_message(json_body(request))
        finally:
            if not (isinstance(message, Notification) or _only_reads(message)):
                self._count(client)
        return message

    def end_session(self, request: IRequest, client: str) -> bytes:
        """
        End the session that `request` names.

        Raises:
            HttpError: There is no such session.
        """
        try:
            ended = self._sessions.end(_session_id(request), client)
        except McpError as error:
            return protocol_error(request, None, error).send(request)
        if not ended:
            raise _unknown_session()
        request.setResponseCode(204)
        return b""

    async def _serve_stateless(
        self,
        request: IRequest,
        client: str,
        accepted: AcceptedTypes,
        message: Request | Notification,
    ) -> bytes:
        """
        Respond to a message of the revision without a handshake.

        Raises:
            McpError: The headers or what the message says about itself is wrong.
        """
        headers = _headers(request)
        named = request_headers.single_or_none(request_headers.PROTOCOL_VERSION, headers)
        revision = declared_revision(message)
        if named != STATELESS and (revision is None or isinstance(message, Notification)):
            raise unsupported_revision(named or "")
        if isinstance(message, Notification):
            # This revision has none that concern a server.
            return _accept(request)
        capabilities = client_capabilities(message)
        request_headers.check_headers(message, revision, headers)
        if revision != STATELESS:
            raise unsupported_revision(revision)
        exchange = Exchange(self._clock, request, client, accepted, message, revision, capabilities)
        return await exchange.run(_find(self._stateless_methods, message, revision))

    async def _serve_session(
        self,
        request: IRequest,
        client: str,
        accepted: AcceptedTypes,
        message: Request | Notification,
    ) -> bytes:
        """
        Respond to a message of a revision with a handshake.

        Raises:
            McpError: The message names no session, or repeats the id of another one.
            HttpError: There is no such session.
        """
        if isinstance(message, Request) and message.method == _INITIALIZE:
            return await self._initialize(request, client, accepted, message)
        session = self._sessions.find(_session_id(request), client)
        if session is None:
            raise _unknown_session()
        if isinstance(message, Notification):
            if message.method == _CANCELLED:
                _cancel(session, message)
            return _accept(request)
        if message.id in session.calls:
            raise invalid_request("Another request with this id is in progress")
        exchange = Exchange(
            self._clock,
            request,
            client,
            accepted,
            message,
            session.revision,
            {},
            session,
        )
        return await exchange.run(_find(self._session_methods, message, session.revision))

    async def _initialize(
        self, request: IRequest, client: str, accepted: AcceptedTypes, message: Request
    ) -> bytes:
        revision = parse_initialize(message)
        id = self._sessions.begin(client, revision)
        request.setHeader(SESSION_ID.lower().encode(), id.encode())

        async def initialize(call: Call) -> Mapping[str, Any]:
            return initialize_result(revision)

        exchange = Exchange(self._clock, request, client, accepted, message, revision, {})
        return await exchange.run(initialize)

    async def _discover(self, call: Call) -> Mapping[str, Any]:
        return discover_result(self._extensions)


def _only_reads(message: Request | None) -> bool:
    return message is not None and message.method in _READ_METHODS


async def _ping(call: Call) -> Mapping[str, Any]:
    return {}


def _find(methods: Mapping[str, Method], message: Request, revision: str) -> Method:
    """
    Return the method that `message` asks for, or one that fails because there is none.
    """

    async def fail(call: Call) -> Mapping[str, Any]:
        raise method_not_found(message.method, revision)

    return methods.get(message.method, fail)


def _is_stateless(message: Request | Notification, request: IRequest) -> bool:
    """
    Return whether `message` is to be served without a session.

    It is unless it has a revision with a handshake, or begins one.

    Raises:
        McpError: The header with the revision is repeated.
    """
    declared = declared_revision(message)
    if declared is not None and declared not in HANDSHAKE:
        return True
    if declared is None and message.method == _INITIALIZE:
        return False
    named = request_headers.single_or_none(request_headers.PROTOCOL_VERSION, _headers(request))
    # Clients of 2025-03-26 do not know the header.
    return named is not None and named not in HANDSHAKE


def _headers(request: IRequest) -> request_headers.Headers:
    names = request_headers.PROTOCOL_VERSION, request_headers.METHOD, request_headers.NAME
    return {
        name: [
            value.decode("latin-1")
            for value in request.requestHeaders.getRawHeaders(name.encode(), [])
        ]
        for name in names
    }


def _session_id(request: IRequest) -> str:
    """
    Return the identifier of a session that `request` has.

    Raises:
        McpError: It has none, or several.
    """
    values = request.requestHeaders.getRawHeaders(SESSION_ID.encode(), [])
    if len(values) != 1:
        raise invalid_request(f"Send the header {SESSION_ID} from the response to initialize, once")
    return str(values[0].decode("latin-1"))


def _unknown_session() -> HttpError:
    return HttpError(
        ErrorCode.UNKNOWN_SESSION, "The session does not exist (any more): initialize anew"
    )


def _accept(request: IRequest) -> bytes:
    request.setResponseCode(202)
    request.setHeader(b"content-length", b"0")
    return b""


def _cancel(session: Session, message: Notification) -> None:
    """
    Cancel the call that `message` names, if it is in progress.
    """
    id = message.params.get("requestId")
    call = session.calls.get(id) if is_request_id(id) else None
    if call is not None:
        call.cancel()
