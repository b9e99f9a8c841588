"""
Report the end of each job to its webhook, with retries.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.webhook_queue import Call, Outcome, WebhookQueue, host_and_path
from kiroworkers.jobs.webhook_sender import HostUnreachable

#: The number of attempts, and the seconds between the first two.  The delay doubles with
#: each attempt, which makes a quarter of an hour in all.
_MAX_TRIES, _FIRST_DELAY = 10, 2.0

#: The maximum number of calls in progress at a time.
_MAX_CONCURRENT = 8

#: The number of stored calls that are scheduled at a time, so that other events are handled
#: in between.
_BATCH_SIZE = 200

#: The status with which a receiver says that it wants no more calls for a job.
_GONE = 410

#: Posts a body with headers to a URL, given the number of earlier attempts; fires with the
#: status of the response, or with `HostUnreachable` or another failure.
Post = Callable[[str, Mapping[str, str], bytes, int], Deferred[int]]


class Webhooks(Service):
    """
    Report the end of each job in the store to its webhook, at least once.

    A call that gets no 2xx response is repeated with a growing delay, up to ten times.
    `WebhookQueue` decides which of the calls that are due is made next.

    Attributes:
        calls: The number of calls that were made so far, by their result: ``delivered``,
            ``failed`` (it is repeated) or ``abandoned``.

    Args:
        clock: Schedules calls.
        wall_clock: Returns the time in seconds since the epoch.
        store: Holds the jobs.  It must be open when the service starts.
        post: Sends a call.
        job_json: Returns a job as its client reads it.
        secret: The key with which calls are signed.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        store: JobStore,
        post: Post,
        job_json: Callable[[Job], Mapping[str, Any]],
        secret: bytes,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._store = store
        self._post = post
        self._job_json = job_json
        self._secret = secret
        self._queue = WebhookQueue(_MAX_CONCURRENT)
        self.calls = dict.fromkeys(("delivered", "failed", "abandoned"), 0)
        # The jobs whose webhook has been scheduled and not been called yet.
        self._scheduled: set[str] = set()
        self._timers: dict[str, IDelayedCall] = {}
        self._retry_timer: IDelayedCall | None = None
        self._tasks: set[Deferred[None]] = set()

    @property
    def pending(self) -> int:
        """
        Return how many webhooks are still to be called.
        """
        return len(self._scheduled)

    def startService(self) -> None:
        """
        Schedule the calls that an earlier server left.
        """
        super().startService()
        self.resume()

    def resume(self) -> None:
        """
        Schedule the calls in the store that are not scheduled yet, such as another server's.
        """
        if self.running:
            self._run(self._schedule_stored(), "internal error while scheduling callbacks")

    def stopService(self) -> None:
        """
        Cancel all calls; the next server makes them again.
        """
        super().stopService()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._cancel_retry()
        for task in list(self._tasks):
            task.cancel()

    def schedule(self, job: Job) -> None:
        """
        Schedule the next call of the job's webhook, if one is due.
        """
        webhook = job.callback
        if webhook is None or webhook.due is None or job.id in self._scheduled:
            return
        # A longer delay means that the clock was set back after the webhook was stored.
        delay = min(max(0.0, webhook.due - self._wall_clock()), _delay_after(webhook.tries))
        host, path = host_and_path(webhook.url)
        self._schedule(Call(job.id, job.client, host, path, webhook.tries), delay)

    def _schedule(self, call: Call, delay: float) -> None:
        if self.running:
            self._scheduled.add(call.id)
            self._timers[call.id] = self._clock.callLater(delay, self._on_due, call)

    async def _schedule_stored(self) -> None:
        for number, job in enumerate(await self._store.pending_webhooks(), 1):
            self.schedule(job)
            if number % _BATCH_SIZE == 0:
                await deferLater(self._clock, 0)

    def _on_due(self, call: Call) -> None:
        del self._timers[call.id]
        self._queue.add(call)
        self._start_calls()

    def _start_calls(self) -> None:
        """
        Start as many calls as possible, and set the timer for those that are backed off.
        """
        self._cancel_retry()
        now = self._clock.seconds()
        while self.running and (call := self._queue.next(now)) is not None:
            self._run(self._call(call), f"job {call.id}: internal error while calling back")
        at = self._queue.retry_at()
        if self.running and at is not None and self._retry_timer is None:
            self._retry_timer = self._clock.callLater(max(0.0, at - now), self._on_retry)

    def _on_retry(self) -> None:
        self._retry_timer = None
        self._start_calls()

    def _cancel_retry(self) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None

    def _run(self, coroutine: Any, problem: str) -> None:
        """
        Run `coroutine` until the service stops, and log `problem` if it fails.
        """
        task: Deferred[None] = Deferred.fromCoroutine(coroutine)
        self._tasks.add(task)

        def on_done(result: object) -> None:
            self._tasks.discard(task)
            if isinstance(result, Failure) and self.running:
                self._log.failure("{problem}", result, problem=problem)

        task.addBoth(on_done)

    async def _call(self, call: Call) -> None:
        """
        Make `call`, and record the result for all calls that share it.
        """
        result: int | str | None = None
        outcome = Outcome.NOT_MADE
        try:
            job = await self._store.get(call.id)
            if job is not None and job.callback is not None:
                try:
                    result = await self._send(job, job.callback.url, call.tries)
                    outcome = Outcome.ANSWERED
                except Exception as error:
                    result = str(error) or type(error).__name__
                    reached = not isinstance(error, HostUnreachable)
                    outcome = Outcome.SILENT if reached else Outcome.UNREACHABLE
        except StorageUnavailable as error:
            again = Call(call.id, call.client, call.host, call.path, call.tries)
            self._schedule(again, error.retry_after)
            return
        finally:
            failed = self._queue.end(call, outcome, self._clock.seconds())
            self._start_calls()
        if result is None:
            self._scheduled.discard(call.id)
            return
        for ended in (call, *failed):
            await self._record(ended, result)

    def _send(self, job: Job, url: str, tries: int) -> Deferred[int]:
        body = json.dumps(self._job_json(job), separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Kiroworkers-Signature": signature(self._secret, body),
            **({"X-Request-ID": job.request_id} if job.request_id else {}),
            **({"traceparent": job.traceparent} if job.traceparent else {}),
        }
        return maybeDeferred(self._post, url, headers, body, tries)

    async def _record(self, call: Call, result: int | str) -> None:
        """
        Record the result of a call, and schedule another one if it failed.

        Args:
            call: The call.
            result: The status of the response, or why there is none.
        """
        if not self.running:
            return
        due = None
        give_up = failed = False
        if isinstance(result, int) and 200 <= result < 300:
            self.calls["delivered"] += 1
        else:
            failed = True
            give_up = result == _GONE or call.tries + 1 >= _MAX_TRIES
            self.calls["abandoned" if give_up else "failed"] += 1
            if not give_up:
                due = self._wall_clock() + _delay_after(call.tries + 1)
        job = None
        try:
            job = await self._store.record_webhook_attempt(call.id, due)
        finally:
            if failed:
                tries = call.tries + 1
                delay = None if due is None else _delay_after(tries)
                self._log.warn(
                    "job {id}: callback to {host} failed ({result}); attempt {tries} of {limit}, "
                    + ("giving up" if delay is None else "the next one in {delay:.0f} s"),
                    id=call.id,
                    host=call.host,
                    requestId="" if job is None else job.request_id,
                    result=result,
                    tries=tries,
                    limit=_MAX_TRIES,
                    delay=delay,
                )
        self._scheduled.discard(call.id)
        if job is not None:
            self.schedule(job)


def _delay_after(tries: int) -> float:
    """
    Return the seconds from attempt number `tries` to the next one; 0 before the first.
    """
    return _FIRST_DELAY * 2 ** (tries - 1) if tries else 0.0


def signature(secret: bytes, body: bytes) -> str:
    """
    Return the signature that proves that a call comes from this server.

    It is ``sha256=`` and the hexadecimal HMAC-SHA256 of `body` with `secret` as its key.
    """
    return "sha256=" + hmac.new(secret, body, sha256).hexdigest()
