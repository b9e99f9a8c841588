"""
The client: against real servers, and against servers that misbehave.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from kiroworkers.client import (
    BadRequest,
    Failed,
    Kiro,
    Postponed,
    Queued,
    Retrying,
    Review,
    ReviewWarning,
    Said,
    Started,
    Story,
    Test,
    TimedOut,
    Unavailable,
)
from kiroworkers.client import kiro as client
from kiroworkers.tasks import builtin_tasks
from tests.programs import environment
from tests.servers import ServerTestCase, real

TOKEN = "a-token-of-the-tests"


def ignore(event: Any) -> None:
    """
    Watches, and does nothing about it.
    """


class RealServerTests(ServerTestCase):
    """
    Tests for `Kiro` against a real server.
    """

    async def start_kiro(self, *options: str, workers: int = 1, **env: Any) -> Kiro:
        """
        A client of a new server.
        """
        await self.start(*options, workers=workers, **env)
        return Kiro(self.base)

    async def test_tasks(self) -> None:
        """
        Each of the three tasks has a method, and an answer that says who gave it.
        """
        kiro = await self.start_kiro()
        story = await kiro.generate_story("An idea", components=["Search"])
        self.assertEqual(story.value["title"], "An idea")
        self.assertEqual((story.agent, story.worker, story.attempts), ("kiro", "worker1", 1))
        self.assertEqual((story.repairs, story.source), (0, "terminal"))
        self.assertIsNotNone(story.completion)
        test = await kiro.generate_test(story.value)
        self.assertEqual(test.value["title"], "An idea")
        review = await kiro.analyze_invest({"title": "A story"})
        self.assertIsInstance(review.value["warnings"], list)

    async def test_parent_story(self) -> None:
        """
        What is given beside an idea is asked for, too.
        """
        kiro = await self.start_kiro()
        await kiro.generate_story("An idea", {"title": "the parent"}, ["the part"])
        await self.typed.heard('"title":"the parent"')
        await self.typed.heard("the part")

    async def test_server(self) -> None:
        """
        The server says how it is, and what can be asked.
        """
        kiro = await self.start_kiro()
        self.assertEqual((await kiro.health())["status"], "running")
        self.assertEqual((await kiro.tasks()).keys(), builtin_tasks().keys())

    async def test_watch(self) -> None:
        """
        Who watches is told of each step, and gets the same answer.
        """
        kiro = await self.start_kiro()
        seen: list[Any] = []
        answer = await kiro.generate_story("An idea [[pretty]]", watch=seen.append)
        self.assertEqual(answer.value["title"], "An idea [[pretty]]")
        self.assertEqual((answer.agent, answer.worker), ("kiro", "worker1"))
        self.assertEqual(seen[0], Started("worker1", 1))
        said = "".join(each.text for each in seen if isinstance(each, Said))
        self.assertIn('"title": "An idea [[pretty]]"', said)

    async def test_queued(self) -> None:
        """
        Who watches and waits is told where in the queue.
        """
        kiro = await self.start_kiro()
        first = self.story("the first [[silent]]")
        await self.typed.heard("the first")
        seen: list[Any] = []

        def told(event: Any) -> None:
            seen.append(event)
            first.cancel()

        answer = await kiro.generate_story("the second", watch=told)
        self.assertIsInstance(seen[0], Queued)
        self.assertEqual((seen[0].position, answer.value["title"]), (1, "the second"))
        await self.assertFailure(first, Exception)

    async def test_another_attempt(self) -> None:
        """
        A request whose session died says so.
        """
        kiro = await self.start_kiro(workers=2)
        seen: list[Any] = []
        answer = await kiro.generate_story("[[killed=watched]]", watch=seen.append)
        self.assertIn(Retrying("its session died"), seen)
        self.assertEqual(answer.attempts, 2)
        answer = await kiro.generate_story("[[killed=unwatched]]")
        self.assertEqual(answer.attempts, 2)

    async def test_cancel(self) -> None:
        """
        A request that is cancelled is given up: its session is interrupted, and
        answers the next.
        """
        kiro = await self.start_kiro()
        pids = await self.pids()
        for name, watch in (("one", None), ("another", ignore)):
            idea = f"{name} [[silent]]"
            asked = Deferred.fromCoroutine(kiro.generate_story(idea, watch=watch))
            await self.typed.heard(idea)
            asked.cancel()
            await self.assertFailure(asked, CancelledError)
            answer = await kiro.generate_story("the next")
            self.assertEqual(answer.value["title"], "the next")
        self.assertEqual(await self.pids(), pids)

    async def test_watcher_fails(self) -> None:
        """
        A watcher that fails gives the request up, and its failure is passed on.
        """
        kiro = await self.start_kiro()
        pids = await self.pids()

        def fail(event: Any) -> None:
            raise ZeroDivisionError

        asked = Deferred.fromCoroutine(kiro.generate_story("[[silent]]", watch=fail))
        await self.assertFailure(asked, ZeroDivisionError)
        await kiro.generate_story("the next")
        self.assertEqual(await self.pids(), pids)

    async def test_bad_requests(self) -> None:
        """
        What the server refuses says what is wrong, watched or not.
        """
        kiro = await self.start_kiro()
        for watch in (None, ignore):
            for code, status, asking in (
                ("invalid_input", 400, kiro.generate_story(" ", watch=watch)),
                ("unknown_task", 404, kiro.ask("what?", {}, watch=watch)),
                ("invalid_input", 400, kiro.generate_story("An idea", agent="x", watch=watch)),
                ("invalid_input", 400, kiro.generate_story("An idea", priority=10, watch=watch)),
            ):
                problem = await self.refusal(asking)
                self.assertIsInstance(problem, BadRequest)
                self.assertEqual((problem.status, problem.code), (status, code), problem)
                self.assertEqual(problem.body["error"], str(problem))

    async def test_failures(self) -> None:
        """
        An answer that does not fit, or comes too late, is an error of its kind.
        """
        kiro = await self.start_kiro()
        for watch in (None, ignore):
            problem = await self.refusal(kiro.generate_story("[[lame]]", watch=watch))
            self.assertIsInstance(problem, Failed)
            self.assertEqual((problem.status, problem.code), (502, "answer_unfit"))
            self.assertIn("storyPoint must be at most 8", problem.body["reasons"])
            late = kiro.generate_story("[[silent]]", timeout=0.5, watch=watch)
            problem = await self.refusal(late)
            self.assertIsInstance(problem, TimedOut)
            self.assertEqual((problem.status, problem.code), (504, "timed_out"))

    async def test_busy(self) -> None:
        """
        A request that nobody can take fails at once, with the time to come back;
        with patience it comes back by itself.
        """
        kiro = await self.start_kiro("--backlog", "0")
        await self.story("An idea")
        # It may still be clearing.
        asking = kiro.generate_story("the first [[silent]]", patience=50)
        first = Deferred.fromCoroutine(asking)
        await self.typed.heard("the first")
        for watch in (None, ignore):
            problem = await self.refusal(kiro.generate_story("in vain", watch=watch))
            self.assertIsInstance(problem, Unavailable)
            self.assertEqual((problem.status, problem.code), (503, "all_workers_busy"))
            self.assertGreaterEqual(problem.retry_after, 1)
        seen: list[Any] = []

        def told(event: Any) -> None:
            seen.append(event)
            first.cancel()

        answer = await kiro.generate_story("patient", patience=50, watch=told)
        await self.assertFailure(first, Exception)
        self.assertEqual(answer.value["title"], "patient")
        self.assertEqual(seen[0].reason, "All workers busy, try again")

    async def test_agents(self) -> None:
        """
        A request can name who is to answer.
        """
        kiro = await self.start_kiro("--agent", "kiro=1", "--agent", "offline=1", workers=1)
        for name in ("kiro", "offline"):
            for watch in (None, ignore):
                answer = await kiro.generate_story("An idea", agent=name, watch=watch)
                self.assertEqual(answer.agent, name)

    async def test_token(self) -> None:
        """
        A token is borne with each request; without, the server refuses.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"tests ask,watch {TOKEN}\n")
        kiro = await self.start_kiro("--token-file", str(tokens))
        problem = await self.refusal(kiro.generate_story("An idea"))
        self.assertIsInstance(problem, BadRequest)
        self.assertEqual(problem.status, 401)
        kiro = Kiro(self.base, TOKEN)
        self.assertEqual((await kiro.generate_story("An idea")).value["title"], "An idea")
        self.assertEqual((await kiro.health())["status"], "running")

    async def test_unreachable(self) -> None:
        """
        Where nothing listens, nothing was done.
        """
        kiro = await self.start_kiro()
        await self.stop()
        problem = await self.refusal(kiro.health())
        self.assertIsInstance(problem, Unavailable)
        self.assertEqual((problem.status, problem.code), (None, "unreachable"))

    async def refusal(self, asking: Any) -> Any:
        """
        Why there is no answer.
        """
        return await self.assertFailure(Deferred.fromCoroutine(asking), client.KiroError)


