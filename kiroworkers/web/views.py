"""
The pools, their workers and their requests, as JSON says them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.dispatcher import Dispatcher, QueueSnapshot, RequestSnapshot
from kiroworkers.pool.worker import WorkerSnapshot


def pool_json(pool: Dispatcher) -> dict[str, Any]:
    """
    What the pool does: `serving`, `paused`, `draining`, an outage by its kind, or
    `trying`, when the next request shows whether the outage is over.
    """
    scale, circuit_breaker = pool.worker_pool.scale, pool.worker_pool.circuit_breaker.snapshot()
    limits = {"workers": scale.workers, "maxWorkers": scale.max_workers}
    if pool.draining:
        return {"state": "draining", "detail": "The server is shutting down", **limits}
    if circuit_breaker is not None:
        return {
            "state": "trying" if circuit_breaker.half_open else circuit_breaker.kind,
            "detail": circuit_breaker.detail,
            "retryAfter": circuit_breaker.retry_after,
            **limits,
        }
    if pool.paused:
        return {"state": "paused", "detail": "An operator paused the pool", **limits}
    return {"state": "serving", "detail": None, **limits}


def queue_json(queue: QueueSnapshot) -> dict[str, Any]:
    """
    A queue.
    """
    return {"length": queue.length, "limit": queue.limit}


def agent_json(group: AgentGroup) -> dict[str, Any]:
    """
    Who answers, how the pool is, and how many wait there.
    """
    agent = group.agent
    return {
        "agentDetail": f"{agent.dialect.label} ({agent.reason})",
        "transport": agent.dialect.transport,
        "pool": pool_json(group.pool),
        "queue": queue_json(group.pool.queue()),
    }


def readiness_json(group: AgentGroup) -> dict[str, Any]:
    """
    Whether a worker can take work, now or after its turn, or why not; and those
    that are healthy.
    """
    state = pool_json(group.pool)
    healthy = [each.name for each in group.pool.worker_pool.snapshots() if each.healthy]
    if healthy and state["state"] in ("serving", "trying"):
        return {"ready": True, "workers": healthy}
    why = {"serving": ("No worker is ready", "not_ready")}
    sentence, code = why.get(state["state"], (state["detail"], state["state"]))
    return {"ready": False, "error": sentence, "code": code, "workers": healthy}


def agents_json(groups: Iterable[AgentGroup]) -> dict[str, Any]:
    """
    The first group, and each by its name.
    """
    found = {each.name: agent_json(each) for each in groups}
    first = next(iter(found))
    return {"agent": first, **found[first], "agents": found}


def worker_json(worker: WorkerSnapshot, agent: str, now: float) -> dict[str, Any]:
    """
    A worker of `agent` at the time `now`, with the consumers' names for what they
    read.
    """
    return {
        "agent": agent,
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


def request_json(request: RequestSnapshot, agent: str, now: float) -> dict[str, Any]:
    """
    A request to `agent` at the time `now`, without what it asks.
    """
    return {
        "id": request.number,
        "agent": agent,
        "task": request.options.label,
        "client": request.options.client,
        "priority": request.options.priority,
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
