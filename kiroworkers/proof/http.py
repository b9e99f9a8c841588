"""
Send requests to the server that is proven.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.web.client import Agent, FileBodyProducer, ResponseNeverReceived, readBody
from twisted.web.http_headers import Headers


@frozen
class Response:
    """
    Hold a response of the server.

    Attributes:
        code: Its status.
        headers: Its headers, by their names in lower case.
        body: Its body, parsed as JSON.
        seconds: How long it took.
    """

    code: int
    headers: Mapping[str, str]
    body: Any
    seconds: float


class Client:
    """
    Send requests, each over a connection of its own.

    Cancelling a request hangs up.

    Args:
        reactor: Connects, and tells the time.
        base: The address of the server, without a slash at its end.
    """

    def __init__(self, reactor: Any, base: str) -> None:
        self._reactor = reactor
        self._agent = Agent(reactor)
        self._base = base

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """
        Send a request and return the response.

        Args:
            method: The method.
            path: The path, with its leading slash.
            body: The body, as a JSON value; None for none.
            headers: More headers.

        Raises:
            CancelledError: If this is cancelled.
        """
        started_at = self._reactor.seconds()
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        producer = None if body is None else FileBodyProducer(BytesIO(json.dumps(body).encode()))
        try:
            response = await self._agent.request(
                method.encode(),
                f"{self._base}{path}".encode(),
                Headers({name: [value] for name, value in all_headers.items()}),
                producer,
            )
        except ResponseNeverReceived as error:
            # Twisted wraps the cancellation of a request that was sent.
            if any(reason.check(CancelledError) for reason in error.reasons):
                raise CancelledError from None
            raise
        content = await readBody(response)
        return Response(
            response.code,
            {
                name.decode().lower(): values[0].decode("latin-1")
                for name, values in response.headers.getAllRawHeaders()
            },
            json.loads(content),
            self._reactor.seconds() - started_at,
        )
