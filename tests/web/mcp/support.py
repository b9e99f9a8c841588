"""
A server in memory, and clients of MCP that send one message per connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from kiroworkers.mcp.meta import CLIENT_CAPABILITIES, PROTOCOL_VERSION
from kiroworkers.mcp.revisions import STATELESS
from kiroworkers.request_record import RequestEvent, RequestRecord
from tests.web.test_errors import MemoryServer

#: What each request of the stateless revision says about itself.
META: Mapping[str, Any] = {PROTOCOL_VERSION: STATELESS, CLIENT_CAPABILITIES: {}}

#: A call of a tool.
CALL: Mapping[str, Any] = {"name": "generate-story", "arguments": {"idea": "An idea"}}

_BOTH = "application/json, text/event-stream"


@frozen
class Reply:
    """
    Hold the beginning of a response, or all of it.

    Attributes:
        status: The status.
        headers: The headers, by their names in lower case.
        content: The body as it was sent.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def messages(self) -> list[Any]:
        """
        Return the messages of JSON-RPC, which are events or the body.
        """
        if self.headers.get("content-type") == "text/event-stream":
            return [*map(json.loads, re.findall(rb"^data: (.*)$", self.content, re.M))]
        return [json.loads(self.content)]

    @property
    def message(self) -> Any:
        """
        Return the only message.
        """
        [message] = self.messages
        return message

    @property
    def result(self) -> Any:
        """
        Return the result in the last message.
        """
        return self.messages[-1]["result"]

    @property
    def error(self) -> Any:
        """
        Return the error in the last message.
        """
        return self.messages[-1]["error"]


class Connection:
    """
    Represent a connection on which a client has sent one request.
    """

    def __init__(self, server: MemoryServer, data: bytes, peer: str) -> None:
        self._server = server
        self.transport = StringTransport(None, IPv4Address("TCP", peer, 1))
        self._protocol: Any = server.site.buildProtocol(self.transport.getPeer())
        self._protocol.makeConnection(self.transport)
        self._protocol.dataReceived(data)

    @property
    def silent(self) -> bool:
        """
        Return whether there is no response yet.
        """
        return not self.transport.value()

    @property
    def ended(self) -> bool:
        """
        Return whether the response, a stream, has ended.
        """
        return bool(self.transport.value().endswith(b"0\r\n\r\n"))

    @property
    def reply(self) -> Reply:
        """
        Return what was received.
        """
        head, _, content = self.transport.value().partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        return Reply(int(status_line.split()[1]), headers, content)

    def hang_up(self) -> None:
        """
        Close the connection.
        """
        self._protocol.connectionLost(Failure(ConnectionDone()))
        self._server.settle()


class McpServer(MemoryServer):
    """
    A server in memory with one worker.

    Attributes:
        records: The records of all requests, by their identifiers.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.records: dict[str, RequestRecord] = {}
        self.observers.observers.append(self)

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        """
        Keep `record`.
        """
        self.records[record.id] = record

    def begin_post(
        self, body: Any, peer: str = "127.0.0.1", method: str = "POST", **headers: str | None
    ) -> Connection:
        """
        Send a message, and return its connection.

        Args:
            body: The message, as bytes or as a value to send as JSON.
            peer: The address of the client.
            method: The method of HTTP.
            **headers: Headers, with underscores for dashes; None leaves one out.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {
            "Host": "localhost",
            "Content_Type": "application/json",
            "Accept": _BOTH,
            "Content_Length": str(len(content)),
            **headers,
        }
        head = "".join(
            f"{name.replace('_', '-')}: {value}\r\n"
            for name, value in lines.items()
            if value is not None
        )
        data = f"{method} /mcp HTTP/1.1\r\n{head}\r\n".encode() + content
        connection = Connection(self, data, peer)
        self.settle()
        return connection

    def post(self, body: Any, **options: Any) -> Reply:
        """
        Send a message, and return the response.
        """
        return self.begin_post(body, **options).reply

    def begin_call(
        self,
        method: str = "tools/call",
        params: Mapping[str, Any] = CALL,
        meta: Any = META,
        id: Any = 1,
        **options: Any,
    ) -> Connection:
        """
        Send a request of the stateless revision with its headers, and return its connection.
        """
        routing: dict[str, Any] = {"MCP_Protocol_Version": STATELESS, "Mcp_Method": method}
        if isinstance(params.get("name"), str):
            routing["Mcp_Name"] = params["name"]
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": meta}}
        return self.begin_post(body, **{**routing, **options})

    def call(self, *arguments: Any, **options: Any) -> Reply:
        """
        Send a request of the stateless revision, and return the response.
        """
        return self.begin_call(*arguments, **options).reply

    def initialize(self, revision: str = "2025-11-25", **options: Any) -> str:
        """
        Begin a session, and return its identifier.
        """
        params = {"protocolVersion": revision, "capabilities": {}}
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        return self.post(body, **options).headers["mcp-session-id"]

    def begin_in(
        self,
        session: str | None,
        method: str = "tools/call",
        params: Any = CALL,
        id: Any = 1,
        **options: Any,
    ) -> Connection:
        """
        Send a request in a session, or a notification if its id is None; return its connection.
        """
        body = {"jsonrpc": "2.0", "method": method, "params": params}
        if id is not None:
            body["id"] = id
        return self.begin_post(body, Mcp_Session_Id=session, **options)

    def ask_in(self, *arguments: Any, **options: Any) -> Reply:
        """
        Send a message in a session, and return the response.
        """
        return self.begin_in(*arguments, **options).reply
