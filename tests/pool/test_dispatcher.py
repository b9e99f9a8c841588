"""
Tests for `kiroworkers.pool.dispatcher`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import (
    DeadlineUnachievable,
    NoSessionStarts,
    NoWorkerFree,
    OutputTooLong,
    PromptTooLarge,
    RequestTimedOut,
    SessionLost,
    ShuttingDown,
)
from kiroworkers.pool.dispatcher import Dispatcher, QueueSnapshot, Request, RequestOptions
from kiroworkers.pool.progress import Progress, Queued, Started
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.session import CannotAskAgain, Reset
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import DiesAtStart, FirstReply, MemoryLine, dispatcher_in, results_of, submit_to
from tests.pool.simulation import DispatcherMachine, simulate


class SilentKiro(MemoryKiro):
    """
    A Kiro that takes four seconds to start, and answers when the test says so.
    """

    def __init__(self) -> None:
        super().__init__(lambda prompt: None)

    def begin(self) -> None:
        self.process.reactor.callLater(4, super().begin)


class DispatcherTestCase(SynchronousTestCase):
    """
    A test with a dispatcher in memory whose programs answer when the test says so.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.dispatcher = self.start()

    def start(self, **changes: Any) -> Dispatcher:
        dispatcher = dispatcher_in(self.reactor, **changes)
        dispatcher.startService()
        self.reactor.advance(0)
        return dispatcher

    def ask(self, prompt: str, dispatcher: Dispatcher | None = None) -> list[Any]:
        results = results_of(submit_to(dispatcher or self.dispatcher, prompt))
        self.reactor.advance(0)
        return results

    def prompts(self, number: int) -> list[str]:
        """
        Return the prompts that program `number` received, without the clearing.
        """
        typed = self.reactor.programs[number].typed
        return [line for line in typed if line not in ("/clear", "y", "n")]

    def say(self, number: int, text: str) -> None:
        self.reactor.programs[number].say(text)
        self.reactor.advance(0)


