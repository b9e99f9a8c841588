"""
Tests for the page of metrics.
"""

from __future__ import annotations

import re

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.telemetry import metric_families as families
from kiroworkers.telemetry.metric_families import DURATIONS, FAMILIES
from kiroworkers.telemetry.metrics import Histogram, Metrics, Samples

#: What Prometheus accepts first.
_PROMETHEUS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5"


class FamilyTests(SynchronousTestCase):
    """
    Tests for the table of metrics.
    """

    def test_names(self) -> None:
        """
        The names follow the rules of Prometheus: prefix, unit, and the suffix of the type.
        """
        self.assertEqual(len({family.name for family in FAMILIES}), len(FAMILIES))
        for family in FAMILIES:
            self.assertRegex(family.name, r"^kiroworkers_[a-z_]+$")
            self.assertEqual(family.kind == "counter", family.name.endswith("_total"))
            self.assertEqual(family.kind == "info", family.name.endswith("_info"))
            self.assertTrue(family.kind != "histogram" or family.unit == "seconds", family.name)
            self.assertNotRegex(family.name, r"_(milliseconds|ms|percent|kb|mb)\b")

    def test_single_workers(self) -> None:
        """
        Few metrics are of single workers.
        """
        self.assertEqual(
            {family for family in FAMILIES if "worker" in family.labels},
            {families.CONTEXT, families.MEMORY},
        )


class HistogramTests(SynchronousTestCase):
    """
    Tests for `Histogram`.
    """

    def test_buckets(self) -> None:
        """
        Each bucket counts the durations up to its bound, which belongs to it.
        """
        histogram = Histogram()
        for seconds in (0.1, 0.2, 600.0, 601.0):
            histogram.observe(seconds)
        buckets = dict(histogram.buckets())
        self.assertEqual([*buckets], [*map(str, DURATIONS), "+Inf"])
        self.assertEqual(
            [buckets[bound] for bound in ("0.1", "0.25", "300.0", "600.0", "+Inf")], [1, 2, 2, 3, 4]
        )
        self.assertAlmostEqual(histogram.sum, 1201.3)


class MetricsTests(SynchronousTestCase):
    """
    Tests for `Metrics`.
    """

    def test_every_family(self) -> None:
        """
        The page has every metric of the table with its type, and the process's own.
        """
        text, content_type = Metrics().collect()("text/plain")
        self.assertTrue(content_type.startswith("text/plain"))
        types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text.decode(), re.M))
        for family in FAMILIES:
            kind = "gauge" if family.kind == "info" else family.kind
            self.assertEqual(types[family.name], kind, family.name)
        self.assertIn("process_resident_memory_bytes", types)

    def test_open_metrics(self) -> None:
        """
        A client that accepts OpenMetrics gets it, with the same values.
        """

        def source(samples: Samples) -> None:
            samples.add(families.BUILD, 1, "1.0", "3.13", "26.10")
            samples.add(families.QUEUE_LENGTH, 3, "kiro")
            histogram = Histogram()
            histogram.observe(1.0)
            samples.add_histogram(families.WAIT, histogram, "kiro")

        metrics = Metrics([source], process=False)
        text, content_type = metrics.collect()("application/openmetrics-text; version=1.0.0")
        self.assertTrue(content_type.startswith("application/openmetrics-text"))
        self.assertTrue(text.endswith(b"# EOF\n"))
        plain, _ = metrics.collect()("")
        self.assertEqual(
            *(
                {
                    sample.name: sample.value
                    for family in read(page.decode())
                    for sample in family.samples
                }
                for read, page in (
                    (open_metrics_families, text),
                    (text_string_to_metric_families, plain),
                )
            )
        )

    def test_accept(self) -> None:
        """
        Whatever a client accepts, it gets one of the two formats, and nothing that it said.
        """
        plain = "text/plain; version=0.0.4; charset=utf-8"
        collect = Metrics(process=False).collect()
        self.assertEqual(collect("")[1], plain)
        _, open_metrics = collect("application/openmetrics-text")
        self.assertTrue(open_metrics.startswith("application/openmetrics-text; version=1.0.0;"))
        for accept, expected in (
            (f"{_PROMETHEUS},text/plain;version=0.0.4;q=0.2,*/*;q=0.1", open_metrics),
            ("text/html, application/openmetrics-text ; q=0.5", open_metrics),
            ("Application/OpenMetrics-Text;Version=1.0.0", open_metrics),
            ("application/openmetrics-text;version=0.0.1,*/*", plain),
            ("application/openmetrics-texts", plain),
            ("application/openmetrics-text;version=\x1b[2J", plain),
            (f"application/openmetrics-text;version={'9' * 5000}", plain),
            ("application/openmetrics-text;version=1.0.0evil", plain),
            ("application/openmetrics-text;version=1.0.0;escaping=evil", open_metrics),
            ("text/plain;version=2.0.0evil;escaping=evil", plain),
            (";,=,;;version", plain),
        ):
            self.assertEqual(collect(accept)[1], expected, accept)

    def test_labels_are_escaped(self) -> None:
        """
        A label with quotes and line breaks stays one value.
        """
        name = 'a"} 1\nevil{b="\\'
        metrics = Metrics([lambda samples: samples.add(families.QUEUE_LENGTH, 1, name)])
        text, _ = metrics.collect()("")
        found = [
            sample.labels
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
            if family.name == "kiroworkers_queue_length"
        ]
        self.assertEqual(found, [{"agent": name}])

    def test_failing_source(self) -> None:
        """
        A source that fails is logged, and the others are collected.
        """

        def fail(samples: Samples) -> None:
            raise ZeroDivisionError

        metrics = Metrics([fail, lambda samples: samples.add(families.CONNECTIONS, 2)])
        self.assertIn(b"\nkiroworkers_connections 2.0\n", metrics.collect()("")[0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
