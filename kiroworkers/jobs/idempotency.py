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
    AnswerUnfit,
    AnswerUnreadable,
    KeyMismatch,
    OutputTooLong,
    WorkError,
)
from kiroworkers.jobs.job import Key, Said
from kiroworkers.jobs.store import Store
from kiroworkers.pool.progress import Progress, Watch

#: What cost a turn and would cost another: all else may well go better next time.
COSTLY: tuple[type[WorkError], ...] = (AgentRefused, AnswerUnfit, AnswerUnreadable, OutputTooLong)

#: Asks, and tells the watch what becomes of it.
Asking = Callable[[Watch], Coroutine[Deferred[Any], Any, Said]]


@define(eq=False)
class _Shared:
    """
    A request that runs, and who waits for it.
    """

    fingerprint: str
    waiting: dict[Deferred[Said], Watch] = field(factory=dict)
    turn: Deferred[Said] | None = None

    def watch(self, progress: Progress) -> None:
        for each in list(self.waiting.values()):
            each(progress)


class Once:
    """
    Asks each request once, and keeps what was said in `store`.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._shared: dict[Key, _Shared] = {}

    def job(self, key: Key, fingerprint: str) -> str | None:
        """
        The id of the job that was made under `key`.

        @raise KeyMismatch: when something else was asked under it.
        """
        self._check(key, fingerprint)
        kept = self._store.kept(key)
        return None if kept is None else kept.job

    async def ask(
        self, key: Key, fingerprint: str, asking: Asking, watch: Watch
    ) -> tuple[Said, bool]:
        """
        What is, or was, said to the request of `fingerprint` under `key`; and is
        it another's?  Who is cancelled leaves; the last one gives the turn up.

        @raise KeyMismatch: when something else was asked under `key`.
        """
        self._check(key, fingerprint)
        kept = self._store.kept(key)
        if kept is not None and kept.said is not None:
            return kept.said, True
        shared = self._shared.get(key)
        joins = shared is not None
        if shared is None:
            shared = self._shared[key] = _Shared(fingerprint)
        waiter: Deferred[Said] = Deferred(lambda gone: self._leave(key, gone))
        shared.waiting[waiter] = watch
        if not joins:
            shared.turn = Deferred.fromCoroutine(asking(shared.watch))
            shared.turn.addBoth(self._said, key, shared)
        return await waiter, joins

    def _check(self, key: Key, fingerprint: str) -> None:
        known = self._shared.get(key) or self._store.kept(key)
        if known is not None and known.fingerprint != fingerprint:
            raise KeyMismatch()

    def _said(self, said: Said | Failure, key: Key, shared: _Shared) -> None:
        if self._shared.get(key) is shared:
            del self._shared[key]
        if isinstance(said, Said) and said.kept:
            try:
                self._store.keep(key, shared.fingerprint, said, self._clock.seconds())
            except Exception:
                # Who waits has an answer all the same.
                self._log.failure("an answer is not kept")
        waiting, shared.waiting = shared.waiting, {}
        for each in waiting:
            each.callback(said)

    def _leave(self, key: Key, gone: Deferred[Said]) -> None:
        shared = self._shared[key]
        del shared.waiting[gone]
        if not shared.waiting:
            # Who comes now begins anew.
            del self._shared[key]
            assert shared.turn is not None, "it runs"
            shared.turn.cancel()
