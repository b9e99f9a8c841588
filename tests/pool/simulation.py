"""
Simulate a dispatcher in memory, with random events in any order.

``python -m tests.pool.simulation 5000`` tries 5000 schedules; a test tries some
hundreds.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from attrs import define, evolve, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from kiroworkers.errors import AnswerSchemaMismatch, ShuttingDown, WorkError
from kiroworkers.execution import Result, execute
from kiroworkers.pool.approvals import Approvals
from kiroworkers.pool.circuit_breaker import LoginPolicy
from kiroworkers.pool.dispatcher import Dispatcher, RequestOptions
from kiroworkers.session.session import Reset
from kiroworkers.session.tool_policy import ToolPolicy
from kiroworkers.tasks import ParsedAnswer
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import (
    RECYCLING,
    RESTARTS,
    FakeSearch,
    LoggedOut,
    dispatcher_in,
    group_of,
    results_of,
    why,
)

_ANSWER = re.compile(r"answer to (question \d+\.)")

#: The question in a prompt, the prompt of a repair included.
_QUESTION = re.compile(r"question \d+\.")


class Question:
    """
    A task whose payload has a prompt, and whose answer repeats it.
    """

    images = ()

    def prompt(self, payload: Mapping[str, Any], layout: str) -> str:
        prompt: str = payload["prompt"]
        return prompt

    def answer_search(
        self, payload: Mapping[str, Any], text: str, wrapped: bool, styled: tuple[int, ...] = ()
    ) -> FakeSearch:
        return FakeSearch(lambda: self.find(payload, text))

    def find(self, payload: Mapping[str, Any], text: str) -> ParsedAnswer:
        if "unfit" in text or _ANSWER.findall(text) == []:
            raise AnswerSchemaMismatch(f"no answer to {payload['prompt']}")
        return ParsedAnswer({"text": text})

    def answer_schema_for(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}


@define
class Submitted:
    """
    A request, and its results: one at most.
    """

    prompt: str
    reply: Deferred[Result]
    results: list[Any] = field(factory=list)

    def end(self, result: Any) -> None:
        self.results.append(result.value if isinstance(result, Failure) else result)


def _failure(text: str) -> Callable[[MemoryKiro], None]:
    def fail(program: MemoryKiro) -> None:
        program.print(f"{text}\n\n")
        program.show_prompt()

    return fail


def _hang(program: MemoryKiro) -> None:
    program.interruptible = program.obeys_sigterm = False


def _ignore_clear(program: MemoryKiro) -> None:
    program.confirms_clear = False


#: The faults: which programs can have each, and how it is caused.
FAULTS: dict[str, tuple[Callable[[MemoryKiro], bool], Callable[[MemoryKiro], None]]] = {
    "die": (lambda program: True, lambda program: program.process.end(signal=9)),
    "die in a turn": (lambda program: program.answering,
                      lambda program: program.process.end(signal=9)),
    "ask": (lambda program: program.answering, lambda program: program.ask_approval()),
    "hang": (lambda program: program.interruptible, _hang),
    "stray": (lambda program: program.at_prompt, lambda program: program.lose_prompt()),
    "flood": (lambda program: program.answering, lambda program: program.print("y" * 150_000)),
    "ignore clear": (lambda program: program.confirms_clear, _ignore_clear),
    "throttled": (lambda program: program.answering,
                  _failure("Too many requests, please wait 40 seconds before trying again")),
    "logged out": (lambda program: program.answering, _failure("Your login session has expired")),
    "no network": (lambda program: program.answering, _failure("dispatch failure (timeout)")),
    "start at last": (lambda program: not program.typed and not program.at_prompt,
                      lambda program: program.show_prompt()),
}  # fmt: skip


#: What operators do; a command that is listed twice is drawn more often.
COMMANDS = [
    "pause",
    "resume",
    "resume",
    "restart all",
    "drain",
    "restart",
    "restart",
    "workers",
    "shrink",
]


class DispatcherMachine(RuleBasedStateMachine):
    """
    Any schedule of arrivals, hang-ups, answers, faults, slow starts, an operator's
    commands and the passing of time.
    """

    @initialize(
        workers=st.integers(1, 3),
        more=st.integers(0, 2),
        backlog=st.integers(0, 5),
        reset=st.sampled_from(Reset),
        tools=st.sampled_from(ToolPolicy),
        overlap=st.booleans(),
        max_requests=st.sampled_from([2, 1000]),
    )
    def begin(
        self,
        workers: int,
        more: int,
        backlog: int,
        reset: Reset,
        overlap: bool,
        max_requests: int,
        tools: ToolPolicy = ToolPolicy.DENY,
    ) -> None:
        self.slow = False
        self.reset = reset
        self.logged_in = True
        self.reactor = MemoryReactor(self.new_program)
        self.submitted: list[Submitted] = []
        self.answered: set[tuple[int | None, str]] = set()
        ids = count(1)
        self.approvals = Approvals(self.reactor, lambda: str(next(ids)))
        self.dispatcher: Dispatcher = dispatcher_in(
            self.reactor,
            workers=workers,
            max_workers=workers + more,
            backlog=backlog,
            has_free_memory=lambda size: overlap,
            session={"reset": reset, "tools": tools},
            approvals=self.approvals,
            recycling=evolve(RECYCLING, max_requests=max_requests, jitter=1),
            restarts=evolve(RESTARTS, burst=3),
            login=LoginPolicy(lambda: succeed(self.logged_in), 60.0),
        )
        self.group = group_of(self.dispatcher)
        self.dispatcher.startService()

    def new_program(self) -> MemoryKiro:
        program = MemoryKiro(lambda prompt: None) if self.logged_in else LoggedOut()
        program.mute = self.slow
        return program

    def some_program(self, data: st.DataObject, wanted: Callable[[MemoryKiro], bool]) -> Any:
        """
        A running program that is as `wanted`, if there is one.
        """
        pids = self.reactor.running
        running = [program for program in self.reactor.programs if program.process.pid in pids]
        candidates = [program for program in running if wanted(program)]
        return data.draw(st.sampled_from(candidates)) if candidates else None

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
            prompt = f"question {len(self.submitted)}."
            options = RequestOptions(timeout, priority, client)
            execution = execute(self.group, Question(), {"prompt": prompt}, options)
            submitted = Submitted(prompt, Deferred.fromCoroutine(execution))
            self.submitted.append(submitted)
            submitted.reply.addBoth(submitted.end)
        if arrive:
            self.reactor.advance(0)

    @precondition(lambda self: any(not request.results for request in self.submitted))
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        pending = [request for request in self.submitted if not request.results]
        data.draw(st.sampled_from(pending)).reply.cancel()

    # What agents do.

    @rule(data=st.data(), arrive=st.booleans(), fits=st.booleans())
    def answer(self, data: st.DataObject, arrive: bool, fits: bool) -> None:
        program = self.some_program(data, lambda program: program.answering)
        if program is not None:
            self.say(program, "" if fits else "unfit ")
        if arrive:
            self.reactor.advance(0)

    @rule(seconds=st.sampled_from([0, 1, 6]))
    def answer_all(self, seconds: float) -> None:
        for program in self.reactor.programs:
            if program.process.pid in self.reactor.running and program.answering:
                self.say(program)
        self.reactor.advance(seconds)

    def say(self, program: MemoryKiro, prefix: str = "") -> None:
        [question] = set(_QUESTION.findall(program.typed[-1]))
        self.answered.add((program.process.pid, question))
        program.say(f"{prefix}answer to {question}")

    @rule(data=st.data(), fault=st.sampled_from(sorted(FAULTS)))
    def cause_fault(self, data: st.DataObject, fault: str) -> None:
        wanted, cause = FAULTS[fault]
        program = self.some_program(data, wanted)
        if program is not None:
            cause(program)

    @rule(slow=st.booleans(), logged_in=st.sampled_from([True, True, False]))
    def change_conditions(self, slow: bool, logged_in: bool) -> None:
        self.slow, self.logged_in = slow, logged_in

    # What operators do.

    @rule(data=st.data(), command=st.sampled_from(COMMANDS))
    def operate(self, data: st.DataObject, command: str) -> None:
        worker_pool = self.dispatcher.worker_pool
        match command:
            case "pause":
                self.dispatcher.pause()
            case "resume":
                self.dispatcher.resume()
            case "restart all":
                worker_pool.restart_all(why("an operator asked for it"))
            case "workers":
                worker_pool.set_workers(data.draw(st.integers(1, 4)))
            case "shrink":
                worker_pool.shrink()
            case _:
                worker = data.draw(st.sampled_from(list(worker_pool.workers)))
                if command == "drain":
                    worker_pool.drain(worker, why("drained"))
                else:
                    worker_pool.restart(worker, why("an operator asked for it"))

    @rule(data=st.data(), allow=st.booleans())
    def decide(self, data: st.DataObject, allow: bool) -> None:
        pending = [approval.id for approval in self.approvals.pending()]
        if pending:
            self.approvals.decide(data.draw(st.sampled_from(pending)), allow)

    # What time does.

    @rule(seconds=st.sampled_from([0, 0, 0, 0.2, 1, 6, 11, 31, 121]))
    def wait(self, seconds: float) -> None:
        self.reactor.advance(seconds)

    # What must hold.

    @invariant()
    def every_request_has_its_own_answer(self) -> None:
        """
        No request has two results, or the answer to another one.
        """
        for request in self.submitted:
            assert len(request.results) <= 1, request
            if request.results and isinstance(request.results[0], Result):
                answered = _ANSWER.findall(request.results[0].answer.value["text"])
                assert answered == [request.prompt], request
            elif request.results:
                assert isinstance(request.results[0], WorkError | CancelledError), request
                assert not isinstance(request.results[0], ShuttingDown), request

    @invariant()
    def unfinished_requests_are_known(self) -> None:
        """
        The dispatcher knows exactly the requests that have no result.
        """
        known = sum(1 for _ in self.dispatcher.requests())
        assert known == sum(not request.results for request in self.submitted)

    @invariant()
    def no_worker_has_two_requests(self) -> None:
        """
        No worker has two requests at the same time.
        """
        workers = [request.worker for request in self.dispatcher.requests() if request.worker]
        assert len(workers) == len(set(workers)), workers

    @invariant()
    def no_request_waits_in_vain(self) -> None:
        """
        No request waits while a worker is idle, unless the dispatcher is paused; and
        no more wait than are allowed, apart from those that are retried.
        """
        requests = list(self.dispatcher.requests())
        waiting = [request for request in requests if request.worker is None]
        idle = [worker.name for worker in self.dispatcher.worker_pool.workers if worker.idle]
        assert self.dispatcher.paused or not (waiting and idle), (waiting, idle)
        assert sum(not request.attempts for request in waiting) <= self.dispatcher.queue().limit
        assert len(waiting) == self.dispatcher.queue().length

    @invariant()
    def operators_decide_about_running_requests(self) -> None:
        """
        Each open question belongs to a request that runs, and no request has two.
        """
        asking = [(each.request, each.worker) for each in self.approvals.pending()]
        running = {(request.number, request.worker) for request in self.dispatcher.requests()}
        assert len(asking) == len(set(asking)), asking
        assert running.issuperset(asking), (asking, running)

    @invariant()
    def equals_are_served_in_order(self) -> None:
        """
        Among equals, no request is served before one that arrived earlier.
        """
        requests = list(self.dispatcher.requests())
        waiting = [request for request in requests if request.worker is None]
        for running in requests:
            if running.worker is not None and running.attempts == 1:
                for other in waiting:
                    if other.attempts:
                        continue  # It was running as well.
                    same = (other.options.client, other.options.priority) == (
                        running.options.client,
                        running.options.priority,
                    )
                    assert not same or other.number > running.number, (other, running)

    @invariant()
    def sessions_are_reset_between_requests(self) -> None:
        """
        A session is cleared between two requests, or serves only one.
        """
        for program in self.reactor.programs:
            before = ""
            for line in program.typed:
                if line.startswith("question") and before.startswith("question"):
                    assert self.reset is Reset.NONE, program.typed
                    assert (program.process.pid, before) in self.answered, program.typed
                if line in ("/clear", "y") or line.startswith("question"):
                    before = line
            prompts = [line for line in program.typed if line.startswith("question")]
            assert self.reset is not Reset.RECYCLE or len(prompts) <= 1, program.typed

    @invariant()
    def number_of_workers_is_within_limits(self) -> None:
        """
        There are as many workers as allowed, with distinct names; none is added while
        no session could start.
        """
        worker_pool = self.dispatcher.worker_pool
        names = {worker.name for worker in worker_pool.workers}
        assert len(names) == len(worker_pool.workers)
        policy = worker_pool.autoscale_policy
        assert len(names) <= policy.max_workers
        assert worker_pool.circuit_breaker.is_open or len(names) >= policy.workers

    def teardown(self) -> None:
        """
        Once the faults are over, every worker is idle and every request ends; after
        the stop nothing is left.
        """
        if not hasattr(self, "dispatcher"):
            return
        self.slow, self.logged_in = False, True
        self.dispatcher.resume()
        for worker in self.dispatcher.worker_pool.workers:
            if worker.drained:
                worker.start()
        for _ in range(40):
            self.reactor.advance(30)
        self.every_request_has_its_own_answer()
        assert all(request.results for request in self.submitted), "a request was lost"
        snapshots = self.dispatcher.worker_pool.snapshots()
        states = {worker.name: worker.state for worker in snapshots}
        assert set(states.values()) == {"idle"}, states
        stopped = results_of(self.dispatcher.stopService())
        for _ in range(4):
            self.reactor.advance(5)
        assert stopped == [None], "it did not stop"
        assert self.reactor.running == set(), "a process is left"
        assert self.approvals.pending() == [], "a question is left"
        assert self.reactor.getDelayedCalls() == [], "a timer is left"


def simulate(schedules: int, steps: int = 50) -> None:
    """
    Run this many random schedules of this many steps.

    Raises:
        AssertionError: A schedule failed; the message has the shortest one.
    """
    case = DispatcherMachine.TestCase()
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
    parser = argparse.ArgumentParser("python -m tests.pool.simulation")
    parser.add_argument("schedules", type=int)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    began = time.monotonic()
    simulate(options.schedules, options.steps)
    print(f"{options.schedules} schedules passed, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
