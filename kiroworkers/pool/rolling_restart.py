"""
New sessions for workers that need one: one at a time, so that the pool never
dips by more than one, and not at all where there is memory for two.
"""

from __future__ import annotations

from collections.abc import Callable

from kiroworkers.pool.worker import Worker


class RollingRestart:
    """
    Workers that are due, in the order in which they became so.

    Args:
        ahead: is there memory to start the successor first?
        spared: may the worker be without a session for a while?
    """

    def __init__(self, ahead: Callable[[Worker], bool], spared: Callable[[Worker], bool]) -> None:
        self._ahead = ahead
        self._spared = spared
        self._due: dict[Worker, str] = {}
        self._current: Worker | None = None

    def add(self, worker: Worker, reason: str) -> None:
        """
        `worker` is due; the first reason counts.
        """
        if worker is not self._current:
            self._due.setdefault(worker, reason)
            self.go_on()

    def discard(self, worker: Worker) -> None:
        """
        `worker` is due no more.
        """
        self._due.pop(worker, None)
        if self._current is worker:
            self._current = None

    def go_on(self) -> None:
        """
        Renew the next that may be, unless one is under way.
        """
        if self._current is not None:
            if self._current.renewing:
                return
            self._current = None
        for worker, reason in list(self._due.items()):
            ahead = self._ahead(worker)
            if ahead or self._spared(worker):
                del self._due[worker]
                self._current = worker
                worker.renew(reason, ahead)
                return
