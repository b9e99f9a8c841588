"""
Send requests, and note each of them for the comparison with the log.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from threading import local
from typing import Any

from attrs import define, field

from bench.chaos.http import Connection, Response
from bench.chaos.ledger import Ledger
from bench.chaos.plan import Plan
from bench.chaos.world import World

#: Seconds for which a connection is used again; the server closes those that are idle longer.
_KEEP_ALIVE = 2.0


class Cut(Exception):
    """
    Raised when the server was killed before its response came.
    """


class Unanswered(ConnectionError):
    """
    Raised when a connection ended before anything of the response came.
    """


@define
class Sender:
    """
    Send requests from several threads.

    Every method raises `Cut` if the server was killed, and `OSError` or `ValueError` if there is
    no valid response.

    Attributes:
        world: The server.
        ledger: Where requests are noted.
    """

    _world: World
    _ledger: Ledger
    _local: Any = field(factory=local)

    def connect(self, began: float) -> Connection:
        """
        Return a new connection for a request that began at that time.
        """
        try:
            return Connection(self._world.port)
        except OSError:
            self.check_cut(began)
            raise

    def check_cut(self, began: float) -> None:
        """
        Raise `Cut` if the server was killed after that time.
        """
        if self._ledger.was_killed(began) or not self._world.up.is_set():
            self._world.up.wait()
            raise Cut

    def exchange(
        self,
        plan: Plan,
        data: bytes | list[bytes],
        *,
        part: str = "",
        pause: float = 0.0,
        keep: bool = False,
        half_close: bool = False,
        client: str | None = None,
    ) -> Response:
        """
        Send a request, in pieces if it is a list, and return the response.

        With `keep`, the thread's connection is used again.  The server may close it, as an
        idle one, just when the request is sent: then the request is sent on a new connection
        (RFC 9112, section 9.3.1).

        Raises:
            Cut: The server was killed.
            OSError: There is none.
            ValueError: It is not valid.
        """
        pieces = [data] if isinstance(data, bytes) else data
        name, client = f"{plan.number}{part}", client or plan.client
        kept = self._kept() if keep else None
        if kept is not None:
            with suppress(Unanswered):
                return self._exchange(kept, name, client, pieces, pause, keep, half_close)
        return self._exchange(None, name, client, pieces, pause, keep, half_close)

    def _exchange(
        self,
        kept: Connection | None,
        name: str,
        client: str,
        pieces: list[bytes],
        pause: float,
        keep: bool,
        half_close: bool,
    ) -> Response:
        began = time.monotonic()
        connection = kept or self.connect(began)
        done = False
        try:
            for piece in pieces:
                connection.send(piece)
                time.sleep(pause)
            if half_close:
                connection.half_close()
            response = connection.receive()
            done = True
            self.note_failure(name, client, response)
        except (OSError, ValueError) as error:
            self._ledger.note_failure(name, client, connection=repr(error))
            self.check_cut(began)
            if isinstance(error, ConnectionError) and connection.silent:
                raise Unanswered(*error.args) from error
            raise
        finally:
            self._ledger.note_sent(name, client, began, answered=done, optional=not done)
            if keep and done and response.headers.get("connection") != "close":
                self._local.connection = (connection, time.monotonic(), self._world.generation)
            else:
                connection.close()
        return response

    def note_failure(self, name: str, client: str, response: Response) -> None:
        """
        Note what the client saw if `response` is a failure, or a stream that ends with one.
        """
        error = response.body if response.status >= 400 else _stream_error(response.body)
        if error:
            self._ledger.note_failure(
                name,
                client,
                status=response.status,
                id=response.headers.get("x-request-id"),
                body=error.decode(errors="replace")[:1000],
            )

    def _kept(self) -> Connection | None:
        """
        Return this thread's connection, or None if there is none that can be used.
        """
        connection, used, generation = getattr(self._local, "connection", (None, 0.0, 0))
        self._local.connection = (None, 0.0, 0)
        if connection is not None:
            if time.monotonic() - used < _KEEP_ALIVE and generation == self._world.generation:
                assert isinstance(connection, Connection)
                return connection
            connection.close()
        return None

    def send_only(
        self,
        plan: Plan,
        data: bytes,
        delay: float,
        reset: bool = False,
        receive_buffer: int | None = None,
        parts: int = 0,
    ) -> None:
        """
        Send requests, and disconnect after `delay` without reading.
        """
        began = time.monotonic()
        sent = False
        try:
            with Connection(self._world.port, receive_buffer) as connection:
                connection.send(data)
                sent = True
                time.sleep(delay)
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except OSError:
            self.check_cut(began)
            raise
        finally:
            # What was sent may never be read if the connection is reset.
            names = [f"{plan.number}.{n}" for n in range(parts)] or [str(plan.number)]
            for name in names:
                optional = reset or bool(parts) or not sent
                self._ledger.note_sent(name, plan.client, began, answered=False, optional=optional)


def _stream_error(body: bytes) -> bytes:
    """
    Return the data of the event with which a stream has failed; nothing if it has not.
    """
    return body.rpartition(b"event: error\n")[2] if b"event: error\n" in body else b""
