"""
Restart workers one at a time, so that at most one is missing from the pool.

Where memory allows a second session, the successor starts before the old session
ends, and none is missing.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from kiroworkers.pool.worker import Worker
from kiroworkers.session.end_cause import EndReason


class RollingRestart:
    """
    Queue the workers that are due for a restart, and restart them in the order they were added.

    Args:
        can_overlap: Returns whether there is memory to start the worker's successor
            before its session ends.
        can_be_spared: Returns whether the pool can do without the worker for a while.
        may_start: Returns whether new sessions may start at all.  Until they may, no restart
            begins.
    """

    _log = Logger()

    def __init__(
        self,
        can_overlap: Callable[[Worker], bool],
        can_be_spared: Callable[[Worker], bool],
        may_start: Callable[[], bool] = lambda: True,
    ) -> None:
        self._can_overlap = can_overlap
        self._can_be_spared = can_be_spared
        self._may_start = may_start
        self._due: dict[Worker, EndReason] = {}
        self._current: Worker | None = None

    def add(self, worker: Worker, reason: EndReason) -> None:
        """
        Schedule a restart of `worker`; if one is scheduled already, keep its reason.
        """
        if worker is not self._current:
            is_new = worker not in self._due
            self._due.setdefault(worker, reason)
            self.advance()
            if is_new and worker in self._due and not self._may_start():
                self._log.info(
                    "{worker}: its restart ({reason}) waits until a new version of the agent is "
                    "accepted",
                    worker=worker.name,
                    reason=reason,
                )

    def discard(self, worker: Worker) -> None:
        """
        Cancel the scheduled restart of `worker`, if there is one.
        """
        self._due.pop(worker, None)
        if self._current is worker:
            self._current = None

    def advance(self) -> None:
        """
        Restart the next worker that may be restarted, unless a restart is in progress.
        """
        if self._current is not None:
            if self._current.restarting:
                return
            self._current = None
        if not self._due or not self._may_start():
            return
        for worker, reason in list(self._due.items()):
            overlap = self._can_overlap(worker)
            if overlap or self._can_be_spared(worker):
                del self._due[worker]
                self._current = worker
                worker.restart(reason, overlap)
                return
