"""
End-to-end tests for the metrics and the traces of a server.
"""

from __future__ import annotations

import json
from typing import Any

import treq
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from twisted.internet.threads import deferToThread
from twisted.web.http_headers import Headers

from kiroworkers.telemetry.metric_families import FAMILIES
from tests.otlp_receiver import OtlpReceiver
from tests.servers import ServerTestCase

_TRACE, _PARENT = "a" * 32, "b" * 16


class ObservabilityTests(ServerTestCase):
    """
    Tests for ``GET /metrics`` and ``--otlp-endpoint``.
    """

    async def test_metrics_and_traces(self) -> None:
        """
        What clients ask, and how it went, is in the metrics, and in the traces that they began.
        """
        receiver = OtlpReceiver()
        self.addCleanup(receiver.close)
        await self.start(
            "--otlp-endpoint", receiver.url, "--trace-content", OTEL_BSP_SCHEDULE_DELAY="100"
        )
        traceparent = {"traceparent": f"00-{_TRACE}-{_PARENT}-01"}
        response, _ = await self.story("Print labels", headers=traceparent)
        self.assertEqual(response.code, 200)
        memory = (await self.scrape())("kiroworkers_worker_memory_bytes")
        self.assertEqual({*memory}, {("kiro", "worker1"), ("kiro", "worker2")})
        self.assertTrue(all(1e6 < size < 1e9 for size in memory.values()), memory)
        unsampled = {"traceparent": f"00-{'c' * 32}-{_PARENT}-00"}
        response, _ = await self.story("x [[die]]", headers=unsampled)
        self.assertEqual(response.code, 502)
        unknown = 'no-such-task"} 1'
        response, _ = await self.ask(unknown, {})
        self.assertEqual(response.code, 404)

        values = await self.scrape()
        suffixes = {"histogram": "_count"}
        names = {family.name: family.name + suffixes.get(family.kind, "") for family in FAMILIES}
        del names["kiroworkers_worker_memory_bytes"]  # Both sessions are gone.
        # No webhooks are used, no database is shared, and the stand-in does not know its context.
        self.assertEqual(
            {name for name, series in names.items() if not values(series)},
            {
                "kiroworkers_cluster_workers_idle",
                "kiroworkers_cluster_workers_ready",
                "kiroworkers_servers",
                "kiroworkers_webhook_calls_total",
                "kiroworkers_webhooks_pending",
                "kiroworkers_worker_context_ratio",
            },
        )
        story = {"agent": "kiro", "task": "generate-story"}
        self.assertEqual(
            values("kiroworkers_requests_total"),
            {("kiro", "answered", "generate-story"): 1, ("kiro", "failed", "generate-story"): 1},
        )
        self.assertEqual(
            values("kiroworkers_request_failures_total"), {("kiro", "session_lost"): 1}
        )
        self.assertEqual(
            values("kiroworkers_turn_duration_seconds_count"), {tuple(story.values()): 2}
        )
        ended = values("kiroworkers_sessions_ended_total")
        self.assertEqual({labels: n for labels, n in ended.items() if n}, {("kiro", "exited"): 2})
        self.assertEqual(values("kiroworkers_sessions_started_total")[("kiro",)], 2)
        self.assertGreater(values("kiroworkers_agent_received_bytes_total")[("kiro",)], 100)
        self.assertGreater(values("kiroworkers_event_loop_cpu_seconds_total")[()], 0)
        self.assertEqual(values("kiroworkers_connections")[()], 1)

        sent = (await deferToThread(receiver.next)).resource_spans[0].scope_spans[0].spans
        spans = {span.name: span for span in sent}
        self.assertEqual({*spans}, {"POST /kiro/{task}", "invoke_agent kiro", "clear"})
        for span in sent:
            self.assertEqual(span.trace_id.hex(), _TRACE)
        self.assertEqual(spans["POST /kiro/{task}"].parent_span_id.hex(), _PARENT)
        turn = {pair.key: pair.value.string_value for pair in spans["invoke_agent kiro"].attributes}
        self.assertIn("Print labels", turn["gen_ai.input.messages"])
        [answer] = json.loads(turn["gen_ai.output.messages"])
        self.assertIn("Print labels", answer["parts"][0]["content"])

    async def scrape(self) -> Any:
        """
        Return a function that returns the values of a metric by its labels.
        """
        accept = Headers({"Accept": ["application/openmetrics-text"]})
        response = await treq.get(self.base + "/metrics", headers=accept, persistent=False)
        text = (await response.content()).decode()
        found = [*text_string_to_metric_families(text)]
        names = {family.base_name for family in FAMILIES}
        self.assertLessEqual(names, {family.name for family in found})
        self.assertNotIn("no-such-task", text)

        def values(name: str) -> dict[tuple[str, ...], float]:
            return {
                tuple(sample.labels.values()): sample.value
                for family in found
                for sample in family.samples
                if sample.name == name
            }

        return values
