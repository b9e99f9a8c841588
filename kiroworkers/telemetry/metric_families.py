"""
Define every metric that ``GET /metrics`` has.

The names follow https://prometheus.io/docs/practices/naming/.  Labels have few values, all of
which the server chooses: nothing that a client sends becomes a label.  Only the metrics of
single workers have the label ``worker``.

``docs/metrics.rst`` is made from this table.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import field, frozen

#: The types of metrics.
Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

#: Upper bounds of the buckets of durations, in seconds: from an instant answer to the longest
#: turn that anybody waits for.
DURATIONS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)

#: Suffixes that name a unit.
_UNITS = ("seconds", "bytes", "ratio")


@frozen(eq=False)
class Family:
    """
    Describe one metric.

    Attributes:
        kind: Its type.
        name: Its name, as a query has it; that of a histogram without ``_bucket``.
        help: What it tells, in a sentence.
        labels: The names of its labels.
    """

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def base_name(self) -> str:
        """
        Return the name without the suffix that Prometheus adds for the type.
        """
        return self.name.removesuffix("_total").removesuffix("_info")

    @property
    def unit(self) -> str:
        """
        Return the unit of the values; empty for numbers of things.
        """
        return next((unit for unit in _UNITS if self.base_name.endswith(f"_{unit}")), "")


_TASK = ("task", "agent")
_AGENT = ("agent",)
_WORKER = ("agent", "worker")

# Requests.

REQUESTS = Family(
    "counter",
    "kiroworkers_requests_total",
    "Requests for tasks and chats, and executions of jobs, that have ended.",
    labels=("task", "agent", "outcome"),
)
FAILURES = Family(
    "counter",
    "kiroworkers_request_failures_total",
    "Those of them that failed or were rejected, by the code of the failure.",
    labels=("agent", "code"),
)
HTTP_RESPONSES = Family(
    "counter",
    "kiroworkers_http_responses_total",
    "Responses to requests of any kind, by their HTTP status.",
    labels=("status",),
)
TOTAL = Family(
    "histogram",
    "kiroworkers_request_duration_seconds",
    "Time from the receipt of an answered request to the end of its response.",
    labels=_TASK,
)
WAIT = Family(
    "histogram",
    "kiroworkers_request_wait_seconds",
    "Time for which a request was in the queue before a worker was asked.",
    labels=_AGENT,
)
TURN = Family(
    "histogram",
    "kiroworkers_turn_duration_seconds",
    "Time for which workers were occupied by a request, over all attempts.",
    labels=_TASK,
)
FIRST_OUTPUT = Family(
    "histogram",
    "kiroworkers_first_output_seconds",
    "Time from the receipt of a request until the agent was first seen to begin its answer.",
    labels=_TASK,
)
TURNAROUND = Family(
    "histogram",
    "kiroworkers_turnaround_seconds",
    "Time from the end of a turn until the worker has forgotten it and is idle again.",
    labels=_AGENT,
)
DISPATCHES = Family(
    "counter",
    "kiroworkers_dispatches_total",
    "Requests that were given to a worker.",
    labels=_AGENT,
)
WARM_HITS = Family(
    "counter",
    "kiroworkers_warm_hits_total",
    "Those of them that found an idle worker when they arrived.",
    labels=_AGENT,
)
RETRIES = Family(
    "counter",
    "kiroworkers_retries_total",
    "Answers that were discarded and asked for again, by where.",
    labels=("agent", "where"),
)
REPAIRS = Family(
    "counter",
    "kiroworkers_repairs_total",
    "Answers that did not match the schema and that the agent was asked to correct.",
    labels=_AGENT,
)
CREDITS = Family(
    "counter",
    "kiroworkers_credits_total",
    "Credits that requests used, where the agent says.",
    labels=_AGENT,
)
TOOL_QUESTIONS = Family(
    "counter",
    "kiroworkers_tool_questions_total",
    "Questions of the agent whether it may use a tool.",
    labels=_AGENT,
)
TOOL_DECISIONS = Family(
    "counter",
    "kiroworkers_tool_decisions_total",
    "Answers to these questions.",
    labels=("agent", "decision"),
)
TOOLS_UNASKED = Family(
    "counter",
    "kiroworkers_tools_unasked_total",
    "Tools that the agent used without asking.",
    labels=_AGENT,
)

# Pools, workers and sessions.

QUEUE_LENGTH = Family(
    "gauge", "kiroworkers_queue_length", "Requests that wait for a worker.", labels=_AGENT
)
QUEUE_LIMIT = Family(
    "gauge", "kiroworkers_queue_limit", "Requests that may wait for a worker.", labels=_AGENT
)
IN_PROGRESS = Family(
    "gauge",
    "kiroworkers_requests_in_progress",
    "Requests that wait or run.",
    labels=_AGENT,
)
POOL_STATE = Family(
    "gauge",
    "kiroworkers_pool_state",
    "1 for the state of the pool; there is no series for its other states.",
    labels=("agent", "state"),
)
OUTAGES = Family(
    "counter",
    "kiroworkers_outages_total",
    "Outages of the agent's account, by whether this server or another one reported them.",
    labels=("agent", "reporter"),
)
WORKERS = Family("gauge", "kiroworkers_workers", "Workers by state.", labels=("agent", "state"))
READY_WORKERS = Family(
    "gauge",
    "kiroworkers_workers_ready",
    "Workers that answer a request, or can answer one shortly.",
    labels=_AGENT,
)
MAX_WORKERS = Family(
    "gauge", "kiroworkers_workers_limit", "The largest number of workers.", labels=_AGENT
)
SESSION_STARTS = Family(
    "counter", "kiroworkers_sessions_started_total", "Sessions that were started.", labels=_AGENT
)
SESSION_ENDS = Family(
    "counter",
    "kiroworkers_sessions_ended_total",
    "Sessions that ended, by why they did.",
    labels=("agent", "reason"),
)
RECEIVED_BYTES = Family(
    "counter", "kiroworkers_agent_received_bytes_total", "Output of agents.", labels=_AGENT
)
SENT_BYTES = Family(
    "counter", "kiroworkers_agent_sent_bytes_total", "Input of agents.", labels=_AGENT
)
CONTEXT = Family(
    "gauge",
    "kiroworkers_worker_context_ratio",
    "Share of the model's context that was filled after the last answer, where the agent says.",
    labels=_WORKER,
)
MEMORY = Family(
    "gauge",
    "kiroworkers_worker_memory_bytes",
    "Resident memory of a worker's processes; pages that they share count for each.",
    labels=_WORKER,
)
CPU = Family(
    "counter",
    "kiroworkers_agent_cpu_seconds_total",
    "CPU time of the agent's processes, as far as they were measured before they ended.",
    labels=_AGENT,
)

# Jobs.

JOBS = Family(
    "gauge",
    "kiroworkers_jobs",
    "Unfinished jobs by state. With --database-file, the queued jobs are those of all servers, "
    "and the running ones those of this server.",
    labels=("state",),
)
OLDEST_JOB = Family(
    "gauge",
    "kiroworkers_jobs_oldest_queued_seconds",
    "Age of the oldest queued job; 0 without one.",
)
JOBS_ENDED = Family(
    "counter", "kiroworkers_jobs_ended_total", "Jobs that ended.", labels=("state",)
)
WEBHOOKS = Family("gauge", "kiroworkers_webhooks_pending", "Webhooks that are still to be called.")
WEBHOOK_CALLS = Family(
    "counter",
    "kiroworkers_webhook_calls_total",
    "Calls of webhooks: delivered, failed and to be repeated, or failed and abandoned.",
    labels=("result",),
)
STORAGE_FAILING = Family(
    "gauge", "kiroworkers_storage_failing", "1 while jobs cannot be stored, else 0."
)

# Several servers.

SERVERS = Family(
    "gauge",
    "kiroworkers_servers",
    "Servers with the same database by state: serving, draining, stopped or lost. Only with "
    "--database-file, like the next two.",
    labels=("state",),
)
CLUSTER_READY = Family(
    "gauge",
    "kiroworkers_cluster_workers_ready",
    "Workers of all serving servers that answer a request, or can answer one shortly.",
    labels=_AGENT,
)
CLUSTER_IDLE = Family(
    "gauge",
    "kiroworkers_cluster_workers_idle",
    "Idle workers of all serving servers.",
    labels=_AGENT,
)

# The server.

LOOP_CPU = Family(
    "counter",
    "kiroworkers_event_loop_cpu_seconds_total",
    "CPU time of the thread that runs the event loop.",
)
SLOW_CALLBACKS = Family(
    "counter",
    "kiroworkers_event_loop_slow_callbacks_total",
    "Callbacks that used more than 50 ms of CPU time, during which nobody else was served.",
)
STALLS = Family(
    "counter",
    "kiroworkers_event_loop_stalls_total",
    "Other callbacks that took more than half a second, because they waited for something.",
)
CONNECTIONS = Family("gauge", "kiroworkers_connections", "Open connections of clients.")
MAX_CONNECTIONS = Family(
    "gauge", "kiroworkers_connections_limit", "The largest number of open connections."
)
LOG_DROPPED = Family(
    "counter",
    "kiroworkers_log_lines_dropped_total",
    "Lines of the log that were dropped because it could not be written fast enough.",
)
HISTORY_DROPPED = Family(
    "counter",
    "kiroworkers_history_dropped_total",
    "Requests that the history has forgotten to keep within its bounds.",
)
SPANS_DROPPED = Family(
    "counter",
    "kiroworkers_spans_dropped_total",
    "Spans that were not exported, because the collector failed or was too slow.",
)
BUILD = Family(
    "info",
    "kiroworkers_build_info",
    "The versions of the server and of what it runs on.",
    labels=("version", "python", "twisted"),
)

#: All of them, in the order of the page.
FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))
