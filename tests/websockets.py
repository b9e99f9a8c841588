"""
A client of WebSockets, with the client side of wsproto.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)


class WebSocketClient(Protocol):
    """
    Open a WebSocket, and read its messages.

    Attributes:
        opened: Fires with the status of the response and, if it is an error, its body.
        messages: The messages, decoded.
        closed: Fires with the code and the reason of the end; with 1006 if there was none.
    """

    def __init__(self, host: str, target: str, headers: Mapping[str, str] | None = None) -> None:
        self.opened: Deferred[tuple[int, Any]] = Deferred()
        self.messages: DeferredQueue[Any] = DeferredQueue()
        self.closed: Deferred[tuple[int, str]] = Deferred()
        self._connection = WSConnection(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self._request = Request(host=host, target=target, extra_headers=extra)
        self._text: list[str] = []
        self._body = b""
        self._status = 101

    def connectionMade(self) -> None:
        self.send(self._request)

    def send(self, event: Event) -> None:
        """
        Send an event of wsproto.
        """
        assert self.transport is not None, "it is connected"
        self.transport.write(self._connection.send(event))

    def dataReceived(self, data: bytes) -> None:
        self._connection.receive_data(data)
        for event in self._connection.events():
            match event:
                case AcceptConnection():
                    self.opened.callback((101, None))
                case RejectConnection(status_code=status):
                    self._status = status
                case RejectData(data=body, body_finished=finished):
                    self._body += body
                    if finished:
                        self.opened.callback((self._status, json.loads(self._body)))
                case TextMessage(data=text, message_finished=finished):
                    self._text.append(text)
                    if finished:
                        self.messages.put(json.loads("".join(self._text)))
                        self._text.clear()
                case Ping():
                    self.send(event.response())
                case CloseConnection(code=code, reason=reason):
                    self.closed.callback((int(code), reason or ""))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.closed.called:
            self.closed.callback((1006, ""))

    async def read_until(self, text: str) -> list[Any]:
        """
        Return the messages up to the one with which their data contain `text`.
        """
        read: list[Any] = []
        data = ""
        while text not in data:
            message = await self.messages.get()
            read.append(message)
            data += message.get("data", message.get("text", message.get("state", "")))
        return read


async def open_websocket(
    reactor: Any, base: str, target: str, headers: Mapping[str, str] | None = None
) -> WebSocketClient:
    """
    Return a client that has asked for a WebSocket.

    Args:
        reactor: Connects it.
        base: The address of the server, without a path.
        target: The path and the query.
        headers: Headers to add.
    """
    host, _, port = base.partition("://")[2].partition(":")
    client = WebSocketClient(f"{host}:{port}", target, headers)
    await connectProtocol(TCP4ClientEndpoint(reactor, host, int(port)), client)
    return client
