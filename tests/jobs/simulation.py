"""
Simulate jobs and idempotency keys in memory while the storage fails, in any order.

``python -m tests.jobs.simulation 5000`` tries 5000 schedules; a test tries some hundreds.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from attrs import define, evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import JobsTooLarge, RequestTimedOut, StorageUnavailable, TooManyJobs
from kiroworkers.jobs.idempotency import IdempotencyCache
from kiroworkers.jobs.job import Job, JobAnswer
from kiroworkers.jobs.runner import JobRunner
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.progress import OnProgress
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro
from tests.jobs.faults import Faults
from tests.jobs.support import UNLIMITED, HeldExecutor, new_job
from tests.memory import dispatcher_in

T = TypeVar("T")

#: When the first server is started, in seconds since the epoch.
_START = 1_700_000_000.0

_WORKERS = 2

_FAULTS = st.sampled_from(["full", "io", "locked"])

_KEYS = st.sampled_from([None, "k0", "k1"])

_IDEA = re.compile(r"idea \d+\.")

#: With what a request may be refused in these schedules.
_REFUSALS = (StorageUnavailable, TooManyJobs, JobsTooLarge, RequestTimedOut)


@define
class Accepted:
    """
    A job that a server has acknowledged.

    Attributes:
        id: Its id.
        idea: The idea in its payload.
        removed: Whether a client tried to cancel or to delete it.
    """

    id: str
    idea: str
    removed: bool = False


class JobMachine(RuleBasedStateMachine):
    """
    Run a server, kill it, and start the next one with the same file.
    """

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """
        Start the first server.
        """
        self.random = Random(seed)
        self.folder = Path(tempfile.mkdtemp())
        self.now = _START
        self.numbers = 0
        self.accepted: list[Accepted] = []
        self.by_key: dict[str, str] = {}
        self.answers: dict[str, int] = {}
        self.executed: Counter[str] = Counter()
        self.start()

    def start(self) -> None:
        """
        Start a server with the jobs of the last one.
        """
        self.faults, self.executor = Faults(), HeldExecutor()
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.reactor.advance(self.now - self.reactor.seconds())
        self.dispatcher = dispatcher_in(self.reactor, workers=_WORKERS)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups = AgentGroups([AgentGroup(agent, self.dispatcher)])
        self.agent = groups.default.name
        self.store = SqliteStore(
            self.reactor, self.reactor.seconds, self.executor, self.faults.connection
        )
        self.store.open(self.folder / "jobs.sqlite3")
        self.ended: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.turns: list[Deferred[StoredResponse]] = []
        self.runner = JobRunner(
            self.reactor,
            self.reactor.seconds,
            groups,
            builtin_tasks(),
            self.store,
            evolve(UNLIMITED, unfinished=8),
            lambda job: self.ended.update([job.id]),
        )
        self.cache = IdempotencyCache(self.reactor, self.reactor.seconds, self.store, 120.0)
        self.dispatcher.startService()
        self.reactor.advance(0)
        self.runner.startService()

    @rule(key=_KEYS, client=st.sampled_from(["ann", "bob"]))
    def order(self, key: str | None, client: str) -> None:
        """
        A client asks for a job.
        """
        self.numbers += 1
        idea = f"idea {self.numbers}." if key is None else f"idea {ord(key[1])}000."
        job = new_job("", agent=self.agent, client=client, payload={"idea": idea})
        name = None if key is None else f"{client} {key}"
        idempotency_key = None if key is None else IdempotencyKey(client, "generate-story", key)
        pending = Deferred.fromCoroutine(self.runner.accept(job, idempotency_key, idea))
        pending.addCallbacks(self._on_accepted, _check_refusal, callbackArgs=(name, idea))
        if self.random.random() < 0.3:
            pending.cancel()

    def _on_accepted(self, result: tuple[Job, bool], name: str | None, idea: str) -> None:
        job, is_new = result
        if is_new:
            self.accepted.append(Accepted(job.id, idea))
            if name is not None:
                assert name not in self.by_key, f"{name} has two jobs"
                self.by_key[name] = job.id
        else:
            assert name is not None
            assert self.by_key.setdefault(name, job.id) == job.id, f"{name} has two jobs"

    @rule(key=st.sampled_from(["s0", "s1"]), timeout=st.sampled_from([None, 1.0, 20.0]))
    def ask(self, key: str, timeout: float | None) -> None:
        """
        A client that waits for its answer sends a request with a key.
        """
        idempotency_key = IdempotencyKey("ann", "generate-story", key)

        async def execute(on_progress: OnProgress | None) -> StoredResponse:
            self.turns.append(Deferred())
            response = await self.turns[-1]
            if response.cacheable:
                self.executed[key] += 1
                return evolve(response, body={"number": self.executed[key]})
            return response

        def on_response(result: tuple[StoredResponse, bool]) -> None:
            response, _ = result
            if response.cacheable:
                number = response.body["number"]
                assert self.answers.setdefault(key, number) == number, f"{key} has two answers"

        pending = Deferred.fromCoroutine(
            self.cache.run(idempotency_key, "print", execute, None, timeout)
        )
        pending.addCallbacks(on_response, _check_refusal)
        if self.random.random() < 0.1:
            pending.cancel()

    @precondition(lambda self: any(not turn.called for turn in self.turns))
    @rule(succeeds=st.booleans())
    def end_turn(self, succeeds: bool) -> None:
        """
        A request with a key is answered, or fails.
        """
        turn = next(turn for turn in self.turns if not turn.called)
        turn.callback(StoredResponse(200 if succeeds else 504, {}, cacheable=succeeds))

    @rule()
    def answer(self) -> None:
        """
        The agent answers whatever it was asked.
        """
        for program in self.reactor.programs:
            if program.process.pid in self.reactor.running and program.answering:
                prompt = program.typed[-1]
                answer = fakekiro.answer_text(prompt) if prompt.startswith("Task: ") else None
                if answer is not None:
                    match = _IDEA.search(prompt)
                    assert match is not None
                    self.paid[match[0]] += 1
                    program.say(answer)
        self.reactor.advance(0)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0]))
    def advance(self, seconds: float) -> None:
        """
        Time passes.
        """
        self.now += seconds
        self.reactor.advance(seconds)

    @precondition(lambda self: self.executor.held is not None)
    @rule()
    def run_storage(self) -> None:
        """
        The storage does what it was told; until then it is slow.
        """
        self.executor.run()
        self.reactor.advance(0)

    @rule()
    def work(self) -> None:
        """
        Everything that is waited for happens: the storage is fast, and the agent answers.
        """
        while self.executor.held is not None:
            self.run_storage()
        self.answer()

    @rule(fault=_FAULTS, probability=st.sampled_from([0.5, 1.0]))
    def fail_at_the_end(self, fault: Any, probability: float) -> None:
        """
        The storage begins to fail just when jobs and requests end.
        """
        self.work()
        self.fail(fault, probability)
        for turn in self.turns:
            if not turn.called:
                turn.callback(StoredResponse(200, {}, cacheable=True))
        self.work()

    @rule(fault=_FAULTS, probability=st.sampled_from([0.1, 0.5, 1.0]))
    def fail(self, fault: Any, probability: float) -> None:
        """
        The storage begins to fail, sometimes or always.
        """
        self.faults.fault = fault
        self.faults.strikes = lambda: self.random.random() < probability

    @rule()
    def heal(self) -> None:
        """
        The storage works again.
        """
        self.faults.fault = None

    @precondition(lambda self: bool(self.accepted))
    @rule(delete=st.booleans(), data=st.data())
    def remove(self, delete: bool, data: Any) -> None:
        """
        A client cancels a job, or deletes one that has ended.
        """
        accepted = data.draw(st.sampled_from(self.accepted))

        async def remove() -> None:
            job = await self.store.get(accepted.id)
            if job is None:
                return
            if job.unfinished:
                accepted.removed = True
                await self.runner.cancel(job)
            elif delete:
                accepted.removed = True
                for name, id in [*self.by_key.items()]:
                    if id == job.id:
                        del self.by_key[name]
                await self.store.delete(job.id)

        Deferred.fromCoroutine(remove()).addErrback(_check_refusal)

    @rule(chance=st.integers(0, 4))
    def kill(self, chance: int) -> None:
        """
        Now and then, the server is killed, and the next one continues.
        """
        if chance:
            return
        for execution in self.cache._executions.values():
            if execution.delivered:
                # Its answer is in memory only, because the storage failed.
                self.answers.clear()
        engine: Any = self.store._queue._engine
        sqlite3.Connection.close(engine._database)
        self.start()

    @invariant()
    def bounded(self) -> None:
        """
        No more answers wait for the storage than there are workers, in each agent.
        """
        if hasattr(self, "runner"):
            for queue in self.runner._queues.values():
                assert len(queue.started) <= _WORKERS

    @invariant()
    def asked_once(self) -> None:
        """
        No server pays for an answer twice.
        """
        if hasattr(self, "paid"):
            ideas = Counter(job.idea for job in self.accepted)
            for idea, number in self.paid.items():
                assert number <= max(1, ideas[idea]), f"{idea} was answered {number} times"

    def teardown(self) -> None:
        """
        Once the faults are over, every job ends by itself and nothing is left.
        """
        if not hasattr(self, "runner"):
            return
        self.heal()
        for _ in range(30):
            self.settle()
        assert self.store.status.reason is None
        for queue in self.runner._queues.values():
            assert not queue.jobs, "a job is stuck"
        assert not self.runner._events._unfinished, "the events of a job are kept"
        assert self.result_of(self.store.unfinished()) == [], "a job would run after a restart"
        for accepted in self.accepted:
            job = self.result_of(self.store.get(accepted.id))
            if accepted.removed and (job is None or job.state == "cancelled"):
                continue
            assert job is not None, f"{accepted} was lost"
            assert job.state == "done", f"{accepted} is {job}"
            assert isinstance(job.result, JobAnswer)
            assert job.result.value["title"] == accepted.idea
        assert max(self.ended.values(), default=1) == 1, "an end was reported twice"
        assert not self.cache._executions
        self.runner.stopService()
        closed = self.store.close()
        while self.executor.held is not None:
            self.executor.run()
        assert closed.called
        shutil.rmtree(self.folder)

    def settle(self) -> None:
        """
        Let everything go on for ten seconds.
        """
        for turn in self.turns:
            if not turn.called:
                turn.callback(StoredResponse(200, {}, cacheable=True))
        for _ in range(4):
            self.answer()
            while self.executor.held is not None:
                self.executor.run()
            self.reactor.advance(2.5)

    def result_of(self, pending: Deferred[T]) -> T:
        """
        Return the result of an operation of the store.
        """
        results: list[T] = []
        pending.addCallback(results.append)
        while not results:
            self.executor.run()
        return results[0]


def _check_refusal(failure: Failure) -> None:
    """
    Ignore that a request is refused or was cancelled.
    """
    failure.trap(CancelledError, *_REFUSALS)


def simulate(schedules: int, steps: int = 50) -> None:
    """
    Run this many random schedules of this many steps.

    Raises:
        AssertionError: A schedule failed; the message has the shortest one.
    """
    case = JobMachine.TestCase()
    case.settings = settings(  # type: ignore[misc]
        max_examples=schedules,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case.runTest()


def main() -> None:
    """
    Run as many schedules as the command line says.
    """
    parser = argparse.ArgumentParser("python -m tests.jobs.simulation")
    parser.add_argument("schedules", type=int)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    began = time.monotonic()
    simulate(options.schedules, options.steps)
    print(f"{options.schedules} schedules passed, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