class ReplyTests(DispatcherTestCase):
    """
    Tests for what a submitter can do after a reply.
    """

    def begin(self, prompt: str = "a") -> Request:
        self.progress: list[Any] = []
        request = self.dispatcher.submit(prompt, None, self.progress.append)
        self.reactor.advance(0)
        return request

    def test_ask_again(self) -> None:
        """
        The worker that has answered can be asked again in the same conversation.
        """
        request = self.begin()
        self.say(0, "bad")
        self.assertIn("bad", self.successResultOf(request.reply).text)
        again = self.dispatcher.ask_again(request, "again")
        self.assertIs(request.reply, again)
        self.reactor.advance(7)
        self.say(0, "good")
        self.assertIn("good", self.successResultOf(again).text)
        self.assertEqual((request.attempts, request.seconds), (1, 7.0))
        self.dispatcher.end(request)
        self.reactor.advance(0)
        self.assertEqual(self.prompts(0), ["a", "again"])
        self.assertEqual(self.reactor.programs[0].typed[2], "/clear")

    def test_worker_is_busy_until_the_end(self) -> None:
        """
        A worker that has answered gets no other request before the end of this one.
        """
        request = self.begin()
        self.say(0, "A")
        for prompt in "bc":
            self.ask(prompt)
        self.assertEqual((self.prompts(0), self.prompts(1)), (["a"], ["b"]))
        self.dispatcher.end(request)
        self.dispatcher.end(request)
        self.reactor.advance(0)
        self.assertEqual(self.prompts(0), ["a", "c"])

    def test_retry(self) -> None:
        """
        A request that is retried goes to another worker, and the first one is cleared.
        """
        request = self.begin()
        self.say(0, "bad")
        self.successResultOf(request.reply)
        again = self.dispatcher.retry(request)
        self.reactor.advance(0)
        self.say(1, "good")
        self.assertIn("good", self.successResultOf(again).text)
        self.assertEqual(self.reactor.programs[0].typed[:2], ["a", "/clear"])
        [snapshot] = self.dispatcher.requests()
        self.assertEqual((snapshot.worker, snapshot.attempts), ("worker2", 2))
        self.dispatcher.end(request)
        self.assertEqual(list(self.dispatcher.requests()), [])

    def test_retry_goes_first(self) -> None:
        """
        Without another idle worker, a request that is retried is first in the queue, before
        the worker that it has left takes another.
        """
        request = self.begin()
        self.ask("b")
        self.ask("c")
        self.say(0, "bad")
        self.successResultOf(request.reply)
        self.dispatcher.retry(request)
        self.reactor.advance(0)
        self.assertEqual(self.prompts(0), ["a", "a"])

    def test_deadline_between_two_replies(self) -> None:
        """
        A request whose deadline passes while its submitter decides has ended, and its worker
        serves again.
        """
        request = self.begin()
        self.say(0, "bad")
        self.successResultOf(request.reply)
        self.reactor.advance(120)
        self.failureResultOf(self.dispatcher.ask_again(request, "again"), RequestTimedOut)
        self.failureResultOf(self.dispatcher.read_on(request), RequestTimedOut)
        self.failureResultOf(self.dispatcher.retry(request), RequestTimedOut)
        self.dispatcher.end(request)
        self.assertEqual(self.reactor.programs[0].typed[:2], ["a", "/clear"])
        self.assertEqual(
            [worker.state for worker in self.dispatcher.worker_pool.snapshots()], ["idle", "idle"]
        )

    def test_cancelled_while_asked_again(self) -> None:
        """
        A second question that is cancelled ends the request and interrupts the agent.
        """
        request = self.begin()
        self.say(0, "bad")
        self.successResultOf(request.reply)
        again = self.dispatcher.ask_again(request, "again")
        results = results_of(again)
        self.reactor.advance(0)
        again.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.assertEqual(list(self.dispatcher.requests()), [])
        self.reactor.pump([0, 0.2])
        self.assertEqual(self.dispatcher.worker_pool.snapshots()[0].state, "idle")

    def test_session_ends_while_the_submitter_decides(self) -> None:
        """
        The agent cannot be asked again after its session has ended; another worker can.
        """
        request = self.begin()
        self.say(0, "bad")
        self.successResultOf(request.reply)
        self.reactor.programs[0].process.end(signal=9)
        self.reactor.advance(0)
        with self.assertRaises(CannotAskAgain):
            self.dispatcher.ask_again(request, "again")
        again = self.dispatcher.retry(request)
        self.reactor.advance(0)
        self.say(1, "good")
        self.successResultOf(again)
        self.dispatcher.end(request)

    def test_progress(self) -> None:
        """
        A submitter is told who answers and what is said.
        """
        request = self.begin()
        self.say(0, "good")
        self.successResultOf(request.reply)
        self.dispatcher.end(request)
        self.assertEqual(self.progress[0], Started("worker1", 1))
        self.assertEqual(self.progress[1].text.strip(), "good")

    def test_cancelled_by_its_progress(self) -> None:
        """
        A request that is cancelled while its submitter is told of its start is not sent, and
        the next one gets the worker.
        """

        def cancel(progress: Progress) -> None:
            if isinstance(progress, Started):
                request.reply.cancel()

        for prompt in "ab":
            self.ask(prompt)
        request = self.dispatcher.submit("c", None, cancel)
        self.ask("d")
        self.say(0, "A")
        self.failureResultOf(request.reply, CancelledError)
        self.assertEqual(self.prompts(0), ["a", "d"])
        self.say(0, "D")
        self.assertEqual([worker.state for worker in self.dispatcher.workers()], ["idle", "busy"])

    def test_progress_callback_fails(self) -> None:
        """
        An exception in a progress callback is logged, and affects neither its request nor another.
        """

        def fail(progress: Progress) -> None:
            raise ValueError("a bug")

        for prompt in "ab":
            self.ask(prompt)
        request = self.dispatcher.submit("c", None, fail)
        other = self.ask("d")
        self.say(0, "A")
        self.say(0, "C")
        self.assertIn("C", self.successResultOf(request.reply).text)
        self.say(1, "B")
        self.say(1, "D")
        self.assertIn("D", other[0].reply.text)
        self.assertTrue(self.flushLoggedErrors(ValueError))

    def test_queued(self) -> None:
        """
        A waiting request reports its position.
        """
        for prompt in "ab":
            self.ask(prompt)
        for position, prompt in enumerate("cd", 1):
            self.begin(prompt)
            self.assertEqual(self.progress[0].position, position)


class RecordTests(DispatcherTestCase):
    """
    Tests for what is recorded about a request.
    """

    def begin(self) -> tuple[Request, RequestRecord]:
        """
        Submit a request; return it and its record.
        """
        options = RequestOptions()
        return self.dispatcher.submit("a", options), options.record

    def facts(self, record: RequestRecord) -> tuple[Any, ...]:
        return record.worker, record.attempts, record.wait, record.turn

    def test_answered(self) -> None:
        """
        The record has the worker, and how long it was occupied.
        """
        request, record = self.begin()
        self.reactor.advance(7)
        self.say(0, "A")
        self.dispatcher.end(request)
        self.assertEqual(self.facts(record), ("worker1", 1, 0.0, 7.0))

    def test_waited(self) -> None:
        """
        The record has how long the request was in the queue, both times if it is retried.
        """
        self.ask("b")
        self.ask("c")
        request, record = self.begin()
        self.reactor.advance(2)
        self.say(0, "B")
        self.reactor.advance(3)
        self.say(0, "bad")
        self.successResultOf(request.reply)
        reply = self.dispatcher.retry(request)
        self.reactor.advance(0)
        self.reactor.advance(5)
        self.say(0, "good")
        self.successResultOf(reply)
        self.dispatcher.end(request)
        self.assertEqual(self.facts(record), ("worker1", 2, 2.0, 8.0))

    def test_cancelled(self) -> None:
        """
        The record of a request that is cancelled is complete.
        """
        request, record = self.begin()
        self.reactor.advance(7)
        request.reply.addErrback(lambda _: None)
        request.reply.cancel()
        self.assertEqual(self.facts(record), ("worker1", 1, 0.0, 7.0))
        self.ask("b")
        self.ask("c")
        request, record = self.begin()
        self.reactor.advance(3)
        request.reply.addErrback(lambda _: None)
        request.reply.cancel()
        self.assertEqual(self.facts(record), (None, None, 3.0, None))

    def test_queued(self) -> None:
        """
        A request that must wait is told its place, and why it waits.
        """
        events: list[tuple[str, Any]] = []

        def note(_: RequestRecord, name: str, data: Any) -> None:
            events.append((name, data.get("reason")))

        for prompt in "bc":
            self.ask(prompt)
        for _ in range(2):
            record = RequestRecord(on_event=note)
            self.dispatcher.submit("a", RequestOptions(record=record)).reply.addErrback(
                lambda _: None
            )
            self.dispatcher.pause()
        self.assertEqual(
            events, [("queued", "All workers busy"), ("queued", "An operator paused the pool")]
        )


