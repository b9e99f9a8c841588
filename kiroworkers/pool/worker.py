"""
Keep a live session in a named slot of the pool.

Only the worker restarts its session: whatever ends a session, and however many
callers have asked for a restart, the worker starts exactly one successor.  During a
restart it may have two sessions: the current one, and the successor, which takes
over between two turns as soon as it is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kiroworkers.conversations import AgentFailure
from kiroworkers.pool.backoff import Backoff, BackoffPolicy
from kiroworkers.pool.recycling import RecyclePolicy
from kiroworkers.session.session import (
    Reply,
    ReplyValidator,
    Session,
    SessionState,
    accept_any,
)

#: The states in which a session is answering a request, or can answer one shortly.
_HEALTHY = {SessionState.IDLE, SessionState.BUSY, SessionState.CLEARING}


class SessionFactory(Protocol):
    """
    Represent what makes the sessions of a worker.
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
        Handle that `worker` became ready for a request.
        """

    def worker_due(self, worker: Worker, reason: str, /) -> None:
        """
        Handle that `worker` needs a new session, at a suitable time.
        """

    def session_failed(self, worker: Worker, failure: AgentFailure, /) -> bool:
        """
        Handle that a session of `worker` ended because of `failure`.

        Returns:
            Whether the failure affects every session, so that the worker must not
            start another one now.
        """

    def has_memory_for_successor(self, worker: Worker, /) -> bool:
        """
        Return whether there is memory for a second session of `worker`.
        """

    def sessions_changed(self, worker: Worker, /) -> None:
        """
        Handle that a session of `worker` became ready or ended.
        """


class DownReason(Enum):
    """
    Represent why a worker has no session; the values appear in ``GET /health``.

    Attributes:
        BACKOFF: The next session starts after a delay.
        FAILED: Sessions failed so often that another is tried only rarely.
        CIRCUIT_OPEN: No session of the agent could answer at present.
        DRAINED: An operator took the worker out of service.
        ENDED: The server is stopping.
    """

    BACKOFF = "waiting"
    FAILED = "failed"
    CIRCUIT_OPEN = "held"
    DRAINED = "drained"
    ENDED = "ended"


@frozen
class WorkerSnapshot:
    """
    Hold the state of a worker at one moment.

    Points in time are in seconds on the clock of the reactor.

    Attributes:
        name: The worker's name, such as ``worker1``.
        state: The state of the session, or the value of the `DownReason`.
        healthy: Whether the worker is answering a request, or can answer one shortly.
        idle: Whether the worker is ready for a request.
        pid: The id of the session's process; None without one.
        since: When the state began.
        age: Seconds since the session was started; 0 without one.
        last_activity: When the session last produced output or received a prompt.
        answered: The number of turns that ended with an answer, over all sessions.
        starts: The number of sessions that were started.
        consecutive_failures: The number of sessions in a row that ended too early.
        last_error: Why the last session that failed ended; None if none has.
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
    last_screen: str
    next_start: float | None


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
        self._session: Session | None = None
        self._successor: Session | None = None
        self._ending: set[Session] = set()
        self._down_reason = DownReason.BACKOFF
        self._backoff_timer: IDelayedCall | None = None
        self._end_reason: str | None = None
        self._drained = False
        self._stopped = False
        self._restart_at_once = False
        self._ended_as_planned = False
        self._answers_left = 0
        self._ended_at = clock.seconds()
        self._answered = 0
        self._starts = 0
        self._last_error: str | None = None
        self._last_screen = ""

    @property
    def idle(self) -> bool:
        """
        Return whether the worker is ready for a request.
        """
        return (
            self._session is not None
            and self._session.state is SessionState.IDLE
            and self._end_reason is None
        )

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
        Return whether the session starts or clears its conversation, and is idle next.
        """
        session = self._session
        return (
            session is not None
            and session.state in (SessionState.STARTING, SessionState.CLEARING)
            and self._end_reason is None
        )

    @property
    def pgid(self) -> int | None:
        """
        Return the process group id of the session, or None without a process.
        """
        return None if self._session is None else self._session.pid

    @property
    def healthy(self) -> bool:
        """
        Return whether the worker is answering a request, or can answer one shortly.
        """
        session = self._session
        if session is None or self._stopped or self._drained:
            return False
        # A session that ends as planned is replaced without a delay.
        starting = session.state is SessionState.STARTING and self._ended_as_planned
        leaving = session.exhausted or self._end_reason is not None
        return session.state in _HEALTHY or starting or leaving

    @property
    def in_backoff(self) -> bool:
        """
        Return whether the next session starts only after a delay.
        """
        return self._backoff_timer is not None

    @property
    def restarting(self) -> bool:
        """
        Return whether a restart is in progress: a session starts or is about to end.
        """
        starting = self._session is not None and self._session.state is SessionState.STARTING
        return starting or self._successor is not None or self._end_reason is not None

    @property
    def started_at(self) -> float:
        """
        Return when the session was started or, without one, when the last one ended.
        """
        return self._ended_at if self._session is None else self._session.started_at

    @property
    def awaiting_recovery(self) -> bool:
        """
        Return whether the worker has no session because the circuit is open.
        """
        return self._session is None and self._down_reason is DownReason.CIRCUIT_OPEN

    @property
    def drained(self) -> bool:
        """
        Return whether the worker was taken out of service.
        """
        return self._drained

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
        self._drained = False
        self._cancel_backoff()
        if self._session is None and not self._stopped:
            session = self._make_session()
            self._use(session)
            self._launch(session)

    def ask(
        self,
        prompt: str,
        validate: ReplyValidator = accept_any,
        on_text: Callable[[str], None] | None = None,
    ) -> Deferred[Reply]:
        """
        Send `prompt` to the session of an idle worker.

        Call `end_turn` after the result was delivered, whether it is a reply or a
        failure.

        Args:
            prompt: The text to send to the agent.
            validate: Called with each reply; it returns the prompt that asks for a
                correction, or None to accept the reply.
            on_text: Called with each piece of the answer.

        Returns:
            A Deferred that fires with the reply or fails with a `WorkError`.
            Cancelling it interrupts the turn.
        """
        session = self._session
        assert session is not None and self.idle, "the worker must be idle"
        reply = session.ask(prompt, validate, on_text)
        if session.single_use and self._supervisor.has_memory_for_successor(self):
            # It ends after this turn; the next request need not wait for a start.
            self._start_successor()
        return reply.addCallback(self._count_answer)

    def end_turn(self) -> None:
        """
        Finish a turn, after its result was delivered.

        This lets a successor that is ready take over, and schedules the restart of
        a session that has given its last answer.
        """
        session = self._session
        if self._successor is not None:
            self._switch_to_successor()
        elif (
            session is not None
            and self._answers_left <= 0
            and not (session.single_use or self._drained)
        ):
            self._supervisor.worker_due(self, f"gave {session.answers} answers")

    def restart(self, reason: str, overlap: bool) -> None:
        """
        Replace the session between two turns.

        Args:
            reason: Why, for the log.
            overlap: Whether the successor starts before the old session ends.
        """
        if self._stopped:
            return
        if self._successor is not None and self._session is not None and self._session.single_use:
            # This successor was started for the next turn, and before the reason for
            # the restart.
            self._dismiss_successor(reason)
            self._start_successor()
            return
        if self.restarting:
            return
        self._log.info("{name}: restarting: {reason}", name=self.name, reason=reason)
        if self._session is None:
            self.start()
        elif overlap:
            self._start_successor()
        else:
            self._end_when_idle(reason)

    def restart_now(self, reason: str) -> None:
        """
        Stop the session even in the middle of a turn, and start another without a delay.
        """
        if self._session is not None and not self._stopped:
            self._log.warn("{name}: restarting now: {reason}", name=self.name, reason=reason)
            self._restart_at_once = True
            self._session.stop(reason)

    def drain(self) -> None:
        """
        Take the worker out of service after its turn, until `start` is called.
        """
        self._drained = True
        self._cancel_backoff()
        self._dismiss_successor("drained")
        if self._session is None:
            self._down_reason = DownReason.DRAINED
        else:
            self._end_when_idle("drained")

    def stop(self, now: bool = False) -> None:
        """
        End every session for good.

        Args:
            now: Whether to terminate the processes instead of asking the agents to
                quit.
        """
        self._stopped = True
        self._cancel_backoff()
        for session in self._sessions():
            if now:
                session.stop("the server is stopping")
            else:
                session.quit("the server is stopping")

    def recycle_reason(self, memory: int | None) -> str | None:
        """
        Return why the session should be replaced by a new one, or None.

        Args:
            memory: The bytes that its process group uses; None if that is unknown.
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
            state=self._down_reason.value if session is None else session.state.value,
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
            last_screen=self._last_screen,
            next_start=None if self._backoff_timer is None else self._backoff_timer.getTime(),
        )

    # What happens to the worker's sessions.

    def _make_session(self) -> Session:
        """
        Return a session that is not started yet.
        """
        self._starts += 1
        session = self._new_session(
            self.name,
            lambda: self._session_idle(session),
            lambda reason: self._session_gone(session, reason),
        )
        return session

    def _launch(self, session: Session) -> None:
        try:
            session.start()
        except OSError as problem:
            self._session_gone(session, f"could not start: {problem}")
        else:
            self._log.info("{name}: started, pid {pid}", name=self.name, pid=session.pid)

    def _start_successor(self) -> None:
        """
        Start the session that takes over from the current one.
        """
        if self._successor is None:
            self._successor = self._make_session()
            self._launch(self._successor)

    def _dismiss_successor(self, reason: str) -> None:
        if self._successor is not None:
            successor, self._successor = self._successor, None
            self._ending.add(successor)
            successor.stop(reason)

    def _use(self, session: Session) -> None:
        """
        Make `session` the current one, which receives the requests.
        """
        self._session = session
        self._end_reason = None
        self._restart_at_once = False
        self._answers_left = self._recycle_policy.draw_max_answers(self._rng)

    def _session_idle(self, session: Session) -> None:
        if session is self._successor:
            self._switch_to_successor()
        elif session is self._session:
            if self._end_reason is not None:
                session.quit(self._end_reason)
            elif session.turns == 0:
                self._announce_ready()
            else:
                self._supervisor.worker_idle(self)

    def _switch_to_successor(self) -> None:
        """
        Make the successor the current session, if it is ready and no turn is in progress.
        """
        old, new = self._session, self._successor
        if new is None or new.state is not SessionState.IDLE or (old is not None and old.busy):
            return
        self._successor = None
        self._use(new)
        if old is not None:
            self._ending.add(old)
            old.quit("its successor is ready")
        self._announce_ready()

    def _announce_ready(self) -> None:
        """
        Log that a new session is ready, and notify the supervisor.
        """
        self._log.info("{name}: ready", name=self.name)
        self._last_screen = ""
        self._supervisor.sessions_changed(self)
        if self.idle:
            self._supervisor.worker_idle(self)

    def _end_when_idle(self, reason: str) -> None:
        """
        End the session as soon as it is idle.
        """
        assert self._session is not None, "there is a session to end"
        self._end_reason = reason
        if self._session.state is SessionState.STARTING:
            self._session.stop(reason)
        elif self._session.state is SessionState.IDLE:
            self._session.quit(reason)

    def _count_answer(self, reply: Reply) -> Reply:
        self._answered += 1
        self._answers_left -= 1
        return reply

    def _session_gone(self, session: Session, reason: str) -> None:
        if session in self._ending:
            self._ending.discard(session)
        elif session is self._successor:
            # The current session is not affected.
            self._successor = None
            if not self._stopped:
                self._record_error(session, reason)
                self._report_failure(session)
        elif session is self._session:
            self._session = None
            self._ended_at = self._clock.seconds()
            self._replace(session, reason)
        self._supervisor.sessions_changed(self)

    def _replace(self, session: Session, reason: str) -> None:
        """
        Decide what follows the current session, which has ended: a session or a wait.
        """
        self._ended_as_planned = (
            self._restart_at_once or session.exhausted or self._end_reason is not None
        )
        self._restart_at_once, self._end_reason = False, None
        if self._stopped:
            self._down_reason = DownReason.ENDED
            return
        if not self._ended_as_planned:
            self._record_error(session, reason)
        successor, self._successor = self._successor, None
        if self._drained:
            self._down_reason = DownReason.DRAINED
        elif successor is not None:
            self._use(successor)
            if successor.state is SessionState.IDLE:
                self._announce_ready()
        elif self._ended_as_planned:
            self.start()
        elif self._report_failure(session):
            self._down_reason = DownReason.CIRCUIT_OPEN
        elif session.aborted:
            self.start()
        else:
            self._back_off(session)

    def _report_failure(self, session: Session) -> bool:
        failure = session.failure
        return failure is not None and self._supervisor.session_failed(self, failure)

    def _back_off(self, session: Session) -> None:
        """
        Start the next session after a delay.
        """
        lifetime = self._clock.seconds() - session.started_at
        delay = self._backoff.delay_after(lifetime, session.answers)
        self._down_reason = DownReason.FAILED if self._backoff.failed else DownReason.BACKOFF
        self._backoff_timer = self._clock.callLater(delay, self.start)
        self._log.warn(
            "{name}: {state}; the next session starts in {delay:.3g} s",
            name=self.name,
            state=self._down_reason.value,
            delay=delay,
        )

    def _record_error(self, session: Session, reason: str) -> None:
        self._last_error = reason
        self._last_screen = session.last_screen
        self._log.warn("{name}: session ended: {reason}", name=self.name, reason=reason)

    def _cancel_backoff(self) -> None:
        if self._backoff_timer is not None:
            if self._backoff_timer.active():
                self._backoff_timer.cancel()
            self._backoff_timer = None

    def _sessions(self) -> list[Session]:
        sessions = (self._session, self._successor, *self._ending)
        return [session for session in sessions if session is not None]
