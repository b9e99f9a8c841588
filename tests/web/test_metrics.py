"""
Tests for the metrics of pools, jobs and the server, on a pool in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import AgentFailure, Usage, load_dialect
from kiroworkers.errors import FailureKind
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.shared_outage import Outage
from kiroworkers.session.end_cause import EndCause
from kiroworkers.tasks import builtin_tasks
from kiroworkers.telemetry.log_writer import LogWriter
from kiroworkers.telemetry.loop_monitor import LoopMonitor
from kiroworkers.telemetry.metrics import Metrics, Source
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web import metrics
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.connection_limits import ConnectionLimiter
from kiroworkers.web.tokens import ApiToken
from tests import fakekiro
from tests.jobs.presence import BLUE, RED, MemoryPresence
from tests.jobs.support import job_service_in
from tests.memory import dispatcher_in, why

#: The values of a metric by its labels, in the order of their names.
Values = dict[tuple[str, ...], float]


def read(text: str) -> Callable[[str], Values]:
    """
    Return a function that returns the values of a metric in a page.
    """
    found = [*text_string_to_metric_families(text)]

    def values(name: str) -> Values:
        return {
            tuple(sample.labels.values()): sample.value
            for family in found
            for sample in family.samples
            if sample.name == f"kiroworkers_{name}"
        }

    return values


def values_of(source: Source) -> Callable[[str], Values]:
    """
    Return a function that returns the values of a metric of `source`.
    """
    text, _ = Metrics([source], process=False).collect()("")
    return read(text.decode())


class MetricsPageTests(SynchronousTestCase):
    """
    Tests for ``GET /metrics``, with two workers.
    """

    def setUp(self) -> None:
        """
        Serve a pool in memory.
        """
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.dispatcher = dispatcher_in(self.reactor, backlog=5)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        self.authorizer = Authorizer()
        groups = AgentGroups([AgentGroup(agent, self.dispatcher)])
        tasks = builtin_tasks()
        self.job_service = job_service_in(self.reactor, groups, tasks)
        application = Application(
            self.reactor,
            groups,
            tasks,
            self.authorizer,
            self.job_service,
            wall_clock=self.reactor.seconds,
        )
        self.client: Any = StubTreq(application.resource())
        self.dispatcher.startService()
        self.reactor.advance(0)

    def get(self) -> tuple[Any, str]:
        """
        Return the response, and its text.
        """
        pending = self.client.get("http://localhost/metrics")
        self.client.flush()
        response = self.successResultOf(pending)
        return response, self.successResultOf(response.text())

    def values(self) -> Callable[[str], Values]:
        """
        Return a function that returns the values of a metric.
        """
        response, text = self.get()
        self.assertEqual(response.code, 200)
        self.assertEqual(response.length, len(text))
        return read(text)

    def post(self, **headers: str) -> None:
        """
        Send a request.
        """
        body = {"idea": "x"}
        self.client.post("http://localhost/kiro/generate-story", json=body, headers=headers)
        self.client.flush()
        self.reactor.advance(0)

    def test_scope(self) -> None:
        """
        With tokens, a request needs one with the scope for watching.
        """
        self.authorizer.tokens = (ApiToken("ann", frozenset({"ask"}), b""),)
        response, text = self.get()
        self.assertEqual(response.code, 401)
        self.assertNotIn("kiroworkers_", text)

    def test_pools(self) -> None:
        """
        The workers are counted by state, with the states that none has, and so is the queue.
        """
        self.reply = lambda prompt: None
        for _ in range(3):
            self.post()
        values = self.values()
        states = values("workers")
        self.assertEqual({state: n for state, n in states.items() if n}, {("kiro", "busy"): 2})
        self.assertEqual(states[("kiro", "idle")], 0)
        self.assertEqual(values("workers_ready"), {("kiro",): 2})
        self.assertEqual(values("queue_length"), {("kiro",): 1})
        self.assertEqual(values("queue_limit"), {("kiro",): 5})
        self.assertEqual(values("requests_in_progress"), {("kiro",): 3})
        self.assertEqual(values("pool_state"), {("kiro", "serving"): 1})
        self.assertEqual(values("sessions_started_total"), {("kiro",): 2})

    def test_outages(self) -> None:
        """
        Outages are counted by who reported them; a further report of one is not another one.
        """
        breaker = self.dispatcher.worker_pool.circuit_breaker
        self.assertEqual(
            self.values()("outages_total"), {("kiro", "this"): 0, ("kiro", "other"): 0}
        )
        breaker.open(AgentFailure(FailureKind.THROTTLED, "no"), False)
        breaker.close()
        for delay in (30.0, 60.0):
            outage = Outage(FailureKind.THROTTLED, "no", False, 1, delay, reported_by="other")
            breaker.learn(outage)
        self.assertEqual(
            self.values()("outages_total"), {("kiro", "this"): 1, ("kiro", "other"): 1}
        )

    def test_context(self) -> None:
        """
        How full the context of a worker is is a ratio, if the agent says so.
        """
        self.post()
        self.assertEqual(self.values()("worker_context_ratio"), {})
        session = self.dispatcher.worker_pool.sessions()[0]
        assert session._turn.reply is not None, "it has answered"
        session._turn.reply = evolve(session._turn.reply, usage=Usage(context_percent=40.0))
        ratios = self.values()("worker_context_ratio")
        self.assertEqual(ratios, {("kiro", "worker1"): 0.4})

    def test_session_ends(self) -> None:
        """
        Sessions that end are counted by cause, and each cause is there from the beginning.
        """
        ended = self.values()("sessions_ended_total")
        self.assertEqual(ended, {("kiro", cause.value): 0 for cause in EndCause})
        self.dispatcher.worker_pool.restart_all(why("to start others"))
        self.reactor.pump([0] * 5)
        ended = self.values()("sessions_ended_total")
        self.assertEqual(ended[("kiro", "operator")], 2)
        self.assertEqual(sum(ended.values()), 2)

    def test_jobs(self) -> None:
        """
        Unfinished jobs are counted by state, with the age of the oldest, and those that ended.
        """
        self.reply = lambda prompt: None
        for _ in range(4):
            self.post(Prefer="respond-async")
            self.reactor.advance(5)
        values = self.values()
        self.assertEqual(values("jobs"), {("queued",): 2, ("running",): 2})
        self.assertEqual(values("jobs_oldest_queued_seconds"), {(): 10})
        self.assertEqual(values("jobs_ended_total")[("done",)], 0)
        self.assertEqual(values("storage_failing"), {(): 0})
        self.assertEqual(values("webhooks_pending"), {})
        job = self.successResultOf(self.job_service.store.list_jobs(None, None, 1))[0]
        self.successResultOf(self.job_service.runner.cancel(job))
        values = self.values()
        self.assertEqual(values("jobs"), {("queued",): 1, ("running",): 2})
        self.assertEqual(values("jobs_ended_total")[("cancelled",)], 1)


class SourceTests(SynchronousTestCase):
    """
    Tests for the other sources.
    """

    def test_servers(self) -> None:
        """
        Servers are counted by state, and the workers of those that serve by agent.
        """
        presence = MemoryPresence(RED, evolve(RED, number=3, name="green"), BLUE)
        self.successResultOf(presence.refresh())
        values = values_of(metrics.servers(presence))
        self.assertEqual(
            values("servers"),
            {("serving",): 2.0, ("draining",): 0.0, ("stopped",): 0.0, ("lost",): 1.0},
        )
        self.assertEqual(values("cluster_workers_ready"), {("kiro",): 4.0, ("offline",): 2.0})
        self.assertEqual(values("cluster_workers_idle"), {("kiro",): 2.0, ("offline",): 2.0})

    def test_single_server(self) -> None:
        """
        A server without a shared database has no metrics of others.
        """
        presence = MemoryPresence(RED)
        presence.database = None
        self.successResultOf(presence.refresh())
        self.assertEqual(values_of(metrics.servers(presence))("servers"), {})

    def test_event_loop(self) -> None:
        """
        The CPU time of the event loop is reported, and how often it was blocked.
        """
        monitor = LoopMonitor(Clock())
        monitor.slow, monitor.stalled = 3, 2
        values = values_of(metrics.event_loop(monitor, lambda: 1.5))
        self.assertEqual(values("event_loop_cpu_seconds_total"), {(): 1.5})
        self.assertEqual(values("event_loop_slow_callbacks_total"), {(): 3})
        self.assertEqual(values("event_loop_stalls_total"), {(): 2})

    def test_connections(self) -> None:
        """
        Open connections are reported with their limit.
        """
        limiter = ConnectionLimiter(self, 10, 5)  # type: ignore[arg-type]
        values = values_of(metrics.connections(limiter))
        self.assertEqual(values("connections"), {(): 0})
        self.assertEqual(values("connections_limit"), {(): 10})

    def test_log(self) -> None:
        """
        Lines that the log could not write are reported.
        """

        def fail() -> None:
            raise OSError

        writer = LogWriter()
        writer.submit(fail, 10)
        self.assertEqual(values_of(metrics.log(writer))("log_lines_dropped_total"), {(): 1})

    def test_build(self) -> None:
        """
        The versions are labels.
        """
        [labels] = values_of(metrics.build)("build_info")
        self.assertEqual(len(labels), 3)
        self.assertTrue(all(labels))
