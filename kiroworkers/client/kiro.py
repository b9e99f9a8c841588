"""
A client of a kiroworkers server, for Twisted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypedDict, TypeVar, Unpack, cast
from urllib.parse import quote

import treq
from attrs import evolve, frozen
from hyperlink import URL, EncodedURL
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TooLate
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectingTooLong
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from kiroworkers.client.event_stream import Event, EventReader, EventTooLong
from kiroworkers.client.events import Queued, Retrying, Said, Started

__all__ = [
    "Answer",
    "BadRequest",
    "Failed",
    "Kiro",
    "KiroError",
    "Postponed",
    "Queued",
    "Retrying",
    "Review",
    "ReviewWarning",
    "Said",
    "Started",
    "Story",
    "Terms",
    "Test",
    "TimedOut",
    "Unavailable",
    "Watch",
]

#: Seconds beyond a request's own time-out until the server is not waited for: it
#: has better words for what happened.
_GRACE = 5.0

#: Seconds for what asks no agent.
_QUICK = 10.0

#: The most bytes that a response may have.
_MOST = 32 * 1024 * 1024

#: The shortest wait until a request is made again, in seconds.
_SHORTEST_WAIT = 0.5

_EVENTS = "text/event-stream"
_ADDRESS = re.compile(r"https?://[^/?#\s@]+(/[^?#\s]*)?")

T = TypeVar("T")


class _Address(EncodedURL):
    """
    A URL whose host may be an address of IPv6, which is no name to be encoded.
    """

    def to_uri(self) -> URL:
        return self if ":" in self.host else super().to_uri()


@frozen
class KiroError(Exception):
    """
    Why there is no answer: one of the classes below.

    Attributes:
        status: of the response, or that the error would have had; None where none
            came.
        code: the machine's word for it, as in README, or ``unreachable`` or
            ``cut_off``, where there is no response, or ``not_json``.
        retry_after: the seconds after which to come again, where it may help.
        body: all that the server says of it.
    """

    status: int | None
    code: str
    sentence: str
    retry_after: float | None
    body: Mapping[str, Any]

    def __str__(self) -> str:
        return self.sentence


class BadRequest(KiroError):
    """
    The request is refused as it is, and would be again.
    """


class Unavailable(KiroError):
    """
    Nobody can answer now, or nothing listens there: nothing was done, so the
    request may be made again.
    """


class TimedOut(KiroError):
    """
    There was no answer in time.
    """


class Failed(KiroError):
    """
    The agent, or the server, failed at this request.
    """


@frozen
class Postponed:
    """
    The server cannot answer now, for `reason`; it is asked again in so many seconds.
    """

    reason: str
    seconds: float


#: Is told what becomes of a request.
Watch = Callable[[Queued | Started | Said | Retrying | Postponed], object]


class Terms(TypedDict, total=False):
    """
    How a request wants to be treated.

    Attributes:
        timeout: seconds until it is given up, all waits included; without it the
            server's own deadline holds.
        priority: 0 to 9, the most urgent.
        agent: who is to answer.
        patience: for so many seconds the request is made again when the server
            says that nobody can answer now, and when to come back.  0 without.
        watch: is told what becomes of the request.
    """

    timeout: float | None
    priority: int | None
    agent: str | None
    patience: float
    watch: Watch | None


@frozen
class Answer(Generic[T]):
    """
    The answer, which fits the task's schema, and how it came about.

    Attributes:
        attempts: how many sessions were asked.
        repairs: how often the last was asked for an answer that fits; None where
            that is not known, since who watches is not told.
        completion: how the end of the turn was known, or None likewise.
        source: where the text was read, or None likewise.
    """

    value: T
    agent: str | None
    worker: str | None
    attempts: int
    repairs: int | None = None
    completion: str | None = None
    source: str | None = None


class Story(TypedDict):
    """
    The answer of ``generate-story``.
    """

    title: str
    asA: str
    iWant: str
    soThat: str
    storyPoint: int
    components: list[str]
    acceptanceCriteria: list[str]


class Test(TypedDict):
    """
    The answer of ``generate-test``.
    """

    title: str
    given: list[str]
    when: list[str]
    then: list[str]


class _WarningNeeds(TypedDict):
    criterion: str
    message: str
    suggestion: str


class ReviewWarning(_WarningNeeds, total=False):
    """
    What is wrong by one of the INVEST criteria.
    """

    details: str


class _ReviewNeeds(TypedDict):
    summary: str
    warnings: list[ReviewWarning]


class Review(_ReviewNeeds, total=False):
    """
    The answer of ``analyze-invest``.
    """

    score: int
    strengths: list[str]


class Kiro:
    """
    The server at `base_url`; `token` is for one that asks for tokens.

    What a method raises, where there is no answer, is a `KiroError`; a Deferred
    that is cancelled fails with `CancelledError`.

    Raises:
        ValueError: where `base_url` is no address such as
            ``http://127.0.0.1:8080``.
    """

    def __init__(self, base_url: str, token: str | None = None, *, reactor: Any = None) -> None:
        if not _ADDRESS.fullmatch(base_url):
            raise ValueError(f"{base_url} is no address such as http://127.0.0.1:8080")
        self._base = base_url.rstrip("/")
        # What is no port is told now.
        _Address.from_text(self._base)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._given_reactor = reactor

    async def ask(
        self, task: str, body: Mapping[str, Any], **terms: Unpack[Terms]
    ) -> Answer[dict[str, Any]]:
        """
        The answer of `task` to `body`.
        """
        clock = self._reactor
        began, timeout = clock.seconds(), terms.get("timeout")
        patience, watch = terms.get("patience", 0.0), terms.get("watch")
        if timeout is not None:
            patience = min(patience, timeout)
        while True:
            spent = clock.seconds() - began
            left = None if timeout is None else timeout - spent
            try:
                return await self._within(left, self._ask(task, body, terms, left))
            except Unavailable as busy:
                if busy.retry_after is None:
                    raise
                wait = max(busy.retry_after, _SHORTEST_WAIT)
                if clock.seconds() - began + wait >= patience:
                    raise
                if watch is not None:
                    watch(Postponed(str(busy), wait))
            await deferLater(clock, wait)

    async def generate_story(
        self,
        idea: str,
        parent_story: Mapping[str, Any] | None = None,
        components: Sequence[str] | None = None,
        **terms: Unpack[Terms],
    ) -> Answer[Story]:
        """
        A user story for `idea`, which may be a part of `parent_story` and name
        `components` of these.
        """
        body = {"idea": idea, "parentStory": parent_story, "components": components}
        return cast(Answer[Story], await self.ask("generate-story", body, **terms))

    async def generate_test(
        self, story: Mapping[str, Any], idea: str | None = None, **terms: Unpack[Terms]
    ) -> Answer[Test]:
        """
        An acceptance test for `story`, which has a title at least.
        """
        body = {"story": story, "idea": idea}
        return cast(Answer[Test], await self.ask("generate-test", body, **terms))

    async def analyze_invest(
        self, story: Mapping[str, Any], **terms: Unpack[Terms]
    ) -> Answer[Review]:
        """
        A review of `story`, which has a title at least, by the INVEST criteria.
        """
        return cast(Answer[Review], await self.ask("analyze-invest", {"story": story}, **terms))

    async def health(self) -> dict[str, Any]:
        """
        The server and each worker, as ``GET /health``.
        """
        return await self._within(_QUICK, self._get("/health"))

    async def tasks(self) -> dict[str, dict[str, Any]]:
        """
        Every task by its name, with its schemas and an example.
        """
        body = await self._within(_QUICK, self._get("/kiro"))
        try:
            return {each["name"]: each for each in body["tasks"]}
        except (KeyError, TypeError):
            raise _failed("not_json", f"{self._base} is no kiroworkers", 200) from None

    @property
    def _reactor(self) -> Any:
        if self._given_reactor is None:
            from twisted.internet import reactor

            return reactor
        return self._given_reactor

    async def _within(self, seconds: float | None, request: Coroutine[Any, Any, T]) -> T:
        """
        The result of `request`, in so many seconds and the grace.
        """
        result: Deferred[T] = Deferred.fromCoroutine(request)
        if seconds is not None:
            result.addTimeout(seconds + _GRACE, self._reactor)
        try:
            return await result
        except TooLate:
            sentence = f"{self._base} did not answer within {seconds:g} s"
            raise TimedOut(None, "timed_out", sentence, None, {}) from None

    async def _get(self, path: str) -> dict[str, Any]:
        response = await self._request("GET", path, {})
        return await self._json(response)

    async def _ask(
        self, task: str, body: Mapping[str, Any], terms: Terms, timeout: float | None
    ) -> Answer[dict[str, Any]]:
        watch = terms.get("watch")
        wishes = {
            "Accept": None if watch is None else _EVENTS,
            "X-Request-Timeout": None if timeout is None else f"{timeout:.3f}",
            "X-Priority": terms.get("priority"),
            "X-Agent": terms.get("agent"),
        }
        headers = {name: str(value) for name, value in wishes.items() if value is not None}
        path = f"/kiro/{quote(task, safe='')}"
        response = await self._request("POST", path, headers, json=dict(body))
        told = _told(response)
        if watch is None or not (_header(response, "Content-Type") or "").startswith(_EVENTS):
            return evolve(told, value=await self._json(response))
        listener = _Listener(watch)
        await self._read(response, listener.take)
        if listener.error is not None:
            status = listener.error.get("status")
            raise _error(status if isinstance(status, int) else 500, listener.error, None)
        if listener.answer is None:
            raise _failed("cut_off", f"{self._base} ended the stream without an answer")
        return evolve(
            told, value=listener.answer, worker=listener.worker, attempts=listener.attempts
        )

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], **body: Any
    ) -> IResponse:
        said = {**self._headers, **headers}
        try:
            response: IResponse = await _cancellable(
                treq.request(
                    method,
                    _Address.from_text(self._base + path),
                    headers=Headers({name: [text] for name, text in said.items()}),
                    persistent=False,
                    allow_redirects=False,
                    unbuffered=True,
                    reactor=self._reactor,
                    **body,
                )
            )
        except (ConnectError, DNSLookupError, ConnectingTooLong) as problem:
            sentence = f"cannot reach {self._base}: {problem}"
            raise Unavailable(None, "unreachable", sentence, None, {}) from None
        except (RequestTransmissionFailed, ResponseFailed, ConnectionClosed) as problem:
            raise self._cut_off(problem) from None
        return response

    async def _json(self, response: IResponse) -> dict[str, Any]:
        """
        The body of a response with 200.
        """
        pieces: list[bytes] = []
        size = 0

        def take(data: bytes) -> bool:
            nonlocal size
            size += len(data)
            if size > _MOST:
                raise EventTooLong(f"the response has more than {_MOST} bytes")
            pieces.append(data)
            return False

        await self._read(response, take)
        text = b"".join(pieces)
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            sentence = f"{self._base} answered {response.code}, and no JSON: {text[:80]!r}"
            said = {"error": sentence, "code": "not_json"}
            if response.code == 200:
                raise _failed("not_json", sentence, 200)
        if response.code != 200:
            raise _error(response.code, said, _header(response, "Retry-After"))
        return said

    async def _read(self, response: IResponse, take: Callable[[bytes], bool]) -> None:
        body = _Body(take)
        response.deliverBody(body)
        try:
            await body.finished
        except EventTooLong as problem:
            raise _failed("too_long", f"{self._base}: {problem}") from None
        except _Lost as problem:
            raise self._cut_off(problem.reason) from None

    def _cut_off(self, problem: Exception) -> Failed:
        """
        What to raise for a connection that ended before its time.
        """
        reasons = getattr(problem, "reasons", [])
        said = "; ".join(str(each.value) for each in reasons) or str(problem)
        return _failed("cut_off", f"{self._base} ended the connection: {said}")


def _cancellable(doing: Deferred[Any]) -> Deferred[Any]:
    """
    The result of `doing`, or `CancelledError` when it is cancelled: that of a
    connection has errors of many kinds then.
    """

    aborted = False

    def cancel(_: Deferred[Any]) -> None:
        nonlocal aborted
        aborted = True
        doing.cancel()

    def deliver(found: Any) -> None:
        if not aborted:
            result.callback(found)

    result: Deferred[Any] = Deferred(cancel)
    doing.addBoth(deliver)
    return result


class _Lost(Exception):
    """
    The connection ended within a body.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


