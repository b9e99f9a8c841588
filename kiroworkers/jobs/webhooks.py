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
from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.jobs.job import Job
from kiroworkers.jobs.store import JobStore

#: The number of attempts, and the seconds between the first two.  The delay doubles with
#: each attempt, which makes a quarter of an hour in all.
_MAX_TRIES, _FIRST_DELAY = 10, 2.0

#: The maximum number of calls in progress at a time.
_MAX_CONCURRENT = 8

#: The status with which a receiver says that it wants no more calls for a job.
_GONE = 410

#: Posts a body with headers to a URL, given the number of earlier attempts; fires with the
#: status of the response.
Post = Callable[[str, Mapping[str, str], bytes, int], Deferred[int]]


class Webhooks(Service):
    """
    Report the end of each job in the store to its webhook, at least once.

    A call that gets no 2xx response is repeated with a growing delay, up to ten times.

    Args:
        clock: Tells the time and schedules calls.
        store: Holds the jobs.  It must be open when the service starts.
        post: Sends a call.
        job_json: Returns a job as its client reads it.
        secret: The key with which calls are signed.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: JobStore,
        post: Post,
        job_json: Callable[[Job], Mapping[str, Any]],
        secret: bytes,
    ) -> None:
        self._clock = clock
        self._store = store
        self._post = post
        self._job_json = job_json
        self._secret = secret
        self._semaphore = DeferredSemaphore(_MAX_CONCURRENT)
        self._timers: dict[str, IDelayedCall] = {}
        self._calls: set[Deferred[None]] = set()

    def startService(self) -> None:
        """
        Schedule the calls that an earlier server left.
        """
        super().startService()
        for job in self._store.pending_webhooks():
            self.schedule(job)

    def stopService(self) -> None:
        """
        Cancel all calls; the next server makes them again.
        """
        super().stopService()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for call in list(self._calls):
            call.cancel()

    def schedule(self, job: Job) -> None:
        """
        Schedule the next call of the job's webhook, if one is due.
        """
        if self.running and job.callback is not None and job.callback.due is not None:
            delay = max(0.0, job.callback.due - self._clock.seconds())
            self._timers[job.id] = self._clock.callLater(delay, self._call, job.id)

    def _call(self, id: str) -> None:
        del self._timers[id]
        call: Deferred[None] = self._semaphore.run(self._deliver, id)
        self._calls.add(call)

        def on_done(result: object) -> None:
            self._calls.discard(call)
            if isinstance(result, Failure) and self.running:
                self._log.failure("job {id}: internal error while calling back", result, id=id)

        call.addBoth(on_done)

    def _deliver(self, id: str) -> Deferred[None]:
        job = self._store.get(id)
        if job is None or job.callback is None:
            return maybeDeferred(lambda: None)
        body = json.dumps(self._job_json(job), separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Kiroworkers-Signature": signature(self._secret, body),
        }
        tries = job.callback.tries
        posted = maybeDeferred(self._post, job.callback.url, headers, body, tries)
        return posted.addCallbacks(
            lambda status: self._handle_result(id, tries, status),
            lambda failure: self._handle_result(
                id, tries, failure.getErrorMessage() or str(failure.type)
            ),
        )

    def _handle_result(self, id: str, tries: int, result: int | str) -> None:
        """
        Record the result of a call, and schedule another one if it failed.

        Args:
            id: The job's id.
            tries: The number of earlier attempts.
            result: The status of the response, or why there is none.
        """
        if not self.running:
            return
        due = None
        if not (isinstance(result, int) and 200 <= result < 300):
            give_up = result == _GONE or tries + 1 >= _MAX_TRIES
            if not give_up:
                due = self._clock.seconds() + _FIRST_DELAY * 2**tries
            self._log.warn(
                "job {id}: callback failed ({result}){consequence}",
                id=id,
                result=result,
                consequence=", giving up" if give_up else "",
            )
        self._store.record_webhook_attempt(id, due)
        job = self._store.get(id)
        if job is not None:
            self.schedule(job)


def signature(secret: bytes, body: bytes) -> str:
    """
    Return the signature that proves that a call comes from this server.

    It is ``sha256=`` and the hexadecimal HMAC-SHA256 of `body` with `secret` as its key.
    """
    return "sha256=" + hmac.new(secret, body, sha256).hexdigest()
