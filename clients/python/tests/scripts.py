"""
Play the part of a server and of the network for scripts, in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kiroworkers_client import Event, RetryPolicy
from kiroworkers_client.calls import Calls
from kiroworkers_client.sending import Sender
from kiroworkers_client.steps import Failure, Head, Open, Read, Run, Script, Sleep

T = TypeVar("T")


@dataclass(frozen=True)
class Response:
    """
    Hold what a server sends.

    Attributes:
        status: The status.
        body: The pieces of the body, and how the connection fails if it does.
        headers: The headers, with names in lower case.
        seconds: The time until the response.
    """

    status: int
    body: tuple[bytes | Failure, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def json_response(
    status: int, body: Any, headers: Mapping[str, str] | None = None, seconds: float = 0.0
) -> Response:
    """
    Return a response with a JSON body.
    """
    return Response(status, (json.dumps(body).encode(),), headers or {}, seconds)


def failure_response(status: int, code: str, retry_after: float | None = None) -> Response:
    """
    Return the response of a server to a request that failed.
    """
    body: dict[str, Any] = {"error": f"It failed: {code}", "code": code}
    if retry_after is not None:
        body["retryAfter"] = retry_after
    return json_response(status, body)


def stream_response(*events: tuple[str, Any], end: Failure | None = None) -> Response:
    """
    Return a stream of events, which ends with a failure of the connection if there is an `end`.
    """
    texts = (f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in events)
    pieces = (b": kiroworkers\n\n", *texts, *(() if end is None else (end,)))
    return Response(200, pieces, {"content-type": "text/event-stream"})


def job_stream(*events: tuple[str, str, Any], end: Failure | None = None) -> Response:
    """
    Return the events of a job with their identifiers, as `stream_response` does.
    """
    texts = (
        f"id: {id}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
        for id, name, data in events
    )
    pieces = (b": kiroworkers\n\n", *texts, *(() if end is None else (end,)))
    return Response(200, pieces, {"content-type": "text/event-stream"})


class Player:
    """
    Perform scripts with responses that are given, on a clock that only sleeping and waiting move.

    Attributes:
        calls: Makes the scripts.
        now: The time.
        sent: The requests that were sent.
        slept: How long the script slept, each time.
        events: The events of the script.

    Args:
        *responses: The response to each request, or why it was not sent.
        retry: Whether and how failed requests are sent again.
        timeout: The client's own timeout.
        random: The number that is drawn each time.
    """

    def __init__(
        self,
        *responses: Response | Failure,
        retry: RetryPolicy | None = RetryPolicy(),  # noqa: B008
        timeout: float | None = 120.0,
        random: float = 0.0,
        token: str | None = None,
    ) -> None:
        self.now = 1000.0
        self.sent: list[Open] = []
        self.slept: list[float] = []
        self.events: list[Event] = []
        self._responses = iter(responses)
        self._body: Iterable[bytes | Failure] = iter(())
        self._keys = iter(f"key{number}" for number in range(1, 100))
        sender = Sender("http://127.0.0.1:8080", token, retry, lambda: self.now, lambda: random)
        self.calls = Calls(sender, timeout, lambda: next(self._keys))

    def play(self, script: Script[T]) -> T:
        """
        Perform a script to its end, and return what it returns.
        """
        run = Run(script)
        step = run.advance()
        while step is not None:
            result: Any = None
            match step:
                case Open():
                    self.sent.append(step)
                    result = next(self._responses)
                    if isinstance(result, Response):
                        self.now += result.seconds
                        self._body = iter(result.body)
                        result = Head(result.status, result.headers)
                case Read():
                    result = next(iter(self._body), b"")
                case Sleep(seconds):
                    self.slept.append(seconds)
                    self.now += seconds
                case event:
                    self.events.append(event)
            if isinstance(result, Failure):
                step = run.advance(failure=result)
            else:
                step = run.advance(result)
        return run.value
