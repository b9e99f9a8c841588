"""
One turn for all that ask the same under the same key.
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
    KeyMismatch,
    OutputTooLong,
    WorkError,
)
from kiroworkers.jobs.job import IdempotencyKey, StoredResponse
from kiroworkers.jobs.store import JobStore
from kiroworkers.pool.progress import OnProgress, Progress

#: What cost a turn and would cost another: all else may well go better next time.
CACHEABLE_FAILURES: tuple[type[WorkError], ...] = (
    AgentRefused,
    AnswerSchemaMismatch,
    AnswerUnreadable,
    OutputTooLong,
)

#: Asks, and tells the watch what becomes of it.
Execute = Callable[[OnProgress | None], Coroutine[Deferred[Any], Any, StoredResponse]]


@define(eq=False)
class _Shared:
    """
    A request that runs, and who waits for it.
    """

    fingerprint: str
    waiting: dict[Deferred[StoredResponse], OnProgress | None] = field(factory=dict)
    turn: Deferred[StoredResponse] | None = None

    def on_progress(self, progress: Progress) -> None:
        for on_progress in list(self.waiting.values()):
            if on_progress is not None:
                on_progress(progress)


class IdempotencyCache:
    """
    Asks each request once, and keeps what was said in `store`.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: JobStore) -> None:
        self._clock = clock
        self._store = store
        self._shared: dict[IdempotencyKey, _Shared] = {}

    def job(self, key: IdempotencyKey, fingerprint: str) -> str | None:
        """
        The id of the job that was made under `key`.

        Raises:
            KeyMismatch: when something else was asked under it.
        """
        self._check(key, fingerprint)
        record = self._store.record(key)
        return None if record is None else record.job

    async def ask(
        self, key: IdempotencyKey, fingerprint: str, asking: Execute, on_progress: OnProgress | None
    ) -> tuple[StoredResponse, bool]:
        """
        What is, or was, said to the request of `fingerprint` under `key`; and is
        it another's?  Who is cancelled leaves; the last one gives the turn up.

        Raises:
            KeyMismatch: when something else was asked under `key`.
        """
        self._check(key, fingerprint)
        record = self._store.record(key)
        if record is not None and record.said is not None:
            return record.said, True
        shared = self._shared.get(key)
        joins = shared is not None
        if shared is None:
            shared = self._shared[key] = _Shared(fingerprint)
        waiter: Deferred[StoredResponse] = Deferred(lambda gone: self._leave(key, gone))
        shared.waiting[waiter] = on_progress
        if not joins:
            shared.turn = Deferred.fromCoroutine(asking(shared.on_progress))
            shared.turn.addBoth(self._said, key, shared)
        return await waiter, joins

    def _check(self, key: IdempotencyKey, fingerprint: str) -> None:
        known = self._shared.get(key) or self._store.record(key)
        if known is not None and known.fingerprint != fingerprint:
            raise KeyMismatch()

    def _said(self, said: StoredResponse | Failure, key: IdempotencyKey, shared: _Shared) -> None:
        if self._shared.get(key) is shared:
            del self._shared[key]
        if isinstance(said, StoredResponse) and said.cacheable:
            try:
                self._store.keep(key, shared.fingerprint, said, self._clock.seconds())
            except Exception:
                # Who waits has an answer all the same.
                self._log.failure("an answer is not kept")
        waiting, shared.waiting = shared.waiting, {}
        for each in waiting:
            each.callback(said)

    def _leave(self, key: IdempotencyKey, gone: Deferred[StoredResponse]) -> None:
        shared = self._shared[key]
        del shared.waiting[gone]
        if not shared.waiting:
            # Who comes now begins anew.
            del self._shared[key]
            assert shared.turn is not None, "it runs"
            shared.turn.cancel()
