"""
Requests and workers, brought together: round robin, then first come, first
served.

An idle worker and a waiting request never exist at the same time.  Every
request has one deadline, its wait included, and ends exactly once: with its
answer, with a `WorkError`, or cancelled by whoever asked.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from statistics import median

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.errors import NoWorkerFree, SessionLost, ShuttingDown, TimedOut, WorkError
from kiroworkers.sessions.session import Reply
from kiroworkers.sessions.worker import NewSession, Snapshot, Worker

#: How often a request may be asked: once, and once more when its session died.
_MOST_ATTEMPTS = 2

#: Seconds a turn is thought to take before any was seen.
_FIRST_GUESS = 6.0


@frozen
class Answer:
    """
    What a session said to a request, which worker, in how many attempts, and how
    many seconds the last one took.
    """

    reply: Reply
    worker: str
    attempts: int
    seconds: float


@frozen
class Queue:
    """
    The queue as it is now: requests waiting, and how many may.
    """

    length: int
    limit: int


@define(eq=False)
class _Request:
    prompt: str
    reply: Deferred[Answer]
    deadline: IDelayedCall
    patience: IDelayedCall | None = None
    turn: Deferred[Reply] | None = None
    attempts: int = 0


@define
class _TurnTimes:
    """
    The durations of the last turns, in seconds.
    """

    _last: deque[float] = field(factory=lambda: deque(maxlen=100))

    def add(self, seconds: float) -> None:
        self._last.append(seconds)

    def typical(self) -> float:
        return median(self._last) if self._last else _FIRST_GUESS


class Pool(Service):
    """
    Workers named worker1, worker2, …, and the requests that wait for them.

    @param backlog: how many requests may wait.
    @param queue_timeout: how long each may, in seconds.
    @param request_timeout: a request's deadline, in seconds from its arrival.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        new_session: NewSession,
        workers: int,
        restart_delay: float,
        backlog: int,
        queue_timeout: float,
        request_timeout: float,
    ) -> None:
        self._clock = clock
        self._backlog = backlog
        self._queue_timeout = queue_timeout
        self._request_timeout = request_timeout
        self._workers = [
            Worker(f"worker{number}", clock, new_session, restart_delay, self._serve)
            for number in range(1, workers + 1)
        ]
        self._next = 0
        self._waiting: OrderedDict[int, _Request] = OrderedDict()
        self._requests: set[_Request] = set()
        self._turn_times = _TurnTimes()

    @property
    def workers(self) -> Sequence[Worker]:
        return self._workers

    def startService(self) -> None:
        super().startService()
        for worker in self._workers:
            worker.start()

    def stopService(self) -> Deferred[None]:
        """
        Refuse what waits and what runs, and end every session.
        """
        super().stopService()
        for request in list(self._requests):
            self._end(request, ShuttingDown())
        gone = DeferredList([worker.stop() for worker in self._workers])
        return gone.addCallback(lambda _: None)

    def snapshots(self) -> list[Snapshot]:
        """
        Every worker as it is now.
        """
        return [worker.snapshot() for worker in self._workers]

    def queue(self) -> Queue:
        """
        The queue as it is now.
        """
        return Queue(len(self._waiting), self._backlog)

    def submit(self, prompt: str) -> Deferred[Answer]:
        """
        Ask `prompt` of the next idle worker, or wait for one.  Fails with a
        `WorkError`; cancelling it gives the request up, wherever it is.
        """
        if not self.running:
            return fail(ShuttingDown())
        worker = self._next_idle()
        if worker is None and len(self._waiting) >= self._backlog:
            return fail(self._refusal())
        request = _Request(
            prompt=prompt,
            reply=Deferred(lambda _: self._forget(request)),
            deadline=self._clock.callLater(self._request_timeout, lambda: self._expire(request)),
        )
        self._requests.add(request)
        if worker is not None:
            self._put(request, worker)
        else:
            self._waiting[id(request)] = request
            request.patience = self._clock.callLater(
                self._queue_timeout, lambda: self._end(request, self._refusal())
            )
        return request.reply

    def _next_idle(self) -> Worker | None:
        """
        The next idle worker in turn.
        """
        count = len(self._workers)
        for step in range(count):
            worker = self._workers[(self._next + step) % count]
            if worker.idle:
                self._next = (self._next + step + 1) % count
                return worker
        return None

    def _serve(self, worker: Worker) -> None:
        """
        `worker` is idle: give it the request that waits longest.
        """
        if self._waiting:
            _, request = self._waiting.popitem(last=False)
            self._put(request, worker)

    def _put(self, request: _Request, worker: Worker) -> None:
        if request.patience is not None:
            request.patience.cancel()
            request.patience = None
        request.attempts += 1
        began = self._clock.seconds()

        def answered(reply: Reply) -> None:
            took = self._clock.seconds() - began
            self._turn_times.add(took)
            request.turn = None
            self._forget(request)
            request.reply.callback(Answer(reply, worker.name, request.attempts, took))

        def failed(failure: Failure) -> None:
            request.turn = None
            if failure.check(CancelledError):
                return  # given up by `_forget`, which is told by who knows why
            if failure.check(SessionLost) and request.attempts < _MOST_ATTEMPTS:
                self._log.info("a session died while it was asked: asking another")
                self._again(request)
                return
            if isinstance(failure.value, SessionLost):
                failure = Failure(SessionLost(failure.value.reason, request.attempts))
            self._end(request, failure)

        try:
            turn = worker.ask(request.prompt)
        except Exception as problem:
            # Nothing was typed, and the worker is as idle as before.
            self._end(request, problem)
            self._serve(worker)
            return
        request.turn = turn
        turn.addCallbacks(answered, failed)

    def _again(self, request: _Request) -> None:
        """
        Ask once more: another worker at once, or the first that is free.
        """
        worker = self._next_idle()
        if worker is not None:
            self._put(request, worker)
        else:
            self._waiting[id(request)] = request
            self._waiting.move_to_end(id(request), last=False)

    def _expire(self, request: _Request) -> None:
        self._end(request, TimedOut(self._request_timeout))

    def _end(self, request: _Request, problem: Exception | Failure) -> None:
        """
        End `request` without an answer.
        """
        if request in self._requests:
            self._forget(request)
            request.reply.errback(problem)

    def _forget(self, request: _Request) -> None:
        """
        Nothing more happens to `request`: not in the queue, not by a timer, not
        in a session.
        """
        self._requests.discard(request)
        self._waiting.pop(id(request), None)
        for timer in (request.deadline, request.patience):
            if timer is not None and timer.active():
                timer.cancel()
        turn, request.turn = request.turn, None
        if turn is not None:
            turn.cancel()

    def _refusal(self) -> WorkError:
        """
        Nobody is free: when it is worth to ask again, from the turns seen.
        """
        serving = sum(snapshot.healthy for snapshot in self.snapshots()) or 1
        waiting = len(self._waiting)
        patience = self._turn_times.typical() * (waiting + 1) / serving
        return NoWorkerFree(max(1, math.ceil(patience)), waiting, self._backlog)
