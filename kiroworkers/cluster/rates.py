"""
Count the requests of each client across servers.

Each server decides by itself, at once, from what it knows.  It reports what it has counted to the
database, which returns how empty the client's bucket is with the requests of all servers; the
server's own bucket is then at least as empty.  Nobody waits for that, so a client whose requests
arrive at several servers at the same time may send more than its rate allows: at most what each
server lets through until it has heard from the database.  This is owed, so it makes the client
wait longer afterwards.

While the database cannot be used, each server limits what it has counted itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.cluster.rows import decode_text, encode_text
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.backend import RateLimits
from kiroworkers.jobs.operation_queue import OperationQueue

if TYPE_CHECKING:
    from kiroworkers.cluster.engine import Connection

#: The maximum number of clients whose requests wait to be reported, and that one statement reports.
_MAX_WAITING, _MAX_BATCH = 10_000, 500

#: The least number of seconds after which full buckets are forgotten again.
_TIDY_INTERVAL = 60.0


#: Counts requests; see `count_requests`.
CountRequests: TypeAlias = Callable[[Any, Mapping[str, float], float, bool], dict[str, float]]


class SharedRates:
    """
    Report counted requests to the database, and those of other servers to a limiter.

    At most one statement is under way; the next one reports what is counted meanwhile.

    Args:
        clock: Tells when to forget full buckets.
        queue: Runs the statements.
        count: Makes them.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, queue: OperationQueue[Any], count: CountRequests | None = None
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._count_requests = count or count_requests
        self._limiter: RateLimits | None = None
        # What was not reported yet, in the seconds in which each client's bucket regains it.
        self._waiting: dict[str, float] = {}
        self._busy = False
        self._next_tidy = clock.seconds() + _TIDY_INTERVAL

    def share(self, limiter: RateLimits) -> None:
        """
        Share what `limiter` counts from now on.
        """
        self._limiter = limiter
        limiter.on_taken = self._count

    def _count(self, client: str, seconds: float) -> None:
        if client in self._waiting or len(self._waiting) < _MAX_WAITING:
            self._waiting[client] = self._waiting.get(client, 0.0) + seconds
            self._report()

    def _report(self) -> None:
        if self._busy or not self._waiting or self._limiter is None:
            return
        batch = [*islice(self._waiting, _MAX_BATCH)]
        costs = {client: self._waiting.pop(client) for client in batch}
        depth, tidy = self._limiter.depth, self._clock.seconds() >= self._next_tidy
        if tidy:
            self._next_tidy = self._clock.seconds() + _TIDY_INTERVAL
        self._busy = True
        counting = self._queue.write(
            lambda connection: self._count_requests(connection, costs, depth, tidy)
        )
        counting.addCallbacks(self._counted, self._failed).addErrback(self._on_bug)

    def _counted(self, levels: Mapping[str, float]) -> None:
        self._busy = False
        assert self._limiter is not None, "it has counted them"
        for client, level in levels.items():
            self._limiter.learn(client, level + self._waiting.get(client, 0.0))
        self._report()

    def _failed(self, failure: Failure) -> None:
        self._busy = False
        # It is not reported afterwards: by then it is regained.
        self._waiting.clear()
        if failure.check(StorageUnavailable) is None:
            self._log.failure("rates are not shared: internal error", failure)

    def _on_bug(self, failure: Failure) -> None:
        self._log.failure("rates are not shared: internal error", failure)


def count_requests(
    connection: Connection, costs: Mapping[str, float], depth: float, tidy: bool = False
) -> dict[str, float]:
    """
    Count requests of clients, and return the seconds until each client's bucket is full again.

    Args:
        connection: A connection to the database.
        costs: The seconds in which the bucket of each client regains what its requests took.
        depth: The seconds in which an empty bucket refills.
        tidy: Whether to forget the clients whose buckets are full.
    """
    if tidy:
        connection.execute("SELECT forget_full_rates()")
    clients = [encode_text(client) for client in costs]
    rows = connection.execute(
        "SELECT of_client, level FROM count_requests(%s, %s, %s)",
        (clients, list(costs.values()), depth),
    )
    return {decode_text(client): level for client, level in rows}
