"""
Stop sending requests to an agent that cannot answer, and detect its recovery.

Some failures affect every session of an agent: nobody is logged in, the account is
throttled or has no credits left.  While such a failure lasts, the circuit is open:
no prompts are typed and no sessions are started.  After a delay the circuit is half-open,
and one request may probe the agent.  A failed login is not probed by requests if the agent
has a command that checks it; the command runs periodically instead.

Servers that use the same account may share its outages (see `shared_outage`).  Then the circuit
of each opens and closes with those of the others, and only one server at a time probes the agent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import AgentUnavailable, FailureKind
from kiroworkers.pool.shared_outage import Outage, SharedOutage, UnsharedOutage

#: The largest exponent of a delay, so that it cannot overflow.
_MAX_DOUBLINGS = 32

#: The longest delay that is accepted from an agent, in seconds.  It may have been misread.
_MAX_NAMED_DELAY = 24 * 3600.0

#: The failures whose end a login check can detect.
_LOGIN_FAILURES = {FailureKind.LOGIN_REQUIRED, FailureKind.LOGIN_EXPIRED}

#: The server that reports an outage: this one or another.
Reporter: TypeAlias = Literal["this", "other"]
REPORTERS: tuple[Reporter, ...] = ("this", "other")

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
        reported_by: The other server that reported the failure; empty if it was this one.
    """

    kind: FailureKind
    detail: str
    half_open: bool
    retry_after: int
    reported_by: str = ""


class _Claim(Enum):
    """
    Represent whether this server is the one that may probe the agent.
    """

    NONE = "none"
    PENDING = "pending"
    GRANTED = "granted"


