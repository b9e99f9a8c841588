"""
Keep a live session in a named slot of the pool.

Only the worker restarts its session: whatever ends a session, and however many
callers have asked for a restart, the worker starts exactly one successor.  During a
restart it may have two sessions: the current one, and the successor, which takes
over between two turns as soon as it is ready.

A worker is a state machine: `WorkerState` has its states, and the end of this module its
transitions.  ``docs/architecture.rst`` shows them as a diagram.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from random import Random
from typing import Concatenate, ParamSpec, Protocol

from attrs import frozen
from automat import TypeMachine, TypeMachineBuilder
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

from kiroworkers.conversations import AgentFailure
from kiroworkers.images import Image
from kiroworkers.pool.backoff import Backoff, BackoffPolicy
from kiroworkers.pool.recycling import RecyclePolicy
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.session.session import CannotAskAgain, Session
from kiroworkers.session.state import SessionState
from kiroworkers.session.tools import AskOperator
from kiroworkers.session.turn import OnEvent, Reply

#: The states in which a session is answering a request, or can answer one shortly.
_HEALTHY = {
    SessionState.IDLE,
    SessionState.BUSY,
    SessionState.ANSWERED,
    SessionState.CLEARING,
}

_P = ParamSpec("_P")


class SessionFactory(Protocol):
    """
    Make the sessions of a worker.
    """

    def __call__(
        self, name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None], /
    ) -> Session:
        """
        Return a new session that is not started yet.

        Args:
            name: The worker's name, for the log.
            on_idle: Called whenever the session is ready for a request.
            on_gone: Called once when the session's process is gone, with the reason.
        """


class Supervisor(Protocol):
    """
    Represent the owner of a worker, which the worker notifies of its changes.
    """

    def worker_idle(self, worker: Worker, /) -> None:
        """
        Give a request to `worker`, which has become ready.
        """

    def worker_due(self, worker: Worker, reason: EndReason, /) -> None:
        """
        Give `worker` a new session at a suitable time.
        """

    def session_failed(self, worker: Worker, failure: AgentFailure, at_start: bool, /) -> bool:
        """
        React to the end of a session of `worker`, which was caused by `failure`.

        Args:
            worker: The worker.
            failure: What the agent reported.
            at_start: Whether the session never reached its prompt.

        Returns:
            Whether the failure affects every session, so that the worker must not
            start another one now.
        """

    def may_start_session(self, worker: Worker, /) -> bool:
        """
        Return whether `worker` may start a session; if not, it is started when it may.
        """

    def has_memory_for_successor(self, worker: Worker, /) -> bool:
        """
        Return whether there is memory for a second session of `worker`.
        """

    def session_started(self, worker: Worker, /) -> None:
        """
        Take note that `worker` starts a session.
        """

    def session_ended(self, worker: Worker, cause: EndCause, /) -> None:
        """
        Take note that a session of `worker` has ended, and why.
        """

    def sessions_changed(self, worker: Worker, /) -> None:
        """
        Handle a change: a session of `worker` became ready or ended.
        """


class WorkerState(Enum):
    """
    Represent the state of a worker.

    ``GET /health`` shows the value while the worker has no session, and the state of the
    session otherwise.

    Attributes:
        UNSTARTED: The worker has not been started yet.
        STARTING: The first session is starting, or one that follows a failure.
        RENEWING: A session is starting after one that ended as planned.
        SERVING: The session has shown its prompt, and answers requests.
        REPLACING: The session answers requests, and its successor is starting.
        FINISHING: The session ends after its turn, and another starts at once.
        ABORTING: The session is being terminated, and another starts at once.
        DRAINING: The session ends after its turn, and no other starts.
        STOPPING: The session ends because the server is stopping.
        UNDECIDED: The session has ended, and what follows is decided in the same moment.
        WAITING: The next session starts after a delay.
        FAILED: Sessions failed so often that another is tried only rarely.
        HELD: No session can serve at present: the circuit is open, or a version is not accepted.
        DRAINED: An operator took the worker out of service.
        ENDED: The last session has ended because the server is stopping.
    """

    UNSTARTED = "unstarted"
    STARTING = "starting"
    RENEWING = "renewing"
    SERVING = "serving"
    REPLACING = "replacing"
    FINISHING = "finishing"
    ABORTING = "aborting"
    DRAINING = "draining"
    STOPPING = "stopping"
    UNDECIDED = "undecided"
    WAITING = "waiting"
    FAILED = "failed"
    HELD = "held"
    DRAINED = "drained"
    ENDED = "ended"


#: Why a session ends that is to answer one request only, and why another is started before.
_LAST_TURN = EndReason(EndCause.SINGLE_USE, "its last turn is over")
_ONLY_TURN = EndReason(EndCause.SINGLE_USE, "the session answers one request only")

#: Why all sessions end at last.
_SHUTDOWN = EndReason(EndCause.SHUTDOWN, "the server is stopping")

#: The states in which a session accepts requests, one after another.
_ACCEPTING = (WorkerState.SERVING, WorkerState.REPLACING)


@frozen
class WorkerSnapshot:
    """
    Hold the state of a worker at one moment.

    Points in time are in seconds on the clock of the reactor.

    Attributes:
        name: The worker's name, such as ``worker1``.
        state: The state of the session or, without one, of the worker.
        healthy: Whether the worker is answering a request, or can answer one shortly.
        idle: Whether the worker is ready for a request.
        pid: The id of the session's supervisor, the root of its processes; None without one.
        since: When the state began.
        age: Seconds since the session was started; 0 without one.
        last_activity: When the session last produced output or received a prompt.
        answered: The number of turns that ended with an answer, over all sessions.
        starts: The number of sessions that were started.
        consecutive_failures: The number of sessions in a row that ended too early.
        last_error: Why the last session that failed ended; None if none has.
        last_cause: The same without what may quote a client, so that all clients may know.
        last_screen: What the last session showed if it never reached its prompt.
        next_start: When the next session starts; None if none is scheduled.
    """

    name: str
    state: str
    healthy: bool
    idle: bool
    pid: int | None
    since: float
    age: float
    last_activity: float
    answered: int
    starts: int
    consecutive_failures: int
    last_error: str | None
    last_cause: str | None
    last_screen: str
    next_start: float | None


class _Inputs(Protocol):
    """
    Define the inputs of a worker's state machine.

    Some change nothing in some states.  Each returns `None`, so an input that is made
    within another is queued rather than refused.
    """

    # What the pool wants.
    def start(self) -> None: ...
    def restart(self, reason: EndReason) -> None: ...
    def abort(self, reason: EndReason) -> None: ...
    def drain(self, reason: EndReason) -> None: ...
    def stop(self, now: bool) -> None: ...

    # What becomes of the sessions; `successor_ready` only while no turn is in progress.
    def session_ready(self) -> None: ...
    def session_gone(self) -> None: ...
    def start_successor(self, reason: EndReason) -> None: ...
    def successor_ready(self) -> None: ...
    def successor_gone(self) -> None: ...

    # What follows a session that its worker did not end; otherwise it is `start`.
    def renew(self) -> None: ...
    def hold(self) -> None: ...
    def back_off(self, delay: float) -> None: ...
    def fail(self, delay: float) -> None: ...


class Worker:
    """
    Keep one session running, and replace it when it ends or is due for a restart.

    Args:
        name: The worker's name, for the log and for clients.
        clock: The reactor's clock.
        rng: The source of jitter.
        new_session: Makes the worker's sessions.
        backoff_policy: The delays between sessions that end by themselves.
        recycle_policy: The limits after which a session is replaced.
        supervisor: Notified of the worker's changes.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        rng: Random,
        new_session: SessionFactory,
        backoff_policy: BackoffPolicy,
        recycle_policy: RecyclePolicy,
        supervisor: Supervisor,
    ) -> None:
        self.name = name
        self._clock = clock
        self._rng = rng
        self._new_session = new_session
        self._backoff = Backoff(backoff_policy, rng)
        self._recycle_policy = recycle_policy
        self._supervisor = supervisor
        self._machine = MACHINE(self)
        self._state = self._reported_state = WorkerState.UNSTARTED
        # Why the last session ended, until that is reported.
        self._end_reason: str = ""
        self._end_level = LogLevel.info
        # Why the session is to end after its turn.
        self._planned_end = _LAST_TURN
        self._postponed: list[Callable[[], None]] = []
        self._session: Session | None = None
        self._successor: Session | None = None
        self._ending: set[Session] = set()
        self._backoff_timer: IDelayedCall | None = None
        self._answers_left = 0
        self._ended_at = clock.seconds()
        self._answered = 0
        self._starts = 0
        self._last_error: str | None = None
        self._last_cause: str | None = None
        self._last_screen = ""

    @property
    def idle(self) -> bool:
        """
        Return whether the worker is ready for a request.
        """
        return self._session is not None and self._session.state is SessionState.IDLE

    @property
    def turn_started_at(self) -> float | None:
        """
        Return when the current turn began, or None if no turn is in progress.
        """
        session = self._session
        return session.since if session is not None and session.busy else None

    @property
    def warming(self) -> bool:
        """
        Return whether the session is starting or clearing its conversation, and will be idle next.
        """
        session = self._session
        return (
            session is not None
            and session.state in (SessionState.STARTING, SessionState.CLEARING)
            and self._state not in (WorkerState.FINISHING, WorkerState.DRAINING)
        )

    @property
    def pid(self) -> int | None:
        """
        Return the id of the session's supervisor, the root of its processes; None without one.
        """
        return None if self._session is None else self._session.pid

    @property
    def healthy(self) -> bool:
        """
        Return whether the worker is answering a request, or can answer one shortly.
        """
        session = self._session
        if session is None or self._state in (WorkerState.DRAINING, WorkerState.STOPPING):
            return False
        # What ends as planned is replaced without a delay.
        renewing = self._state is WorkerState.RENEWING and session.state is SessionState.STARTING
        leaving = session.exhausted or self._state is WorkerState.FINISHING
        return session.state in _HEALTHY or renewing or leaving

    @property
    def failing(self) -> bool:
        """
        Return whether sessions failed so often that the next one will most likely fail too.
        """
        return self._backoff.failed and self._state in (WorkerState.STARTING, WorkerState.FAILED)

    @property
    def in_backoff(self) -> bool:
        """
        Return whether the next session starts only after a delay.
        """
        return self._state in (WorkerState.WAITING, WorkerState.FAILED)

    @property
    def restarting(self) -> bool:
        """
        Return whether a restart is in progress: a session is starting or about to end.
        """
        starting = self._session is not None and self._session.state is SessionState.STARTING
        ending = self._state in (WorkerState.FINISHING, WorkerState.DRAINING)
        return starting or self._successor is not None or ending

    @property
    def started_at(self) -> float:
        """
        Return when the session was started or, without one, when the last one ended.
        """
        return self._ended_at if self._session is None else self._session.started_at

    @property
    def awaiting_recovery(self) -> bool:
        """
        Return whether the worker has no session because none could serve at present.
        """
        return self._state is WorkerState.HELD

    @property
    def drained(self) -> bool:
        """
        Return whether the worker was taken out of service.
        """
        return self._state in (WorkerState.DRAINED, WorkerState.DRAINING)

    @property
    def gone(self) -> bool:
        """
        Return whether the worker has no session left, not even one that is ending.
        """
        return not self._sessions()

    # What the dispatcher, the supervisor and operators can do.

    def start(self) -> None:
        """
        Start a session unless there is one; this also puts a drained worker back to work.
        """
        self._apply(self._machine.start)

    def ask(
        self,
        prompt: str,
        on_event: OnEvent | None = None,
        model: str = "",
        ask_operator: AskOperator | None = None,
        record: RequestRecord | None = None,
        images: Sequence[Image] = (),
    ) -> Deferred[Reply]:
        """
        Send `prompt` to the worker's session, which must be idle; see `Session.ask`.

        Call `end_turn` when the result has been used, whether it is a reply or a failure.

        Args:
            prompt: The text to send to the agent.
            on_event: Called with each piece of the answer, and what else happens in the turn.
            model: The model that is to answer; empty for the agent's own.
            ask_operator: Asks an operator whether the agent may use a tool.
            record: The record of the request, if there is one.
            images: The images to send with the prompt, if the session accepts images.

        Returns:
            A Deferred that fires with the reply or fails with a `WorkError`.
            Cancelling it interrupts the turn.
        """
        session = self._session
        assert session is not None and self.idle, "the worker must be idle"
        reply = session.ask(prompt, on_event, model, ask_operator, record, images)
        if (
            session.single_use
            and self._supervisor.has_memory_for_successor(self)
            and self._supervisor.may_start_session(self)
        ):
            # It ends after this turn; the next request need not wait for a start.
            self._planned_end = _LAST_TURN
            self._apply(self._machine.start_successor, _ONLY_TURN)
        return reply

    @property
    def can_read_on(self) -> bool:
        """
        Return whether the session has answered and its turn is not over.
        """
        return self._session is not None and self._session.answered

    @property
    def session(self) -> Session | None:
        """
        Return the current session; a turn belongs to the session that was asked.
        """
        return self._session

    def ask_again(self, prompt: str) -> Deferred[Reply]:
        """
        Send `prompt` in the conversation of the answered turn; see `Session.ask_again`.
        """
        if self._session is None:
            raise CannotAskAgain
        return self._session.ask_again(prompt)

    def read_on(self) -> Deferred[Reply]:
        """
        Wait for the rest of an answered turn's output; see `Session.read_on`.
        """
        assert self._session is not None, "its turn was answered"
        return self._session.read_on()

    def end_turn(self) -> None:
        """
        End a turn whose result has been used.

        The session clears its conversation.  A successor that is ready takes over, and the
        restart of a session that has given its last answer is scheduled.
        """
        session = self._session
        if session is not None and session.answered:
            self._answered += 1
            self._answers_left -= 1
            self._backoff.reset()
            session.end_turn()
        if self._successor is not None:
            self._switch_if_ready()
        elif (
            session is not None
            and self._state is WorkerState.SERVING
            and self._answers_left <= 0
            and not session.single_use
        ):
            sentence = f"gave {session.answers} answers"
            self._supervisor.worker_due(self, EndReason(EndCause.MAX_REQUESTS, sentence))

    def restart(self, reason: EndReason, overlap: bool) -> None:
        """
        Replace the session between two turns.

        Args:
            reason: Why, for the log.
            overlap: Whether the successor starts before the old session ends.
        """
        if overlap and self._state is WorkerState.SERVING:
            self._planned_end = reason
            self._apply(self._machine.start_successor, reason)
        elif (
            self._state in (WorkerState.STARTING, WorkerState.RENEWING)
            and self._session is not None
            and self._session.state is not SessionState.STARTING
        ):
            # It is not starting any more, but is ending or has lost its prompt.  Nothing
            # waits for it.
            self._apply(self._machine.abort, reason)
        else:
            self._apply(self._machine.restart, reason)

    def restart_now(self, reason: EndReason) -> None:
        """
        Stop the session even in the middle of a turn, and start another without delay.
        """
        if self._session is not None:
            self._apply(self._machine.abort, reason)

    def drain(self, reason: EndReason) -> None:
        """
        Take the worker out of service after its turn, until `start` is called.

        Args:
            reason: Why, for the log.
        """
        self._apply(self._machine.drain, reason)

    def stop(self, now: bool = False) -> None:
        """
        End every session for good.

        Args:
            now: Whether to terminate the processes instead of asking the agents to
                quit.
        """
        self._end_reason = _SHUTDOWN
        self._apply(self._machine.stop, now)

    def recycle_reason(self, memory: int | None) -> EndReason | None:
        """
        Return why the session should be replaced by a new one, or None.

        Args:
            memory: The bytes that its processes use; None if that is unknown.
        """
        if self._session is None:
            return None
        return self._recycle_policy.reason(self._clock.seconds() - self._session.started_at, memory)

    def snapshot(self) -> WorkerSnapshot:
        """
        Return the current state of the worker.
        """
        session, now = self._session, self._clock.seconds()
        failures = self._backoff.consecutive_failures
        if session is not None and self._backoff.was_stable(
            now - session.started_at, session.answers
        ):
            failures = 0
        return WorkerSnapshot(
            name=self.name,
            state=self._state.value if session is None else session.state.value,
            healthy=self.healthy,
            idle=self.idle,
            pid=None if session is None else session.pid,
            since=self._ended_at if session is None else session.since,
            age=0.0 if session is None else now - session.started_at,
            last_activity=self._ended_at if session is None else session.last_activity,
            answered=self._answered,
            starts=self._starts,
            consecutive_failures=failures,
            last_error=self._last_error,
            last_cause=self._last_cause,
            last_screen=self._last_screen,
            next_start=None if self._backoff_timer is None else self._backoff_timer.getTime(),
        )

    # What happens to the worker's sessions.

    def _session_idle(self, session: Session) -> None:
        if session is self._successor:
            self._switch_if_ready()
        elif session is self._session and not self._switch_if_ready():
            if self._state in _ACCEPTING:
                # The end of every turn: no state changes, so the machine need not be asked.
                self._offer()
            else:
                self._apply(self._machine.session_ready)

    def _switch_if_ready(self) -> bool:
        """
        Let the successor take over, and return whether that was possible.

        It is not while a turn is in progress.
        """
        old, new = self._session, self._successor
        if new is None or new.state is not SessionState.IDLE or old is None or old.busy:
            return False
        if old.state is SessionState.GONE:
            return False  # `_session_gone` follows in the same moment, and decides.
        self._apply(self._machine.successor_ready)
        return True

    def _session_gone(self, session: Session, reason: str) -> None:
        self._supervisor.session_ended(self, session.end_cause)
        if session in self._ending:
            self._ending.discard(session)
        elif session is self._successor:
            self._successor = None
            if not session.exhausted:
                self._record_error(session, reason)
            self._apply(self._machine.successor_gone)
            if (
                session.exhausted
                and self._state is WorkerState.SERVING
                and self._supervisor.may_start_session(self)
            ):
                # It was not what was to be started.
                self._apply(self._machine.start_successor, self._planned_end)
            self._report_failure(session)
        elif session is self._session:
            self._session = None
            self._ended_at = self._clock.seconds()
            self._end_reason = EndReason(session.end_cause, session.cause or reason)
            self._apply(self._machine.session_gone)
            if self._state is WorkerState.UNDECIDED:
                self._decide(session, reason)
        self._supervisor.sessions_changed(self)

    def _decide(self, session: Session, reason: str) -> None:
        """
        Decide what follows a session that its worker did not end.
        """
        machine = self._machine
        if session.exhausted:
            self._apply(machine.renew)
            return
        self._record_error(session, reason)
        outage = self._successor is None and self._report_failure(session)
        if self._state is not WorkerState.UNDECIDED:
            return  # The supervisor has stopped or started the worker.
        if outage:
            self._apply(machine.hold)
            return
        if session.aborted:
            self._apply(machine.start)
            return
        lifetime = self._clock.seconds() - session.started_at
        delay = self._backoff.delay_after(lifetime, session.answers)
        if self._backoff.failed:
            # A successor would end in the same way.
            sentence = "its predecessors failed"
            self._dismiss_successor(EndReason(EndCause.DISMISSED, sentence))
            self._apply(machine.fail, delay)
        elif self._successor is not None:
            self._apply(machine.start)
        else:
            self._apply(machine.back_off, delay)

    def _report_failure(self, session: Session) -> bool:
        failure = session.failure
        return failure is not None and self._supervisor.session_failed(
            self, failure, not session.was_ready
        )

    def _record_error(self, session: Session, reason: str) -> None:
        self._last_error, self._last_cause = reason, session.cause or reason
        self._last_screen = session.last_screen
        # The cause: the reason may quote what the agent printed in a turn.
        self._end_reason = EndReason(session.end_cause, f"session ended: {self._last_cause}")
        self._end_level = LogLevel.warn

    # What the transitions do.

    def _enter_state(self, state: WorkerState, inputs: Sequence[object], *, ready: bool) -> None:
        """
        Enter `state`, and log that unless another state follows at once.

        Args:
            state: The next state.
            inputs: The arguments of the input, which may have a reason and a delay.
            ready: Whether a session became ready.
        """
        self._state = state
        old = self._reported_state
        if state in (old, WorkerState.UNDECIDED):
            return
        self._reported_state = state
        reason = next((value for value in inputs if isinstance(value, str)), self._end_reason)
        delay = inputs[0] if state in (WorkerState.WAITING, WorkerState.FAILED) else None
        level, self._end_level = self._end_level, LogLevel.info
        self._end_reason = ""
        format = "{worker}: ready ({old} -> {new})" if ready else "{worker}: {old} -> {new}"
        if reason:
            format += ": {reason}"
        if delay is not None:
            format += "; the next session starts in {delay:.3g} s"
        self._log.emit(
            LogLevel.warn if state is WorkerState.ABORTING else level,
            format,
            worker=self.name,
            old=old.value,
            new=state.value,
            reason=reason,
            cause=reason.cause.value if isinstance(reason, EndReason) else None,
            delay=delay,
        )

    def _apply(self, input: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """
        Make an input, then the calls that its transition has postponed.

        A transition postpones every call to the supervisor.  The supervisor may call the
        worker in turn and expects the effect at once, but an input that is made within
        another is queued.
        """
        input(*args, **kwargs)
        postponed, self._postponed = self._postponed, []
        for call in postponed:
            call()

    def _start(self) -> None:
        """
        Start a session, or use the successor, which was started before.

        If none may be started, the worker is held.
        """
        self._cancel_backoff()
        if self._successor is None and not self._supervisor.may_start_session(self):
            self._machine.hold()
            return
        successor, self._successor = self._successor, None
        self._use(successor or self._make_session())
        if successor is not None and successor.state is SessionState.IDLE:
            self._machine.session_ready()

    def _start_again(self, reason: EndReason) -> None:
        self._start()

    def _back_off(self, delay: float) -> None:
        self._backoff_timer = self._clock.callLater(delay, self.start)

    def _announce(self) -> None:
        """
        Notify the supervisor that a new session is ready.
        """
        self._last_screen = ""
        self._postponed += [lambda: self._supervisor.sessions_changed(self), self._offer]

    def _offer(self) -> None:
        """
        Let the supervisor give the worker a request.
        """
        if self.idle:
            self._supervisor.worker_idle(self)

    def _finish(self, reason: EndReason) -> None:
        self._planned_end = reason
        self._end_when_idle(reason)

    def _quit(self) -> None:
        self._end_when_idle(EndReason(self._planned_end.cause, _LAST_TURN))

    def _start_successor(self, reason: EndReason) -> None:
        self._successor = self._make_session()

    def _replace_successor(self, reason: EndReason) -> None:
        """
        Replace a successor that was started for the next turn, before there was a reason.
        """
        if self._session is not None and self._session.single_use:
            self._dismiss_successor(reason)
            self._start_successor(reason)

    def _switch(self) -> None:
        """
        Make the successor the current session, and end the old one.
        """
        old, new = self._session, self._successor
        assert old is not None and new is not None, "there are two sessions"
        self._successor = None
        self._use(new)
        self._ending.add(old)
        old.quit(EndReason(self._planned_end.cause, "its successor is ready"))
        self._announce()

    def _abort(self, reason: EndReason) -> None:
        assert self._session is not None, "there is a session to end"
        self._session.stop(reason)

    def _abort_planned_end(self, reason: EndReason) -> None:
        self._log.warn("{worker}: session ends now: {reason}", worker=self.name, reason=reason)
        self._abort(reason)

    def _drain(self, reason: EndReason) -> None:
        self._cancel_backoff()
        self._dismiss_successor(reason)
        self._planned_end = reason
        self._end_when_idle(reason)

    def _stop(self, now: bool) -> None:
        self._cancel_backoff()
        for session in self._sessions():
            if now:
                session.stop(_SHUTDOWN)
            else:
                session.quit(_SHUTDOWN)
        if self._successor is not None:
            self._ending.add(self._successor)
            self._successor = None

    def _make_session(self) -> Session:
        """
        Return a session that starts after the transition.
        """
        self._starts += 1
        session = self._new_session(
            self.name,
            lambda: self._session_idle(session),
            lambda reason: self._session_gone(session, reason),
        )
        self._postponed.append(lambda: self._launch(session))
        return session

    def _launch(self, session: Session) -> None:
        self._supervisor.session_started(self)
        try:
            session.start()
        except OSError as problem:
            self._session_gone(session, f"could not start: {problem}")

    def _use(self, session: Session) -> None:
        """
        Make `session` the current one, which receives the requests.
        """
        self._session = session
        self._answers_left = self._recycle_policy.draw_max_answers(self._rng)

    def _end_when_idle(self, reason: EndReason) -> None:
        """
        End the session, if there is one, unless it is in a turn or clears its conversation.
        """
        session = self._session
        if session is not None and session.state is SessionState.STARTING:
            session.stop(reason)
        elif session is not None and session.state is SessionState.IDLE:
            session.quit(reason)

    def _dismiss_successor(self, reason: EndReason) -> None:
        if self._successor is not None:
            successor, self._successor = self._successor, None
            self._ending.add(successor)
            successor.stop(reason)

    def _cancel_backoff(self) -> None:
        if self._backoff_timer is not None:
            if self._backoff_timer.active():
                self._backoff_timer.cancel()
            self._backoff_timer = None

    def _sessions(self) -> list[Session]:
        sessions = (self._session, self._successor, *self._ending)
        return [session for session in sessions if session is not None]


def _build_machine() -> TypeMachine[_Inputs, Worker]:
    """
    Return the state machine of workers.
    """
    builder = TypeMachineBuilder(_Inputs, Worker)
    # The first of them is the initial state.
    states = {state: builder.state(state.value) for state in WorkerState}

    def on(
        input: Callable[Concatenate[_Inputs, _P], None],
        *sources: WorkerState,
        to: WorkerState | None = None,
        do: Callable[Concatenate[Worker, _P], None] | None = None,
    ) -> None:
        """
        Declare what follows `input` in each state of `sources`.

        Args:
            input: One of the inputs.
            *sources: The states in which this happens.
            to: The next state; None if the state stays.
            do: Called after the worker has entered the next state.
        """
        for source in sources:
            target = source if to is None else to
            states[source].upon(input).to(states[target])(_entering(target, do))

    state = WorkerState
    inputs = _Inputs
    without = (state.UNSTARTED, state.UNDECIDED, state.WAITING, state.FAILED, state.HELD)
    starting = (state.STARTING, state.RENEWING)
    restarting = (state.FINISHING, state.ABORTING)
    stopped = (state.STOPPING, state.ENDED)

    on(inputs.start, *without, to=state.STARTING, do=Worker._start)
    on(inputs.start, state.DRAINED, to=state.RENEWING, do=Worker._start)
    on(inputs.start, state.DRAINING, to=state.FINISHING)
    on(inputs.start, *starting, *_ACCEPTING, *restarting, *stopped)

    on(inputs.restart, *without, to=state.STARTING, do=Worker._start_again)
    on(inputs.restart, state.DRAINED, to=state.RENEWING, do=Worker._start_again)
    on(inputs.restart, state.SERVING, to=state.FINISHING, do=Worker._finish)
    on(inputs.restart, state.REPLACING, do=Worker._replace_successor)
    on(inputs.restart, *starting, *restarting, state.DRAINING, *stopped)

    on(inputs.abort, *starting, *_ACCEPTING, to=state.ABORTING, do=Worker._abort)
    on(inputs.abort, *restarting, state.DRAINING, do=Worker._abort_planned_end)
    on(inputs.abort, state.STOPPING)

    on(inputs.drain, *starting, *_ACCEPTING, *restarting, to=state.DRAINING, do=Worker._drain)
    on(inputs.drain, *without, to=state.DRAINED, do=Worker._drain)
    on(inputs.drain, state.DRAINING, state.DRAINED, *stopped)

    on(inputs.stop, *starting, *_ACCEPTING, *restarting, to=state.STOPPING, do=Worker._stop)
    on(inputs.stop, state.DRAINING, to=state.STOPPING, do=Worker._stop)
    on(inputs.stop, *without, state.DRAINED, to=state.ENDED, do=Worker._stop)
    on(inputs.stop, *stopped, do=Worker._stop)

    on(inputs.session_ready, *starting, to=state.SERVING, do=Worker._announce)
    on(inputs.session_ready, state.FINISHING, state.DRAINING, do=Worker._quit)

    on(inputs.session_gone, *starting, *_ACCEPTING, to=state.UNDECIDED)
    on(inputs.session_gone, *restarting, to=state.RENEWING, do=Worker._start)
    on(inputs.session_gone, state.DRAINING, to=state.DRAINED)
    on(inputs.session_gone, state.STOPPING, to=state.ENDED)

    on(inputs.start_successor, state.SERVING, to=state.REPLACING, do=Worker._start_successor)
    on(inputs.start_successor, state.REPLACING)
    on(inputs.successor_ready, state.REPLACING, to=state.SERVING, do=Worker._switch)
    on(inputs.successor_ready, state.ABORTING, to=state.SERVING, do=Worker._switch)
    on(inputs.successor_gone, state.REPLACING, to=state.SERVING)
    on(inputs.successor_gone, state.ABORTING)

    on(inputs.renew, state.UNDECIDED, to=state.RENEWING, do=Worker._start)
    on(inputs.hold, *starting, state.UNDECIDED, to=state.HELD)
    on(inputs.back_off, state.UNDECIDED, to=state.WAITING, do=Worker._back_off)
    on(inputs.fail, state.UNDECIDED, to=state.FAILED, do=Worker._back_off)
    return builder.build()


def _entering(
    state: WorkerState, do: Callable[Concatenate[Worker, _P], None] | None
) -> Callable[Concatenate[_Inputs, Worker, _P], None]:
    """
    Return a function that records the state that a worker enters, then calls `do`.
    """

    def enter(_: _Inputs, worker: Worker, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        worker._enter_state(state, args, ready=do in (Worker._announce, Worker._switch))
        if do is not None:
            do(worker, *args, **kwargs)

    return enter


MACHINE = _build_machine()
