"""
Render pools, workers and requests as the JSON that clients read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kiroworkers.clocks import Now
from kiroworkers.jobs.presence import AgentFacts, Presence, ServerInfo
from kiroworkers.jobs.runner import JobCounts
from kiroworkers.jobs.store import StorageStatus
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.approvals import Approval
from kiroworkers.pool.dispatcher import Dispatcher, QueueSnapshot, RequestSnapshot
from kiroworkers.pool.versions import VersionSnapshot
from kiroworkers.pool.worker import WorkerSnapshot
from kiroworkers.proof.shipped import Proof

#: The codes of ``GET /ready`` that differ from the state of the pool.
_READY_CODES = {"starting": "not_ready", "drained": "not_ready"}


def pool_json(dispatcher: Dispatcher) -> dict[str, Any]:
    """
    Return the state of a pool and its numbers of workers.
    """
    policy, state = dispatcher.autoscale_policy, dispatcher.state()
    retry = {} if state.retry_after is None else {"retryAfter": state.retry_after}
    reported = {} if state.reported_by is None else {"reportedBy": state.reported_by}
    limits = {"workers": policy.workers, "maxWorkers": policy.max_workers}
    return {"state": state.name, "detail": state.detail, **retry, **reported, **limits}


def queue_json(queue: QueueSnapshot) -> dict[str, Any]:
    """
    Return the length and the limit of a queue.
    """
    return {"length": queue.length, "limit": queue.limit}


def agent_json(group: AgentGroup) -> dict[str, Any]:
    """
    Return the agent of a group, the state of its pool, and its queue.
    """
    agent = group.agent
    return {
        "agentDetail": f"{agent.dialect.label} ({agent.reason})",
        "transport": agent.dialect.transport,
        "proof": proof_json(group.proof),
        "canary": canary_json(group.dispatcher.worker_pool.version()),
        "pool": pool_json(group.dispatcher),
        "queue": queue_json(group.dispatcher.queue()),
    }


def proof_json(proof: Proof) -> dict[str, Any]:
    """
    Return what was proven about the version of an agent.
    """
    return {
        "level": "unproven" if proof.level is None else proof.level.value,
        "date": proof.date,
        "source": proof.source,
        "failed": list(proof.failed),
    }


def canary_json(version: VersionSnapshot | None) -> dict[str, Any] | None:
    """
    Return what is known about the version of an agent that is installed; None without --canary.
    """
    if version is None:
        return None
    return {
        "state": version.state,
        "version": version.version,
        "detail": version.detail,
        "turns": version.turns,
        "retryAfter": version.retry_after,
    }


def readiness_json(group: AgentGroup) -> dict[str, Any]:
    """
    Return whether a worker of `group` can take work, now or after its current turn.

    The result also names the healthy workers and, if none can take work, the reason.
    """
    state = pool_json(group.dispatcher)
    healthy = [worker.name for worker in group.dispatcher.workers() if worker.healthy]
    if healthy and state["state"] in ("serving", "trying"):
        return {"ready": True, "workers": healthy}
    if state["state"] == "trying":
        message, code = "No worker is ready", "not_ready"
    else:
        message, code = state["detail"], _READY_CODES.get(state["state"], state["state"])
    return {"ready": False, "error": message, "code": code, "workers": healthy}


def agents_json(groups: Iterable[AgentGroup]) -> dict[str, Any]:
    """
    Return the state of every group by its name, with the first group's at the top level.
    """
    agents = {group.name: agent_json(group) for group in groups}
    first = next(iter(agents))
    return {"agent": first, **agents[first], "agents": agents}


def worker_json(worker: WorkerSnapshot, agent: str, now: Now, *, operator: bool) -> dict[str, Any]:
    """
    Return the state of a worker; the names of the fields are part of the public API.

    Args:
        worker: The worker's snapshot.
        agent: The name of the worker's agent.
        now: The current time.
        operator: Whether an operator sees it; the last error may quote a client.
    """
    return {
        "agent": agent,
        "pid": worker.pid,
        "busy": not worker.idle,
        "status": "idle" if worker.idle else "busy",
        "state": worker.state,
        "healthy": worker.healthy,
        "lastActivity": milliseconds(now.since_epoch(worker.last_activity)),
        "idleTime": milliseconds(now.monotonic - worker.last_activity) if worker.idle else 0,
        "age": milliseconds(worker.age),
        "answered": worker.answered,
        "starts": worker.starts,
        "consecutiveFailures": worker.consecutive_failures,
        "lastError": worker.last_error if operator else worker.last_cause,
        "lastScreen": worker.last_screen or None,
        "nextStart": None
        if worker.next_start is None
        else milliseconds(now.since_epoch(worker.next_start)),
    }


def request_json(
    request: RequestSnapshot, agent: str, now: float, approval: str | None
) -> dict[str, Any]:
    """
    Return the state of a request, without its input.

    Args:
        request: The request's snapshot.
        agent: The name of the agent that it is for.
        now: The current time of the reactor's clock.
        approval: The identifier of the approval that it waits for, if any.
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
        "model": request.options.model or None,
        "approval": approval,
    }


def approval_json(approval: Approval, now: float) -> dict[str, Any]:
    """
    Return an agent's request to use a tool.

    Args:
        approval: The request.
        now: The current time of the reactor's clock.
    """
    deadline = approval.deadline
    return {
        "id": approval.id,
        "agent": approval.agent,
        "worker": approval.worker,
        "request": approval.request,
        "question": approval.question,
        "age": milliseconds(now - approval.asked_at),
        "timeLeft": None if deadline is None else milliseconds(deadline - now),
    }


def storage_json(status: StorageStatus) -> dict[str, Any]:
    """
    Return whether jobs can be stored, or why not and since when.
    """
    return {
        "state": "ok" if status.reason is None else "failing",
        "reason": status.reason,
        "since": None if status.since is None else milliseconds(status.since),
    }


def cluster_json(presence: Presence, counts: JobCounts, now: float) -> dict[str, Any]:
    """
    Return the servers that work as one service, and how many jobs wait for them.

    Args:
        presence: Knows the servers.
        counts: The jobs that wait for any of them.
        now: The current time in seconds since the epoch.
    """
    return {
        "server": presence.server_name,
        "timestamp": milliseconds(now),
        "database": _database_json(presence),
        "jobs": {"queued": counts.queued, "oldest": milliseconds(counts.oldest)},
        "servers": [server_json(server) for server in presence.servers()],
    }


def _database_json(presence: Presence) -> dict[str, Any] | None:
    return None if presence.database is None else storage_json(presence.database)


def server_json(server: ServerInfo) -> dict[str, Any]:
    """
    Return what is known about a server.
    """
    return {
        "name": server.name,
        "version": server.version,
        "address": server.address,
        "account": server.account or None,
        "state": server.state,
        "agents": {name: _agent_facts_json(facts) for name, facts in server.agents.items()},
        "jobs": server.jobs,
        "started": milliseconds(server.started),
        "seen": milliseconds(server.seen),
        "silence": milliseconds(server.silence),
    }


def _agent_facts_json(facts: AgentFacts) -> dict[str, Any]:
    return {
        "state": facts.state,
        "workers": facts.workers,
        "ready": facts.ready,
        "idle": facts.idle,
        "queue": facts.queued,
    }


def milliseconds(seconds: float) -> int:
    """
    Return a duration or a time in seconds as whole milliseconds.
    """
    return int(seconds * 1000)
