"""
When no session of the agent can answer, and how it is noticed that one can.

Some troubles are not one session's: nobody is logged in, the account is
throttled or has no credits left.  While one lasts, nothing is typed and nothing
is started in vain.  After a time, one request may try, or where the agent can be
asked whether somebody is logged in, that is asked again and again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import AgentUnavailable

#: Troubles that every session has: the seconds until a request may try, where the
#: agent does not name them, and the longest, when they doubled again and again.
_PATIENCE = {
    "login_required": (60.0, 600.0),
    "login_expired": (60.0, 600.0),
    "throttled": (30.0, 600.0),
    "out_of_credits": (600.0, 3600.0),
}

#: Troubles that the agent can be asked about.
_OF_LOGIN = {"login_required", "login_expired"}

#: Answers whether somebody is logged in.
LoginCheck = Callable[[], Deferred[bool]]


@frozen
class LoginPolicy:
    """
    Attributes:
        check: asks the agent; None where it cannot be asked.
        interval: seconds from one time to the next.
    """

    check: LoginCheck | None = None
    interval: float = 60.0


def affects_all_sessions(kind: str) -> bool:
    """
    Is a trouble of this kind one of every session?
    """
    return kind in _PATIENCE


@frozen
class CircuitSnapshot:
    """
    The outage as it is now.

    Attributes:
        kind, detail: the trouble, and the agent's words for it.
        half_open: the next request shows whether it is over.
        retry_after: seconds until it is tried again; 0 when that may be now.
    """

    kind: str
    detail: str
    half_open: bool
    retry_after: int


class CircuitBreaker:
    """
    Whether, and for how long, the agent can answer nobody.

    Args:
        login: how it is noticed that somebody is logged in.
        on_half_open: called when a session may be started to see whether it works.
        on_close: called when it is over, with the kind that it was.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        login: LoginPolicy,
        on_half_open: Callable[[], None],
        on_close: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._login = login
        self._on_half_open = on_half_open
        self._on_close = on_close
        self._failure: AgentFailure | None = None
        self._openings = 0
        self._since = 0.0
        self._at_start = False
        self._alarm: IDelayedCall | None = None
        self._checking: Deferred[bool] | None = None
        self._stopped = False

    @property
    def is_open(self) -> bool:
        """
        Is there an outage?
        """
        return self._failure is not None

    @property
    def half_open(self) -> bool:
        """
        Is it time for a request to see whether it is over?
        """
        return self._failure is not None and self._alarm is None and self._checking is None

    def shows_recovery(self, began: float, by_start: bool = False) -> bool:
        """
        Does a turn that began then and gave an answer, or a session that was
        started then and is ready, show that it is over?
        """
        return self.is_open and began > self._since and (self._at_start or not by_start)

    def snapshot(self) -> CircuitSnapshot | None:
        """
        The outage, if there is one.
        """
        failure = self._failure
        if failure is None:
            return None
        return CircuitSnapshot(failure.kind, failure.detail, self.half_open, self._retry_after())

    def error(self) -> AgentUnavailable:
        """
        Why nobody is asked while it lasts.
        """
        failure = self._failure
        assert failure is not None, "it lasts"
        return AgentUnavailable(failure.kind, failure.detail, max(1, self._retry_after()))

    def open(self, failure: AgentFailure, at_start: bool) -> None:
        """
        A session says that none can answer.

        Args:
            at_start: it did not even come to its prompt.
        """
        if self._stopped or not affects_all_sessions(failure.kind):
            return
        if self._failure is not None and not self.half_open:
            return  # known, and its time is running
        if self._failure is None:
            self._since = self._clock.seconds()
        self._failure, self._at_start = failure, at_start
        delay = self._delay(failure)
        self._openings += 1
        self._log.warn(
            "no session can answer: {kind}: {detail}; next try in {delay:g} s",
            kind=failure.kind,
            detail=failure.detail,
            delay=delay,
        )
        self._alarm = self._clock.callLater(delay, self._time_elapsed)

    def close(self) -> None:
        """
        A session answered after all.
        """
        self._openings = 0
        self._close()

    def stop(self) -> None:
        """
        Look no more.
        """
        self._stopped = True
        self._cancel()
        if self._checking is not None:
            self._checking.cancel()

    def _time_elapsed(self) -> None:
        self._alarm = None
        assert self._failure is not None, "an alarm runs only while it lasts"
        if self._login.check is not None and self._failure.kind in _OF_LOGIN:
            self._checking = self._login.check()
            self._checking.addErrback(lambda _: False).addCallback(self._checked)
        else:
            self._log.info("one request may try: {kind}", kind=self._failure.kind)
            self._on_half_open()

    def _delay(self, failure: AgentFailure) -> float:
        if self._login.check is not None and failure.kind in _OF_LOGIN:
            return self._login.interval
        if failure.retry_after is not None:
            return float(max(1, failure.retry_after))
        first, longest = _PATIENCE[failure.kind]
        return min(longest, first * 2.0 ** min(self._openings, 32))

    def _checked(self, logged_in: bool) -> None:
        self._checking = None
        if self._failure is None or self._stopped:
            return
        if logged_in:
            self._close()
        else:
            self.open(self._failure, self._at_start)

    def _close(self) -> None:
        self._cancel()
        failure, self._failure = self._failure, None
        if failure is not None:
            self._log.warn("sessions can answer again: {kind} is over", kind=failure.kind)
            self._on_close(failure.kind)

    def _cancel(self) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None

    def _retry_after(self) -> int:
        if self._alarm is None:
            return 0 if self.half_open else 1
        return max(0, math.ceil(self._alarm.getTime() - self._clock.seconds()))
