"""
Measure how long each callback of the reactor keeps its thread busy.

While one callback runs, no other client is served.  A callback that uses more CPU time
than `CPU_LIMIT` is therefore logged as a warning, and so is one that took longer than
`WALL_LIMIT`, because it waited for a disk, a lock, another process or a processor.  The
two are told apart, because only the first is the same on a busy machine as on an idle one.

Twisted has no interface for this.  The monitor replaces four methods of the reactor *object*,
which Twisted calls by name for each event: those that run delayed calls, calls from other
threads, and events of file descriptors (one method for the reactors that use epoll, poll
and select, another one for asyncio's).  What a reactor does not have is not measured, and
that is logged.  What runs before the reactor does, and Twisted's own work between two
callbacks, are not measured either.
"""

from __future__ import annotations

import gc
import operator
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.logger import Logger

#: Seconds of CPU time that one callback may use.
CPU_LIMIT = 0.05

#: Seconds that one callback may take, whatever it does.
WALL_LIMIT = 0.5

#: How many garbage collections are remembered; hardly more fit into one callback.
_COLLECTIONS_KEPT = 100

#: The methods that handle one event of a file descriptor, by the reactors that have them.
_DESCRIPTOR_METHODS = ("_doReadOrWrite", "_readOrWrite")

#: Attributes that lead, one after the other, from a file descriptor to the protocol that
#: handles its data: of a process, or of a connection, perhaps within TLS.
_LEADS = ("proc", "proto", "protocol", "wrappedProtocol", "wrappedProtocol", "_channel")

_Method = Callable[..., Any]


@frozen
class Callback:
    """
    Describe one callback that the reactor has run.

    Attributes:
        name: The function that was called, or the class that handled the descriptor's data.
        cpu: The CPU time that it used, in seconds.
        wall: How long it took, in seconds.
        collection: How much of the CPU time was garbage collection, in seconds.
    """

    name: str
    cpu: float
    wall: float
    collection: float


class LoopMonitor(Service):
    """
    Log the callbacks that exceed a limit.

    Args:
        reactor: The reactor, whose methods are replaced while the service runs.
        cpu_time: Returns the CPU time of the calling thread, in seconds.
        wall_time: Returns a time that is never set back, in seconds.
        cpu_limit: The CPU time above which a callback is logged; by default `CPU_LIMIT`.
        wall_limit: The time above which a callback is logged; by default `WALL_LIMIT`.

    Attributes:
        slow: How many callbacks used too much CPU time.
        stalled: How many others took too long.
        worst: The callback that used the most CPU time of those in `slow`, or None.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        cpu_time: Callable[[], float] = time.thread_time,
        wall_time: Callable[[], float] = time.monotonic,
        cpu_limit: float | None = None,
        wall_limit: float | None = None,
    ) -> None:
        self._reactor = reactor
        self._cpu_time = cpu_time
        self._wall_time = wall_time
        self._cpu_limit = CPU_LIMIT if cpu_limit is None else cpu_limit
        self._wall_limit = WALL_LIMIT if wall_limit is None else wall_limit
        self._replaced: list[str] = []
        self._thread = 0
        self._collection_began = 0.0
        self._collections: deque[tuple[float, float]] = deque(maxlen=_COLLECTIONS_KEPT)
        self.slow = self.stalled = 0
        self.worst: Callback | None = None

    def startService(self) -> None:
        """
        Begin to measure.
        """
        super().startService()
        self._thread = threading.get_ident()
        gc.callbacks.append(self._on_collection)
        run = self._measured(operator.call)

        def call_later(original: _Method) -> _Method:
            def measured_later(
                delay: float, function: _Method, /, *args: Any, **kwargs: Any
            ) -> Any:
                # The reactor of asyncio makes calls from threads by this method.
                if function is run:
                    return original(delay, run, *args, **kwargs)
                return original(delay, run, function, *args, **kwargs)

            return measured_later

        def call_from_thread(original: _Method) -> _Method:
            return lambda function, /, *args, **kwargs: original(run, function, *args, **kwargs)

        self._replace("callLater", call_later)
        self._replace("callFromThread", call_from_thread)
        if not any(self._replace(name, self._measured) for name in _DESCRIPTOR_METHODS):
            self._log.info(
                "event loop: {reactor} does not tell when it handles a file descriptor, so "
                "only its delayed calls and calls from threads are measured",
                reactor=type(self._reactor).__name__,
            )

    def stopService(self) -> None:
        """
        Stop measuring, and give the reactor its own methods back.
        """
        super().stopService()
        gc.callbacks.remove(self._on_collection)
        while self._replaced:
            delattr(self._reactor, self._replaced.pop())

    def _replace(self, name: str, wrap: Callable[[_Method], _Method]) -> bool:
        """
        Replace a method of the reactor by what `wrap` makes of it.

        Returns:
            True if the reactor has the method.
        """
        original = getattr(self._reactor, name, None)
        if original is None:
            return False
        setattr(self._reactor, name, wrap(original))
        self._replaced.append(name)
        return True

    def _measured(self, function: _Method) -> _Method:
        """
        Return a function that calls `function` and measures it.

        The first argument names the callback: what `function` calls, or the descriptor that
        it handles.
        """
        # Local variables: this runs several times in each turn of an agent.
        cpu_time, wall_time, report = self._cpu_time, self._wall_time, self._report
        cpu_limit, wall_limit = self._cpu_limit, self._wall_limit

        def measured(what: object, /, *args: object, **kwargs: object) -> object:
            began, cpu = wall_time(), cpu_time()
            try:
                return function(what, *args, **kwargs)
            finally:
                cpu = cpu_time() - cpu
                wall = wall_time() - began
                if cpu > cpu_limit or wall > wall_limit:
                    # A copy: there may be a collection while they are counted.
                    collections = self._collections.copy()
                    took = sum(took for end, took in collections if end >= began)
                    report(Callback(_name(what), cpu, wall, took))

        return measured

    def _report(self, callback: Callback) -> None:
        details: dict[str, Any] = {
            "name": callback.name,
            "cpu": round(callback.cpu * 1000),
            "wall": round(callback.wall * 1000),
            "collection": round(callback.collection * 1000),
        }
        if callback.cpu <= self._cpu_limit:
            self.stalled += 1
            self._log.warn(
                "event loop: waited in {name} for {wall} ms, of which {cpu} ms of CPU", **details
            )
            return
        self.slow += 1
        if self.worst is None or callback.cpu > self.worst.cpu:
            self.worst = callback
        self._log.warn(
            "event loop: {cpu} ms of CPU in {name} ({wall} ms, {collection} ms of garbage "
            "collection)",
            **details,
        )

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        """
        Note the CPU time of a garbage collection, which hits whichever callback runs.
        """
        if threading.get_ident() != self._thread:
            return
        if phase == "start":
            self._collection_began = self._cpu_time()
        else:
            took = self._cpu_time() - self._collection_began
            self._collections.append((self._wall_time(), took))


def _name(what: Any) -> str:
    """
    Return a name for a function, or for what handles a file descriptor.
    """
    while isinstance(what, partial):
        what = what.func
    # Twisted's LoopingCall is called itself, and calls this.
    what = getattr(what, "f", what)
    if not hasattr(what, "__qualname__"):
        for lead in _LEADS:
            what = getattr(what, lead, None) or what
        what = type(what)
    return f"{what.__module__}.{what.__qualname__}"
