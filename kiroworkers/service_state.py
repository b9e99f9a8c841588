"""
Describe the pools of a server to a service manager.
"""

from __future__ import annotations

from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.process.systemd import ServiceState


def service_state(groups: AgentGroups) -> ServiceState:
    """
    Return the state of the server that runs the agents `groups`.

    It has started when a session of any agent is ready, or when no agent's first session is
    still starting.
    """
    lines = [_describe(group, named=len(groups.names) > 1) for group in groups]
    started = any(map(_has_ready_worker, groups)) or not any(map(_is_starting, groups))
    return ServiceState(started, "; ".join(lines))


def _has_ready_worker(group: AgentGroup) -> bool:
    return any(worker.healthy for worker in group.dispatcher.workers())


def _is_starting(group: AgentGroup) -> bool:
    """
    Return whether no session of `group` has become ready or failed yet.
    """
    pool = group.dispatcher.worker_pool
    return group.dispatcher.state().name == "starting" and pool.last_cause() is None


def _describe(group: AgentGroup, *, named: bool) -> str:
    workers, state = group.dispatcher.workers(), group.dispatcher.state()
    ready = sum(worker.healthy for worker in workers)
    prefix = f"{group.name}: " if named else ""
    suffix = "" if state.name == "serving" else f" ({state.name})"
    return f"{prefix}{ready} of {len(workers)} workers ready{suffix}"
