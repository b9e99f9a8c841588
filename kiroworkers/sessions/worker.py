"""
A named slot that always tries to have a live session.

The worker is the only owner of a restart: whatever ends a session, however
many have asked for it, its successor is started here and only once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kiroworkers.sessions.session import Reply, Session, State

#: States in which a session is serving somebody or soon can.
_HEALTHY = {State.IDLE, State.BUSY, State.CLEARING}


class NewSession(Protocol):
    """
    Makes a session that is not started yet.
    """

    def __call__(
        self, name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None], /
    ) -> Session: ...


@frozen
class Snapshot:
    """
    A worker as it is now.  Times are in seconds on the clock of the reactor.

    @ivar state: the session's state, or `waiting` for its successor's start.
    @ivar since: when that state began.
    @ivar last_activity: when the session last said something or was asked.
    @ivar answered: turns that ended with an answer, over all sessions.
    @ivar starts: sessions started so far.
    @ivar consecutive_failures: ends that were not asked for, since the last
        session that reached its prompt.
    """

    name: str
    state: str
    healthy: bool
    idle: bool
    pid: int | None
    since: float
    last_activity: float
    answered: int
    starts: int
    consecutive_failures: int
    last_error: str | None


class Worker:
    """
    Keeps one session alive.

    @param restart_delay: seconds from an unexpected end to the next start.
    @param on_idle: called with this worker whenever it can be asked.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        new_session: NewSession,
        restart_delay: float,
        on_idle: Callable[[Worker], None],
    ) -> None:
        self.name = name
        self._clock = clock
        self._new_session = new_session
        self._restart_delay = restart_delay
        self._on_idle = on_idle
        self._session: Session | None = None
        self._restart: IDelayedCall | None = None
        self._renewing = False
        self._after_spent = False
        self._was_ready = False
        self._stopped: Deferred[None] | None = None
        self._ended_at = clock.seconds()
        self._answered = 0
        self._starts = 0
        self._failures = 0
        self._last_error: str | None = None

    @property
    def idle(self) -> bool:
        """
        Can it be asked now?
        """
        return self._session is not None and self._session.state is State.IDLE

    def start(self) -> None:
        """
        Start a session.
        """
        self._restart = None
        self._renewing = False
        self._was_ready = False
        self._starts += 1
        session = self._new_session(self.name, self._ready, self._gone)
        self._session = session
        try:
            session.start()
        except OSError as problem:
            self._gone(f"could not start: {problem}")
        else:
            self._log.info("{name}: started, pid {pid}", name=self.name, pid=session.pid)

    def ask(self, prompt: str) -> Deferred[Reply]:
        """
        Ask `prompt` of the idle session, as `Session.ask`.
        """
        assert self._session is not None, "only an idle worker is asked"
        return self._session.ask(prompt).addCallback(self._count)

    def renew(self, reason: str) -> None:
        """
        End the session and start another as soon as it is gone.
        """
        if self._session is not None and not self._renewing and self._stopped is None:
            self._log.info("{name}: renewing: {reason}", name=self.name, reason=reason)
            self._renewing = True
            self._session.stop(reason)

    def stop(self) -> Deferred[None]:
        """
        End the session for good; fires when it is gone.
        """
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._session is None:
            return succeed(None)
        if self._stopped is None:
            self._stopped = Deferred()
            self._session.stop("the server is stopping")
        return self._stopped

    def snapshot(self) -> Snapshot:
        """
        What there is to know.
        """
        session = self._session
        return Snapshot(
            name=self.name,
            state="waiting" if session is None else session.state.value,
            healthy=self._healthy(),
            idle=self.idle,
            pid=None if session is None else session.pid,
            since=self._ended_at if session is None else session.since,
            last_activity=self._ended_at if session is None else session.last_activity,
            answered=self._answered,
            starts=self._starts,
            consecutive_failures=self._failures,
            last_error=self._last_error,
        )

    def _healthy(self) -> bool:
        session = self._session
        if session is None or self._stopped is not None:
            return False
        # A session that is spent has a successor at once.
        replaced = session.spent or (self._after_spent and session.state is State.STARTING)
        return session.state in _HEALTHY or replaced

    def _count(self, reply: Reply) -> Reply:
        self._answered += 1
        return reply

    def _ready(self) -> None:
        if not self._was_ready:
            self._log.info("{name}: ready", name=self.name)
        self._was_ready = True
        self._failures = 0
        self._on_idle(self)

    def _gone(self, reason: str) -> None:
        self._after_spent = self._session is not None and self._session.spent
        self._session = None
        self._ended_at = self._clock.seconds()
        if self._stopped is not None:
            self._stopped.callback(None)
        elif self._renewing or self._after_spent:
            self.start()
        else:
            self._failures += 1
            self._last_error = reason
            self._log.warn(
                "{name}: its session ended: {reason}; the next starts in {delay:g} s",
                name=self.name,
                reason=reason,
                delay=self._restart_delay,
            )
            self._restart = self._clock.callLater(self._restart_delay, self.start)
