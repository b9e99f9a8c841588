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
    BadInput,
    NoTimeLeft,
    NoWorkerFree,
    SessionLost,
    ShuttingDown,
    TooManyJobs,
    UnknownTask,
    WorkError,
)
from kiroworkers.execution import ask
from kiroworkers.jobs.job import Job, Key, Said, State
from kiroworkers.jobs.store import Store
from kiroworkers.pool.agent_groups import Group, Groups
from kiroworkers.pool.dispatcher import Terms
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
Describe = Callable[[WorkError], Said]


@define(eq=False)
class _Lane:
    """
    The jobs for one agent.

    @ivar turns: what is asked, by the job's id.
    @ivar rest: until when nothing is.
    """

    group: Group
    waiting: FairQueue[str] = field(factory=lambda: FairQueue(_HEAD_START))
    turns: dict[str, Deferred[float | None]] = field(factory=dict)
    rest: IDelayedCall | None = None

    @property
    def has_room(self) -> bool:
        return (
            self.rest is None
            and len(self.waiting) > 0
            and len(self.turns) < self.group.pool.crew.scale.max_workers
        )


class Runner(Service):
    """
    Has the jobs in `store` asked.

    @param store: open when the service starts.
    @param describe: tells what a `WorkError` means to a client.
    @param limit: so many jobs may be unfinished.
    @param on_ended: told of each job that has ended.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        groups: Groups,
        tasks: Mapping[str, Task],
        store: Store,
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
        self._lanes = {group.name: _Lane(group) for group in groups}
        self._resting = False

    def startService(self) -> None:
        super().startService()
        for job in self._store.unfinished():
            if job.agent not in self._lanes:
                self._end(job.id, BadInput("agent", f"The agent {job.agent} serves no more"))
            elif job.state == "running" and job.attempts >= _MOST_ATTEMPTS:
                self._end(job.id, SessionLost("the server ended each time", job.attempts))
            else:
                self._store.waits(job.id)
                self._add(job)
        for lane in self._lanes.values():
            self._feed(lane)

    def rest(self) -> None:
        """
        Begin no turn.  What waits, in the pool or here, stays in the store.
        """
        self._resting = True
        for lane in self._lanes.values():
            if lane.rest is not None:
                lane.rest.cancel()
                lane.rest = None
            for id, turn in list(lane.turns.items()):
                job = self._store.get(id)
                if job is None or job.state == "queued":
                    turn.cancel()

    def stopService(self) -> None:
        super().stopService()
        self.give_back()

    def give_back(self) -> None:
        """
        What still runs stays in the store, too.
        """
        self.rest()
        for lane in self._lanes.values():
            for turn in list(lane.turns.values()):
                turn.cancel()

    def accept(self, job: Job, key: Key | None = None, fingerprint: str = "") -> Job:
        """
        Take on `job`, which has no id yet.  When this returns, it will be asked.

        @raise TooManyJobs: when it cannot be taken on.
        @raise ShuttingDown: likewise.
        """
        if self._resting:
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
        lane = self._lanes[job.agent]
        lane.waiting.remove(job.id)
        self._ended(job.id, "cancelled", None)
        turn = lane.turns.get(job.id)
        if turn is not None:
            turn.cancel()

    def _add(self, job: Job) -> _Lane:
        lane = self._lanes[job.agent]
        lane.waiting.add(job.id, job.client, job.priority, job.created)
        return lane

    def _feed(self, lane: _Lane) -> None:
        """
        Begin as many turns as there is room for.
        """
        while not self._resting and lane.has_room:
            id = lane.waiting.next()
            job = self._store.get(id)
            assert job is not None and job.unfinished, "it waits"
            turn = Deferred.fromCoroutine(self._turn(lane.group, job))
            lane.turns[id] = turn
            turn.addBoth(self._turned, lane, job)

    def _turned(self, again: float | Failure | None, lane: _Lane, job: Job) -> None:
        """
        The turn of `job` is over; or it is to be asked `again`, in so many seconds.
        """
        del lane.turns[job.id]
        lane.waiting.release(job.client)
        if isinstance(again, Failure):
            # It stays in the store as it is, and the next server asks it again.
            self._log.failure("a fault with the job {id}", again, id=job.id)
            again = None
        if again is not None and not self._resting:
            lane.waiting.put_back(job.id, job.client, job.priority)
            if lane.rest is None:
                lane.rest = self._clock.callLater(again, self._rested, lane)
        # Not now: many that end at once would end inside each other.
        self._clock.callLater(0, self._feed, lane)

    def _rested(self, lane: _Lane) -> None:
        lane.rest = None
        self._feed(lane)

    async def _turn(self, group: Group, job: Job) -> float | None:
        """
        Ask `job`.  None when it has ended, else the seconds until it can be asked
        again.
        """

        def watch(progress: Progress) -> None:
            if isinstance(progress, Started):
                try:
                    self._store.started(job.id)
                except Exception:
                    # The pool could not go on; the job can.
                    self._log.failure("that the job {id} began is not noted", id=job.id)

        terms = Terms(job.timeout, job.priority, job.client, job.task)
        try:
            task = self._tasks.get(job.task)
            if task is None:
                raise UnknownTask(job.task)
            # The task may be another one by now.
            outcome = await ask(group, task, task.accept(job.asked), terms, watch)
        except CancelledError:
            found = self._store.get(job.id)
            if found is not None and found.unfinished:
                self._store.waits(job.id)
                return 0
        except WorkError as problem:
            again = _again(problem, job)
            if again is None:
                self._end(job.id, problem)
                return None
            self._store.waits(job.id)
            return again
        except Exception:
            self._log.failure("a fault while asking the job {id}", id=job.id)
            fault = {"error": "The server has a fault", "code": "fault"}
            self._ended(job.id, "failed", Said(500, fault))
        else:
            self._ended(job.id, "done", Said(200, outcome.found.value))
        return None

    def _end(self, id: str, problem: WorkError) -> None:
        self._ended(id, "failed", self._describe(problem))

    def _ended(self, id: str, state: State, said: Said | None) -> None:
        self._store.ended(id, state, said, self._clock.seconds())
        job = self._store.get(id)
        assert job is not None, "it was there a moment ago"
        self._on_ended(job)


def _again(problem: WorkError, job: Job) -> float | None:
    """
    In how many seconds `job`, refused for this reason, can be asked again; None
    when that would change nothing.
    """
    match problem:
        case NoTimeLeft() if job.timeout is not None:
            return None
        case NoWorkerFree(retry_after=seconds) | NoTimeLeft(retry_after=seconds):
            pass
        case AgentUnavailable(retry_after=seconds):
            pass
        case ShuttingDown():
            seconds = None
        case _:
            return None
    wanted = _USUAL_REST if seconds is None else seconds
    return float(min(max(wanted, _SHORTEST_REST), _LONGEST_REST))
