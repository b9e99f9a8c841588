"""
Execute requests with the same idempotency key only once.

What is replayed is an answer, or a failure that would occur again.  Any other failure
belongs to the request that met it: a deadline, for example, is that of one client.

With several servers, a key is reserved in their store while its request is executed.  The others
wait until it has a response or is free.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.errors import IdempotencyKeyMismatch, RequestTimedOut, StorageUnavailable
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.stored_response import (
    IdempotencyKey,
    IdempotencyRecord,
    StoredResponse,
)
from kiroworkers.pool.progress import OnProgress, Progress

#: Executes a request, and calls the given function with each step of its progress.
Execute = Callable[[OnProgress | None], Coroutine[Deferred[Any], Any, StoredResponse]]

#: The longest time for which a client waits until its answer is stored, in seconds.
_MAX_SAVE_TIME = 1.0

#: Seconds beyond its deadline after which a request that is executed at once waits no longer.
_OWNER_SLACK = 0.5


class KeyChanges(Protocol):
    """
    Tell what other servers do with idempotency keys.
    """

    def next(self, key: IdempotencyKey) -> Deferred[None]:
        """
        Return a Deferred that fires when `key` may have a response, or may be free.

        It fires at regular intervals as well, so it must be looked at again.
        """


@define(eq=False)
class _Waiter:
    """
    Represent a client that waits for a response.

    Attributes:
        done: Fires with the response; or with None if the client must execute the request
            itself, because the response was for another client only.
        on_progress: Called with each step of the execution.
        deadline: The time until which the client waits.
        timer: Ends its waiting.
    """

    done: Deferred[StoredResponse | None]
    on_progress: OnProgress | None
    deadline: float
    timer: IDelayedCall | None = None


@define(eq=False)
class _Execution:
    """
    Hold a request that is being executed, and the clients that wait for its response.

    Attributes:
        fingerprint: Identifies what is asked.
        owner: The client whose request is executed, with its deadline; None if it has left.
        waiters: All clients that wait, the owner included.
        task: Fires when the request has been executed.
        response: The response to all clients, once there is one.
        replayed: Whether the response had been stored before.
        reserved: Whether the key is reserved for this execution.
        delivered: Whether the clients have the response, though it is not stored yet.
    """

    fingerprint: str
    owner: _Waiter | None = None
    waiters: list[_Waiter] = field(factory=list)
    task: Deferred[None] | None = None
    response: StoredResponse | None = None
    replayed: bool = False
    reserved: bool = False
    delivered: bool = False

    def on_progress(self, progress: Progress) -> None:
        for waiter in list(self.waiters):
            if waiter.on_progress is not None:
                waiter.on_progress(progress)

    def deliver(self) -> None:
        """
        Give the response to all clients that wait.
        """
        self.delivered = True
        self.finish(self.response)

    def finish(self, result: StoredResponse | Failure | None) -> None:
        """
        Give `result` to all clients that wait.
        """
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.done.callback(result)


class IdempotencyCache:
    """
    Execute each request once per idempotency key, and replay the stored response.

    Args:
        clock: Measures how long clients wait.
        wall_clock: Returns the time in seconds since the epoch.
        store: Keeps the responses.
        max_wait: The longest time that any client waits, in seconds.
        changes: Tells of the keys of other servers; None if there are none.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        store: JobStore,
        max_wait: float,
        changes: KeyChanges | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._store = store
        self._max_wait = max_wait
        self._changes = changes
        self._executions: dict[IdempotencyKey, _Execution] = {}

    def check_fingerprint(self, key: IdempotencyKey, fingerprint: str) -> None:
        """
        Check that no request with another fingerprint is being executed under `key`.

        Raises:
            IdempotencyKeyMismatch: There is one.
        """
        execution = self._executions.get(key)
        if execution is not None and execution.fingerprint != fingerprint:
            raise IdempotencyKeyMismatch()

    async def run(
        self,
        key: IdempotencyKey,
        fingerprint: str,
        execute: Execute,
        on_progress: OnProgress | None,
        timeout: float | None = None,
    ) -> tuple[StoredResponse, bool]:
        """
        Return the response to the request under `key`, executing it if necessary.

        If the same request is being executed, wait for its response.  If that turns out
        to be a failure that is not replayed, execute the request again.  A caller that is
        cancelled stops waiting, and when the last one is cancelled, so is the execution.

        Args:
            key: The idempotency key.
            fingerprint: Identifies what is asked.
            execute: Executes the request, until its own deadline.
            on_progress: Called with each step of the execution.
            timeout: The client's own deadline in seconds from now, which applies if it is
                shorter than that of the server.

        Returns:
            The response, and whether another request with this key caused it.

        Raises:
            IdempotencyKeyMismatch: The key was used for a request with another fingerprint.
            RequestTimedOut: The deadline passed while another request was being executed.
            StorageUnavailable: It is not known what was asked under the key, or the response
                could not be stored.
        """
        limit = self._max_wait if timeout is None else min(timeout, self._max_wait)
        deadline = self._clock.seconds() + limit
        waited = False
        while True:
            self.check_fingerprint(key, fingerprint)
            execution = self._executions.get(key)
            joined = execution is not None
            if execution is None:
                execution = self._executions[key] = _Execution(fingerprint)
            if execution.delivered and execution.response is not None:
                return execution.response, True
            waiter = self._new_waiter(key, execution, on_progress, deadline)
            left = max(0.0, deadline - self._clock.seconds())
            if not (joined or waited):
                # The dispatcher enforces its deadline and knows more, but only once the store
                # has been read.
                left += _OWNER_SLACK
            timer = self._clock.callLater(left, self._expire, key, execution, waiter, limit)
            waiter.timer = timer
            if not joined:
                execution.owner = waiter
                self._start(key, execution, execute)
            try:
                response = await waiter.done
            finally:
                if timer.active():
                    timer.cancel()
            if response is not None:
                return response, joined or execution.replayed
            waited = True

    def _new_waiter(
        self,
        key: IdempotencyKey,
        execution: _Execution,
        on_progress: OnProgress | None,
        deadline: float,
    ) -> _Waiter:
        done: Deferred[StoredResponse | None] = Deferred(
            lambda _: self._leave(key, execution, waiter)
        )
        waiter = _Waiter(done, on_progress, deadline)
        execution.waiters.append(waiter)
        return waiter

    def _start(self, key: IdempotencyKey, execution: _Execution, execute: Execute) -> None:
        response = Deferred.fromCoroutine(self._respond(key, execution, execute))
        execution.task = response.addCallbacks(
            self._on_response,
            self._on_failure,
            callbackArgs=(key, execution),
            errbackArgs=(key, execution),
        )

    async def _respond(
        self, key: IdempotencyKey, execution: _Execution, execute: Execute
    ) -> StoredResponse:
        """
        Return the response that is stored under `key`, or else execute the request.
        """
        record = await self._reserve(key, execution)
        if record is None:
            execution.reserved = True
            # Otherwise the next request with this key would cost another turn.
            self._store.check_available()
            return await execute(execution.on_progress)
        if record.fingerprint != execution.fingerprint or record.response is None:
            raise IdempotencyKeyMismatch()
        execution.replayed = True
        return record.response

    async def _reserve(
        self, key: IdempotencyKey, execution: _Execution
    ) -> IdempotencyRecord | None:
        """
        Reserve `key`, or return what is stored under it once no other server is executing it.
        """
        while True:
            # A change while the store is read counts.
            changed = None if self._changes is None else self._changes.next(key)
            try:
                record = await self._store.reserve_key(key, execution.fingerprint)
                if record is None or not record.in_progress or changed is None:
                    return record
                if record.fingerprint != execution.fingerprint:
                    return record
                self._end_slack(execution.owner)
                await changed
            finally:
                if changed is not None:
                    changed.addErrback(lambda failure: failure.trap(CancelledError))
                    changed.cancel()

    def _end_slack(self, owner: _Waiter | None) -> None:
        """
        Let a client wait until its own deadline only, because no dispatcher enforces it.
        """
        if owner is not None and owner.timer is not None and owner.timer.active():
            owner.timer.reset(max(0.0, owner.deadline - self._clock.seconds()))

    def _release(self, key: IdempotencyKey, execution: _Execution) -> None:
        """
        Let other servers execute the request, because there is no response to keep.
        """
        if execution.reserved:
            self._store.release_key(key).addErrback(self._log_unexpected)

    def _log_unexpected(self, failure: Failure) -> None:
        if failure.check(StorageUnavailable) is None:
            self._log.failure("cannot store what became of an idempotency key", failure)

    def _on_response(
        self, response: StoredResponse, key: IdempotencyKey, execution: _Execution
    ) -> None:
        """
        Store `response` if it is cacheable, and give it to the clients that it is for.
        """
        if execution.replayed:
            self._remove(key, execution)
            execution.finish(response)
        elif not response.cacheable:
            self._remove(key, execution)
            self._release(key, execution)
            owner = execution.owner
            if owner is not None:
                execution.waiters.remove(owner)
                owner.done.callback(response)
            # The others have deadlines of their own.
            execution.finish(None)
        else:
            execution.response = response
            timer = self._clock.callLater(_MAX_SAVE_TIME, execution.deliver)
            saved = self._store.save_response(
                key, execution.fingerprint, response, self._wall_clock()
            )
            saved.addBoth(self._on_saved, key, execution, timer)

    def _on_saved(
        self,
        result: Failure | None,
        key: IdempotencyKey,
        execution: _Execution,
        timer: IDelayedCall,
    ) -> None:
        if isinstance(result, Failure):
            self._log_unexpected(result)
        if timer.active():
            timer.cancel()
        self._remove(key, execution)
        execution.deliver()

    def _on_failure(self, failure: Failure, key: IdempotencyKey, execution: _Execution) -> None:
        self._remove(key, execution)
        self._release(key, execution)
        execution.finish(failure)

    def _remove(self, key: IdempotencyKey, execution: _Execution) -> None:
        if self._executions.get(key) is execution:
            del self._executions[key]

    def _expire(
        self, key: IdempotencyKey, execution: _Execution, waiter: _Waiter, limit: float
    ) -> None:
        """
        Let a client wait no longer; it gets the response if there is one.
        """
        response = execution.response
        self._leave(key, execution, waiter)
        if response is None:
            waiter.done.errback(RequestTimedOut(limit))
        else:
            waiter.done.callback(response)

    def _leave(self, key: IdempotencyKey, execution: _Execution, waiter: _Waiter) -> None:
        """
        Remove a client that waits, and cancel the execution if it was the last one.
        """
        execution.waiters.remove(waiter)
        if execution.owner is waiter:
            execution.owner = None
        if not execution.waiters and execution.response is None:
            # The next request with this key starts another execution.
            self._remove(key, execution)
            assert execution.task is not None, "it was set when the first client came"
            execution.task.cancel()
