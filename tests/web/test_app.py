"""
Tests for `kiroworkers.web.app` and `errors`, on a pool in memory.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import evolve
from treq.testing import StubTreq
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import AgentFailure, load_dialect
from kiroworkers.errors import WorkError
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.tasks import builtin_tasks
from kiroworkers.tasks.task import TaskLimits
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.errors import STATUS
from kiroworkers.web.tokens import read_tokens
from tests import fakekiro
from tests.jobs.support import desk_in
from tests.memory import pool_in


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
        # attrs makes each class anew, to give it slots, and the first one lives until then.
        gc.collect()
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
        self.authorizer = Authorizer()
        self.tasks = {**builtin_tasks()}
        groups = AgentGroups([AgentGroup(agent, self.pool)])
        self.job_service = desk_in(self.reactor, groups, self.tasks)
        application = Application(
            self.reactor, groups, self.tasks, self.authorizer, self.job_service
        )
        self.client: Any = StubTreq(application.resource())
        self.pool.startService()
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

    def get_text(self, method: str, path: str, **kwargs: Any) -> tuple[Any, str]:
        """
        The response to a request, and its text.
        """
        kwargs.setdefault("allow_redirects", False)
        pending = self.client.request(method, f"http://localhost{path}", **kwargs)
        self.client.flush()
        self.reactor.advance(0)
        self.client.flush()
        response = self.successResultOf(pending)
        content = self.successResultOf(response.content())
        self.client.flush()
        return response, content.decode()

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
            ("GET", "/docs/nothing.css", {}, 404, "not_found", "/docs/nothing.css"),
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

    def test_reference(self) -> None:
        """
        An answer that does not fit is told with the worker and the number under which
        it stands in the log, which does not quote it.
        """
        self.reply = lambda prompt: "I would rather not."
        with capturedLogs() as logs:
            _, body = self.request("POST", "/kiro/generate-story", json={"idea": "x"})
        told = f"{body['worker']}: its answer to request {body['request']} is of no use"
        said = [eventAsText(each, includeTimestamp=False) for each in logs]
        self.assertTrue(any(told in each for each in said), said)
        self.assertFalse(any("rather" in each for each in said), said)

    def test_raw(self) -> None:
        """
        With raw=1 an operator sees what the agent said: alone where it fits, beside
        the reasons where it does not.
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
        Who may only ask sees no raw text, and no session is asked.
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

    def test_pages(self) -> None:
        """
        The page of the API shows each path and who answers, loads nothing from
        elsewhere, and may do no more than its policy says.
        """
        response, page = self.get_text("GET", "/docs")
        self.assertIn("/kiro/generate-story", page)
        self.assertIn("<b>kiro</b>: answers come from", page)
        self.assertEqual(re.findall(r'(?:src|href)="(?:https?:)?//', page), [])
        policy = response.headers.getRawHeaders("content-security-policy")[-1]
        self.assertNotIn("unsafe", policy)
        for name in re.findall(r'(?:src|href)="(docs/[^"]+)"', page):
            self.assertEqual(self.get_text("GET", f"/{name}")[0].code, 200, name)
        self.assertEqual(self.get_text("GET", "/")[0].code, 302)

    def test_page_of_hostile_task(self) -> None:
        """
        What a task file says of itself is text on the page.
        """
        hostile = "<script>alert(1)</script>"
        task = evolve(self.tasks["generate-story"], title=hostile, example_input={"idea": hostile})
        self.tasks["generate-story"] = task
        _, page = self.get_text("GET", "/docs")
        self.assertNotIn("<script>alert", page)
        self.assertIn("&lt;script&gt;alert", page)

    def test_normalised(self) -> None:
        """
        The response says which fields of the answer were brought into form, by
        names that a header can hold, and nothing where none was.
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
        A task's own deadline holds where the client's is not the shorter, and a
        longer prompt than it takes is refused.
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
        self.assertIn("too long a prompt", body["error"])

    def test_tasks_change(self) -> None:
        """
        A request that runs is answered by the task that it began with.
        """
        self.reply = lambda prompt: None
        body = {"idea": "x"}
        pending = self.client.post("http://localhost/kiro/generate-story", json=body)
        self.client.flush()
        self.reactor.advance(0)
        payload = next(each for each in self.reactor.programs if each.answering)
        del self.tasks["generate-story"]
        response, _ = self.request("POST", "/kiro/generate-story", json=body)
        self.assertEqual(response.code, 404)
        payload.say(fakekiro.answer_text(payload.typed[0]))
        self.reactor.advance(0)
        self.client.flush()
        self.assertEqual(self.successResultOf(pending).code, 200)

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
        A fault of ours is logged with its place, and told as one; what it says is in
        neither, since it may quote the client.
        """

        def submit(prompt: str, *more: object) -> None:
            raise ZeroDivisionError(prompt)

        self.patch(self.pool, "submit", submit)
        with capturedLogs() as logged:
            response, body = self.request("POST", "/kiro/generate-story", json={"idea": "hush"})
        self.assertEqual((response.code, body), (500, {"error": "The server has a fault",
                                                       "code": "fault"}))  # fmt: skip
        [text] = [eventAsText(each) for each in logged if each["log_level"] is LogLevel.error]
        self.assertIn("ZeroDivisionError", text)
        self.assertIn("in submit", text)
        self.assertNotIn("hush", text)


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
                pool_in(self.reactor, workers=1, backlog=backlog, called=called),
            )
            for name, dialect, backlog, called in [
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
            desk_in(self.reactor, self.groups, tasks),
        )
        self.client: Any = StubTreq(application.resource())
        for group in self.groups:
            group.pool.startService()
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
        The request says who answers, else the task, else it is the first; the
        response says who did, and the prompt is laid out for that one.
        """
        for agent, task, name, worker in [
            (None, "generate-story", "kiro", "worker1"),
            ("tui", "generate-story", "tui", "tui-worker1"),
            (None, "mine", "tui", "tui-worker1"),
            ("kiro", "mine", "kiro", "worker1"),
        ]:
            response, body = self.story(agent, task)
            self.assertEqual((response.code, body["title"]), (200, "x"), body)
            told = [response.headers.getRawHeaders(f"x-kiroworkers-{each}")[0]
                    for each in ("agent", "worker")]  # fmt: skip
            self.assertEqual(told, [name, worker])
        for program, layout in zip(self.reactor.programs, ("on one line", "a line of its own"),
                                   strict=True):  # fmt: skip
            payload = [each for each in program.typed if "Task:" in each]
            self.assertEqual((len(payload), all(layout in each for each in payload)), (2, True))

    def test_unknown(self) -> None:
        """
        An agent that does not answer here is refused by the name of the header or
        the field, with those that do.
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
        A request that is refused is told of the queue of those it was for.
        """
        self.reply = lambda prompt: None
        for group in self.groups:
            group.pool.pause()
        for agent, room in [("kiro", 1), ("tui", 3)]:
            for _ in range(room):
                self.client.post("http://127.0.0.1/kiro/generate-story", json={"idea": "x"},
                                 headers={"X-Agent": agent})  # fmt: skip
                self.client.flush()
            response, body = self.story(agent)
            self.assertEqual((response.code, body["code"]), (503, "all_workers_busy"))
            self.assertEqual(body["queue"], {"length": room, "limit": room})

    def test_outage(self) -> None:
        """
        An outage of one agent is no other's: the server stays ready, and says who
        can and who cannot.
        """
        self.tui.pool.worker_pool.record_failure(AgentFailure("throttled", "slow down", None))
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
        self.assertEqual((response.code, body), (503, {**expected, "agents": {"tui": expected}}))
        health = self.request("GET", "/health")[1]
        states = [health["agents"][name]["pool"]["state"] for name in ("kiro", "tui")]
        self.assertEqual(states, ["serving", "throttled"])
        self.assertEqual(health["pool"]["state"], "serving")

    def test_nobody_ready(self) -> None:
        """
        When nobody can take work, the first agent's reason is told, and each
        other's beside it.
        """
        self.kiro.pool.pause()
        self.tui.pool.worker_pool.record_failure(AgentFailure("throttled", "slow down", None))
        response, body = self.request("GET", "/ready")
        self.assertEqual((response.code, body["code"], body["ready"]), (503, "paused", False))
        self.assertEqual(body["workers"], ["worker1", "tui-worker1"])
        self.assertEqual(body["agents"]["tui"]["code"], "throttled")

    def test_health(self) -> None:
        """
        Health says of each worker whose it is, and of each agent what it says of
        the first.
        """
        health = self.request("GET", "/health")[1]
        whose = {name: worker["agent"] for name, worker in health["workers"].items()}
        self.assertEqual(whose, {"worker1": "kiro", "tui-worker1": "tui"})
        self.assertEqual(health["agent"], "kiro")
        self.assertEqual(list(health["agents"]), ["kiro", "tui"])
        shown = {name: health[name] for name in health["agents"]["kiro"]}
        self.assertEqual(health["agents"]["kiro"], shown)
        self.assertIn("full-screen", health["agents"]["tui"]["agentDetail"])
        self.assertEqual(health["agents"]["tui"]["queue"], {"length": 0, "limit": 3})

    def test_catalogue(self) -> None:
        """
        The catalogue says who can be asked, and whom a task names.
        """
        _, body = self.request("GET", "/kiro")
        self.assertEqual(body["agents"], ["kiro", "tui"])
        whose = {task["name"]: task["agent"] for task in body["tasks"]}
        self.assertEqual(whose, {"generate-story": None, "mine": "tui"})

    def test_operator(self) -> None:
        """
        What an operator says is for all, or for the one that is named.
        """

        def paused() -> list[bool]:
            return [group.pool.paused for group in self.groups]

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
        Requests are listed in the order in which they came, whoever is asked.
        """
        self.reply = lambda prompt: None
        for agent in ("tui", "kiro", "tui"):
            self.client.post("http://127.0.0.1/kiro/generate-story", json={"idea": "x"},
                             headers={"X-Agent": agent})  # fmt: skip
            self.client.flush()
            self.reactor.advance(0.1)
        _, body = self.request("GET", "/operator/queue")
        listed = [(each["agent"], each["state"]) for each in body["requests"]]
        expected = [("tui", "running"), ("kiro", "running"), ("tui", "waiting")]
        self.assertEqual(listed, expected)
        _, body = self.request("GET", "/operator/queue?agent=kiro")
        self.assertEqual([each["agent"] for each in body["requests"]], ["kiro"])

    def test_workers(self) -> None:
        """
        The number of workers is changed for one agent, the first where none is
        named; a worker is found whosever it is.
        """

        def names() -> list[list[str]]:
            return [[each.name for each in group.pool.worker_pool.workers] for group in self.groups]

        for query, body in [("", {"agent": "tui"}), ("?agent=tui", {})]:
            self.request("PUT", f"/operator/workers{query}", json={"workers": 2, **body})
            self.assertEqual(names(), [["worker1"], ["tui-worker1", "tui-worker2"]])
        self.request("PUT", "/operator/workers", json={"workers": 3})
        self.assertEqual([len(each) for each in names()], [3, 2])
        response, body = self.request("POST", "/operator/workers/tui-worker2/drain")
        self.assertEqual((response.code, body["worker"]["agent"]), (202, "tui"))
        drained = [each.name for group in self.groups for each in group.pool.worker_pool.workers
                   if each.drained]  # fmt: skip
        self.assertEqual(drained, ["tui-worker2"])
        response, body = self.request("POST", "/operator/workers/tui-worker3/drain")
        self.assertEqual((response.code, body["code"]), (404, "unknown_worker"))
