"""
Count requests, and measure how long their phases take.

An event costs less than a microsecond, and the end of a request a few.
"""

from __future__ import annotations

from collections import defaultdict

from attrs import define, field

from kiroworkers.request_record import EventName, RequestEvent, RequestRecord
from kiroworkers.telemetry import metric_families as families
from kiroworkers.telemetry.metrics import Histogram, Samples

#: The events that are counted.
COUNTED_EVENTS: tuple[EventName, ...] = (
    "queued",
    "started",
    "tool_asked",
    "tool_decided",
    "tool_used",
    "retry",
    "cleared",
    "ended",
)


@define(eq=False)
class _TaskCounts:
    """
    Count the requests for one task to one agent.
    """

    outcomes: dict[str, int] = field(factory=lambda: defaultdict(int))
    total: Histogram = field(factory=Histogram)
    turn: Histogram = field(factory=Histogram)
    first_output: Histogram = field(factory=Histogram)


@define(eq=False)
class _AgentCounts:
    """
    Count what happens to the requests to one agent.
    """

    failures: dict[str, int] = field(factory=lambda: defaultdict(int))
    retries: dict[str, int] = field(factory=lambda: defaultdict(int))
    dispatches: int = 0
    warm_hits: int = 0
    repairs: int = 0
    credits: float = 0.0
    tool_questions: int = 0
    tools_allowed: int = 0
    tools_denied: int = 0
    tools_unasked: int = 0
    wait: Histogram = field(factory=Histogram)
    turnaround: Histogram = field(factory=Histogram)


class RequestMetrics:
    """
    Count the events of requests, as a `RequestObserver` and a source of metrics.
    """

    def __init__(self) -> None:
        self._responses: dict[int | None, int] = defaultdict(int)
        self._tasks: dict[tuple[str, str], _TaskCounts] = defaultdict(_TaskCounts)
        self._agents: dict[str, _AgentCounts] = defaultdict(_AgentCounts)
        # The identities of the records of requests that had to wait when they arrived.
        self._queued: set[int] = set()

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        """
        Count an event.
        """
        match event.name:
            case "started":
                self._start(record, event)
            case "ended":
                self._end(record)
            case "cleared":
                seconds = event.data.get("seconds")
                if isinstance(seconds, int | float):
                    self._agents[record.agent or ""].turnaround.observe(seconds)
            case "queued" if record.attempts is None:
                self._queued.add(id(record))
            case "retry":
                self._agents[record.agent or ""].retries[str(event.data.get("where"))] += 1
            case "tool_asked":
                self._agents[record.agent or ""].tool_questions += 1
            case "tool_decided" if event.data.get("allowed"):
                self._agents[record.agent or ""].tools_allowed += 1
            case "tool_decided":
                self._agents[record.agent or ""].tools_denied += 1
            case "tool_used" if not event.data.get("asked"):
                self._agents[record.agent or ""].tools_unasked += 1

    def _start(self, record: RequestRecord, event: RequestEvent) -> None:
        if event.data.get("attempt") == 1:
            counts = self._agents[record.agent or ""]
            counts.dispatches += 1
            if id(record) not in self._queued:
                counts.warm_hits += 1

    def _end(self, record: RequestRecord) -> None:
        self._queued.discard(id(record))
        is_job = record.method == "JOB"
        if not is_job:
            self._responses[record.status] += 1
        # Without a task, no agent was to answer.  What created a job was not answered yet.
        if record.task is None or (record.job is not None and not is_job):
            return
        outcome = record.outcome
        if is_job and outcome == "rejected":
            return  # It is put off.
        agent = record.agent or ""
        task, counts = self._tasks[record.task, agent], self._agents[agent]
        task.outcomes[outcome] += 1
        if record.code is not None:
            counts.failures[record.code] += 1
        if outcome == "answered" and record.total is not None:
            task.total.observe(record.total)
        if record.attempts:
            counts.wait.observe(record.wait or 0.0)
        if record.turn is not None:
            task.turn.observe(record.turn)
        if record.first_output is not None:
            task.first_output.observe(record.first_output)
        counts.repairs += record.repairs
        counts.credits += record.credits or 0.0

    def collect(self, samples: Samples) -> None:
        """
        Add what was counted to `samples`, as a source of metrics.
        """
        for status, number in self._responses.items():
            samples.add(families.HTTP_RESPONSES, number, str(status))
        for (task, agent), counted in self._tasks.items():
            for outcome, number in counted.outcomes.items():
                samples.add(families.REQUESTS, number, task, agent, outcome)
            samples.add_histogram(families.TOTAL, counted.total, task, agent)
            samples.add_histogram(families.TURN, counted.turn, task, agent)
            samples.add_histogram(families.FIRST_OUTPUT, counted.first_output, task, agent)
        for agent, counts in self._agents.items():
            self._collect_agent(samples, agent, counts)

    def _collect_agent(self, samples: Samples, agent: str, counts: _AgentCounts) -> None:
        for code, number in counts.failures.items():
            samples.add(families.FAILURES, number, agent, code)
        for where, number in counts.retries.items():
            samples.add(families.RETRIES, number, agent, where)
        samples.add(families.DISPATCHES, counts.dispatches, agent)
        samples.add(families.WARM_HITS, counts.warm_hits, agent)
        samples.add(families.REPAIRS, counts.repairs, agent)
        samples.add(families.CREDITS, counts.credits, agent)
        samples.add(families.TOOL_QUESTIONS, counts.tool_questions, agent)
        samples.add(families.TOOL_DECISIONS, counts.tools_allowed, agent, "allowed")
        samples.add(families.TOOL_DECISIONS, counts.tools_denied, agent, "denied")
        samples.add(families.TOOLS_UNASKED, counts.tools_unasked, agent)
        samples.add_histogram(families.WAIT, counts.wait, agent)
        samples.add_histogram(families.TURNAROUND, counts.turnaround, agent)
