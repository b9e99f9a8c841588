"""
Tests for `kiroworkers.offload.process_pool`.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
from typing import Any

from attrs import define
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kiroworkers.chat.response_schema import ClientSchemaSearch, SchemaCheck
from kiroworkers.errors import AnswerSchemaMismatch, InvalidInput, NoWorkerFree, ShuttingDown
from kiroworkers.offload.framing import HEADER
from kiroworkers.offload.process_pool import Limits, ProcessPool
from kiroworkers.tasks import AnswerSearch
from tests.memory import results_of
from tests.offload.calls import (
    Die,
    DieOnce,
    Echo,
    Environment,
    Failed,
    Forever,
    Memory,
    Print,
    ProcessId,
)


@define(eq=False)
class MemoryHelper:
    """
    The transport of a helper process whose outcomes the test writes.
    """

    protocol: Any
    written: bytes = b""
    running: bool = True
    closed: bool = False

    def write(self, data: bytes) -> None:
        self.written += data

    def take(self) -> Any:
        """
        Return the value of the `Echo` that was sent last, if one was.
        """
        frame, self.written = self.written[HEADER.size :], b""
        return pickle.loads(frame).value if frame else None

    def answer(self, value: Any) -> None:
        outcome = json.dumps(value).encode()
        self.protocol.outReceived(HEADER.pack(len(outcome)) + outcome)

    def signalProcess(self, name: str) -> None:
        self.end(signal.Signals[f"SIG{name}"])

    def closeStdin(self) -> None:
        self.closed = True

    def end(self, number: int | None = None) -> None:
        self.running = False
        reason = ProcessDone(0) if number is None else ProcessTerminated(signal=number)
        self.protocol.processEnded(Failure(reason))


class MemoryReactor(Clock):
    """
    A reactor whose processes are helpers in memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.helpers: list[MemoryHelper] = []
        self.can_start = True

    def spawnProcess(self, protocol: Any, *arguments: Any, **options: Any) -> None:
        if not self.can_start:
            raise BlockingIOError("no more processes")
        helper = MemoryHelper(protocol)
        protocol.makeConnection(helper)
        self.helpers.append(helper)

    def running(self) -> int:
        return sum(helper.running for helper in self.helpers)


