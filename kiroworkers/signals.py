"""
Handle the signals of a server.

The first SIGTERM or SIGINT stops the server gracefully, the second one at once.  SIGHUP
reloads it, or stops it if the terminal that it runs in was closed.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class Signals:
    """
    Handle SIGTERM, SIGINT and SIGHUP in place of the reactor.

    Args:
        reactor: Runs the callbacks in its own thread.
        stop: Called at the first signal to stop.
        stop_now: Called at each further signal to stop.
        reload: Called at SIGHUP.
    """

    def __init__(
        self,
        reactor: Any,
        stop: Callable[[], None],
        stop_now: Callable[[], None],
        reload: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._stop = stop
        self._stop_now = stop_now
        self._reload = reload
        self._stopping = False

    def install(self) -> None:
        """
        Install the handlers.

        Call it when the reactor runs, because the reactor installs its own at its start.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._schedule)

    def _schedule(self, number: int, frame: FrameType | None) -> None:
        # Python may run a signal handler between any two instructions, so do nothing here
        # but hand the signal to the reactor.
        self._reactor.callFromThread(self._handle, number)

    def _handle(self, number: int) -> None:
        if number == signal.SIGHUP and not _terminal_closed():
            self._reload()
        elif self._stopping:
            self._stop_now()
        else:
            self._stopping = True
            self._stop()


def _terminal_closed() -> bool:
    """
    Return whether the server ran in the foreground of a terminal that was closed.

    The descriptors of a closed terminal fail with an input/output error.
    """
    for descriptor in (0, 1, 2):
        try:
            os.tcgetpgrp(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                return True
    return False