class Probe:
    """
    Represent an attempt to find out whether an agent works again.

    It must not begin before it is granted, because another server may be probing the agent.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    @property
    def active(self) -> bool:
        """
        Return whether the attempt has not ended, and the circuit has not changed since it began.
        """
        return self._breaker.is_active(self)

    @property
    def granted(self) -> bool:
        """
        Return whether the attempt may begin.
        """
        return self._breaker.is_granted(self)

    def end(self) -> None:
        """
        End the attempt, whatever it has shown; without effect if the circuit has changed since.
        """
        self._breaker.end_probe(self)


class CircuitBreaker:
    """
    Keep requests from an agent that cannot answer, until it has recovered.

    It is an `OutageFollower`.

    Attributes:
        outages: How often the circuit was opened while it was closed, by the server that reported
            the failure.

    Args:
        clock: The reactor's clock.
        login: How to find out whether a user is logged in.
        on_half_open: Called when a session may be started as a probe.
        on_close: Called when the failure is over, with its kind.
        agent: The name of the agent, for the log.
        on_learned: Called when another server has opened the circuit, or probes the agent.
        shared: Shares outages with other servers; None to share none.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        login: LoginPolicy,
        on_half_open: Callable[[], None],
        on_close: Callable[[str], None],
        agent: str = "",
        on_learned: Callable[[], None] = lambda: None,
        shared: SharedOutage | None = None,
    ) -> None:
        self.outages: Counter[Reporter] = Counter()
        self._agent = agent
        self._clock = clock
        self._login = login
        self._on_half_open = on_half_open
        self._on_close = on_close
        self._on_learned = on_learned
        self._shared = shared or UnsharedOutage()
        self._reported_by = ""
        self._failure: AgentFailure | None = None
        self._openings = 0
        self._opened_at = 0.0
        self._failed_at_start = False
        self._delay_timer: IDelayedCall | None = None
        # Whether a login check runs, or waits until this server may probe.
        self._checking = False
        self._pending_check: Deferred[bool] | None = None
        self._claim = _Claim.NONE
        # What to call when the probe may begin.
        self._probes: dict[Probe, Callable[[], None]] = {}
        self._stopped = False

    def start(self) -> Deferred[None] | None:
        """
        Learn of outages from other servers.

        Returns:
            None, or a Deferred that fires when it is known whether an outage lasts.
        """
        return self._shared.follow(self)

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
        return self._failure is not None and self._delay_timer is None and not self._checking

    @property
    def failed_at_start(self) -> bool:
        """
        Return whether the start of a session shows whether the failure is over.
        """
        return self._failed_at_start

    @property
    def awaits_claim(self) -> bool:
        """
        Return whether probes must wait, because another server may be probing the agent.
        """
        return self._claim is _Claim.PENDING

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
        return CircuitSnapshot(
            failure.kind, failure.detail, self.half_open, self._seconds_left(), self._reported_by
        )

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
            self.outages["this"] += 1
        self._failure, self._failed_at_start = failure, at_start
        self._reported_by = ""
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
        self._wait(delay)
        self._shared.publish()

    def close(self) -> None:
        """
        Close the circuit, because a session was able to answer.
        """
        self._openings = 0
        self._close_everywhere()

    def stop(self) -> None:
        """
        Stop checking; the circuit stays as it is.
        """
        self._stopped = True
        self._cancel_timer()
        self._forget_probes()
        self._shared.stop()

    # Probes.

    def begin_probe(self, on_granted: Callable[[], None]) -> Probe:
        """
        Ask for permission to probe the agent, once the delay is over.

        Args:
            on_granted: Called when the probe may begin; at once if nobody else may be probing.
                It is not called if another server is: then the circuit is open again.
        """
        assert self._failure is not None and self._delay_timer is None, "the delay is over"
        probe = Probe(self)
        self._probes[probe] = on_granted
        if self._claim is _Claim.GRANTED:
            on_granted()
        elif self._claim is _Claim.NONE:
            self._claim = _Claim.PENDING
            self._shared.claim_probe()
        return probe

    def is_active(self, probe: Probe) -> bool:
        """
        Return whether `probe` has not ended; see `Probe.active`.
        """
        return probe in self._probes

    def is_granted(self, probe: Probe) -> bool:
        """
        Return whether `probe` may begin.
        """
        return probe in self._probes and self._claim is _Claim.GRANTED

    def end_probe(self, probe: Probe) -> None:
        """
        End `probe`; see `Probe.end`.
        """
        if self._probes.pop(probe, None) is not None:
            self._release_unused()

    def _release_unused(self) -> None:
        """
        Let another server probe the agent if no probe is left that this one has to make.
        """
        if self._claim is _Claim.GRANTED and not self._probes:
            self._claim = _Claim.NONE
            self._shared.release_probe()

    def _forget_probes(self) -> None:
        """
        Forget the probes, because what they were to find out is known or out of date.
        """
        self._probes.clear()
        self._claim = _Claim.NONE
        check, self._pending_check, self._checking = self._pending_check, None, False
        if check is not None:
            check.cancel()

    # The `OutageFollower`.

    def learn(self, outage: Outage | None, ended_by: str = "", /) -> None:
        """
        Open or close the circuit as other servers have done; part of `OutageFollower`.
        """
        if self._stopped:
            return
        if outage is None:
            self._openings = 0
            self._close(ended_by)
            return
        old, last = self._state(), self._failure
        if last is None:
            self._opened_at = self._clock.seconds()
            self.outages["other" if outage.reported_by else "this"] += 1
        if last is None or last.kind is not outage.kind or last.detail != outage.detail:
            self._failure = AgentFailure(outage.kind, outage.detail)
        self._failed_at_start = outage.at_start
        self._openings = outage.openings
        self._reported_by = outage.reported_by
        assert self._failure is not None
        if outage.delay > 0.0:
            is_news = last is None or last.kind is not outage.kind
            self._report(
                LogLevel.warn if is_news else LogLevel.debug,
                "circuit open: {kind}: {detail}; next attempt in {delay:.3g} s; reported by "
                "{reporter}",
                old,
                "open",
                self._failure,
                detail=outage.detail,
                delay=outage.delay,
                reporter=_server(outage.reported_by),
            )
            self._wait(outage.delay)
            self._on_learned()
        elif last is None or self._delay_timer is not None:
            self._cancel_timer()
            self._delay_elapsed()

    def may_probe(self) -> None:
        """
        Begin the probes; part of `OutageFollower`.
        """
        self._claim = _Claim.GRANTED
        for on_granted in list(self._probes.values()):
            on_granted()
        # They may have ended meanwhile.
        self._release_unused()

    def current_outage(self) -> Outage | None:
        """
        Return the outage as this server knows it; part of `OutageFollower`.
        """
        failure = self._failure
        if failure is None:
            return None
        delay = 0.0
        if self._delay_timer is not None:
            delay = max(0.0, self._delay_timer.getTime() - self._clock.seconds())
        return Outage(
            failure.kind,
            failure.detail,
            self._failed_at_start,
            self._openings,
            delay,
            failure.retry_after is not None,
            self._reported_by,
        )

    # How the circuit changes.

    def _wait(self, delay: float) -> None:
        """
        Keep the circuit open for `delay` seconds.
        """
        self._cancel_timer()
        self._delay_timer = self._clock.callLater(delay, self._delay_elapsed)
        # They would tell about the failure before this one.
        self._forget_probes()

    def _delay_elapsed(self) -> None:
        self._delay_timer = None
        assert self._failure is not None, "the timer runs only while the circuit is open"
        if self._is_watched(self._failure):
            self._checking = True
            self.begin_probe(self._check_login)
        else:
            self._report(
                LogLevel.info,
                "circuit half-open: {kind}; the next request is a probe",
                "open",
                "half-open",
                self._failure,
            )
            self._on_half_open()

    def _check_login(self) -> None:
        assert self._login.check is not None, "it watches the failure"
        self._pending_check = self._login.check()
        self._pending_check.addErrback(lambda _: False).addCallback(self._login_checked)

    def _is_watched(self, failure: AgentFailure) -> bool:
        """
        Return whether a login check finds out when `failure` is over.
        """
        return self._login.check is not None and failure.kind in _LOGIN_FAILURES

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
        if self._is_watched(failure):
            return self._login.interval
        if failure.retry_after is not None:
            return min(_MAX_NAMED_DELAY, max(1.0, failure.retry_after))
        return min(longest, first * 2.0 ** min(openings, _MAX_DOUBLINGS))

    def _login_checked(self, logged_in: bool) -> None:
        if not self._checking or self._failure is None or self._stopped:
            return
        self._pending_check, self._checking = None, False
        if logged_in:
            self._close_everywhere()
        else:
            self.open(self._failure, self._failed_at_start)

    def _close_everywhere(self) -> None:
        if self._failure is not None:
            self._close()
            self._shared.publish()

    def _close(self, ended_by: str = "") -> None:
        """
        Close the circuit, because `ended_by` says so; empty for this server.
        """
        old = self._state()
        self._cancel_timer()
        self._forget_probes()
        failure, self._failure = self._failure, None
        self._reported_by = ""
        if failure is not None:
            self._report(
                LogLevel.warn,
                "circuit closed: {kind} is over, after {seconds:.0f} s"
                + ("; reported by {reporter}" if ended_by else ""),
                old,
                "closed",
                failure,
                seconds=self._clock.seconds() - self._opened_at,
                **({"reporter": _server(ended_by)} if ended_by else {}),
            )
            self._on_close(failure.kind)

    def _state(self) -> str:
        """
        Return the state of the circuit, for the log.

        A failure that a login check watches is not probed, so the circuit is not half-open.
        """
        if self._failure is None:
            return "closed"
        is_watched = self._is_watched(self._failure)
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


def _server(name: str) -> str:
    """
    Return the words for the server `name`, for the log.
    """
    return f"the server {name}" if name else "this server"
