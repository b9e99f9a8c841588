"""
Build the documents that describe the API, and keep them until what they describe changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import DeferredLock

from kiroworkers.tasks import Task
from kiroworkers.web.errors import JSON_TYPE, encode_json
from kiroworkers.web.openapi.document import build_document
from kiroworkers.web.representation import Representation
from kiroworkers.web.routing import Route


@frozen
class DescribedApi:
    """
    Hold what the documents are made from.

    Attributes:
        routes: The routes of the server.
        tasks: The tasks, in order.
        agents: The names of the agents; the first is the default.
        needs_token: Whether requests must have a token.
        has_callbacks: Whether the server calls the URL in ``X-Callback``.
        models: The models that clients may choose, as ``AGENT/MODEL``.
    """

    routes: tuple[Route, ...]
    tasks: tuple[Task, ...]
    agents: tuple[str, ...]
    needs_token: bool
    has_callbacks: bool
    models: tuple[str, ...] = ()


@frozen
class Documents:
    """
    Hold the documents about one `DescribedApi`.

    Attributes:
        catalogue: The list of tasks.
        openapi: The OpenAPI document.
    """

    catalogue: Representation
    openapi: Representation


_Result = TypeVar("_Result")


class RunInThread(Protocol):
    """
    Define a function that calls another one in a thread.
    """

    def __call__(self, function: Callable[[], _Result], /) -> Awaitable[_Result]:
        """
        Call `function` without occupying the event loop, and return what it returns.
        """


class DocumentCache:
    """
    Keep the documents about the current state of an API.

    Args:
        describe: Returns the current state.
        run_in_thread: Builds documents without occupying the event loop, because the time
            grows with the number of tasks.
    """

    def __init__(
        self,
        describe: Callable[[], DescribedApi],
        run_in_thread: Callable[[Callable[[], Documents]], Awaitable[Documents]],
    ) -> None:
        self._describe = describe
        self._run_in_thread = run_in_thread
        self._lock = DeferredLock()
        self._cached: tuple[DescribedApi, Documents] | None = None

    async def current(self) -> Documents:
        """
        Return the documents, after building them if what they describe has changed.
        """
        documents = self._lookup()
        if documents is not None:
            return documents
        await self._lock.acquire()
        try:
            documents = self._lookup()
            if documents is None:
                described = self._describe()
                documents = await self._run_in_thread(lambda: build_documents(described))
                self._cached = described, documents
            return documents
        finally:
            self._lock.release()

    def _lookup(self) -> Documents | None:
        described = self._describe()
        if self._cached is None or self._cached[0] != described:
            return None
        # Equal tasks that were read again are compared once; the same tasks take no time.
        self._cached = described, self._cached[1]
        return self._cached[1]


def build_documents(described: DescribedApi) -> Documents:
    """
    Build the documents about `described`.

    This takes about 10 ms for three tasks and 40 ms for a hundred.
    """
    agents = [*described.agents]
    catalogue = {"tasks": [*map(_task_json, described.tasks)], "agents": agents}
    document = build_document(
        described.routes,
        {task.name: task for task in described.tasks},
        agents,
        needs_token=described.needs_token,
        has_callbacks=described.has_callbacks,
        models=described.models,
    )
    return Documents(
        Representation(JSON_TYPE, encode_json(catalogue)),
        Representation(JSON_TYPE, encode_json(document)),
    )


def _task_json(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "title": task.title,
        "description": task.description,
        "method": "POST",
        "path": f"/kiro/{task.name}",
        "agent": task.agent,
        "model": task.model,
        "limits": {"timeout": task.limits.timeout, "prompt": task.limits.prompt},
        "input": task.input_schema,
        "answer": task.answer_schema,
        "example": {"input": task.example_input, "answer": task.example_answer},
    }
