"""
Send the messages of one call as server-sent events: notifications, and finally the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.mcp.jsonrpc import notification
from kiroworkers.web.events import EventWriter, event, json_event

#: The name of an event that has a message.
_MESSAGE = "message"


class MessageStream:
    """
    Send the messages of one call to its client.

    The response begins with the first message, or with a comment if there is none for a while.
    The caller must call `close` when the request ends, however it ends.

    Args:
        clock: Times the comments that keep the connection open.
        request: The request to respond to.
    """

    def __init__(self, clock: IReactorTime, request: IRequest) -> None:
        self._clock = clock
        self._request = request
        self._writer: EventWriter | None = None

    @property
    def is_open(self) -> bool:
        """
        Return whether the result of the call is to be an event.
        """
        return self._writer is not None

    @property
    def started(self) -> bool:
        """
        Return whether the response has begun.
        """
        return self._writer is not None and self._writer.started

    def open(self) -> None:
        """
        Send the result as an event, and comments until there is one.
        """
        self._opened()

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """
        Send a notification.
        """
        message = notification(method, params)
        self._opened().write(json_event(message, _MESSAGE))

    def drained(self) -> Deferred[None]:
        """
        Return a Deferred that fires when everything that was sent is on its way.
        """
        return self._opened().drained()

    async def end(self, message: Mapping[str, Any]) -> None:
        """
        Send the response of JSON-RPC, and return when it is on its way.
        """
        writer = self._opened()
        writer.write(json_event(message, _MESSAGE))
        await writer.drained()

    async def end_without_response(self) -> None:
        """
        End the stream of a call whose client wants no response any more.
        """
        writer = self._opened()
        writer.write_comment("cancelled")
        await writer.drained()

    def close(self) -> None:
        """
        Send nothing more, and stop the timers.
        """
        if self._writer is not None:
            self._writer.close()

    def _opened(self) -> EventWriter:
        if self._writer is None:
            self._writer = EventWriter(self._clock, self._request, event)
        return self._writer
