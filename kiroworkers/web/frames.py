"""
Speak the WebSocket protocol (RFC 6455) of a server that only sends, without any I/O.

A client may ping and close.  Messages that it sends are read and dropped.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64

from twisted.web.http_headers import Headers
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason, FrameProtocol
from wsproto.utilities import generate_accept_token

from kiroworkers.errors import ErrorCode
from kiroworkers.web.errors import HttpError
from kiroworkers.web.framing import header_list

#: The longest message of a client, in bytes or characters; nothing that it says matters.
MAX_MESSAGE = 4096

#: The version of the protocol.
_VERSION = b"13"

#: The length of a key, decoded.
_KEY_LENGTH = 16

_HEADERS = {"Upgrade": "websocket", "Connection": "Upgrade"}


def wants_websocket(headers: Headers) -> bool:
    """
    Return whether a request with `headers` asks for a WebSocket, valid or not.
    """
    return b"websocket" in header_list(headers, b"upgrade")


def accept_handshake(method: bytes, version: bytes, headers: Headers) -> bytes:
    """
    Return the value of ``Sec-WebSocket-Accept`` for a handshake (RFC 6455, section 4.2.1).

    Args:
        method: The request's method.
        version: The request's version of HTTP, such as ``HTTP/1.1``.
        headers: The request's headers.

    Raises:
        HttpError: The request is not a handshake, or not a valid one.
    """
    if not wants_websocket(headers) or (method, version) != (b"GET", b"HTTP/1.1"):
        raise HttpError(
            ErrorCode.UPGRADE_REQUIRED, "This path needs a WebSocket (Upgrade: websocket)", _HEADERS
        )
    if b"upgrade" not in header_list(headers, b"connection"):
        raise HttpError(
            ErrorCode.UPGRADE_REQUIRED,
            "Connection: Upgrade is missing, which a proxy may have removed",
            _HEADERS,
        )
    if headers.getRawHeaders(b"sec-websocket-version", []) != [_VERSION]:
        raise HttpError(
            ErrorCode.UPGRADE_REQUIRED,
            "Sec-WebSocket-Version must be 13",
            {**_HEADERS, "Sec-WebSocket-Version": _VERSION.decode()},
        )
    keys = headers.getRawHeaders(b"sec-websocket-key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        raise HttpError(
            ErrorCode.BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in Base64, given once"
        )
    return generate_accept_token(keys[0])


def _is_key(text: bytes) -> bool:
    try:
        return len(b64decode(text, validate=True)) == _KEY_LENGTH
    except NotBase64:
        return False


def text_frame(text: str) -> bytes:
    """
    Return the frame that sends `text` as a message to any client.
    """
    return bytes(FrameProtocol(client=False, extensions=[]).send_data(text))


def ping_frame() -> bytes:
    """
    Return the frame that asks any client whether it is there.
    """
    return bytes(FrameProtocol(client=False, extensions=[]).ping())


class Frames:
    """
    Read the frames of one client, and answer those that need an answer.

    Attributes:
        closed: Whether both sides have said that they close the connection, or the client
            breaks the protocol: nothing more that it sends is read.
    """

    def __init__(self) -> None:
        self.closed = False
        self._connection = Connection(ConnectionType.SERVER)
        self._message_size = 0

    def receive(self, data: bytes) -> bytes:
        """
        Return what to send in response to `data`, which may be cut at any byte.
        """
        if self.closed:
            return b""
        answers: list[bytes] = []
        self._connection.receive_data(data)
        for event in self._connection.events():
            match event:
                case Ping() if self._connection.state is ConnectionState.OPEN:
                    answers.append(self._connection.send(event.response()))
                case Message():
                    self._message_size += len(event.data)
                    if self._message_size > MAX_MESSAGE:
                        answers.append(self.close(CloseReason.MESSAGE_TOO_BIG, "too big"))
                        self.closed = True
                        break
                    if event.message_finished:
                        self._message_size = 0
                case CloseConnection():
                    # The client closes, or what it sent cannot be read.
                    answers.append(self._answer_close(event))
                    self.closed = True
                    break
        return b"".join(answers)

    def close(self, code: int, reason: str) -> bytes:
        """
        Return what to send in order to close the connection; nothing if that was sent already.
        """
        return self._answer_close(CloseConnection(code, reason))

    def _answer_close(self, event: CloseConnection) -> bytes:
        states = (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING)
        if self._connection.state not in states:
            return b""
        return bytes(self._connection.send(CloseConnection(event.code, event.reason)))
