"""
Tests for `kiroworkers.jobs.runner`, on a pool in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve
from hypothesis import settings
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.classic import drawing as classic
from kiroworkers.conversations import AgentFailure, load_dialect
from kiroworkers.errors import (
    DeadlineUnachievable,
    ErrorCode,
    FailureKind,
    ShuttingDown,
    StorageUnavailable,
    TooManyJobs,
)
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure
from kiroworkers.jobs.job_events import JobEvent, JobEvents
from kiroworkers.jobs.runner import JobRunner
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.request_record import EventData, EventName, RequestRecord
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro
from tests.jobs.faults import Faults
from tests.jobs.simulation import simulate
from tests.jobs.support import UNLIMITED, HeldExecutor, InlineExecutor, memory_store, new_job
from tests.memory import dispatcher_in
from tests.records import logged_records


class RunnerTests(SynchronousTestCase):
    """
    Tests for `JobRunner`, with one worker.
    """

    def setUp(self) -> None:
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.file = Path(self.mktemp())
        self.ended: list[Job] = []
        self.happened: list[tuple[RequestRecord, EventName, EventData]] = []
        self.begin()

    def begin(self) -> None:
        """
        Start a server, with the jobs of the last one.
        """
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.dispatcher = dispatcher_in(self.reactor, workers=1, backlog=1)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        self.faults = Faults()
        self.store = memory_store(self.reactor, file=self.file, factory=self.faults.connection)
        self.addCleanup(self.store.close)
        self.events = JobEvents(self.reactor)
        self.events.server = self.store.server
        self.runner = JobRunner(
            self.reactor,
            self.reactor.seconds,
            AgentGroups([AgentGroup(agent, self.dispatcher)]),
            builtin_tasks(),
            self.store,
            evolve(UNLIMITED, unfinished=3),
            self.ended.append,
            events=self.events,
            on_event=self.on_event,
        )
        self.dispatcher.startService()
        self.reactor.advance(0)
        self.runner.startService()
        self.reactor.advance(0)

    def on_event(self, record: RequestRecord, name: EventName, data: EventData) -> None:
        self.happened.append((record, name, data))

    def accept(self, idea: str, **fields: Any) -> str:
        """
        Accept a job and return its id; if it is the only one, it has started.
        """
        fields = {"agent": self.pool_name, **fields}
        job, _ = self.successResultOf(self.accepted(new_job("", payload={"idea": idea}, **fields)))
        self.reactor.advance(0)
        return job.id

    def accepted(self, job: Job) -> Deferred[tuple[Job, bool]]:
        return Deferred.fromCoroutine(self.runner.accept(job))

    @property
    def pool_name(self) -> str:
        return load_dialect("kiro-classic").name

    def job(self, id: str) -> Job:
        job = self.successResultOf(self.store.get(id))
        assert job is not None
        return job

    def answer(self, job: Job) -> JobAnswer:
        assert isinstance(job.result, JobAnswer), job
        return job.result

    def failure(self, job: Job) -> JobFailure:
        assert isinstance(job.result, JobFailure), job
        return job.result

    def busy(self) -> None:
        """
        Let turns that start from now on take for ever.
        """
        self.reply = lambda prompt: None

    def refuse(self, problem: Exception) -> None:
        """
        Let the pool refuse every request with `problem`.
        """

        def submit(*arguments: object) -> None:
            raise problem

        self.patch(self.dispatcher, "submit", submit)

    def test_fails_each_time(self) -> None:
        """
        A job whose own words look like a failure of the account is not asked for ever.
        """
        self.busy()
        job_id = self.accept("What does ThrottlingException mean?")
        [program] = self.reactor.programs
        for number in range(1, 11):
            self.assertEqual(self.job(job_id).state, "running")
            program.print(f"{classic.SPINNER_GONE}ThrottlingException\n\n")
            program.show_prompt()
            self.reactor.advance(0)
            self.reactor.pump([1] * 60)
            self.assertEqual(self.job(job_id).attempts, number + (number < 10))
        self.assertEqual(self.failure(self.job(job_id)).code, "throttled")

    def test_done(self) -> None:
        """
        A job runs, and ends with its answer and how that came about.
        """
        job = self.job(self.accept("An idea"))
        self.assertEqual((job.state, job.attempts), ("done", 1))
        answer = self.answer(job)
        self.assertEqual((answer.value["title"], answer.worker), ("An idea", "worker1"))
        self.assertEqual((answer.attempts, answer.repairs, answer.seconds), (1, 0, 0.0))
        self.assertEqual(self.ended, [job])
        self.assertNotEqual(self.accept("x"), self.accept("x"))

    def test_kept(self) -> None:
        """
        The answer of a job that ends while the disk is full is kept and stored when there
        is space.  Until then no other job is started, and then they go on.
        """
        self.busy()
        first, second = self.accept("first"), self.accept("second")
        self.faults.fault = "full"
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([1] * 100)
        self.assertEqual([self.job(id).state for id in (first, second)], ["running", "queued"])
        self.assertEqual((self.ended, [*self.dispatcher.requests()]), ([], []))
        refused = self.accepted(new_job("", agent=self.pool_name))
        self.failureResultOf(refused, StorageUnavailable)
        self.faults.fault, self.reply = None, fakekiro.answer_text
        self.reactor.pump([1] * 10)
        self.assertEqual([job.id for job in self.ended], [first, second])
        self.assertEqual([(job.state, job.attempts) for job in self.ended], [("done", 1)] * 2)

    def test_unreadable(self) -> None:
        """
        A job whose payload cannot be read fails.
        """
        self.busy()
        first, second = self.accept("first"), self.accept("second")
        self.store._persist("UPDATE jobs SET asked = '{' WHERE id = ?", second)
        self.runner.cancel(self.job(first))
        self.reactor.pump([1] * 5)
        self.assertEqual((self.job(second).state, self.failure(self.job(second)).code),
                         ("failed", "fault"))  # fmt: skip
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_hung_up(self) -> None:
        """
        A job whose client disconnects before it was acknowledged does not run.
        """
        executor = HeldExecutor()
        self.store._queue._executor = executor
        pending = self.accepted(new_job("", agent=self.pool_name))
        pending.cancel()
        self.failureResultOf(pending, CancelledError)
        while executor.held is not None:
            executor.run()
        self.store._queue._executor = InlineExecutor()
        self.assertEqual(self.successResultOf(self.store.unfinished()), [])

    def test_many(self) -> None:
        """
        Jobs that an earlier server left are queued in steps, between which other events
        are handled.
        """
        for number in range(450):
            self.store.add(new_job(f"{number}", agent=self.pool_name), UNLIMITED)
        self.busy()
        [queue] = self.runner._queues.values()
        self.runner.startService()
        self.assertEqual(len(queue.jobs), 200)
        self.reactor.advance(0)
        self.assertEqual(len(queue.jobs), 450)
        self.assertEqual(len([*self.dispatcher.requests()]), 1)

    def test_failed(self) -> None:
        """
        A job without a valid answer fails, with the reasons and where to look for them.
        """
        self.reply = lambda prompt: "I would rather not."
        job = self.job(self.accept("An idea"))
        failure = self.failure(job)
        self.assertEqual((job.state, failure.code), ("failed", "answer_unfit"))
        self.assertEqual(set(failure.details), {"reasons", "worker", "request"})
        self.assertTrue(failure.message.endswith(failure.details["reasons"][-1]))

    def test_bug(self) -> None:
        """
        A job fails if the server does, and the failure says nothing of the bug.
        """
        self.refuse(ZeroDivisionError("a secret"))
        job = self.job(self.accept("An idea"))
        expected = JobFailure(ErrorCode.FAULT, "Internal server error")
        self.assertEqual((job.state, job.result), ("failed", expected))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_logged(self) -> None:
        """
        Each execution of a job leaves one line in the log, with the client that posted it.
        """
        records = logged_records(self)
        done = self.accept("An idea")
        self.reply = lambda prompt: "I would rather not."
        self.accept("Another idea", client="bob")
        self.busy()
        cancelled = self.accept("The last idea")
        waiting = self.accept("Never asked")
        self.runner.cancel(self.job(waiting))
        self.reactor.advance(4)
        self.runner.cancel(self.job(cancelled))
        self.reactor.advance(0)
        self.assertEqual(
            [(record.user, record.status, record.code, record.aborted) for record in records],
            [
                ("ann", 200, None, False),
                ("bob", 502, "answer_unfit", False),
                ("ann", 499, None, True),
            ],
        )
        self.assertEqual(records[0].path, f"/jobs/{done}")
        self.assertEqual(
            [(record.worker, record.repairs, record.turn, record.total) for record in records],
            [("worker1", 0, 0.0, 0.0), ("worker1", 2, 0.0, 0.0), ("worker1", 0, 4.0, 4.0)],
        )
        self.assertEqual({record.task for record in records}, {"generate-story"})

    def test_observed(self) -> None:
        """
        Each execution of a job is observed as a request, with the identifier and the trace of the
        request that created the job, and its line in the log has them.
        """
        records = logged_records(self)
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        self.accept("An idea", request_id="request-1", traceparent=trace)
        [record] = records
        assert record.trace is not None
        self.assertEqual((record.id, record.trace.traceparent), ("request-1", trace))
        self.assertEqual({happened[0] for happened in self.happened}, {record})
        names = [name for _, name, _ in self.happened]
        self.assertEqual((names[0], names.count("received"), names.count("ended")),
                         ("received", 1, 1))  # fmt: skip
        self.assertLess(names.index("started"), names.index("answered"))
        data = dict(self.happened[0][2])
        self.assertEqual(data, {"method": "JOB", "path": record.path})

    def test_listened_to(self) -> None:
        """
        Whoever listens to a job learns that it waits, starts, is run again, and starts again.
        """
        self.busy()
        id = self.accept("What does ThrottlingException mean?")
        events: list[JobEvent] = []
        ended = self.events.listen(self.job(id), None, events.append)
        [program] = self.reactor.programs
        program.print(f"{classic.SPINNER_GONE}ThrottlingException\n\n")
        program.show_prompt()
        self.reactor.advance(0)
        self.reactor.pump([1] * 60)
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([1] * 5)
        self.assertEqual(self.successResultOf(ended), self.job(id))
        self.assertEqual(
            [event.name for event in events if event.name != "text"],
            ["queued", "started", "retry", "queued", "started"],
        )
        reasons = [event.data["reason"] for event in events if event.name == "retry"]
        self.assertEqual(reasons, ["it failed (throttled), and is run again later"])

    def test_listened_to_after_a_restart(self) -> None:
        """
        Whoever listens to a job that an earlier server has begun learns that events are missing.
        """
        self.busy()
        id = self.accept("An idea")
        before: list[JobEvent] = []
        self.events.listen(self.job(id), None, before.append)
        self.runner.stopService()
        self.reactor.advance(0)
        self.begin()
        self.reactor.advance(0)
        after: list[JobEvent] = []
        self.events.listen(self.job(id), str(before[-1].id), after.append)
        self.assertEqual([event.name for event in after], ["gap", "queued", "started"])
        self.assertEqual([event.id.run for event in (before[0], after[0])], [1, 2])

    def test_in_turn(self) -> None:
        """
        As many jobs run as the pool has workers; the others wait, and start by fair share
        and priority.
        """
        self.busy()
        first = self.accept("first", priority=0)
        waiting = [
            self.accept("second", priority=0),
            self.accept("of another", client="bob", priority=0),
        ]
        self.assertEqual(len([*self.dispatcher.requests()]), 1)
        self.assertEqual([self.job(id).state for id in (first, *waiting)],
                         ["running", "queued", "queued"])  # fmt: skip
        self.reply = fakekiro.answer_text
        self.runner.cancel(self.job(first))
        self.reactor.pump([1] * 10)
        self.assertEqual([job.id for job in self.ended], [first, waiting[1], waiting[0]])
        self.assertEqual([job.state for job in self.ended], ["cancelled", "done", "done"])

    def test_cancelled_while_waiting(self) -> None:
        """
        A job that is cancelled while it waits never runs.
        """
        self.busy()
        self.accept("first")
        second = self.accept("second")
        self.runner.cancel(self.job(second))
        self.assertEqual(self.job(second).state, "cancelled")
        self.assertEqual(self.job(second).attempts, 0)

    def test_bounded(self) -> None:
        """
        The number of unfinished jobs is limited.
        """
        self.busy()
        first = self.accept("1")
        self.accept("2")
        self.accept("3")
        self.failureResultOf(self.accepted(new_job("", agent=self.pool_name)), TooManyJobs)
        self.runner.cancel(self.job(first))
        self.accept("4")

    def test_refused_for_now(self) -> None:
        """
        A job that the pool rejects temporarily, because its queue is full or the agent
        has an outage, waits and runs later.
        """
        self.dispatcher.worker_pool.record_failure(
            AgentFailure(FailureKind.THROTTLED, "slow down", 20)
        )
        id = self.accept("An idea")
        self.assertEqual((self.job(id).state, self.job(id).attempts), ("queued", 0))
        self.reactor.pump([1] * 19)
        self.assertEqual(self.job(id).state, "queued")
        self.reactor.pump([1] * 10)
        self.assertEqual(self.job(id).state, "done")

    def test_repeated_last(self) -> None:
        """
        A job whose turns are rejected as if the account were throttled is repeated after all
        other jobs, so that it does not keep them from running.
        """

        def reply(prompt: str) -> str | None:
            if "rejected" not in prompt:
                return fakekiro.answer_text(prompt)
            self.reactor.callLater(0, reject)
            return None

        def reject() -> None:
            [program] = self.reactor.programs
            program.print(fakekiro.TROUBLES["throttled_shortly"] + "\n\n")
            program.show_prompt()

        self.reply = reply
        rejected = self.accept("rejected")
        others = [self.accept("another"), self.accept("of another client", client="bob")]
        self.reactor.pump([1] * 60)
        self.assertEqual([self.job(id).state for id in others], ["done", "done"])
        self.assertEqual(self.job(rejected).state, "queued")
        self.assertGreater(self.job(rejected).attempts, 1)

    def test_stopping(self) -> None:
        """
        A runner that is stopping accepts and starts no job; the next one runs what it
        finds unfinished.
        """
        self.busy()
        first, second = self.accept("first"), self.accept("second")
        self.runner.stop_dispatch()
        self.failureResultOf(self.accepted(new_job("", agent=self.pool_name)), ShuttingDown)
        self.assertEqual(self.job(first).state, "running")
        self.runner.stopService()
        self.reactor.advance(0)
        self.assertEqual([self.job(id).state for id in (first, second)], ["queued"] * 2)
        self.reply = fakekiro.answer_text
        self.begin()
        self.reactor.pump([0] * 10)
        self.assertEqual([(job.id, job.attempts) for job in self.ended],
                         [(first, 2), (second, 1)])  # fmt: skip

    def test_finishes_while_stopping(self) -> None:
        """
        A job that runs when the server begins to stop is still finished.
        """
        self.busy()
        id = self.accept("An idea")
        self.runner.stop_dispatch()
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.advance(0)
        self.assertEqual(self.job(id).state, "done")

    def test_given_up(self) -> None:
        """
        A job that was running when ten servers ended fails, and so does one for an agent
        that is no longer there.
        """
        self.store.add(new_job("poison", agent=self.pool_name), UNLIMITED)
        self.store.add(new_job("orphan", agent="gone"), UNLIMITED)
        self.store.mark_started("poison", 10)
        self.begin()
        self.reactor.advance(0)
        self.assertEqual([job.state for job in self.ended], ["failed", "failed"])
        failures = [self.failure(job) for job in self.ended]
        self.assertEqual([failure.code for failure in failures], ["session_lost", "invalid_input"])
        self.assertEqual(failures[1].details, {"field": "agent"})

    def test_model_is_gone(self) -> None:
        """
        A job fails, and no agent is asked, if the agent no longer offers the model that was
        chosen for it.
        """
        job = self.job(self.accept("An idea", model="gpt-5"))
        self.assertEqual((job.state, job.model), ("failed", "gpt-5"))
        self.assertIs(self.failure(job).code, ErrorCode.UNKNOWN_MODEL)
        self.assertEqual([program.typed for program in self.reactor.programs], [[]])

    def test_unknown_task(self) -> None:
        """
        A job for a task that no longer exists fails.
        """
        job = self.job(self.accept("x", task="write-poem"))
        self.assertEqual((job.state, self.failure(job).code), ("failed", "unknown_task"))

    def test_cannot_meet_deadline(self) -> None:
        """
        A job with a deadline that cannot be met fails, and says when to try again.
        """
        problem = DeadlineUnachievable(2.0, 3.5, 4)
        self.refuse(problem)
        job = self.job(self.accept("x", timeout=2.0))
        expected = JobFailure(ErrorCode.NO_TIME_LEFT, str(problem), retry_after=4)
        self.assertEqual((job.state, job.result), ("failed", expected))


class SimulationTests(SynchronousTestCase):
    """
    Tests with random schedules, in which the storage fails in every way.
    """

    def test_schedules(self) -> None:
        """
        Whatever happens in whatever order, no answer that was paid for is lost, no job is
        stuck, and a key has one answer; jobs go on by themselves when the storage works.
        """
        simulate(settings().max_examples // 2, 30)
