"""
Send requests from synchronous code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import httpx

from kiroworkers_client.answers import Answer
from kiroworkers_client.calls import Calls
from kiroworkers_client.defaults import RETRY, TIMEOUT, new_calls
from kiroworkers_client.events import Answered, Event
from kiroworkers_client.methods import describe
from kiroworkers_client.retries import RetryPolicy
from kiroworkers_client.steps import Open, Read, Run, Script, Sleep, Step
from kiroworkers_client.transport import failure_from, head_from, request_from

P = ParamSpec("P")
T = TypeVar("T")


class _Driver(Generic[T]):
    """
    Perform the steps of a script.
    """

    def __init__(self, http: httpx.Client, base: str, script: Script[T]) -> None:
        self._http = http
        self._base = base
        self._run = Run(script)
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] | None = None

    def next_event(self) -> Event | None:
        """
        Return the next event of the script; None at its end.
        """
        step = self._run.advance()
        while isinstance(step, Step):
            try:
                result = self._perform(step)
            except httpx.RequestError as error:
                step = self._run.advance(failure=failure_from(error))
            else:
                step = self._run.advance(result)
        return step

    def finish(self) -> T:
        """
        Return what the script returns, and leave out its events.
        """
        try:
            while self.next_event() is not None:
                pass
            return self._run.value
        finally:
            self.close()

    def close(self) -> None:
        """
        Close the response, and end the script.
        """
        self._run.close()
        self._close_response()

    def _perform(self, step: Step) -> Any:
        match step:
            case Open():
                self._close_response()
                request = request_from(self._http, self._base, step)
                self._response = self._http.send(request, stream=True, follow_redirects=False)
                self._chunks = self._response.iter_bytes()
                return head_from(self._response)
            case Read():
                assert self._chunks is not None, "a response is open"
                return next(self._chunks, b"")
            case Sleep(seconds):
                self._close_response()
                time.sleep(seconds)
                return None

    def _close_response(self) -> None:
        self._chunks = None
        response, self._response = self._response, None
        if response is not None:
            response.close()


class EventStream:
    """
    Iterate over the events of one request, in a ``with`` statement.

    `Kiro.stream` returns one.
    """

    def __init__(self, driver: _Driver[None]) -> None:
        self._driver = driver
        self._first: Event | None = None
        self._is_entered = False

    def __enter__(self) -> EventStream:
        self._is_entered = True
        try:
            self._first = self._driver.next_event()
        except BaseException:
            self._driver.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._driver.close()

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> Event:
        if not self._is_entered:
            # Nothing would close its connection.
            raise RuntimeError("use the stream in a with statement")
        event, self._first = self._first, None
        if event is None:
            event = self._driver.next_event()
        if event is None:
            raise StopIteration
        return event

    def answer(self) -> Answer[dict[str, Any]]:
        """
        Return the answer, and leave out all events before it.

        Raises:
            KiroError: There is no answer.
            ValueError: The answer was returned before.
        """
        for event in self:
            if isinstance(event, Answered):
                return event.answer
        raise ValueError("the stream has ended")


def _performed(
    call: Callable[Concatenate[Calls, P], Script[T]],
) -> Callable[Concatenate[Kiro, P], T]:
    """
    Return the method of `Kiro` that performs a method of `Calls`.
    """

    @wraps(call)
    def method(self: Kiro, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._driver(call(self._calls, *args, **kwargs)).finish()

    return describe(method, call, "Kiro")


def _streamed(
    call: Callable[Concatenate[Calls, P], Script[None]],
) -> Callable[Concatenate[Kiro, P], EventStream]:
    """
    Return the method of `Kiro` that streams the events of a method of `Calls`.
    """

    @wraps(call)
    def method(self: Kiro, /, *args: P.args, **kwargs: P.kwargs) -> EventStream:
        return EventStream(self._driver(call(self._calls, *args, **kwargs)))

    return describe(method, call, "Kiro", "EventStream")


class Kiro:
    """
    Represent a kiroworkers server, for synchronous programs.

    Close it after use, or use it in a ``with`` statement.  It may be shared by threads.

    Args:
        base_url: The address of the server, such as ``http://127.0.0.1:8080``.
        token: The token to send, for a server that asks for one.
        timeout: The seconds that a request to a task may take, retries included, unless it has
            its own timeout; None for no limit.
        retry: Whether and how failed requests are sent again; None for never.
        http_client: The httpx client to use, with its own proxies, certificates or transport.  It
            is not closed.

    Raises:
        ValueError: If an argument is invalid.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: float | None = TIMEOUT,
        retry: RetryPolicy | None = RETRY,
        http_client: httpx.Client | None = None,
    ) -> None:
        self._calls = new_calls(base_url, token, timeout, retry)
        self._owns_http = http_client is None
        self._http = httpx.Client() if http_client is None else http_client

    ask = _performed(Calls.ask)
    generate_story = _performed(Calls.generate_story)
    generate_test = _performed(Calls.generate_test)
    analyze_invest = _performed(Calls.analyze_invest)
    stream = _streamed(Calls.stream)
    submit = _performed(Calls.submit)
    job = _performed(Calls.job)
    jobs = _performed(Calls.jobs)
    wait = _performed(Calls.wait)
    follow = _streamed(Calls.follow)
    cancel = _performed(Calls.cancel)
    health = _performed(Calls.health)
    ready = _performed(Calls.ready)
    tasks = _performed(Calls.tasks)

    def close(self) -> None:
        """
        Close all connections, unless the httpx client is the user's own.
        """
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Kiro:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _driver(self, script: Script[T]) -> _Driver[T]:
        return _Driver(self._http, self._calls.base, script)