class RoutingTests(DispatcherTestCase):
    """
    Tests for the choice of the worker.
    """

    def test_round_robin(self) -> None:
        """
        Idle workers take turns.
        """
        for number, prompt in enumerate("abcd"):
            results = self.ask(prompt)
            self.say(number % 2, prompt.upper())
            self.assertEqual(results[0].worker, f"worker{number % 2 + 1}")
        self.assertEqual((self.prompts(0), self.prompts(1)), (["a", "c"], ["b", "d"]))

    def test_next_is_busy(self) -> None:
        """
        A busy worker is skipped.
        """
        self.ask("slow")
        for prompt in ("a", "b"):
            self.ask(prompt)
            self.say(1, prompt)
        self.assertEqual((self.prompts(0), self.prompts(1)), (["slow"], ["a", "b"]))

    def test_queue(self) -> None:
        """
        While all workers are busy, requests wait, and run in the order of their arrival.
        """
        results = [self.ask(prompt) for prompt in "abcd"]
        self.assertEqual(self.dispatcher.queue(), QueueSnapshot(2, 32))
        self.say(1, "B")
        self.say(1, "C")
        self.say(1, "D")
        self.say(0, "A")
        texts = [result[0].reply.text.removeprefix("> ")[:1] for result in results]
        self.assertEqual(texts, ["A", "B", "C", "D"])
        self.assertEqual((self.prompts(0), self.prompts(1)), (["a"], ["b", "c", "d"]))

    def test_before_the_first_prompt(self) -> None:
        """
        A request that arrives before any session is ready waits for one.
        """
        reactor = MemoryReactor()
        dispatcher = dispatcher_in(reactor)
        dispatcher.startService()
        results = results_of(submit_to(dispatcher, "early"))
        self.assertEqual(results, [])
        reactor.advance(0)
        self.assertIsInstance(results[0], FirstReply)

    def test_unsafe_prompt(self) -> None:
        """
        A prompt that cannot be typed fails, and its worker takes the next request.
        """
        results = self.ask("/quit")
        self.assertIn("command", str(results[0]))
        self.ask("a")
        self.ask("b")
        self.assertEqual((self.prompts(0), self.prompts(1)), (["b"], ["a"]))


