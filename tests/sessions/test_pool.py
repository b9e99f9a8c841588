"""
Tests for `kiroworkers.sessions.pool`.
"""

from __future__ import annotations

import random
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import (
    NoWorkerFree,
    OutputTooLong,
    SessionLost,
    ShuttingDown,
    TimedOut,
    WorkError,
)
from kiroworkers.sessions.pool import Answer, Pool, Queue
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.sessions.support import pool_in, watched


class PoolTestCase(SynchronousTestCase):
    """
    A pool in memory whose programs answer when they are told to.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.pool = self.start()

    def start(self, **changes: Any) -> Pool:
        pool = pool_in(self.reactor, **changes)
        pool.startService()
        self.reactor.advance(0)
        return pool

    def ask(self, prompt: str, pool: Pool | None = None) -> list[Any]:
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
        self.assertEqual(self.pool.queue(), Queue(2, 32))
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
        self.assertIsInstance(results[0], Answer)

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
        self.assertEqual(repr(results), repr([TimedOut(120.0)]))
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
        self.assertEqual(repr(waiting), repr([TimedOut(120.0)]))

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
        self.assertEqual([each.state for each in self.pool.crew.snapshots()], ["idle", "idle"])

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
        results = self.ask("a")
        self.die(0)
        self.assertEqual(self.asked(1), ["a"])
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
        self.assertEqual(repr(results), repr([TimedOut(120.0)]))


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


class ScheduleTests(SynchronousTestCase):
    """
    Any schedule of requests, deaths, hang-ups and silence.
    """

    @given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 6))
    @settings(max_examples=150, deadline=None)
    def test_own_answer_or_a_clear_refusal(self, seed: int, workers: int, backlog: int) -> None:
        """
        Every request ends exactly once, with its own answer or a `WorkError`;
        late output answers nobody; after the stop nothing is left.
        """
        chance = random.Random(seed)
        reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        pool = pool_in(reactor, workers=workers, backlog=backlog)
        pool.startService()
        asked: list[tuple[str, Deferred[Answer], list[Any]]] = []
        for step in range(60):
            match chance.choice("aaassssdghix."):
                case "a":
                    reply = pool.submit(f"question {step}.")
                    asked.append((f"question {step}.", reply, watched(reply)))
                case "s" | "d" | "h" | "i" as action:
                    program = chance.choice(reactor.programs)
                    if action == "d":
                        program.process.end(signal=9)
                    elif action == "h":
                        program.interruptible = False
                    elif action == "i" and program.reading:
                        program.stray()
                    elif action == "s" and program.answering:
                        program.say(f"answer to {program.typed[-1]}")
                case "g" if asked:
                    chance.choice(asked)[1].cancel()
                case "x":
                    reactor.advance(chance.choice([1, 6, 31, 121]))
            if chance.random() < 0.8:
                reactor.advance(0)
        reactor.advance(200)
        for prompt, _, results in asked:
            self.assertEqual(len(results), 1, prompt)
            if isinstance(results[0], Answer):
                # A prompt that strays just when it is typed at ends a turn with
                # nothing said; no task takes that for an answer.
                answers = re.findall(r"answer to (.*\.)", results[0].reply.text)
                self.assertIn(answers, ([prompt], []))
            else:
                self.assertIsInstance(results[0], WorkError | CancelledError)
        pool.stopService()
        reactor.advance(200)
        self.assertEqual(reactor.running, set())
        self.assertEqual(reactor.getDelayedCalls(), [])
