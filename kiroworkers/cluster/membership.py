"""
Keep this server among those that share a database, and take over what dead servers left.

A server renews its lease with each heartbeat, and learns from the response which of its jobs
are not its own any more.  A server whose lease has passed is dead for the others: each of them
may queue its jobs again.  But a server whose own connection was broken must not judge others:
after a failure of the database, all leases have passed, and those of healthy servers are renewed
as soon as they are connected again.  So a server sweeps only after its connection was unbroken
for as long as a lease.

Leases are measured by the clock of the database.  What a server knows of its own lease is
measured by its own monotonic clock, from the moment at which it sent the heartbeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from attrs import evolve, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.presence import AgentFacts, ServerInfo, ServerState
from kiroworkers.jobs.store import StorageStatus

#: The parts of a lease: between two heartbeats, and until the others take the jobs.  Together
#: they are less than a lease, so a dead server's jobs are queued again within one.
_INTERVAL, _LIFE = 1 / 5, 2 / 3

#: Seconds for which what is known of the other servers counts as current, and for which somebody
#: who asks waits for the database.
_FRESH, _PATIENCE = 1.0, 2.0


@frozen
class Identity:
    """
    Hold what does not change about a server.

    Attributes:
        name: Its name.
        version: The version of its program.
        address: The address that it listens at.
        account: The account that its agents use; empty if none was named.
    """

    name: str
    version: str
    address: str
    account: str = ""


@frozen
class OwnFacts:
    """
    Hold what a server says of itself with each heartbeat.

    Attributes:
        state: Whether it serves or is about to stop.
        agents: Its agents by their names.
    """

    state: ServerState
    agents: Mapping[str, AgentFacts]


@frozen
class HeldJobs:
    """
    Hold which jobs a server has.

    Attributes:
        claims: The claims of the jobs by their ids.
        complete: Whether there are certainly no others: no claim and no release is under way.
            The database may know of more if the response to a claim was lost.
    """

    claims: Mapping[str, int]
    complete: bool


@frozen
class QueuedJobs:
    """
    Hold how many jobs wait for any server.

    Attributes:
        number: How many.
        oldest: The age of the oldest one that is next for its client, in seconds; 0 if none waits.
    """

    number: int = 0
    oldest: float = 0.0


@frozen
class Census:
    """
    Hold what the database knows at one moment.

    Attributes:
        servers: The servers.
        queued: The jobs that wait.
    """

    servers: Sequence[ServerInfo] = ()
    queued: QueuedJobs = QueuedJobs()


@frozen
class Swept:
    """
    Hold what was taken from dead servers.

    Attributes:
        jobs: The number of jobs that are queued again.
        webhooks: The number of webhooks that this server calls from now on.
    """

    jobs: int
    webhooks: int


class Registry(Protocol):
    """
    Hold the servers that share a database.

    Each Deferred fails with `StorageUnavailable` while the database does.

    Attributes:
        status: Whether the database works.
        connections: The number of connections that were made so far.
    """

    @property
    def status(self) -> StorageStatus:
        """
        Return whether the database works.
        """

    @property
    def connections(self) -> int:
        """
        Return the number of connections that were made so far.
        """

    def register(self, identity: Identity, seconds: float, facts: OwnFacts) -> Deferred[int]:
        """
        Add a server, with a lease of some seconds, and return its number.
        """

    def heartbeat(
        self, server: int, seconds: float, facts: OwnFacts, held: HeldJobs
    ) -> Deferred[Sequence[str] | None]:
        """
        Renew the lease of a server, and take back the jobs that nobody has begun anew.

        Args:
            server: The number of the server.
            seconds: How long the lease lasts from now.
            facts: What the server says of itself.
            held: The jobs that it has.

        Returns:
            The ids of those that are not its own any more; None if there is no such server.
        """

    def sweep(self, server: int) -> Deferred[Swept]:
        """
        Queue the jobs of servers whose lease has passed, and give their webhooks to `server`.
        """

    def census(self) -> Deferred[Census]:
        """
        Return the servers, and how many jobs wait.
        """

    def leave(self, server: int) -> Deferred[None]:
        """
        Record that a server has stopped: its lease ends now.
        """


class JobHolder(Protocol):
    """
    Hold the jobs that this server has claimed.
    """

    def held(self) -> HeldJobs:
        """
        Return these jobs.
        """

    def lost(self, ids: Iterable[str]) -> None:
        """
        Abort the jobs that are not this server's own any more.
        """

    def wake(self) -> None:
        """
        Look whether jobs wait.
        """


class Membership(Service):
    """
    Keep a server's lease, sweep those of others, and tell which servers there are.

    This is a `Presence`.

    Attributes:
        number: The number of this server; None until it has registered.

    Args:
        clock: Times the heartbeats; its time must not jump.
        wall_clock: Returns the time in seconds since the epoch.
        registry: Holds the servers.
        identity: What does not change about this server.
        facts: Returns what this server says of itself.
        lease: Seconds within which the jobs of a dead server are queued again.
        jobs: Holds the jobs that this server has claimed.
        on_adopted: Called when there may be webhooks to call of which this server has not heard:
            those of dead servers, or of jobs whose end was stored before a connection broke.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        registry: Registry,
        identity: Identity,
        facts: Callable[[], OwnFacts],
        lease: float,
        jobs: JobHolder,
        on_adopted: Callable[[], None] = lambda: None,
    ) -> None:
        self.number: int | None = None
        self._clock = clock
        self._wall_clock = wall_clock
        self._registry = registry
        self._identity = identity
        self._facts = facts
        self._lease = lease
        self._jobs = jobs
        self._on_adopted = on_adopted
        self._started = wall_clock()
        self._is_registered = False
        self._lease_until = -1.0
        # Since when the connection is unbroken; None while it is broken.
        self._steady_since: float | None = None
        self._connections = registry.connections
        self._timer: IDelayedCall | None = None
        self._beating = False
        self._renewal: Deferred[None] | None = None
        self._beat_again = False
        self._census = Census()
        self._asked_at = -_FRESH
        self._asking = False
        self._waiting: list[Deferred[None]] = []

    # The lease.

    @property
    def holds_lease(self) -> bool:
        """
        Return whether the lease of this server is certain to run.
        """
        return self._is_registered and self._clock.seconds() < self._lease_until

    def startService(self) -> None:
        """
        Register this server, and begin to renew its lease.
        """
        super().startService()
        self.beat()

    def stopService(self) -> None:
        """
        Stop renewing the lease; `leave` ends it.
        """
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def leave(self) -> None:
        """
        End the lease, so that the others need not wait for its end.  This does not fail.

        Call it when nothing is left to be stored.
        """
        if self._renewal is not None:
            self._renewal.cancel()
        if self.number is not None:
            try:
                await self._registry.leave(self.number)
            except StorageUnavailable:
                # The others find out by themselves.
                self._log.info("the end of this server's lease could not be stored")

    def beat(self) -> None:
        """
        Renew the lease now, for example because the database can be reached again.
        """
        if not self.running:
            return
        if self._beating:
            self._beat_again = True
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        began = self._clock.seconds()
        self._beating = True
        self._renewal = Deferred.fromCoroutine(self._renew(began))
        self._renewal.addBoth(self._on_renewed, began)

    def _on_renewed(self, result: Failure | None, began: float) -> None:
        self._beating = False
        self._renewal = None
        if isinstance(result, Failure):
            self._steady_since = None
            if result.check(StorageUnavailable, CancelledError) is None:
                self._log.failure("internal error while renewing the lease", result)
        again, self._beat_again = self._beat_again, False
        if not self.running:
            return
        at = began + self._lease * _INTERVAL
        delay = 0.0 if again else max(0.0, at - self._clock.seconds())
        self._timer = self._clock.callLater(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.beat()

    async def _renew(self, began: float) -> None:
        """
        Renew the lease, and sweep those of others if that is safe.

        Args:
            began: The current time.
        """
        facts = self._facts()
        life = self._lease * _LIFE
        if self.number is None or not self._is_registered:
            self.number = await self._registry.register(self._identity, life, facts)
            self._is_registered = True
            self._log.info(
                "registered as server {number}, {name}",
                number=self.number,
                name=self._identity.name,
            )
        held = self._jobs.held()
        lost = await self._registry.heartbeat(self.number, life, facts, held)
        if lost is None:
            self._log.warn("the other servers have forgotten this one; it registers again")
            self._is_registered = False
            self._beat_again = True
            return
        now = self._clock.seconds()
        is_new = self._is_new_connection()
        if is_new or now >= self._lease_until:
            self._steady_since = None
        self._lease_until = began + life
        if self._steady_since is None:
            self._steady_since = now
        self._jobs.lost(lost)
        if not self.running:
            return
        self._jobs.wake()
        if is_new:
            self._on_adopted()
            # What is known when the database fails is listed meanwhile.
            self.refresh()
        if now - self._steady_since >= self._lease:
            await self._sweep(self.number)

    def _is_new_connection(self) -> bool:
        known, self._connections = self._connections, self._registry.connections
        return known != self._connections

    async def _sweep(self, number: int) -> None:
        swept = await self._registry.sweep(number)
        if swept.jobs:
            self._log.warn("{jobs} job(s) of lost servers are queued again", jobs=swept.jobs)
        if swept.webhooks:
            self._log.info(
                "{webhooks} webhook(s) of other servers are called here", webhooks=swept.webhooks
            )
            self._on_adopted()

    # The `Presence`.

    @property
    def server_name(self) -> str:
        """
        Return the name of this server.
        """
        return self._identity.name

    @property
    def database(self) -> StorageStatus:
        """
        Return whether the database works.
        """
        return self._registry.status

    @property
    def queued(self) -> QueuedJobs:
        """
        Return how many jobs waited for any server when somebody asked last.
        """
        return self._census.queued

    def refresh(self) -> Deferred[None]:
        """
        Look which servers there are, and how many jobs wait.

        Returns:
            A Deferred that fires when that is known, or cannot be found out in time.
        """
        waiter: Deferred[None] = Deferred(lambda _: self._waiting.remove(waiter))
        self._waiting.append(waiter)
        timer = self._clock.callLater(_PATIENCE, self._give_up, waiter)

        def done(result: Failure | None) -> Failure | None:
            if timer.active():
                timer.cancel()
            return result

        waiter.addBoth(done)
        if not self._asking:
            self._asking = True
            Deferred.fromCoroutine(self._ask()).addBoth(self._on_asked)
        return waiter

    async def _ask(self) -> None:
        if self._clock.seconds() - self._asked_at >= _FRESH:
            self._census = await self._registry.census()
            self._asked_at = self._clock.seconds()

    def _on_asked(self, result: Failure | None) -> None:
        self._asking = False
        if isinstance(result, Failure) and result.check(StorageUnavailable) is None:
            self._log.failure("internal error while looking for other servers", result)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _give_up(self, waiter: Deferred[None]) -> None:
        self._waiting.remove(waiter)
        waiter.callback(None)

    def servers(self) -> Sequence[ServerInfo]:
        """
        Return the servers that were found last, and the current state of this one.
        """
        passed = max(0.0, self._clock.seconds() - self._asked_at)
        others = [
            evolve(server, silence=server.silence + passed)
            for server in self._census.servers
            if server.number != self.number
        ]
        return without_earlier_starts([*others, self._myself()])

    def _myself(self) -> ServerInfo:
        identity, facts = self._identity, self._facts()
        return ServerInfo(
            number=self.number or 0,
            name=identity.name,
            version=identity.version,
            address=identity.address,
            account=identity.account,
            state=facts.state,
            agents=facts.agents,
            jobs=len(self._jobs.held().claims),
            started=self._started,
            seen=self._wall_clock(),
            silence=0.0,
        )


def without_earlier_starts(servers: Iterable[ServerInfo]) -> list[ServerInfo]:
    """
    Return `servers` by their names, without those that are gone and were started again.
    """
    known = sorted(servers, key=lambda server: (server.name, server.number))
    newest = {server.name: server.number for server in known}
    return [
        server
        for server in known
        if server.state in ("serving", "draining") or server.number == newest[server.name]
    ]