class RefusalTests(DispatcherTestCase):
    """
    Tests for requests that fail.
    """

    def test_full(self) -> None:
        """
        A request is refused at once when the queue is full.
        """
        dispatcher = self.start(backlog=1)
        for prompt in "abc":
            self.assertEqual(self.ask(prompt, dispatcher), [])
        [refusal] = self.ask("d", dispatcher)
        self.assertIsInstance(refusal, NoWorkerFree)
        self.assertEqual((refusal.waiting, refusal.limit), (1, 1))

    def test_no_backlog(self) -> None:
        """
        With a backlog of 0 no request waits.
        """
        dispatcher = self.start(backlog=0)
        self.ask("a", dispatcher)
        self.ask("b", dispatcher)
        self.assertIsInstance(self.ask("c", dispatcher)[0], NoWorkerFree)

    def test_waited_too_long(self) -> None:
        """
        A request fails after the queue's time-out, and those behind it move up.
        """
        results = [self.ask(prompt) for prompt in "ab"]
        waiting = self.ask("c")
        self.reactor.advance(20)
        later = self.ask("d")
        self.reactor.advance(10)
        self.assertIsInstance(waiting[0], NoWorkerFree)
        self.assertEqual(later, [])
        self.say(0, "A")
        self.assertEqual(self.prompts(0), ["a", "d"])
        self.assertEqual(len(results[0]), 1)

    def test_retry_after(self) -> None:
        """
        `retry_after` is estimated from recent turns: two workers whose turns take 8
        seconds free one every 4 seconds.
        """
        dispatcher = self.start(backlog=1)
        for number in (2, 3):
            self.ask("x", dispatcher)
            self.reactor.advance(8)
            self.say(number, "X")
        for prompt in "abc":
            self.ask(prompt, dispatcher)
        [refusal] = self.ask("d", dispatcher)
        self.assertEqual(refusal.retry_after, 8)

    def test_estimate_with_starts(self) -> None:
        """
        Estimates count workers whose sessions are starting, by how long starts took; that of a
        request in the queue also counts the worker that the pool adds for it.
        """
        for max_workers, estimate, retry_after in ((1, 8, 16), (2, 4, 8), (3, 4, 8)):
            self.reactor = MemoryReactor(SilentKiro)
            dispatcher = self.start(workers=1, max_workers=max_workers, backlog=1, min_spare=0)
            self.reactor.advance(4)
            self.ask("x", dispatcher)
            self.reactor.advance(8)
            self.say(0, "X")
            self.ask("a", dispatcher)
            progress: list[Progress] = []
            results_of(submit_to(dispatcher, "b", None, progress.append))
            [queued] = progress
            assert isinstance(queued, Queued)
            [refusal] = self.ask("c", dispatcher)
            self.assertEqual((queued.seconds, refusal.retry_after), (estimate, retry_after))

    def test_deadline_in_a_turn(self) -> None:
        """
        A request whose turn takes too long fails; the session is interrupted, cleared,
        and ready for the next request.
        """
        results = self.ask("a")
        self.reactor.advance(120)
        self.assertEqual(repr(results), repr([RequestTimedOut(120.0)]))
        self.ask("b")
        self.reactor.advance(0.2)
        results = self.ask("c")
        self.assertEqual(self.prompts(0), ["a", "c"])
        self.say(0, "C")
        self.assertIn("C", results[0].reply.text)

    def test_deadline_in_the_queue(self) -> None:
        """
        The deadline includes the wait in the queue.
        """
        dispatcher = self.start(queue_timeout=1000.0)
        for prompt in "ab":
            self.ask(prompt, dispatcher)
        self.reactor.advance(60)
        waiting = self.ask("c", dispatcher)
        self.reactor.advance(60)
        self.reactor.advance(0.2)
        self.assertEqual(waiting, [])
        self.reactor.advance(60)
        self.assertEqual(repr(waiting), repr([RequestTimedOut(120.0)]))

    def test_cancelled_in_the_queue(self) -> None:
        """
        A request that is cancelled leaves the queue, and reaches no worker.
        """
        for prompt in "ab":
            self.ask(prompt)
        reply = submit_to(self.dispatcher, "c")
        results = results_of(reply)
        reply.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.assertEqual(self.dispatcher.queue().length, 0)
        self.say(0, "A")
        self.assertEqual(self.prompts(0), ["a"])

    def test_cancelled_in_a_turn(self) -> None:
        """
        A request that is cancelled in its turn frees its worker without delay.
        """
        reply = submit_to(self.dispatcher, "a")
        results_of(reply)
        self.reactor.advance(0)
        reply.cancel()
        self.reactor.pump([0, 0.2])
        self.assertEqual(
            [worker.state for worker in self.dispatcher.worker_pool.snapshots()], ["idle", "idle"]
        )

    def test_too_much_output(self) -> None:
        """
        A request whose turn produces too much output is not retried.
        """
        results = self.ask("a")
        self.reactor.programs[0].print("y" * 200_000)
        self.reactor.advance(0)
        self.assertEqual(repr(results), repr([OutputTooLong(100_000)]))
        self.assertEqual(self.prompts(1), [])


class SessionLostTests(DispatcherTestCase):
    """
    Tests for sessions that end in the middle of a turn.
    """

    def test_session_ends(self) -> None:
        """
        The request fails, unless its submitter retries it.
        """
        results = self.ask("a")
        self.reactor.programs[0].process.end(signal=9)
        self.reactor.advance(0)
        [lost] = results
        self.assertIsInstance(lost, SessionLost)
        self.assertEqual(lost.reason.split(",")[0], "killed by SIGKILL")
        self.assertEqual(self.prompts(1), [])