class PoolTests(SynchronousTestCase):
    """
    Tests for `ProcessPool`, with helpers in memory.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.pool = ProcessPool(self.reactor, Limits(waiting=2))

    def run_call(self, value: Any, client: str = "client", **options: Any) -> list[Any]:
        results = results_of(self.pool.run(Echo(value), client, **options))
        self.reactor.advance(0)
        return results

    def test_started_on_demand(self) -> None:
        """
        A helper is started if none is idle, up to the limit; then calls wait.
        """
        self.assertEqual(self.reactor.helpers, [])
        first = self.run_call(1)
        [helper] = self.reactor.helpers
        self.assertEqual(helper.take(), 1)
        helper.answer("one")
        self.reactor.advance(0)
        self.assertEqual(first, ["one"])
        results = [self.run_call(number) for number in (2, 3, 4)]
        helper, other = self.reactor.helpers
        self.assertEqual((helper.take(), other.take()), (2, 3))
        other.answer("three")
        self.assertEqual(other.take(), 4)
        other.answer("four")
        self.reactor.advance(0)
        self.assertEqual(results, [[], ["three"], ["four"]])

    def test_idle(self) -> None:
        """
        A helper without calls is ended after a while, and one that works is not.
        """
        self.run_call(1)
        [helper] = self.reactor.helpers
        self.reactor.advance(19)
        helper.answer(1)
        self.reactor.advance(59)
        self.assertFalse(helper.closed)
        helper.take()
        self.run_call(2)
        helper.answer(2)
        self.reactor.advance(60)
        self.assertTrue(helper.closed)
        self.run_call(3)
        helper, successor = self.reactor.helpers
        self.assertEqual((helper.take(), successor.take()), (2, 3))
        helper.end()

    def test_does_not_end(self) -> None:
        """
        A helper that should have ended is killed after a while, so that another one can start.
        """
        self.run_call(1)
        [helper] = self.reactor.helpers
        helper.answer(1)
        self.reactor.advance(60)
        self.assertTrue(helper.running and helper.closed)
        self.reactor.advance(20)
        self.assertFalse(helper.running)

    def test_fair(self) -> None:
        """
        A client with many calls does not keep another one waiting.
        """
        for number in range(4):
            self.run_call(number, "greedy")
        self.run_call("mine", "modest")
        first, second = self.reactor.helpers
        self.assertEqual((first.take(), second.take()), (0, 1))
        first.answer(None)
        self.assertEqual(first.take(), "mine")

    def test_refused(self) -> None:
        """
        A call may be refused while too many of the same client wait; the answers of agents
        never are.
        """
        for number in range(4):
            self.run_call(number, refusable=True)
        self.assertRaises(NoWorkerFree, self.run_call, 4, refusable=True)
        self.assertEqual(self.run_call(5), [])
        self.assertEqual(self.run_call(6, "modest", refusable=True), [])

    def test_answers_first(self) -> None:
        """
        A check of an answer, for which a worker waits, precedes the client's other checks.
        """
        for number in range(4):
            self.run_call(number, refusable=True)
        self.run_call("answer")
        first, _ = self.reactor.helpers
        first.take()
        first.answer(None)
        self.assertEqual(first.take(), "answer")
        first.answer(None)
        self.assertEqual(first.take(), 2)

    def test_too_slow(self) -> None:
        """
        A call that takes too long fails, its helper is killed, and another one goes on.
        """
        results = [self.run_call(number) for number in range(3)]
        self.reactor.advance(20)
        self.assertEqual(str(results[0][0]), "takes more than 20 seconds")
        self.assertEqual([helper.running for helper in self.reactor.helpers], [False, False, True])
        self.assertEqual(self.reactor.helpers[2].take(), 2)

    def test_cpu_time(self) -> None:
        """
        A call that used too much CPU time fails and is not tried again.
        """
        results = self.run_call(1)
        self.reactor.helpers[0].end(signal.SIGPROF)
        self.assertEqual(str(results[0]), "takes more than 2 seconds")
        self.assertEqual(self.reactor.running(), 0)

    def test_lost(self) -> None:
        """
        A call whose helper ended unexpectedly is tried once more, and then fails.
        """
        results = self.run_call(1)
        self.reactor.helpers[0].end(signal.SIGSEGV)
        self.assertEqual(results, [])
        self.assertEqual(self.reactor.helpers[1].take(), 1)
        self.reactor.helpers[1].end(signal.SIGSEGV)
        self.assertIsInstance(results[0], Failed)
        self.assertEqual(len(self.reactor.helpers), 2)

    def test_cancelled(self) -> None:
        """
        A call that nobody waits for is stopped, whether it runs, waits or has just ended.
        """
        calls = [self.pool.run(Echo(number), "client") for number in range(4)]
        results = [results_of(call) for call in calls]
        self.reactor.advance(0)
        calls[2].cancel()
        calls[0].cancel()
        first, second, third = self.reactor.helpers
        self.assertEqual((first.running, second.running, third.take()), (False, True, 3))
        second.answer("late")
        calls[1].cancel()
        self.reactor.advance(0)
        for result in results[:3]:
            self.assertIsInstance(result[0], CancelledError)
        self.assertEqual(results[3], [])

    def test_cannot_start(self) -> None:
        """
        A call fails if no process can be started, and waits if another one runs.
        """
        self.reactor.can_start = False
        [failure] = self.run_call(1)
        self.assertIsInstance(failure, Failed)
        self.reactor.can_start = True
        self.run_call(2)
        self.reactor.can_start = False
        results = self.run_call(3)
        self.reactor.helpers[0].answer(None)
        self.reactor.helpers[0].answer("three")
        self.reactor.advance(0)
        self.assertEqual(results, ["three"])

    def test_stopped(self) -> None:
        """
        At the end all helpers are killed, all calls fail, and no more are accepted.
        """
        results = [self.run_call(number) for number in range(3)]
        stopped = results_of(self.pool.stopService())
        self.assertEqual((self.reactor.running(), len(stopped)), (0, 1))
        for result in results:
            self.assertIsInstance(result[0], ShuttingDown)
        self.assertRaises(ShuttingDown, self.run_call, 3)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class HelperTests(TestCase):
    """
    Tests for `ProcessPool`, with real processes.
    """

    def setUp(self) -> None:
        self.pool = ProcessPool(reactor, Limits(cpu=0.3))
        self.addCleanup(self.pool.stopService)

    def run_call(self, call: Any) -> Deferred[Any]:
        return self.pool.run(call, "client")

    async def test_values(self) -> None:
        """
        Values survive the way to a helper and back, long ones and lone surrogates too, and
        one helper serves many calls.
        """
        for value in ([1, {"é": None}], "\ud800", "x" * 2**22):
            self.assertEqual(await self.run_call(Echo(value)), value)
        self.assertEqual(await self.run_call(ProcessId()), await self.run_call(ProcessId()))

    async def test_isolated(self) -> None:
        """
        A helper has no environment, and what it prints is no outcome.
        """
        names, folder = await self.run_call(Environment())
        self.assertEqual(set(names) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"}, set())
        self.assertEqual(folder, "/")
        self.assertEqual(await self.run_call(Print()), "returned")

    async def test_nested(self) -> None:
        """
        A call with a value that is nested too deeply fails.
        """
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        with self.assertRaises(Failed):
            await self.run_call(Echo(deep))
        self.assertEqual(await self.run_call(Echo(1)), 1)

    async def test_limits(self) -> None:
        """
        A call without end and one that needs too much memory fail, and the next ones run.
        """
        for call, reason in (
            (Forever(), "takes more than 0.3 seconds"),
            (Memory(), "needs more than 256 MiB of memory"),
        ):
            failure = await self.assertFailure(self.run_call(call), Failed)
            self.assertEqual(str(failure), reason)
        self.assertEqual(await self.run_call(Echo(1)), 1)

    async def test_killed(self) -> None:
        """
        A call whose helper is killed is run again by another helper, but only once.
        """
        path = os.path.abspath(self.mktemp())
        self.assertEqual(await self.run_call(DieOnce(path)), "survived")
        await self.assertFailure(self.run_call(Die()), Failed)
        self.assertEqual(await self.run_call(Echo(1)), 1)

    async def test_cancelled(self) -> None:
        """
        A call that is cancelled frees its helper.
        """
        calls = [self.run_call(Forever()) for _ in range(4)]
        for call in calls:
            call.cancel()
            await self.assertFailure(call, CancelledError)
        self.assertEqual(await self.run_call(Echo(1)), 1)

    async def test_hostile_schemas(self) -> None:
        """
        A schema whose check or whose use doubles the work again and again is refused within
        the limits.
        """
        wide = {"$defs": {"a": {"anyOf": [False] * 1000}}, "anyOf": [{"$ref": "#/$defs/a"}] * 940}
        empty: Any = {"anyOf": [{}] * 7400}
        doubling = {
            "$defs": {
                **{
                    f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"not": {}}] * 2}
                    for n in range(30)
                },
                "d30": False,
            },
            "$ref": "#/$defs/d0",
        }
        for schema in (wide, empty, doubling):
            check = self.run_call(SchemaCheck(schema, "field"))
            search = self.run_call(ClientSchemaSearch('{"a": 1}', schema))
            for call, error in ((check, InvalidInput), (search, AnswerSchemaMismatch)):
                try:
                    await call
                except error as problem:
                    self.assertLess(len(problem.reason), 500)
        failure = await self.assertFailure(
            self.run_call(ClientSchemaSearch('{"a": 1}', wide)), AnswerSchemaMismatch
        )
        self.assertTrue(failure.reason)

    async def test_searches(self) -> None:
        """
        A search has the same result in a helper.
        """
        schema = {"properties": {"n": {"type": "integer"}}, "required": ["n"]}
        good = AnswerSearch('{"n": "5", "x": "one\n two"}', schema, wrapped=True)
        with self.assertRaises(Exception) as here:
            good.find()
        failure = await self.assertFailure(self.run_call(good), type(here.exception))
        self.assertEqual(failure.reason, here.exception.reason)
        for text in ('{"n": "5"}', '{"n": 5}', '{"n": 1} {"m": 1}'):
            search = AnswerSearch(text, schema)
            self.assertEqual(await self.run_call(search), search.find())
        unfit = AnswerSearch('{"m": 1}', schema)
        failure = await self.assertFailure(self.run_call(unfit), AnswerSchemaMismatch)
        self.assertEqual(failure.reason, "n is required")

    async def test_ended(self) -> None:
        """
        No helper is left after the service has stopped, whatever it was doing.
        """
        busy = self.run_call(Forever())
        identifier = await self.run_call(ProcessId())
        stopped = self.pool.stopService()
        await self.assertFailure(busy, ShuttingDown)
        await stopped
        with self.assertRaises(ProcessLookupError):
            os.kill(identifier, 0)
