"""
Tests for `kiroworkers.web.mcp.tasks`, over HTTP on a pool in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import ErrorCode
from kiroworkers.jobs.job import JobFailure
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.mcp.tasks_extension import EXTENSION, EXTENSIONS
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.tokens import read_tokens
from tests import fakekiro
from tests.jobs.support import UNLIMITED, InlineExecutor, job_service_in, new_job
from tests.memory import dispatcher_in

_META = "io.modelcontextprotocol"
_REVISION = "2026-07-28"


class TasksTests(SynchronousTestCase):
    """
    Tests for a server with one worker, whose client declares the extension.
    """

    def setUp(self) -> None:
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.authorizer = Authorizer()
        self.dispatcher = dispatcher_in(self.reactor, workers=1)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups, tasks = AgentGroups([AgentGroup(agent, self.dispatcher)]), builtin_tasks()
        self.executor = InlineExecutor()
        self.job_service = job_service_in(
            self.reactor, groups, tasks, executor=self.executor, **{"max-jobs": "3"}
        )
        self.addCleanup(self.job_service.close)
        application = Application(
            self.reactor,
            groups,
            tasks,
            self.authorizer,
            self.job_service,
            self.reactor.seconds,
        )
        self.web: Any = StubTreq(application.resource())
        self.dispatcher.startService()
        self.reactor.advance(0)

    def post(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        declared: bool = True,
        extensions: Any = EXTENSIONS,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """
        Send a request of MCP, and return what will have the response.
        """
        capabilities = {"extensions": extensions} if declared else {}
        meta = {
            f"{_META}/protocolVersion": _REVISION,
            f"{_META}/clientInfo": {"name": "tests", "version": "1"},
            f"{_META}/clientCapabilities": capabilities,
        }
        body = {
            "jsonrpc": "2.0",
            "id": 7,
            "method": method,
            "params": {**params, "_meta": meta},
        }
        name = params.get("name") or params.get("taskId")
        routing = {"MCP-Protocol-Version": _REVISION, "Mcp-Method": method}
        if isinstance(name, str) and name.isascii():
            routing["Mcp-Name"] = name
        pending = self.web.post(
            "http://localhost/mcp",
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                **routing,
                **(headers or {}),
            },
        )
        self.web.flush()
        self.reactor.advance(0)
        self.web.flush()
        return pending

    def received(self, pending: Any) -> tuple[Any, bytes]:
        """
        Return a response that is complete, and its body.
        """
        response = self.successResultOf(pending)
        content = self.successResultOf(response.content())
        self.web.flush()
        return response, content

    def request(self, method: str, params: Mapping[str, Any], **kwargs: Any) -> Any:
        """
        Return the response of JSON-RPC.
        """
        _, content = self.received(self.post(method, params, **kwargs))
        message = json.loads(content)
        self.assertEqual((message["jsonrpc"], message["id"]), ("2.0", 7))
        return message

    def result(self, method: str, params: Mapping[str, Any], **kwargs: Any) -> Any:
        return self.request(method, params, **kwargs)["result"]

    def error(self, method: str, params: Mapping[str, Any], **kwargs: Any) -> Any:
        return self.request(method, params, **kwargs)["error"]

    def call(self, idea: str = "An idea", **kwargs: Any) -> Any:
        """
        Call a tool, and return the result.
        """
        params = {"name": "generate-story", "arguments": {"idea": idea}}
        return self.result("tools/call", params, **kwargs)

    def task(self, id: str, **kwargs: Any) -> Any:
        return self.result("tasks/get", {"taskId": id}, **kwargs)

    def web_get(self, path: str) -> Any:
        pending = self.web.get(f"http://localhost{path}")
        self.web.flush()
        return pending

    def add(self, id: str, client: str = "127.0.0.1") -> str:
        """
        Store a job, as an earlier server did.
        """
        self.successResultOf(self.job_service.store.add(new_job(id, client=client), UNLIMITED))
        return id

    def answer(self) -> None:
        """
        Have the agent answer its present prompt, and all later ones.
        """
        self.reply = fakekiro.answer_text
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([1] * 5)

    def listen(self, ids: list[str] | None, **kwargs: Any) -> list[Any]:
        """
        Subscribe to tasks that have ended, and return what the messages are about.
        """
        notifications: Any = {"toolsListChanged": True} if ids is None else {"taskIds": ids}
        pending = self.post("subscriptions/listen", {"notifications": notifications}, **kwargs)
        return self.listened(pending)

    def listened(self, pending: Any) -> list[Any]:
        """
        Return what the messages of a subscription that has ended are about.
        """
        response, content = self.received(pending)
        self.assertEqual(response.headers.getRawHeaders("content-type"), ["text/event-stream"])
        events = [
            json.loads(line.removeprefix("data: "))
            for line in content.decode().split("\n")
            if line.startswith("data: ")
        ]
        *sent, last = events
        for message in sent:
            self.assertEqual(message["params"]["_meta"][f"{_META}/subscriptionId"], 7)
            self.assertNotIn("id", message)
        self.assertEqual(sent[0]["method"], "notifications/subscriptions/acknowledged")
        self.assertEqual(
            {message["method"] for message in sent[1:]} - {"notifications/tasks"}, set()
        )
        self.assertEqual((last["id"], last["result"]["resultType"]), (7, "complete"))
        self.assertEqual(last["result"]["_meta"][f"{_META}/subscriptionId"], 7)
        return [sent[0]["params"]["notifications"], *(each["params"] for each in sent[1:])]

    def bear(self) -> Callable[[str], dict[str, str]]:
        """
        Require tokens, and return a function from a token's name to its header.
        """
        file = Path(self.mktemp())
        names = {"ann": "ask", "bob": "ask", "admin": "ask,operate"}
        file.write_text("".join(f"{name} {may} {name:x<20}\n" for name, may in names.items()))
        self.authorizer.tokens = tuple(read_tokens(file))
        return lambda name: {"Authorization": f"Bearer {name:x<20}"}

    def test_declared(self) -> None:
        """
        The server declares the extension, and not the older tasks, and has no method to list
        tasks or to wait for a result.
        """
        capabilities = self.result("server/discover", {})["capabilities"]
        self.assertEqual(capabilities["extensions"], {EXTENSION: {}})
        self.assertNotIn("tasks", capabilities)
        for method in ("tasks/list", "tasks/result"):
            self.assertEqual(self.error(method, {"taskId": "a"})["code"], -32601)

    def test_life(self) -> None:
        """
        A call becomes a task, which waits, runs and is completed with the result that a direct
        call has; a job of REST is the same.
        """
        self.reply = lambda prompt: None
        created = self.call()
        id = created["taskId"]
        self.assertEqual(
            [created[name] for name in ("resultType", "status", "pollIntervalMs", "ttlMs")],
            ["task", "working", 1000, 3600_000],
        )
        self.assertNotIn("result", created)
        waiting = self.call("Another idea")
        self.assertEqual(waiting["statusMessage"], "The task waits for a worker, at position 1")
        task = self.task(id)
        self.assertEqual((task["resultType"], task["status"]), ("complete", "working"))
        self.assertEqual(task["statusMessage"], "An agent works on the task")
        self.answer()
        task = self.task(id)
        self.assertEqual(task["status"], "completed")
        self.assertNotIn("error", task)
        direct = self.call(declared=False)
        self.assertEqual(direct["resultType"], "complete")
        facts = direct["_meta"]
        self.assertEqual(
            task["result"]["_meta"], {name: facts[name] for name in task["result"]["_meta"]}
        )
        self.assertEqual({**task["result"], "_meta": facts}, direct)
        _, content = self.received(self.web_get(f"/jobs/{id}"))
        self.assertEqual(json.loads(content)["result"], direct["structuredContent"])

    def test_agent_fails(self) -> None:
        """
        A failure of the agent completes the task, with the result of a direct call that fails.
        """
        self.reply = lambda prompt: "I would rather not."
        task = self.task(self.call()["taskId"])
        direct = self.call(declared=False)
        self.assertEqual(task["status"], "completed")
        self.assertEqual(task["result"]["content"], direct["content"])
        self.assertIs(task["result"]["isError"], True)
        self.assertEqual(task["statusMessage"], task["result"]["content"][0]["text"])
        self.assertEqual(task["result"]["_meta"]["kiroworkers/error"]["code"], "answer_unfit")

    def test_server_fails(self) -> None:
        """
        A failure of the server itself fails the task, with an error of JSON-RPC and no result.
        """
        id = self.add("failed")
        failure = JobFailure(ErrorCode.FAULT, "Internal server error")
        store = self.job_service.store
        assert isinstance(store, SqliteStore)
        self.successResultOf(store.mark_ended(id, "failed", failure, 5.0))
        task = self.task(id)
        self.assertEqual((task["status"], task["error"]["code"]), ("failed", -32603))
        self.assertEqual(task["error"]["message"], "Internal server error")
        self.assertEqual(task["error"]["data"]["code"], "fault")
        self.assertNotIn("result", task)

    def test_cancelled(self) -> None:
        """
        Cancelling a task frees its worker; cancelling one that has ended changes nothing.
        """
        self.reply = lambda prompt: None
        id = self.call()["taskId"]
        for _ in range(2):
            acknowledged = self.result("tasks/cancel", {"taskId": id})
            self.assertEqual(acknowledged["resultType"], "complete")
            self.assertNotIn("status", acknowledged)
        self.assertEqual(list(self.dispatcher.requests()), [])
        task = self.task(id)
        self.assertEqual(
            (task["status"], task["statusMessage"]), ("cancelled", "The task was cancelled")
        )

    def test_updated(self) -> None:
        """
        Answers to questions that the server has not asked are acknowledged and ignored.
        """
        id = self.call()["taskId"]
        for responses in ({}, {"unknown": {"action": "accept"}}):
            acknowledged = self.result("tasks/update", {"taskId": id, "inputResponses": responses})
            self.assertEqual(acknowledged["resultType"], "complete")
        self.assertEqual(self.task(id)["status"], "completed")

    def test_not_declared(self) -> None:
        """
        A client that does not declare the extension gets no task, and the error that it must
        declare it for everything about tasks.
        """
        self.assertEqual(self.call(declared=False)["resultType"], "complete")
        settings: Any
        for settings in (None, True, [], "yes"):
            result = self.call(extensions={EXTENSION: settings})
            self.assertEqual(result["resultType"], "complete", settings)
        id = self.call()["taskId"]
        for method, params in [
            ("tasks/get", {"taskId": id}),
            ("tasks/update", {"taskId": id, "inputResponses": {}}),
            ("tasks/cancel", {"taskId": id}),
            ("subscriptions/listen", {"notifications": {"taskIds": [id]}}),
        ]:
            error = self.error(method, params, declared=False)
            self.assertEqual(error["code"], -32021, method)
            self.assertEqual(error["data"]["requiredCapabilities"], {"extensions": {EXTENSION: {}}})

    def test_invalid(self) -> None:
        """
        Invalid parameters and unknown tasks are errors in the parameters, whatever they contain.
        """
        known = self.call()["taskId"]
        unknown: Any
        for unknown in ("", "nobody", "a" * 1000, "a/b", 5, None, [known], {}):
            for method in ("tasks/get", "tasks/cancel", "tasks/update"):
                params = {"taskId": unknown, "inputResponses": {}}
                self.assertEqual(self.error(method, params)["code"], -32602, (method, unknown))
        responses: Any
        for responses in (None, [], "x", 5):
            params = {"taskId": known, "inputResponses": responses}
            self.assertEqual(self.error("tasks/update", params)["code"], -32602)
        self.assertEqual(self.error("tasks/update", {"taskId": known})["code"], -32602)
        notifications: Any
        for notifications in (None, [], "x", {"taskIds": known}, {"taskIds": [5]}):
            params = {"notifications": notifications}
            self.assertEqual(self.error("subscriptions/listen", params)["code"], -32602)

    def test_owners(self) -> None:
        """
        A client sees its own tasks only, and an operator all; those of others seem not to exist.
        """
        bear = self.bear()
        self.reply = lambda prompt: None
        id = self.call(headers=bear("ann"))["taskId"]
        for name in ("ann", "admin"):
            self.assertEqual(self.task(id, headers=bear(name))["taskId"], id)
        unknown = self.error("tasks/get", {"taskId": "nobody"}, headers=bear("bob"))
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            error = self.error(method, {"taskId": id, "inputResponses": {}}, headers=bear("bob"))
            self.assertEqual(error["message"], unknown["message"])
            self.assertEqual(error["code"], unknown["code"])
        self.assertEqual(self.listen([id], headers=bear("bob")), [{"taskIds": []}])
        self.assertEqual(self.task(id, headers=bear("ann"))["status"], "working")

    def test_notifications(self) -> None:
        """
        A subscriber is sent each state of its tasks as ``tasks/get`` returns it, until all have
        ended, and nothing else.
        """
        ended = self.call("It has ended")["taskId"]
        self.reply = lambda prompt: None
        first, second = self.call("First")["taskId"], self.call("Second")["taskId"]
        wanted = [ended, "nobody", first, second, first]
        pending = self.post("subscriptions/listen", {"notifications": {"taskIds": wanted}})
        running = self.task(first)
        self.answer()
        self.web.flush()
        acknowledged, *states = self.listened(pending)
        self.assertEqual(acknowledged, {"taskIds": [ended, first, second]})
        self.assertEqual(
            [(state["taskId"], state["status"]) for state in states],
            [
                (ended, "completed"),
                (first, "working"),
                (second, "working"),
                (first, "completed"),
                (second, "working"),
                (second, "completed"),
            ],
        )
        for state, task in [(states[1], running), (states[-1], self.task(second))]:
            for name, value in state.items():
                if name != "_meta":
                    self.assertEqual(value, task[name], name)

    def test_other_notifications(self) -> None:
        """
        A subscription to what the server does not send is acknowledged without it, and ends.
        """
        self.assertEqual(self.listen(None), [{}])
        self.assertEqual(self.listen(None, declared=False), [{}])
        response, _ = self.received(
            self.post(
                "subscriptions/listen",
                {"notifications": {"taskIds": []}},
                headers={"Accept": "application/json"},
            )
        )
        self.assertEqual(response.code, 406)

    def test_hang_up(self) -> None:
        """
        A subscriber that disconnects cancels no task.
        """
        self.reply = lambda prompt: None
        id = self.call()["taskId"]
        pending = self.post("subscriptions/listen", {"notifications": {"taskIds": [id]}})
        pending.cancel()
        self.web.flush()
        self.answer()
        self.assertEqual(self.task(id)["status"], "completed")

    def test_options(self) -> None:
        """
        The headers of REST reach the job; the preference to wait has no effect.
        """
        self.reply = lambda prompt: None
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        created = self.call(
            headers={
                "X-Priority": "9",
                "X-Request-Timeout": "30",
                "X-Agent": "kiro",
                "Prefer": "wait=5",
                "X-Request-ID": "request-1",
                "traceparent": trace,
            }
        )
        job = self.successResultOf(self.job_service.store.get(created["taskId"]))
        assert job is not None
        self.assertEqual((job.priority, job.timeout, job.agent), (9, 30.0, "kiro"))
        self.assertEqual(job.client, "127.0.0.1")

    def test_refused(self) -> None:
        """
        Input that does not fit, an invalid header and a call that cannot become a job have a
        result that says so, and no task.
        """
        self.reply = lambda prompt: None
        result = self.result("tools/call", {"name": "generate-story", "arguments": {}})
        self.assertEqual((result["isError"], result["resultType"]), (True, "complete"))
        result = self.call(headers={"X-Priority": "high"})
        self.assertEqual(result["_meta"]["kiroworkers/error"]["field"], "X-Priority")
        for _ in range(3):
            self.assertEqual(self.call()["resultType"], "task")
        result = self.call()
        self.assertEqual(result["_meta"]["kiroworkers/error"]["code"], "too_many_jobs")
        self.assertNotIn("taskId", result)

    def test_polling(self) -> None:
        """
        Following a task does not count towards the client's rate; calls do, and so does what is
        no message.
        """
        self.authorizer._rate_limiter = RateLimiter(self.reactor, per_minute=1, burst=2)
        id = self.call()["taskId"]
        for _ in range(5):
            self.task(id)
            self.listen([id])
        self.assertEqual(self.call()["resultType"], "task")
        response, _ = self.received(self.post("tools/call", {"name": "generate-story"}))
        self.assertEqual(response.code, 429)
        self.assertEqual(self.task(id)["status"], "completed")
        pending = self.web.post("http://localhost/mcp", data=b"{")
        self.web.flush()
        self.assertEqual(self.received(pending)[0].code, 429)

    def test_key(self) -> None:
        """
        The same call under the same idempotency key is the same task, also through REST; another
        call is a mismatch.
        """
        key = {"Idempotency-Key": "k1"}
        id = self.call(headers=key)["taskId"]
        self.assertEqual(self.call(headers=key)["taskId"], id)
        pending = self.web.post(
            "http://localhost/kiro/generate-story",
            json={"idea": "An idea"},
            headers={**key, "Prefer": "respond-async"},
        )
        self.web.flush()
        _, content = self.received(pending)
        self.assertEqual(json.loads(content)["id"], id)
        for result in (self.call("Another", headers=key), self.call(declared=False, headers=key)):
            details = result["_meta"]["kiroworkers/error"]
            self.assertEqual(details["code"], "idempotency_mismatch")

    def test_storage_fails(self) -> None:
        """
        While the storage fails, everything about tasks fails with the reason, and direct calls
        are answered.
        """
        id = self.call()["taskId"]
        self.executor.error = OSError(28, "No space left on device")
        result = self.call()
        details = result["_meta"]["kiroworkers/error"]
        self.assertEqual(details["code"], "storage_unavailable")
        for method, params in [
            ("tasks/get", {"taskId": id}),
            ("tasks/cancel", {"taskId": id}),
            ("subscriptions/listen", {"notifications": {"taskIds": [id]}}),
        ]:
            error = self.error(method, params)
            self.assertEqual(error["data"]["code"], "storage_unavailable", method)
        self.assertIs(self.call(declared=False)["isError"], False)
        self.executor.error = None
        self.reactor.pump([1] * 5)
        self.assertEqual(self.task(id)["status"], "completed")
