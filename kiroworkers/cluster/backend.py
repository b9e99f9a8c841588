"""
Put together what keeps and distributes the jobs of several servers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from secrets import randbits
from typing import Any

import psycopg
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from kiroworkers import __version__
from kiroworkers.clocks import WallClock
from kiroworkers.cluster.accounts import AccountOutages
from kiroworkers.cluster.address import describe, read_address
from kiroworkers.cluster.claims import PostgresClaims
from kiroworkers.cluster.engine import PostgresEngine, PostgresQueue
from kiroworkers.cluster.event_rows import PostgresEventTable
from kiroworkers.cluster.history import PostgresHistory
from kiroworkers.cluster.job_events import ClusterJobEvents
from kiroworkers.cluster.keys import PostgresKeyChanges
from kiroworkers.cluster.membership import Identity, Membership, OwnFacts
from kiroworkers.cluster.migrate import check_schema
from kiroworkers.cluster.notifications import Notifications
from kiroworkers.cluster.rates import SharedRates
from kiroworkers.cluster.registry import PostgresRegistry
from kiroworkers.cluster.runner import ClusterRunner
from kiroworkers.cluster.store import PostgresStore
from kiroworkers.errors import CannotStart
from kiroworkers.jobs.backend import Distribution, RateLimits, RunnerParts, SavedState
from kiroworkers.jobs.executor import Executor
from kiroworkers.jobs.presence import agent_facts, server_state, shown_address
from kiroworkers.pool.shared_outage import SharedOutage
from kiroworkers.settings import Settings
from kiroworkers.telemetry.request_history import SavedHistory

#: The part of a lease after which a database that does not answer counts as failing.
_STALL = 1 / 3

#: The part of a lease after which the database is read in place of a notification that is due.
_INTERVAL = 1 / 5

#: What a database that starts or stops, or has too many clients, says; it may soon be better.
_PASSING = ("starting up", "shutting down", "recovery", "too many", "remaining connection slots")

#: What libpq says of an address that is wrong, or does not fit the server's certificate.
_LASTING = (
    "FATAL:",
    "no password supplied",
    "connection is bad: invalid",
    "does not support SSL",
    "root certificate file",
    "certificate verify failed",
    "does not match host name",
    "channel binding",
)


class ClusterBackend:
    """
    Keep jobs in PostgreSQL, where several servers claim them; this is a `Backend`.

    Args:
        reactor: Schedules calls, and reads notifications.
        wall_clock: Returns the time in seconds since the epoch.
        executor: Runs everything that waits for the database.
        settings: The settings of the server.
        name: The name of this server.

    Raises:
        InvalidSetting: The file with the address cannot be used.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        wall_clock: WallClock,
        executor: Executor,
        settings: Settings,
        name: str,
    ) -> None:
        assert settings.database_file is not None, "there is a database"
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._lease = float(settings.lease)
        self._identity = Identity(
            name, __version__, shown_address(settings.endpoint), settings.account
        )
        self._upgrade = f"kiroworkers db upgrade --database-file {settings.database_file}"
        self._address = read_address(settings.database_file, f"kiroworkers {name}")
        check = partial(check_schema, upgrade=self._upgrade)
        self._engine = PostgresEngine(self._address, self._lease * _STALL, check)
        self._queue = PostgresQueue(reactor, wall_clock, executor, self._engine)
        self._notifications = Notifications(reactor, self._address, self._lease * _STALL)
        interval = self._lease * _INTERVAL
        self._outages = AccountOutages(
            reactor, self._queue, self._notifications, settings.account, name, self._lease
        )
        self._rates = SharedRates(reactor, self._queue)
        self._membership: Membership | None = None
        self._on_adopted: list[Callable[[], None]] = []
        self.store = PostgresStore(self._queue, self._server)
        self.events = ClusterJobEvents(
            reactor, PostgresEventTable(self._queue), self._notifications, interval
        )
        self.key_changes = PostgresKeyChanges(reactor, self._notifications, interval)

    def distribute(self, parts: RunnerParts) -> Distribution:
        """
        Return what claims jobs from the database, and runs them.
        """
        runner = ClusterRunner(
            self._reactor,
            self._wall_clock,
            parts.groups,
            parts.tasks,
            self.store,
            PostgresClaims(self._queue, self._server),
            parts.limits,
            parts.on_ended,
            self.events,
            lambda: membership.holds_lease,
            lambda: membership.queued,
            parts.offload,
            parts.on_event,
        )
        membership = self._membership = Membership(
            self._reactor,
            self._wall_clock,
            PostgresRegistry(self._queue, self._engine),
            self._identity,
            lambda: OwnFacts(server_state(parts.groups), agent_facts(parts.groups)),
            self._lease,
            runner,
            self._adopted,
        )
        self._notifications.subscribe("queued", runner.on_queued)
        self._notifications.subscribe("cancelled", runner.on_cancelled)
        self._notifications.on_connected(membership.beat)
        self._notifications.on_connected(self._adopted)
        return Distribution(runner, membership, (self._notifications, membership, runner))

    def on_adopted(self, call: Callable[[], None]) -> None:
        """
        Call `call` whenever webhooks of other servers may have become this server's.
        """
        self._on_adopted.append(call)

    def shared_outage(self, agent: str) -> SharedOutage | None:
        """
        Return what shares the outages of the account; None if no account is named.
        """
        return self._outages.of(agent) if self._identity.account else None

    def share_rates(self, limits: RateLimits) -> None:
        """
        Count the requests of each client in the database.
        """
        self._rates.share(limits)

    def open(
        self, file: Path | None, keep_webhooks: bool, history_limit: int, history_age: float
    ) -> SavedState:
        """
        Connect to the database.  This blocks.

        If it cannot be reached or written, it is tried again later: live requests do not need it.

        Args:
            file: Not used.
            keep_webhooks: Not used: other servers may call webhooks.
            history_limit: The number of requests whose history is kept.
            history_age: The age up to which it is kept, in seconds.

        Raises:
            CannotStart: The database refuses the connection, or its schema does not fit.
        """
        saved = SavedHistory()
        now = self._wall_clock()
        history = PostgresHistory(self._queue, self._wall_clock, self._identity.name, randbits(62))
        where = describe(self._address)
        try:
            connection = self._engine.open()
            if history_limit:
                saved = history.read(connection, history_limit, now - history_age)
        except psycopg.Error as error:
            reason = error.diag.message_primary or " ".join(str(error).split())
            if isinstance(error, psycopg.errors.InsufficientPrivilege):
                reason += f"; run: {self._upgrade} --grant ROLE"
            if not _may_pass(error):
                raise CannotStart(f"kiroworkers: --database-file: {where}: {reason}") from None
            self._log.error(
                "the database {where} cannot be used yet, and is tried again: {reason}",
                where=where,
                reason=reason,
            )
        return SavedState(saved, history if history_limit else None)

    def close(self) -> Deferred[None]:
        """
        Store what is still to be stored, end the lease, and close the connection.
        """
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        try:
            if self._membership is not None:
                await self._membership.leave()
        finally:
            await self._queue.close()

    def _server(self) -> int:
        """
        Return the number of this server; 0 before the database knows it.
        """
        return 0 if self._membership is None else self._membership.number or 0

    def _adopted(self) -> None:
        for call in self._on_adopted:
            call()


def _may_pass(error: psycopg.Error) -> bool:
    """
    Return whether the reason why the database cannot be used may soon be over.
    """
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return True
    text = str(error)
    lasts = any(words in text for words in _LASTING)
    passes = any(words in text for words in _PASSING)
    return isinstance(error, psycopg.OperationalError) and (passes or not lasts)
