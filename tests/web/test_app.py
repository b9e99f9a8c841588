"""
Tests for `kiroworkers.web.app` and `errors`, on a pool in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.errors import WorkError
from kiroworkers.groups import Group, Groups
from kiroworkers.tasks import builtin_tasks
from kiroworkers.terminal import load_dialect
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.errors import STATUS
from kiroworkers.web.gate import Gate
from tests import fakekiro
from tests.sessions.support import pool_in


def leaves(kind: type[WorkError]) -> Iterator[type[WorkError]]:
    """
    The errors that can be raised: those that no other derives from.
    """
    derived = kind.__subclasses__()
    if not derived:
        yield kind
    for each in derived:
        yield from leaves(each)


class StatusTests(SynchronousTestCase):
    """
    Tests for the map from errors to status codes.
    """

    def test_complete(self) -> None:
        """
        Every error has a status and a code of its own.
        """
        self.assertEqual(set(STATUS), set(leaves(WorkError)))
        self.assertEqual(len({code for _, code in STATUS.values()}), len(STATUS))


class ApplicationTests(SynchronousTestCase):
    """
    Tests for the routes.
    """

    def setUp(self) -> None:
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.pool = pool_in(self.reactor, backlog=0)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        self.gate = Gate()
        groups = Groups([Group(agent, self.pool)])
        application = Application(self.reactor, groups, builtin_tasks(), self.gate)
        self.client: Any = StubTreq(application.resource())
        self.pool.startService()
        self.reactor.advance(0)

    def request(self, method: str, path: str, **kwargs: Any) -> tuple[Any, Any]:
        """
        The response to a request, and its body.
        """
        pending = self.client.request(method, f"http://localhost{path}", **kwargs)
        self.client.flush()
        self.reactor.advance(0)
        self.client.flush()
        response = self.successResultOf(pending)
        content = self.successResultOf(response.content())
        self.client.flush()
        kind = response.headers.getRawHeaders("content-type")
        self.assertEqual(kind, ["application/json; charset=utf-8"])
        self.assertEqual(response.length, len(content))
        return response, json.loads(content)

    def test_answer(self) -> None:
        """
        A request gets its answer as bare JSON, and headers that say whose.
        """
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "An idea"})
        self.assertEqual((response.code, body["title"]), (200, "An idea"))
        for name, value in [("agent", "kiro"), ("worker", "worker1"), ("attempts", "1")]:
            self.assertEqual(response.headers.getRawHeaders(f"x-kiroworkers-{name}"), [value])

    def test_health(self) -> None:
        """
        Health has the fields the consumers read, of the types they read.
        """
        response, body = self.request("GET", "/health")
        self.assertEqual((response.code, body["status"], body["agent"]), (200, "running", "kiro"))
        self.assertEqual(body["timestamp"], 1_000_000_000)
        self.assertEqual(set(body["workers"]), {"worker1", "worker2"})
        worker = body["workers"]["worker1"]
        self.assertEqual(worker["pid"], 1000)
        self.assertIs(worker["busy"], False)
        self.assertIs(worker["healthy"], True)
        self.assertEqual(worker["lastActivity"], 1_000_000_000)
        self.assertEqual((worker["status"], worker["state"]), ("idle", "idle"))

    def test_health_types_nothing(self) -> None:
        """
        Looking at the health asks nothing of a session.
        """
        for _ in range(3):
            self.request("GET", "/health")
            self.request("GET", "/ready")
        self.assertEqual([program.typed for program in self.reactor.programs], [[], []])

    def test_ready(self) -> None:
        """
        The server is ready while one worker is, and not when none is.
        """
        self.assertEqual(self.request("GET", "/ready")[0].code, 200)
        self.reactor.programs[0].process.end(status=1)
        self.assertEqual(self.request("GET", "/ready")[0].code, 200)
        self.reactor.programs[1].process.end(status=1)
        self.reactor.advance(0)
        response, body = self.request("GET", "/ready")
        self.assertEqual((response.code, body["code"]), (503, "not_ready"))

    def test_catalogue(self) -> None:
        """
        The catalogue has each task's schemas and an example.
        """
        _, body = self.request("GET", "/kiro")
        tasks = {task["name"]: task for task in body["tasks"]}
        self.assertEqual(set(tasks), set(builtin_tasks()))
        story = tasks["generate-story"]
        self.assertEqual(story["input"]["required"], ["idea"])
        self.assertIn("storyPoint", story["answer"]["properties"])
        self.assertIn("idea", story["example"]["input"])

    def test_refusals(self) -> None:
        """
        What cannot be answered is refused with a status, a code and a sentence,
        and no worker is asked.
        """
        story = "/kiro/generate-story"
        json_type = {"content-type": "application/json"}
        cases: list[tuple[str, str, dict[str, Any], int, str, str]] = [
            ("POST", story, {"json": {}}, 400, "invalid_input", "Idea is required"),
            ("POST", story, {"json": {"idea": 5}}, 400, "invalid_input", "idea must be a string"),
            ("POST", story, {"json": [1]}, 400, "invalid_input", "must be an object"),
            ("POST", story, {"data": b"{", "headers": json_type}, 400, "invalid_json", "line 1"),
            ("POST", story, {"data": b"", "headers": json_type}, 400, "invalid_json", "not JSON"),
            ("POST", story, {"data": b'{"idea": "\xff"}', "headers": json_type}, 400,
             "invalid_json", "UTF-8"),
            ("POST", story, {"data": b'{"idea": NaN}', "headers": json_type}, 400,
             "invalid_json", "NaN"),
            ("POST", story, {"data": b'{"x": 1e999}', "headers": json_type}, 400,
             "invalid_json", "too large"),
            ("POST", story, {"data": b"[" * 100_000, "headers": json_type}, 400,
             "invalid_json", "nested too deeply"),
            ("POST", story, {"data": b'{"x": ' + b"9" * 5000 + b"}", "headers": json_type}, 400,
             "invalid_json", "not JSON"),
            ("POST", story, {"data": b'{"idea": "x"}'}, 415, "not_json", "Content-Type"),
            ("POST", story, {"data": b"idea=x",
             "headers": {"content-type": "application/x-www-form-urlencoded"}}, 415,
             "not_json", "Content-Type"),
            ("POST", "/kiro/write-poem", {"json": {}}, 404, "unknown_task", "write-poem"),
            ("GET", story, {}, 405, "wrong_method", "POST"),
            ("DELETE", "/health", {}, 405, "wrong_method", "GET"),
            ("GET", "/nowhere", {}, 404, "not_found", "/nowhere"),
            ("GET", "/", {}, 404, "not_found", "/"),
        ]  # fmt: skip
        for method, path, kwargs, status, code, words in cases:
            response, body = self.request(method, path, **kwargs)
            self.assertEqual((response.code, body["code"]), (status, code), (path, kwargs))
            self.assertIn(words, body["error"])
        self.assertEqual([program.typed for program in self.reactor.programs], [[], []])

    def test_field(self) -> None:
        """
        A refused field is named.
        """
        _, body = self.request("POST", "/kiro/generate-test", json={"story": {"title": 3}})
        self.assertEqual(body["field"], "story.title")

    def test_allowed_methods(self) -> None:
        """
        A wrong method is told the right ones in the Allow header, too.
        """
        response, _ = self.request("GET", "/kiro/generate-story")
        self.assertIn("POST", response.headers.getRawHeaders("allow")[0])

    def test_unfit_answer(self) -> None:
        """
        A session that answers with nothing that fits is a bad gateway.
        """
        self.reply = lambda prompt: "I would rather not."
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertEqual((response.code, body["code"]), (502, "answer_unfit"))
        self.assertIn("no JSON object", body["error"])

    def test_busy(self) -> None:
        """
        With all workers busy the refusal says when to come again, in the words
        the consumers know.
        """
        self.reply = lambda prompt: None
        for _ in range(2):
            self.client.post("http://localhost/kiro/generate-story", json={"idea": "x"})
            self.client.flush()
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertEqual(response.code, 503)
        self.assertEqual(body["error"], "All workers busy, try again")
        self.assertEqual(body["code"], "all_workers_busy")
        self.assertEqual(body["queue"], {"length": 0, "limit": 0})
        self.assertEqual(response.headers.getRawHeaders("retry-after"), [str(body["retryAfter"])])

    def test_shutting_down(self) -> None:
        """
        A stopped pool answers 503, and is not ready.
        """
        self.pool.stopService()
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertEqual((response.code, body["code"]), (503, "shutting_down"))
        self.assertEqual(self.request("GET", "/ready")[0].code, 503)

    def test_fault(self) -> None:
        """
        A fault of ours is logged, and told as one without its details.
        """
        self.patch(self.pool, "submit", lambda prompt, terms: 1 / 0)
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertEqual((response.code, body), (500, {"error": "The server has a fault",
                                                       "code": "fault"}))  # fmt: skip
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
