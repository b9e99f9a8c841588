"""
Report the state of the server as metrics.

Each function returns a source of metrics: it looks at one part of the server when somebody
asks for the page.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import get_args

from twisted.web.iweb import IRequest

import twisted
from kiroworkers import __version__
from kiroworkers.jobs.presence import Presence, ServerState
from kiroworkers.jobs.service import JobService
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.pool.circuit_breaker import REPORTERS
from kiroworkers.pool.usage import UsageMonitor
from kiroworkers.pool.worker import WorkerState
from kiroworkers.session.end_cause import EndCause
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry import metric_families as families
from kiroworkers.telemetry.log_writer import LogWriter
from kiroworkers.telemetry.loop_monitor import LoopMonitor
from kiroworkers.telemetry.metrics import Metrics, Samples, Source
from kiroworkers.web.connection_limits import ConnectionLimiter
from kiroworkers.web.documents import RunInThread

#: Every state that a worker may show.
_STATES = tuple(
    dict.fromkeys(state.value for enum in (SessionState, WorkerState) for state in enum)
)


class MetricsPage:
    """
    Serve the metrics.

    Args:
        metrics: The metrics.
        run_in_thread: Writes them as text without occupying the event loop.
        *refresh: Called before they are collected; they may be collected when the results are
            there.
    """

    def __init__(
        self,
        metrics: Metrics,
        run_in_thread: RunInThread,
        *refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._metrics = metrics
        self._run_in_thread = run_in_thread
        self._refresh = refresh

    async def respond(self, request: IRequest) -> bytes:
        """
        Return the page in the format that `request` accepts, and set its headers.
        """
        for refreshed in [refresh() for refresh in self._refresh]:
            await refreshed
        accept = (request.getHeader(b"accept") or b"").decode("latin-1")
        render = self._metrics.collect()
        body, content_type = await self._run_in_thread(lambda: render(accept))
        request.setHeader(b"content-type", content_type.encode())
        request.setHeader(b"content-length", str(len(body)).encode())
        return body


def pools(groups: AgentGroups) -> Source:
    """
    Return a source of the metrics of pools, workers and sessions.
    """

    def collect(samples: Samples) -> None:
        for group in groups:
            name, dispatcher = group.name, group.dispatcher
            workers, queue = dispatcher.workers(), dispatcher.queue()
            samples.add(families.QUEUE_LENGTH, queue.length, name)
            samples.add(families.QUEUE_LIMIT, queue.limit, name)
            in_progress = sum(1 for _ in dispatcher.requests())
            samples.add(families.IN_PROGRESS, in_progress, name)
            samples.add(families.POOL_STATE, 1, name, dispatcher.state().name)
            states = Counter(worker.state for worker in workers)
            for state in _STATES:
                samples.add(families.WORKERS, states[state], name, state)
            samples.add(families.READY_WORKERS, sum(worker.healthy for worker in workers), name)
            samples.add(families.MAX_WORKERS, dispatcher.autoscale_policy.max_workers, name)
            pool = dispatcher.worker_pool
            for reporter in REPORTERS:
                number = pool.circuit_breaker.outages[reporter]
                samples.add(families.OUTAGES, number, name, reporter)
            samples.add(families.SESSION_STARTS, pool.session_starts, name)
            for cause in EndCause:
                samples.add(families.SESSION_ENDS, pool.session_ends[cause], name, cause.value)
            for worker in pool.workers:
                percent = None if worker.session is None else worker.session.context_percent
                if percent is not None:
                    samples.add(families.CONTEXT, percent / 100, name, worker.name)

    return collect


def usage(groups: AgentGroups, monitor: UsageMonitor) -> Source:
    """
    Return a source of what the workers' processes use, as `monitor` has measured it last.
    """

    def collect(samples: Samples) -> None:
        for group in groups:
            samples.add(families.CPU, monitor.cpu_seconds[group.name], group.name)
            for worker in group.dispatcher.worker_pool.workers:
                used = monitor.workers.get(worker.name)
                if used is not None:
                    samples.add(families.MEMORY, used.memory, group.name, worker.name)

    return collect


def jobs(service: JobService) -> Source:
    """
    Return a source of the metrics of jobs, webhooks, the store and the history.
    """

    def collect(samples: Samples) -> None:
        counts = service.runner.counts()
        samples.add(families.JOBS, counts.queued, "queued")
        samples.add(families.JOBS, counts.running, "running")
        samples.add(families.OLDEST_JOB, counts.oldest)
        for state, number in service.ended.items():
            samples.add(families.JOBS_ENDED, number, state)
        webhooks = service.webhooks
        if webhooks is not None:
            samples.add(families.WEBHOOKS, webhooks.pending)
            for result, number in webhooks.calls.items():
                samples.add(families.WEBHOOK_CALLS, number, result)
        samples.add(families.HISTORY_DROPPED, service.history.dropped)
        failing = service.store.status.reason is not None
        samples.add(families.STORAGE_FAILING, int(failing))

    return collect


def servers(presence: Presence) -> Source:
    """
    Return a source of the metrics of the servers that share a database; none without one.
    """

    def collect(samples: Samples) -> None:
        if presence.database is None:
            return
        known = presence.servers()
        states = Counter(server.state for server in known)
        for state in get_args(ServerState):
            samples.add(families.SERVERS, states[state], state)
        serving = [server.agents for server in known if server.state == "serving"]
        for name in sorted({name for agents in serving for name in agents}):
            facts = [agents[name] for agents in serving if name in agents]
            samples.add(families.CLUSTER_READY, sum(each.ready for each in facts), name)
            samples.add(families.CLUSTER_IDLE, sum(each.idle for each in facts), name)

    return collect


def event_loop(monitor: LoopMonitor, cpu_time: Callable[[], float] = time.thread_time) -> Source:
    """
    Return a source of the metrics of the event loop.

    Args:
        monitor: Measures the callbacks.
        cpu_time: Returns the CPU time of the thread that runs the event loop, in seconds.
    """

    def collect(samples: Samples) -> None:
        samples.add(families.LOOP_CPU, cpu_time())
        samples.add(families.SLOW_CALLBACKS, monitor.slow)
        samples.add(families.STALLS, monitor.stalled)

    return collect


def connections(limiter: ConnectionLimiter) -> Source:
    """
    Return a source of the number of connections and its limit.
    """

    def collect(samples: Samples) -> None:
        samples.add(families.CONNECTIONS, len(limiter.protocols))
        samples.add(families.MAX_CONNECTIONS, limiter.max_connections)

    return collect


def log(*writers: LogWriter) -> Source:
    """
    Return a source of the number of lines that the logs have lost.
    """
    return lambda samples: samples.add(
        families.LOG_DROPPED, sum(writer.dropped_total for writer in writers)
    )


def build(samples: Samples) -> None:
    """
    Add the versions to `samples`, as a source of metrics.
    """
    samples.add(families.BUILD, 1, __version__, platform.python_version(), twisted.__version__)
