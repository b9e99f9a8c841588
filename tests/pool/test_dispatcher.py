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
from tests.memory import MemoryLine, pool_in, watched
from tests.pool.simulation import PoolMachine, simulate


class PoolTestCase(SynchronousTestCase):
    """
    A pool in memory whose programs answer when they are told to.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.pool = self.start()

    def start(self, **changes: Any) -> Dispatcher:
        pool = pool_in(self.reactor, **changes)
        pool.startService()
        self.reactor.advance(0)
        return pool

    def ask(self, prompt: str, pool: Dispatcher | None = None) -> list[Any]:
        results = watched((pool or self.pool).submit(prompt))
        self.reactor.advance(0)
        return results

    def asked(self, number: int) -> list[str]:
        """
        What program `number` was asked, its clearing left out.
        """
        typed = self.reactor.programs[number].typed
        return [line for line in typed if line not in ("/clear", "y", "n")]

    def say(self, number: int, text: str) -> None:
        self.reactor.programs[number].say(text)
        self.reactor.advance(0)


class JudgeTests(PoolTestCase):
    """
    Tests for answers that do not fit, and for who is told what becomes of a request.
    """

    def submit(self, prompt: str) -> list[Any]:
        def validate(reply: Reply) -> str | None:
            return None if "good" in reply.text else "again"

        self.told: list[Any] = []
        results = watched(self.pool.submit(prompt, None, validate, self.told.append))
        self.reactor.advance(0)
        return results

    def test_another_worker(self) -> None:
        """
        An answer that did not fit, nor when it was asked for once more, is asked of
        another worker.
        """
        results = self.submit("a")
        self.say(0, "bad")
        self.say(0, "worse")
        self.assertEqual(results, [])
        self.assertEqual((self.asked(0), self.asked(1)), (["a", "again"], ["a"]))
        self.say(1, "good")
        [answer] = results
        self.assertEqual((answer.worker, answer.attempts), ("worker2", 2))
        # The lines after an answer say what it cost.
        told = [
            each
            for each in self.told
            if not (isinstance(each, PartialText) and (each.text == "\n" or "Credits" in each.text))
        ]
        self.assertEqual(
            told,
            [
                Started("worker1", 1),
                PartialText("bad\n"),
                PartialText("worse\n"),
                Retrying("its answer did not fit"),
                Started("worker2", 2),
                PartialText("good\n"),
            ],
        )

    def test_no_third(self) -> None:
        """
        It is not asked of a third; then it is the answer, said to be unfit.
        """
        results = self.submit("a")
        for number in (0, 0, 1, 1):
            self.say(number, "bad")
        [answer] = results
        self.assertEqual((answer.attempts, answer.reply.unfit), (2, True))

    def test_queued(self) -> None:
        """
        Who waits is told the position, and how long it may take.
        """
        for prompt in "ab":
            self.ask(prompt)
        self.submit("c")
        [queued] = self.told
        self.assertEqual(queued.position, 1)
        self.submit("d")
        self.assertEqual(self.told[0].position, 2)

    def test_shutting_down(self) -> None:
        """
        A server that hurries asks nobody once more.
        """
        results = self.submit("a")
        self.pool.drain(100)
        self.say(0, "bad")
        self.pool.hurry()
        self.say(0, "worse")
        [answer] = results
        self.assertTrue(answer.reply.unfit)
        self.assertEqual(self.asked(1), [])


class RoutingTests(PoolTestCase):
    """
    Tests for who is asked.
    """

    def test_round_robin(self) -> None:
        """
        Idle workers are asked in turn.
        """
        for number, prompt in enumerate("abcd"):
            results = self.ask(prompt)
            self.say(number % 2, prompt.upper())
            self.assertEqual(results[0].worker, f"worker{number % 2 + 1}")
        self.assertEqual((self.asked(0), self.asked(1)), (["a", "c"], ["b", "d"]))

    def test_the_other_one(self) -> None:
        """
        When the next in turn is busy, the other is asked.
        """
        self.ask("slow")
        for prompt in ("a", "b"):
            self.ask(prompt)
            self.say(1, prompt)
        self.assertEqual((self.asked(0), self.asked(1)), (["slow"], ["a", "b"]))

    def test_queue(self) -> None:
        """
        With all busy, requests wait and are asked in the order they came.
        """
        results = [self.ask(prompt) for prompt in "abcd"]
        self.assertEqual(self.pool.queue(), QueueSnapshot(2, 32))
        self.say(1, "B")
        self.say(1, "C")
        self.say(1, "D")
        self.say(0, "A")
        texts = [result[0].reply.text.split("> ")[1][:1] for result in results]
        self.assertEqual(texts, ["A", "B", "C", "D"])
        self.assertEqual((self.asked(0), self.asked(1)), (["a"], ["b", "c", "d"]))

    def test_before_the_first_prompt(self) -> None:
        """
        A request that comes before any session is ready waits for one.
        """
        reactor = MemoryReactor()
        pool = pool_in(reactor)
        pool.startService()
        results = watched(pool.submit("early"))
        self.assertEqual(results, [])
        reactor.advance(0)
        self.assertIsInstance(results[0], TurnResult)

    def test_unsafe_prompt(self) -> None:
        """
        A prompt that cannot be typed fails, and the worker serves the next.
        """
        results = self.ask("/quit")
        self.assertIn("command", str(results[0]))
        self.ask("a")
        self.ask("b")
        self.assertEqual((self.asked(0), self.asked(1)), (["b"], ["a"]))


class RefusalTests(PoolTestCase):
    """
    Tests for requests that get no answer.
    """

    def test_full(self) -> None:
        """
        When no more may wait, a request is refused at once.
        """
        pool = self.start(backlog=1)
        for prompt in "abc":
            self.assertEqual(self.ask(prompt, pool), [])
        [refusal] = self.ask("d", pool)
        self.assertIsInstance(refusal, NoWorkerFree)
        self.assertEqual((refusal.waiting, refusal.limit), (1, 1))

    def test_no_backlog(self) -> None:
        """
        With a backlog of 0 nobody waits.
        """
        pool = self.start(backlog=0)
        self.ask("a", pool)
        self.ask("b", pool)
        self.assertIsInstance(self.ask("c", pool)[0], NoWorkerFree)

    def test_waited_too_long(self) -> None:
        """
        A request waits for so long and no longer; those behind it move up.
        """
        results = [self.ask(prompt) for prompt in "ab"]
        waiting = self.ask("c")
        self.reactor.advance(20)
        later = self.ask("d")
        self.reactor.advance(10)
        self.assertIsInstance(waiting[0], NoWorkerFree)
        self.assertEqual(later, [])
        self.say(0, "A")
        self.assertEqual(self.asked(0), ["a", "d"])
        self.assertEqual(len(results[0]), 1)

    def test_retry_after(self) -> None:
        """
        What is advised comes from the turns seen: two turns of 8 seconds on two
        workers free one every 4 seconds.
        """
        pool = self.start(backlog=1)
        for number in (2, 3):
            self.ask("x", pool)
            self.reactor.advance(8)
            self.say(number, "X")
        for prompt in "abc":
            self.ask(prompt, pool)
        [refusal] = self.ask("d", pool)
        self.assertEqual(refusal.retry_after, 8)

    def test_deadline_in_a_turn(self) -> None:
        """
        A turn that takes too long fails with the limit; the session is
        interrupted, cleared, and right for the next request.
        """
        results = self.ask("a")
        self.reactor.advance(120)
        self.assertEqual(repr(results), repr([RequestTimedOut(120.0)]))
        self.ask("b")
        self.reactor.advance(0.2)
        results = self.ask("c")
        self.assertEqual(self.asked(0), ["a", "c"])
        self.say(0, "C")
        self.assertIn("C", results[0].reply.text)

    def test_deadline_in_the_queue(self) -> None:
        """
        The deadline counts the wait, too.
        """
        pool = self.start(queue_timeout=1000.0)
        for prompt in "ab":
            self.ask(prompt, pool)
        self.reactor.advance(60)
        waiting = self.ask("c", pool)
        self.reactor.advance(60)
        self.reactor.advance(0.2)
        self.assertEqual(waiting, [])
        self.reactor.advance(60)
        self.assertEqual(repr(waiting), repr([RequestTimedOut(120.0)]))

    def test_given_up_in_the_queue(self) -> None:
        """
        A request that is given up leaves the queue, and is asked of nobody.
        """
        for prompt in "ab":
            self.ask(prompt)
        reply = self.pool.submit("c")
        results = watched(reply)
        reply.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.assertEqual(self.pool.queue().length, 0)
        self.say(0, "A")
        self.assertEqual(self.asked(0), ["a"])

    def test_given_up_in_a_turn(self) -> None:
        """
        A request that is given up in its turn frees its worker without delay.
        """
        reply = self.pool.submit("a")
        watched(reply)
        self.reactor.advance(0)
        reply.cancel()
        self.reactor.pump([0, 0.2])
        self.assertEqual(
            [each.state for each in self.pool.worker_pool.snapshots()], ["idle", "idle"]
        )

    def test_too_much_output(self) -> None:
        """
        A turn that says too much is not asked again.
        """
        results = self.ask("a")
        self.reactor.programs[0].print("y" * 200_000)
        self.reactor.advance(0)
        self.assertEqual(repr(results), repr([OutputTooLong(100_000)]))
        self.assertEqual(self.asked(1), [])


class DeathTests(PoolTestCase):
    """
    Tests for sessions that die while they are asked.
    """

    def die(self, number: int) -> None:
        self.reactor.programs[number].process.end(signal=9)
        self.reactor.advance(0)

    def test_moves_to_another_worker(self) -> None:
        """
        A request whose session dies is asked of another worker at once.
        """
        # One that is over, and nothing else to do, comes before.
        self.ask("z")
        self.say(0, "Z")
        self.ask("w")
        self.say(1, "W")
        results = self.ask("a")
        self.die(0)
        self.assertEqual(self.asked(1), ["w", "a"])
        self.say(1, "A")
        self.assertEqual((results[0].worker, results[0].attempts), ("worker2", 2))

    def test_goes_first(self) -> None:
        """
        With no other worker free it is first in the queue.
        """
        self.ask("a")
        self.ask("b")
        self.ask("c")
        self.die(0)
        self.say(1, "B")
        self.assertEqual(self.asked(1), ["b", "a"])

    def test_goes_first_without_backlog(self) -> None:
        """
        A request that was taken on is not refused because nobody may wait.
        """
        pool = self.start(backlog=0, workers=1)
        results = self.ask("a", pool)
        self.die(2)
        self.assertEqual(results, [])
        self.reactor.advance(5)
        self.assertEqual(self.asked(3), ["a"])

    def test_once(self) -> None:
        """
        A request whose second session dies, too, fails.
        """
        results = self.ask("a")
        self.die(0)
        self.die(1)
        self.assertEqual(repr(results), repr([SessionLost("killed by SIGKILL", 2)]))

    def test_within_its_deadline(self) -> None:
        """
        The second attempt gets only the time that is left.
        """
        results = self.ask("a")
        self.reactor.advance(100)
        self.die(0)
        self.reactor.advance(20)
        self.assertEqual(repr(results), repr([RequestTimedOut(120.0)]))


class TermsTests(PoolTestCase):
    """
    Tests for requests with terms of their own.
    """

    def seen(self, seconds: float) -> Dispatcher:
        """
        A pool of one that has seen five turns of so many seconds.
        """
        self.pool.stopService()
        self.reactor.advance(10)
        self.reactor.programs.clear()
        pool = self.start(workers=1)
        for _ in range(5):
            self.ask("x", pool)
            self.reactor.advance(seconds)
            self.say(0, "X")
        return pool

    def refusal(self, pool: Dispatcher, options: RequestOptions) -> list[Any]:
        results = watched(pool.submit("y", options))
        self.reactor.advance(0)
        return results

    def test_own_deadline(self) -> None:
        """
        A shorter deadline of the client's holds; a longer one does not.
        """
        short = watched(self.pool.submit("a", RequestOptions(timeout=10)))
        long = watched(self.pool.submit("b", RequestOptions(timeout=1000)))
        self.reactor.advance(10)
        self.assertEqual(repr(short), repr([RequestTimedOut(10)]))
        self.reactor.advance(110)
        self.assertEqual(repr(long), repr([RequestTimedOut(120.0)]))

    def test_no_time_for_a_turn(self) -> None:
        """
        An idle worker is not asked for what no turn took as little time as.
        """
        pool = self.seen(8)
        [refusal] = self.refusal(pool, RequestOptions(timeout=7))
        self.assertEqual(repr(refusal), repr(DeadlineUnachievable(7, 8.0, 1)))
        self.assertEqual(self.refusal(pool, RequestOptions(timeout=9)), [])

    def test_no_time_in_the_queue(self) -> None:
        """
        What must wait for a turn first is refused at once when that leaves too
        little time.
        """
        pool = self.seen(8)
        self.ask("a", pool)
        self.reactor.advance(2)
        [refusal] = self.refusal(pool, RequestOptions(timeout=13))
        self.assertEqual((refusal.expected, refusal.retry_after), (14, 6))
        self.assertEqual(self.refusal(pool, RequestOptions(timeout=15)), [])
        self.assertEqual(pool.queue().length, 1)

    def test_queue_too_long(self) -> None:
        """
        Nor is a request taken that would wait longer than the queue's time-out.
        """
        pool = self.seen(8)
        self.ask("a", pool)
        taken = [self.ask("b", pool) for _ in range(3)]
        [refusal] = self.ask("c", pool)
        self.assertIsInstance(refusal, NoWorkerFree)
        self.assertEqual(refusal.retry_after, 32)
        self.assertEqual(taken, [[], [], []])

    def test_old_turns_refuse_nobody(self) -> None:
        """
        Turns of long ago refuse nobody.
        """
        pool = self.seen(8)
        self.reactor.advance(601)
        self.assertEqual(self.refusal(pool, RequestOptions(timeout=1)), [])

    def test_priority(self) -> None:
        """
        The more urgent is asked first.
        """
        for prompt in "ab":
            self.ask(prompt)
        for prompt, priority in [("c", 0), ("d", 5), ("e", 9)]:
            watched(self.pool.submit(prompt, RequestOptions(priority=priority)))
        for _ in range(3):
            self.say(0, "X")
        self.assertEqual(self.asked(0), ["a", "e", "d", "c"])

    def test_fair_share(self) -> None:
        """
        A client with many requests does not keep another from its first.
        """
        for prompt in "abcd":
            watched(self.pool.submit(prompt, RequestOptions(client="greedy")))
        watched(self.pool.submit("e", RequestOptions(client="modest")))
        self.reactor.advance(0)
        self.say(0, "A")
        self.assertEqual(self.asked(0), ["a", "e"])

    def test_fair_share_of_a_full_queue(self) -> None:
        """
        When no more may wait, the client that has most waiting gives a place up
        for one that has none.
        """
        pool = self.start(backlog=2, workers=1)
        greedy = [watched(pool.submit(prompt, RequestOptions(client="greedy"))) for prompt in "abc"]
        modest = watched(pool.submit("d", RequestOptions(client="modest")))
        self.assertIsInstance(greedy[2][0], NoWorkerFree)
        self.assertEqual((greedy[:2], modest), ([[], []], []))
        again = watched(pool.submit("e", RequestOptions(client="modest")))
        self.assertIsInstance(again[0], NoWorkerFree)

    def test_snapshots(self) -> None:
        """
        Every request can be seen, with its terms and where it is.
        """
        options = RequestOptions(timeout=50, priority=7, client="me", label="task")
        for prompt in "ab":
            self.ask(prompt)
        watched(self.pool.submit("c", options))
        *_, running, waiting = self.pool.requests()
        self.assertEqual((running.worker, running.attempts), ("worker2", 1))
        self.assertEqual((waiting.worker, waiting.options), (None, options))
        self.assertEqual(waiting.deadline - waiting.arrived, 50)


class PauseTests(PoolTestCase):
    """
    Tests for a pool that is paused.
    """

    def test_pause(self) -> None:
        """
        What runs goes on, what comes waits, and is asked when the pool resumes.
        """
        running = self.ask("a")
        self.pool.pause()
        waiting = self.ask("b")
        self.say(0, "A")
        self.assertEqual((len(running), waiting), (1, []))
        self.pool.resume()
        self.reactor.advance(0)
        self.assertEqual(self.asked(1), ["b"])

    def test_not_for_ever(self) -> None:
        """
        Who waits for a paused pool waits no longer than for a busy one.
        """
        self.pool.pause()
        waiting = self.ask("a")
        self.reactor.advance(30)
        self.assertIsInstance(waiting[0], NoWorkerFree)


class OutageTests(PoolTestCase):
    """
    Tests for troubles that every session has.
    """

    throttled = "Too many requests, please wait 40 seconds before trying again\n\n"

    def record_failure(self, number: int, words: str) -> None:
        program = self.reactor.programs[number]
        program.print(words)
        program.show_prompt()
        self.reactor.advance(0)

    def test_throttled(self) -> None:
        """
        Who waits is refused with what is left of the time, and who comes, until
        it is over; then one at a time may try, and an answer is its end.
        """
        first, second, third = self.ask("a"), self.ask("b"), self.ask("c")
        self.record_failure(0, self.throttled)
        for results in (first, third):
            self.assertEqual((results[0].kind, results[0].retry_after), ("throttled", 40))
        self.assertEqual(second, [])
        self.reactor.advance(10)
        self.assertEqual(self.ask("d")[0].retry_after, 30)
        self.reactor.advance(30)
        trial, refused = self.ask("e"), self.ask("f")
        self.assertEqual((trial, refused[0].retry_after), ([], 1))
        self.assertEqual(self.asked(0), ["a", "e"])
        self.say(0, "E")
        self.assertEqual(len(trial), 1)
        self.assertEqual(self.ask("g"), [])

    def test_still_throttled(self) -> None:
        """
        A trial that fails begins the time anew, longer where none was named.
        """
        for prompt, patience in [("a", 30), ("b", 60), ("c", 120)]:
            self.ask(prompt)
            number = next(n for n in (0, 1) if self.reactor.programs[n].answering)
            self.record_failure(number, "ThrottlingException\n\n")
            self.assertEqual(self.ask("x")[0].retry_after, patience)
            self.reactor.advance(patience)

    def test_trial_given_up(self) -> None:
        """
        A trial that is given up leaves it to the next.
        """
        self.ask("a")
        self.record_failure(0, self.throttled)
        self.reactor.advance(40)
        trial = self.pool.submit("b")
        watched(trial)
        trial.cancel()
        self.assertEqual(self.ask("c"), [])

    def test_answer_from_before(self) -> None:
        """
        An answer to what was asked before the outage is no sign that it is over.
        """
        self.ask("a")
        results = self.ask("b")
        self.record_failure(0, self.throttled)
        self.reactor.advance(1)
        self.say(1, "B")
        self.assertEqual(len(results), 1)
        self.assertEqual(self.ask("c")[0].retry_after, 39)

    def test_retry_in_an_outage(self) -> None:
        """
        A request whose session dies while none can answer is refused, not kept.
        """
        self.ask("a")
        results = self.ask("b")
        self.record_failure(0, self.throttled)
        self.reactor.programs[1].process.end(signal=9)
        self.reactor.advance(0)
        self.assertEqual(results[0].kind, "throttled")


class DrainTests(PoolTestCase):
    """
    Tests for `drain`.
    """

    def test_nothing_to_do(self) -> None:
        """
        An idle pool is drained at once.
        """
        self.assertEqual(watched(self.pool.drain(100)), [True])

    def test_finishes(self) -> None:
        """
        What runs and what waits is finished, also of a paused pool; what comes is
        refused.
        """
        self.pool.pause()
        results = [self.ask(prompt) for prompt in "abc"]
        drained = watched(self.pool.drain(100))
        self.assertIsInstance(self.ask("d")[0], ShuttingDown)
        self.reactor.advance(0)
        for number in (0, 1, 0):
            self.assertEqual(drained, [])
            self.say(number, "X")
        self.assertEqual([len(each) for each in results], [1, 1, 1])
        self.assertEqual(drained, [True])

    def test_only_for_so_long(self) -> None:
        """
        After the time, or a word, requests are waited for no longer.
        """
        self.ask("a")
        drained = watched(self.pool.drain(100))
        self.reactor.advance(100)
        self.assertEqual(drained, [False])
        pool = self.start()
        self.ask("a", pool)
        drained = watched(pool.drain(100))
        pool.hurry()
        pool.hurry()
        self.assertEqual(drained, [False])

    def test_given_up(self) -> None:
        """
        A client that hangs up ends the wait for its request.
        """
        reply = self.pool.submit("a")
        watched(reply)
        drained = watched(self.pool.drain(100))
        reply.cancel()
        self.assertEqual(drained, [True])


class StopTests(PoolTestCase):
    """
    Tests for the end of the pool.
    """

    def test_stop(self) -> None:
        """
        A stopped pool refuses everything and leaves no process and no timer.
        """
        results = [self.ask(prompt) for prompt in "abc"]
        stopped = watched(self.pool.stopService())
        self.reactor.advance(0)
        self.assertEqual(stopped, [None])
        self.assertEqual(repr(results), repr([[ShuttingDown()]] * 3))
        self.assertIsInstance(self.ask("d")[0], ShuttingDown)
        self.assertEqual(self.reactor.running, set())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_hurried_before(self) -> None:
        """
        A word to hurry that comes before the drain holds for it, and requests whose
        sessions end then are not asked again.
        """
        results = self.ask("a")
        self.pool.hurry()
        self.pool.worker_pool.stop_now()
        self.assertEqual(watched(self.pool.drain(100)), [False])
        self.reactor.advance(0)
        self.assertIsInstance(results[0], ShuttingDown)

    def test_no_pause(self) -> None:
        """
        A pool that is draining is not paused.
        """
        self.ask("a")
        drained = watched(self.pool.drain(100))
        self.pool.pause()
        self.say(0, "A")
        self.assertEqual(drained, [True])


class UntypableTests(SynchronousTestCase):
    """
    Tests for prompts that an agent cannot be given.
    """

    def test_many(self) -> None:
        """
        However many of them are next, who comes after them is asked.
        """
        reactor = MemoryReactor(MemoryLine)
        pool = pool_in(reactor, workers=1, backlog=2000, session={"dialect": "generic"})
        pool.startService()
        reactor.pump([0, 0.5])
        first = watched(pool.submit("first"))
        reactor.advance(0)
        untypable = [watched(pool.submit("x" * 5000)) for _ in range(1500)]
        watched(pool.submit("last"))
        reactor.programs[0].say("done")
        reactor.pump([0, 0.5, 0, 0.5, 0])
        self.assertEqual(len(first), 1)
        self.assertTrue(all(isinstance(each[0], PromptTooLarge) for each in untypable))
        self.assertEqual([each.typed for each in reactor.programs if each.typed][-1], ["last"])


class SimulationTests(SynchronousTestCase):
    """
    Tests for any schedule.
    """

    def test_any_schedule(self) -> None:
        """
        Every request ends exactly once, with its own answer or a clear refusal, in
        the right order; no worker has two requests or is lost; after the stop
        nothing is left.
        """
        simulate(schedules=250)

    def test_retired_worker_that_is_due(self) -> None:
        """
        A worker that is let go in the turn that makes it due is not renewed.
        """
        pool = PoolMachine()
        pool.begin(2, more=0, backlog=0, reset=Reset.CLEAR, room=False, max_requests=2)
        for _ in range(2):
            pool.answer_all(0)
            pool.ask(2, priority=5, client="a", timeout=None, arrive=True)
        pool.answer_all(0)
        pool.pool.worker_pool.set_workers(1)
        pool.answer_all(0)
        pool.teardown()

    def test_strays_without_a_reset(self) -> None:
        """
        A prompt that strays just when it is typed at gives the next request no
        answer of another's, though nothing is cleared between them.
        """
        pool = PoolMachine()
        pool.begin(1, more=0, backlog=1, reset=Reset.NONE, room=False, max_requests=2)
        pool.answer_all(0)
        pool.reactor.programs[0].stray()
        pool.ask(2, priority=5, client="a", timeout=None, arrive=False)
        pool.answer_all(0)
        pool.answer_all(0)
        pool.each_has_its_own()
        pool.teardown()
