"""
Sample the load: how many workers are busy, and how long requests took.

A sample is taken every two seconds while requests wait or run, or somebody watches.  Between two
samples with a longer gap nothing happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kiroworkers.clocks import WallClock
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.request_record import RequestRecord
from kiroworkers.web.views import milliseconds

#: Seconds between two samples.
INTERVAL = 2.0

#: The number of samples that are kept, and the age in seconds up to which they are sent.
MAX_SAMPLES = 150
_MAX_AGE = MAX_SAMPLES * INTERVAL


@define
class _Mean:
    """
    Compute the mean of some durations.
    """

    sum: float = 0.0
    count: int = 0

    def add(self, seconds: float) -> None:
        """
        Take a duration into account.
        """
        self.sum += seconds
        self.count += 1

    def value(self) -> float | None:
        """
        Return the mean in seconds, or None if there are none.
        """
        return round(self.sum / self.count, 4) if self.count else None


class LoadSampler:
    """
    Keep the samples of the last minutes.

    Args:
        clock: Times the samples.
        wall_clock: Returns the time in seconds since the epoch.
        groups: The agents.
        on_sample: Called with each sample.  It returns whether to go on even if nothing happens.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        groups: Iterable[AgentGroup],
        on_sample: Callable[[dict[str, Any]], bool],
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._groups = groups
        self._on_sample = on_sample
        self._samples: deque[dict[str, Any]] = deque(maxlen=MAX_SAMPLES)
        self._timer: IDelayedCall | None = None
        self._stopped = False
        self._forget()

    @property
    def active(self) -> bool:
        """
        Return whether the next sample is due.
        """
        return self._timer is not None

    def note_activity(self) -> None:
        """
        Take samples, because something happens or somebody watches.
        """
        if self._timer is None and not self._stopped:
            self._timer = self._clock.callLater(INTERVAL, self._sample)

    def note_end(self, record: RequestRecord) -> None:
        """
        Count a request that has ended, unless it only asked for a job or for a known answer.
        """
        if record.outcome in ("accepted", "replayed"):
            return
        if record.method == "JOB" and record.outcome == "rejected":
            return  # It is put off.
        if self._timer is None:
            self.note_activity()
        self._requests += 1
        if _has_failed(record):
            self._failures += 1
        if record.wait is not None:
            self._wait.add(record.wait)
        if record.first_output is not None:
            self._first.add(record.first_output)
        if record.total is not None and record.worker is not None:
            # One that was rejected at once says nothing about how long answers take.
            self._total.add(record.total)

    def recent(self) -> list[dict[str, Any]]:
        """
        Return the samples of the last minutes, oldest first.
        """
        oldest = milliseconds(self._wall_clock() - _MAX_AGE)
        return [sample for sample in self._samples if sample["time"] >= oldest]

    def stop(self) -> None:
        """
        Take no more samples.
        """
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sample(self) -> None:
        self._timer = None
        workers = [
            worker for group in self._groups for worker in group.dispatcher.worker_pool.workers
        ]
        busy = sum(worker.turn_started_at is not None for worker in workers)
        queued = sum(group.dispatcher.queue().length for group in self._groups)
        sample = {
            "time": milliseconds(self._wall_clock()),
            "busy": busy,
            "workers": len(workers),
            "queued": queued,
            "wait": self._wait.value(),
            "first": self._first.value(),
            "total": self._total.value(),
            "requests": self._requests,
            "failures": self._failures,
        }
        active = bool(busy or queued or self._requests)
        self._samples.append(sample)
        self._forget()
        # The sample after the last request shows that the server is idle.
        if self._on_sample(sample) or active:
            self.note_activity()

    def _forget(self) -> None:
        self._requests = self._failures = 0
        self._wait, self._first, self._total = _Mean(), _Mean(), _Mean()


def _has_failed(record: RequestRecord) -> bool:
    """
    Return whether a request got no answer although it and its client were in order.

    A stream that ends with an error has the status 200.
    """
    status = record.status or 200
    return not record.aborted and (status >= 500 or (status < 400 and record.code is not None))
