"""
The pool, its workers and its requests, as JSON says them.
"""

from __future__ import annotations

from typing import Any

from kiroworkers.sessions.pool import Pool, RequestSnapshot
from kiroworkers.sessions.worker import Snapshot


def described_pool(pool: Pool) -> dict[str, Any]:
    """
    What the pool does: `serving`, `paused`, `draining`, an outage by its kind, or
    `trying`, when the next request shows whether the outage is over.
    """
    scale, outage = pool.crew.scale, pool.crew.outage.snapshot()
    limits = {"workers": scale.workers, "maxWorkers": scale.max_workers}
    if pool.draining:
        return {"state": "draining", "detail": "The server is shutting down", **limits}
    if outage is not None:
        return {
            "state": "trying" if outage.may_try else outage.kind,
            "detail": outage.detail,
            "retryAfter": outage.retry_after,
            **limits,
        }
    if pool.paused:
        return {"state": "paused", "detail": "An operator paused the pool", **limits}
    return {"state": "serving", "detail": None, **limits}


def described_worker(worker: Snapshot, now: float) -> dict[str, Any]:
    """
    A worker at the time `now`, with the consumers' names for what they read.
    """
    return {
        "pid": worker.pid,
        "busy": not worker.idle,
        "status": "idle" if worker.idle else "busy",
        "state": worker.state,
        "healthy": worker.healthy,
        "lastActivity": milliseconds(worker.last_activity),
        "idleTime": milliseconds(now - worker.last_activity) if worker.idle else 0,
        "age": milliseconds(worker.age),
        "answered": worker.answered,
        "starts": worker.starts,
        "consecutiveFailures": worker.consecutive_failures,
        "lastError": worker.last_error,
        "lastScreen": worker.last_screen or None,
        "nextStart": None if worker.next_start is None else milliseconds(worker.next_start),
    }


def described_request(request: RequestSnapshot, now: float) -> dict[str, Any]:
    """
    A request at the time `now`, without what it asks.
    """
    return {
        "id": request.number,
        "task": request.terms.label,
        "client": request.terms.client,
        "priority": request.terms.priority,
        "state": "waiting" if request.worker is None else "running",
        "worker": request.worker,
        "attempts": request.attempts,
        "age": milliseconds(now - request.arrived),
        "timeLeft": milliseconds(request.deadline - now),
    }


def milliseconds(seconds: float) -> int:
    """
    A duration or a time in seconds, in whole milliseconds.
    """
    return int(seconds * 1000)
