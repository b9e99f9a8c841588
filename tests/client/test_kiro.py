"""
Tests for `kiroworkers.client`, with real servers and with servers that misbehave.
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
    Answer,
    BadRequest,
    Failed,
    Kiro,
    KiroError,
    Noticed,
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
from kiroworkers.client import kiro as kiro_module
from kiroworkers.tasks import builtin_tasks
from tests.programs import environment
from tests.servers import ServerTestCase, real

TOKEN = "a-token-of-the-tests"


def ignore(event: Any) -> None:
    """
    Ignore an event.
    """


class RealServerTests(ServerTestCase):
    """
    Tests for `Kiro` against a real server.
    """

    async def start_kiro(self, *options: str, workers: int = 1, **env: Any) -> Kiro:
        """
        Start a server and return a client of it.
        """
        await self.start(*options, workers=workers, **env)
        return Kiro(self.base)

    async def test_tasks(self) -> None:
        """
        Each built-in task has a method; its answer has the value, the agent, the worker
        and the number of attempts.
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
        The parent story and the components are part of the request.
        """
        kiro = await self.start_kiro()
        await kiro.generate_story("An idea", {"title": "the parent"}, ["the part"])
        await self.typed.wait_for('"title":"the parent"')
        await self.typed.wait_for("the part")

    async def test_server(self) -> None:
        """
        The server reports its health and its tasks.
        """
        kiro = await self.start_kiro()
        self.assertEqual((await kiro.health())["status"], "running")
        self.assertEqual((await kiro.tasks()).keys(), builtin_tasks().keys())

    async def test_watch(self) -> None:
        """
        A request with `watch` reports each step, and gets the same answer.
        """
        kiro = await self.start_kiro()
        seen: list[Any] = []
        answer = await kiro.generate_story("An idea [[pretty]]", watch=seen.append)
        self.assertEqual(answer.value["title"], "An idea [[pretty]]")
        self.assertEqual((answer.agent, answer.worker), ("kiro", "worker1"))
        self.assertEqual(seen[0], Started("worker1", 1))
        text = "".join(event.text for event in seen if isinstance(event, Said))
        self.assertIn('"title": "An idea [[pretty]]"', text)

    async def test_queued(self) -> None:
        """
        A request with `watch` that waits reports its place in the queue.
        """
        kiro = await self.start_kiro()
        first = self.story("the first [[silent]]")
        await self.typed.wait_for("the first")
        seen: list[Any] = []

        def record_event(event: Any) -> None:
            seen.append(event)
            first.cancel()

        answer = await kiro.generate_story("the second", watch=record_event)
        self.assertIsInstance(seen[0], Queued)
        self.assertEqual((seen[0].position, answer.value["title"]), (1, "the second"))
        await self.assertFailure(first, Exception)

    async def test_another_attempt(self) -> None:
        """
        A request whose session died reports that it is tried again.
        """
        kiro = await self.start_kiro(workers=2)
        seen: list[Any] = []
        answer = await kiro.generate_story("[[killed=watched]]", watch=seen.append)
        self.assertIn(Retrying("the session ended: killed by SIGKILL"), seen)
        self.assertEqual(answer.attempts, 2)
        answer = await kiro.generate_story("[[killed=unwatched]]")
        self.assertEqual(answer.attempts, 2)

    async def test_cancel(self) -> None:
        """
        A request that is cancelled ends: its session is interrupted, and answers the
        next request.
        """
        kiro = await self.start_kiro()
        pids = await self.pids()
        for name, watch in (("one", None), ("another", ignore)):
            idea = f"{name} [[silent]]"
            pending = Deferred.fromCoroutine(kiro.generate_story(idea, watch=watch))
            await self.typed.wait_for(idea)
            pending.cancel()
            await self.assertFailure(pending, CancelledError)
            answer = await kiro.generate_story("the next")
            self.assertEqual(answer.value["title"], "the next")
        self.assertEqual(await self.pids(), pids)

    async def test_watcher_fails(self) -> None:
        """
        If the `watch` function fails, the request ends with that failure.
        """
        kiro = await self.start_kiro()
        pids = await self.pids()

        def fail(event: Any) -> None:
            raise ZeroDivisionError

        pending = Deferred.fromCoroutine(kiro.generate_story("[[silent]]", watch=fail))
        await self.assertFailure(pending, ZeroDivisionError)
        await kiro.generate_story("the next")
        self.assertEqual(await self.pids(), pids)

    async def test_bad_requests(self) -> None:
        """
        The error for a rejected request says what is wrong, with `watch` or without.
        """
        kiro = await self.start_kiro()
        for watch in (None, ignore):
            for code, status, request in (
                ("invalid_input", 400, kiro.generate_story(" ", watch=watch)),
                ("unknown_task", 404, kiro.ask("what?", {}, watch=watch)),
                ("invalid_input", 400, kiro.generate_story("An idea", agent="x", watch=watch)),
                ("invalid_input", 400, kiro.generate_story("An idea", priority=10, watch=watch)),
            ):
                error = await self.error_of(request)
                self.assertIsInstance(error, BadRequest)
                self.assertEqual((error.status, error.code), (status, code), error)
                self.assertEqual(error.body["error"], str(error))
                self.assertRegex(error.request_id or "", "^[0-9a-f]{32}$")

    async def test_failures(self) -> None:
        """
        An answer that is invalid, or comes too late, has an error class of its own.
        """
        kiro = await self.start_kiro()
        for watch in (None, ignore):
            error = await self.error_of(kiro.generate_story("[[lame]]", watch=watch))
            self.assertIsInstance(error, Failed)
            self.assertEqual((error.status, error.code), (502, "answer_unfit"))
            self.assertIn("storyPoint must be at most 8", error.body["reasons"])
            late = kiro.generate_story("[[silent]]", timeout=0.5, watch=watch)
            error = await self.error_of(late)
            self.assertIsInstance(error, TimedOut)
            self.assertEqual((error.status, error.code), (504, "timed_out"))

    async def test_busy(self) -> None:
        """
        A request that no worker can take fails at once, with the time to try again;
        with `patience` it is sent again.
        """
        kiro = await self.start_kiro("--backlog", "0")
        await self.story("An idea")
        # It may still be clearing.
        request = kiro.generate_story("the first [[silent]]", patience=50)
        first = Deferred.fromCoroutine(request)
        await self.typed.wait_for("the first")
        for watch in (None, ignore):
            error = await self.error_of(kiro.generate_story("in vain", watch=watch))
            self.assertIsInstance(error, Unavailable)
            self.assertEqual((error.status, error.code), (503, "all_workers_busy"))
            self.assertGreaterEqual(error.retry_after, 1)
        seen: list[Any] = []

        def record_event(event: Any) -> None:
            seen.append(event)
            first.cancel()

        answer = await kiro.generate_story("patient", patience=50, watch=record_event)
        await self.assertFailure(first, Exception)
        self.assertEqual(answer.value["title"], "patient")
        self.assertEqual(seen[0].reason, "All workers busy, try again")

    async def test_agents(self) -> None:
        """
        A request can name the agent that is to answer.
        """
        kiro = await self.start_kiro("--agent", "kiro=1", "--agent", "offline=1", workers=1)
        for name in ("kiro", "offline"):
            for watch in (None, ignore):
                answer = await kiro.generate_story("An idea", agent=name, watch=watch)
                self.assertEqual(answer.agent, name)

    async def test_token(self) -> None:
        """
        The token is sent with each request; without it the server refuses.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"tests ask,watch {TOKEN}\n")
        kiro = await self.start_kiro("--token-file", str(tokens))
        error = await self.error_of(kiro.generate_story("An idea"))
        self.assertIsInstance(error, BadRequest)
        self.assertEqual(error.status, 401)
        kiro = Kiro(self.base, TOKEN)
        self.assertEqual((await kiro.generate_story("An idea")).value["title"], "An idea")
        self.assertEqual((await kiro.health())["status"], "running")

    async def test_unreachable(self) -> None:
        """
        If nothing listens, the server is unavailable.
        """
        kiro = await self.start_kiro()
        await self.stop()
        error = await self.error_of(kiro.health())
        self.assertIsInstance(error, Unavailable)
        self.assertEqual((error.status, error.code), (None, "unreachable"))

    async def error_of(self, request: Any) -> Any:
        """
        Return the error of a request that must fail.
        """
        return await self.assertFailure(Deferred.fromCoroutine(request), KiroError)


