"""
Execute requests with the same idempotency key only once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.errors import (
    AgentRefused,
    AnswerSchemaMismatch,
    AnswerUnreadable,
    IdempotencyKeyMismatch,
    OutputTooLong,
    WorkError,
)
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
from kiroworkers.pool.progress import OnProgress, Progress

#: Failures that are stored: each cost a turn, and another attempt would cost another.  The
#: rest may well succeed next time.
CACHEABLE_FAILURES: tuple[type[WorkError], ...] = (
    AgentRefused,
    AnswerSchemaMismatch,
    AnswerUnreadable,
    OutputTooLong,
)

#: Executes a request, and calls the given function with each step of its progress.
Execute = Callable[[OnProgress | None], Coroutine[Deferred[Any], Any, StoredResponse]]


@define(eq=False)
class _Execution:
    """
    Hold a request that is being executed, and the clients that wait for its response.

    Attributes:
        fingerprint: Identifies what is asked.
        waiters: A Deferred for each client, with the client's progress callback.
        task: Fires with the response.
    """

    fingerprint: str
    waiters: dict[Deferred[StoredResponse], OnProgress | None] = field(factory=dict)
    task: Deferred[StoredResponse] | None = None

    def on_progress(self, progress: Progress) -> None:
        for on_progress in list(self.waiters.values()):
            if on_progress is not None:
                on_progress(progress)


class IdempotencyCache:
    """
    Execute each request once per idempotency key, and replay the stored response.

    Args:
        clock: Tells the time.
        store: Keeps the responses.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: JobStore) -> None:
        self._clock = clock
        self._store = store
        self._executions: dict[IdempotencyKey, _Execution] = {}

    def find_job(self, key: IdempotencyKey, fingerprint: str) -> str | None:
        """
        Return the id of the job that was created under `key`, or None.

        Raises:
            IdempotencyKeyMismatch: The key was used for a request with another fingerprint.
        """
        self._check_fingerprint(key, fingerprint)
        record = self._store.find_record(key)
        return None if record is None else record.job

    async def run(
        self,
        key: IdempotencyKey,
        fingerprint: str,
        execute: Execute,
        on_progress: OnProgress | None,
    ) -> tuple[StoredResponse, bool]:
        """
        Return the response to the request under `key`, executing it if necessary.

        If the same request is being executed, wait for its response.  A caller that is
        cancelled stops waiting, and when the last one is cancelled, so is the execution.

        Args:
            key: The idempotency key.
            fingerprint: Identifies what is asked.
            execute: Executes the request.
            on_progress: Called with each step of the execution.

        Returns:
            The response, and whether another request with this key caused it.

        Raises:
            IdempotencyKeyMismatch: The key was used for a request with another fingerprint.
        """
        self._check_fingerprint(key, fingerprint)
        record = self._store.find_record(key)
        if record is not None and record.response is not None:
            return record.response, True
        execution = self._executions.get(key)
        joined = execution is not None
        if execution is None:
            execution = self._executions[key] = _Execution(fingerprint)
        waiter: Deferred[StoredResponse] = Deferred(lambda waiter: self._leave(key, waiter))
        execution.waiters[waiter] = on_progress
        if not joined:
            execution.task = Deferred.fromCoroutine(execute(execution.on_progress))
            execution.task.addBoth(self._finish, key, execution)
        return await waiter, joined

    def _check_fingerprint(self, key: IdempotencyKey, fingerprint: str) -> None:
        known = self._executions.get(key) or self._store.find_record(key)
        if known is not None and known.fingerprint != fingerprint:
            raise IdempotencyKeyMismatch()

    def _finish(
        self, response: StoredResponse | Failure, key: IdempotencyKey, execution: _Execution
    ) -> None:
        """
        Store `response` if it is cacheable, and give it to every client that waits.
        """
        if self._executions.get(key) is execution:
            del self._executions[key]
        if isinstance(response, StoredResponse) and response.cacheable:
            try:
                self._store.save_response(
                    key, execution.fingerprint, response, self._clock.seconds()
                )
            except Exception:
                # The clients that wait get the response anyway.
                self._log.failure("cannot save a response under its idempotency key")
        waiters, execution.waiters = execution.waiters, {}
        for waiter in waiters:
            waiter.callback(response)

    def _leave(self, key: IdempotencyKey, waiter: Deferred[StoredResponse]) -> None:
        """
        Remove a cancelled `waiter`, and cancel the execution if it was the last one.
        """
        execution = self._executions[key]
        del execution.waiters[waiter]
        if not execution.waiters:
            # The next request with this key starts another execution.
            del self._executions[key]
            assert execution.task is not None, "it was set when the first client came"
            execution.task.cancel()
