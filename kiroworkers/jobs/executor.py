"""
Run blocking functions outside the reactor's thread, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Executor(Protocol):
    """
    Run functions one at a time, in the order in which they are given.
    """

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        """
        Run `function`, and return a Deferred that fires with its result.
        """

    def stop(self) -> None:
        """
        Run no more functions.  None may be running.
        """


class _DaemonThread(Thread):
    """
    Represent a thread that does not keep alive a server that cannot start.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, daemon=True)


class _ThreadPool(ThreadPool):
    threadFactory = _DaemonThread  # type: ignore[assignment]


class ThreadExecutor:
    """
    Run functions in a thread of their own.

    Args:
        reactor: Fires the Deferreds in its own thread.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # One thread at most: it keeps the order.
        self._pool = _ThreadPool(minthreads=0, maxthreads=1, name="storage")

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        """
        Run `function` in the thread, which is started if necessary.
        """
        if not self._pool.started:
            self._pool.start()
        called: Deferred[T] = deferToThreadPool(self._reactor, self._pool, function)
        return called

    def stop(self) -> None:
        """
        End the thread.
        """
        if self._pool.started:
            self._pool.stop()
