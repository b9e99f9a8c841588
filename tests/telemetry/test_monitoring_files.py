"""
Tests for the dashboard and the alerts in ``docs/``, and for the page about the metrics.

``promtool``, which is a part of Prometheus, checks the queries where it is installed, or where
``KIROWORKERS_PROMTOOL`` names it.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.session.end_cause import EndCause
from kiroworkers.telemetry.metric_families import FAMILIES, Family
from tests.programs import ROOT

_DOCS = ROOT / "docs"
_ALERTS = _DOCS / "alerts.yml"

#: Metrics of the server's process that the dashboard shows.
_OF_PROCESS = {"process_resident_memory_bytes"}

#: Labels that Prometheus adds, or that its functions do.
_OTHER_LABELS = {"instance", "job", "le"}

#: What Grafana puts in the place of its variables.
_VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$agent": ".*", "$task": ".*"}


def dashboard() -> dict[str, Any]:
    """
    Return the dashboard.
    """
    content: dict[str, Any] = json.loads((_DOCS / "grafana" / "kiroworkers.json").read_text())
    return content


def dashboard_queries() -> Iterator[str]:
    """
    Yield the queries of the dashboard's panels.
    """
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def names_of(family: Family) -> set[str]:
    """
    Return the names of the series of `family`.
    """
    if family.kind == "histogram":
        return {f"{family.name}_{suffix}" for suffix in ("bucket", "count", "sum")}
    return {family.name}


def promtool() -> str:
    """
    Return the path of promtool.
    """
    path = os.environ.get("KIROWORKERS_PROMTOOL") or shutil.which("promtool")
    if path is None:
        raise SkipTest("promtool is not installed (Debian's package prometheus has it)")
    return path


class MetricsPageTests(SynchronousTestCase):
    """
    Tests for docs/metrics.rst.
    """

    def test_current(self) -> None:
        """
        docs/metrics.rst is what docs/metrics.py makes of the metrics:
        ``python docs/metrics.py > docs/metrics.rst``.
        """
        page = runpy.run_path(str(_DOCS / "metrics.py"))["page"]()
        self.assertEqual((_DOCS / "metrics.rst").read_text(encoding="utf-8"), page)

    def test_alerts(self) -> None:
        """
        The page has a section for each alert, to which the alert's runbook leads.
        """
        text = _ALERTS.read_text(encoding="utf-8")
        names = re.findall(r"- alert: (\w+)", text)
        page = (_DOCS / "metrics.rst").read_text(encoding="utf-8")
        self.assertEqual(re.findall(r"^(Kiroworkers\w+)\n~+$", page, re.M), names)
        runbooks = re.findall(r'runbook: "(.*)"', text)
        self.assertEqual(runbooks, [f"docs/metrics.rst#{name.lower()}" for name in names])


class QueryTests(SynchronousTestCase):
    """
    Tests for the queries of the dashboard and the alerts.
    """

    def test_names(self) -> None:
        """
        Every metric that a query names exists, and has the labels that the query names.
        """
        labels = {name: family.labels for family in FAMILIES for name in names_of(family)}
        alerts = _ALERTS.read_text(encoding="utf-8")
        variables = [entry.get("definition", "") for entry in dashboard()["templating"]["list"]]
        queries = [*dashboard_queries(), *variables, *re.findall(r"expr: (.*)", alerts)]
        queries += re.findall(r"expr: >-\n((?: {10}.*\n)+)", alerts)
        used = set()
        for query in queries:
            found = re.findall(r"\b((?:kiroworkers|process)_\w+)(?:\{([^}]*)\})?", query)
            for name, selector in found:
                used.add(name)
                if name in _OF_PROCESS:
                    continue
                self.assertIn(name, labels, query)
                selected = set(re.findall(r"(\w+) *[=!]~?", selector))
                self.assertLessEqual(selected - _OTHER_LABELS, set(labels[name]), query)
            if found:
                grouped = re.findall(r"by \(([^)]*)\)", query)
                wanted = {label for group in grouped for label in group.split(", ")}
                known = {label for name, _ in found for label in labels.get(name, ())}
                self.assertLessEqual(wanted - _OTHER_LABELS, known, query)
        self.assertGreater(len(used), 35)

    def test_reasons(self) -> None:
        """
        The reasons in the alerts are causes of the end of a session.
        """
        alerts = _ALERTS.read_text(encoding="utf-8")
        words = {
            word for value in re.findall(r'reason=~?"([^"]+)"', alerts) for word in value.split("|")
        }
        self.assertLessEqual(words, {cause.value for cause in EndCause})
        self.assertIn("exited", words)

    def test_promtool(self) -> None:
        """
        Prometheus understands each query and each alert.
        """
        rules = ["groups:", "  - name: dashboard", "    rules:"]
        for number, query in enumerate(dashboard_queries()):
            for variable, value in _VARIABLES.items():
                query = query.replace(variable, value)
            expr = json.dumps(query)
            rules += [f"      - record: panel:query{number}", f"        expr: {expr}"]
        file = Path(self.mktemp())
        file.write_text("\n".join(rules))
        self.run_promtool("check", "rules", "--lint=none", str(file))
        self.run_promtool("check", "rules", str(_ALERTS))

    def test_alerts_fire(self) -> None:
        """
        No alert fires while all is well, and each fires when it should.
        """
        file = Path(self.mktemp())
        text = (Path(__file__).parent / "alerts_test.yml").read_text(encoding="utf-8")
        file.write_text(text.replace("  - ALERTS\n", f"  - {_ALERTS}\n"))
        self.run_promtool("test", "rules", str(file))

    def run_promtool(self, *arguments: str) -> None:
        """
        Run promtool, which must be satisfied.
        """
        done = subprocess.run([promtool(), *arguments], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class DashboardTests(SynchronousTestCase):
    """
    Tests for the dashboard as a file that Grafana imports.
    """

    def test_panels(self) -> None:
        """
        The panels have distinct ids, lie within the grid side by side, and use the data source
        that the user chooses.
        """
        panels = dashboard()["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        cells: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            taken = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            cells |= taken
            if panel["type"] != "row":
                self.assertEqual(panel["datasource"]["uid"], "${datasource}", panel["title"])

    def test_variables(self) -> None:
        """
        The dashboard asks for the data source, the server, the agent and the task.
        """
        names = [entry["name"] for entry in dashboard()["templating"]["list"]]
        self.assertEqual(names, ["datasource", "instance", "agent", "task"])
        used = set(re.findall(r"\$(\w+)", " ".join(dashboard_queries())))
        self.assertEqual(used, {"__rate_interval", "instance", "agent", "task"})