class _Body(Protocol):
    """
    Passes the body of a response to `take`, and hangs up where that fails or says
    that it is enough.

    Attributes:
        finished: fires at its end; who cancels it hangs up.
    """

    def __init__(self, take: Callable[[bytes], bool]) -> None:
        self._take = take
        self._over = False
        self.finished: Deferred[None] = Deferred(lambda _: self._hang_up())

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        try:
            enough = self._take(data)
        except Exception:
            self._hang_up()
            self.finished.errback()
            return
        if enough:
            self._hang_up()
            self.finished.callback(None)

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        if self._over:
            return
        self._over = True
        if reason.check(ResponseDone, PotentialDataLoss):
            self.finished.callback(None)
        else:
            self.finished.errback(_Lost(cast(Exception, reason.value)))

    def _hang_up(self) -> None:
        self._over = True
        transport: Any = self.transport
        transport.loseConnection()


class _Listener:
    """
    Takes the events of one request, and tells `watch` of those before the last.

    Attributes:
        answer: the answer, when it has come.
        error: else what the server says of why there is none.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._events = EventReader(_MOST)
        self.answer: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.worker: str | None = None
        self.attempts = 1

    def take(self, data: bytes) -> bool:
        """
        Take bytes, cut anywhere.  Has the server said how it ended?
        """
        for event in self._events.feed(data):
            self._tell(event)
        return self.answer is not None or self.error is not None

    def _tell(self, event: Event) -> None:
        try:
            said = json.loads(event.data)
        except (ValueError, RecursionError):
            said = None
        # Events that are not known here, or say more, are those of a later server.
        match event.name, said:
            case "answer", dict():
                self.answer = said
            case "error", dict():
                self.error = said
            case "queued", {"position": int(position), "estimate": int() | float() as seconds}:
                self._watch(Queued(position, seconds))
            case "started", {"worker": str(worker), "attempt": int(attempt)}:
                self.worker, self.attempts = worker, attempt
                self._watch(Started(worker, attempt))
            case "text", {"text": str(text)}:
                self._watch(Said(text))
            case "retry", {"reason": str(reason)}:
                self._watch(Retrying(reason))


def _told(response: IResponse) -> Answer[dict[str, Any]]:
    """
    What the headers of `response` say of the answer in it.
    """
    whole = _header(response, "X-Kiroworkers-Worker") is not None
    return Answer(
        value={},
        agent=_header(response, "X-Kiroworkers-Agent"),
        worker=_header(response, "X-Kiroworkers-Worker"),
        attempts=_number(_header(response, "X-Kiroworkers-Attempts"), 1),
        repairs=_number(_header(response, "X-Kiroworkers-Repairs"), 0) if whole else None,
        completion=_header(response, "X-Kiroworkers-Completion"),
        source=_header(response, "X-Kiroworkers-Source"),
    )


def _header(response: IResponse, name: str) -> str | None:
    found: Any = response.headers.getRawHeaders(name)
    return found[0] if found else None


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise


def _error(status: int, body: Mapping[str, Any], retry_after: str | None) -> KiroError:
    """
    The error that `body` describes.
    """
    kind: type[KiroError] = Failed
    if status in (429, 503):
        kind = Unavailable
    elif status in (408, 504):
        kind = TimedOut
    elif status < 500:
        kind = BadRequest
    seconds: Any = body.get("retryAfter")
    if not (isinstance(seconds, (int, float)) and 0 <= seconds < math.inf):
        seconds = int(retry_after) if retry_after and retry_after.isdecimal() else None
    sentence = str(body.get("error", f"The server answered {status}"))
    return kind(status, str(body.get("code", "unknown")), sentence, seconds, body)


def _failed(code: str, sentence: str, status: int | None = None) -> Failed:
    return Failed(status, code, sentence, None, {})
