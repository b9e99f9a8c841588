"""
The signals of a server: SIGTERM and SIGINT stop it, gracefully, and at once the
second time; SIGHUP renews, or stops one whose terminal was closed.
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
    Takes the signals over from the reactor.

    Args:
        stop: called at the first signal to stop.
        hurry: called at each further one.
        renew: called at SIGHUP.
    """

    def __init__(
        self,
        reactor: Any,
        stop: Callable[[], None],
        hurry: Callable[[], None],
        renew: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._stop = stop
        self._hurry = hurry
        self._renew = renew
        self._stopping = False

    def install(self) -> None:
        """
        From now on; to be called when the reactor runs, which installs its own at
        its start.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        # A handler runs anywhere between two instructions: only take note here.
        self._reactor.callFromThread(self._handle, number)

    def _handle(self, number: int) -> None:
        if number == signal.SIGHUP and not _terminal_is_gone():
            self._renew()
        elif self._stopping:
            self._hurry()
        else:
            self._stopping = True
            self._stop()


def _terminal_is_gone() -> bool:
    """
    Was this a server in the foreground of a terminal that was closed?  What was
    that terminal then answers with an input/output error.
    """
    for descriptor in (0, 1, 2):
        try:
            os.tcgetpgrp(descriptor)
        except OSError as problem:
            if problem.errno == errno.EIO:
                return True
    return False
