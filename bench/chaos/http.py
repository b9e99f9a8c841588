"""
Send requests over a connection and receive their responses, one after the other.

`http.client` cannot: it reads no second response that was sent ahead, and closes nothing by
halves.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Self

from attrs import frozen

#: Seconds until a response must have come.
_TIMEOUT = 60


@frozen(repr=False)
class Response:
    """
    Hold a response.

    Attributes:
        status: Its status.
        headers: Its headers by their names in lower case.
        body: Its body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:400]!r}"

    def json(self) -> Any:
        """
        Return the body as JSON.

        Raises:
            ValueError: It is no JSON.
        """
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """
        Return the code of a failure; empty if there is none.
        """
        try:
            body = self.json()
            error = body.get("error")
            return str(error["code"] if isinstance(error, dict) else body.get("code", ""))
        except (ValueError, AttributeError, KeyError):
            return ""


class Connection:
    """
    Connect to the port of a server on this machine.

    Every method raises `OSError` or `ValueError` if the connection ends too early.

    Attributes:
        silent: Whether nothing of a response has come since something was sent.
    """

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.silent = True
        try:
            if receive_buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(_TIMEOUT)
            self.socket.connect(("127.0.0.1", port))
        except BaseException:
            self.socket.close()
            raise
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """
        Close the connection.
        """
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """
        Send `data`.
        """
        self.silent = True
        self.socket.sendall(data)

    def half_close(self) -> None:
        """
        Say that nothing more will be sent.
        """
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self) -> Response:
        """
        Return the next response.
        """
        status, headers = self.receive_head()
        return Response(status, headers, self._body(status, headers))

    def receive_head(self) -> tuple[int, Mapping[str, str]]:
        """
        Return the status and the headers of the next response.
        """
        status = 100
        while status < 200:
            line = self._line()
            status = int(line.split()[1])
            headers = {}
            while line := self._line():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
        return status, headers

    def receive_chunks(self) -> Iterator[bytes]:
        """
        Yield the chunks of a body as they arrive.
        """
        while size := int(self._line(), 16):
            yield self._read(size)
            self._line()
        self._line()

    def _body(self, status: int, headers: Mapping[str, str]) -> bytes:
        if status in (204, 304):
            return b""
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(self.receive_chunks())
        if "content-length" in headers:
            return self._read(int(headers["content-length"]))
        return self._file.read()

    def _line(self) -> str:
        line = self._file.readline()
        self.silent = self.silent and not line
        if not line.endswith(b"\n"):
            raise ConnectionError(f"the connection ended after {line!r}")
        return line.decode("latin-1").rstrip("\r\n")

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError(f"the connection ended within a body, after {len(data)} bytes")
        return data
