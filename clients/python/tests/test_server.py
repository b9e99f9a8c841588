"""
Tests of both clients with real servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from threading import Thread
from typing import Any, TypeVar, assert_type
from unittest import IsolatedAsyncioTestCase

import httpx

from kiroworkers_client import (
    Answer,
    Answered,
    AsyncEventStream,
    AsyncKiro,
    InvalidSignature,
    Job,
    JobPage,
    JobReceipt,
    Kiro,
    Missed,
    Postponed,
    Readiness,
    RetryPolicy,
    Review,
    Said,
    Started,
    Story,
    Test,
    Waiting,
    errors,
    verify_callback,
)
from tests.servers import Server

IDEA = "As a clerk, I want to print labels so that parcels arrive"
T = TypeVar("T")

SECRET = "a secret of the operator"

#: Seconds for what should take a fraction of one, on a busy machine.
SOON = 30.0


class QuickServerTests(IsolatedAsyncioTestCase):
    """
    Tests with a server whose agent answers at once.
    """

    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server("--callback-secret-file", "secret", "--callback-hosts", "127.0.0.1")
        cls.addClassCleanup(cls.server.remove)
        (cls.server.folder / "secret").write_text(f"{SECRET}\n")
        cls.server.start()

    def test_tasks(self) -> None:
        """
        The synchronous client gets a typed answer from each built-in task.
        """
        with Kiro(self.server.base) as kiro:
            story = kiro.generate_story(IDEA, components=["Printing"])
            assert_type(story, Answer[Story])
            self.assertEqual((story.value["asA"], story.agent), ("clerk", "offline"))
            self.assertEqual((story.completion, story.source), ("prompt", "terminal"))
            test = kiro.generate_test(story=story.value, idea=IDEA)
            assert_type(test, Answer[Test])
            self.assertGreater(len(test.value["then"]), 0)
            review = kiro.analyze_invest(story.value)
            assert_type(review, Answer[Review])
            self.assertIn("summary", review.value)

    async def test_async_tasks(self) -> None:
        """
        The asynchronous client gets a typed answer from each built-in task.
        """
        async with AsyncKiro(self.server.base) as kiro:
            story = await kiro.generate_story(IDEA, timeout=SOON, priority=9)
            assert_type(story, Answer[Story])
            self.assertEqual(story.value["soThat"], "parcels arrive")
            test, review = await asyncio.gather(
                kiro.generate_test(story.value), kiro.analyze_invest(story.value)
            )
            self.assertGreater(len(test.value["when"]), 0)
            self.assertIn("warnings", review.value)

    async def test_state(self) -> None:
        """
        Both clients report the server's state and its tasks.
        """
        async with AsyncKiro(self.server.base) as kiro:
            readiness = await kiro.ready()
            assert_type(readiness, Readiness)
            self.assertTrue(readiness)
            self.assertEqual((await kiro.health())["agent"], "offline")
            tasks = await kiro.tasks()
        with Kiro(self.server.base) as kiro_sync:
            self.assertTrue(kiro_sync.ready(agent="offline"))
            self.assertEqual(kiro_sync.health()["agent"], "offline")
            self.assertEqual(kiro_sync.tasks(), tasks)
        self.assertIn("generate-story", tasks)

    async def test_errors(self) -> None:
        """
        A request that the server rejects raises the class of its code.
        """
        async with AsyncKiro(self.server.base) as kiro:
            with self.assertRaises(errors.InvalidInputError) as invalid:
                await kiro.ask("generate-story", {"idea": " "})
            self.assertEqual(invalid.exception.field, "idea")
            with self.assertRaises(errors.UnknownTaskError):
                await kiro.ask("no such task", {})
            with self.assertRaises(errors.NotFoundError):
                await kiro.ask("../health", {})
            with self.assertRaises(errors.UnknownModelError):
                await kiro.generate_story(IDEA, model="none")
            with self.assertRaises(errors.UnknownJobError):
                await kiro.job("none")
            with self.assertRaises(errors.InvalidInputError):
                async with kiro.stream("generate-story", {}):
                    self.fail("the statement began")

    def test_stream(self) -> None:
        """
        The synchronous client iterates over the events of a request, which end with its answer.
        """
        with Kiro(self.server.base) as kiro:
            with kiro.stream("generate-story", {"idea": IDEA}) as events:
                kinds = [type(event) for event in events]
            with kiro.stream("generate-story", {"idea": IDEA}) as events:
                answer = events.answer()
                with self.assertRaisesRegex(ValueError, "has ended"):
                    events.answer()
        self.assertIn(Started, kinds)
        self.assertIs(kinds[-1], Answered)
        self.assertEqual(answer.value["asA"], "clerk")
        self.assertIsNotNone(answer.worker)

    async def test_async_stream(self) -> None:
        """
        The asynchronous client iterates over the events of a request, which end with its answer.
        """
        async with AsyncKiro(self.server.base) as kiro:
            events = []
            async with kiro.stream("generate-story", {"idea": IDEA}) as stream:
                async for event in stream:
                    events.append(event)
        texts = [event.text for event in events if isinstance(event, Said)]
        self.assertIn("parcels arrive", "".join(texts))
        last = events[-1]
        assert isinstance(last, Answered)
        self.assertEqual((last.answer.agent, last.answer.value["asA"]), ("offline", "clerk"))

    async def test_repeat(self) -> None:
        """
        A request that is repeated under its key gets the first one's answer, and no second turn.
        """
        async with AsyncKiro(self.server.base) as kiro:
            first = await kiro.generate_story(IDEA, idempotency_key="a-key")
            turns = await self.turns(kiro)
            second = await kiro.generate_story(IDEA, idempotency_key="a-key")
            self.assertEqual(await self.turns(kiro), turns)
            self.assertEqual((first.replayed, second.replayed), (False, True))
            self.assertEqual((first.value, first.worker), (second.value, second.worker))
            with self.assertRaises(errors.IdempotencyMismatchError):
                await kiro.generate_story("Another idea", idempotency_key="a-key")

    async def test_async_job(self) -> None:
        """
        A job can be submitted, waited for, listed and deleted.
        """
        async with AsyncKiro(self.server.base) as kiro:
            receipt = await kiro.submit("generate-story", {"idea": IDEA})
            assert_type(receipt, JobReceipt)
            job = await kiro.wait(receipt.id, timeout=SOON)
            assert_type(job, Job)
            self.assertEqual(job.result()["asA"], "clerk")
            page = await kiro.jobs(limit=200)
            assert_type(page, JobPage)
            self.assertIn(receipt.id, [job.id for job in page.jobs])
            self.assertIsNone(await kiro.cancel(receipt.id))
            with self.assertRaises(errors.UnknownJobError):
                await kiro.job(receipt.id)

    def test_callback(self) -> None:
        """
        The call that reports the end of a job has a valid signature.
        """
        with received_posts() as (url, posts), Kiro(self.server.base) as kiro:
            receipt = kiro.submit("generate-story", {"idea": IDEA}, callback=url)
            headers, body = posts.get(timeout=SOON)
        job = verify_callback(headers, body, SECRET)
        self.assertEqual((job.id, job.result()["asA"]), (receipt.id, "clerk"))
        with self.assertRaises(InvalidSignature):
            verify_callback(headers, body, "another")

    async def test_own_client(self) -> None:
        """
        A client of the user's own is used, and left open.
        """
        seen = []

        async def note(request: httpx.Request) -> None:
            seen.append(request.url.path)

        async with httpx.AsyncClient(event_hooks={"request": [note]}) as http:
            async with AsyncKiro(self.server.base, http_client=http) as kiro:
                await kiro.ready()
            self.assertFalse(http.is_closed)
        with httpx.Client() as http_sync:
            with Kiro(self.server.base, http_client=http_sync) as kiro_sync:
                kiro_sync.ready()
            self.assertFalse(http_sync.is_closed)
        self.assertEqual(seen, ["/ready"])

    async def turns(self, kiro: AsyncKiro) -> int:
        """
        Return how many turns the server's workers have answered.
        """
        workers: dict[str, Any] = (await kiro.health())["workers"]
        return sum(worker["answered"] for worker in workers.values())


class BusyServerTests(IsolatedAsyncioTestCase):
    """
    Tests with a server that has one worker, which takes 1.5 seconds for a turn, and no queue.
    """

    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server("--workers", "1", "--backlog", "0", delay=1.5)
        cls.addClassCleanup(cls.server.remove)
        cls.server.start()
        with Kiro(cls.server.base) as kiro:
            # The server then knows how long a turn takes, and asks for shorter waits.
            kiro.generate_story(IDEA)

    async def test_busy(self) -> None:
        """
        A request that gets 503 is sent again when the server says so, and is then answered.
        """
        sent = []

        def note(request: httpx.Request) -> None:
            sent.append(time.monotonic())

        with (
            httpx.Client(event_hooks={"request": [note]}) as http,
            Kiro(self.server.base, http_client=http) as other,
        ):
            async with (
                AsyncKiro(self.server.base) as kiro,
                kiro.stream("generate-story", {"idea": IDEA}) as running,
            ):
                await wait_for(running, Started)
                with self.assertRaises(errors.AllWorkersBusyError) as busy:
                    await kiro.generate_story("Log in", timeout=1)
                retry_after = busy.exception.retry_after
                assert retry_after is not None
                self.assertGreaterEqual(retry_after, 1)
                self.assertEqual(busy.exception.queue_limit, 0)
                waiting = asyncio.to_thread(other.generate_story, "Log in", timeout=SOON)
                answers = await asyncio.gather(running.answer(), waiting)
        self.assertEqual(answers[1].value["title"], "Log in")
        self.assertGreaterEqual(sent[1] - sent[0], retry_after)

    def test_restart(self) -> None:
        """
        A request whose server dies during its turn is answered by the next server, and the events
        of a job go on.

        All its attempts have one key, so a server that has stored the answer repeats it.
        """
        keys = []

        def note(request: httpx.Request) -> None:
            keys.append(request.headers["Idempotency-Key"])

        retry = RetryPolicy(max_retries=100, max_delay=10.0)
        with (
            httpx.Client(event_hooks={"request": [note]}) as http,
            Kiro(self.server.base, retry=retry, http_client=http) as kiro,
            kiro.stream("generate-story", {"idea": IDEA}) as events,
            Kiro(self.server.base) as other,
        ):
            next(event for event in events if isinstance(event, Started))
            job = other.submit("generate-story", {"idea": "Log in"})
            with other.follow(job.id) as job_events:
                self.assertIsInstance(next(job_events), Waiting)
                self.server.kill()
                # The connection is lost, and then nothing listens.
                postponed = [next(events), next(events)]
                self.server.start()
                answer = events.answer()
                after = [*job_events]
        self.assertEqual((type(after[0]), type(after[-1])), (Missed, Answered))
        answered = after[-1]
        assert isinstance(answered, Answered)
        self.assertEqual(answered.answer.value["title"], "Log in")
        self.assertEqual([type(event) for event in postponed], [Postponed, Postponed])
        self.assertEqual(answer.value["asA"], "clerk")
        self.assertEqual(len({*keys}), 1)


class AbandonedTests(IsolatedAsyncioTestCase):
    """
    Tests of requests that nobody waits for any longer, with an agent that does not answer.
    """

    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server("--workers", "2", delay=300.0)
        cls.addClassCleanup(cls.server.remove)
        cls.server.start()

    async def test_cancel(self) -> None:
        """
        A task that is cancelled, and a stream that is left, cancel their requests.
        """
        with Kiro(self.server.base) as kiro:
            with kiro.stream("generate-story", {"idea": IDEA}) as events:
                next(event for event in events if isinstance(event, Started))
            async with AsyncKiro(self.server.base) as async_kiro:
                started = asyncio.Event()
                task = asyncio.create_task(linger(async_kiro, started))
                await started.wait()
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(self.server.says, "(?s)aborted=yes.*aborted=yes")

    def test_deadline(self) -> None:
        """
        A request ends at its deadline with what the server says about it.
        """
        # The second one, if the workers still abandon what another test has asked.
        late = (errors.TimedOutError, errors.NoTimeLeftError)
        with Kiro(self.server.base) as kiro, self.assertRaises(late) as caught:
            kiro.generate_story(IDEA, timeout=0.3)
        self.assertIn(caught.exception.status, (503, 504))

    async def test_cancel_job(self) -> None:
        """
        A job that is cancelled has no result.
        """
        async with AsyncKiro(self.server.base) as kiro:
            receipt = await kiro.submit("generate-story", {"idea": IDEA})
            with self.assertRaises(errors.TimedOutError):
                await kiro.wait(receipt.id, timeout=0.1)
            cancelled = await kiro.cancel(receipt.id)
            assert cancelled is not None
            with self.assertRaises(errors.JobCancelledError):
                cancelled.result()


async def linger(kiro: AsyncKiro, started: asyncio.Event) -> None:
    """
    Wait for an answer, and set `started` when a worker has the request.
    """
    async with kiro.stream("generate-story", {"idea": IDEA}) as events:
        await wait_for(events, Started)
        started.set()
        await events.answer()


async def wait_for(events: AsyncEventStream, kind: type[T]) -> T:
    """
    Return the next event of a kind.
    """
    async for event in events:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"there was no {kind}")


@contextmanager
def received_posts() -> Iterator[tuple[str, Queue[tuple[dict[str, str], bytes]]]]:
    """
    Serve a URL, and yield it with the headers and bodies that are posted to it.
    """
    posts: Queue[tuple[dict[str, str], bytes]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        """
        Accept what is posted.
        """

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posts.put((dict(self.headers.items()), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as receiver:
        thread = Thread(target=receiver.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{receiver.server_port}/hook", posts
        finally:
            receiver.shutdown()
            thread.join()
