"""
Keep accepting requests for a while after the server was told to stop.

A load balancer needs this time to learn from ``GET /ready`` that it must send requests elsewhere.
"""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


@define(eq=False)
class LameDuck:
    """
    Delay a stop, unless that is cut short.

    Args:
        clock: Schedules the end of the delay.
        seconds: The delay.
    """

    _clock: IReactorTime
    _seconds: float
    _over: Deferred[None] | None = None
    _timer: IDelayedCall | None = None
    _skipped: bool = False

    @property
    def seconds(self) -> float:
        """
        Return the delay; 0 if it was cut short before it began.
        """
        return 0.0 if self._skipped else self._seconds

    def wait(self) -> Deferred[None]:
        """
        Return a Deferred that fires after the delay.
        """
        over = self._over = Deferred()
        self._timer = self._clock.callLater(self.seconds, self._end)
        return over

    def skip(self) -> None:
        """
        End the delay now, or leave it out if it has not begun.
        """
        self._skipped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
            self._end()

    def _end(self) -> None:
        assert self._over is not None, "`wait` has set it before the timer"
        self._over.callback(None)
