"""
A named slot that always tries to have a live session.

The worker is the only owner of a restart: whatever ends a session, however
many have asked for it, its successor is started here and only once.  While it
is renewed it may have two: the one that serves, and its successor, which takes
over between two turns when it is ready.
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

#: States in which a session is serving somebody or soon can.
_HEALTHY = {SessionState.IDLE, SessionState.BUSY, SessionState.CLEARING}


class SessionFactory(Protocol):
    """
    Makes a session that is not started yet.
    """

    def __call__(
        self, name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None], /
    ) -> Session: ...


class Supervisor(Protocol):
    """
    Who brings requests to workers, and is told what happens to them.
    """

    def is_idle(self, worker: Worker, /) -> None:
        """
        `worker` can be asked.
        """

    def is_due(self, worker: Worker, reason: str, /) -> None:
        """
        `worker` needs a new session, at a good time.
        """

    def has_failed(self, worker: Worker, failure: AgentFailure, /) -> bool:
        """
        A session of `worker` could not go on because of `failure`.  Would that
        be so for every session, so that none is to be started now?
        """

    def has_room(self, worker: Worker, /) -> bool:
        """
        Is there memory for a second session of `worker`?
        """

    def has_changed(self, worker: Worker, /) -> None:
        """
        A session of `worker` came or went.
        """


class DownReason(Enum):
    """
    Why a worker has no session; the values are what `/health` says.

    `waiting` for the next start; `failed`, with a probe from time to time;
    `held` while no session of the agent could answer; `drained` by the operator;
    `ended` for good.
    """

    WAITING = "waiting"
    FAILED = "failed"
    HELD = "held"
    DRAINED = "drained"
    ENDED = "ended"


@frozen
class WorkerSnapshot:
    """
    A worker as it is now.  Times are in seconds on the clock of the reactor.

    Attributes:
        state: the session's state, or why there is none.
        since: when that state began.
        age: seconds since the session was started.
        last_activity: when the session last said something or was asked.
        answered: turns that ended with an answer, over all sessions.
        starts: sessions started so far.
        consecutive_failures: sessions in a row that ended by themselves and
            soon.
        last_screen: what the last session showed that never came to its prompt.
        next_start: when the next session starts, if one waits for that.
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
    Keeps one session alive.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        chance: Random,
        new_session: SessionFactory,
        restarts: BackoffPolicy,
        recycling: RecyclePolicy,
        supervisor: Supervisor,
    ) -> None:
        self.name = name
        self._clock = clock
        self._chance = chance
        self._new_session = new_session
        self._backoff = Backoff(restarts, chance)
        self._recycling = recycling
        self._supervisor = supervisor
        self._session: Session | None = None
        self._successor: Session | None = None
        self._leaving: set[Session] = set()
        self._absence = DownReason.WAITING
        self._restart: IDelayedCall | None = None
        self._leave_idle: str | None = None
        self._drained = False
        self._stopped = False
        self._seamless = False
        self._orderly = False
        self._answers_left = 0
        self._ended_at = clock.seconds()
        self._answered = 0
        self._starts = 0
        self._last_error: str | None = None
        self._last_screen = ""

    @property
    def idle(self) -> bool:
        """
        Can it be asked now?
        """
        return (
            self._session is not None
            and self._session.state is SessionState.IDLE
            and self._leave_idle is None
        )

    @property
    def asked_since(self) -> float | None:
        """
        When the turn began that is running, if one is.
        """
        session = self._session
        return session.since if session is not None and session.busy else None

    @property
    def warming(self) -> bool:
        """
        Will it soon be idle, without a turn in between?
        """
        session = self._session
        return (
            session is not None
            and session.state in (SessionState.STARTING, SessionState.CLEARING)
            and self._leave_idle is None
        )

    @property
    def group(self) -> int | None:
        """
        The process group of its session.
        """
        return None if self._session is None else self._session.pid

    @property
    def healthy(self) -> bool:
        """
        Does it serve somebody, or can it soon?
        """
        session = self._session
        if session is None or self._stopped or self._drained:
            return False
        # What went, or goes, as it should has a successor at once.
        starting = session.state is SessionState.STARTING and self._orderly
        leaving = session.exhausted or self._leave_idle is not None
        return session.state in _HEALTHY or starting or leaving

    @property
    def in_backoff(self) -> bool:
        """
        Does it wait for another start because its sessions end soon?
        """
        return self._restart is not None

    @property
    def renewing(self) -> bool:
        """
        Is its session on the way, or on the way out?
        """
        starting = self._session is not None and self._session.state is SessionState.STARTING
        return starting or self._successor is not None or self._leave_idle is not None

    @property
    def started_at(self) -> float:
        """
        When its session was started, or its last one ended.
        """
        return self._ended_at if self._session is None else self._session.started_at

    @property
    def held(self) -> bool:
        """
        Does it wait until sessions of the agent can answer again?
        """
        return self._session is None and self._absence is DownReason.HELD

    @property
    def drained(self) -> bool:
        """
        Did the operator say that it shall not work?
        """
        return self._drained

    @property
    def gone(self) -> bool:
        """
        Is there no session, not even one that is ending?
        """
        return not self._sessions()

    # What others may ask of it.

    def start(self) -> None:
        """
        Have a session: start one if there is none.
        """
        self._drained = False
        self._cancel_restart()
        if self._session is None and not self._stopped:
            session = self._begin()
            self._take(session)
            self._launch(session)

    def ask(
        self,
        prompt: str,
        validate: ReplyValidator = accept_any,
        on_text: Callable[[str], None] | None = None,
    ) -> Deferred[Reply]:
        """
        Ask the idle session, as `Session.ask`.
        """
        session = self._session
        assert session is not None and self.idle, "only an idle worker is asked"
        reply = session.ask(prompt, validate, on_text)
        if session.single_use and self._supervisor.has_room(self):
            # It goes after this turn; who comes next need not wait for a start.
            self._prepare()
        return reply.addCallback(self._count)

    def end_turn(self) -> None:
        """
        A turn is over, and whoever asked has been told: to be called after each.
        """
        session = self._session
        if self._successor is not None:
            self._take_over()
        elif (
            session is not None
            and self._answers_left <= 0
            and not (session.single_use or self._drained)
        ):
            self._supervisor.is_due(self, f"gave {session.answers} answers")

    def renew(self, reason: str, ahead: bool) -> None:
        """
        Replace the session between two turns.

        Args:
            ahead: start the successor before the old one goes.
        """
        if self._stopped:
            return
        if self._successor is not None and self._session is not None and self._session.single_use:
            # It was started for the next turn, and before somebody wanted a new one.
            self._dismiss_successor(reason)
            self._prepare()
            return
        if self.renewing:
            return
        self._log.info("{name}: renewing: {reason}", name=self.name, reason=reason)
        if self._session is None:
            self.start()
        elif ahead:
            self._prepare()
        else:
            self._leave(reason)

    def replace(self, reason: str) -> None:
        """
        End the session whatever it does, and start another as soon as it is gone.
        """
        if self._session is not None and not self._stopped:
            self._log.warn("{name}: replacing: {reason}", name=self.name, reason=reason)
            self._seamless = True
            self._session.stop(reason)

    def drain(self) -> None:
        """
        Take no more work and end the session after its turn.  `start` begins anew.
        """
        self._drained = True
        self._cancel_restart()
        self._dismiss_successor("drained")
        if self._session is None:
            self._absence = DownReason.DRAINED
        else:
            self._leave("drained")

    def stop(self, now: bool = False) -> None:
        """
        End every session for good.

        Args:
            now: do not wait until an agent has quit.
        """
        self._stopped = True
        self._cancel_restart()
        for session in self._sessions():
            if now:
                session.stop("the server is stopping")
            else:
                session.quit("the server is stopping")

    def due(self, memory: int | None) -> str | None:
        """
        Why its session is to be recycled, if it is.

        Args:
            memory: bytes that its process group holds, where that is known.
        """
        if self._session is None:
            return None
        return self._recycling.reason(self._clock.seconds() - self._session.started_at, memory)

    def snapshot(self) -> WorkerSnapshot:
        """
        What there is to know.
        """
        session, now = self._session, self._clock.seconds()
        failures = self._backoff.consecutive_failures
        if session is not None and self._backoff.was_stable(
            now - session.started_at, session.answers
        ):
            failures = 0
        return WorkerSnapshot(
            name=self.name,
            state=self._absence.value if session is None else session.state.value,
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
            next_start=None if self._restart is None else self._restart.getTime(),
        )

    # What happens to its sessions.

    def _begin(self) -> Session:
        """
        A session that is not started yet.
        """
        self._starts += 1
        session = self._new_session(
            self.name, lambda: self._ready(session), lambda reason: self._gone(session, reason)
        )
        return session

    def _launch(self, session: Session) -> None:
        try:
            session.start()
        except OSError as problem:
            self._gone(session, f"could not start: {problem}")
        else:
            self._log.info("{name}: started, pid {pid}", name=self.name, pid=session.pid)

    def _prepare(self) -> None:
        """
        Start the successor.
        """
        if self._successor is None:
            self._successor = self._begin()
            self._launch(self._successor)

    def _dismiss_successor(self, reason: str) -> None:
        if self._successor is not None:
            successor, self._successor = self._successor, None
            self._leaving.add(successor)
            successor.stop(reason)

    def _take(self, session: Session) -> None:
        """
        `session` is the one that serves from now on.
        """
        self._session = session
        self._leave_idle = None
        self._seamless = False
        self._answers_left = self._recycling.answers(self._chance)

    def _ready(self, session: Session) -> None:
        if session is self._successor:
            self._take_over()
        elif session is self._session:
            if self._leave_idle is not None:
                session.quit(self._leave_idle)
            elif session.turns == 0:
                self._serve()
            else:
                self._supervisor.is_idle(self)

    def _take_over(self) -> None:
        """
        The successor serves, if it is ready and no turn runs.
        """
        old, new = self._session, self._successor
        if new is None or new.state is not SessionState.IDLE or (old is not None and old.busy):
            return
        self._successor = None
        self._take(new)
        if old is not None:
            self._leaving.add(old)
            old.quit("its successor is ready")
        self._serve()

    def _serve(self) -> None:
        """
        A new session is ready.
        """
        self._log.info("{name}: ready", name=self.name)
        self._last_screen = ""
        self._supervisor.has_changed(self)
        if self.idle:
            self._supervisor.is_idle(self)

    def _leave(self, reason: str) -> None:
        """
        The session goes as soon as it is idle.
        """
        assert self._session is not None, "there is one to go"
        self._leave_idle = reason
        if self._session.state is SessionState.STARTING:
            self._session.stop(reason)
        elif self._session.state is SessionState.IDLE:
            self._session.quit(reason)

    def _count(self, reply: Reply) -> Reply:
        self._answered += 1
        self._answers_left -= 1
        return reply

    def _gone(self, session: Session, reason: str) -> None:
        if session in self._leaving:
            self._leaving.discard(session)
        elif session is self._successor:
            # What serves goes on to do so.
            self._successor = None
            if not self._stopped:
                self._note(session, reason)
                self._has_failed(session)
        elif session is self._session:
            self._session = None
            self._ended_at = self._clock.seconds()
            self._process_events(session, reason)
        self._supervisor.has_changed(self)

    def _process_events(self, session: Session, reason: str) -> None:
        """
        What comes after the session that served.
        """
        self._orderly = self._seamless or session.exhausted or self._leave_idle is not None
        self._seamless, self._leave_idle = False, None
        if self._stopped:
            self._absence = DownReason.ENDED
            return
        if not self._orderly:
            self._note(session, reason)
        successor, self._successor = self._successor, None
        if self._drained:
            self._absence = DownReason.DRAINED
        elif successor is not None:
            self._take(successor)
            if successor.state is SessionState.IDLE:
                self._serve()
        elif self._orderly:
            self.start()
        elif self._has_failed(session):
            self._absence = DownReason.HELD
        elif session.aborted:
            self.start()
        else:
            self._wait(session)

    def _has_failed(self, session: Session) -> bool:
        failure = session.failure
        return failure is not None and self._supervisor.has_failed(self, failure)

    def _wait(self, session: Session) -> None:
        """
        Start the next session after a time.
        """
        was_stable = self._clock.seconds() - session.started_at
        delay = self._backoff.delay_after(was_stable, session.answers)
        self._absence = DownReason.FAILED if self._backoff.failed else DownReason.WAITING
        self._restart = self._clock.callLater(delay, self.start)
        self._log.warn(
            "{name}: {state}; the next session starts in {delay:.3g} s",
            name=self.name,
            state=self._absence.value,
            delay=delay,
        )

    def _note(self, session: Session, reason: str) -> None:
        self._last_error = reason
        self._last_screen = session.last_screen
        self._log.warn("{name}: its session ended: {reason}", name=self.name, reason=reason)

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            if self._restart.active():
                self._restart.cancel()
            self._restart = None

    def _sessions(self) -> list[Session]:
        known = (self._session, self._successor, *self._leaving)
        return [each for each in known if each is not None]
