"""
Measure the memory and the CPU of workers while somebody watches, in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger


class TreeUsage(Protocol):
    """
    Describe what the processes of a worker use.
    """

    @property
    def memory(self) -> int:
        """
        Return their memory, in bytes.
        """

    @property
    def cpu(self) -> float:
        """
        Return the CPU time that they have used so far, in seconds.
        """


#: Starts to measure the processes below each of some; fires with the result by process id.
Measure: TypeAlias = Callable[[Collection[int]], Deferred[Mapping[int, TreeUsage]]]


@frozen
class Usage:
    """
    Hold what a worker uses.

    Attributes:
        memory: Bytes of memory.
        cpu: Percent of one processor since the measurement before; None if there is none.
    """

    memory: int
    cpu: float | None


class UsageMeter:
    """
    Hold the last measurement.

    Args:
        clock: Tells when it was made.
        measure: Makes it.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, measure: Measure) -> None:
        self._clock = clock
        self._measure = measure
        self._measuring = False
        self._at = 0.0
        self._last: Mapping[int, TreeUsage] = {}
        self._usage: dict[int, Usage] = {}

    def of(self, pid: int | None) -> Usage | None:
        """
        Return what the processes below `pid` use, or None if that was not measured.
        """
        return None if pid is None else self._usage.get(pid)

    def refresh(self, pids: Collection[int], on_change: Callable[[], None]) -> None:
        """
        Measure what the processes below each of `pids` use, and call `on_change`.

        A measurement that still runs goes on instead.
        """
        if self._measuring:
            return
        self._measuring = True

        def measured(result: Mapping[int, TreeUsage]) -> None:
            now = self._clock.seconds()
            passed, last = now - self._at, self._last
            self._at, self._last = now, result
            self._usage = {
                pid: Usage(usage.memory, _percent(last.get(pid), usage, passed))
                for pid, usage in result.items()
            }
            on_change()

        def done(_: object) -> None:
            self._measuring = False

        measuring = self._measure(pids).addCallback(measured)
        measuring.addErrback(lambda failure: self._log.failure("cannot measure workers", failure))
        measuring.addCallback(done)


def _percent(before: TreeUsage | None, after: TreeUsage, seconds: float) -> float | None:
    """
    Return the share of a processor that was used for `seconds`, in percent.

    Processes that have ended take the time that they used with them.
    """
    if before is None or seconds <= 0:
        return None
    return round(max(0.0, after.cpu - before.cpu) / seconds * 100, 1)
