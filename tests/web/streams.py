"""
A request in memory whose client reads its response only when the test says so.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.web.test.requesthelper import DummyRequest


def streamed_request() -> Any:
    """
    Return a `StreamedRequest`, which is not a whole `IRequest`.
    """
    return StreamedRequest()


class StreamedRequest(DummyRequest):
    """
    Keep what is written as the response, and register a push producer.

    Attributes:
        written: What was written.
        producer: The registered producer.
        transport: The connection, which can be aborted.
        slow: Whether the client must read before more than one piece is written.
    """

    path = b"/kiro/generate-story"
    channel: Any = "the channel"

    def __init__(self) -> None:
        super().__init__([b""])
        self.client = IPv4Address("TCP", "192.0.2.1", 1)
        self.slow = False
        self.producer: Any = None
        self.transport = StringTransport()

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.slow:
            self.producer.pauseProducing()

    def registerProducer(self, prod: Any, s: bool) -> None:
        assert s, "a push producer"
        self.producer = prod

    def unregisterProducer(self) -> None:
        self.producer = None

    def sent(self) -> bytes:
        """
        Return what was written, as one string.
        """
        return b"".join(self.written)
