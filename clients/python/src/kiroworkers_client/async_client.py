"""
Send requests from asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

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

    def __init__(self, http: httpx.AsyncClient, base: str, script: Script[T]) -> None:
        self._http = http
        self._base = base
        self._run = Run(script)
        self._response: httpx.Response | None = None
        self._chunks: AsyncGenerator[bytes, None] | None = None

    async def next_event(self) -> Event | None:
        """
        Return the next event of the script; None at its end.
        """
        step = self._run.advance()
        while isinstance(step, Step):
            try:
                result = await self._perform(step)
            except httpx.RequestError as error:
                step = self._run.advance(failure=failure_from(error))
            else:
                step = self._run.advance(result)
        return step

    async def finish(self) -> T:
        """
        Return what the script returns, and leave out its events.
        """
        try:
            while await self.next_event() is not None:
                pass
            return self._run.value
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """
        Close the response, and end the script.
        """
        self._run.close()
        await self._close_response()

    async def _perform(self, step: Step) -> Any:
        match step:
            case Open():
                await self._close_response()
                request = request_from(self._http, self._base, step)
                self._response = await self._http.send(request, stream=True, follow_redirects=False)
                self._chunks = cast(AsyncGenerator[bytes, None], self._response.aiter_bytes())
                return head_from(self._response)
            case Read():
                assert self._chunks is not None, "a response is open"
                return await anext(self._chunks, b"")
            case Sleep(seconds):
                await self._close_response()
                await asyncio.sleep(seconds)
                return None

    async def _close_response(self) -> None:
        chunks, self._chunks = self._chunks, None
        response, self._response = self._response, None
        if chunks is not None:
            await chunks.aclose()
        if response is not None:
            await response.aclose()


class AsyncEventStream:
    """
    Iterate over the events of one request, in an ``async with`` statement.

    `AsyncKiro.stream` returns one.
    """

    def __init__(self, driver: _Driver[None]) -> None:
        self._driver = driver
        self._first: Event | None = None
        self._is_entered = False

    async def __aenter__(self) -> AsyncEventStream:
        self._is_entered = True
        try:
            self._first = await self._driver.next_event()
        except BaseException:
            await self._driver.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._driver.aclose()

    def __aiter__(self) -> AsyncEventStream:
        return self

    async def __anext__(self) -> Event:
        if not self._is_entered:
            # Nothing would close its connection.
            raise RuntimeError("use the stream in an async with statement")
        event, self._first = self._first, None
        if event is None:
            event = await self._driver.next_event()
        if event is None:
            raise StopAsyncIteration
        return event

    async def answer(self) -> Answer[dict[str, Any]]:
        """
        Return the answer, and leave out all events before it.

        Raises:
            KiroError: There is no answer.
            ValueError: The answer was returned before.
        """
        async for event in self:
            if isinstance(event, Answered):
                return event.answer
        raise ValueError("the stream has ended")


def _awaited(
    call: Callable[Concatenate[Calls, P], Script[T]],
) -> Callable[Concatenate[AsyncKiro, P], Coroutine[Any, Any, T]]:
    """
    Return the method of `AsyncKiro` that performs a method of `Calls`.
    """

    @wraps(call)
    async def method(self: AsyncKiro, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._driver(call(self._calls, *args, **kwargs)).finish()

    return describe(method, call, "AsyncKiro")


def _streamed(
    call: Callable[Concatenate[Calls, P], Script[None]],
) -> Callable[Concatenate[AsyncKiro, P], AsyncEventStream]:
    """
    Return the method of `AsyncKiro` that streams the events of a method of `Calls`.
    """

    @wraps(call)
    def method(self: AsyncKiro, /, *args: P.args, **kwargs: P.kwargs) -> AsyncEventStream:
        return AsyncEventStream(self._driver(call(self._calls, *args, **kwargs)))

    return describe(method, call, "AsyncKiro", "AsyncEventStream")


class AsyncKiro:
    """
    Represent a kiroworkers server, for programs that run asyncio.

    Close it after use, or use it in an ``async with`` statement.  It may be shared by all tasks of
    one event loop.  Cancelling a task cancels its request on the server.

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
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self._calls = new_calls(base_url, token, timeout, retry)
        self._owns_http = http_client is None
        self._http = httpx.AsyncClient() if http_client is None else http_client

    ask = _awaited(Calls.ask)
    generate_story = _awaited(Calls.generate_story)
    generate_test = _awaited(Calls.generate_test)
    analyze_invest = _awaited(Calls.analyze_invest)
    stream = _streamed(Calls.stream)
    submit = _awaited(Calls.submit)
    job = _awaited(Calls.job)
    jobs = _awaited(Calls.jobs)
    wait = _awaited(Calls.wait)
    follow = _streamed(Calls.follow)
    cancel = _awaited(Calls.cancel)
    health = _awaited(Calls.health)
    ready = _awaited(Calls.ready)
    tasks = _awaited(Calls.tasks)

    async def aclose(self) -> None:
        """
        Close all connections, unless the httpx client is the user's own.
        """
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncKiro:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _driver(self, script: Script[T]) -> _Driver[T]:
        return _Driver(self._http, self._calls.base, script)
