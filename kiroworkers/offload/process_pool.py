"""
Keep a few helper processes that run calls, one at a time each.

A helper is started when a call finds none idle, and ended when it has been idle for a while.
One that exceeds a limit is killed, and so is one whose caller no longer waits.
"""

from __future__ import annotations

import json
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from attrs import define, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.errors import NoWorkerFree, ShuttingDown
from kiroworkers.offload.call import Call
from kiroworkers.offload.child import OUT_OF_MEMORY
from kiroworkers.offload.framing import HEADER, FrameReader
from kiroworkers.pool.fair_queue import MAX_PRIORITY, MIN_PRIORITY, FairQueue

T = TypeVar("T")

#: Start the program in `child` with the module path of this process.
_PROGRAM = """\
import sys
cpu_seconds, memory, *sys.path[:] = sys.argv[1:]
from kiroworkers.offload.child import main
main(float(cpu_seconds), int(memory))
"""

#: How often a call is tried whose helper ended for an unknown reason.
_MAX_ATTEMPTS = 2

#: Seconds by which a call counts as having arrived earlier for each step of its priority:
#: longer than any call waits.
_HEAD_START = 3600.0

#: Seconds after which a client may ask again if too many calls wait.
_RETRY_AFTER = 1

#: How much of what a helper writes to standard error is logged, in bytes.
_MAX_LOGGED = 2000


@frozen
class Limits:
    """
    Limit what calls may cost.

    Attributes:
        processes: The number of helpers that run at the same time.
        cpu: The CPU time of one call, in seconds.
        wall: The duration of one call, in seconds; it is reached on a busy machine only.
        memory: The memory of one helper for data, in bytes.
        waiting: The number of waiting calls of one client above which its next call that may
            be refused is.
        idle: Seconds without a call after which a helper is ended.
    """

    processes: int = 2
    cpu: float = 2.0
    wall: float = 20.0
    memory: int = 256 * 1024**2
    waiting: int = 32
    idle: float = 60.0


@define(eq=False)
class _Job:
    """
    Hold a call that waits or runs.
    """

    call: Call[Any]
    client: str
    finished: Deferred[Any]
    priority: int
    attempts: int = 0


class ProcessPool(Service):
    """
    Run calls in helper processes.

    Args:
        reactor: Starts processes and schedules calls.
        limits: What calls may cost.
    """

    _log = Logger()

    def __init__(self, reactor: Any, limits: Limits | None = None) -> None:
        self._reactor = reactor
        self._limits = limits or Limits()
        self._waiting: FairQueue[_Job] = FairQueue(_HEAD_START)
        self._helpers: list[_Helper] = []
        self._stopped = False

    def run(self, call: Call[T], client: str, refusable: bool = False) -> Deferred[T]:
        """
        Run `call`, and return its result; this is a `Runner`.

        Of one client's calls, those that may not be refused are run first: they are about
        answers, and a worker waits for each.

        Returns:
            A Deferred that fires with the result or fails with the call's exception.
            Cancelling it stops the call.

        Raises:
            NoWorkerFree: Too many calls of the client wait, and this one may be refused.
            ShuttingDown: The service has been stopped.
        """
        if self._stopped:
            raise ShuttingDown()
        number, limit = self._waiting.waiting_of(client), self._limits.waiting
        if refusable and number >= limit:
            raise NoWorkerFree(_RETRY_AFTER, number, limit)
        priority = MIN_PRIORITY if refusable else MAX_PRIORITY
        job = _Job(call, client, Deferred(lambda _: self._cancel(job)), priority)
        self._waiting.add(job, client, priority, self._reactor.seconds())
        # In another callback: a long text was just read in this one.
        self._reactor.callLater(0, self._dispatch)
        return job.finished

    def stopService(self) -> Deferred[Any]:
        """
        Fail all calls, and kill every helper.

        Returns:
            A Deferred that fires when no helper is left.
        """
        super().stopService()
        self._stopped = True
        helpers = list(self._helpers)
        jobs = [helper.job for helper in helpers if helper.job is not None]
        while self._waiting:
            jobs.append(self._waiting.pop())
        for helper in helpers:
            helper.job = None
            helper.kill()
        ended = gatherResults([helper.ended for helper in helpers])
        for job in jobs:
            job.finished.errback(ShuttingDown())
        return ended

    def _dispatch(self) -> None:
        """
        Run waiting calls as long as a helper is idle or may be started.
        """
        while self._waiting:
            helper = next((helper for helper in self._helpers if helper.is_idle), None)
            if helper is None:
                if len(self._helpers) >= self._limits.processes:
                    return
                helper = self._start_helper()
            if helper is not None:
                job = self._waiting.pop()
                job.attempts += 1
                self._send(helper, job)
            elif self._helpers:
                return  # Those that run go on.
            else:
                job = self._waiting.pop()
                self._waiting.end_turn(job.client)
                job.finished.errback(job.call.failure("is not possible at present"))

    def _send(self, helper: _Helper, job: _Job) -> None:
        try:
            frame = pickle.dumps(job.call, pickle.HIGHEST_PROTOCOL)
        except RecursionError:
            self._waiting.end_turn(job.client)
            job.finished.errback(job.call.failure("needs too many levels of nesting"))
        else:
            helper.send(job, frame)

    def _start_helper(self) -> _Helper | None:
        """
        Return a new helper, or None if no process can be started.
        """
        helper = _Helper(self._reactor, self._limits, self._finished, self._lost)
        try:
            helper.start()
        except OSError as error:
            self._log.error("cannot start a helper process: {error}", error=error)
            return None
        self._helpers.append(helper)
        return helper

    def _cancel(self, job: _Job) -> None:
        """
        Forget `job`, and kill the helper that runs it.
        """
        self._waiting.remove(job)
        for helper in self._helpers:
            if helper.job is job:
                helper.job = None
                self._waiting.end_turn(job.client)
                helper.kill()

    def _finished(self, job: _Job, outcome: bytes) -> None:
        """
        Give the outcome of `job` to its caller, and run the next one.
        """
        self._waiting.end_turn(job.client)
        try:
            result = job.call.result(json.loads(outcome.decode("utf-8", "surrogatepass")))
        except Exception:
            result = Failure()
        # In another callback: reading a long outcome takes time, and so does what follows.
        self._reactor.callLater(0, self._deliver, job, result)
        self._dispatch()

    def _deliver(self, job: _Job, result: Any) -> None:
        # It may have been cancelled in the meantime.
        if not job.finished.called:
            job.finished.callback(result)

    def _lost(self, helper: _Helper, job: _Job | None, reason: str | None) -> None:
        """
        Remove `helper`, whose process has ended.

        Args:
            helper: The helper.
            job: The job that it ran.
            reason: Which limit `job` has exceeded, as in `Call.failure`; None if it is not known
                why the process ended.
        """
        self._helpers.remove(helper)
        if job is not None:
            self._waiting.end_turn(job.client)
            if reason is None and job.attempts < _MAX_ATTEMPTS:
                self._waiting.put_back(job, job.client, job.priority)
            else:
                job.finished.errback(
                    job.call.failure(reason or "ended its process unexpectedly, twice")
                )
        self._dispatch()


