"""
Receive the notifications of the database in the reactor, without a thread.

A notification is a hint: those that are sent while there is no connection are lost.  So subscribers
that need certainty also look at the database whenever a connection was made.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

import psycopg
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kiroworkers.cluster.engine import SCHEMA, Connection, connect

#: The channel of all notifications.
CHANNEL = SCHEMA

#: Seconds until a connection that broke is made again: at first, and at most after doubling.
_FIRST_DELAY, _MAX_DELAY = 0.5, 5.0

#: Called with the argument of a notification.
OnNotification: TypeAlias = Callable[[str], None]


@implementer(IReadDescriptor)
class _Listener:
    """
    Read the notifications of one connection.

    Args:
        reactor: Says when the connection can be read.
        connection: The connection; nothing else uses it.
        on_notification: Called with the payload of each notification.
        on_lost: Called once when the connection is lost.
    """

    def __init__(
        self,
        reactor: Any,
        connection: Connection,
        on_notification: Callable[[str], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._connection = connection
        self._on_notification = on_notification
        self._on_lost = on_lost
        # A duplicate: libpq closes its own when the connection breaks, before we learn of that.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "database notifications"

    def start(self) -> None:
        self._reactor.addReader(self)

    def doRead(self) -> None:
        pgconn = self._connection.pgconn
        try:
            pgconn.consume_input()
        except psycopg.Error as error:
            self.close()
            self._on_lost(str(error).strip())
            return
        while (notification := pgconn.notifies()) is not None:
            self._on_notification(notification.extra.decode("utf-8", "replace"))

    def connectionLost(self, reason: Failure) -> None:
        """
        Close the connection: the reactor found that its descriptor is of no use, or stops.
        """
        self.close()
        self._on_lost(reason.getErrorMessage())

    def close(self) -> None:
        self._reactor.removeReader(self)
        self._socket.close()
        self._connection.close()


class Notifications(Service):
    """
    Pass the notifications of the database on to those who subscribed to their topic.

    A payload is a topic and an argument, separated by a space.

    Args:
        reactor: Reads the connection, and lends a thread to make it.
        address: The connection string.
        timeout: Seconds that a statement may take.
    """

    _log = Logger()

    def __init__(self, reactor: Any, address: str, timeout: float) -> None:
        self._reactor = reactor
        self._address = address
        self._timeout = timeout
        self._subscribers: defaultdict[str, list[OnNotification]] = defaultdict(list)
        self._on_connected: list[Callable[[], None]] = []
        self._listener: _Listener | None = None
        self._connecting: Deferred[None] | None = None
        self._retry: IDelayedCall | None = None
        self._delay = _FIRST_DELAY
        self._is_failing = False

    @property
    def connected(self) -> bool:
        """
        Return whether notifications are received, as far as is known.
        """
        return self._listener is not None

    def subscribe(self, topic: str, on_notification: OnNotification) -> None:
        """
        Call `on_notification` with the argument of each notification of `topic`.
        """
        self._subscribers[topic].append(on_notification)

    def on_connected(self, call: Callable[[], None]) -> None:
        """
        Call `call` whenever a connection was made: notifications were lost before.
        """
        self._on_connected.append(call)

    def startService(self) -> None:
        """
        Make the connection.
        """
        super().startService()
        self._connect()

    def stopService(self) -> None:
        """
        Close the connection.
        """
        super().stopService()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def receive(self, payload: str) -> None:
        """
        Pass a notification on to its subscribers.
        """
        topic, _, argument = payload.partition(" ")
        for subscriber in self._subscribers.get(topic, ()):
            try:
                subscriber(argument)
            except Exception:
                self._log.failure("internal error while handling a notification")

    def _connect(self) -> None:
        self._retry = None
        connecting = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._listen)
        self._connecting = connecting.addCallbacks(self._connected, self._failed)

    def _listen(self) -> Connection:
        """
        Return a new connection that listens.  This blocks.
        """
        return connect(self._address, self._timeout, f"LISTEN {CHANNEL}")

    def _connected(self, connection: Connection) -> None:
        if not self.running:
            connection.close()
            return
        if self._is_failing:
            self._log.info("database: notifications are received again")
        self._is_failing, self._delay = False, _FIRST_DELAY
        self._listener = _Listener(self._reactor, connection, self.receive, self._lost)
        self._listener.start()
        # Those that arrived before the first read.
        self._listener.doRead()
        for call in self._on_connected:
            try:
                call()
            except Exception:
                self._log.failure("internal error after connecting to the database")

    def _failed(self, failure: Failure) -> None:
        if failure.check(psycopg.Error, OSError) is None:
            self._log.failure("database: internal error while connecting", failure)
        self._lost(failure.getErrorMessage().strip())

    def _lost(self, reason: str) -> None:
        self._listener = None
        if not self.running:
            return
        if not self._is_failing:
            self._log.warn("database: notifications are not received: {reason}", reason=reason)
        self._is_failing = True
        self._retry = self._reactor.callLater(self._delay, self._connect)
        self._delay = min(2 * self._delay, _MAX_DELAY)
