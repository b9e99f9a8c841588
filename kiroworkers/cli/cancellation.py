"""
Stop a command and clean up when somebody presses Ctrl-C or ends it.
"""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

_T = TypeVar("_T")

#: What a shell adds to the number of the signal that ended a program.
_KILLED = 128


async def run_until_signal(reactor: Any, work: Coroutine[Deferred[Any], Any, _T]) -> _T:
    """
    Run `work`, and cancel it at SIGINT and SIGTERM.

    Args:
        reactor: The reactor, which `react` has just started.
        work: What the command does; it cleans up when it is cancelled.

    Returns:
        The result of `work`.

    Raises:
        SystemExit: If `work` was cancelled, with the exit status that shells give for the signal.
    """
    pending = Deferred.fromCoroutine(work)
    received: list[int] = []

    def cancel(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:  # Another one would leave behind what the first one stops.
            reactor.callFromThread(pending.cancel)

    def install_handlers() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell makes jobs in the background ignore Ctrl-C.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, cancel)

    # Only once the reactor runs, because it installs its own handlers when it starts.
    reactor.callWhenRunning(install_handlers)
    try:
        return await pending
    except CancelledError:
        if not received:
            raise
        raise SystemExit(_KILLED + received[0]) from None