class _Scripted(Resource):
    """
    Answer each request by calling the next of the given functions.
    """

    isLeaf = True

    def __init__(self, answers: list[Callable[[Any], Any]]) -> None:
        super().__init__()
        self._answers = answers
        self.timeouts: list[str | None] = []
        self.models: list[str | None] = []

    def render(self, request: Any) -> Any:
        self.timeouts.append(request.getHeader("X-Request-Timeout"))
        self.models.append(request.getHeader("X-Model"))
        return self._answers.pop(0)(request)


def says(status: int, body: bytes, **headers: str) -> Callable[[Any], Any]:
    """
    Return a function that answers with a whole response.
    """

    def answer(request: Any) -> bytes:
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return body

    return answer


def streams(*pieces: bytes, cut: bool = False) -> Callable[[Any], Any]:
    """
    Return a function that answers with a stream of events, cut off in the end if `cut`.
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
    Tests for `Kiro` with servers and proxies that misbehave.
    """

    def serve(self, *answers: Callable[[Any], Any]) -> Kiro:
        """
        Start a server that gives these answers in turn, and return a client of it.
        """
        self.site = _Scripted(list(answers))
        port = real.listenTCP(0, Site(self.site), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return Kiro(f"http://127.0.0.1:{port.getHost().port}/")

    async def error(self, kiro: Kiro, **options: Any) -> Any:
        request = kiro.ask("generate-story", {"idea": "An idea"}, **options)
        return await self.assertFailure(Deferred.fromCoroutine(request), KiroError)

    async def test_no_json(self) -> None:
        """
        The status of a response without a JSON object decides the class of its error.
        """
        for status, kind in ((200, Failed), (404, BadRequest), (502, Failed), (503, Unavailable)):
            for body in (b"<html>", b"[]", b"\xff"):
                error = await self.error(self.serve(says(status, body)))
                self.assertIs(type(error), kind)
                self.assertEqual((error.status, error.code), (status, "not_json"))

    async def test_redirect(self) -> None:
        """
        Redirects are not followed, so that the token goes to no other address.
        """
        kiro = self.serve(says(302, b"", location="http://127.0.0.1:1/"))
        self.assertEqual((await self.error(kiro)).status, 302)

    async def test_too_long(self) -> None:
        """
        The client gives up on a response that is too long.
        """
        self.patch(kiro_module, "_MAX_RESPONSE_BYTES", 100)
        error = await self.error(self.serve(says(200, b" " * 1000)))
        self.assertEqual((type(error), error.code), (Failed, "too_long"))
        kiro = self.serve(streams(b"data: " + b"a" * 1000))
        error = await self.error(kiro, watch=ignore)
        self.assertEqual((type(error), error.code), (Failed, "too_long"))

    async def test_cut_off(self) -> None:
        """
        A response that is cut off before the answer is complete is an error.
        """
        hangs_up = lambda request: request.loseConnection() or NOT_DONE_YET  # noqa: E731
        self.assertEqual((await self.error(self.serve(hangs_up))).code, "cut_off")
        for cut in (False, True):
            kiro = self.serve(streams(b": hello\n\nevent: answer\ndata: {}\n", cut=cut))
            self.assertEqual((await self.error(kiro, watch=ignore)).code, "cut_off")
            kiro = self.serve(streams(b"event: answer\ndata: " + STORY + b"\n\n", cut=cut))
            answer = await kiro.ask("generate-story", {}, watch=ignore)
            self.assertEqual(answer.value, {"title": "An idea"})

    async def test_kept_open(self) -> None:
        """
        The answer ends a stream, even if a proxy keeps the connection open.
        """
        gone: list[Deferred[None]] = []

        def answer(request: Any) -> Any:
            gone.append(request.notifyFinish())
            request.setHeader("content-type", "text/event-stream")
            request.write(b"event: answer\ndata: " + STORY + b"\n\n")
            return NOT_DONE_YET

        response = await self.serve(answer).ask("generate-story", {}, watch=ignore, timeout=20)
        self.assertEqual(response.value, {"title": "An idea"})
        await self.assertFailure(gone[0], Exception)

    async def test_other_events(self) -> None:
        """
        Unknown and malformed events are ignored.
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

    async def test_described(self) -> None:
        """
        The answer at the end of a stream has what the headers before it say, and is as
        complete as one without `watch`; what the agent tells is reported.
        """
        headers = {
            "X-Kiroworkers-Worker": "w",
            "X-Kiroworkers-Attempts": "1",
            "X-Kiroworkers-Completion": "response",
            "X-Kiroworkers-Source": "protocol",
            "X-Kiroworkers-Model": "gpt-5",
            "X-Kiroworkers-Credits": "0.0525",
            "X-Kiroworkers-Context": "12",
        }
        events = {"headers": headers, "answer": {"title": "An idea"}}
        ends = "".join(
            f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events.items()
        )
        kiro = self.serve(
            streams(
                b'event: started\ndata: {"worker":"v","attempt":2}\n\n',
                b'event: notice\ndata: {"kind":"stall","detail":"It is silent"}\n\n',
                b'event: notice\ndata: {"kind":"stall"}\n\n',
                ends.encode(),
            )
        )
        seen: list[Any] = []
        answer = await kiro.ask("generate-story", {}, watch=seen.append)
        self.assertEqual(seen, [Started("v", 2), Noticed("stall", "It is silent")])
        self.assertEqual(
            answer,
            Answer(
                value={"title": "An idea"},
                agent=answer.agent,
                worker="w",
                attempts=1,
                repairs=0,
                completion="response",
                source="protocol",
                model="gpt-5",
                credits=0.0525,
                context_percent=12.0,
            ),
        )

    async def test_malformed_headers(self) -> None:
        """
        Malformed headers of an answer are read as missing.
        """
        for number in ('"nan"', '"1e5"', '"-1"', '"\\u0665"', "5", "null"):
            headers = f'{{"X-Kiroworkers-Worker": 5, "X-Kiroworkers-Credits": {number}}}'
            data = f"event: headers\ndata: {headers}\n\n".encode()
            kiro = self.serve(streams(data, b"event: answer\ndata: " + STORY + b"\n\n"))
            answer = await kiro.ask("generate-story", {}, watch=ignore)
            self.assertEqual((answer.credits, answer.worker, answer.attempts), (None, None, 1))

    async def test_model(self) -> None:
        """
        The model is sent in a header, and only if there is one.
        """
        kiro = self.serve(says(200, STORY), says(200, STORY))
        await kiro.ask("generate-story", {}, model="gpt-5")
        await kiro.ask("generate-story", {})
        self.assertEqual(self.site.models, ["gpt-5", None])

    async def test_unwatched_stream(self) -> None:
        """
        A request with `watch` accepts an answer that is not a stream.
        """
        kiro = self.serve(says(200, STORY))
        answer = await kiro.ask("generate-story", {}, watch=ignore)
        self.assertEqual(answer.value, {"title": "An idea"})

    async def test_silent(self) -> None:
        """
        The client gives up on a server that does not answer in time, not even with an
        error.
        """
        self.patch(kiro_module, "_GRACE", 0.1)
        gone: list[Deferred[None]] = []

        def silent(request: Any) -> Any:
            gone.append(request.notifyFinish())
            return NOT_DONE_YET

        error = await self.error(self.serve(silent), timeout=0.1)
        self.assertEqual((type(error), error.status), (TimedOut, None))
        await self.assertFailure(gone[0], Exception)

    async def test_patience(self) -> None:
        """
        A request is sent again after the time that the server names, with that much
        less time left.
        """
        kiro = self.serve(BUSY, BUSY, says(200, STORY))
        seen: list[Any] = []
        await kiro.ask("generate-story", {}, timeout=40, patience=30, watch=seen.append)
        self.assertEqual(seen, [Postponed("busy", 0.5)] * 2)
        first, second, third = (float(timeout or "nan") for timeout in self.site.timeouts)
        self.assertEqual(first, 40)
        self.assertLessEqual(second, 39.5)
        self.assertLessEqual(third, second - 0.5)

    async def test_patience_ends(self) -> None:
        """
        A request is not sent again without `patience`, nor beyond it or the timeout,
        nor if the server names no time.
        """
        for options in ({}, {"patience": 0.4}, {"patience": 30, "timeout": 0.4}):
            error = await self.error(self.serve(BUSY), **options)
            self.assertEqual(error.retry_after, 0)
        error = await self.error(self.serve(says(503, b"{}")), patience=30)
        self.assertEqual((type(error), error.retry_after), (Unavailable, None))
        for seconds in (b"NaN", b"1e999", b"-1"):
            kiro = self.serve(says(503, b'{"retryAfter":' + seconds + b"}"))
            error = await self.error(kiro, patience=30)
            self.assertEqual((type(error), error.retry_after), (Unavailable, None))

    async def test_cancel_between(self) -> None:
        """
        A request that waits to be sent again can be cancelled.
        """
        kiro = self.serve(says(429, json.dumps({"retryAfter": 20}).encode()))
        postponed: Deferred[Any] = Deferred()

        def record_event(event: Any) -> None:
            # Not before the client waits.
            real.callLater(0, postponed.callback, event)

        request = kiro.ask("generate-story", {}, patience=30, watch=record_event)
        pending = Deferred.fromCoroutine(request)
        self.assertEqual((await postponed).seconds, 20)
        pending.cancel()
        await self.assertFailure(pending, CancelledError)

    async def test_another_server(self) -> None:
        """
        The JSON of a server other than kiroworkers is not taken for a list of tasks.
        """
        kiro = self.serve(says(200, b'{"tasks":[1]}'))
        error = await self.assertFailure(Deferred.fromCoroutine(kiro.tasks()), Failed)
        self.assertIn("is not a kiroworkers server", str(error))


class ModuleTests(SynchronousTestCase):
    """
    Tests for `Kiro` and the types of answers, without a server.
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
        A text that is not an address is refused at once.
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
        The host of an address may be an IPv6 address.
        """
        reactor = MemoryReactorClock()
        pending = Deferred.fromCoroutine(Kiro("http://[::1]:81", reactor=reactor).health())
        reactor.advance(0)
        self.assertNoResult(pending)
        [(_, port, factory, *_)] = reactor.tcpClients
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertEqual(port, 81)
        self.assertIn(b"Host: [::1]:81", transport.value())

    def test_reactor(self) -> None:
        """
        Importing the client does not install a reactor.
        """
        look = "import sys, kiroworkers.client; sys.exit('twisted.internet.reactor' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", look], env=environment(), check=False)
        self.assertEqual(done.returncode, 0)
