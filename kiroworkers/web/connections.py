"""
The connections of clients, so that the last answers reach them.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

#: Seconds that a client has to take what is written to it when the server ends.
_PATIENCE = 2.0


class Connections(WrappingFactory):
    """
    Passes connections on to `factory`, and knows those that are open.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        super().__init__(factory)
        self._closed: Deferred[None] | None = None

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
        if self._closed is not None and not self.protocols:
            closed, self._closed = self._closed, None
            closed.callback(None)

    def _give_up(self) -> None:
        for connection in list(self.protocols):
            connection.abortConnection()
