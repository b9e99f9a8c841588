"""
Tests for `kiroworkers.pool.dispatcher`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import (
    DeadlineUnachievable,
    NoWorkerFree,
    OutputTooLong,
    PromptTooLarge,
    RequestTimedOut,
    SessionLost,
    ShuttingDown,
)
from kiroworkers.pool.dispatcher import Dispatcher, QueueSnapshot, RequestOptions, TurnResult
from kiroworkers.pool.progress import PartialText, Retrying, Started
from kiroworkers.session.session import Reply, Reset
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import MemoryLine, dispatcher_in, results_of
from tests.pool.simulation import DispatcherMachine, simulate


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
        results = results_of((dispatcher or self.dispatcher).submit(prompt))
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


class ValidationTests(DispatcherTestCase):
    """
    Tests for rejected answers, and for the progress of a request.
    """

    def submit(self, prompt: str) -> list[Any]:
        def validate(reply: Reply) -> str | None:
            return None if "good" in reply.text else "again"

        self.progress: list[Any] = []
        results = results_of(self.dispatcher.submit(prompt, None, validate, self.progress.append))
        self.reactor.advance(0)
        return results

    def test_another_worker(self) -> None:
        """
        A request whose answer is rejected twice is sent to another worker.
        """
        results = self.submit("a")
        self.say(0, "bad")
        self.say(0, "worse")
        self.assertEqual(results, [])
        self.assertEqual((self.prompts(0), self.prompts(1)), (["a", "again"], ["a"]))
        self.say(1, "good")
        [answer] = results
        self.assertEqual((answer.worker, answer.attempts), ("worker2", 2))
        # The lines after an answer tell what it cost.
        progress = [
            event
            for event in self.progress
            if not (
                isinstance(event, PartialText) and (event.text == "\n" or "Credits" in event.text)
            )
        ]
        self.assertEqual(
            progress,
            [
                Started("worker1", 1),
                PartialText("bad\n"),
                PartialText("worse\n"),
                Retrying("the answer does not match the schema"),
                Started("worker2", 2),
                PartialText("good\n"),
            ],
        )

    def test_no_third_worker(self) -> None:
        """
        No third worker is tried: the second one's answer is returned as rejected.
        """
        results = self.submit("a")
        for number in (0, 0, 1, 1):
            self.say(number, "bad")
        [answer] = results
        self.assertEqual((answer.attempts, answer.reply.rejected), (2, True))

    def test_queued(self) -> None:
        """
        A waiting request reports its position.
        """
        for prompt in "ab":
            self.ask(prompt)
        self.submit("c")
        [queued] = self.progress
        self.assertEqual(queued.position, 1)
        self.submit("d")
        self.assertEqual(self.progress[0].position, 2)

    def test_shutting_down(self) -> None:
        """
        No request is retried after a drain was skipped.
        """
        results = self.submit("a")
        self.dispatcher.drain(100)
        self.say(0, "bad")
        self.dispatcher.skip_drain()
        self.say(0, "worse")
        [answer] = results
        self.assertTrue(answer.reply.rejected)
        self.assertEqual(self.prompts(1), [])


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
        texts = [result[0].reply.text.split("> ")[1][:1] for result in results]
        self.assertEqual(texts, ["A", "B", "C", "D"])
        self.assertEqual((self.prompts(0), self.prompts(1)), (["a"], ["b", "c", "d"]))

    def test_before_the_first_prompt(self) -> None:
        """
        A request that arrives before any session is ready waits for one.
        """
        reactor = MemoryReactor()
        dispatcher = dispatcher_in(reactor)
        dispatcher.startService()
        results = results_of(dispatcher.submit("early"))
        self.assertEqual(results, [])
        reactor.advance(0)
        self.assertIsInstance(results[0], TurnResult)

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
        reply = self.dispatcher.submit("c")
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
        reply = self.dispatcher.submit("a")
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

    def kill(self, number: int) -> None:
        self.reactor.programs[number].process.end(signal=9)
        self.reactor.advance(0)

    def test_moves_to_another_worker(self) -> None:
        """
        A request whose session ends is sent to another worker at once.
        """
        # Two requests are finished before.
        self.ask("z")
        self.say(0, "Z")
        self.ask("w")
        self.say(1, "W")
        results = self.ask("a")
        self.kill(0)
        self.assertEqual(self.prompts(1), ["w", "a"])
        self.say(1, "A")
        self.assertEqual((results[0].worker, results[0].attempts), ("worker2", 2))

    def test_goes_first(self) -> None:
        """
        Without another idle worker the request is first in the queue.
        """
        self.ask("a")
        self.ask("b")
        self.ask("c")
        self.kill(0)
        self.say(1, "B")
        self.assertEqual(self.prompts(1), ["b", "a"])

    def test_goes_first_without_backlog(self) -> None:
        """
        A request that is retried may wait even with a backlog of 0.
        """
        dispatcher = self.start(backlog=0, workers=1)
        results = self.ask("a", dispatcher)
        self.kill(2)
        self.assertEqual(results, [])
        self.reactor.advance(5)
        self.assertEqual(self.prompts(3), ["a"])

    def test_once(self) -> None:
        """
        A request whose second session ends as well fails.
        """
        results = self.ask("a")
        self.kill(0)
        self.kill(1)
        self.assertEqual(repr(results), repr([SessionLost("killed by SIGKILL", 2)]))

    def test_within_its_deadline(self) -> None:
        """
        The second attempt gets only the time that is left.
        """
        results = self.ask("a")
        self.reactor.advance(100)
        self.kill(0)
        self.reactor.advance(20)
        self.assertEqual(repr(results), repr([RequestTimedOut(120.0)]))


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
        results = results_of(dispatcher.submit("y", options))
        self.reactor.advance(0)
        return results

    def test_own_deadline(self) -> None:
        """
        A client's deadline applies if it is shorter than the server's.
        """
        short = results_of(self.dispatcher.submit("a", RequestOptions(timeout=10)))
        long = results_of(self.dispatcher.submit("b", RequestOptions(timeout=1000)))
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
            results_of(self.dispatcher.submit(prompt, RequestOptions(priority=priority)))
        for _ in range(3):
            self.say(0, "X")
        self.assertEqual(self.prompts(0), ["a", "e", "d", "c"])

    def test_fair_share(self) -> None:
        """
        A client with many requests does not delay the first request of another.
        """
        for prompt in "abcd":
            results_of(self.dispatcher.submit(prompt, RequestOptions(client="greedy")))
        results_of(self.dispatcher.submit("e", RequestOptions(client="modest")))
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
            results_of(dispatcher.submit(prompt, RequestOptions(client="greedy")))
            for prompt in "abc"
        ]
        modest = results_of(dispatcher.submit("d", RequestOptions(client="modest")))
        self.assertIsInstance(greedy[2][0], NoWorkerFree)
        self.assertEqual((greedy[:2], modest), ([[], []], []))
        again = results_of(dispatcher.submit("e", RequestOptions(client="modest")))
        self.assertIsInstance(again[0], NoWorkerFree)

    def test_snapshots(self) -> None:
        """
        Every unfinished request has a snapshot with its options and its worker.
        """
        options = RequestOptions(timeout=50, priority=7, client="me", label="task")
        for prompt in "ab":
            self.ask(prompt)
        results_of(self.dispatcher.submit("c", options))
        *_, running, waiting = self.dispatcher.requests()
        self.assertEqual((running.worker, running.attempts), ("worker2", 1))
        self.assertEqual((waiting.worker, waiting.options), (None, options))
        self.assertEqual(waiting.deadline - waiting.arrived, 50)


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

    def test_queue_timeout_while_paused(self) -> None:
        """
        The queue's time-out applies while the dispatcher is paused.
        """
        self.dispatcher.pause()
        waiting = self.ask("a")
        self.reactor.advance(30)
        self.assertIsInstance(waiting[0], NoWorkerFree)


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
        self.assertEqual((probe, refused[0].retry_after), ([], 1))
        self.assertEqual(self.prompts(0), ["a", "e"])
        self.say(0, "E")
        self.assertEqual(len(probe), 1)
        self.assertEqual(self.ask("g"), [])

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
        probe = self.dispatcher.submit("b")
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

    def test_no_retry_while_open(self) -> None:
        """
        A request whose session ends while the circuit is open is refused.
        """
        self.ask("a")
        results = self.ask("b")
        self.print_failure(0, self.throttled)
        self.reactor.programs[1].process.end(signal=9)
        self.reactor.advance(0)
        self.assertEqual(results[0].kind, "throttled")


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
        reply = self.dispatcher.submit("a")
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
        A drain that was skipped before it begins ends at once, and requests whose
        sessions end are not retried.
        """
        results = self.ask("a")
        self.dispatcher.skip_drain()
        self.dispatcher.worker_pool.stop_now()
        self.assertEqual(results_of(self.dispatcher.drain(100)), [False])
        self.reactor.advance(0)
        self.assertIsInstance(results[0], ShuttingDown)

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
        first = results_of(dispatcher.submit("first"))
        reactor.advance(0)
        untypable = [results_of(dispatcher.submit("x" * 5000)) for _ in range(1500)]
        results_of(dispatcher.submit("last"))
        reactor.programs[0].say("done")
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
        simulate(schedules=250)

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
