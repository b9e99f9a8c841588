"""
Cause the faults that a cluster must survive, one after the other.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event

from attrs import define, field

from bench.chaos.cluster.faults import Fault, Kind
from bench.chaos.cluster.ledger import Ledger
from bench.cluster.servers import Server
from bench.cluster.world import World

#: Seconds for which a killed server is down, in leases: the others must notice it.
_DOWN = 1.4

#: How long servers are stopped and cut off, and PostgreSQL is read-only and gone, in leases.
_STOPPED, _CUT_OFF, _READ_ONLY, _GONE = 2.0, 2.0, 1.0, 4 / 3

#: Seconds between two faults of servers, and after one of the database, in leases: a server
#: that lost the database gives nobody's jobs to others for a lease.
_PAUSE, _RECOVERY = 0.4, 1.2

#: Seconds until a job must run on a server, and between two looks.
_JOB_TIMEOUT, _LOOK = 10.0, 0.05

#: About how many seconds a server takes to start, or to stop.
_START = 4.0


@define
class Injector:
    """
    Cause every fault once, each server's in turn.

    Attributes:
        world: The cluster.
        ledger: Where the faults are written down.
        lease: The servers' --lease.
        replaced: How many servers are replaced by a new version, one after the other.
        over: Set to make it end after the current fault.
        finished: Set when it has ended.
    """

    world: World
    ledger: Ledger
    lease: float
    replaced: int
    over: Event = field(factory=Event)
    finished: Event = field(factory=Event)

    def run(self) -> None:
        """
        Cause the faults; in the end, everything is as it was.
        """
        first, second, third = self.world.servers
        faults: list[tuple[Callable[[], None], float]] = [
            (partial(self._kill, first), _PAUSE),
            (partial(self._stop, second), _PAUSE),
            (partial(self._cut_off, third), _PAUSE),
            (self._reload, _PAUSE / 2),
            *(
                (partial(self._replace, server), 0.0)
                for server in self.world.servers[: self.replaced]
            ),
            (self._restart, _RECOVERY),
            (self._make_read_only, _RECOVERY),
            (self._take_away, _RECOVERY),
        ]
        try:
            for cause, pause in faults:
                if self.over.is_set():
                    return
                cause()
                self.over.wait(pause * self.lease)
        except Exception as error:
            self.ledger.forbid("servers not healed", f"{error!r}")
        finally:
            self.finished.set()

    @property
    def duration(self) -> float:
        """
        Return about how many seconds all faults take.
        """
        outages = _DOWN + _STOPPED + _CUT_OFF + _READ_ONLY + _GONE
        pauses = 3.5 * _PAUSE + 3 * _RECOVERY
        return self.lease * (outages + pauses) + _START * (2 + 2 * self.replaced)

    @contextmanager
    def _fault(self, kind: Kind, server: Server | None = None) -> Iterator[None]:
        """
        Note a fault that lasts as long as the block.
        """
        began = time.monotonic()
        name = server.name if server is not None else ""
        print(f"{time.strftime('%H:%M:%S')} {kind} {name}".rstrip(), flush=True)
        try:
            yield
        finally:
            self.ledger.faults.append(Fault(kind, began, time.monotonic(), name))

    def _await_job(self, server: Server) -> None:
        """
        Wait until a job runs on a server, so that a fault hits one.
        """
        until = time.monotonic() + _JOB_TIMEOUT
        while not self.world.has_open_turn(server.name, "job-") and time.monotonic() < until:
            time.sleep(_LOOK)

    def _kill(self, server: Server) -> None:
        self._await_job(server)
        with self._fault(Kind.KILLED, server):
            server.kill()
            self.over.wait(_DOWN * self.lease)
            server.start()
            server.await_ready()

    def _stop(self, server: Server) -> None:
        self._await_job(server)
        with self._fault(Kind.STOPPED, server):
            server.signal(signal.SIGSTOP)
            try:
                self.over.wait(_STOPPED * self.lease)
            finally:
                server.signal(signal.SIGCONT)
            server.await_ready()

    def _cut_off(self, server: Server) -> None:
        self._await_job(server)
        with self._fault(Kind.CUT_OFF, server):
            for silently in (True, False):
                with self.world.cut_off(server, silently=silently):
                    self.over.wait(_CUT_OFF / 2 * self.lease)

    def _replace(self, server: Server) -> None:
        self._await_job(server)
        with self._fault(Kind.REPLACED, server):
            server.signal(signal.SIGTERM)
            if status := server.wait():
                self.ledger.forbid("unclean exits", f"{server.name}: status {status}")
            server.start()
            server.await_ready()

    def _reload(self) -> None:
        with self._fault(Kind.RELOADED):
            self.world.reload_proxy()

    def _restart(self) -> None:
        with self._fault(Kind.RESTARTED):
            self.world.restart_database()

    def _make_read_only(self) -> None:
        with self._fault(Kind.READ_ONLY), self.world.read_only_database():
            self.over.wait(_READ_ONLY * self.lease)

    def _take_away(self) -> None:
        self._await_job(self.world.servers[0])
        with self._fault(Kind.GONE), self.world.no_database():
            self.over.wait(_GONE * self.lease)
