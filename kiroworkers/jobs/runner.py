"""
Jobs, asked one after the other of each agent.

A job is asked at least once: one that a server did not finish is asked again by
the next.  It waits in the store, not in the pool: the pool is given no more jobs
at a time than it has workers, so that requests of clients that wait for their
answers still find room in its queue.  Whatever makes the pool refuse a job for
now, a full queue or an agent that nobody is logged in to, it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from secrets import token_urlsafe

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.errors import (
    AgentUnavailable,
    DeadlineUnachievable,
    InvalidInput,
    NoWorkerFree,
    SessionLost,
    ShuttingDown,
    TooManyJobs,
    UnknownTask,
    WorkError,
)
from kiroworkers.execution import execute
from kiroworkers.jobs.job import IdempotencyKey, Job, JobState, StoredResponse
from kiroworkers.jobs.store import JobStore
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.fair_queue import FairQueue
from kiroworkers.pool.progress import Progress, Started
from kiroworkers.tasks import Task

#: What a step of priority is worth, in seconds of arrival.
_HEAD_START = 60.0

#: A job that was running when so many servers ended may be why.
_MOST_ATTEMPTS = 10

#: Seconds for which nothing is asked of a pool that refused a job: at least, at
#: most, and where it did not say.
_SHORTEST_REST, _LONGEST_REST, _USUAL_REST = 1, 300, 60

#: What a failure is for those who ask after a job.
Describe = Callable[[WorkError], StoredResponse]


@define(eq=False)
class _AgentQueue:
    """
    The jobs for one agent.

    Attributes:
        turns: what is asked, by the job's id.
        stop_dispatch: until when nothing is.
    """

    group: AgentGroup
    waiting: FairQueue[str] = field(factory=lambda: FairQueue(_HEAD_START))
    turns: dict[str, Deferred[float | None]] = field(factory=dict)
    stop_dispatch: IDelayedCall | None = None

    @property
    def has_room(self) -> bool:
        return (
            self.stop_dispatch is None
            and len(self.waiting) > 0
            and len(self.turns) < self.group.pool.worker_pool.scale.max_workers
        )


class JobRunner(Service):
    """
    Has the jobs in `store` asked.

    Args:
        store: open when the service starts.
        describe: tells what a `WorkError` means to a client.
        limit: so many jobs may be unfinished.
        on_ended: told of each job that has ended.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        groups: AgentGroups,
        tasks: Mapping[str, Task],
        store: JobStore,
        describe: Describe,
        limit: int,
        on_ended: Callable[[Job], None],
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._store = store
        self._describe = describe
        self._limit = limit
        self._on_ended = on_ended
        self._queues = {group.name: _AgentQueue(group) for group in groups}
        self._dispatch_stopped = False

    def startService(self) -> None:
        super().startService()
        for job in self._store.unfinished():
            if job.agent not in self._queues:
                self._end(job.id, InvalidInput("agent", f"The agent {job.agent} serves no more"))
            elif job.state == "running" and job.attempts >= _MOST_ATTEMPTS:
                self._end(job.id, SessionLost("the server ended each time", job.attempts))
            else:
                self._store.waits(job.id)
                self._add(job)
        for queue_of_agent in self._queues.values():
            self._feed(queue_of_agent)

    def stop_dispatch(self) -> None:
        """
        Begin no turn.  What waits, in the pool or here, stays in the store.
        """
        self._dispatch_stopped = True
        for queue_of_agent in self._queues.values():
            if queue_of_agent.stop_dispatch is not None:
                queue_of_agent.stop_dispatch.cancel()
                queue_of_agent.stop_dispatch = None
            for id, turn in list(queue_of_agent.turns.items()):
                job = self._store.get(id)
                if job is None or job.state == "queued":
                    turn.cancel()

    def stopService(self) -> None:
        super().stopService()
        self.requeue_running()

    def requeue_running(self) -> None:
        """
        What still runs stays in the store, too.
        """
        self.stop_dispatch()
        for queue_of_agent in self._queues.values():
            for turn in list(queue_of_agent.turns.values()):
                turn.cancel()

    def accept(self, job: Job, key: IdempotencyKey | None = None, fingerprint: str = "") -> Job:
        """
        Take on `job`, which has no id yet.  When this returns, it will be asked.

        Raises:
            TooManyJobs: when it cannot be taken on.
            ShuttingDown: likewise.
        """
        if self._dispatch_stopped:
            raise ShuttingDown()
        if self._store.count_unfinished() >= self._limit:
            raise TooManyJobs(self._limit, _USUAL_REST)
        job = evolve(job, id=token_urlsafe(16), created=self._clock.seconds())
        self._store.add(job, key, fingerprint)
        self._feed(self._add(job))
        return self.find(job.id) or job

    def find(self, id: str) -> Job | None:
        """
        The job of this id.
        """
        return self._store.get(id)

    def cancel(self, job: Job) -> None:
        """
        Give up `job`, which is unfinished.
        """
        queue_of_agent = self._queues[job.agent]
        queue_of_agent.waiting.remove(job.id)
        self._ended(job.id, "cancelled", None)
        turn = queue_of_agent.turns.get(job.id)
        if turn is not None:
            turn.cancel()

    def _add(self, job: Job) -> _AgentQueue:
        queue_of_agent = self._queues[job.agent]
        queue_of_agent.waiting.add(job.id, job.client, job.priority, job.created)
        return queue_of_agent

    def _feed(self, queue_of_agent: _AgentQueue) -> None:
        """
        Begin as many turns as there is room for.
        """
        while not self._dispatch_stopped and queue_of_agent.has_room:
            id = queue_of_agent.waiting.next()
            job = self._store.get(id)
            assert job is not None and job.unfinished, "it waits"
            turn = Deferred.fromCoroutine(self._turn(queue_of_agent.group, job))
            queue_of_agent.turns[id] = turn
            turn.addBoth(self._turned, queue_of_agent, job)

    def _turned(self, again: float | Failure | None, queue_of_agent: _AgentQueue, job: Job) -> None:
        """
        The turn of `job` is over; or it is to be asked `again`, in so many seconds.
        """
        del queue_of_agent.turns[job.id]
        queue_of_agent.waiting.release(job.client)
        if isinstance(again, Failure):
            # It stays in the store as it is, and the next server asks it again.
            self._log.failure("a fault with the job {id}", again, id=job.id)
            again = None
        if again is not None and not self._dispatch_stopped:
            queue_of_agent.waiting.put_back(job.id, job.client, job.priority)
            if queue_of_agent.stop_dispatch is None:
                queue_of_agent.stop_dispatch = self._clock.callLater(
                    again, self._rested, queue_of_agent
                )
        # Not now: many that end at once would end inside each other.
        self._clock.callLater(0, self._feed, queue_of_agent)

    def _rested(self, queue_of_agent: _AgentQueue) -> None:
        queue_of_agent.stop_dispatch = None
        self._feed(queue_of_agent)

    async def _turn(self, group: AgentGroup, job: Job) -> float | None:
        """
        Ask `job`.  None when it has ended, else the seconds until it can be asked
        again.
        """

        def on_progress(progress: Progress) -> None:
            if isinstance(progress, Started):
                try:
                    self._store.started(job.id)
                except Exception:
                    # The pool could not go on; the job can.
                    self._log.failure("that the job {id} began is not noted", id=job.id)

        options = RequestOptions(job.timeout, job.priority, job.client, job.task)
        try:
            task = self._tasks.get(job.task)
            if task is None:
                raise UnknownTask(job.task)
            # The task may be another one by now.
            outcome = await execute(group, task, task.accept(job.payload), options, on_progress)
        except CancelledError:
            found = self._store.get(job.id)
            if found is not None and found.unfinished:
                self._store.waits(job.id)
                return 0
        except WorkError as problem:
            again = _retry_delay(problem, job)
            if again is None:
                self._end(job.id, problem)
                return None
            self._store.waits(job.id)
            return again
        except Exception:
            self._log.failure("a fault while asking the job {id}", id=job.id)
            fault = {"error": "The server has a fault", "code": "fault"}
            self._ended(job.id, "failed", StoredResponse(500, fault))
        else:
            self._ended(job.id, "done", StoredResponse(200, outcome.found.value))
        return None

    def _end(self, id: str, problem: WorkError) -> None:
        self._ended(id, "failed", self._describe(problem))

    def _ended(self, id: str, state: JobState, said: StoredResponse | None) -> None:
        self._store.ended(id, state, said, self._clock.seconds())
        job = self._store.get(id)
        assert job is not None, "it was there a moment ago"
        self._on_ended(job)


def _retry_delay(problem: WorkError, job: Job) -> float | None:
    """
    In how many seconds `job`, refused for this reason, can be asked again; None
    when that would change nothing.
    """
    match problem:
        case DeadlineUnachievable() if job.timeout is not None:
            return None
        case NoWorkerFree(retry_after=seconds) | DeadlineUnachievable(retry_after=seconds):
            pass
        case AgentUnavailable(retry_after=seconds):
            pass
        case ShuttingDown():
            seconds = None
        case _:
            return None
    wanted = _USUAL_REST if seconds is None else seconds
    return float(min(max(wanted, _SHORTEST_REST), _LONGEST_REST))
