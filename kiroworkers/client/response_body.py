"""
Read the body of a response as it arrives, and hang up when no more of it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse


class BodyCutOff(Exception):
    """
    Raised when the connection ends within a body.

    Attributes:
        reason: How the connection ended.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


def deliver_body(response: IResponse, on_data: Callable[[bytes], bool]) -> Deferred[None]:
    """
    Pass the body of `response` to a function, piece by piece.

    Args:
        response: The response.
        on_data: Called with each piece of the body, cut anywhere; returns True when it
            needs no more.

    Returns:
        Fires at the end of the body, or when `on_data` needs no more.  Fails with what
        `on_data` raises, or with `BodyCutOff`.  Cancelling it closes the connection.
    """
    receiver = _BodyReceiver(on_data)
    response.deliverBody(receiver)
    return receiver.finished


class _BodyReceiver(Protocol):
    """
    Receive a body for `deliver_body`.

    Attributes:
        finished: The Deferred that `deliver_body` returns.
    """

    def __init__(self, on_data: Callable[[bytes], bool]) -> None:
        self._on_data = on_data
        self._done = False
        self.finished: Deferred[None] = Deferred(lambda _: self._hang_up())

    def dataReceived(self, data: bytes) -> None:
        if self._done:
            return
        try:
            enough = self._on_data(data)
        except Exception:
            self._hang_up()
            self.finished.errback()
            return
        if enough:
            self._hang_up()
            self.finished.callback(None)

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        if self._done:
            return
        self._done = True
        if reason.check(ResponseDone, PotentialDataLoss):
            self.finished.callback(None)
        else:
            self.finished.errback(BodyCutOff(cast(Exception, reason.value)))

    def _hang_up(self) -> None:
        self._done = True
        transport: Any = self.transport
        transport.loseConnection()
