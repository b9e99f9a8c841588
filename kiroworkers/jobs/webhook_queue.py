"""
Decide which webhook is called next.

All calls share a few senders, and a receiver that never answers keeps a sender busy until
its time is up.  Two rules keep one client's receivers from delaying another's:

* A client may use at most as many senders as it leaves free, so there is always one for a
  client that uses none.
* What does not answer is tried again after a delay that doubles with each failure, by one
  call at a time.  The other calls to it wait for the result.  If there is an answer they
  are made, and otherwise they have failed as well.  A connection that fails concerns all
  calls to its host; a response that does not come concerns those of the same client to the
  same URL, since other URLs of the host may work.

It does no I/O and knows no clock.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum, auto
from heapq import heappop, heappush
from typing import TypeAlias
from urllib.parse import urlsplit

from attrs import define, field

#: Seconds until what did not answer is tried again: after its first failure, and at most.
#: The delay is shorter than most of those between the attempts for one job, so that each
#: of these finds out anew.
_FIRST_DELAY, _MAX_DELAY = 2.0, 60.0

#: The number of targets that may fail before those are forgotten that nobody calls any more.
_MAX_UNUSED_TARGETS = 1000


class Outcome(Enum):
    """
    Represent how a call ended, as far as other calls are concerned.
    """

    #: There was a response, whatever its status.
    ANSWERED = auto()
    #: There was no response, although the host was reached.
    SILENT = auto()
    #: The host was not reached.
    UNREACHABLE = auto()
    #: The call was not made after all.
    NOT_MADE = auto()


#: A host, or the path of a host and the client that calls it.
_Target: TypeAlias = tuple[str, str, str]


@define(eq=False)
class Call:
    """
    Represent an attempt to call the webhook of a job.

    Attributes:
        id: The job's id.
        client: The client that owns the job.
        host: The host and port to call.
        path: The path to call there, without the query.
        tries: The number of earlier attempts.
        began: When the call began, in seconds on any clock; None until then.
        probe: The target that the call tries, because it has failed; None for any other call.
    """

    id: str
    client: str
    host: str
    path: str = "/"
    tries: int = 0
    began: float | None = None
    probe: _Target | None = None

    @property
    def receiver(self) -> _Target:
        """
        Return the target that fails if there is no response.
        """
        return (self.host, self.path, self.client)

    @property
    def targets(self) -> tuple[_Target, _Target]:
        """
        Return the targets whose failures concern the call.
        """
        return (self.host, "", ""), self.receiver


@define(eq=False)
class _Failure:
    """
    Hold the failures of a target that did not answer its last call, and who waits for it.

    Attributes:
        failures: The number of failures in a row.
        failed: The time of the last one.
        retry: The time from which the target may be tried again.
        probed: Whether a call is being made, or about to be made, to try it.
        waiting: The calls that wait for the result.
    """

    failures: int = 0
    failed: float = 0.0
    retry: float = 0.0
    probed: bool = False
    waiting: deque[Call] = field(factory=deque)


class WebhookQueue:
    """
    Hold the calls that are due, and give each client its share of the senders.

    Args:
        senders: The maximum number of calls in progress at a time.
    """

    def __init__(self, senders: int) -> None:
        self._senders = senders
        self._clients: dict[str, deque[Call]] = {}
        self._in_progress: Counter[str] = Counter()
        self._failing: dict[_Target, _Failure] = {}
        self._retries: list[tuple[float, _Target]] = []
        self._max_failing = _MAX_UNUSED_TARGETS

    def add(self, call: Call) -> None:
        """
        Add a call that is due.
        """
        for target in call.targets:
            failure = self._failing.get(target)
            if failure is not None:
                failure.waiting.append(call)
                if len(failure.waiting) == 1:
                    self._push_retry(target, failure)
                return
        self._clients.setdefault(call.client, deque()).append(call)

    def next(self, now: float) -> Call | None:
        """
        Remove and return a call to begin now, or None if none may begin.

        Report how it ended with `end`.

        Args:
            now: The current time in seconds, on the same clock for all calls.
        """
        while True:
            self._add_probes(now)
            client = self._next_client()
            if client is None:
                return None
            # The client's next turn comes after that of all others.
            calls = self._clients.pop(client)
            call = calls.popleft()
            if calls:
                self._clients[client] = calls
            if call.probe is None and any(target in self._failing for target in call.targets):
                # The target has failed while the call was waiting.
                self.add(call)
                continue
            call.began = now
            self._in_progress[client] += 1
            return call

    def retry_at(self) -> float | None:
        """
        Return when the next target that calls wait for may be tried again, or None.
        """
        while self._retries:
            at, target = self._retries[0]
            failure = self._failing.get(target)
            if failure and failure.retry == at and failure.waiting and not failure.probed:
                return at
            heappop(self._retries)
        return None

    def end(self, call: Call, outcome: Outcome, now: float) -> list[Call]:
        """
        End a call that `next` returned.

        Args:
            call: The call.
            outcome: How it ended.
            now: The current time in seconds.

        Returns:
            The calls that have failed as well.
        """
        self._in_progress[call.client] -= 1
        if not self._in_progress[call.client]:
            del self._in_progress[call.client]
        if call.probe is not None and call.probe in self._failing:
            failure = self._failing[call.probe]
            failure.probed = False
            self._push_retry(call.probe, failure)
        host, receiver = call.targets
        match outcome:
            case Outcome.ANSWERED:
                self._recover(host)
                self._recover(receiver)
            case Outcome.SILENT:
                self._recover(host)
                return self._fail(receiver, call, now)
            case Outcome.UNREACHABLE:
                return self._fail(host, call, now)
        return []

    def _next_client(self) -> str | None:
        """
        Return the client that may begin a call and has the fewest in progress, or None.
        """
        free = self._senders - self._in_progress.total()
        if not (free and self._clients):
            return None
        client = min(self._clients, key=self._in_progress.__getitem__)
        return client if self._in_progress[client] < free else None

    def _recover(self, target: _Target) -> None:
        """
        Note that a target has answered, and add the calls that waited for it.
        """
        failure = self._failing.pop(target, None)
        if failure is not None:
            for call in failure.waiting:
                self.add(call)

    def _fail(self, target: _Target, call: Call, now: float) -> list[Call]:
        """
        Note that a target has not answered `call`, and return the calls that waited for it.
        """
        failure = self._failing.get(target)
        if failure is None:
            self._forget_failures(now)
            failure = self._failing[target] = _Failure()
        assert call.began is not None, "next() returned it"
        if failure.failures and call.began <= failure.failed:
            # It began before the target was known to fail, so it says nothing new.
            return []
        failure.failures += 1
        failure.failed = now
        failure.retry = now + min(_FIRST_DELAY * 2 ** (failure.failures - 1), _MAX_DELAY)
        failed = list(failure.waiting)
        failure.waiting.clear()
        return failed

    def _add_probes(self, now: float) -> None:
        """
        Let one call be made to each target that may be tried again.
        """
        while (at := self.retry_at()) is not None and at <= now:
            _, target = heappop(self._retries)
            failure = self._failing[target]
            failure.probed = True
            call = failure.waiting.popleft()
            call.probe = target
            self._clients.setdefault(call.client, deque()).appendleft(call)

    def _push_retry(self, target: _Target, failure: _Failure) -> None:
        if failure.waiting and not failure.probed:
            heappush(self._retries, (failure.retry, target))

    def _forget_failures(self, now: float) -> None:
        """
        Forget the targets that nobody has called for a while, if there are many.
        """
        if len(self._failing) >= self._max_failing:
            self._failing = {
                target: failure
                for target, failure in self._failing.items()
                if failure.waiting or failure.probed or failure.failed + 2 * _MAX_DELAY > now
            }
            self._max_failing = max(_MAX_UNUSED_TARGETS, 2 * len(self._failing))


def host_and_path(url: str) -> tuple[str, str]:
    """
    Return the host with its port, and the path, of a webhook's URL.
    """
    parts = urlsplit(url)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{parts.hostname}:{port}", parts.path or "/"
