"""
Tests for `kiroworkers.web.app`, on a pool in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve
from treq.testing import StubTreq
from twisted.internet.address import UNIXAddress
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import AgentFailure, load_dialect
from kiroworkers.errors import FailureKind
from kiroworkers.jobs.store import StorageStatus
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.tasks import builtin_tasks
from kiroworkers.tasks.task import TaskLimits
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web import app, viewer
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.routing import routes_of
from kiroworkers.web.tokens import read_tokens
from tests import fakekiro
from tests.jobs.presence import BLUE, RED, MemoryPresence
from tests.jobs.support import job_service_in
from tests.memory import dispatcher_in
from tests.web.test_errors import MemoryServer


class ApplicationTests(SynchronousTestCase):
    """
    Tests for the routes.
    """

    def setUp(self) -> None:
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.dispatcher = dispatcher_in(self.reactor, backlog=0)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        self.authorizer = Authorizer()
        self.tasks = {**builtin_tasks()}
        groups = AgentGroups([AgentGroup(agent, self.dispatcher)])
        self.job_service = job_service_in(self.reactor, groups, self.tasks)
        application = Application(
            self.reactor,
            groups,
            self.tasks,
            self.authorizer,
            self.job_service,
            wall_clock=self.reactor.seconds,
        )
        self.client: Any = StubTreq(application.resource())
        self.dispatcher.startService()
        self.reactor.advance(0)

    def request(self, method: str, path: str, **kwargs: Any) -> tuple[Any, Any]:
        """
        The response to a request, and its body.
        """
        response, text = self.get_text(method, path, **kwargs)
        kind = response.headers.getRawHeaders("content-type")
        self.assertEqual(kind, ["application/json; charset=utf-8"])
        self.assertEqual(response.length, len(text.encode()))
        return response, json.loads(text)

    def get_text(self, method: str, path: str, text: bool = True, **kwargs: Any) -> tuple[Any, Any]:
        """
        The response to a request, and its text, or its bytes without `text`.
        """
        kwargs.setdefault("allow_redirects", False)
        pending = self.client.request(method, f"http://localhost{path}", **kwargs)
        self.client.flush()
        self.reactor.advance(0)
        self.client.flush()
        response = self.successResultOf(pending)
        content = self.successResultOf(response.content())
        self.client.flush()
        return response, content.decode() if text else content

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

    def test_cluster(self) -> None:
        """
        The servers with the same database are listed, with what is known of them, and which of
        them answers.
        """
        self.job_service.presence = MemoryPresence(BLUE, RED)
        response, body = self.request("GET", "/cluster")
        self.assertEqual((response.code, body["server"]), (200, "red"))
        self.assertEqual(body["timestamp"], 1_000_000_000)
        self.assertEqual(body["jobs"], {"queued": 0, "oldest": 0})
        self.assertEqual(body["database"], {"state": "ok", "reason": None, "since": None})
        blue, red = body["servers"]
        self.assertEqual((blue["name"], blue["state"], blue["silence"]), ("blue", "lost", 12_250))
        self.assertEqual((blue["account"], red["account"]), (None, "team"))
        kiro = {"state": "serving", "workers": 3, "ready": 2, "idle": 1, "queue": 4}
        self.assertEqual((red["agents"]["kiro"], red["jobs"]), (kiro, 2))
        self.assertEqual((red["version"], red["address"]), ("1.2", "10.0.0.1:8080"))
        self.assertEqual((red["started"], red["seen"]), (1_000_500, 1_060_000))
        self.assertEqual(self.request("GET", "/health")[1]["server"], "red")

    def test_cluster_without_database(self) -> None:
        """
        While the shared database fails, the servers are those that were known last, and the
        response says why.
        """
        presence = self.job_service.presence = MemoryPresence(RED)
        presence.database = StorageStatus("it is gone", 12.5)
        response, body = self.request("GET", "/cluster")
        self.assertEqual((response.code, len(body["servers"])), (200, 1))
        self.assertEqual(
            body["database"], {"state": "failing", "reason": "it is gone", "since": 12_500}
        )

    def test_single_server(self) -> None:
        """
        A server without a shared database lists itself alone.
        """
        response, body = self.request("GET", "/cluster")
        self.assertEqual((response.code, body["database"]), (200, None))
        [server] = body["servers"]
        self.assertEqual((server["name"], server["state"]), (body["server"], "serving"))
        self.assertEqual(server["agents"]["kiro"]["idle"], 2)

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
        An invalid request is rejected with a status, a code and a message, and no worker
        is asked.
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
            ("POST", story, {"data": b"[" * 15_000, "headers": json_type}, 400,
             "invalid_json", "nested too deeply"),
            ("POST", story, {"data": b"[" + b"[]," * 20_000, "headers": json_type}, 413,
             "too_large", "more than 20000 JSON values"),
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
            ("GET", "/docs/nothing.css", {}, 404, "not_found", "/docs/nothing.css"),
        ]  # fmt: skip
        for method, path, kwargs, status, code, words in cases:
            response, body = self.request(method, path, **kwargs)
            self.assertEqual((response.code, body["code"]), (status, code), (path, kwargs))
            self.assertIn(words, body["error"])
        self.assertEqual([program.typed for program in self.reactor.programs], [[], []])

    def test_unchanged_documents(self) -> None:
        """
        A client that has a document gets 304, until a task changes (RFC 9110, sections
        13.1.2 and 15.4.5).
        """
        paths = ("/openapi.json", "/kiro")
        tags = {}
        for path in (*paths, "/docs", "/docs/swagger-ui.css", "/docs/start.js"):
            response, _ = self.get_text("GET", path)
            [tags[path]] = response.headers.getRawHeaders("etag")
            headers = {"If-None-Match": tags[path]}
            response, text = self.get_text("GET", path, headers=headers)
            self.assertEqual((response.code, text), (304, ""), path)
        task = self.tasks["generate-story"]
        self.tasks["generate-story"] = evolve(task, title="Another title")
        for path in paths:
            response, text = self.get_text("GET", path, headers={"If-None-Match": tags[path]})
            self.assertEqual(response.code, 200, path)
            self.assertIn("Another title", text)

    def test_field(self) -> None:
        """
        The error names the field that is invalid.
        """
        _, body = self.request("POST", "/kiro/generate-test", json={"story": {"title": 3}})
        self.assertEqual(body["field"], "story.title")

    def test_allowed_methods(self) -> None:
        """
        The response to a wrong method lists the right ones in the Allow header.
        """
        response, _ = self.request("GET", "/kiro/generate-story")
        self.assertIn("POST", response.headers.getRawHeaders("allow")[0])

    def test_compressed_body(self) -> None:
        """
        A compressed body gets 415, with the codings that are accepted (RFC 9110, section
        15.5.16); identity is none.
        """
        for coding in ("gzip", "identity, br", "x" * 1000):
            headers = {"Content-Encoding": coding}
            response, body = self.request(
                "POST", "/kiro/generate-story", json={"idea": "x"}, headers=headers
            )
            self.assertEqual((response.code, body["code"]), (415, "unsupported_encoding"))
            self.assertEqual(response.headers.getRawHeaders("accept-encoding"), ["identity"])
            self.assertLess(len(body["error"]), 150)
        headers = {"Content-Encoding": "identity"}
        response, _ = self.request(
            "POST", "/kiro/generate-story", json={"idea": "x"}, headers=headers
        )
        self.assertEqual(response.code, 200)

    def test_unfit_answer(self) -> None:
        """
        A request whose answers do not match the schema gets 502.
        """
        self.reply = lambda prompt: "I would rather not."
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertEqual((response.code, body["code"]), (502, "answer_unfit"))
        self.assertIn("no JSON object", body["error"])

    def test_reference(self) -> None:
        """
        The error about an unusable answer names the worker and the request's number, by
        which the log refers to the answer without quoting it.
        """
        self.reply = lambda prompt: "I would rather not."
        with capturedLogs() as logs:
            _, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        expected = f"{body['worker']}: the answer to request {body['request']} is unusable"
        lines = [eventAsText(event, includeTimestamp=False) for event in logs]
        self.assertTrue(any(expected in line for line in lines), lines)
        self.assertFalse(any("rather" in line for line in lines), lines)

    def test_raw(self) -> None:
        """
        With raw=1 an operator gets the agent's own text: alone if the answer is valid,
        and beside the error if it is not.
        """
        response, text = self.get_text("POST", "/kiro/generate-story?raw=1", json={"idea": "x"})
        self.assertEqual(response.code, 200)
        self.assertIn('"title"', text)
        self.assertEqual(response.headers.getRawHeaders("x-kiroworkers-worker"), ["worker1"])
        self.reply = lambda prompt: "I would rather not."
        _, body = self.request("POST", "/kiro/generate-story?raw=1", json={"idea": "x"})
        self.assertEqual(body["code"], "answer_unfit")
        self.assertIn("I would rather not.", body["text"])
        _, body = self.request("POST", "/kiro/generate-story?raw=yes", json={"idea": "x"})
        self.assertEqual((body["code"], body["field"]), ("invalid_input", "raw"))

    def test_raw_is_for_operators(self) -> None:
        """
        A client with the scope ask alone gets no raw text, and no session is asked.
        """
        token = "asker-asker-asker"
        file = Path(self.mktemp())
        file.write_text(f"asker ask {token}\n")
        self.authorizer.tokens = tuple(read_tokens(file))
        response, body = self.request(
            "POST",
            "/kiro/generate-story?raw=1",
            json={"idea": "x"},
            headers={"Authorization": f"Bearer {token}"},
        )
        self.assertEqual((response.code, body["code"]), (403, "wrong_scope"))
        self.assertEqual([program.typed for program in self.reactor.programs], [[], []])

    def test_viewer(self) -> None:
        """
        The page loads its own files only, and may do no more than its policy says; browsers keep
        the files for good.
        """
        response, page = self.get_text("GET", "/docs")
        policy = response.headers.getRawHeaders("content-security-policy")[-1]
        self.assertNotIn("unsafe", policy)
        self.assertIn("script-src 'self'; connect-src 'self';", policy)
        self.assertEqual(response.headers.getRawHeaders("cache-control"), ["no-cache"])
        addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
        self.assertEqual(len(addresses), 7)
        for address in addresses:
            response, content = self.get_text("GET", f"/{address}", text=False)
            self.assertEqual(response.code, 200, address)
            self.assertEqual(response.length, len(content), address)
            if "?" in address:
                [control] = response.headers.getRawHeaders("cache-control")
                self.assertIn("immutable", control)
        self.assertEqual(self.get_text("GET", "/")[0].code, 302)

    def test_no_viewer(self) -> None:
        """
        A server without the files of the page says so, and nothing else fails.
        """
        self.patch(viewer, "_PACKAGE", "not_installed")
        self.patch(app, "load_viewer", viewer.load_viewer.__wrapped__)
        for path in ("/docs", "/docs/start.js"):
            response, body = self.request("GET", path)
            self.assertEqual((response.code, body["code"]), (404, "not_found"))
            self.assertIn("install kiroworkers again", body["error"])
        self.assertEqual(self.request("GET", "/openapi.json")[0].code, 200)

    def test_normalised(self) -> None:
        """
        A header names the fields of the answer that were normalised, percent-encoded; it
        is absent if there are none.
        """
        name = "X-Kiroworkers-Normalised"
        response, _ = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertIsNone(response.headers.getRawHeaders(name))
        schema = {"type": "object", "properties": {"größe\r\n": {"type": "integer"}}}
        task = evolve(self.tasks["generate-story"], answer_schema=schema)
        self.tasks["generate-story"] = task
        self.reply = lambda prompt: '{"größe\\r\\n": "5"}'
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertEqual(body, {"größe\r\n": 5})
        self.assertEqual(response.headers.getRawHeaders(name), ["gr%C3%B6%C3%9Fe%0D%0A"])

    def test_limits(self) -> None:
        """
        A task's own timeout applies unless the client's is shorter, and a prompt that is
        longer than the task allows is rejected.
        """
        self.reply = lambda prompt: None
        task = self.tasks["generate-story"]
        self.tasks["generate-story"] = evolve(task, limits=TaskLimits(timeout=20))
        for headers, limit in [({}, 20), ({"X-Request-Timeout": "5"}, 5)]:
            pending = self.client.post(
                "http://localhost/kiro/generate-story", json={"idea": "x"}, headers=headers
            )
            self.client.flush()
            self.reactor.advance(limit - 0.5)
            self.client.flush()
            self.assertNoResult(pending)
            self.reactor.advance(0.5)
            self.client.flush()
            self.assertEqual(self.successResultOf(pending).code, 504)
        self.tasks["generate-story"] = evolve(task, limits=TaskLimits(prompt=100))
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertEqual((response.code, body["code"]), (400, "invalid_input"))
        self.assertIn("prompt too long", body["error"])

    def test_tasks_change(self) -> None:
        """
        A running request keeps the task that it started with.
        """
        self.reply = lambda prompt: None
        body = {"idea": "x"}
        pending = self.client.post("http://localhost/kiro/generate-story", json=body)
        self.client.flush()
        self.reactor.advance(0)
        program = next(program for program in self.reactor.programs if program.answering)
        del self.tasks["generate-story"]
        response, _ = self.request("POST", "/kiro/generate-story", json=body)
        self.assertEqual(response.code, 404)
        program.say(fakekiro.answer_text(program.typed[0]))
        self.reactor.advance(0)
        self.client.flush()
        self.assertEqual(self.successResultOf(pending).code, 200)

    def test_busy(self) -> None:
        """
        If all workers are busy, the error says when to retry, with the message that its
        consumers know.
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
        self.dispatcher.stopService()
        response, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        self.assertEqual((response.code, body["code"]), (503, "shutting_down"))
        self.assertEqual(self.request("GET", "/ready")[0].code, 503)

    def test_fault(self) -> None:
        """
        An unexpected exception is logged with its traceback and answered with 500; its
        message is in neither, because it may quote the client.
        """

        def submit(prompt: str, *more: object) -> None:
            raise ZeroDivisionError(prompt)

        self.patch(self.dispatcher, "submit", submit)
        with capturedLogs() as logged:
            response, body = self.request("POST", "/kiro/generate-story", json={"idea": "hush"})
        self.assertEqual((response.code, body), (500, {"error": "Internal server error",
                                                       "code": "fault"}))  # fmt: skip
        [text] = [eventAsText(event) for event in logged if event["log_level"] is LogLevel.error]
        self.assertIn("ZeroDivisionError", text)
        self.assertIn("in submit", text)
        self.assertNotIn("hush", text)


