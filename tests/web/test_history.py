"""
Tests for `kiroworkers.web.history`, on a history in memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.request_record import RequestRecord
from kiroworkers.tasks import builtin_tasks
from kiroworkers.telemetry.observers import RequestObservers
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.tokens import read_tokens
from tests import fakekiro
from tests.jobs.support import job_service_in
from tests.memory import dispatcher_in


class HistoryRoutesTests(SynchronousTestCase):
    """
    Tests for the routes.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(fakekiro.answer_text))
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups = AgentGroups([AgentGroup(agent, dispatcher_in(self.reactor, workers=1))])
        self.authorizer = Authorizer()
        job_service = job_service_in(self.reactor, groups, builtin_tasks(), history="30")
        self.addCleanup(job_service.close)
        self.observers = RequestObservers(self.reactor, [job_service.history])
        application = Application(
            self.reactor, groups, builtin_tasks(), self.authorizer, job_service
        )
        self.client: Any = StubTreq(application.resource())
        file = Path(self.mktemp())
        names = {"ann": "ask", "bob": "ask", "admin": "operate", "eye": "watch"}
        file.write_text("".join(f"{name} {may} {name:x<20}\n" for name, may in names.items()))
        self.authorizer.tokens = tuple(read_tokens(file))

    def get(self, path: str, name: str = "ann") -> tuple[int, Any]:
        """
        Return the status and the body of the response to the client `name`.
        """
        headers = {"Authorization": f"Bearer {name:x<20}"}
        pending = self.client.get(f"http://localhost{path}", headers=headers)
        self.client.flush()
        response = self.successResultOf(pending)
        return response.code, json.loads(self.successResultOf(response.content()))

    def ask(self, id: str, client: str = "ann", worker: str = "worker1", **facts: Any) -> None:
        """
        Let a client send a request that is answered.
        """
        record = RequestRecord(
            id, on_event=self.observers, client=client, worker=worker, task="generate-story",
            status=200, **facts,
        )  # fmt: skip
        record.report("received", method="POST", path="/kiro/generate-story")
        record.report("started", worker=worker, agent="kiro", attempt=1)
        record.report("ended", status=200, total=1.0)

    def ids(self, query: str = "", name: str = "ann") -> list[str]:
        status, body = self.get(f"/requests{query}", name)
        self.assertEqual(status, 200, body)
        return [entry["id"] for entry in body["requests"]]

    def test_owners(self) -> None:
        """
        A client sees its own requests, and an operator all; nobody learns whether another
        client's request exists.
        """
        self.ask("a")
        self.ask("b", "bob")
        for name, listed in [("ann", ["a"]), ("bob", ["b"]), ("admin", ["b", "a"])]:
            self.assertEqual(self.ids(name=name), listed)
            for id in ("a", "b", "nothing"):
                status, body = self.get(f"/requests/{id}", name)
                self.assertEqual(status, 200 if id in listed else 404, (name, id))
                if status == 404:
                    self.assertEqual(
                        (body["error"], body["code"]), ("Request not found", "unknown_request")
                    )
        for path in ("/requests", "/requests/a"):
            self.assertEqual(self.get(path, "eye")[0], 403)

    def test_entry(self) -> None:
        """
        An entry has the facts of the request; retrieved alone, it has its events as well.
        """
        self.ask("a", wait=0.25, attempts=1)
        _, page = self.get("/requests")
        [summary] = page["requests"]
        self.assertEqual((page["next"], page["dropped"], page["gaps"]), (None, 0, []))
        self.assertEqual((summary["outcome"], summary["wait"]), ("answered", 0.25))
        _, entry = self.get("/requests/a")
        self.assertEqual({**entry, **summary}, entry)
        self.assertEqual({*entry} - {*summary}, {"events", "gaps", "older"})
        self.assertEqual(self.get("/requests/a", "admin")[1]["recordings"], [])
        self.assertEqual([event["name"] for event in entry["events"]],
                         ["received", "started", "ended"])  # fmt: skip

    def test_same_id(self) -> None:
        """
        Of several requests with the same identifier the newest is returned, with the path of the
        next older one.
        """
        for number in range(3):
            self.ask("a", worker=f"worker{number}")
            self.ask("b", "bob")
            self.ask("a", "bob", worker="another")
        path, workers = "/requests/a", []
        while path:
            _, entry = self.get(path)
            workers.append(entry["worker"])
            path = entry["older"]
        self.assertEqual(workers, ["worker2", "worker1", "worker0"])

    def test_pages(self) -> None:
        """
        Requests are listed by page; the choice is that of the first page.
        """
        for number in range(12):
            self.ask(str(number), worker=f"worker{number % 2}")
        path, listed = "/requests?limit=2&worker=worker1&outcome=answered", []
        while path:
            _, page = self.get(path)
            self.assertLessEqual(len(page["requests"]), 2)
            listed += [entry["id"] for entry in page["requests"]]
            path = page["next"]
        self.assertEqual(listed, ["11", "9", "7", "5", "3", "1"])
        self.assertEqual(self.ids("?task=chat"), [])
        self.assertEqual(self.ids("?outcome=failed"), [])

    def test_dropped(self) -> None:
        """
        The number of requests that are no longer kept is declared.
        """
        for number in range(35):
            self.ask(str(number))
        _, page = self.get("/requests?limit=200")
        self.assertEqual((len(page["requests"]), page["dropped"]), (30, 5))

    def test_invalid(self) -> None:
        """
        An invalid parameter is refused by its name.
        """
        for query, field in [
            ("limit=0", "limit"), ("before=x", "before"), ("before=-1", "before"),
            ("outcome=great", "outcome"),
        ]:  # fmt: skip
            status, body = self.get(f"/requests?{query}")
            self.assertEqual((status, body["field"]), (400, field))
