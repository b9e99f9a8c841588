"""
Receive callbacks, in good ways and in bad ones.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, Protocol

from attrs import define, field

from bench.chaos.world import SECRET

#: What receivers do: acknowledge, say nothing, and send header lines without end.
RECEIVERS = ("healthy", "tarpit", "headers")


class Ledger(Protocol):
    """
    Say where callbacks are written down.

    Attributes:
        callbacks: The bodies that the healthy receiver got, by the ids of the jobs.
    """

    callbacks: dict[str, list[Any]]

    def forbid(self, outcome: str, detail: str) -> None:
        """
        Count what must not happen, and describe it.
        """


@define
class Receivers:
    """
    Listen for callbacks; each way has a port of its own.

    Attributes:
        ledger: Where callbacks are written down.
    """

    ledger: Ledger
    _listeners: dict[str, socket.socket] = field(factory=dict)
    _over: Event = field(factory=Event)

    def url(self, receiver: str) -> str:
        """
        Return the URL of a receiver.
        """
        port = self._listeners[receiver].getsockname()[1]
        return f"http://127.0.0.1:{port}/{receiver}"

    def start(self) -> None:
        """
        Begin to listen.
        """
        for name in RECEIVERS:
            self._listeners[name] = socket.create_server(("127.0.0.1", 0), backlog=100)
            Thread(target=self._accept, args=(name,), daemon=True).start()

    def stop(self) -> None:
        """
        Close all connections.
        """
        self._over.set()
        for listener in self._listeners.values():
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, name: str) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listeners[name].accept()
                Thread(target=self._serve, args=(name, connection), daemon=True).start()

    def _serve(self, name: str, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(60)
            match name:
                case "healthy":
                    self._receive(connection)
                case "tarpit":
                    self._over.wait()
                case _:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    while not self._over.wait(0.01):
                        connection.sendall(b"X-More: of the same\r\n" * 50)

    def _receive(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            headers = {}
            file.readline()
            while line := file.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            size = int(headers.get("content-length", "0"))
            body = file.read(size)
        if not body or len(body) < size:
            return  # The server was killed.
        signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        if headers.get("x-kiroworkers-signature") != signature:
            self.ledger.forbid("wrong callbacks", f"{headers} {body!r}")
        else:
            job = json.loads(body)
            self.ledger.callbacks.setdefault(job["id"], []).append(job)
        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


@contextmanager
def receiving(ledger: Ledger) -> Iterator[Receivers]:
    """
    Run receivers; stop them afterwards.
    """
    receivers = Receivers(ledger)
    receivers.start()
    try:
        yield receivers
    finally:
        receivers.stop()
