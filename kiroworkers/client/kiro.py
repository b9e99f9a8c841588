"""
Send requests to a kiroworkers server, and return its typed answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack, cast
from urllib.parse import quote

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimedOut
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.internet.task import deferLater
from twisted.web.client import RequestTransmissionFailed, ResponseFailed
from twisted.web.iweb import IResponse

from kiroworkers.client.answer_stream import AnswerStream
from kiroworkers.client.answers import Answer, Review, Story, Test
from kiroworkers.client.errors import Failed, TimedOut, Unavailable, error_from_response, failure
from kiroworkers.client.event_stream import EventTooLong
from kiroworkers.client.events import Postponed, Watch
from kiroworkers.client.http import base_address, send_request
from kiroworkers.client.response_body import BodyCutOff, deliver_body

__all__ = ["Kiro", "Terms"]

#: Seconds to wait beyond a request's own timeout: the server's error says more about
#: what happened than this client can.
_GRACE = 5.0

#: Seconds for requests that need no agent.
_AGENTLESS_TIMEOUT = 10.0

#: The maximum size of a response, or of one event of a stream, in bytes.
_MAX_RESPONSE_BYTES = 32 * 1024 * 1024

#: Shortest wait before a request is sent again, in seconds.
_MIN_RETRY_DELAY = 0.5

_EVENT_STREAM = "text/event-stream"
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)

T = TypeVar("T")


class Terms(TypedDict, total=False):
    """
    Define the options that every request takes.

    Attributes:
        timeout: Seconds after which the request is abandoned, including all waits.  Without
            it, the server's own deadline applies.
        priority: From 0 to 9; 9 is the most urgent.
        agent: The name of the agent that is to answer.
        model: The agent's model that is to answer.
        patience: Seconds during which the request is sent again whenever the server cannot
            answer and says when to retry.  With 0, the default, it is never sent again.
        watch: Called with each event of the request.
    """

    timeout: float | None
    priority: int | None
    agent: str | None
    model: str | None
    patience: float
    watch: Watch | None


class Kiro:
    """
    Represent a kiroworkers server.

    Every method raises a `KiroError` if there is no answer.  A Deferred made from one of
    them fails with `CancelledError` when it is cancelled.

    Args:
        base_url: The address of the server, such as ``http://127.0.0.1:8080``.
        token: The token to send, for a server that asks for one.
        reactor: The reactor to use; by default the one that is installed.

    Raises:
        ValueError: If `base_url` is not such an address.
    """

    def __init__(self, base_url: str, token: str | None = None, *, reactor: Any = None) -> None:
        self._base = base_address(base_url)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._given_reactor = reactor

    async def ask(
        self, task: str, body: Mapping[str, Any], **terms: Unpack[Terms]
    ) -> Answer[dict[str, Any]]:
        """
        Return the answer of the task named `task` to the input `body`.
        """
        clock = self._reactor
        started_at, timeout = clock.seconds(), terms.get("timeout")
        patience, watch = terms.get("patience", 0.0), terms.get("watch")
        if timeout is not None:
            patience = min(patience, timeout)
        while True:
            elapsed = clock.seconds() - started_at
            remaining = None if timeout is None else timeout - elapsed
            try:
                return await self._within(remaining, self._ask(task, body, terms, remaining))
            except Unavailable as error:
                if error.retry_after is None:
                    raise
                delay = max(error.retry_after, _MIN_RETRY_DELAY)
                if clock.seconds() - started_at + delay >= patience:
                    raise
                if watch is not None:
                    watch(Postponed(str(error), delay))
            await deferLater(clock, delay)

    async def generate_story(
        self,
        idea: str,
        parent_story: Mapping[str, Any] | None = None,
        components: Sequence[str] | None = None,
        **terms: Unpack[Terms],
    ) -> Answer[Story]:
        """
        Return a user story for `idea`.

        Args:
            idea: The idea, in plain text.
            parent_story: The story that the new one is a part of; it has at least a title.
            components: The components that the story may name.
            **terms: The options of `Terms`.
        """
        body = {"idea": idea, "parentStory": parent_story, "components": components}
        return cast(Answer[Story], await self.ask("generate-story", body, **terms))

    async def generate_test(
        self, story: Mapping[str, Any], idea: str | None = None, **terms: Unpack[Terms]
    ) -> Answer[Test]:
        """
        Return an acceptance test for `story`, which has at least a title.
        """
        body = {"story": story, "idea": idea}
        return cast(Answer[Test], await self.ask("generate-test", body, **terms))

    async def analyze_invest(
        self, story: Mapping[str, Any], **terms: Unpack[Terms]
    ) -> Answer[Review]:
        """
        Return a review of `story`, which has at least a title, by the INVEST criteria.
        """
        return cast(Answer[Review], await self.ask("analyze-invest", {"story": story}, **terms))

    async def health(self) -> dict[str, Any]:
        """
        Return the state of the server and of each worker: the body of ``GET /health``.
        """
        return await self._within(_AGENTLESS_TIMEOUT, self._get("/health"))

    async def tasks(self) -> dict[str, dict[str, Any]]:
        """
        Return every task by its name, with its schemas and an example.
        """
        body = await self._within(_AGENTLESS_TIMEOUT, self._get("/kiro"))
        try:
            return {task["name"]: task for task in body["tasks"]}
        except (KeyError, TypeError):
            raise failure("not_json", f"{self._base} is not a kiroworkers server", 200) from None

    @property
    def _reactor(self) -> Any:
        if self._given_reactor is None:
            from twisted.internet import reactor

            return reactor
        return self._given_reactor

    async def _within(self, seconds: float | None, request: Coroutine[Any, Any, T]) -> T:
        """
        Return the result of `request`, which may take `seconds` and the grace period.

        Raises:
            TimedOut: If it takes longer.
        """
        result: Deferred[T] = Deferred.fromCoroutine(request)
        if seconds is not None:
            result.addTimeout(seconds + _GRACE, self._reactor)
        try:
            return await result
        except DeferredTimedOut:
            sentence = f"{self._base} did not answer within {seconds:g} s"
            raise TimedOut(None, "timed_out", sentence, None, {}) from None

    async def _get(self, path: str) -> dict[str, Any]:
        response = await self._request("GET", path, {})
        return await self._read_json(response)

    async def _ask(
        self, task: str, body: Mapping[str, Any], terms: Terms, timeout: float | None
    ) -> Answer[dict[str, Any]]:
        watch = terms.get("watch")
        options = {
            "Accept": None if watch is None else _EVENT_STREAM,
            "X-Request-Timeout": None if timeout is None else f"{timeout:.3f}",
            "X-Priority": terms.get("priority"),
            "X-Agent": terms.get("agent"),
            "X-Model": terms.get("model"),
        }
        headers = {name: str(value) for name, value in options.items() if value is not None}
        path = f"/kiro/{quote(task, safe='')}"
        response = await self._request("POST", path, headers, json=dict(body))
        answer = _answer_without_value(partial(_header, response))
        content_type = _header(response, "Content-Type") or ""
        if watch is None or not content_type.startswith(_EVENT_STREAM):
            return evolve(answer, value=await self._read_json(response))
        stream = AnswerStream(watch, _MAX_RESPONSE_BYTES)
        await self._read_body(response, stream.feed)
        if stream.error is not None:
            status = stream.error.get("status")
            raise error_from_response(
                status if isinstance(status, int) else 500, stream.error, None
            )
        if stream.answer is None:
            raise failure("cut_off", f"{self._base} ended the stream without an answer")
        if stream.headers:
            described = _answer_without_value(partial(_text, stream.headers))
            return evolve(
                described, value=stream.answer, agent=answer.agent, request_id=answer.request_id
            )
        return evolve(answer, value=stream.answer, worker=stream.worker, attempts=stream.attempts)

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], **body: Any
    ) -> IResponse:
        headers = {**self._headers, **headers}
        try:
            response: IResponse = await send_request(
                self._reactor, method, self._base + path, headers, **body
            )
        except (ConnectError, DNSLookupError, ConnectTimedOut) as error:
            sentence = f"cannot reach {self._base}: {error}"
            raise Unavailable(None, "unreachable", sentence, None, {}) from None
        except (RequestTransmissionFailed, ResponseFailed, ConnectionClosed) as error:
            raise self._cut_off(error) from None
        return response

    async def _read_json(self, response: IResponse) -> dict[str, Any]:
        """
        Return the JSON object in the body of a response with status 200.

        Raises:
            KiroError: If the status is another one, or the body is not a JSON object.
        """
        pieces: list[bytes] = []
        size = 0

        def collect(data: bytes) -> bool:
            nonlocal size
            size += len(data)
            if size > _MAX_RESPONSE_BYTES:
                raise EventTooLong(f"the response has more than {_MAX_RESPONSE_BYTES} bytes")
            pieces.append(data)
            return False

        await self._read_body(response, collect)
        text = b"".join(pieces)
        try:
            payload = json.loads(text)
        except (ValueError, RecursionError):
            payload = None
        if not isinstance(payload, dict):
            sentence = f"{self._base} answered {response.code} without a JSON object: {text[:80]!r}"
            payload = {"error": sentence, "code": "not_json"}
            if response.code == 200:
                raise failure("not_json", sentence, 200)
        if response.code != 200:
            raise error_from_response(response.code, payload, _header(response, "Retry-After"))
        return payload

    async def _read_body(self, response: IResponse, on_data: Callable[[bytes], bool]) -> None:
        try:
            await deliver_body(response, on_data)
        except EventTooLong as error:
            raise failure("too_long", f"{self._base}: {error}") from None
        except BodyCutOff as error:
            raise self._cut_off(error.reason) from None

    def _cut_off(self, error: Exception) -> Failed:
        """
        Return the error for a connection that ended too early.
        """
        reasons = getattr(error, "reasons", [])
        detail = "; ".join(str(reason.value) for reason in reasons) or str(error)
        return failure("cut_off", f"{self._base} ended the connection: {detail}")


def _answer_without_value(header: Callable[[str], str | None]) -> Answer[dict[str, Any]]:
    """
    Return an answer without a value, with all that the headers say about it.

    Args:
        header: Returns the value of a header, or None.
    """
    # The headers of a stream precede the work, so they cannot name a worker.
    is_complete = header("X-Kiroworkers-Worker") is not None
    repairs = _int_or(header("X-Kiroworkers-Repairs"), 0)
    return Answer(
        value={},
        agent=header("X-Kiroworkers-Agent"),
        worker=header("X-Kiroworkers-Worker"),
        attempts=_int_or(header("X-Kiroworkers-Attempts"), 1),
        repairs=repairs if is_complete else None,
        completion=header("X-Kiroworkers-Completion"),
        source=header("X-Kiroworkers-Source"),
        model=header("X-Kiroworkers-Model"),
        credits=_float_or_none(header("X-Kiroworkers-Credits")),
        context_percent=_float_or_none(header("X-Kiroworkers-Context")),
        request_id=header("X-Request-ID"),
    )


def _header(response: IResponse, name: str) -> str | None:
    values: Any = response.headers.getRawHeaders(name)
    return values[0] if values else None


def _text(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return value if isinstance(value, str) else None


def _float_or_none(text: str | None) -> float | None:
    return float(text) if text is not None and _DECIMAL.fullmatch(text) else None


def _int_or(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() else default