class RequestOptionsTests(DispatcherTestCase):
    """
    Tests for requests with their own deadline, priority or client.
    """

    def start_after_turns(self, seconds: float) -> Dispatcher:
        """
        Start a dispatcher with one worker, after five turns of so many seconds.
        """
        self.dispatcher.stopService()
        self.reactor.advance(10)
        self.reactor.programs.clear()
        dispatcher = self.start(workers=1)
        for _ in range(5):
            self.ask("x", dispatcher)
            self.reactor.advance(seconds)
            self.say(0, "X")
        return dispatcher

    def submit(self, dispatcher: Dispatcher, options: RequestOptions) -> list[Any]:
        results = results_of(submit_to(dispatcher, "y", options))
        self.reactor.advance(0)
        return results

    def test_own_deadline(self) -> None:
        """
        A client's deadline applies if it is shorter than the server's.
        """
        short = results_of(submit_to(self.dispatcher, "a", RequestOptions(timeout=10)))
        long = results_of(submit_to(self.dispatcher, "b", RequestOptions(timeout=1000)))
        self.reactor.advance(10)
        self.assertEqual(repr(short), repr([RequestTimedOut(10)]))
        self.reactor.advance(110)
        self.assertEqual(repr(long), repr([RequestTimedOut(120.0)]))

    def test_no_time_for_a_turn(self) -> None:
        """
        A request is refused if its deadline is shorter than every recent turn.
        """
        dispatcher = self.start_after_turns(8)
        [refusal] = self.submit(dispatcher, RequestOptions(timeout=7))
        self.assertEqual(repr(refusal), repr(DeadlineUnachievable(7, 8.0, 1)))
        self.assertEqual(self.submit(dispatcher, RequestOptions(timeout=9)), [])

    def test_no_time_in_the_queue(self) -> None:
        """
        A request is refused if the wait in the queue leaves too little time for its
        turn.
        """
        dispatcher = self.start_after_turns(8)
        self.ask("a", dispatcher)
        self.reactor.advance(2)
        [refusal] = self.submit(dispatcher, RequestOptions(timeout=13))
        self.assertEqual((refusal.expected, refusal.retry_after), (14, 6))
        self.assertEqual(self.submit(dispatcher, RequestOptions(timeout=15)), [])
        self.assertEqual(dispatcher.queue().length, 1)

    def test_queue_too_long(self) -> None:
        """
        A request is refused if it would wait longer than the queue's time-out.
        """
        dispatcher = self.start_after_turns(8)
        self.ask("a", dispatcher)
        taken = [self.ask("b", dispatcher) for _ in range(3)]
        [refusal] = self.ask("c", dispatcher)
        self.assertIsInstance(refusal, NoWorkerFree)
        self.assertEqual(refusal.retry_after, 32)
        self.assertEqual(taken, [[], [], []])

    def test_old_turns_are_ignored(self) -> None:
        """
        Turns that were long ago cause no refusal.
        """
        dispatcher = self.start_after_turns(8)
        self.reactor.advance(601)
        self.assertEqual(self.submit(dispatcher, RequestOptions(timeout=1)), [])

    def test_priority(self) -> None:
        """
        More urgent requests run first.
        """
        for prompt in "ab":
            self.ask(prompt)
        for prompt, priority in [("c", 0), ("d", 5), ("e", 9)]:
            results_of(submit_to(self.dispatcher, prompt, RequestOptions(priority=priority)))
        for _ in range(3):
            self.say(0, "X")
        self.assertEqual(self.prompts(0), ["a", "e", "d", "c"])

    def test_fair_share(self) -> None:
        """
        A client with many requests does not delay the first request of another.
        """
        for prompt in "abcd":
            results_of(submit_to(self.dispatcher, prompt, RequestOptions(client="greedy")))
        results_of(submit_to(self.dispatcher, "e", RequestOptions(client="modest")))
        self.reactor.advance(0)
        self.say(0, "A")
        self.assertEqual(self.prompts(0), ["a", "e"])

    def test_fair_share_of_a_full_queue(self) -> None:
        """
        When the queue is full, the client with the most waiting requests loses one to a
        client that has none.
        """
        dispatcher = self.start(backlog=2, workers=1)
        greedy = [
            results_of(submit_to(dispatcher, prompt, RequestOptions(client="greedy")))
            for prompt in "abc"
        ]
        modest = results_of(submit_to(dispatcher, "d", RequestOptions(client="modest")))
        self.assertIsInstance(greedy[2][0], NoWorkerFree)
        self.assertEqual((greedy[:2], modest), ([[], []], []))
        again = results_of(submit_to(dispatcher, "e", RequestOptions(client="modest")))
        self.assertIsInstance(again[0], NoWorkerFree)

    def test_snapshots(self) -> None:
        """
        Every unfinished request has a snapshot with its options and its worker.
        """
        options = RequestOptions(timeout=50, priority=7, client="me", label="task")
        for prompt in "ab":
            self.ask(prompt)
        results_of(submit_to(self.dispatcher, "c", options))
        *_, running, waiting = self.dispatcher.requests()
        self.assertEqual((running.worker, running.attempts), ("worker2", 1))
        self.assertEqual((waiting.worker, waiting.options), (None, options))
        self.assertEqual(waiting.deadline - waiting.arrived, 50)


