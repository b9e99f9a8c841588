"""
Stop sending requests to an agent that cannot answer, and detect its recovery.

Some failures affect every session of an agent: nobody is logged in, the account is
throttled or has no credits left.  While such a failure lasts, the circuit is open:
no prompts are typed and no sessions are started.  After a delay the circuit is half-open,
and one request may probe the agent.  A failed login is not probed by requests if the agent
has a command that checks it; the command runs periodically instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import AgentUnavailable, FailureKind

#: The largest exponent of a delay, so that it cannot overflow.
_MAX_DOUBLINGS = 32

#: The longest delay that is accepted from an agent, in seconds.  It may have been misread.
_MAX_NAMED_DELAY = 24 * 3600.0

#: The failures whose end a login check can detect.
_LOGIN_FAILURES = {FailureKind.LOGIN_REQUIRED, FailureKind.LOGIN_EXPIRED}

#: Returns a Deferred that fires with whether a user is logged in to the agent.
LoginCheck = Callable[[], Deferred[bool]]


@frozen
class LoginPolicy:
    """
    Hold how to find out whether a user is logged in to the agent.

    Attributes:
        check: Runs the agent's own check; None if the agent has none.
        interval: Seconds between two checks while nobody is logged in.
    """

    check: LoginCheck | None = None
    interval: float = 60.0


@frozen
class CircuitSnapshot:
    """
    Hold the state of an open or half-open circuit at one moment.

    Attributes:
        kind: The kind of failure.
        detail: The agent's own words.
        half_open: Whether the next request may probe the agent.
        retry_after: Seconds until the next attempt; 0 if it may be made now.
    """

    kind: FailureKind
    detail: str
    half_open: bool
    retry_after: int


class CircuitBreaker:
    """
    Keep requests from an agent that cannot answer, until it has recovered.

    Args:
        clock: The reactor's clock.
        login: How to find out whether a user is logged in.
        on_half_open: Called when a session may be started as a probe.
        on_close: Called when the failure is over, with its kind.
        agent: The name of the agent, for the log.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        login: LoginPolicy,
        on_half_open: Callable[[], None],
        on_close: Callable[[str], None],
        agent: str = "",
    ) -> None:
        self._agent = agent
        self._clock = clock
        self._login = login
        self._on_half_open = on_half_open
        self._on_close = on_close
        self._failure: AgentFailure | None = None
        self._openings = 0
        self._opened_at = 0.0
        self._failed_at_start = False
        self._delay_timer: IDelayedCall | None = None
        self._pending_check: Deferred[bool] | None = None
        self._stopped = False

    @property
    def is_open(self) -> bool:
        """
        Return whether the circuit is not closed: it is open or half-open.
        """
        return self._failure is not None

    @property
    def half_open(self) -> bool:
        """
        Return whether the delay is over, so that one request may probe the agent.
        """
        return (
            self._failure is not None and self._delay_timer is None and self._pending_check is None
        )

    @property
    def retry_after(self) -> int:
        """
        Return the whole seconds until the agent may be tried again, at least 1.
        """
        return max(1, self._seconds_left())

    def shows_recovery(self, began: float, by_start: bool = False) -> bool:
        """
        Return whether a success proves that the failure is over.

        A session that starts proves this only if the failure occurred at the start of a
        session: a throttled agent, for example, still starts.

        Args:
            began: When the answered turn began or the ready session was started, in seconds
                on the reactor's clock.
            by_start: Whether the success is the start of a session rather than an answer.
        """
        return self.is_open and began > self._opened_at and (self._failed_at_start or not by_start)

    def snapshot(self) -> CircuitSnapshot | None:
        """
        Return the state of the circuit, or None if it is closed.
        """
        failure = self._failure
        if failure is None:
            return None
        return CircuitSnapshot(failure.kind, failure.detail, self.half_open, self._seconds_left())

    def error(self) -> AgentUnavailable:
        """
        Return the error for requests that arrive while the circuit is open.
        """
        failure = self._failure
        assert failure is not None, "the circuit is open"
        return AgentUnavailable(failure.kind, failure.detail, self.retry_after)

    def open(self, failure: AgentFailure, at_start: bool) -> None:
        """
        Open the circuit, or open it again if it is half-open.

        Failures that concern a single session are ignored.  While the delay is running, so is
        a further failure, unless it is another one that ends later.

        Args:
            failure: What the agent reported.
            at_start: Whether the session failed before it reached its prompt.
        """
        if self._stopped or failure.kind.probe_delays is None or failure.quoted:
            return
        old, last = self._state(), self._failure
        is_known = old == "open" and last is not None and last.kind is failure.kind
        waiting = self._failure is not None and not self.half_open
        openings = self._openings - 1 if waiting else self._openings
        delay = self._probe_delay(failure, openings, *failure.kind.probe_delays)
        if waiting and not self._outlasts(failure, delay):
            return
        if self._failure is None:
            self._opened_at = self._clock.seconds()
        self._failure, self._failed_at_start = failure, at_start
        self._openings = openings + 1
        # The login is checked again and again: only the first result is news.
        level = LogLevel.debug if is_known else LogLevel.warn
        self._report(
            level,
            "circuit open: {kind}: {detail}; next attempt in {delay:g} s",
            old,
            "open",
            failure,
            detail=failure.detail,
            delay=delay,
        )
        self._cancel_timer()
        self._delay_timer = self._clock.callLater(delay, self._delay_elapsed)
        if self._pending_check is not None:
            # It would tell about the failure before this one.
            self._pending_check.cancel()

    def close(self) -> None:
        """
        Close the circuit, because a session was able to answer.
        """
        self._openings = 0
        self._close()

    def stop(self) -> None:
        """
        Stop checking; the circuit stays as it is.
        """
        self._stopped = True
        self._cancel_timer()
        if self._pending_check is not None:
            self._pending_check.cancel()

    def _delay_elapsed(self) -> None:
        self._delay_timer = None
        assert self._failure is not None, "the timer runs only while the circuit is open"
        if self._login.check is not None and self._failure.kind in _LOGIN_FAILURES:
            self._pending_check = self._login.check()
            self._pending_check.addErrback(lambda _: False).addCallback(self._login_checked)
        else:
            self._report(
                LogLevel.info,
                "circuit half-open: {kind}; the next request is a probe",
                "open",
                "half-open",
                self._failure,
            )
            self._on_half_open()

    def _outlasts(self, failure: AgentFailure, delay: float) -> bool:
        """
        Return whether `failure`, which lasts `delay` seconds, tells more than the present one.
        """
        assert self._failure is not None, "the circuit is open"
        if failure.kind is self._failure.kind and failure.retry_after is None:
            return False
        left = 0.0
        if self._delay_timer is not None:
            left = self._delay_timer.getTime() - self._clock.seconds()
        return delay > left

    def _probe_delay(
        self, failure: AgentFailure, openings: int, first: float, longest: float
    ) -> float:
        """
        Return the seconds until the agent may be tried again after `failure`.

        Args:
            failure: What the agent reported.
            openings: How often the circuit was opened before, since it was closed.
            first: The first delay, where neither the agent nor a login check decides.
            longest: The longest delay after doubling.
        """
        if self._login.check is not None and failure.kind in _LOGIN_FAILURES:
            return self._login.interval
        if failure.retry_after is not None:
            return min(_MAX_NAMED_DELAY, max(1.0, failure.retry_after))
        return min(longest, first * 2.0 ** min(openings, _MAX_DOUBLINGS))

    def _login_checked(self, logged_in: bool) -> None:
        self._pending_check = None
        if self._failure is None or self._stopped:
            return
        if logged_in:
            self._close()
        else:
            self.open(self._failure, self._failed_at_start)

    def _close(self) -> None:
        old = self._state()
        self._cancel_timer()
        failure, self._failure = self._failure, None
        if failure is not None:
            self._report(
                LogLevel.warn,
                "circuit closed: {kind} is over, after {seconds:.0f} s",
                old,
                "closed",
                failure,
                seconds=self._clock.seconds() - self._opened_at,
            )
            self._on_close(failure.kind)

    def _state(self) -> str:
        """
        Return the state of the circuit, for the log.

        A failure that a login check watches is not probed, so the circuit is not half-open.
        """
        if self._failure is None:
            return "closed"
        is_watched = self._login.check is not None and self._failure.kind in _LOGIN_FAILURES
        return "half-open" if self.half_open and not is_watched else "open"

    def _report(
        self,
        level: Any,
        format: str,
        old: str,
        new: str,
        failure: AgentFailure,
        **fields: str | float,
    ) -> None:
        """
        Log a change of the circuit's state, with the agent that it concerns.
        """
        self._log.emit(
            level,
            f"{{prefix}}{format}",
            prefix=f"{self._agent}: " if self._agent else "",
            agent=self._agent,
            old=old,
            new=new,
            kind=failure.kind,
            **fields,
        )

    def _cancel_timer(self) -> None:
        if self._delay_timer is not None and self._delay_timer.active():
            self._delay_timer.cancel()
        self._delay_timer = None

    def _seconds_left(self) -> int:
        if self._delay_timer is None:
            return 0 if self.half_open else 1
        return max(0, math.ceil(self._delay_timer.getTime() - self._clock.seconds()))