class _Helper(ProcessProtocol):
    """
    Control one helper process.

    Attributes:
        job: The job that the process runs; None if it runs none, or if nobody waits.
        ended: Fires when the process has ended.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        limits: Limits,
        on_finished: Callable[[_Job, bytes], None],
        on_lost: Callable[[_Helper, _Job | None, str | None], None],
    ) -> None:
        self.job: _Job | None = None
        self.ended: Deferred[None] = Deferred()
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._limits = limits
        self._on_finished = on_finished
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._errors = b""
        self._closing = False
        self._reason: str | None = None
        self._timer: IDelayedCall | None = None

    @property
    def is_idle(self) -> bool:
        """
        Return whether the process can be given a job.
        """
        return self.job is None and not self._closing

    def start(self) -> None:
        """
        Start the process.
        """
        limits = str(self._limits.cpu), str(self._limits.memory)
        path = [entry for entry in sys.path if entry]
        self._reactor.spawnProcess(
            self,
            sys.executable,
            [sys.executable, "-I", "-c", _PROGRAM, *limits, *path],
            env={},
            path="/",
            childFDs={0: "w", 1: "r", 2: "r"},
        )

    def send(self, job: _Job, frame: bytes) -> None:
        """
        Run `job`, whose call is pickled in `frame`.
        """
        self.job = job
        assert self.transport is not None, "it was started"
        self.transport.write(HEADER.pack(len(frame)))
        self.transport.write(frame)
        self._set_timer(self._limits.wall, self._expire)

    def kill(self) -> None:
        """
        Kill the process.
        """
        self._closing = True
        self._set_timer(None)
        assert self.transport is not None, "it was started"
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        """
        Pass on the outcome that `data` completes.
        """
        outcome = self._reader.feed(data)
        job = self.job
        if outcome is None or job is None:
            return
        if outcome == OUT_OF_MEMORY:
            self._reason = f"needs more than {self._limits.memory >> 20} MiB of memory"
            return  # It ends now.
        self.job = None
        self._set_timer(self._limits.idle, self._close)
        self._on_finished(job, outcome)

    def errReceived(self, data: bytes) -> None:
        """
        Keep the end of what the process writes to standard error.
        """
        self._errors = (self._errors + data)[-_MAX_LOGGED:]

    def processEnded(self, reason: Failure) -> None:
        """
        Report that the process has ended.
        """
        self._set_timer(None)
        job, self.job = self.job, None
        if getattr(reason.value, "signal", None) == signal.SIGPROF:
            self._reason = f"takes more than {self._limits.cpu:g} seconds"
        if not (self._closing or self._reason):
            self._log.warn(
                "a helper process ended unexpectedly: {reason} {errors}",
                reason=reason.getErrorMessage(),
                errors=self._errors.decode("utf-8", "replace"),
            )
        self._closing = True
        self._on_lost(self, job, self._reason)
        self.ended.callback(None)

    def _expire(self) -> None:
        self._reason = f"takes more than {self._limits.wall:g} seconds"
        self.kill()

    def _close(self) -> None:
        """
        End the process, which has no job.
        """
        self._closing = True
        # It may have been stopped by a signal, and would never end.
        self._set_timer(self._limits.wall, self.kill)
        assert self.transport is not None, "it was started"
        self.transport.closeStdin()

    def _set_timer(self, seconds: float | None, call: Callable[[], None] | None = None) -> None:
        """
        Call `call` after some seconds, and nothing else that was to be called.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if seconds is not None and call is not None:
            self._timer = self._clock.callLater(seconds, call)
