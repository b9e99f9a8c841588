"""
The connections of clients: never more than there may be, and known, so that the
last answers reach them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from kiroworkers.web.addresses import host_of, is_local, rate_key
from kiroworkers.web.errors import HttpError, whole_response

#: Seconds after which one who found the server full may try again.
_FULL_GUESS = 5

#: Seconds that a client has to take what is written to it when the server ends.
_PATIENCE = 2.0


class ConnectionLimiter(WrappingFactory):
    """
    Passes connections on to `factory`, and knows those that are open.

    Args:
        most: how many there may be.
        most_of_one: how many of one address, or of one network of IPv6; 0 for
            any number.  Clients on this machine are not counted: a proxy is one.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory, most: int, most_of_one: int) -> None:
        super().__init__(factory)
        self._most = most
        self._most_of_one = most_of_one
        self._owners: Counter[str] = Counter()
        self._closed: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Who is one too many is told so.
        """
        owner = rate_key(host_of(addr))
        if len(self.protocols) >= self._most:
            return _TurnedAway(f"All {self._most} connections are taken")
        if 0 < self._most_of_one <= self._owners[owner] and not is_local(host_of(addr)):
            return _TurnedAway(f"All {self._most_of_one} connections of {owner} are taken")
        return super().buildProtocol(addr)

    def registerProtocol(self, connection: ProtocolWrapper) -> None:
        """
        A connection is open.
        """
        super().registerProtocol(connection)
        self._owners[rate_key(host_of(connection.getPeer()))] += 1

    def close(self, clock: IReactorTime) -> Deferred[None]:
        """
        Close every connection when what was written to it is sent; fires when
        all are closed.
        """
        if not self.protocols:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closed = closed
        alarm = clock.callLater(_PATIENCE, self._give_up)
        for connection in list(self.protocols):
            connection.loseConnection()

        def done(_: None) -> None:
            if alarm.active():
                alarm.cancel()

        return closed.addCallback(done)

    def unregisterProtocol(self, connection: ProtocolWrapper) -> None:
        """
        A connection is closed.
        """
        super().unregisterProtocol(connection)
        owner = rate_key(host_of(connection.getPeer()))
        self._owners[owner] -= 1
        if not self._owners[owner]:
            del self._owners[owner]
        if self._closed is not None and not self.protocols:
            closed, self._closed = self._closed, None
            closed.callback(None)

    def _give_up(self) -> None:
        for connection in list(self.protocols):
            connection.abortConnection()


class _TurnedAway(Protocol):
    """
    A connection that is not taken.
    """

    def __init__(self, why: str) -> None:
        self._why = why

    def connectionMade(self) -> None:
        assert self.transport is not None, "there is a client"
        refusal = HttpError(503, "too_many_connections", self._why, retry_after=_FULL_GUESS)
        self.transport.write(whole_response(refusal))
        self.transport.loseConnection()