class _Scripted(Resource):
    """
    Has each request answered by the next of `answers`.
    """

    isLeaf = True

    def __init__(self, answers: list[Callable[[Any], Any]]) -> None:
        super().__init__()
        self._answers = answers
        self.timeouts: list[str | None] = []

    def render(self, request: Any) -> Any:
        self.timeouts.append(request.getHeader("X-Request-Timeout"))
        return self._answers.pop(0)(request)


def says(status: int, body: bytes, **headers: str) -> Callable[[Any], Any]:
    """
    A whole response.
    """

    def answer(request: Any) -> bytes:
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return body

    return answer


def streams(*pieces: bytes, cut: bool = False) -> Callable[[Any], Any]:
    """
    A stream of events, whose connection may be cut at its end.
    """

    def answer(request: Any) -> Any:
        request.setHeader("content-type", "text/event-stream; charset=utf-8")
        for piece in pieces:
            request.write(piece)
        if cut:
            request.loseConnection()
        else:
            request.finish()
        return NOT_DONE_YET

    return answer


BUSY = says(503, b'{"error":"busy","code":"all_workers_busy"}', retry_after="0")
STORY = b'{"title":"An idea"}'


class MisbehavingServerTests(TestCase):
    """
    Tests for `Kiro` against servers, and proxies, that misbehave.
    """

    def serve(self, *answers: Callable[[Any], Any]) -> Kiro:
        """
        A client of a server that gives these answers, one after the other.
        """
        self.site = _Scripted(list(answers))
        port = real.listenTCP(0, Site(self.site), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return Kiro(f"http://127.0.0.1:{port.getHost().port}/")

    async def problem(self, kiro: Kiro, **options: Any) -> Any:
        asking = kiro.ask("generate-story", {"idea": "An idea"}, **options)
        return await self.assertFailure(Deferred.fromCoroutine(asking), client.KiroError)

    async def test_no_json(self) -> None:
        """
        What is no JSON object is an error of the kind that its status says.
        """
        for status, kind in ((200, Failed), (404, BadRequest), (502, Failed), (503, Unavailable)):
            for body in (b"<html>", b"[]", b"\xff"):
                problem = await self.problem(self.serve(says(status, body)))
                self.assertIs(type(problem), kind)
                self.assertEqual((problem.status, problem.code), (status, "not_json"))

    async def test_elsewhere(self) -> None:
        """
        A token is carried to no other address.
        """
        kiro = self.serve(says(302, b"", location="http://127.0.0.1:1/"))
        self.assertEqual((await self.problem(kiro)).status, 302)

    async def test_too_long(self) -> None:
        """
        A response without end is not kept.
        """
        self.patch(client, "_MOST", 100)
        problem = await self.problem(self.serve(says(200, b" " * 1000)))
        self.assertEqual((type(problem), problem.code), (Failed, "too_long"))
        kiro = self.serve(streams(b"data: " + b"a" * 1000))
        problem = await self.problem(kiro, watch=ignore)
        self.assertEqual((type(problem), problem.code), (Failed, "too_long"))

    async def test_cut_off(self) -> None:
        """
        A response that ends before its time is no answer; one that ends after it is.
        """
        hangs_up = lambda request: request.loseConnection() or NOT_DONE_YET  # noqa: E731
        self.assertEqual((await self.problem(self.serve(hangs_up))).code, "cut_off")
        for cut in (False, True):
            kiro = self.serve(streams(b": hello\n\nevent: answer\ndata: {}\n", cut=cut))
            self.assertEqual((await self.problem(kiro, watch=ignore)).code, "cut_off")
            kiro = self.serve(streams(b"event: answer\ndata: " + STORY + b"\n\n", cut=cut))
            answer = await kiro.ask("generate-story", {}, watch=ignore)
            self.assertEqual(answer.value, {"title": "An idea"})

    async def test_kept_open(self) -> None:
        """
        A stream has ended with the answer, though a proxy keeps it open.
        """
        gone: list[Deferred[None]] = []

        def answer(request: Any) -> Any:
            gone.append(request.notifyFinish())
            request.setHeader("content-type", "text/event-stream")
            request.write(b"event: answer\ndata: " + STORY + b"\n\n")
            return NOT_DONE_YET

        found = await self.serve(answer).ask("generate-story", {}, watch=ignore, timeout=20)
        self.assertEqual(found.value, {"title": "An idea"})
        await self.assertFailure(gone[0], Exception)

    async def test_other_events(self) -> None:
        """
        Events of a later server, or without sense, are passed over.
        """
        kiro = self.serve(
            streams(
                b"event: weather\ndata: {}\n\nevent: started\ndata: {\n\n",
                b"event: queued\ndata: []\n\n",
                b'event: started\ndata: {"worker":"w","attempt":2,"mood":1}\n\n',
                b"event: answer\ndata: " + STORY + b"\n\n",
            )
        )
        seen: list[Any] = []
        answer = await kiro.ask("generate-story", {}, watch=seen.append)
        self.assertEqual((seen, answer.worker, answer.attempts), ([Started("w", 2)], "w", 2))

    async def test_unwatched_stream(self) -> None:
        """
        A server that streams nothing answers who watches all the same.
        """
        kiro = self.serve(says(200, STORY))
        answer = await kiro.ask("generate-story", {}, watch=ignore)
        self.assertEqual(answer.value, {"title": "An idea"})

    async def test_silent(self) -> None:
        """
        A server that says nothing, not even that it is too late, is not waited for.
        """
        self.patch(client, "_GRACE", 0.1)
        gone: list[Deferred[None]] = []

        def silent(request: Any) -> Any:
            gone.append(request.notifyFinish())
            return NOT_DONE_YET

        problem = await self.problem(self.serve(silent), timeout=0.1)
        self.assertEqual((type(problem), problem.status), (TimedOut, None))
        await self.assertFailure(gone[0], Exception)

    async def test_patience(self) -> None:
        """
        A request is made again after the time that the server names, and has then
        so much less time.
        """
        kiro = self.serve(BUSY, BUSY, says(200, STORY))
        seen: list[Any] = []
        await kiro.ask("generate-story", {}, timeout=40, patience=30, watch=seen.append)
        self.assertEqual(seen, [Postponed("busy", 0.5)] * 2)
        first, second, third = (float(each or "nan") for each in self.site.timeouts)
        self.assertEqual(first, 40)
        self.assertLessEqual(second, 39.5)
        self.assertLessEqual(third, second - 0.5)

    async def test_patience_ends(self) -> None:
        """
        A request is not made again without patience, nor beyond it or the
        deadline, nor where the server names no time.
        """
        for options in ({}, {"patience": 0.4}, {"patience": 30, "timeout": 0.4}):
            problem = await self.problem(self.serve(BUSY), **options)
            self.assertEqual(problem.retry_after, 0)
        problem = await self.problem(self.serve(says(503, b"{}")), patience=30)
        self.assertEqual((type(problem), problem.retry_after), (Unavailable, None))
        for seconds in (b"NaN", b"1e999", b"-1"):
            kiro = self.serve(says(503, b'{"retryAfter":' + seconds + b"}"))
            problem = await self.problem(kiro, patience=30)
            self.assertEqual((type(problem), problem.retry_after), (Unavailable, None))

    async def test_cancel_between(self) -> None:
        """
        A request that waits to be made again can be cancelled.
        """
        kiro = self.serve(says(429, json.dumps({"retryAfter": 20}).encode()))
        postponed: Deferred[Any] = Deferred()

        def told(event: Any) -> None:
            # Not before the client waits.
            real.callLater(0, postponed.callback, event)

        asking = kiro.ask("generate-story", {}, patience=30, watch=told)
        asked = Deferred.fromCoroutine(asking)
        self.assertEqual((await postponed).seconds, 20)
        asked.cancel()
        await self.assertFailure(asked, CancelledError)

    async def test_another_catalogue(self) -> None:
        """
        Another server's JSON is no catalogue.
        """
        kiro = self.serve(says(200, b'{"tasks":[1]}'))
        problem = await self.assertFailure(Deferred.fromCoroutine(kiro.tasks()), Failed)
        self.assertIn("is no kiroworkers", str(problem))


class ModuleTests(SynchronousTestCase):
    """
    Tests for what the module is made of.
    """

    def test_types(self) -> None:
        """
        The types of answers are those of the tasks' schemas.
        """
        tasks = builtin_tasks()
        warnings = tasks["analyze-invest"].answer_schema["properties"]["warnings"]["items"]
        kinds: dict[Any, Any] = {
            Story: tasks["generate-story"].answer_schema,
            Test: tasks["generate-test"].answer_schema,
            Review: tasks["analyze-invest"].answer_schema,
            ReviewWarning: warnings,
        }
        for kind, schema in kinds.items():
            self.assertEqual(kind.__required_keys__, set(schema["required"]))
            self.assertEqual(set(kind.__annotations__), set(schema["properties"]))

    def test_address(self) -> None:
        """
        What is no address is refused at once.
        """
        for address in (
            "",
            "127.0.0.1:8080",
            "ftp://a",
            "http://a?b",
            "http://u:p@a",
            "http://",
            "http://a:b",
        ):
            with self.assertRaises(ValueError):
                Kiro(address)

    def test_ipv6(self) -> None:
        """
        An address may be one of IPv6.
        """
        reactor = MemoryReactorClock()
        asked = Deferred.fromCoroutine(Kiro("http://[::1]:81", reactor=reactor).health())
        reactor.advance(0)
        self.assertNoResult(asked)
        [(_, port, factory, *_)] = reactor.tcpClients
        called = factory.buildProtocol(None)
        assert called is not None
        transport = StringTransport()
        called.makeConnection(transport)
        self.assertEqual(port, 81)
        self.assertIn(b"Host: [::1]:81", transport.value())

    def test_reactor(self) -> None:
        """
        To import the client installs no reactor.
        """
        look = "import sys, kiroworkers.client; sys.exit('twisted.internet.reactor' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", look], env=environment(), check=False)
        self.assertEqual(done.returncode, 0)
