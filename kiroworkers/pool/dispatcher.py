"""
Dispatch requests to idle workers, and queue the requests that must wait.

Idle workers take turns (round robin); waiting requests are ordered by fair share,
priority and arrival.  A request never waits while a worker is idle, except while
the dispatcher is paused.  Every request has one deadline, which covers the queue
and all its turns.

A request is sent to one worker at a time.  The dispatcher does not judge replies: the
submitter asks again in the same conversation, retries with another worker, or ends the
request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.conversations import AgentFailure, Notice, TextChunk, TextDiscarded
from kiroworkers.errors import (
    AgentPerhapsUnavailable,
    AgentUnavailable,
    DeadlineUnachievable,
    NoWorkerFree,
    RequestTimedOut,
    SessionLost,
    ShuttingDown,
    WorkError,
)
from kiroworkers.images import Image, check_accepted
from kiroworkers.pool.approvals import Approvals
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.circuit_breaker import LoginPolicy, Probe
from kiroworkers.pool.fair_queue import DEFAULT_PRIORITY, MAX_PRIORITY, FairQueue
from kiroworkers.pool.latency import LatencyTracker, estimate_wait
from kiroworkers.pool.progress import (
    AgentNotice,
    OnProgress,
    PartialText,
    Progress,
    Queued,
    Retrying,
    Started,
)
from kiroworkers.pool.shared_outage import SharedOutage
from kiroworkers.pool.versions import VersionGate
from kiroworkers.pool.worker import Worker, WorkerSnapshot
from kiroworkers.pool.workers import WorkerFactory, WorkerPool
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.session.session import CannotAskAgain, Session
from kiroworkers.session.tools import AskOperator
from kiroworkers.session.turn import Reply, TurnEvent

#: The head start of the highest priority over the lowest, as a part of the queue's
#: time-out.  Below 1, so that a request of low priority still gets a turn in time.
_MAX_HEAD_START = 0.5


@frozen
class QueuePolicy:
    """
    Hold the limits of the queue.

    Attributes:
        backlog: The number of requests that may wait.
        queue_timeout: The longest wait in the queue, in seconds.
        request_timeout: The deadline of a request, in seconds from its arrival.
    """

    backlog: int
    queue_timeout: float
    request_timeout: float


@frozen
class RequestOptions:
    """
    Hold the options of one request.

    Attributes:
        timeout: The client's own deadline in seconds from the request's arrival;
            it applies if it is shorter than the server's.
        priority: From 0 (lowest) to 9 (highest).
        client: The client whose fair share the request counts towards.
        label: A short description for the operator, such as the task's name.
        record: What is filled in while the request is handled, for the log.
        model: The model that is to answer; empty for the agent's own.
    """

    timeout: float | None = None
    priority: int = DEFAULT_PRIORITY
    client: str = ""
    label: str = ""
    record: RequestRecord = field(factory=RequestRecord, eq=False, repr=False)
    model: str = ""


@frozen
class PoolState:
    """
    Hold the state of a pool at one moment.

    Attributes:
        name: ``serving``; ``starting`` while no worker is ready; ``failed`` if no session can be
            started; ``paused`` by an operator; ``drained`` if an operator drained every worker;
            ``draining`` while the server stops; the kind of failure for which the circuit
            breaker is open; or ``trying`` if the next request probes the agent.
        detail: Why requests are refused or must wait; None while the pool is serving.
        retry_after: Seconds until the agent is tried again; None unless it has failed.
        reported_by: The other server that reported the failure of the agent; None otherwise.
    """

    name: str
    detail: str | None = None
    retry_after: int | None = None
    reported_by: str | None = None


@frozen
class QueueSnapshot:
    """
    Hold the length of the queue at one moment, and its limit.
    """

    length: int
    limit: int


@frozen
class RequestSnapshot:
    """
    Hold the state of a request at one moment.

    Attributes:
        number: The number of the request, as in the log.
        options: The request's options.
        arrived: When it arrived, in seconds on the clock of the reactor.
        deadline: When it fails unless it has been answered, on the same clock.
        attempts: The number of workers that were tried so far.
        worker: The worker that the request runs on; None while it waits.
    """

    number: int
    options: RequestOptions
    arrived: float
    deadline: float
    attempts: int
    worker: str | None


@define(eq=False)
class Request:
    """
    Represent one request from its arrival to its end.

    Attributes:
        number: The number of the request, as in the log.
        prompt: The text to send to each worker.
        on_progress: Called with each change of the request's progress.
        options: The request's options.
        arrived: When it arrived, in seconds on the clock of the reactor.
        limit: When it fails unless it has ended, in seconds from its arrival.
        reply: Fires with the agent's next reply, or fails with a `WorkError`.
            Cancelling it ends the request, whether it waits or runs.
        deadline_timer: Fails the request at its deadline.
        queue_timer: Fails the request at the end of its time in the queue.
        worker: The worker whose session answers or has answered; None without one.
        session: That session; the worker's next one has nothing to do with the request.
        turn: The worker's next reply; None while none is expected.
        began: When the last attempt began, in seconds on the clock of the reactor.
        seconds: How long the last attempt took until its last reply.
        attempts: The number of workers that were tried so far.
        problem: Why the dispatcher has ended the request, or None.
        check: What the submitter waits for between two replies; cancelled if the dispatcher
            ends the request.
        undecided: Whether the agent waits for an operator to decide about a tool.
        images: The images to send to each worker with the prompt.
        probe: Its attempt to find out whether the agent works again; None if it makes none.
    """

    _log = Logger()

    number: int
    prompt: str
    on_progress: OnProgress | None
    options: RequestOptions
    arrived: float
    limit: float
    reply: Deferred[Reply]
    deadline_timer: IDelayedCall
    queue_timer: IDelayedCall | None = None
    worker: Worker | None = None
    session: Session | None = None
    turn: Deferred[Reply] | None = None
    began: float = 0.0
    seconds: float = 0.0
    attempts: int = 0
    problem: Exception | Failure | None = None
    check: Deferred[Any] | None = None
    undecided: bool = False
    images: Sequence[Image] = ()
    probe: Probe | None = None

    @property
    def is_probe(self) -> bool:
        """
        Return whether it probes an agent whose circuit was open.
        """
        return self.probe is not None

    def report(self, progress: Progress) -> None:
        """
        Pass on a change of the request's progress to its submitter.

        An exception is only logged: the change may be due to the end of another request,
        which must not fail because of it.
        """
        if self.on_progress is not None:
            try:
                self.on_progress(progress)
            except Exception:
                self._log.failure(
                    "request {number}: internal error in its progress callback",
                    log_without_message=True,
                    number=self.number,
                    requestId=self.options.record.id,
                )

    def report_event(self, event: TurnEvent) -> None:
        """
        Report an event of a turn to the request's submitter.
        """
        match event:
            case TextChunk(text):
                self.report(PartialText(text))
            case TextDiscarded():
                self.report(Retrying("the agent's service restarted its answer", "same_turn"))
            case Notice(kind, detail):
                self.report(AgentNotice(kind, detail))


class Dispatcher(Service):
    """
    Send each request to an idle worker, in turn or as soon as one is free.

    Attributes:
        on_idle: Called when no request waits, and a worker may have become idle.

    Args:
        clock: The reactor's clock.
        new_worker: Makes a worker, given its name and its supervisor.
        autoscale_policy: The limits of the number of workers.
        policy: The limits of the queue.
        login: How to find out whether a user is logged in to the agent.
        has_free_memory: Returns whether the machine has this many bytes to spare.
        name_prefix: The part of a worker's name before its number.
        agent_problem: Returns why the agent's program cannot be run, or None if it can.
        approvals: Lets operators decide about the agent's tools; None to ask no operator.
        agent: The agent's name, for operators.
        versions: Decides which versions of the agent may serve; None if all may.
        shared_outage: Shares outages with other servers; None to share none.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        new_worker: WorkerFactory,
        autoscale_policy: AutoscalePolicy,
        policy: QueuePolicy,
        login: LoginPolicy,
        has_free_memory: Callable[[int], bool],
        name_prefix: str = "worker",
        agent_problem: Callable[[], str | None] = lambda: None,
        approvals: Approvals | None = None,
        agent: str = "",
        versions: VersionGate | None = None,
        shared_outage: SharedOutage | None = None,
    ) -> None:
        self.on_idle: Callable[[], None] = lambda: None
        self._approvals = approvals
        self._agent = agent
        self.worker_pool = WorkerPool(
            clock,
            new_worker,
            autoscale_policy,
            login,
            has_free_memory,
            self._dispatch,
            self._refuse_waiting,
            name_prefix,
            agent_problem,
            versions,
            agent,
            shared_outage,
        )
        self._clock = clock
        self._policy = policy
        self._numbers = count(1)
        self._waiting: FairQueue[Request] = FairQueue(
            policy.queue_timeout * _MAX_HEAD_START / MAX_PRIORITY
        )
        self._requests: dict[Request, None] = {}
        self._latency = LatencyTracker()
        self._paused = False
        self._leaving = False
        self._drain_skipped = False
        self._drained: Deferred[bool] | None = None
        self._drain_timer: IDelayedCall | None = None

    @property
    def paused(self) -> bool:
        """
        Return whether requests wait until `resume` is called.
        """
        return self._paused

    @property
    def draining(self) -> bool:
        """
        Return whether new requests are refused.
        """
        return self._drained is not None or not self.running

    @property
    def autoscale_policy(self) -> AutoscalePolicy:
        """
        Return the current limits of the number of workers.
        """
        return self.worker_pool.autoscale_policy

    def startService(self) -> None:
        """
        Start all workers, and accept requests.
        """
        super().startService()
        self.worker_pool.start()

    def stopService(self) -> Deferred[None]:
        """
        Fail all requests and end every session.

        Returns:
            A Deferred that fires when the last session is gone.
        """
        super().stopService()
        self.skip_drain()
        for request in list(self._requests):
            self._fail(request, ShuttingDown())
        return self.worker_pool.stop()

    def workers(self) -> list[WorkerSnapshot]:
        """
        Return the current state of every worker.
        """
        return self.worker_pool.snapshots()

    def state(self) -> PoolState:
        """
        Return the state of the pool; if several apply, the one that will last longest.
        """
        if self.draining or self._leaving:
            return PoolState("draining", "The server is shutting down")
        circuit = self.worker_pool.circuit_breaker.snapshot()
        failure = self.worker_pool.failure()
        if circuit is not None and not circuit.half_open:
            reported_by = circuit.reported_by or None
            return PoolState(circuit.kind, circuit.detail, circuit.retry_after, reported_by)
        if failure is not None:
            return PoolState("failed", str(failure), failure.retry_after)
        if circuit is not None:
            reported_by = circuit.reported_by or None
            return PoolState("trying", circuit.detail, circuit.retry_after, reported_by)
        if self._paused:
            return PoolState("paused", "An operator paused the pool")
        workers = self.worker_pool.workers
        if all(worker.drained for worker in workers):
            return PoolState("drained", "An operator drained every worker")
        if not any(worker.healthy for worker in workers):
            version = self.worker_pool.version()
            if version is not None and version.state == "on_trial":
                return PoolState("starting", "No worker is ready: a canary is under way")
            cause = self.worker_pool.last_cause()
            reason = "" if cause is None else f"; the last session ended: {cause}"
            return PoolState("starting", f"No worker is ready{reason}")
        return PoolState("serving")

    def queue(self) -> QueueSnapshot:
        """
        Return the current length of the queue, and its limit.
        """
        return QueueSnapshot(len(self._waiting), self._policy.backlog)

    def idle_slots(self) -> int:
        """
        Return the number of requests that would be given to a worker at once.
        """
        if self._paused or self._leaving or self.draining:
            return 0
        idle = sum(worker.idle for worker in self.worker_pool.workers) - len(self._waiting)
        if self.worker_pool.circuit_breaker.is_open:
            idle = min(idle, int(self._may_probe()))
        return max(0, idle)

    def expect(self, requests: int) -> None:
        """
        Start the workers that are needed for requests which are still to be submitted.
        """
        if not (self._paused or self.draining):
            self.worker_pool.grow(len(self._waiting) + requests)

    def requests(self, max_waiting: float = math.inf) -> Iterator[RequestSnapshot]:
        """
        Yield a snapshot of every unfinished request, in the order of their arrival.

        Args:
            max_waiting: The number of requests after which others that wait are left out.
        """
        waiting = 0
        for request in self._requests:
            if request.worker is None:
                waiting += 1
                if waiting > max_waiting:
                    continue
            yield RequestSnapshot(
                request.number,
                request.options,
                request.arrived,
                request.arrived + request.limit,
                request.attempts,
                None if request.worker is None else request.worker.name,
            )

    def submit(
        self,
        prompt: str,
        options: RequestOptions | None = None,
        on_progress: OnProgress | None = None,
        images: Sequence[Image] = (),
    ) -> Request:
        """
        Send `prompt` to the next idle worker, or queue it until one is idle.

        Args:
            prompt: The text to send to the agent.
            options: The deadline, the priority and the client of the request.
            on_progress: Called with each change of the request's progress.
            images: The images to send with the prompt.  If the worker's agent does not accept
                images, the request fails with `InvalidInput`.

        Returns:
            The request.  Its submitter waits for its `reply`, and must call `end` when it
            wants no other, whatever has happened.

        Raises:
            WorkError: The request is refused.
        """
        options = options or RequestOptions()
        limit = self._policy.request_timeout
        if options.timeout is not None:
            limit = min(limit, options.timeout)
        if self.draining:
            raise ShuttingDown()
        is_probe = self.worker_pool.circuit_breaker.is_open
        if is_probe and not self._may_probe():
            raise self._circuit_error()
        failure = self.worker_pool.failure()
        if failure is not None:
            raise failure
        worker = self._next_idle()
        rejection = self._rejection_on_arrival(options, limit, waits=worker is None)
        if rejection is not None:
            raise rejection
        request = Request(
            number=next(self._numbers),
            prompt=prompt,
            on_progress=on_progress,
            options=options,
            arrived=self._clock.seconds(),
            limit=limit,
            reply=Deferred(lambda _: self._cancelled(request)),
            deadline_timer=self._clock.callLater(limit, lambda: self._expire(request)),
            images=images,
        )
        self._requests[request] = None
        if is_probe:
            self._mark_probe(request)
            if request not in self._requests:
                return request  # Another server is probing the agent.
        if worker is not None and self._may_ask(request):
            self._waiting.begin_turn(options.client)
            self._run(request, worker)
        elif worker is not None:
            # It waits only until this server may probe the agent.
            self._waiting.add(request, options.client, options.priority, request.arrived)
        else:
            ahead = self._waiting.turns_ahead(options.client, options.priority)
            estimate = self._estimate_wait(ahead)
            self._waiting.add(request, options.client, options.priority, request.arrived)
            options.record.report(
                "queued",
                position=ahead + 1,
                estimate=round(estimate, 3),
                reason=self._wait_reason(),
            )
            request.report(Queued(ahead + 1, estimate))
            if self._policy.queue_timeout < limit:
                request.queue_timer = self._clock.callLater(
                    self._policy.queue_timeout, lambda: self._leave_queue(request)
                )
        self._grow()
        return request

    # What the submitter of a request can do after a reply.

    def ask_again(self, request: Request, prompt: str) -> Deferred[Reply]:
        """
        Send `prompt` to the worker that has answered `request`, in the same conversation.

        Returns:
            The new `Request.reply`.

        Raises:
            CannotAskAgain: That is not possible.
        """
        if request.problem is not None:
            return fail(request.problem)
        assert request.worker is not None, "a worker has answered"
        if not _is_open(request) or self._circuit_refusal(request) is not None:
            raise CannotAskAgain
        self._mark_probe(request)
        if not self._may_ask(request):
            raise CannotAskAgain
        return self._follow(request, request.worker.ask_again(prompt))

    def read_on(self, request: Request) -> Deferred[Reply]:
        """
        Wait for output that may follow the reply to `request`; see `Session.read_on`.

        Returns:
            The new `Request.reply`; it fails with `SessionLost` if the session has ended.
        """
        if request.problem is not None:
            return fail(request.problem)
        assert request.worker is not None, "a worker has answered"
        if not (_is_open(request) and request.worker.can_read_on):
            session = request.session
            how = "it ended" if session is None or not session.cause else session.cause
            return fail(SessionLost(f"{how}, before all of its answer was read"))
        return self._follow(request, request.worker.read_on())

    def retry_refusal(self, request: Request) -> WorkError | None:
        """
        Return why `request` cannot be asked once more at present, or None if it can.
        """
        if self._drain_skipped:
            return ShuttingDown()
        return self._circuit_refusal(request) or self.worker_pool.failure()

    def retry(self, request: Request) -> Deferred[Reply]:
        """
        Send `request` to another worker, now or before all others of its client.

        Call it after a reply or after a `SessionLost`.

        Returns:
            The new `Request.reply`.
        """
        if request.problem is not None:
            return fail(request.problem)
        worker = self._end_attempt(request)
        self._mark_probe(request)
        reply = request.reply = self._new_reply(request)
        self._waiting.put_back(request, request.options.client, request.options.priority)
        self._dispatch()
        if worker is not None:
            worker.end_turn()
        return reply

    def end(self, request: Request) -> None:
        """
        End `request`; without effect if it has ended.
        """
        if request not in self._requests:
            return
        worker = self._end_attempt(request) if request.turn is None else None
        breaker = self.worker_pool.circuit_breaker
        if worker is not None and (request.is_probe or breaker.shows_recovery(request.began)):
            breaker.close()
        self._discard(request)
        self._check_finished()
        if worker is not None:
            worker.end_turn()

    # What an operator can do.

    def pause(self) -> None:
        """
        Start no more turns until `resume` is called.

        Turns in progress continue, and new requests wait.  A dispatcher that is
        draining is not paused.
        """
        paused = not self.draining
        if paused and not self._paused:
            self._log.info("{agent}: paused; new requests wait", agent=self._agent)
        self._paused = paused

    def resume(self) -> None:
        """
        Start turns again after `pause`.
        """
        if self._paused:
            waiting = len(self._waiting)
            self._log.info("{agent}: resumed; {n} request(s) wait", agent=self._agent, n=waiting)
        self._paused = False
        self._dispatch()
        self._grow()

    def set_workers(self, number: int) -> None:
        """
        Set the smallest number of workers, and start or retire workers accordingly.
        """
        self.worker_pool.set_workers(number)

    def find_worker(self, name: str) -> Worker | None:
        """
        Return the worker called `name`, or None.
        """
        return next((worker for worker in self.worker_pool.workers if worker.name == name), None)

    def restart_worker(self, worker: Worker, reason: EndReason) -> None:
        """
        Give `worker` a new session after its turn; `reason` is for the log.
        """
        self.worker_pool.restart(worker, reason)

    def restart_workers(self, reason: EndReason) -> None:
        """
        Give every worker a new session, one at a time; `reason` is for the log.
        """
        self.worker_pool.restart_all(reason)

    def drain_worker(self, worker: Worker) -> None:
        """
        Take `worker` out of service after its turn.
        """
        self.worker_pool.drain(worker, EndReason(EndCause.DRAINED, "drained"))

    def announce_drain(self) -> None:
        """
        Have `state` say that the server stops, though requests are still accepted.
        """
        self._leaving = True

    def drain(self, timeout: float) -> Deferred[bool]:
        """
        Refuse new requests, and wait until those in progress are finished.

        Args:
            timeout: The longest wait, in seconds.

        Returns:
            A Deferred that fires with True when all requests are finished, or with
            False after `timeout` seconds or when `skip_drain` is called.
        """
        if self._drained is None:
            self._drained = Deferred()
            self._drain_timer = self._clock.callLater(timeout, self.skip_drain)
            self.resume()
            self._check_finished()
            if self._drain_skipped:
                self.skip_drain()
        return self._drained

    def skip_drain(self) -> None:
        """
        Stop waiting for requests to finish, in this drain or in a later one.
        """
        self._drain_skipped = True
        self._end_drain()

    def stop_now(self) -> None:
        """
        Stop waiting for requests to finish and for agents to quit.
        """
        self.skip_drain()
        self.worker_pool.stop_now()

    def _end_drain(self) -> None:
        if self._drain_timer is not None:
            if self._drain_timer.active():
                self._drain_timer.cancel()
            self._drain_timer = None
            assert self._drained is not None, "a drain has set the timer"
            self._drained.callback(not self._requests)

    # How requests run.

    def _dispatch(self) -> None:
        while self._waiting and not self.worker_pool.circuit_breaker.awaits_claim:
            worker = self._next_idle()
            if worker is None:
                return
            self._run(self._waiting.pop(), worker)
        self.on_idle()

    def _grow(self) -> None:
        if not (self._paused or self.draining):
            self.worker_pool.grow(len(self._waiting))

    def _next_idle(self) -> Worker | None:
        return None if self._paused else self.worker_pool.next_idle()

    def _run(self, request: Request, worker: Worker) -> None:
        if request.queue_timer is not None:
            request.queue_timer.cancel()
            request.queue_timer = None
        request.attempts += 1
        request.worker = worker
        request.session = worker.session
        request.began = self._clock.seconds()
        record = request.options.record
        record.agent = self._agent
        record.worker, record.attempts = worker.name, request.attempts
        record.report("started", worker=worker.name, agent=self._agent, attempt=request.attempts)
        request.report(Started(worker.name, request.attempts))
        if request not in self._requests:
            return  # Its submitter has just cancelled it; the worker is still idle.
        try:
            if request.images:
                # Another version of the agent, or one that was not ready before, may accept none.
                accepted = request.session is not None and request.session.accepts_images
                check_accepted(request.images, accepted, self._agent)
            on_event = None if request.on_progress is None else request.report_event
            turn = worker.ask(
                request.prompt,
                on_event,
                request.options.model,
                self._operator_question(request, worker),
                request.options.record,
                request.images,
            )
        except Exception as problem:
            # Nothing was typed and the worker is still idle, so it is found again by
            # the next search for an idle one.
            self._release(request)
            self._fail(request, problem)
            return
        record.prompted = True
        self._follow(request, turn)

    def _operator_question(self, request: Request, worker: Worker) -> AskOperator | None:
        """
        Return the function that asks operators about the tools of a turn of `request`.

        Return None if operators are not asked.
        """
        approvals = self._approvals
        if approvals is None:
            return None

        def ask(question: str, on_decision: Callable[[bool], None]) -> Callable[[], None]:
            def decided(allow: bool) -> None:
                request.undecided = False
                on_decision(allow)

            def withdraw() -> None:
                request.undecided = False
                withdraw_approval()

            request.undecided = True
            deadline = request.arrived + request.limit
            withdraw_approval = approvals.add(
                self._agent, worker.name, request.number, question, deadline, decided
            )
            return withdraw

        return ask

    def _new_reply(self, request: Request) -> Deferred[Reply]:
        return Deferred(lambda _: self._cancelled(request))

    def _follow(self, request: Request, turn: Deferred[Reply]) -> Deferred[Reply]:
        """
        Pass the result of `turn` on to the submitter of `request`.

        Returns:
            `Request.reply`, which is a new one if the last one has fired.
        """

        def answered(reply: Reply) -> None:
            request.turn = None
            request.seconds = self._clock.seconds() - request.began
            record = request.options.record
            record.tools_denied = len(reply.denied) or None
            record.tools_unasked = len(reply.unasked) or None
            record.report(
                "answered",
                characters=len(reply.text),
                completion=reply.completion,
                source=reply.source,
            )
            request.reply.callback(reply)

        def failed(failure: Failure) -> None:
            request.turn = None
            problem = failure.value
            breaker = self.worker_pool.circuit_breaker
            # Before the request gives up its worker: until then it is none of those that wait.
            tells_of_all = not isinstance(problem, AgentPerhapsUnavailable)
            if (
                isinstance(problem, AgentUnavailable)
                and tells_of_all
                and self.worker_pool.record_failure(
                    AgentFailure(problem.kind, problem.detail, problem.retry_after)
                )
            ):
                failure = Failure(evolve(problem, retry_after=breaker.retry_after))
            worker = self._release(request)
            # A cancelled turn belongs to a request that was discarded.
            if not isinstance(problem, CancelledError):
                request.reply.errback(failure)
            if worker is not None:
                worker.end_turn()

        if request.reply.called:
            request.reply = self._new_reply(request)
        request.turn = turn
        turn.addCallbacks(answered, failed)
        return request.reply

    def _release(self, request: Request) -> Worker | None:
        """
        Take the worker from `request`, and return it; None if it has none.
        """
        worker, request.worker = request.worker, None
        if worker is not None:
            self._waiting.end_turn(request.options.client)
            record = request.options.record
            record.turn = (record.turn or 0.0) + self._clock.seconds() - request.began
        return worker

    def _end_attempt(self, request: Request) -> Worker | None:
        """
        Take the worker that has answered `request`, and record how long that took.

        Returns:
            The worker, whose turn must be ended; None if the attempt or the session has ended
            already.
        """
        is_open = _is_open(request)
        worker = self._release(request)
        if worker is not None:
            self._latency.add(self._clock.seconds(), request.seconds)
        return worker if is_open else None

    def _expire(self, request: Request) -> None:
        reason = self._wait_reason() if request.attempts == 0 else None
        if request.undecided:
            reason = "No operator decided whether the agent may use a tool"
        self._fail(request, RequestTimedOut(request.limit, reason))

    def _leave_queue(self, request: Request) -> None:
        """
        Fail `request`, which has waited for too long.
        """
        # The estimate of the error is for a request that follows the others.
        self._waiting.remove(request)
        self._fail(request, self._busy_error())

    def _fail(self, request: Request, problem: Exception | Failure) -> None:
        """
        End `request` with an error, unless it has ended already.
        """
        if request in self._requests:
            request.problem = problem
            self._discard(request)
            if not request.reply.called:
                request.reply.errback(problem)
            if request.check is not None:
                request.check.cancel()
            self._check_finished()

    def _cancelled(self, request: Request) -> None:
        """
        Discard `request`, because its submitter cancelled it.
        """
        self._discard(request)
        self._check_finished()

    def _discard(self, request: Request) -> None:
        """
        Remove `request` from the queue, cancel its timers, and end its turn.
        """
        self._requests.pop(request, None)
        self._waiting.remove(request)
        if request.probe is not None:
            request.probe.end()
        for timer in (request.deadline_timer, request.queue_timer):
            if timer is not None and timer.active():
                timer.cancel()
        if request.turn is not None:
            request.turn.cancel()
        is_open = _is_open(request)
        worker = self._release(request)
        record = request.options.record
        waited = self._clock.seconds() - request.arrived - (record.turn or 0.0)
        record.wait = max(0.0, waited)
        if worker is not None and is_open:
            worker.end_turn()

    # Which requests are rejected on arrival.

    def _rejection_on_arrival(
        self, options: RequestOptions, limit: float, waits: bool
    ) -> WorkError | None:
        """
        Return why a new request cannot be answered in time, or None if it might be.

        Args:
            options: The request's options.
            limit: Its deadline, in seconds from now.
            waits: Whether it must wait for a worker.
        """
        now = self._clock.seconds()
        reliable = self._latency.is_reliable(now)
        minimum = self._latency.minimum(now) if reliable else 0.0
        wait = 0.0
        if waits and reliable and not self._paused:
            wait = self._estimate_wait(self._waiting.turns_ahead(options.client, options.priority))
        if wait + minimum > limit:
            return DeadlineUnachievable(limit, wait + minimum, self._retry_after())
        if wait > self._policy.queue_timeout:
            return self._busy_error()
        full = len(self._waiting) >= self._policy.backlog
        if waits and full and not self._evict_for(options.client):
            return self._busy_error()
        return None

    def _evict_for(self, client: str) -> bool:
        """
        Evict a request of a client that holds a larger part of the full queue than `client`.

        Returns:
            Whether a request was evicted.
        """
        evicted = self._waiting.newest_of_largest(client)
        if evicted is None:
            return False
        self._fail(evicted, self._busy_error())
        return True

    def _busy_error(self) -> WorkError:
        """
        Return the error for a request that finds no idle worker in time.
        """
        length, limit = len(self._waiting), self._policy.backlog
        return NoWorkerFree(self._retry_after(), length, limit, self._wait_reason())

    def _wait_reason(self) -> str:
        """
        Return why a request must wait.
        """
        return self.state().detail or "All workers busy"

    def _retry_after(self) -> int:
        """
        Return the seconds after which a retry is worthwhile, judging by recent turns.
        """
        return max(1, math.ceil(self._estimate_wait(len(self._waiting), accepted=False)))

    def _estimate_wait(self, ahead: int, accepted: bool = True) -> float:
        """
        Return the estimated seconds until the turn of a new request begins.

        Args:
            ahead: The number of turns that begin before it.
            accepted: Whether it is put into the queue, so that the pool may grow.
        """
        return estimate_wait(
            ahead,
            self.worker_pool.seconds_until_free(self._latency, accepted),
            self._latency.median(self._clock.seconds()),
        )

    # What happens while the circuit is open.

    def _may_probe(self) -> bool:
        """
        Return whether a request may probe the agent; only one does so at a time.
        """
        return self.worker_pool.circuit_breaker.half_open and not any(
            request.is_probe for request in self._requests
        )

    def _circuit_refusal(self, request: Request) -> WorkError | None:
        """
        Return why `request` may not be asked once more, or None if the circuit allows it.
        """
        breaker = self.worker_pool.circuit_breaker
        is_probe = breaker.half_open and request.is_probe
        return (
            self._circuit_error()
            if breaker.is_open and not (is_probe or self._may_probe())
            else None
        )

    def _mark_probe(self, request: Request) -> None:
        """
        Make `request`, which is asked once more, the probe if the circuit is half-open.
        """
        breaker = self.worker_pool.circuit_breaker
        if breaker.half_open and (request.probe is None or not request.probe.active):
            request.probe = breaker.begin_probe(self._probe_granted)

    def _probe_granted(self) -> None:
        if self._waiting:
            self._dispatch()

    def _may_ask(self, request: Request) -> bool:
        """
        Return whether `request` need not wait until this server may probe the agent.
        """
        return (
            request.probe is None
            or request.probe.granted
            or not self.worker_pool.circuit_breaker.is_open
        )

    def _circuit_error(self) -> WorkError:
        """
        Return the error for a request that may not probe the agent.
        """
        error = self.worker_pool.circuit_breaker.error()
        now = self._clock.seconds()
        for request in self._requests:
            if request.is_probe and request.worker is not None:
                seconds = self._latency.remaining(now, now - request.began)
                return evolve(error, retry_after=max(error.retry_after or 1, math.ceil(seconds)))
        return error

    def _refuse_waiting(self) -> None:
        """
        Fail all waiting requests, because no worker can answer for some time.
        """
        for request in [request for request in self._requests if request.worker is None]:
            error = self.retry_refusal(request)
            assert error is not None, "that is why this was called"
            self._fail(request, error)

    # How a drain ends.

    def _check_finished(self) -> None:
        if not self._requests:
            self._end_drain()


def _is_open(request: Request) -> bool:
    """
    Return whether the worker of `request` still has the session that was asked.

    It may have ended while its answer was checked, and the next one may have been asked
    something else since.
    """
    return request.worker is not None and request.worker.session is request.session