class RouterTests(SynchronousTestCase):
    """
    Tests for what every path answers, on a server in memory.
    """

    def setUp(self) -> None:
        self.server = MemoryServer(connections=10_000)
        self.paths = sorted({declared.path for declared in routes_of(Application.app)})

    def test_unix_without_host(self) -> None:
        """
        A request of HTTP/1.0 without a Host header is served over a UNIX domain socket, too
        (RFC 9112, section 3.2).
        """
        local = UNIXAddress("/run/http.sock")
        for method, path, status in (("GET", "/ready", 200), ("GET", "/x", 404)):
            response = self.server.send(f"{method} {path} HTTP/1.0\r\n\r\n".encode(), host=local)
            self.assertEqual(response().status, status)

    def test_other_spellings(self) -> None:
        """
        A path with an empty segment, a dot segment or an encoded slash gets 404, and the
        error names the path that is served (RFC 3986, section 6.2.2.3).
        """
        for declared in self.paths:
            path = re.sub(r"{\w+}", "x", declared)
            if path == "/":
                continue
            for spelling in (
                f"{path}/",
                f"/{path}",
                path.replace("/", "//"),
                f"/.{path}",
                f"/x/..{path}",
                f"/%2e{path}",
                path[0] + path[1:].replace("/", "%2F") + "%2f",
            ):
                for method in ("GET", "POST"):
                    response = self.server.request(method, spelling)
                    self.assertEqual(response.status, 404, spelling)
                    sentence = f"Not found: {spelling}; the nearest path is {path}"
                    error = response.body["error"]
                    message = error["message"] if isinstance(error, dict) else error
                    self.assertEqual(message, sentence)

    def test_unknown(self) -> None:
        """
        If no such path is served, the error names none.
        """
        for path in ("//x", "/x/", "/./x", "/health//x"):
            response = self.server.request("GET", path)
            self.assertEqual(response.status, 404)
            self.assertEqual(response.error["error"], f"Not found: {path}")

    def test_allow(self) -> None:
        """
        Whatever the method, 405 lists those of the path (RFC 9110, section 15.5.6); methods
        are case-sensitive (RFC 9110, section 9.1).
        """
        for path, allowed in (
            ("/health", "GET, HEAD"),
            ("/kiro/x", "POST"),
            ("/jobs/x", "DELETE, GET, HEAD"),
            ("/operator/workers", "PUT"),
            ("/v1/models", "GET, HEAD"),
        ):
            for method in ("get", "Put", "post", "PATCH", "TRACE", "M-SEARCH", "_", "options"):
                response = self.server.request(method, path)
                self.assertEqual(response.status, 405, (method, path))
                self.assertEqual(response.headers["allow"].upper(), allowed, (method, path))

    def test_head(self) -> None:
        """
        HEAD gets the status and the headers of GET, and no content (RFC 9110, section 9.3.2).
        """
        for declared in (*self.paths, "/docs/start.js", "/nowhere", "/health/"):
            path = re.sub(r"{\w+}", "x", declared)
            got, head = (self.server.request(method, path) for method in ("GET", "HEAD"))
            self.assertEqual(head.status, got.status, path)
            self.assertEqual(head.content, b"")
            if "content-length" in got.headers:
                # The time in the body may have another number of digits.
                self.assertEqual({*head.headers}, {*got.headers} | {"content-length"}, path)


