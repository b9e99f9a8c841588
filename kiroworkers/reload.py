"""
Reload files while the server runs, without keeping its clients waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")

#: The least number of seconds from the beginning of one reload to that of the next.
_INTERVAL = 1.0


class Reloader(Generic[T]):
    """
    Read in a thread, apply in the event loop, and merge requests that come meanwhile.

    However many requests come during a reload, one more reload follows it.  It reads the
    files as they are then, so it serves all of these requests.

    Args:
        clock: Delays a reload that would follow another one too soon.
        in_thread: Runs a function outside the event loop; fires with what it returns.
        read: Reads the files, in a thread; it must not change what the event loop uses.
        apply: Puts what was read into use, in the event loop.
        report: Called with True when a reload begins, and with False when it has ended.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        in_thread: Callable[[Callable[[], T]], Deferred[T]],
        read: Callable[[], T],
        apply: Callable[[T], None],
        report: Callable[[bool], None] = lambda reloading: None,
    ) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._read = read
        self._apply = apply
        self._report = report
        self._busy = False
        self._requested = False
        self._began = 0.0

    def request(self) -> None:
        """
        Reload now, or once more after the reload that is in progress.
        """
        if self._busy:
            self._requested = True
            return
        self._busy = True
        self._reload()

    def _reload(self) -> None:
        self._requested = False
        self._began = self._clock.seconds()
        self._report(True)
        reading = self._in_thread(self._read)
        reading.addCallback(self._apply).addErrback(self._log_failure).addBoth(self._on_done)

    def _log_failure(self, failure: Failure) -> None:
        self._log.failure("nothing was reloaded: internal error", failure)

    def _on_done(self, result: Any) -> None:
        self._report(False)
        # Busy until the interval is over: a request in it must wait for its end.
        self._clock.callLater(
            max(0.0, self._began + _INTERVAL - self._clock.seconds()), self._on_interval_over
        )

    def _on_interval_over(self) -> None:
        if self._requested:
            self._reload()
        else:
            self._busy = False