class FailedTests(DispatcherTestCase):
    """
    Tests for a dispatcher whose sessions end again and again before they show a prompt.
    """

    def setUp(self) -> None:
        self.program: Callable[[], MemoryKiro] = DiesAtStart
        self.reactor = MemoryReactor(lambda: self.program())
        self.dispatcher = self.start(queue_timeout=100.0)

    def test_waiting_requests(self) -> None:
        """
        When no worker can get a session, the waiting requests are refused at once, with the
        reason and the time until the next start.
        """
        self.reactor.pump([1] * 60)
        results = self.ask("a")
        self.assertEqual(results, [])
        while not results:
            self.reactor.advance(1)
        [error] = results
        self.assertIsInstance(error, NoSessionStarts)
        self.assertIn("cannot open the display", error.reason)
        starts = [worker.next_start for worker in self.dispatcher.workers()]
        now = self.reactor.seconds()
        self.assertEqual(error.retry_after, math.ceil(min(filter(None, starts)) - now))

    def test_new_requests(self) -> None:
        """
        A request is refused on arrival while no worker can get a session, also when one is
        just being tried, and accepted as soon as one is ready.
        """
        self.reactor.pump([1] * 200)
        [error] = self.ask("a")
        self.program = MemoryKiro
        self.reactor.advance(error.retry_after - 1)
        self.assertEqual([type(result) for result in self.ask("b")], [NoSessionStarts])
        self.reactor.advance(1)
        self.reactor.advance(0)
        self.assertEqual([type(result) for result in self.ask("c")], [FirstReply])
        self.assertEqual(self.dispatcher.state().name, "serving")

    def test_before_it_fails(self) -> None:
        """
        A request that waited in vain for a session may be repeated when the next one is ready.
        """
        dispatcher = self.start(queue_timeout=1.0, workers=1)
        self.reactor.pump([1] * 40)
        results = self.ask("a", dispatcher)
        self.reactor.advance(1)
        [error] = results
        self.assertIsInstance(error, NoWorkerFree)
        [worker] = dispatcher.workers()
        assert worker.next_start is not None
        # A start takes six seconds, as far as is known.
        ready = worker.next_start + 6
        self.assertEqual(error.retry_after, math.ceil(ready - self.reactor.seconds()))
        self.assertIn("No worker is ready; the last session ended: ", str(error))

    def test_interrupted(self) -> None:
        """
        A session that is interrupted after its first request does not count as failed, though
        the ones before it did; when it ends without an answer, the worker has failed again.
        """
        dispatcher = self.start(workers=1)
        self.reactor.pump([1] * 200)
        self.program = SilentKiro
        [error] = self.ask("a", dispatcher)
        self.reactor.advance(error.retry_after)
        self.reactor.advance(4)
        request = dispatcher.submit("b")
        request.reply.addErrback(lambda _: None)
        request.reply.cancel()
        self.assertFalse(dispatcher.workers()[0].healthy)
        self.assertEqual(self.ask("c", dispatcher), [])
        self.program = DiesAtStart
        self.reactor.programs[-1].process.end(1)
        self.reactor.advance(0)
        self.assertEqual(dispatcher.state().name, "failed")

    def test_others_drained(self) -> None:
        """
        Workers that an operator has drained change nothing: neither does a last turn of one.
        """
        self.program = SilentKiro
        dispatcher = self.start()
        self.reactor.advance(4)
        self.ask("a", dispatcher)
        other, failing = dispatcher.worker_pool.workers
        dispatcher.drain_worker(other)
        self.program = DiesAtStart
        self.reactor.programs[-1].process.end(1)
        self.reactor.pump([1] * 100)
        [error] = self.ask("b", dispatcher)
        self.assertIsInstance(error, NoSessionStarts)
        next_start = failing.snapshot().next_start
        assert next_start is not None
        self.assertEqual(error.retry_after, math.ceil(next_start - self.reactor.seconds()))

    def test_during_an_outage(self) -> None:
        """
        While the agent is throttled, that is the reason; when it may be tried again but no
        session can be started, the next request is no probe, and the failure is the reason.
        """
        self.program = SilentKiro
        dispatcher = self.start(workers=1)
        self.reactor.advance(4)
        self.ask("a", dispatcher)
        program = self.reactor.programs[-1]
        program.print("ThrottlingException\n\n")
        program.show_prompt()
        self.reactor.advance(0)
        self.program = DiesAtStart
        program.process.end(1)
        self.assertEqual([error.code for error in self.ask("b", dispatcher)], ["throttled"])
        self.assertEqual(dispatcher.state().name, "throttled")
        self.reactor.pump([1] * 100)
        self.assertEqual([error.code for error in self.ask("c", dispatcher)], ["no_session"])
        self.assertEqual(dispatcher.state().name, "failed")

    def test_agent_gone(self) -> None:
        """
        If the agent's program cannot be run, requests are refused as soon as no worker has a
        session, and the reason is the program's.
        """
        problems: list[str | None] = [None]
        self.program = SilentKiro
        dispatcher = self.start(workers=1, agent_problem=lambda: problems[0])
        self.reactor.advance(4)
        problems[0] = "kiro-cli: not found"
        self.ask("a", dispatcher)
        waiting = self.ask("b", dispatcher)
        self.assertEqual(dispatcher.state().name, "serving")
        self.program = DiesAtStart
        self.reactor.programs[-1].process.end(1)
        self.reactor.advance(0)
        for results in (waiting, self.ask("c", dispatcher)):
            [error] = results
            self.assertIsInstance(error, NoSessionStarts)
            self.assertIn("kiro-cli: not found", str(error))
            self.assertEqual(error.retry_after, 5)
        problems[0] = None
        self.assertEqual(dispatcher.state().name, "starting")

    def test_quotes_nobody(self) -> None:
        """
        The reason has what a session printed that was never ready, but not what one printed in
        its turn, which may quote the client.
        """
        self.program = SilentKiro
        dispatcher = self.start(workers=1)
        self.reactor.advance(4)
        self.ask("my secret", dispatcher)
        self.reactor.programs[-1].print("my secret\n")
        self.program = DiesAtStart
        self.reactor.programs[-1].process.end(1)
        self.reactor.advance(0)
        detail = dispatcher.state().detail or ""
        self.assertEqual(detail, "No worker is ready; the last session ended: exit status 1")
        [worker] = dispatcher.workers()
        self.assertIn("my secret", worker.last_error or "")
        self.reactor.pump([1] * 10)
        self.assertIn("cannot open the display", dispatcher.state().detail or "")


