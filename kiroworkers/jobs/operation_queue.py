"""
Run operations on a database outside the reactor's thread, in the order in which they are given.

An `Engine` runs them.  Operations that arrive while others run are given to it together, so that
it can commit them together.

If the storage fails, most operations fail with `StorageUnavailable`, and their caller
decides what to do.  Those that must not be lost are *kept*: they stay in memory, in their
order, and are repeated with a growing delay until they succeed.  While the storage fails,
writes that are not kept are refused at once, so nothing accumulates and no client waits.
The callers must bound how many operations are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Generic, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.executor import Executor
from kiroworkers.jobs.store import StorageStatus

C = TypeVar("C")
T = TypeVar("T")

#: Seconds until storage that has failed is tried again: at first, and at most after
#: doubling.
_FIRST_DELAY, _MAX_DELAY = 0.5, 5.0

#: The seconds by which a timer is late if this process has not run, because it was stopped.
_LATE = 0.5


@define(eq=False)
class Operation(Generic[C]):
    """
    Hold an operation on the database.

    Attributes:
        function: Performs it.
        writes: Whether it may change the database.
        kept: Whether it is repeated until it succeeds.
        done: Fires with its result.
        started: Whether the executor has it.
        result: What `function` returned or raised.
    """

    function: Callable[[C], Any]
    writes: bool
    kept: bool
    done: Deferred[Any] = field(init=False)
    started: bool = False
    result: Any = None

    def finish(self, result: Any) -> None:
        """
        Fire `done`, unless it was cancelled.
        """
        if not self.done.called:
            self.done.callback(result)


class Engine(Protocol[C]):
    """
    Run operations on a connection to a database.

    All methods are called in the executor's thread, one at a time, except where they say
    otherwise.

    Attributes:
        stall_timeout: Seconds after which storage counts as failing that does not answer: that
            has not run a whole batch.
        max_batch: The maximum number of operations that are run together.
    """

    stall_timeout: float
    max_batch: int

    def run_together(self, batch: Sequence[Operation[C]]) -> None:
        """
        Run `batch`, and set the result of each operation to what it returned, or to a `Failure`.
        """

    def run_each(self, batch: Sequence[Operation[C]]) -> None:
        """
        Run each operation in a transaction of its own, after the storage has failed.
        """

    def probe(self, connection: C, /) -> None:
        """
        Write something that changes nothing.
        """

    def is_storage_error(self, error: Exception) -> bool:
        """
        Return whether `error` is a fault of the storage rather than a bug; called in any thread.
        """

    def reason(self, error: Exception) -> str:
        """
        Return what clients learn of a fault of the storage; called in any thread.
        """

    def upkeep(self) -> Callable[[C], Any] | None:
        """
        Return what to run while nothing else waits, if anything; called in the reactor's thread.
        """

    def interrupt(self) -> None:
        """
        Make what runs fail, if that is possible; called in the reactor's thread.
        """

    def close(self) -> None:
        """
        Close the connection.
        """


class OperationQueue(Generic[C]):
    """
    Run operations on one database connection, in the order in which they are given.

    Args:
        clock: Schedules repetitions.
        wall_clock: Returns the time in seconds since the epoch.
        executor: Runs the operations, and nothing else.
        engine: Has the connection; from now on only the executor uses it.

    Attributes:
        status: Whether the storage works.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, wall_clock: WallClock, executor: Executor, engine: Engine[C]
    ) -> None:
        self.status = StorageStatus()
        self._failing_since = 0.0
        self._clock = clock
        self._wall_clock = wall_clock
        self._executor = executor
        self._engine = engine
        self._waiting: deque[Operation[C]] = deque()
        self._kept: list[Operation[C]] = []
        self._running = False
        self._stall_timer: IDelayedCall | None = None
        self._used = False
        self._closed: Deferred[None] | None = None
        self._delay = _FIRST_DELAY
        self._retry: IDelayedCall | None = None
        self._last_attempt = False
        # Operations whose results are still to be reported.
        self._done: deque[Operation[C]] = deque()
        self._delivery: IDelayedCall | None = None

    def read(self, function: Callable[[C], T]) -> Deferred[T]:
        """
        Call `function`, which only reads.

        Returns:
            A Deferred that fires with what the function returns or raises, or with
            `StorageUnavailable`.
        """
        return self._add(Operation(function, writes=False, kept=False))

    def write(self, function: Callable[[C], T]) -> Deferred[T]:
        """
        Call `function` in a transaction.

        If the Deferred is cancelled before the function is called, it is not called.

        Returns:
            A Deferred that fires, after the commit, with what the function returns or
            raises, or with `StorageUnavailable`.
        """
        operation = Operation(function, writes=True, kept=False)
        if self.status.reason is not None:
            operation.done = Deferred()
            operation.done.errback(self.unavailable())
            return operation.done
        return self._add(operation)

    def keep(self, function: Callable[[C], T]) -> Deferred[T]:
        """
        Call `function` in a transaction, as often as necessary until it is committed.

        Cancelling the Deferred does not prevent that.  A kept operation may be committed
        after those that were given later.

        Returns:
            A Deferred that fires, after the commit, with what the function returns or
            raises; or with `StorageUnavailable` when the queue is closed before that.
        """
        return self._add(Operation(function, writes=True, kept=True))

    def unavailable(self) -> StorageUnavailable:
        """
        Return the error for requests that need the storage while it fails.
        """
        seconds = 1.0 if self._retry is None else self._retry.getTime() - self._clock.seconds()
        return StorageUnavailable(self.status.reason or "", max(1, ceil(seconds)))

    def close(self) -> Deferred[None]:
        """
        Run what waits, try once more what is kept, and close the connection.

        Interrupt an operation that does not answer in time, so that the server can stop.
        """
        self._closed = Deferred()
        if not self._used:
            # The server could not start, and the executor may not work.
            self._engine.close()
            self._closed.callback(None)
            return self._closed
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._run_next()
        return self._closed

    def _add(self, operation: Operation[C]) -> Deferred[Any]:
        operation.done = Deferred(lambda _: self._withdraw(operation))
        if self._closed is not None and self._closed.called:
            operation.finish(Failure(StorageUnavailable("it is closed", 1)))
            return operation.done
        if operation.kept and self.status.reason is not None:
            self._kept.append(operation)
        elif self._stalled:
            operation.finish(Failure(self.unavailable()))
        else:
            self._waiting.append(operation)
        self._run_next()
        return operation.done

    def _withdraw(self, operation: Operation[C]) -> None:
        if not operation.kept and operation in self._waiting:
            self._waiting.remove(operation)

    def _run_next(self) -> None:
        """
        Give the executor what waits, unless it is busy.
        """
        if self._running:
            return
        if self._waiting:
            size = min(len(self._waiting), self._engine.max_batch)
            self._run([self._waiting.popleft() for _ in range(size)], self._engine.run_together)
        elif self._closed is not None:
            if self._kept:
                self._last_attempt = True
                self._retry_kept()
            else:
                # Nothing runs any more.
                self._running = True
                self._executor.call(self._engine.close).addBoth(self._on_closed)
        elif self.status.reason is None and (upkeep := self._engine.upkeep()) is not None:
            # `_on_failed` reports a failure.
            self.write(upkeep).addErrback(lambda _: None)

    def _run(
        self,
        batch: list[Operation[C]],
        run: Callable[[Sequence[Operation[C]]], None],
    ) -> None:
        self._running = self._used = True
        for operation in batch:
            operation.started = True
        self._start_stall_timer()
        running = self._executor.call(lambda: run(batch))
        running.addBoth(self._on_run, batch)

    def _on_run(self, failure: Failure | None, batch: list[Operation[C]]) -> None:
        """
        Report the results of `batch`, and run what waits.
        """
        self._running = False
        if self._stall_timer is not None and self._stall_timer.active():
            self._stall_timer.cancel()
        self._stall_timer = None
        if failure is not None:
            for operation in batch:
                operation.result = failure
        failed: list[Operation[C]] = []
        done: list[Operation[C]] = []
        for operation in batch:
            (done if self._storage_error(operation.result) is None else failed).append(operation)
        if failed:
            self._on_failed(failed)
        elif self.status.reason is not None and any(operation.writes for operation in batch):
            self._on_recovered()
        self._done.extend(done)
        if self._delivery is None:
            self._deliver()
        self._run_next()

    def _deliver(self) -> None:
        """
        Report the next result, and the others later, after other events are handled.
        """
        self._delivery = None
        if self._done:
            operation = self._done.popleft()
            operation.finish(operation.result)
        if self._done and self._delivery is None:
            self._delivery = self._clock.callLater(0, self._deliver)

    def _on_failed(self, failed: list[Operation[C]]) -> None:
        """
        Schedule the next attempt, and refuse what need not be kept.
        """
        error = self._storage_error(failed[0].result)
        assert error is not None, "the operation failed because of the storage"
        self._set_failing(self._engine.reason(error), str(error))
        # Nothing else is to be written now.  What has just failed is older than what waits.
        waiting = [operation for operation in self._waiting if operation.writes]
        self._waiting = deque(operation for operation in self._waiting if not operation.writes)
        failed = [*failed, *waiting]
        self._kept[:0] = [operation for operation in failed if operation.kept]
        if self._last_attempt:
            for operation in self._kept:
                operation.finish(Failure(self.unavailable()))
            self._log.error("storage: {n} change(s) could not be stored", n=len(self._kept))
            self._kept.clear()
        else:
            self._schedule_retry()
        for operation in failed:
            if not operation.kept:
                operation.finish(Failure(self.unavailable()))

    def _start_stall_timer(self) -> None:
        timer = self._clock.callLater(self._engine.stall_timeout, lambda: self._on_time(timer))
        self._stall_timer = timer

    def _on_time(self, timer: IDelayedCall) -> None:
        if self._clock.seconds() - timer.getTime() > _LATE:
            # The answer may be here, and is only still to be read.
            self._start_stall_timer()
        else:
            self._on_stalled()

    def _on_stalled(self) -> None:
        """
        Refuse what waits, because what runs has not ended for long; it may still succeed.
        """
        reason = f"it has not answered for {self._engine.stall_timeout:g} seconds"
        self._set_failing(reason, reason)
        waiting = list(self._waiting)
        self._waiting.clear()
        self._kept += [operation for operation in waiting if operation.kept]
        self._schedule_retry()
        for operation in waiting:
            if not operation.kept and not operation.done.called:
                operation.finish(Failure(self.unavailable()))
        self._engine.interrupt()

    @property
    def _stalled(self) -> bool:
        """
        Return whether what runs has not ended for long.
        """
        return self._stall_timer is not None and not self._stall_timer.active()

    def _set_failing(self, reason: str, detail: str) -> None:
        if self.status.reason is None:
            self.status = StorageStatus(reason, self._wall_clock())
            self._failing_since = self._clock.seconds()
            self._log.error(
                "storage: {detail}; requests for jobs are refused until it works again",
                detail=detail,
            )
        else:
            self.status = StorageStatus(reason, self.status.since)

    def _schedule_retry(self) -> None:
        if self._retry is None and self._closed is None:
            self._retry = self._clock.callLater(self._delay, self._retry_kept)
            self._delay = min(2 * self._delay, _MAX_DELAY)

    def _retry_kept(self) -> None:
        """
        Try again what is kept, or else whether anything can be written.
        """
        self._retry = None
        if self._running:
            self._retry = self._clock.callLater(_FIRST_DELAY, self._retry_kept)
            return
        batch, self._kept = self._kept, []
        if not batch:
            probe = Operation(self._engine.probe, writes=True, kept=False)
            probe.done = Deferred()
            # `_on_failed` reports a failure.
            probe.done.addErrback(lambda _: None)
            batch.append(probe)
        self._run(batch, self._engine.run_each)

    def _on_recovered(self) -> None:
        self.status = StorageStatus()
        self._delay = _FIRST_DELAY
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._waiting.extendleft(reversed(self._kept))
        self._kept.clear()
        seconds = self._clock.seconds() - self._failing_since
        self._log.info("storage works again, after {seconds:.1f} s", seconds=seconds)

    def _on_closed(self, result: object) -> None:
        if isinstance(result, Failure):
            self._log.failure("storage: cannot close the database", result)
        self._executor.stop()
        if self._delivery is not None:
            self._delivery.cancel()
        for operation in self._done:
            operation.finish(operation.result)
        assert self._closed is not None, "close() was called"
        self._closed.callback(None)

    def _storage_error(self, result: object) -> Exception | None:
        """
        Return the error if `result` is the failure of an operation because of the storage.
        """
        error = result.value if isinstance(result, Failure) else None
        if isinstance(error, Exception) and self._engine.is_storage_error(error):
            return error
        return None
