"""
Tests for `kiroworkers.web.jobs`, on a pool in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
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

STORY = "/kiro/generate-story"
ASYNC = {"Prefer": "respond-async"}


class JobsTests(SynchronousTestCase):
    """
    Tests for the routes, with one worker.
    """

    def setUp(self) -> None:
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.begin(Authorizer())

    def begin(self, authorizer: Authorizer, **flags: str) -> None:
        """
        Start a server.
        """
        self.authorizer = authorizer
        self.dispatcher = dispatcher_in(self.reactor, workers=1)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups, tasks = AgentGroups([AgentGroup(agent, self.dispatcher)]), builtin_tasks()
        secret = Path(self.mktemp())
        secret.write_text("a secret of the tests")
        self.executor = InlineExecutor()
        self.job_service = job_service_in(
            self.reactor, groups, tasks, executor=self.executor, **{
                "max-jobs": "3",
                "callback-secret-file": str(secret),
                "callback-hosts": "hooks.example.com",
                **flags,
            },
        )  # fmt: skip
        self.addCleanup(self.job_service.close)
        application = Application(self.reactor, groups, tasks, self.authorizer, self.job_service)
        self.client: Any = StubTreq(application.resource())
        self.dispatcher.startService()
        self.reactor.advance(0)

    def send(self, method: str, path: str, **kwargs: Any) -> Any:
        pending = self.client.request(method, f"http://localhost{path}", **kwargs)
        self.client.flush()
        return pending

    def received(self, pending: Any) -> tuple[Any, Any]:
        """
        Return the response and its body.
        """
        self.reactor.advance(0)
        self.client.flush()
        response = self.successResultOf(pending)
        content = self.successResultOf(response.content())
        self.client.flush()
        return response, json.loads(content) if content else None

    def request(self, method: str, path: str, **kwargs: Any) -> tuple[Any, Any]:
        return self.received(self.send(method, path, **kwargs))

    def order(self, idea: str = "An idea", **headers: str) -> tuple[Any, Any]:
        return self.request("POST", STORY, json={"idea": idea}, headers={**ASYNC, **headers})

    def ask(self, idea: str = "An idea", **headers: str) -> tuple[Any, Any]:
        return self.request("POST", STORY, json={"idea": idea}, headers=headers)

    def header(self, response: Any, name: str) -> Any:
        values = response.headers.getRawHeaders(name)
        return values and values[0]

    @property
    def prompts(self) -> int:
        """
        The number of prompts that were typed.
        """
        typed = [line for program in self.reactor.programs for line in program.typed]
        return len([line for line in typed if line.startswith("Task: ")])

    def bear(self) -> Callable[[str], dict[str, str]]:
        """
        Require tokens, and return a function from a token's name to its header.
        """
        file = Path(self.mktemp())
        names = {
            "ann": "ask", "bob": "ask", "admin": "ask,operate", "boss": "operate", "eye": "watch",
        }  # fmt: skip
        file.write_text("".join(f"{name} {may} {name:x<20}\n" for name, may in names.items()))
        self.authorizer.tokens = tuple(read_tokens(file))
        return lambda name: {"Authorization": f"Bearer {name:x<20}"}

    def test_reading_is_not_counted(self) -> None:
        """
        Listing jobs counts neither towards the client's rate nor as a failed attempt, and
        shows the same jobs each time.
        """
        rates = RateLimiter(self.reactor, per_minute=1, burst=2)
        self.begin(Authorizer(rate_limiter=rates))
        bear = self.bear()
        self.order(**bear("ann"))
        for left in (1, 0):
            _, body = self.request("GET", "/jobs", headers=bear("admin"))
            self.assertEqual([job["client"] for job in body["jobs"]], ["ann"], left)
        self.request("GET", "/jobs", headers=bear("ann"))
        self.assertEqual(len(rates), 1)

    def test_order(self) -> None:
        """
        A request with respond-async gets 202 and the location at which its answer can be
        fetched.
        """
        self.reply = lambda prompt: None
        response, body = self.order()
        self.assertEqual((response.code, body["state"]), (202, "running"))
        self.assertEqual(set(body), {"id", "state", "location", "requestId"})
        self.assertEqual(body["location"], f"/jobs/{body['id']}")
        for name, value in [
            ("location", body["location"]),
            ("retry-after", "1"),
            ("preference-applied", "respond-async"),
        ]:
            self.assertEqual(self.header(response, name), value)
        response, second = self.order(Prefer="return=minimal, Respond-Async; x=1, wait=5")
        self.assertEqual((response.code, second["state"]), (202, "queued"))
        _, job = self.request("GET", second["location"])
        self.assertEqual((job["state"], job["position"], job["attempts"]), ("queued", 1, 0))
        self.reply = fakekiro.answer_text
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([1] * 5)
        for accepted in (body, second):
            response, done = self.request("GET", accepted["location"])
            self.assertEqual((done["state"], done["result"]["title"]), ("done", "An idea"))
            self.assertIsNone(self.header(response, "retry-after"))

    def test_failed(self) -> None:
        """
        A failed job has the error that the request itself would have got.
        """
        self.reply = lambda prompt: "I would rather not."
        _, body = self.order()
        _, job = self.request("GET", body["location"])
        self.assertEqual((job["state"], job["error"]["status"]), ("failed", 502))
        self.assertEqual(job["error"]["code"], "answer_unfit")
        self.assertNotIn("result", job)

    def test_removed(self) -> None:
        """
        DELETE cancels an unfinished job, and deletes one that has ended.
        """
        self.reply = lambda prompt: None
        _, body = self.order()
        response, job = self.request("DELETE", body["location"])
        self.assertEqual((response.code, job["state"]), (200, "cancelled"))
        self.assertEqual(list(self.dispatcher.requests()), [])
        response, nothing = self.request("DELETE", body["location"])
        self.assertEqual((response.code, nothing), (204, None))
        for method in ("GET", "DELETE"):
            response, error = self.request(method, body["location"])
            self.assertEqual((response.code, error["code"]), (404, "unknown_job"))

    def test_pages(self) -> None:
        """
        Jobs are listed by page, newest first and without results.
        """
        ids = [self.order(str(number))[1]["id"] for number in range(5)]
        listed, path = [], "/jobs?limit=2"
        while path:
            _, page = self.request("GET", path)
            self.assertLessEqual(len(page["jobs"]), 2)
            listed += [job["id"] for job in page["jobs"]]
            self.assertFalse(any("result" in job for job in page["jobs"]))
            path = page["next"]
        self.assertEqual(listed, ids[::-1])

    def test_owners(self) -> None:
        """
        A client sees its own jobs only, and an operator sees all.
        """
        bear = self.bear()
        response, body = self.order(**bear("ann"))
        self.assertEqual(response.code, 202)
        for name, method, code in [
            ("bob", "GET", 404), ("bob", "DELETE", 404), ("eye", "GET", 403),
            ("ann", "GET", 200), ("admin", "GET", 200), ("boss", "GET", 200),
        ]:  # fmt: skip
            response, _ = self.request(method, body["location"], headers=bear(name))
            self.assertEqual(response.code, code, (name, method))
        self.order(**bear("bob"))
        listed = {}
        for name in ("ann", "bob", "admin", "boss"):
            _, page = self.request("GET", "/jobs", headers=bear(name))
            listed[name] = [job["client"] for job in page["jobs"]]
        every = ["bob", "ann"]
        self.assertEqual(listed, {"ann": ["ann"], "bob": ["bob"], "admin": every, "boss": every})

    def test_owner_by_address(self) -> None:
        """
        A client that is a network of IPv6 sees the jobs that an earlier version stored under
        an address in it.
        """
        self.patch(self.authorizer, "authorize", lambda request, scope, counted: "2001:db8::/64")
        self.patch(self.authorizer, "is_operator", lambda request: False)
        for client, code in (("2001:db8::5", 200), ("2001:db8:0:1::5", 404)):
            id = client.replace(":", "")
            job = new_job(id, client=client)
            self.successResultOf(self.job_service.store.add(job, UNLIMITED))
            response, _ = self.request("GET", f"/jobs/{id}")
            self.assertEqual(response.code, code, client)

    def test_only_operates(self) -> None:
        """
        A token that has only the scope `operate` may cancel and delete every job, and
        create none.
        """
        bear = self.bear()
        self.reply = lambda prompt: None
        _, body = self.order(**bear("ann"))
        for code in (200, 204, 404):
            response, _ = self.request("DELETE", body["location"], headers=bear("boss"))
            self.assertEqual(response.code, code)
        response, error = self.order(**bear("boss"))
        self.assertEqual((response.code, error["code"]), (403, "wrong_scope"))
        response, error = self.request("GET", "/jobs", headers=bear("eye"))
        self.assertEqual(
            error["error"], "The token 'eye' does not have the scope 'ask' or 'operate'"
        )

    def test_storage_fails(self) -> None:
        """
        While the storage fails, everything about jobs and keys is refused with a time
        after which to retry, other requests are answered, and health and readiness say so.
        """
        _, job = self.order()
        self.executor.error = OSError(28, "No space left on device")
        key = {"Idempotency-Key": "k1"}
        for response, body in [
            self.order(),
            self.ask(**key),
            self.order(**key),
            self.request("GET", job["location"]),
            self.request("GET", "/jobs"),
            self.request("DELETE", job["location"]),
        ]:
            self.assertEqual((response.code, body["code"]), (503, "storage_unavailable"))
            self.assertIn("No space left on device", body["error"])
            self.assertEqual(self.header(response, "retry-after"), "1")
        self.assertEqual(self.ask()[0].code, 200)
        since = self.reactor.seconds() * 1000
        for path in ("/health", "/ready"):
            response, body = self.request("GET", path)
            self.assertEqual(response.code, 200)
            self.assertEqual(
                body["storage"],
                {
                    "state": "failing",
                    "reason": "[Errno 28] No space left on device",
                    "since": since,
                },
            )
        self.executor.error = None
        self.reactor.pump([1] * 5)
        self.assertEqual(self.request("GET", job["location"])[0].code, 200)
        self.assertEqual(self.order(**key)[0].code, 202)
        _, body = self.request("GET", "/ready")
        self.assertEqual(body["storage"], {"state": "ok", "reason": None, "since": None})

    def test_polling(self) -> None:
        """
        Polling a job does not count towards the client's rate.
        """
        self.authorizer._rate_limiter = RateLimiter(self.reactor, per_minute=1, burst=2)
        _, job = self.order()
        for path in (job["location"], "/jobs") * 5:
            self.assertEqual(self.request("GET", path)[0].code, 200)
        self.assertEqual(self.order()[0].code, 202)
        self.assertEqual(self.order()[0].code, 429)
        self.assertEqual(self.request("DELETE", job["location"])[0].code, 429)

    def test_full(self) -> None:
        """
        A job over the limit is rejected, with a time after which to retry.
        """
        self.reply = lambda prompt: None
        for _ in range(3):
            self.assertEqual(self.order()[0].code, 202)
        response, body = self.order()
        self.assertEqual((response.code, body["code"]), (503, "too_many_jobs"))
        self.assertEqual(self.header(response, "retry-after"), str(body["retryAfter"]))

    def test_refusals(self) -> None:
        """
        An invalid header or query is rejected by name, and no agent is asked.
        """
        hook = "https://hooks.example.com/x"
        for headers, field in [
            ({**ASYNC, "X-Callback": "https://example.com/"}, "X-Callback"),
            ({**ASYNC, "X-Callback": "nonsense"}, "X-Callback"),
            ({"X-Callback": hook}, "X-Callback"),
            ({"Idempotency-Key": ""}, "Idempotency-Key"),
            ({"Idempotency-Key": "a b"}, "Idempotency-Key"),
            ({"Idempotency-Key": "a" * 256}, "Idempotency-Key"),
            ({"Idempotency-Key": '"a'}, "Idempotency-Key"),
            ({**ASYNC, "Idempotency-Key": "\xe9"}, "Idempotency-Key"),
        ]:
            response, body = self.request("POST", STORY, json={"idea": "x"}, headers=headers)
            self.assertEqual((response.code, body.get("field")), (400, field), headers)
        for query in ("limit=0", "limit=201", "limit=x", "limit=%FF"):
            response, body = self.request("GET", f"/jobs?{query}")
            self.assertEqual((response.code, body["field"]), (400, "limit"), query)
        self.assertEqual(self.request("GET", "/jobs?before=x")[0].code, 404)
        self.assertEqual(self.prompts, 0)

    def test_no_callbacks(self) -> None:
        """
        Callbacks are rejected if the server has no secret to sign them with.
        """
        self.job_service.callback_hosts = None
        response, body = self.order(**{"X-Callback": "https://hooks.example.com/x"})
        self.assertEqual((response.code, body["field"]), (400, "X-Callback"))
        self.assertIn("--callback-secret-file", body["error"])

    def test_key(self) -> None:
        """
        The same request under the same key, quoted or not, gets the same answer and
        headers for one turn.
        """
        first, story = self.ask(**{"Idempotency-Key": "k1"})
        self.assertIsNone(self.header(first, "idempotency-replayed"))
        again, same = self.ask(**{"Idempotency-Key": '"k1"'})
        self.assertEqual((again.code, same), (200, story))
        self.assertEqual(self.header(again, "idempotency-replayed"), "true")
        for name in ("x-kiroworkers-worker", "x-kiroworkers-attempts"):
            self.assertEqual(self.header(again, name), self.header(first, name))
        self.assertEqual(self.prompts, 1)
        self.ask()
        self.assertEqual(self.prompts, 2)

    def test_key_of_another(self) -> None:
        """
        Another body or another preference under the same key is a mismatch; each task and
        each client has keys of its own.
        """
        bear = self.bear()
        key = {"Idempotency-Key": "k1"}
        self.assertEqual(self.ask(**key, **bear("ann"))[0].code, 200)
        for send, idea in [(self.ask, "Another idea"), (self.order, "An idea")]:
            response, body = send(idea, **key, **bear("ann"))
            self.assertEqual((response.code, body["code"]), (409, "idempotency_mismatch"))
        self.assertEqual(self.ask("Another idea", **key, **bear("bob"))[0].code, 200)
        response, _ = self.request(
            "POST", "/kiro/analyze-invest", json={"story": {"title": "x"}},
            headers={**key, **bear("ann")},
        )  # fmt: skip
        self.assertEqual(response.code, 200)

    def test_key_of_failures(self) -> None:
        """
        A failure that cost a turn is replayed; one that cost none is not.
        """
        key = {"Idempotency-Key": "k1"}
        self.dispatcher.stopService()
        self.assertEqual(self.ask(**key)[0].code, 503)
        self.setUp()
        self.reply = lambda prompt: "I would rather not."
        self.assertEqual(self.ask(**key)[0].code, 502)
        prompts = self.prompts
        response, body = self.ask(**key)
        self.assertEqual((response.code, body["code"]), (502, "answer_unfit"))
        self.assertEqual(self.prompts, prompts)

    def test_key_while_it_runs(self) -> None:
        """
        The same request made meanwhile waits for the same turn, which continues when the
        first client hangs up.
        """
        self.reply = lambda prompt: None
        key = {"Idempotency-Key": "k1"}
        first, second = (
            self.send("POST", STORY, json={"idea": "An idea"}, headers=key) for _ in range(2)
        )
        self.reactor.advance(0)
        self.assertEqual(self.prompts, 1)
        self.assertEqual(self.ask("Another idea", **key)[0].code, 409)
        first.cancel()
        self.client.flush()
        self.failureResultOf(first)
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        response, body = self.received(second)
        self.assertEqual((response.code, body["title"]), (200, "An idea"))
        self.assertEqual(self.header(response, "idempotency-replayed"), "true")
        self.assertEqual(self.prompts, 1)

    def test_key_with_deadline(self) -> None:
        """
        A request that waits for the turn of another one has its own deadline.
        """
        self.reply = lambda prompt: None
        key = {"Idempotency-Key": "k1"}
        first, second = (
            self.send("POST", STORY, json={"idea": "An idea"}, headers={**key, **headers})
            for headers in ({}, {"X-Request-Timeout": "1"})
        )
        self.reactor.advance(1)
        response, body = self.received(second)
        self.assertEqual((response.code, body["code"]), (504, "timed_out"))
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        response, body = self.received(first)
        self.assertEqual((response.code, body["title"]), (200, "An idea"))
        self.assertEqual(self.prompts, 1)

    def test_too_large(self) -> None:
        """
        A job is refused if all jobs, or those of its client, would be too large with it.
        """
        for flag, whose in [("max-job-bytes", "server"), ("max-job-bytes-per-client", "client")]:
            self.begin(Authorizer(), **{flag: "1kB"})
            self.assertEqual(self.order("x" * 500)[0].code, 202)
            response, body = self.order("x" * 2000)
            self.assertEqual((response.code, body["code"]), (503, "jobs_too_large"))
            self.assertIn(f"this {whose}", body["error"])
            self.assertEqual(self.header(response, "retry-after"), str(body["retryAfter"]))

    def test_key_of_a_job(self) -> None:
        """
        The same request for a job under the same key returns the same job until that is
        deleted.
        """
        key = {"Idempotency-Key": "k1"}
        _, job = self.order(**key)
        response, again = self.order(**key)
        self.assertEqual((response.code, again["id"]), (202, job["id"]))
        self.assertEqual(self.header(response, "idempotency-replayed"), "true")
        self.assertEqual(self.order("Another idea", **key)[0].code, 409)
        self.request("DELETE", job["location"])
        response, other = self.order("Another idea", **key)
        self.assertNotEqual(other["id"], job["id"])