class PauseTests(DispatcherTestCase):
    """
    Tests for `pause` and `resume`.
    """

    def test_pause(self) -> None:
        """
        Running requests finish, and new ones wait until the dispatcher resumes.
        """
        running = self.ask("a")
        self.dispatcher.pause()
        waiting = self.ask("b")
        self.say(0, "A")
        self.assertEqual((len(running), waiting), (1, []))
        self.dispatcher.resume()
        self.reactor.advance(0)
        self.assertEqual(self.prompts(1), ["b"])

    def test_log(self) -> None:
        """
        The log says once that requests wait because of an operator, and once that they do not.
        """
        dispatcher = self.start(agent="kiro")
        with capturedLogs() as logs:
            for change in (
                dispatcher.pause,
                dispatcher.pause,
                dispatcher.resume,
                dispatcher.resume,
            ):
                change()
        self.assertEqual(
            [formatEvent(event) for event in logs],
            ["kiro: paused; new requests wait", "kiro: resumed; 0 request(s) wait"],
        )

    def test_queue_timeout_while_paused(self) -> None:
        """
        The queue's time-out applies while the dispatcher is paused.
        """
        self.dispatcher.pause()
        waiting = self.ask("a")
        self.reactor.advance(30)
        self.assertIsInstance(waiting[0], NoWorkerFree)
        self.assertEqual(str(waiting[0]), "An operator paused the pool, try again")
        waiting = results_of(submit_to(self.dispatcher, "b", RequestOptions(timeout=1)))
        self.reactor.advance(1)
        reason = "No answer within 1 seconds: An operator paused the pool"
        self.assertEqual([str(error) for error in waiting], [reason])

    def test_drained(self) -> None:
        """
        A request that waits while every worker is drained is told that.
        """
        for worker in self.dispatcher.worker_pool.workers:
            self.dispatcher.drain_worker(worker)
        waiting = self.ask("a")
        self.reactor.advance(30)
        self.assertEqual(str(waiting[0]), "An operator drained every worker, try again")


class CircuitBreakerTests(DispatcherTestCase):
    """
    Tests for failures that affect every session.
    """

    throttled = "Too many requests, please wait 40 seconds before trying again\n\n"

    def print_failure(self, number: int, text: str) -> None:
        program = self.reactor.programs[number]
        program.print(text)
        program.show_prompt()
        self.reactor.advance(0)

    def test_throttled(self) -> None:
        """
        Waiting and new requests are refused while the circuit is open; then one request
        at a time probes the agent, and its answer closes the circuit.
        """
        first, second, third = self.ask("a"), self.ask("b"), self.ask("c")
        self.print_failure(0, self.throttled)
        for results in (first, third):
            self.assertEqual((results[0].kind, results[0].retry_after), ("throttled", 40))
        self.assertEqual(second, [])
        self.reactor.advance(10)
        self.assertEqual(self.ask("d")[0].retry_after, 30)
        self.reactor.advance(30)
        probe, refused = self.ask("e"), self.ask("f")
        # The probe's turn takes six seconds, as far as is known.
        self.assertEqual((probe, refused[0].retry_after), ([], 6))
        self.assertEqual(self.prompts(0), ["a", "e"])
        self.say(0, "E")
        self.assertEqual(len(probe), 1)
        self.assertEqual(self.ask("g"), [])

    def test_first_to_be_throttled(self) -> None:
        """
        The request that finds out is told the same time as those after it.
        """
        first = self.ask("a")
        self.print_failure(0, "ThrottlingException\n\n")
        self.assertEqual([error.retry_after for error in (*first, *self.ask("b"))], [30, 30])

    def test_still_throttled(self) -> None:
        """
        A probe that fails opens the circuit again, for longer if the agent names no time.
        """
        for prompt, delay in [("a", 30), ("b", 60), ("c", 120)]:
            self.ask(prompt)
            number = next(n for n in (0, 1) if self.reactor.programs[n].answering)
            self.print_failure(number, "ThrottlingException\n\n")
            self.assertEqual(self.ask("x")[0].retry_after, delay)
            self.reactor.advance(delay)

    def test_cancelled_probe(self) -> None:
        """
        After a probe was cancelled, the next request is a probe.
        """
        self.ask("a")
        self.print_failure(0, self.throttled)
        self.reactor.advance(40)
        probe = submit_to(self.dispatcher, "b")
        results_of(probe)
        probe.cancel()
        self.assertEqual(self.ask("c"), [])

    def test_answer_from_before(self) -> None:
        """
        An answer to a request from before the failure does not close the circuit.
        """
        self.ask("a")
        results = self.ask("b")
        self.print_failure(0, self.throttled)
        self.reactor.advance(1)
        self.say(1, "B")
        self.assertEqual(len(results), 1)
        self.assertEqual(self.ask("c")[0].retry_after, 39)


