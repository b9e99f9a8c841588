"""
A pool in memory, and whatever may happen to it in any order.

``python -m tests.pool.simulation 5000`` tries so many schedules; a test
tries some hundreds.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from kiroworkers.errors import ShuttingDown, WorkError
from kiroworkers.pool.circuit_breaker import LoginPolicy
from kiroworkers.pool.dispatcher import Dispatcher, RequestOptions, TurnResult
from kiroworkers.session.session import Reset
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import RECYCLING, RESTARTS, LoggedOut, pool_in, watched

_ANSWER = re.compile(r"answer to (question \d+\.)")


@define
class Asked:
    """
    A request, and what came of it.
    """

    prompt: str
    reply: Deferred[TurnResult]
    results: list[Any] = field(factory=list)

    def end(self, result: Any) -> None:
        self.results.append(result.value if isinstance(result, Failure) else result)


def _failure(words: str) -> Callable[[MemoryKiro], None]:
    def happen(program: MemoryKiro) -> None:
        program.print(f"{words}\n\n")
        program.show_prompt()

    return happen


def _hang(program: MemoryKiro) -> None:
    program.interruptible = program.obeys = False


def _keep_its_memory(program: MemoryKiro) -> None:
    program.confirms = False


#: What may go wrong: to which programs, and how.
MISHAPS: dict[str, tuple[Callable[[MemoryKiro], bool], Callable[[MemoryKiro], None]]] = {
    "die": (lambda each: True, lambda each: each.process.end(signal=9)),
    "die in a turn": (lambda each: each.answering, lambda each: each.process.end(signal=9)),
    "hang": (lambda each: each.interruptible, _hang),
    "stray": (lambda each: each.reading, lambda each: each.stray()),
    "flood": (lambda each: each.answering, lambda each: each.print("y" * 150_000)),
    "keep its memory": (lambda each: each.confirms, _keep_its_memory),
    "throttled": (lambda each: each.answering,
                  _failure("Too many requests, please wait 40 seconds before trying again")),
    "logged out": (lambda each: each.answering, _failure("Your login session has expired")),
    "no network": (lambda each: each.answering, _failure("dispatch failure (timeout)")),
    "start at last": (lambda each: not each.typed and not each.reading,
                      lambda each: each.show_prompt()),
}  # fmt: skip


#: What operators do, some of it more often.
WHIMS = ["pause", "resume", "resume", "renew", "drain", "restart", "restart", "workers", "shrink"]


class PoolMachine(RuleBasedStateMachine):
    """
    Any schedule of arrivals, hang-ups, answers, deaths, hangs, slow starts,
    troubles, the operator's whims and the passing of time.
    """

    @initialize(
        workers=st.integers(1, 3),
        more=st.integers(0, 2),
        backlog=st.integers(0, 5),
        reset=st.sampled_from(Reset),
        room=st.booleans(),
        max_requests=st.sampled_from([2, 1000]),
    )
    def begin(
        self, workers: int, more: int, backlog: int, reset: Reset, room: bool, max_requests: int
    ) -> None:
        self.slow = False
        self.reset = reset
        self.logged_in = True
        self.reactor = MemoryReactor(self.new_program)
        self.asked: list[Asked] = []
        self.drained: set[str] = set()
        self.pool: Dispatcher = pool_in(
            self.reactor,
            workers=workers,
            max_workers=workers + more,
            backlog=backlog,
            is_free=lambda size: room,
            session={"reset": reset},
            recycling=evolve(RECYCLING, max_requests=max_requests, jitter=1),
            restarts=evolve(RESTARTS, burst=3),
            login=LoginPolicy(lambda: succeed(self.logged_in), 60.0),
        )
        self.pool.startService()

    def new_program(self) -> MemoryKiro:
        program = MemoryKiro(lambda prompt: None) if self.logged_in else LoggedOut()
        program.mute = self.slow
        return program

    def some_program(self, data: st.DataObject, wanted: Callable[[MemoryKiro], bool]) -> Any:
        """
        A living program that is as `wanted`, if there is one.
        """
        pids = self.reactor.running
        found = [each for each in self.reactor.programs if each.process.pid in pids]
        fit = [each for each in found if wanted(each)]
        return data.draw(st.sampled_from(fit)) if fit else None

    # What clients do.

    @rule(
        many=st.integers(1, 4),
        priority=st.sampled_from([5, 5, 0, 9]),
        client=st.sampled_from("ab"),
        timeout=st.sampled_from([None, None, 3.0, 50.0]),
        arrive=st.booleans(),
    )
    def ask(
        self, many: int, priority: int, client: str, timeout: float | None, arrive: bool
    ) -> None:
        for _ in range(many):
            prompt = f"question {len(self.asked)}."
            asked = Asked(
                prompt, self.pool.submit(prompt, RequestOptions(timeout, priority, client))
            )
            self.asked.append(asked)
            asked.reply.addBoth(asked.end)
        if arrive:
            self.reactor.advance(0)

    @precondition(lambda self: any(not each.results for each in self.asked))
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([each for each in self.asked if not each.results])).reply.cancel()

    # What agents do.

    @rule(data=st.data(), arrive=st.booleans())
    def answer(self, data: st.DataObject, arrive: bool) -> None:
        program = self.some_program(data, lambda each: each.answering)
        if program is not None:
            program.say(f"answer to {program.typed[-1]}")
        if arrive:
            self.reactor.advance(0)

    @rule(seconds=st.sampled_from([0, 1, 6]))
    def answer_all(self, seconds: float) -> None:
        for program in self.reactor.programs:
            if program.process.pid in self.reactor.running and program.answering:
                program.say(f"answer to {program.typed[-1]}")
        self.reactor.advance(seconds)

    @rule(data=st.data(), what=st.sampled_from(sorted(MISHAPS)))
    def go_wrong(self, data: st.DataObject, what: str) -> None:
        wanted, happen = MISHAPS[what]
        program = self.some_program(data, wanted)
        if program is not None:
            happen(program)

    @rule(slow=st.booleans(), logged_in=st.sampled_from([True, True, False]))
    def from_now_on(self, slow: bool, logged_in: bool) -> None:
        self.slow, self.logged_in = slow, logged_in

    # What operators do.

    @rule(data=st.data(), what=st.sampled_from(WHIMS))
    def operate(self, data: st.DataObject, what: str) -> None:
        worker_pool = self.pool.worker_pool
        match what:
            case "pause":
                self.pool.pause()
            case "resume":
                self.pool.resume()
            case "renew":
                worker_pool.renew_all("somebody said so")
            case "workers":
                worker_pool.set_workers(data.draw(st.integers(1, 4)))
            case "shrink":
                worker_pool.shrink()
            case _:
                worker = data.draw(st.sampled_from(list(worker_pool.workers)))
                if what == "drain":
                    worker_pool.drain(worker)
                else:
                    worker_pool.renew(worker, "somebody said so")

    # What time does.

    @rule(seconds=st.sampled_from([0, 0, 0, 0.2, 1, 6, 11, 31, 121]))
    def wait(self, seconds: float) -> None:
        self.reactor.advance(seconds)

    # What must be.

    @invariant()
    def each_has_its_own(self) -> None:
        """
        Nobody has two answers, nor another's.
        """
        for each in self.asked:
            assert len(each.results) <= 1, each
            if each.results and isinstance(each.results[0], TurnResult):
                # A prompt that strays just when it is typed at ends a turn with
                # nothing said; no task takes that for an answer.
                found = _ANSWER.findall(each.results[0].reply.text)
                assert found in ([each.prompt], []), each
            elif each.results:
                assert isinstance(each.results[0], WorkError | CancelledError), each
                assert not isinstance(each.results[0], ShuttingDown), each

    @invariant()
    def each_is_known(self) -> None:
        """
        What has no result is in the pool; what has one is not.
        """
        known = sum(1 for _ in self.pool.requests())
        assert known == sum(not each.results for each in self.asked)

    @invariant()
    def no_worker_has_two(self) -> None:
        """
        No worker is asked by two requests at once.
        """
        asked = [each.worker for each in self.pool.requests() if each.worker is not None]
        assert len(asked) == len(set(asked)), asked

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """
        While a worker is idle, nobody waits, unless the pool is paused; and no
        more wait than may, but for those that were asked before.
        """
        waiting = [each for each in self.pool.requests() if each.worker is None]
        idle = [worker.name for worker in self.pool.worker_pool.workers if worker.idle]
        assert self.pool.paused or not (waiting and idle), (waiting, idle)
        assert sum(not each.attempts for each in waiting) <= self.pool.queue().limit
        assert len(waiting) == self.pool.queue().length

    @invariant()
    def first_come(self) -> None:
        """
        Of equals, nobody is asked before one who came earlier.
        """
        requests = list(self.pool.requests())
        waiting = [each for each in requests if each.worker is None]
        for running in requests:
            if running.worker is not None and running.attempts == 1:
                for other in waiting:
                    if other.attempts:
                        continue  # it was running, too
                    same = (other.options.client, other.options.priority) == (
                        running.options.client,
                        running.options.priority,
                    )
                    assert not same or other.number > running.number, (other, running)

    @invariant()
    def proven_before_it_serves(self) -> None:
        """
        Between two questions a session was cleared, or served only one.
        """
        for program in self.reactor.programs:
            before = ""
            for line in program.typed:
                if line.startswith("question") and before.startswith("question"):
                    earlier = next(each for each in self.asked if each.prompt == before)
                    assert self.reset is Reset.NONE, program.typed
                    assert isinstance(earlier.results[0], TurnResult), program.typed
                if line in ("/clear", "y") or line.startswith("question"):
                    before = line
            asked = [line for line in program.typed if line.startswith("question")]
            assert self.reset is not Reset.RECYCLE or len(asked) <= 1, program.typed

    @invariant()
    def within_its_limits(self) -> None:
        """
        There are as many workers as there may be, of different names; none is
        added while none could start.
        """
        worker_pool = self.pool.worker_pool
        names = {worker.name for worker in worker_pool.workers}
        assert len(names) == len(worker_pool.workers)
        assert len(names) <= worker_pool.scale.max_workers
        assert worker_pool.circuit_breaker.is_open or len(names) >= worker_pool.scale.workers

    def teardown(self) -> None:
        """
        When all is well again every worker works, and every request ends; then
        nothing is left.
        """
        if not hasattr(self, "pool"):
            return
        self.slow, self.logged_in = False, True
        self.pool.resume()
        for worker in self.pool.worker_pool.workers:
            if worker.drained:
                worker.start()
        for _ in range(40):
            self.reactor.advance(30)
        self.each_has_its_own()
        assert all(each.results for each in self.asked), "a request was lost"
        states = {worker.name: worker.snapshot().state for worker in self.pool.worker_pool.workers}
        assert set(states.values()) == {"idle"}, states
        stopped = watched(self.pool.stopService())
        for _ in range(4):
            self.reactor.advance(5)
        assert stopped == [None], "it did not stop"
        assert self.reactor.running == set(), "a process is left"
        assert self.reactor.getDelayedCalls() == [], "a timer is left"


def simulate(schedules: int, steps: int = 50) -> None:
    """
    Try so many schedules of so many steps.

    Raises:
        AssertionError: with the shortest schedule that was found to fail.
    """
    case = PoolMachine.TestCase()
    case.settings = settings(  # type: ignore[misc]
        max_examples=schedules,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case.runTest()


def main() -> None:
    """
    Try as many schedules as the command line says.
    """
    parser = argparse.ArgumentParser("python -m tests.pool.simulation")
    parser.add_argument("schedules", type=int)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    began = time.monotonic()
    simulate(options.schedules, options.steps)
    print(f"{options.schedules} schedules held, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