class MixedTests(SynchronousTestCase):
    """
    Tests for the routes, with an agent that draws on a screen beside a classic one.
    """

    def setUp(self) -> None:
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.groups = AgentGroups(
            AgentGroup(
                Agent(load_dialect(dialect), "chosen", "/bin/kiro", (), {}, name),
                dispatcher_in(self.reactor, workers=1, backlog=backlog, name_prefix=prefix),
            )
            for name, dialect, backlog, prefix in [
                ("kiro", "kiro-classic", 1, "worker"),
                ("tui", "kiro-tui", 3, "tui-worker"),
            ]
        )
        self.kiro, self.tui = self.groups
        story = builtin_tasks()["generate-story"]
        mine = evolve(story, name="mine", agent="tui")
        tasks = {task.name: task for task in (story, mine)}
        application = Application(
            self.reactor,
            self.groups,
            tasks,
            Authorizer(),
            job_service_in(self.reactor, self.groups, tasks),
        )
        self.client: Any = StubTreq(application.resource())
        for group in self.groups:
            group.dispatcher.startService()
        self.reactor.advance(0)

    def request(self, method: str, path: str, **kwargs: Any) -> tuple[Any, Any]:
        """
        The response to a request of this machine, and its body.
        """
        kwargs.setdefault("allow_redirects", False)
        pending = self.client.request(method, f"http://127.0.0.1{path}", **kwargs)
        self.client.flush()
        self.reactor.advance(0)
        self.client.flush()
        response = self.successResultOf(pending)
        content = self.successResultOf(response.content())
        self.client.flush()
        return response, json.loads(content)

    def story(self, agent: str | None = None, task: str = "generate-story") -> tuple[Any, Any]:
        headers = {} if agent is None else {"X-Agent": agent}
        return self.request("POST", f"/kiro/{task}", json={"idea": "x"}, headers=headers)

    def test_who_answers(self) -> None:
        """
        The agent is the request's, else the task's, else the first one; the response
        names it, and the prompt is laid out for it.
        """
        for agent, task, name, worker in [
            (None, "generate-story", "kiro", "worker1"),
            ("tui", "generate-story", "tui", "tui-worker1"),
            (None, "mine", "tui", "tui-worker1"),
            ("kiro", "mine", "kiro", "worker1"),
        ]:
            response, body = self.story(agent, task)
            self.assertEqual((response.code, body["title"]), (200, "x"), body)
            values = [response.headers.getRawHeaders(f"x-kiroworkers-{header}")[0]
                      for header in ("agent", "worker")]  # fmt: skip
            self.assertEqual(values, [name, worker])
        for program, layout in zip(self.reactor.programs, ("on one line", "a line of its own"),
                                   strict=True):  # fmt: skip
            prompts = [text for text in program.typed if "Task:" in text]
            self.assertEqual((len(prompts), all(layout in text for text in prompts)), (2, True))

    def test_unknown(self) -> None:
        """
        The error about an unknown agent names the header or field, and the known agents.
        """
        pool = "/operator/workers"
        for field, (response, body) in [
            ("X-Agent", self.story("q")),
            ("X-Agent", self.story("")),
            ("agent", self.request("GET", "/ready?agent=q")),
            ("agent", self.request("POST", "/operator/pause?agent=q")),
            ("agent", self.request("GET", "/operator/queue?agent=%ff")),
            ("agent", self.request("PUT", pool, json={"workers": 1, "agent": ["tui"]})),
            ("agent", self.request("PUT", pool + "?agent=q", json={"workers": 1})),
        ]:
            expected = {"error": f"{field} must be one of: kiro, tui", "code": "invalid_input",
                        "field": field}  # fmt: skip
            self.assertEqual((response.code, body), (400, expected))
        self.assertEqual([program.typed for program in self.reactor.programs], [[], []])

    def test_busy(self) -> None:
        """
        The error about a full queue describes the queue of the agent that was asked.
        """
        self.reply = lambda prompt: None
        for group in self.groups:
            group.dispatcher.pause()
        for agent, limit in [("kiro", 1), ("tui", 3)]:
            for _ in range(limit):
                self.client.post("http://127.0.0.1/kiro/generate-story", json={"idea": "x"},
                                 headers={"X-Agent": agent})  # fmt: skip
                self.client.flush()
            response, body = self.story(agent)
            self.assertEqual((response.code, body["code"]), (503, "all_workers_busy"))
            self.assertEqual(body["queue"], {"length": limit, "limit": limit})

    def test_outage(self) -> None:
        """
        An outage of one agent does not affect the others: the server stays ready, and
        reports which agents are.
        """
        self.tui.dispatcher.worker_pool.record_failure(
            AgentFailure(FailureKind.THROTTLED, "slow down")
        )
        self.assertEqual(self.story()[0].code, 200)
        response, body = self.story("tui")
        self.assertEqual((response.code, body["code"]), (503, "throttled"))
        response, body = self.request("GET", "/ready")
        self.assertEqual((response.code, body["workers"]), (200, ["worker1"]))
        self.assertEqual(body["agents"]["kiro"], {"ready": True, "workers": ["worker1"]})
        expected = {"ready": False, "error": "slow down", "code": "throttled",
                    "workers": ["tui-worker1"]}  # fmt: skip
        self.assertEqual(body["agents"]["tui"], expected)
        response, body = self.request("GET", "/ready?agent=tui")
        self.assertEqual(body.pop("storage")["state"], "ok")
        self.assertEqual((response.code, body), (503, {**expected, "agents": {"tui": expected}}))
        health = self.request("GET", "/health")[1]
        states = [health["agents"][name]["pool"]["state"] for name in ("kiro", "tui")]
        self.assertEqual(states, ["serving", "throttled"])
        self.assertEqual(health["pool"]["state"], "serving")

    def test_nobody_ready(self) -> None:
        """
        If no agent is ready, the response has the first agent's reason at the top level,
        and the others' beside it.
        """
        self.kiro.dispatcher.pause()
        self.tui.dispatcher.worker_pool.record_failure(
            AgentFailure(FailureKind.THROTTLED, "slow down")
        )
        response, body = self.request("GET", "/ready")
        self.assertEqual((response.code, body["code"], body["ready"]), (503, "paused", False))
        self.assertEqual(body["workers"], ["worker1", "tui-worker1"])
        self.assertEqual(body["agents"]["tui"]["code"], "throttled")

    def test_health(self) -> None:
        """
        Health names the agent of each worker, and reports on every agent what it reports
        on the first.
        """
        health = self.request("GET", "/health")[1]
        whose = {name: worker["agent"] for name, worker in health["workers"].items()}
        self.assertEqual(whose, {"worker1": "kiro", "tui-worker1": "tui"})
        self.assertEqual(health["agent"], "kiro")
        self.assertEqual(list(health["agents"]), ["kiro", "tui"])
        first = {name: health[name] for name in health["agents"]["kiro"]}
        self.assertEqual(health["agents"]["kiro"], first)
        self.assertIn("full-screen", health["agents"]["tui"]["agentDetail"])
        self.assertEqual(health["agents"]["tui"]["queue"], {"length": 0, "limit": 3})

    def test_catalogue(self) -> None:
        """
        The catalogue lists the agents, and the agent that each task names.
        """
        _, body = self.request("GET", "/kiro")
        self.assertEqual(body["agents"], ["kiro", "tui"])
        whose = {task["name"]: task["agent"] for task in body["tasks"]}
        self.assertEqual(whose, {"generate-story": None, "mine": "tui"})

    def test_operator(self) -> None:
        """
        An operator's request applies to all agents, or only to the one that it names.
        """

        def paused() -> list[bool]:
            return [group.dispatcher.paused for group in self.groups]

        _, body = self.request("POST", "/operator/pause?agent=tui")
        self.assertEqual((paused(), list(body["agents"])), ([False, True], ["tui"]))
        self.assertEqual(body["pool"]["state"], "paused")
        self.request("POST", "/operator/pause")
        self.assertEqual(paused(), [True, True])
        self.request("POST", "/operator/resume?agent=kiro")
        self.assertEqual(paused(), [False, True])
        _, body = self.request("POST", "/operator/resume")
        self.assertEqual((paused(), list(body["agents"])), ([False, False], ["kiro", "tui"]))

    def test_queue(self) -> None:
        """
        Requests are listed in the order of arrival across agents.
        """
        self.reply = lambda prompt: None
        for agent in ("tui", "kiro", "tui"):
            self.client.post("http://127.0.0.1/kiro/generate-story", json={"idea": "x"},
                             headers={"X-Agent": agent})  # fmt: skip
            self.client.flush()
            self.reactor.advance(0.1)
        _, body = self.request("GET", "/operator/queue")
        requests = [(item["agent"], item["state"]) for item in body["requests"]]
        expected = [("tui", "running"), ("kiro", "running"), ("tui", "waiting")]
        self.assertEqual(requests, expected)
        _, body = self.request("GET", "/operator/queue?agent=kiro")
        self.assertEqual([item["agent"] for item in body["requests"]], ["kiro"])

    def test_workers(self) -> None:
        """
        The number of workers is changed for one agent, the first one by default; a worker
        is found by its name, whichever agent it has.
        """

        def names() -> list[list[str]]:
            return [
                [worker.name for worker in group.dispatcher.worker_pool.workers]
                for group in self.groups
            ]

        for query, body in [("", {"agent": "tui"}), ("?agent=tui", {})]:
            self.request("PUT", f"/operator/workers{query}", json={"workers": 2, **body})
            self.assertEqual(names(), [["worker1"], ["tui-worker1", "tui-worker2"]])
        self.request("PUT", "/operator/workers", json={"workers": 3})
        self.assertEqual([len(workers) for workers in names()], [3, 2])
        response, body = self.request("POST", "/operator/workers/tui-worker2/drain")
        self.assertEqual((response.code, body["worker"]["agent"]), (202, "tui"))
        drained = [
            worker.name
            for group in self.groups
            for worker in group.dispatcher.worker_pool.workers
            if worker.drained
        ]
        self.assertEqual(drained, ["tui-worker2"])
        response, body = self.request("POST", "/operator/workers/tui-worker3/drain")
        self.assertEqual((response.code, body["code"]), (404, "unknown_worker"))
