"""
Measure durations with a clock that nobody can set.

Twisted's reactor reads the wall clock, which an operator, NTP or a suspended virtual
machine sets forwards and backwards.  A turn would then time out at once, or never.  The
server uses two clocks, and each module says which it needs:

* `IReactorTime.seconds` is monotonic, once `make_monotonic` was called.  It measures
  durations in this process, and means nothing to another one.
* A parameter called `wall_clock` returns the seconds since the epoch.  It is for times that
  people read and for those that a later server reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import frozen

#: Returns the seconds since the epoch.
WallClock: TypeAlias = Callable[[], float]


@frozen
class Now:
    """
    Hold one moment as each of the two clocks shows it.

    Attributes:
        monotonic: The time of the reactor, in seconds.
        wall: The seconds since the epoch.
    """

    monotonic: float
    wall: float

    def since_epoch(self, monotonic: float) -> float:
        """
        Return when it was `monotonic` on the reactor's clock, in seconds since the epoch.
        """
        return self.wall - self.monotonic + monotonic


def make_monotonic(reactor: Any) -> None:
    """
    Make `reactor` use a monotonic clock.

    Every reactor of Twisted reads its own `seconds` to schedule delayed calls, to find those
    that are due and to limit how long it waits for events; so do `LoopingCall`, the
    time-outs of HTTP, and `DelayedCall.reset`.  Calls that are scheduled already keep their
    distance from now.

    Args:
        reactor: A reactor that does not run yet.
    """
    difference = time.monotonic() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += difference
        call.seconds = time.monotonic
    reactor.seconds = time.monotonic
