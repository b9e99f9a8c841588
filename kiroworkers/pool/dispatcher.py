"""
Requests and workers, brought together: round robin, then by fair share,
priority and arrival.

An idle worker and a waiting request never exist at the same time, but while the
pool is paused.  Every request has one deadline, its wait included, and ends
exactly once: with its answer, with a `WorkError`, or cancelled by whoever asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count

from attrs import define, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import (
    AgentUnavailable,
    DeadlineUnachievable,
    NoWorkerFree,
    RequestTimedOut,
    SessionLost,
    ShuttingDown,
    WorkError,
)
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.circuit_breaker import LoginPolicy
from kiroworkers.pool.fair_queue import MOST_URGENT, USUAL, FairQueue
from kiroworkers.pool.latency import LatencyTracker, estimate_wait
from kiroworkers.pool.progress import (
    OnProgress,
    PartialText,
    Progress,
    Queued,
    Retrying,
    Started,
)
from kiroworkers.pool.worker import Worker
from kiroworkers.pool.workers import WorkerFactory, WorkerPool
from kiroworkers.session.session import Reply, ReplyValidator, accept_any

#: How often a request may be asked: once, and once more when its session died.
_MOST_ATTEMPTS = 2

#: The most urgent request may overtake the least urgent ones that came up to this
#: part of the queue's time-out before it; so those still have their turn.
_OVERTAKES = 0.5


@frozen
class QueuePolicy:
    """
    Attributes:
        backlog: how many requests may wait.
        queue_timeout: how long each may, in seconds.
        request_timeout: a request's deadline, in seconds from its arrival.
    """

    backlog: int
    queue_timeout: float
    request_timeout: float


@frozen
class RequestOptions:
    """
    On what terms a request is made.

    Attributes:
        timeout: the client's own deadline in seconds, where it is the shorter.
        priority: from 0 to 9, the most urgent.
        client: whose share the turn counts against.
        label: what it is, for the operator.
    """

    timeout: float | None = None
    priority: int = USUAL
    client: str = ""
    label: str = ""


@frozen
class TurnResult:
    """
    What a session said to the request of this `number`, which worker, in how many
    attempts, and how many seconds the last one took.
    """

    number: int
    reply: Reply
    worker: str
    attempts: int
    seconds: float


@frozen
class QueueSnapshot:
    """
    The queue as it is now: requests waiting, and how many may.
    """

    length: int
    limit: int


@frozen
class RequestSnapshot:
    """
    A request as it is now.  Times are in seconds on the clock of the reactor.

    Attributes:
        worker: who is asked; None while it waits.
    """

    number: int
    options: RequestOptions
    arrived: float
    deadline: float
    attempts: int
    worker: str | None


@define(eq=False)
class _Request:
    number: int
    prompt: str
    validate: ReplyValidator
    on_progress: OnProgress | None
    options: RequestOptions
    arrived: float
    limit: float
    reply: Deferred[TurnResult]
    deadline: IDelayedCall
    patience: IDelayedCall | None = None
    turn: Deferred[Reply] | None = None
    worker: str | None = None
    attempts: int = 0
    is_probe: bool = False

    def report(self, progress: Progress) -> None:
        """
        Tell whoever asked what became of the request.
        """
        if self.on_progress is not None:
            self.on_progress(progress)

    def report_text(self, text: str) -> None:
        """
        Pass on a piece of the answer.
        """
        self.report(PartialText(text))


class Dispatcher(Service):
    """
    The requests that workers are asked, and those that wait.

    Args:
        new_worker: makes a worker of a name.
        login, is_free, called: as `WorkerPool` has them.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        new_worker: WorkerFactory,
        scale: AutoscalePolicy,
        policy: QueuePolicy,
        login: LoginPolicy,
        is_free: Callable[[int], bool],
        called: str = "worker",
    ) -> None:
        self.worker_pool = WorkerPool(
            clock, new_worker, scale, login, is_free, self._dispatch, self._refuse_waiting, called
        )
        self._clock = clock
        self._policy = policy
        self._numbers = count(1)
        self._waiting: FairQueue[_Request] = FairQueue(
            policy.queue_timeout * _OVERTAKES / MOST_URGENT
        )
        self._requests: dict[_Request, None] = {}
        self._latency = LatencyTracker()
        self._paused = False
        self._hurried = False
        self._finished: Deferred[bool] | None = None
        self._drain_alarm: IDelayedCall | None = None

    @property
    def paused(self) -> bool:
        """
        Do requests wait until `resume`?
        """
        return self._paused

    @property
    def draining(self) -> bool:
        """
        Is no new work taken?
        """
        return self._finished is not None or not self.running

    def startService(self) -> None:
        super().startService()
        self.worker_pool.start()

    def stopService(self) -> Deferred[None]:
        """
        Refuse what waits and what runs, and end every session.
        """
        super().stopService()
        self.hurry()
        for request in list(self._requests):
            self._end(request, ShuttingDown())
        return self.worker_pool.stop()

    def queue(self) -> QueueSnapshot:
        """
        The queue as it is now.
        """
        return QueueSnapshot(len(self._waiting), self._policy.backlog)

    def requests(self) -> Iterator[RequestSnapshot]:
        """
        Every request that is not ended, in the order in which they came.
        """
        for request in self._requests:
            yield RequestSnapshot(
                request.number,
                request.options,
                request.arrived,
                request.arrived + request.limit,
                request.attempts,
                request.worker,
            )

    def submit(
        self,
        prompt: str,
        options: RequestOptions | None = None,
        validate: ReplyValidator = accept_any,
        on_progress: OnProgress | None = None,
    ) -> Deferred[TurnResult]:
        """
        Ask `prompt` of the next idle worker, or wait for one.  Fails with a
        `WorkError`; cancelling it gives the request up, wherever it is.

        Args:
            validate: looks at each answer; one that is not put right in its own
                conversation is asked once of another worker.
            on_progress: told what becomes of the request.
        """
        options = options or RequestOptions()
        limit = self._policy.request_timeout
        if options.timeout is not None:
            limit = min(limit, options.timeout)
        if self.draining:
            return fail(ShuttingDown())
        is_probe = self.worker_pool.circuit_breaker.is_open
        if is_probe and not self._may_probe():
            return fail(self.worker_pool.circuit_breaker.error())
        worker = self._next_idle()
        refusal = self._refusal_at_once(options, limit, waits=worker is None)
        if refusal is not None:
            return fail(refusal)
        request = _Request(
            number=next(self._numbers),
            prompt=prompt,
            validate=validate,
            on_progress=on_progress,
            options=options,
            arrived=self._clock.seconds(),
            limit=limit,
            reply=Deferred(lambda _: self._give_up(request)),
            deadline=self._clock.callLater(limit, lambda: self._expire(request)),
            is_probe=is_probe,
        )
        self._requests[request] = None
        if worker is not None:
            self._waiting.take(options.client)
            self._put(request, worker)
        else:
            ahead = self._waiting.ahead(options.client, options.priority)
            self._waiting.add(request, options.client, options.priority, request.arrived)
            if on_progress is not None:
                on_progress(Queued(ahead + 1, self._wait_for(ahead)))
            if self._policy.queue_timeout < limit:
                request.patience = self._clock.callLater(
                    self._policy.queue_timeout, lambda: self._end(request, self._busy())
                )
        self._grow()
        return request.reply

    # What the operator may ask of it.

    def pause(self) -> None:
        """
        Begin no turn until `resume`; what runs goes on, what comes waits.  A pool
        that is draining does not pause.
        """
        self._paused = not self.draining

    def resume(self) -> None:
        """
        Begin turns again.
        """
        self._paused = False
        self._dispatch()
        self._grow()

    def drain(self, timeout: float) -> Deferred[bool]:
        """
        Take no new work.  Fires when all requests are finished, with True, or with
        False after `timeout` seconds or at `hurry`.
        """
        if self._finished is None:
            self._finished = Deferred()
            self._drain_alarm = self._clock.callLater(timeout, self.hurry)
            self.resume()
            self._check_finished()
            if self._hurried:
                self.hurry()
        return self._finished

    def hurry(self) -> None:
        """
        Wait no longer for requests to finish, now or when it is drained.
        """
        self._hurried = True
        self._end_drain()

    def _end_drain(self) -> None:
        if self._drain_alarm is not None:
            if self._drain_alarm.active():
                self._drain_alarm.cancel()
            self._drain_alarm = None
            assert self._finished is not None, "drained with an alarm"
            self._finished.callback(not self._requests)

    # How requests go.

    def _dispatch(self) -> None:
        while self._waiting:
            worker = self._next_idle()
            if worker is None:
                return
            self._put(self._waiting.next(), worker)

    def _grow(self) -> None:
        if not (self._paused or self.draining):
            self.worker_pool.grow(len(self._waiting))

    def _next_idle(self) -> Worker | None:
        return None if self._paused else self.worker_pool.next_idle()

    def _put(self, request: _Request, worker: Worker) -> None:
        if request.patience is not None:
            request.patience.cancel()
            request.patience = None
        request.attempts += 1
        request.worker = worker.name
        client = request.options.client
        began = self._clock.seconds()
        request.report(Started(worker.name, request.attempts))

        def answered(reply: Reply) -> None:
            now = self._clock.seconds()
            self._latency.add(now, now - began)
            request.turn = None
            self._waiting.release(client)
            if reply.unfit and request.attempts < _MOST_ATTEMPTS and not self._hurried:
                request.worker = None
                self._again(request, "its answer did not fit")
                worker.end_turn()
                return
            if request.is_probe or self.worker_pool.circuit_breaker.shows_recovery(began):
                self.worker_pool.circuit_breaker.close()
            self._forget(request)
            answer = TurnResult(request.number, reply, worker.name, request.attempts, now - began)
            request.reply.callback(answer)
            self._check_finished()
            worker.end_turn()

        def failed(failure: Failure) -> None:
            request.turn = request.worker = None
            self._waiting.release(client)
            # One that was given up was forgotten by `_forget`, which was told why.
            if not failure.check(CancelledError):
                self._failed(request, failure)
            worker.end_turn()

        try:
            on_text = None if request.on_progress is None else request.report_text
            turn = worker.ask(request.prompt, request.validate, on_text)
        except Exception as problem:
            # Nothing was typed, and the worker is as idle as before: whoever looks
            # for idle workers finds it again.
            self._waiting.release(client)
            self._end(request, problem)
            return
        request.turn = turn
        turn.addCallbacks(answered, failed)

    def _failed(self, request: _Request, failure: Failure) -> None:
        """
        A turn of `request` ended without an answer.
        """
        problem = failure.value
        if isinstance(problem, SessionLost):
            if request.attempts < _MOST_ATTEMPTS:
                self._again(request, "its session died")
                return
            failure = Failure(SessionLost(problem.reason, request.attempts))
        self._end(request, failure)
        if isinstance(problem, AgentUnavailable):
            self.worker_pool.record_failure(
                AgentFailure(problem.kind, problem.detail, problem.retry_after)
            )

    def _again(self, request: _Request, reason: str) -> None:
        """
        Ask once more: another worker at once, or the first that is free.
        """
        self._log.info("request {n} is asked again: {reason}", n=request.number, reason=reason)
        request.report(Retrying(reason))
        if self._hurried:
            self._end(request, ShuttingDown())
            return
        if (
            self.worker_pool.circuit_breaker.is_open
            and not self.worker_pool.circuit_breaker.half_open
        ):
            self._end(request, self.worker_pool.circuit_breaker.error())
            return
        self._waiting.put_back(request, request.options.client, request.options.priority)
        self._dispatch()

    def _expire(self, request: _Request) -> None:
        self._end(request, RequestTimedOut(request.limit))

    def _end(self, request: _Request, problem: Exception | Failure) -> None:
        """
        End `request` without an answer.
        """
        if request in self._requests:
            self._forget(request)
            request.reply.errback(problem)
            self._check_finished()

    def _give_up(self, request: _Request) -> None:
        """
        Whoever made `request` is gone.
        """
        self._forget(request)
        self._check_finished()

    def _forget(self, request: _Request) -> None:
        """
        Nothing more happens to `request`: not in the queue, not by a timer, not
        in a session.
        """
        self._requests.pop(request, None)
        self._waiting.remove(request)
        for timer in (request.deadline, request.patience):
            if timer is not None and timer.active():
                timer.cancel()
        turn, request.turn = request.turn, None
        if turn is not None:
            turn.cancel()

    # Whether a request is taken.

    def _refusal_at_once(
        self, options: RequestOptions, limit: float, waits: bool
    ) -> WorkError | None:
        """
        Why a request cannot be answered in time, if that is known already.
        """
        now = self._clock.seconds()
        known = self._latency.known(now)
        fastest = self._latency.fastest(now) if known else 0.0
        wait = 0.0
        if waits and known and not self._paused:
            wait = self._wait_for(self._waiting.ahead(options.client, options.priority))
        if wait + fastest > limit:
            return DeadlineUnachievable(limit, wait + fastest, self._retry_after())
        if wait > self._policy.queue_timeout:
            return self._busy()
        full = len(self._waiting) >= self._policy.backlog
        if waits and full and not self._make_room(options.client):
            return self._busy()
        return None

    def _make_room(self, client: str) -> bool:
        """
        Let a client that holds more of a full queue than `client` give a place
        up.  Did one?
        """
        last = self._waiting.newest_of_largest(client)
        if last is None:
            return False
        self._end(last, self._busy())
        return True

    def _busy(self) -> WorkError:
        """
        Nobody is free in time.
        """
        return NoWorkerFree(self._retry_after(), len(self._waiting), self._policy.backlog)

    def _retry_after(self) -> int:
        """
        When it is worth to ask again, in seconds, by the turns seen.
        """
        return max(1, math.ceil(self._wait_for(len(self._waiting))))

    def _wait_for(self, ahead: int) -> float:
        return estimate_wait(
            ahead, self.worker_pool.turns(), self._latency.typical(self._clock.seconds())
        )

    # When no session can answer.

    def _may_probe(self) -> bool:
        """
        May a request see whether the outage is over?  One at a time.
        """
        return self.worker_pool.circuit_breaker.half_open and not any(
            each.is_probe for each in self._requests
        )

    def _refuse_waiting(self) -> None:
        """
        No session can answer for some time: nobody waits for that.
        """
        for request in [each for each in self._requests if each.worker is None]:
            self._end(request, self.worker_pool.circuit_breaker.error())

    # How it ends.

    def _check_finished(self) -> None:
        if not self._requests:
            self._end_drain()