class DrainTests(DispatcherTestCase):
    """
    Tests for `drain`.
    """

    def test_nothing_to_do(self) -> None:
        """
        A dispatcher without requests is drained at once.
        """
        self.assertEqual(results_of(self.dispatcher.drain(100)), [True])

    def test_finishes(self) -> None:
        """
        Running and waiting requests are finished, even after a pause; new ones are
        refused.
        """
        self.dispatcher.pause()
        results = [self.ask(prompt) for prompt in "abc"]
        drained = results_of(self.dispatcher.drain(100))
        self.assertIsInstance(self.ask("d")[0], ShuttingDown)
        self.reactor.advance(0)
        for number in (0, 1, 0):
            self.assertEqual(drained, [])
            self.say(number, "X")
        self.assertEqual([len(result) for result in results], [1, 1, 1])
        self.assertEqual(drained, [True])

    def test_times_out(self) -> None:
        """
        A drain ends after its time-out, or when it is skipped.
        """
        self.ask("a")
        drained = results_of(self.dispatcher.drain(100))
        self.reactor.advance(100)
        self.assertEqual(drained, [False])
        dispatcher = self.start()
        self.ask("a", dispatcher)
        drained = results_of(dispatcher.drain(100))
        dispatcher.skip_drain()
        dispatcher.skip_drain()
        self.assertEqual(drained, [False])

    def test_cancelled(self) -> None:
        """
        A drain does not wait for a request that is cancelled.
        """
        reply = submit_to(self.dispatcher, "a")
        results_of(reply)
        drained = results_of(self.dispatcher.drain(100))
        reply.cancel()
        self.assertEqual(drained, [True])


class StopTests(DispatcherTestCase):
    """
    Tests for `stopService`, and for stopping at once.
    """

    def test_stop(self) -> None:
        """
        A stopped dispatcher refuses every request, and leaves no process and no timer.
        """
        results = [self.ask(prompt) for prompt in "abc"]
        stopped = results_of(self.dispatcher.stopService())
        self.reactor.advance(0)
        self.assertEqual(stopped, [None])
        self.assertEqual(repr(results), repr([[ShuttingDown()]] * 3))
        self.assertIsInstance(self.ask("d")[0], ShuttingDown)
        self.assertEqual(self.reactor.running, set())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_skipped_before(self) -> None:
        """
        A drain that was skipped before it begins ends at once, and no request may be
        retried.
        """
        request = self.dispatcher.submit("a")
        results = results_of(request.reply)
        self.reactor.advance(0)
        self.dispatcher.skip_drain()
        self.dispatcher.worker_pool.stop_now()
        self.assertEqual(results_of(self.dispatcher.drain(100)), [False])
        self.reactor.advance(0)
        self.assertIsInstance(results[0], SessionLost)
        self.assertIsInstance(self.dispatcher.retry_refusal(request), ShuttingDown)

    def test_no_pause(self) -> None:
        """
        A dispatcher that is draining cannot be paused.
        """
        self.ask("a")
        drained = results_of(self.dispatcher.drain(100))
        self.dispatcher.pause()
        self.say(0, "A")
        self.assertEqual(drained, [True])


class UntypableTests(SynchronousTestCase):
    """
    Tests for prompts that cannot be typed.
    """

    def test_many(self) -> None:
        """
        However many of them are next, the request after them is served.
        """
        reactor = MemoryReactor(MemoryLine)
        dispatcher = dispatcher_in(reactor, workers=1, backlog=2000, session={"dialect": "generic"})
        dispatcher.startService()
        reactor.pump([0, 0.5])
        first = results_of(submit_to(dispatcher, "first"))
        reactor.advance(0)
        untypable = [results_of(submit_to(dispatcher, "x" * 5000)) for _ in range(1500)]
        results_of(submit_to(dispatcher, "last"))
        reactor.programs[0].say("{done}")
        reactor.pump([0, 0.5, 0, 0.5, 0])
        self.assertEqual(len(first), 1)
        self.assertTrue(all(isinstance(results[0], PromptTooLarge) for results in untypable))
        typed = [program.typed for program in reactor.programs if program.typed]
        self.assertEqual(typed[-1], ["last"])


class SimulationTests(SynchronousTestCase):
    """
    Tests with random schedules, and with schedules that failed once.
    """

    def test_any_schedule(self) -> None:
        """
        Every request ends exactly once, with its own answer or an error, in the right
        order; no worker has two requests or is lost; after the stop nothing is left.
        """
        simulate(schedules=2 * settings().max_examples)

    def test_retired_worker_that_is_due(self) -> None:
        """
        A worker that is retired in the turn that makes it due is not restarted.
        """
        machine = DispatcherMachine()
        machine.begin(2, more=0, backlog=0, reset=Reset.CLEAR, overlap=False, max_requests=2)
        for _ in range(2):
            machine.answer_all(0)
            machine.ask(2, priority=5, client="a", timeout=None, arrive=True)
        machine.answer_all(0)
        machine.dispatcher.worker_pool.set_workers(1)
        machine.answer_all(0)
        machine.teardown()

    def test_lost_prompt_without_a_reset(self) -> None:
        """
        An agent that loses its prompt just when it is typed at does not give the next
        request another's answer, though nothing is cleared between them.
        """
        machine = DispatcherMachine()
        machine.begin(1, more=0, backlog=1, reset=Reset.NONE, overlap=False, max_requests=2)
        machine.answer_all(0)
        machine.reactor.programs[0].lose_prompt()
        machine.ask(2, priority=5, client="a", timeout=None, arrive=False)
        machine.answer_all(0)
        machine.answer_all(0)
        machine.every_request_has_its_own_answer()
        machine.teardown()
