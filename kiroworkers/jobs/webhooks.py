"""
Telling clients that their jobs have ended.
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

#: So often it is tried, and the seconds from the first time to the second, which
#: double: a quarter of an hour in all.
_TRIES, _FIRST_DELAY = 10, 2.0

#: So many are called at the same time.
_AT_ONCE = 8

#: What a client answers that wants to hear no more of it.
_GONE = 410

#: Posts a body with headers to a URL, the try of this number; fires with the status.
Post = Callable[[str, Mapping[str, str], bytes, int], Deferred[int]]


class Webhooks(Service):
    """
    Tells the ends of the jobs in `store`, at least once, until somebody has heard.

    Args:
        shown: a job as its client reads it.
        secret: what calls are signed with.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: JobStore,
        post: Post,
        shown: Callable[[Job], Mapping[str, Any]],
        secret: bytes,
    ) -> None:
        self._clock = clock
        self._store = store
        self._post = post
        self._shown = shown
        self._secret = secret
        self._lines = DeferredSemaphore(_AT_ONCE)
        self._timers: dict[str, IDelayedCall] = {}
        self._calls: set[Deferred[None]] = set()

    def startService(self) -> None:
        super().startService()
        for job in self._store.to_call_back():
            self.tell(job)

    def stopService(self) -> None:
        """
        What was not told is told by the next server.
        """
        super().stopService()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for call in list(self._calls):
            call.cancel()

    def tell(self, job: Job) -> None:
        """
        Tell the end of `job` when that is due.
        """
        if self.running and job.callback is not None and job.callback.due is not None:
            wait = max(0.0, job.callback.due - self._clock.seconds())
            self._timers[job.id] = self._clock.callLater(wait, self._call, job.id)

    def _call(self, id: str) -> None:
        del self._timers[id]
        call: Deferred[None] = self._lines.run(self._deliver, id)
        self._calls.add(call)

        def done(result: object) -> None:
            self._calls.discard(call)
            if isinstance(result, Failure) and self.running:
                self._log.failure("a fault while telling the end of the job {id}", result, id=id)

        call.addBoth(done)

    def _deliver(self, id: str) -> Deferred[None]:
        job = self._store.get(id)
        if job is None or job.callback is None:
            return maybeDeferred(lambda: None)
        body = json.dumps(self._shown(job), separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Kiroworkers-Signature": signature(self._secret, body),
        }
        tries = job.callback.tries
        posted = maybeDeferred(self._post, job.callback.url, headers, body, tries)
        return posted.addCallbacks(
            lambda status: self._heard(id, tries, status),
            lambda failure: self._heard(id, tries, failure.getErrorMessage() or str(failure.type)),
        )

    def _heard(self, id: str, tries: int, status: int | str) -> None:
        """
        What came of a call: a status, or why there is none.
        """
        if not self.running:
            return
        due = None
        if not (isinstance(status, int) and 200 <= status < 300):
            over = status == _GONE or tries + 1 >= _TRIES
            if not over:
                due = self._clock.seconds() + _FIRST_DELAY * 2**tries
            self._log.warn(
                "the end of the job {id} was not heard ({status}){over}",
                id=id,
                status=status,
                over=", and is told no more" if over else "",
            )
        self._store.called_back(id, due)
        job = self._store.get(id)
        if job is not None:
            self.tell(job)


def signature(secret: bytes, body: bytes) -> str:
    """
    What says that a call is this server's: ``sha256=`` and the HMAC of its body.
    """
    return "sha256=" + hmac.new(secret, body, sha256).hexdigest()
