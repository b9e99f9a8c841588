"""
Tests for `kiroworkers_client.calls` and `kiroworkers_client.sending`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from traceback import TracebackException
from typing import Any, assert_type
from unittest import TestCase

from kiroworkers_client import (
    Answer,
    Answered,
    JobPage,
    KiroError,
    Missed,
    Noticed,
    Postponed,
    Queued,
    Retrying,
    RetryPolicy,
    Review,
    Said,
    Started,
    Story,
    Waiting,
    errors,
)
from kiroworkers_client.sending import checked_address
from kiroworkers_client.steps import Lost, NotSent, Silent, Undecodable
from tests.scripts import (
    Player,
    Response,
    failure_response,
    job_stream,
    json_response,
    stream_response,
)

ANSWER = {"title": "Print labels"}
JOB = {
    "id": "j1",
    "task": "generate-story",
    "agent": "kiro",
    "model": None,
    "state": "queued",
    "location": "/jobs/j1",
    "created": 1_700_000_000_000,
    "ended": None,
    "attempts": 0,
    "position": 3,
}


class AskTests(TestCase):
    """
    Tests for requests to tasks.
    """

    def test_request(self) -> None:
        """
        A request has the input as JSON, and a header for each option.
        """
        player = Player(json_response(200, ANSWER), token="secret")
        player.play(
            player.calls.ask(
                "own task", {"a": "ü"}, timeout=60, priority=9, agent="kiro", model="m"
            )
        )
        (sent,) = player.sent
        self.assertEqual((sent.method, sent.path), ("POST", "/kiro/own%20task"))
        self.assertEqual(json.loads(sent.body), {"a": "ü"})
        expected = {
            "Accept": "application/json",
            "Authorization": "Bearer secret",
            "Content-Type": "application/json",
            "Idempotency-Key": "key1",
            "X-Agent": "kiro",
            "X-Model": "m",
            "X-Priority": "9",
            "X-Request-Timeout": "60.000",
        }
        self.assertEqual({name: sent.headers.get(name) for name in expected}, expected)

    def test_timeouts(self) -> None:
        """
        The client waits a little longer than the server, so that the server can say why.
        """
        player = Player(json_response(200, ANSWER), timeout=2.0)
        player.play(player.calls.ask("t", {}))
        (sent,) = player.sent
        self.assertEqual((sent.connect_timeout, sent.read_timeout), (2.0, 7.0))
        self.assertEqual(sent.headers["X-Request-Timeout"], "2.000")

    def test_long_timeout(self) -> None:
        """
        A timeout may be longer than the operating system can wait.
        """
        player = Player(json_response(200, ANSWER))
        player.play(player.calls.ask("t", {}, timeout=1e12))
        (sent,) = player.sent
        assert sent.read_timeout is not None
        self.assertLess(sent.read_timeout * 1000, 2**31)

    def test_token_is_hidden(self) -> None:
        """
        Tools that show the variables of a traceback do not show the token.
        """
        player = Player(NotSent("refused"), token="secret", retry=None)
        with self.assertRaises(errors.UnreachableError) as caught:
            player.play(player.calls.ask("t", {}))
        report = TracebackException.from_exception(caught.exception, capture_locals=True)
        self.assertNotIn("Bearer", "".join(report.format()))
        self.assertNotIn("secret", repr(player.sent))

    def test_no_timeout(self) -> None:
        """
        Without a timeout the server's own deadline applies.
        """
        player = Player(json_response(200, ANSWER))
        player.play(player.calls.ask("t", {}, timeout=None))
        (sent,) = player.sent
        self.assertEqual((sent.connect_timeout, sent.read_timeout), (5.0, None))
        self.assertNotIn("X-Request-Timeout", sent.headers)

    def test_fields(self) -> None:
        """
        The built-in tasks have an argument for each field; those that are left out are not sent.
        """
        player = Player(*[json_response(200, ANSWER)] * 4)
        calls = player.calls
        player.play(calls.generate_story("x"))
        player.play(calls.generate_story("x", parent_story={"title": "p"}, components=["c"]))
        player.play(calls.generate_test({"title": "s"}, idea="i"))
        player.play(calls.analyze_invest(story={"title": "s"}))
        self.assertEqual(
            [(sent.path, json.loads(sent.body)) for sent in player.sent],
            [
                ("/kiro/generate-story", {"idea": "x"}),
                (
                    "/kiro/generate-story",
                    {"idea": "x", "parentStory": {"title": "p"}, "components": ["c"]},
                ),
                ("/kiro/generate-test", {"story": {"title": "s"}, "idea": "i"}),
                ("/kiro/analyze-invest", {"story": {"title": "s"}}),
            ],
        )

    def test_answer(self) -> None:
        """
        An answer has what the headers say about it.
        """
        headers = {
            "x-kiroworkers-agent": "kiro",
            "x-kiroworkers-worker": "worker2",
            "x-kiroworkers-attempts": "2",
            "x-kiroworkers-repairs": "1",
            "x-kiroworkers-completion": "prompt",
            "x-kiroworkers-source": "terminal",
            "x-kiroworkers-model": "m",
            "x-kiroworkers-credits": "0.25",
            "x-kiroworkers-context": "12.5",
            "x-kiroworkers-sample": "1",
            "x-kiroworkers-rejoined": "1",
            "x-kiroworkers-normalised": "storyPoint, a%2Cb",
            "x-kiroworkers-ignored": 'colour, "", story.x',
            "x-kiroworkers-tools-denied": "3",
            "x-kiroworkers-tools-allowed": "4",
            "x-kiroworkers-tools-unasked": "5",
            "idempotency-replayed": "true",
        }
        player = Player(json_response(200, ANSWER, headers))
        answer = player.play(player.calls.generate_story("x"))
        assert_type(answer, Answer[Story])
        self.assertEqual(
            answer,
            Answer(
                value=ANSWER,
                agent="kiro",
                worker="worker2",
                attempts=2,
                repairs=1,
                completion="prompt",
                source="terminal",
                model="m",
                credits=0.25,
                context_percent=12.5,
                sample=True,
                rejoined=True,
                normalised=("storyPoint", "a,b"),
                ignored=("colour", "", "story.x"),
                tools_denied=3,
                tools_allowed=4,
                tools_unasked=5,
                replayed=True,
                headers=headers,
            ),
        )

    def test_no_headers(self) -> None:
        """
        Values that the headers lack, or that are not numbers, are unknown.
        """
        headers = {"x-kiroworkers-attempts": "many", "x-kiroworkers-credits": "nan"}
        player = Player(json_response(200, ANSWER, headers))
        answer = player.play(player.calls.analyze_invest({"title": "x"}))
        assert_type(answer, Answer[Review])
        self.assertEqual((answer.worker, answer.attempts, answer.credits), (None, 1, None))
        self.assertEqual((answer.ignored, answer.sample), ((), False))

    def test_invalid_options(self) -> None:
        """
        An option that no request can have is an error before anything is sent.
        """
        player = Player()
        for option, value in (
            ("timeout", 0),
            ("timeout", float("nan")),
            ("agent", "a\nX-Priority: 9"),
            ("idempotency_key", ""),
            ("model", "ü"),
            ("timeout", "5"),
        ):
            options: Any = {option: value}
            with self.subTest(options=options), self.assertRaisesRegex(ValueError, option):
                player.play(player.calls.ask("t", {}, **options))
        with self.assertRaisesRegex(TypeError, "patience"):
            player.play(player.calls.ask("t", {}, patience=1))  # type: ignore[call-arg]
        self.assertEqual(player.sent, [])

    def test_address(self) -> None:
        """
        The address of a server may have a path, and nothing after it.
        """
        self.assertEqual(checked_address("https://[::1]:8080/kiro/"), "https://[::1]:8080/kiro")
        self.assertEqual(checked_address("HTTP://LOCALHOST"), "HTTP://LOCALHOST")
        for text in (
            *("localhost:8080", "http://", "http://:80", "http://x?y", "http://a:port", ""),
            *("http://a..b", "http://" + 64 * "a", "http://[::1", "http://[x]"),
        ):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, "is not an address"):
                checked_address(text)

    def test_password_in_address(self) -> None:
        """
        An address with a password is rejected without being shown.
        """
        with self.assertRaisesRegex(ValueError, "user name or password") as caught:
            checked_address("https://user:secret@example.org")
        self.assertNotIn("secret", str(caught.exception))

    def test_dots(self) -> None:
        """
        A name that a URL cannot hold as one part of its path is rejected.
        """
        player = Player()
        for name in ("", ".", ".."):
            for script in (player.calls.ask(name, {}), player.calls.cancel(name)):
                with self.subTest(name=name), self.assertRaisesRegex(ValueError, "must not be"):
                    player.play(script)
        self.assertEqual(player.sent, [])

    def test_not_json(self) -> None:
        """
        A response that no kiroworkers server sends is an error that quotes it.
        """
        for response in (Response(200, (b"<html>",)), json_response(200, [1])):
            player = Player(response)
            with self.subTest(response=response), self.assertRaises(errors.InvalidResponseError):
                player.play(player.calls.ask("t", {}))

    def test_unexpected_status(self) -> None:
        """
        A success of another kind, or a redirect, is not what a kiroworkers server sends.
        """
        elsewhere = "https://example.org/"
        for response, problem in (
            (Response(204), "answered 204 without"),
            (json_response(202, JOB), "answered 202 unexpectedly"),
            (Response(301, headers={"location": elsewhere}), f"301, .* to '{elsewhere}'"),
        ):
            player = Player(response)
            with self.subTest(response=response):
                with self.assertRaisesRegex(errors.InvalidResponseError, problem) as caught:
                    player.play(player.calls.ask("t", {}))
                self.assertEqual(caught.exception.status, response.status)

    def test_long_number(self) -> None:
        """
        A number in a header that is too long for one is ignored.
        """
        player = Player(json_response(200, ANSWER, {"x-kiroworkers-attempts": 5000 * "9"}))
        self.assertEqual(player.play(player.calls.ask("t", {})).attempts, 1)

    def test_other_server(self) -> None:
        """
        A failure without a code has the category that its status says.
        """
        player = Player(Response(404, (b"nginx",)))
        with self.assertRaisesRegex(errors.UnknownError, "nginx") as caught:
            player.play(player.calls.ask("t", {}))
        self.assertIsInstance(caught.exception, errors.BadRequest)

    def test_undecodable(self) -> None:
        """
        A response whose encoding is invalid is an error.
        """
        player = Player(Response(200, (b"{", Undecodable("gzip"))))
        with self.assertRaisesRegex(errors.InvalidResponseError, "gzip"):
            player.play(player.calls.ask("t", {}))

    def test_too_long(self) -> None:
        """
        A response that does not end is given up.
        """
        player = Player(Response(200, (b" " * 1024 * 1024,) * 33))
        with self.assertRaisesRegex(errors.InvalidResponseError, "more than"):
            player.play(player.calls.ask("t", {}))


class RetryTests(TestCase):
    """
    Tests for requests that are sent again.
    """

    def test_busy(self) -> None:
        """
        A request is sent again after the time that the server names, with less time left.
        """
        player = Player(
            failure_response(503, "all_workers_busy", 6),
            failure_response(429, "rate_limited", 2),
            json_response(200, ANSWER),
            random=0.5,
        )
        answer = player.play(player.calls.ask("t", {}, timeout=60))
        self.assertEqual(answer.value, ANSWER)
        self.assertEqual(player.slept, [6.75, 2.25])
        self.assertEqual(
            player.events,
            [
                Postponed("It failed: all_workers_busy", 6.75),
                Postponed("It failed: rate_limited", 2.25),
            ],
        )
        timeouts = [sent.headers["X-Request-Timeout"] for sent in player.sent]
        self.assertEqual(timeouts, ["60.000", "53.250", "51.000"])

    def test_same_key(self) -> None:
        """
        All attempts of a request have the same idempotency key, and the next request another.
        """
        lost = Response(200, (b'{"tit', Lost("reset")))
        player = Player(NotSent("refused"), lost, *[json_response(200, ANSWER)] * 2)
        player.play(player.calls.ask("t", {}))
        player.play(player.calls.ask("t", {}))
        keys = [sent.headers["Idempotency-Key"] for sent in player.sent]
        self.assertEqual(keys, ["key1", "key1", "key1", "key2"])

    def test_own_key(self) -> None:
        """
        A caller's own key makes a request repeatable, too.
        """
        player = Player(Lost("reset"), json_response(200, ANSWER))
        player.play(player.calls.ask("t", {}, idempotency_key="mine"))
        self.assertEqual([sent.headers["Idempotency-Key"] for sent in player.sent], ["mine"] * 2)

    def test_off(self) -> None:
        """
        Without a policy nothing is sent again, and no key is made.
        """
        for response, kind in (
            (failure_response(503, "all_workers_busy", 1), errors.AllWorkersBusyError),
            (NotSent("refused"), errors.UnreachableError),
            (Lost("reset"), errors.CutOffError),
        ):
            player = Player(response, retry=None)
            with self.subTest(kind=kind), self.assertRaises(kind):
                player.play(player.calls.ask("t", {}))
            self.assertNotIn("Idempotency-Key", player.sent[0].headers)

    def test_count(self) -> None:
        """
        After the last retry the last failure is raised.
        """
        player = Player(*[NotSent(f"refused {number}") for number in range(9)])
        with self.assertRaisesRegex(errors.UnreachableError, "refused 3"):
            player.play(player.calls.ask("t", {}))
        self.assertEqual(player.slept, [0.5, 1.0, 2.0])

    def test_deadline(self) -> None:
        """
        A failure is raised at once if the server asks for a wait beyond the deadline.
        """
        player = Player(failure_response(503, "all_workers_busy", 6))
        with self.assertRaises(errors.AllWorkersBusyError) as caught:
            player.play(player.calls.ask("t", {}, timeout=5))
        self.assertEqual((caught.exception.retry_after, player.slept), (6, []))

    def test_silent(self) -> None:
        """
        A server that says nothing until after the deadline is not asked again.
        """
        player = Player(Response(200, (Silent("no bytes"),), seconds=121.0))
        with self.assertRaises(errors.TimedOutError) as caught:
            player.play(player.calls.ask("t", {}))
        self.assertIsNone(caught.exception.status)

    def test_slow_body(self) -> None:
        """
        A response that goes on long after the deadline is given up.
        """
        player = Player(json_response(200, ANSWER, seconds=130.0))
        with self.assertRaises(errors.TimedOutError):
            player.play(player.calls.ask("t", {}))

    def test_storage(self) -> None:
        """
        A server that cannot store a key which its user did not ask for is asked without one.
        """
        player = Player(
            failure_response(503, "storage_unavailable", 5),
            json_response(200, ANSWER),
        )
        player.play(player.calls.ask("t", {}))
        self.assertEqual(player.slept, [])
        self.assertNotIn("Idempotency-Key", player.sent[1].headers)

    def test_storage_own_key(self) -> None:
        """
        A caller's own key is never left out.
        """
        player = Player(failure_response(503, "storage_unavailable", 5), json_response(200, ANSWER))
        player.play(player.calls.ask("t", {}, idempotency_key="mine"))
        self.assertEqual(player.slept, [5.0])
        self.assertEqual(player.sent[1].headers["Idempotency-Key"], "mine")

    def test_storage_after_loss(self) -> None:
        """
        A key is not left out either if the server may have run the request.
        """
        for lost in (Lost("reset"), Response(502, (b"Bad Gateway",)), Response(503)):
            player = Player(
                lost, failure_response(503, "storage_unavailable", 5), json_response(200, ANSWER)
            )
            with self.subTest(lost=lost):
                player.play(player.calls.ask("t", {}))
                keys = [sent.headers["Idempotency-Key"] for sent in player.sent]
                self.assertEqual(keys, ["key1"] * 3)

    def test_without_key(self) -> None:
        """
        A request whose key was left out is not repeated after the connection was lost.
        """
        player = Player(failure_response(503, "storage_unavailable", 5), Lost("reset"))
        with self.assertRaises(errors.CutOffError):
            player.play(player.calls.ask("t", {}))

    def test_final(self) -> None:
        """
        A failure that the server does not call temporary is raised at once.
        """
        for status, code in ((400, "invalid_input"), (502, "answer_unfit"), (504, "timed_out")):
            player = Player(failure_response(status, code))
            with self.subTest(code=code), self.assertRaises(errors.BY_CODE[code]):
                player.play(player.calls.ask("t", {}))


class StreamTests(TestCase):
    """
    Tests for streams.
    """

    def test_events(self) -> None:
        """
        Each event has its type, and the last one has the answer with its headers.
        """
        player = Player(
            stream_response(
                ("queued", {"position": 2, "estimate": 1.5}),
                ("started", {"worker": "worker1", "attempt": 1}),
                ("text", {"text": "{"}),
                ("notice", {"kind": "stall", "detail": "silent"}),
                ("retry", {"reason": "the session ended", "where": "new_conversation"}),
                ("headers", {"X-Kiroworkers-Worker": "worker2"}),
                ("answer", ANSWER),
            )
        )
        player.play(player.calls.stream("t", {}))
        *progress, last = player.events
        self.assertEqual(
            progress,
            [
                Queued(2, 1.5),
                Started("worker1", 1),
                Said("{"),
                Noticed("stall", "silent"),
                Retrying("the session ended", "new_conversation"),
            ],
        )
        assert isinstance(last, Answered)
        self.assertEqual((last.answer.value, last.answer.worker), (ANSWER, "worker2"))
        self.assertEqual(player.sent[0].headers["Accept"], "text/event-stream")

    def test_newer_server(self) -> None:
        """
        Events of a newer server, and events with other members, are ignored.
        """
        player = Player(
            stream_response(
                ("weather", {}),
                ("queued", {"position": "two"}),
                ("retry", {"reason": "r"}),
                ("text", []),
                ("answer", ANSWER),
            )
        )
        player.play(player.calls.stream("t", {}))
        self.assertEqual(player.events[:-1], [Retrying("r", "")])

    def test_error(self) -> None:
        """
        An error within a stream is raised as if it were the response.
        """
        error = {"status": 502, "error": "No", "code": "answer_unfit", "reasons": ["a"]}
        player = Player(stream_response(("error", error)))
        with self.assertRaises(errors.AnswerUnfitError) as caught:
            player.play(player.calls.stream("t", {}))
        self.assertEqual((caught.exception.status, caught.exception.reasons), (502, ("a",)))

    def test_busy(self) -> None:
        """
        A request that is refused within a stream is sent again.
        """
        busy = {"status": 503, "error": "busy", "code": "all_workers_busy", "retryAfter": 6}
        player = Player(stream_response(("error", busy)), stream_response(("answer", ANSWER)))
        player.play(player.calls.stream("t", {}))
        self.assertEqual(player.events[0], Postponed("busy", 6.0))
        self.assertIsInstance(player.events[1], Answered)

    def test_lost(self) -> None:
        """
        A stream that is lost after some text is asked for again, after saying so.
        """
        player = Player(
            stream_response(("text", {"text": "a"}), end=Lost("reset")),
            stream_response(("text", {"text": "b"}), ("answer", ANSWER)),
        )
        player.play(player.calls.stream("t", {}))
        kinds = [type(event) for event in player.events]
        self.assertEqual(kinds, [Said, Postponed, Said, Answered])

    def test_no_answer(self) -> None:
        """
        A stream that ends without an answer or an error was cut off.
        """
        player = Player(stream_response(("text", {"text": "a"})), retry=None)
        with self.assertRaises(errors.CutOffError):
            player.play(player.calls.stream("t", {}))

    def test_plain_error(self) -> None:
        """
        A request that is refused before its stream begins fails with the response's own error.
        """
        player = Player(failure_response(401, "no_token"))
        with self.assertRaises(errors.NoTokenError):
            player.play(player.calls.stream("t", {}))

    def test_dead_server(self) -> None:
        """
        A stream without even comments for a minute is lost, whatever its deadline.
        """
        silent = stream_response(("text", {"text": "a"}), end=Silent("no bytes"))
        for timeout in (None, 300):
            player = Player(silent, stream_response(("answer", ANSWER)))
            with self.subTest(timeout=timeout):
                player.play(player.calls.stream("t", {}, timeout=timeout))
                self.assertEqual([sent.read_timeout for sent in player.sent], [60.0] * 2)


class JobTests(TestCase):
    """
    Tests for jobs.
    """

    def test_submit(self) -> None:
        """
        A job is stored under a key, so that a lost response makes no second job.
        """
        accepted = {"id": "j1", "state": "queued", "location": "/jobs/j1"}
        player = Player(
            Lost("reset"), json_response(202, accepted, {"idempotency-replayed": "true"})
        )
        receipt = player.play(
            player.calls.submit("t", {}, timeout=30, callback="https://hooks.example.com/kiro")
        )
        self.assertEqual((receipt.id, receipt.state, receipt.replayed), ("j1", "queued", True))
        first, second = player.sent
        self.assertEqual(first.headers, second.headers)
        expected = {
            "Idempotency-Key": "key1",
            "Prefer": "respond-async",
            "X-Callback": "https://hooks.example.com/kiro",
            "X-Request-Timeout": "30.000",
        }
        self.assertEqual({name: first.headers.get(name) for name in expected}, expected)

    def test_submit_deadline(self) -> None:
        """
        The client's own timeout is not the deadline of a job.
        """
        accepted = {"id": "j1", "state": "queued", "location": "/jobs/j1"}
        player = Player(json_response(202, accepted))
        player.play(player.calls.submit("t", {}))
        self.assertNotIn("X-Request-Timeout", player.sent[0].headers)

    def test_wait(self) -> None:
        """
        A job is looked at again when the server suggests it, until it has ended.
        """
        running = {**JOB, "state": "running"}
        done = {**JOB, "state": "done", "ended": 1_700_000_001_500, "result": ANSWER}
        player = Player(
            json_response(200, JOB, {"retry-after": "3"}),
            json_response(200, running),
            json_response(200, {**done, "usage": {"credits": 0.5, "contextPercent": 10}}),
        )
        job = player.play(player.calls.wait("j1"))
        self.assertEqual(player.slept, [3.0, 1.0])
        self.assertTrue(job.finished)
        self.assertEqual(job.result(), ANSWER)
        self.assertEqual((job.credits, job.context_percent), (0.5, 10))
        self.assertEqual(job.ended, datetime(2023, 11, 14, 22, 13, 21, 500_000, UTC))

    def test_wait_restart(self) -> None:
        """
        A server that restarts meanwhile is asked again.
        """
        player = Player(
            NotSent("refused"),
            failure_response(503, "shutting_down", 10),
            json_response(200, {**JOB, "state": "cancelled"}),
        )
        job = player.play(player.calls.wait("j1"))
        with self.assertRaises(errors.JobCancelledError):
            job.result()

    def test_wait_long_restart(self) -> None:
        """
        A server may take most of a minute to restart, but is not asked for ever.
        """
        done = json_response(200, {**JOB, "state": "done", "result": ANSWER})
        player = Player(*[NotSent("refused")] * 20, done)
        self.assertEqual(player.play(player.calls.wait("j1")).result(), ANSWER)
        self.assertEqual(player.slept[:5], [0.5, 1.0, 2.0, 2.0, 2.0])
        for retry, seconds in ((RetryPolicy(), 59.5), (RetryPolicy(max_retries=0), 0), (None, 0)):
            player = Player(*[NotSent("refused")] * 40, retry=retry)
            with self.subTest(retry=retry), self.assertRaises(errors.UnreachableError):
                player.play(player.calls.wait("j1"))
            self.assertEqual(sum(player.slept), seconds)

    def test_wait_timeout(self) -> None:
        """
        A caller does not wait longer than its timeout, and looks once more at its end.
        """
        player = Player(*[json_response(200, JOB, {"retry-after": "3"})] * 3)
        with self.assertRaisesRegex(errors.TimedOutError, "within 5 seconds"):
            player.play(player.calls.wait("j1", timeout=5))
        self.assertEqual(player.slept, [3.0, 2.0])

    def test_follow(self) -> None:
        """
        The events of a job continue after the last one when the connection is lost, and nothing
        is announced about that.
        """
        player = Player(
            job_stream(
                ("1-1", "queued", {"position": 2, "estimate": None}),
                ("1-2", "started", {"worker": "worker1", "attempt": 1}),
                ("1-3", "text", {"text": "a"}),
                end=Lost("reset"),
            ),
            NotSent("refused"),
            # The server stops, and so the stream ends.
            job_stream(("1-4", "text", {"text": "b"})),
            job_stream(
                ("2-0", "gap", {"reason": "The server was restarted"}),
                ("2-1", "queued", {"position": None, "estimate": None}),
                ("2-2", "later", {}),
                end=Lost("reset"),
            ),
            job_stream(("end", "answer", ANSWER)),
        )
        player.play(player.calls.follow("j1"))
        *progress, answered = player.events
        self.assertEqual(
            progress,
            [
                Waiting(2), Started("worker1", 1), Said("a"), Said("b"),
                Missed("The server was restarted"), Waiting(None),
            ],
        )  # fmt: skip
        assert isinstance(answered, Answered)
        self.assertEqual(answered.answer.value, ANSWER)
        self.assertEqual({sent.path for sent in player.sent}, {"/jobs/j1/events"})
        self.assertEqual(
            [sent.headers.get("Last-Event-ID") for sent in player.sent],
            [None, "1-3", "1-3", "1-4", "2-2"],
        )
        self.assertEqual(player.slept, [0.5, 1.0, 0.5, 0.5])

    def test_follow_to_an_error(self) -> None:
        """
        The end of a job without an answer is raised, and not tried again, also if another request
        might succeed.
        """
        busy = {"status": 503, "error": "Busy", "code": "all_workers_busy", "retryAfter": 3}
        for event, kind in (
            (("end", "error", {**busy, "requestId": "r1"}), errors.AllWorkersBusyError),
            (("end", "cancelled", {}), errors.JobCancelledError),
        ):
            player = Player(job_stream(event))
            with self.subTest(kind=kind), self.assertRaises(kind):
                player.play(player.calls.follow("j1"))
        player = Player(failure_response(404, "unknown_job"))
        with self.assertRaises(errors.UnknownJobError):
            player.play(player.calls.follow("j1"))

    def test_follow_restarts(self) -> None:
        """
        A server may take most of a minute to restart each time, but is not tried for ever.
        """
        refused = [NotSent("refused")] * 20
        cut = job_stream(end=Lost("reset"))
        player = Player(cut, *refused, cut, *refused, job_stream(("end", "answer", ANSWER)))
        player.play(player.calls.follow("j1"))
        player = Player(cut, *[NotSent("refused")] * 60)
        with self.assertRaises(errors.UnreachableError):
            player.play(player.calls.follow("j1"))
        self.assertLess(sum(player.slept), 60)
        player = Player(cut, retry=None)
        with self.assertRaises(errors.CutOffError):
            player.play(player.calls.follow("j1"))

    def test_request_id(self) -> None:
        """
        What the server says about a request has the request's identifier.
        """
        accepted = {"id": "j1", "state": "queued", "location": "/jobs/j1", "requestId": "r1"}
        error = {"error": "No", "code": "refusal", "requestId": "r3"}
        player = Player(
            json_response(202, accepted),
            json_response(200, {**JOB, "requestId": "r1"}),
            json_response(200, ANSWER, {"x-request-id": "r2"}),
            json_response(502, error, {"x-request-id": "r3"}),
            Response(502, (b"Bad gateway",), {"x-request-id": "r4"}),
            retry=None,
        )
        self.assertEqual(player.play(player.calls.submit("t", {})).request_id, "r1")
        self.assertEqual(player.play(player.calls.job("j1")).request_id, "r1")
        self.assertEqual(player.play(player.calls.ask("t", {})).request_id, "r2")
        for id in ("r3", "r4"):
            with self.assertRaises(KiroError) as caught:
                player.play(player.calls.ask("t", {}))
            self.assertEqual(caught.exception.request_id, id)

    def test_failed(self) -> None:
        """
        A job that failed raises the error that a request would have raised.
        """
        error = {"status": 502, "error": "No", "code": "refusal"}
        player = Player(json_response(200, {**JOB, "state": "failed", "error": error}))
        job = player.play(player.calls.job("j1"))
        with self.assertRaises(errors.RefusalError):
            job.result()

    def test_unfinished(self) -> None:
        """
        An unfinished job has no result.
        """
        player = Player(json_response(200, JOB))
        job = player.play(player.calls.job("j1"))
        self.assertEqual((job.state, job.position, job.finished), ("queued", 3, False))
        with self.assertRaisesRegex(ValueError, "queued"):
            job.result()

    def test_pages(self) -> None:
        """
        A page of jobs says how to get the next one.
        """
        player = Player(
            json_response(200, {"jobs": [JOB], "next": "/jobs?limit=1&before=j1"}),
            json_response(200, {"jobs": [], "next": None}),
        )
        page = player.play(player.calls.jobs(limit=1))
        self.assertEqual(page.next, "j1")
        last = player.play(player.calls.jobs(limit=1, before=page.next))
        self.assertEqual(last, JobPage((), None))
        paths = [sent.path for sent in player.sent]
        self.assertEqual(paths, ["/jobs?limit=1", "/jobs?limit=1&before=j1"])

    def test_cancel(self) -> None:
        """
        An unfinished job is cancelled and returned; one that has ended is deleted.
        """
        cancelled = {**JOB, "state": "cancelled"}
        player = Player(json_response(200, cancelled), Response(204))
        job = player.play(player.calls.cancel("j1"))
        assert job is not None
        self.assertEqual(job.state, "cancelled")
        self.assertIsNone(player.play(player.calls.cancel("j1")))

    def test_cancel_lost(self) -> None:
        """
        Cancelling is not repeated after a lost connection: the second time would delete the job.
        """
        player = Player(Lost("reset"))
        with self.assertRaises(errors.CutOffError):
            player.play(player.calls.cancel("j1"))

    def test_no_job(self) -> None:
        """
        A response that describes no job is an error.
        """
        for body in ({"id": 1}, {**JOB, "created": 10**30}, {**JOB, "ended": -(10**17)}):
            player = Player(json_response(200, body))
            with self.subTest(body=body), self.assertRaises(errors.InvalidResponseError):
                player.play(player.calls.job("j1"))


class StateTests(TestCase):
    """
    Tests for questions about the server.
    """

    def test_ready(self) -> None:
        """
        Readiness is true or false, and says why.
        """
        reason = {"ready": False, "workers": [], "error": "No worker", "code": "not_ready"}
        player = Player(
            json_response(200, {"ready": True, "workers": ["worker1"]}), json_response(503, reason)
        )
        self.assertTrue(player.play(player.calls.ready()))
        not_ready = player.play(player.calls.ready(agent="kiro"))
        self.assertFalse(not_ready)
        self.assertEqual((not_ready.code, not_ready.reason), ("not_ready", "No worker"))
        self.assertEqual(player.sent[1].path, "/ready?agent=kiro")

    def test_ready_error(self) -> None:
        """
        A server that refuses to say whether it is ready is an error, which is not retried.
        """
        player = Player(failure_response(503, "too_many_connections", 5))
        with self.assertRaises(errors.TooManyConnectionsError) as caught:
            player.play(player.calls.ready())
        self.assertEqual((caught.exception.retry_after, caught.exception.status), (5, 503))

    def test_health_unreachable(self) -> None:
        """
        A question about the health of a server that is gone fails at once.
        """
        player = Player(NotSent("refused"))
        with self.assertRaises(errors.UnreachableError):
            player.play(player.calls.health())

    def test_tasks(self) -> None:
        """
        The tasks are found by their names; another server has none.
        """
        player = Player(json_response(200, {"tasks": [{"name": "t"}]}), json_response(200, {}))
        self.assertEqual(player.play(player.calls.tasks()), {"t": {"name": "t"}})
        with self.assertRaises(errors.InvalidResponseError):
            player.play(player.calls.tasks())

    def test_policy(self) -> None:
        """
        The policy applies to questions that need no agent as well.
        """
        retry = RetryPolicy(max_retries=1)
        player = Player(NotSent("a"), NotSent("b"), retry=retry)
        with self.assertRaisesRegex(errors.UnreachableError, "b$"):
            player.play(player.calls.tasks())
