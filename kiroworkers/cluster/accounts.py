"""
Share the outages of an account between the servers whose agents use it.

The table `accounts` has a row for each account and agent.  A server that changes it notifies the
others, which then read the row.  Its times are those of the database's clock; servers only learn
how many seconds are left.

A server tells what its circuit breaker has found out, and applies what the row says in turn.  What
it has to tell goes first, and a row that was read before is ignored.  While the database cannot be
used, the breaker goes on by itself.  Afterwards the server reports its own outage, or that it is
over unless the row has changed since, and the row that results is right.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.cluster.account_statements import (
    AccountStatements,
    Record,
    Statement,
    Statements,
)
from kiroworkers.cluster.rows import encode_text
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.operation_queue import OperationQueue
from kiroworkers.pool.shared_outage import OutageFollower

if TYPE_CHECKING:
    from kiroworkers.cluster.engine import PostgresQueue
    from kiroworkers.cluster.notifications import Notifications

#: The part of a server's lease for which it may probe the agent without asking again, and the
#: part of that time after which it asks.
_PROBE_LEASE, _RENEWAL = 1 / 3, 1 / 3


class AccountOutage:
    """
    Share the outages of one agent's account; this is a `SharedOutage`.

    At most one statement is under way.  What is to be done next is decided when it has ended.

    Args:
        clock: Schedules the renewal of a probe's lease.
        queue: Runs the statements.
        statements: Makes them.
        lease: Seconds for which a server may probe the agent without asking again.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: OperationQueue[Any],
        statements: Statements,
        lease: float,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._statements = statements
        self._lease = lease
        self._follower: OutageFollower | None = None
        self._known: Deferred[None] | None = None
        # That of the row of which the follower knows.
        self._version = 0
        # Whether the follower has found out something that the others do not know yet.
        self._unsent = False
        # What is to be done, after what is unsent.
        self._look = False
        self._claiming = False
        self._releasing = False
        # Whether the others wait for what this server finds out.
        self._holds = False
        self._renewal: IDelayedCall | None = None
        self._busy = False
        self._recovering = False
        self._stopped = False

    # The `SharedOutage`.

    def follow(self, follower: OutageFollower, /) -> Deferred[None] | None:
        """
        Tell `follower` of outages; see `SharedOutage.follow`.
        """
        self._follower = follower
        self._known = Deferred()
        self.look()
        return self._known

    def publish(self) -> None:
        """
        Report what the follower has found out.
        """
        self._unsent = True
        self._claiming = False
        self._stop_renewing()
        self._next()

    def claim_probe(self) -> None:
        """
        Ask for permission to probe the agent.
        """
        self._claiming = True
        self._releasing = False
        self._next()

    def release_probe(self) -> None:
        """
        Let another server probe the agent.
        """
        self._claiming = False
        if self._holds:
            self._stop_renewing()
            self._releasing = True
            self._next()

    def stop(self) -> None:
        """
        Tell no more than what is under way; let another server probe the agent.
        """
        self.release_probe()
        self._stopped = True

    def look(self) -> None:
        """
        Read the row, because it may have changed.
        """
        if self._follower is not None and not self._stopped:
            self._look = True
            self._next()

    # The statements, one after the other.

    def _next(self) -> None:
        """
        Start the next statement, unless one is running.
        """
        if self._busy or (self._recovering and not self._claiming):
            return
        if self._recovering:
            self._allow()
        elif self._unsent:
            self._send()
        elif self._claiming:
            self._run(self._statements.claim(self._lease), self._claimed)
        elif self._releasing:
            self._releasing = False
            self._run(self._statements.release(), self._apply)
        elif self._look:
            self._run(self._statements.read(), self._apply, writes=False)

    def _send(self) -> None:
        assert self._follower is not None, "it has found out something"
        self._unsent = False
        # What it knows by now: an attempt to send this may have failed before.
        outage = self._follower.current_outage()
        if outage is not None:
            self._run(self._statements.report(outage), self._reported, self._not_sent)
        else:
            self._run(self._statements.end(self._version), self._apply, self._not_sent)

    def _not_sent(self) -> None:
        self._unsent = True

    def _run(
        self,
        statement: Statement,
        on_done: Callable[[Record | None], None],
        on_failed: Callable[[], None] = lambda: None,
        *,
        writes: bool = True,
    ) -> None:
        # Each returns the row as well.
        self._busy, self._look = True, False
        run = self._queue.write if writes else self._queue.read

        def done(record: Record | None) -> None:
            self._busy = False
            on_done(record)
            self._learned()
            self._next()

        def failed(failure: Failure) -> None:
            self._busy = False
            if failure.check(StorageUnavailable) is None:
                self._log.failure("an outage is not shared: internal error", failure)
            else:
                on_failed()
            self._recover()
            self._learned()
            self._next()

        run(statement).addCallbacks(done, failed).addErrback(self._on_bug)

    def _recover(self) -> None:
        """
        Wait until the database can be used again; until then this server is on its own.
        """
        if self._recovering or self._stopped:
            return
        self._recovering = True

        def recovered(result: object) -> None:
            self._recovering = False
            # It is closed if that has failed.
            self._look = not isinstance(result, Failure)
            if self._look and not self._stopped:
                self._next()

        self._queue.keep(self._statements.check).addBoth(recovered).addErrback(self._on_bug)

    def _on_bug(self, failure: Failure) -> None:
        self._busy = False
        self._log.failure("an outage is not shared: internal error", failure)

    def _learned(self) -> None:
        if self._known is not None:
            known, self._known = self._known, None
            known.callback(None)

    # What a row means.

    def _apply(self, record: Record | None) -> None:
        """
        Tell the follower what the row says, unless this server knows better.
        """
        if self._unsent or self._stopped or self._follower is None:
            return
        self._version = 0 if record is None else record.version
        if record is None or record.outage is None:
            self._stop_renewing()
            self._follower.learn(None, "" if record is None else record.reporter)
            return
        outage, is_own = record.outage, record.prober == self._statements.prober
        if record.prober and not is_own:
            outage = evolve(outage, delay=max(outage.delay, record.probe_left))
        if outage.delay > 0.0:
            self._stop_renewing()
            self._claiming = False
        elif is_own and not (self._holds or self._claiming):
            # The answer to a claim was lost, or its probe has ended meanwhile.
            self._releasing = True
        self._follower.learn(outage)

    def _reported(self, record: Record | None) -> None:
        """
        Take note of the row that contains what the follower knew, whatever it knows by now.
        """
        if record is not None:
            self._version = record.version
        self._apply(record)

    def _claimed(self, record: Record | None) -> None:
        """
        Begin the probe if it was granted.
        """
        if not self._claiming:
            # Not wanted any more: `_apply` finds that it is held all the same.
            self._apply(record)
        elif record is not None and record.prober == self._statements.prober:
            self._version = record.version
            self._allow()
        else:
            # It remains to be asked for if what prevented it has just passed.
            outage = None if record is None else record.outage
            self._claiming = outage is not None and outage.delay <= 0.0
            self._apply(record)

    def _allow(self) -> None:
        """
        Let the follower probe the agent.
        """
        assert self._follower is not None, "it has asked"
        self._claiming = False
        self._hold()
        self._follower.may_probe()

    def _hold(self) -> None:
        self._stop_renewing()
        self._holds = True
        self._renewal = self._clock.callLater(self._lease * _RENEWAL, self._renew)

    def _renew(self) -> None:
        """
        Ask for the same time once more, while the probe is going on.
        """
        self._renewal = None
        if self._busy or self._recovering:
            self._hold()
            return
        self._run(self._statements.claim(self._lease), self._renewed, self._not_renewed)

    def _renewed(self, record: Record | None) -> None:
        if self._holds and record is not None and record.prober == self._statements.prober:
            self._hold()
        self._apply(record)

    def _not_renewed(self) -> None:
        if self._holds:
            self._hold()

    def _stop_renewing(self) -> None:
        self._holds = False
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None


class AccountOutages:
    """
    Share the outages of one account: those of each of its agents.

    Args:
        clock: Schedules renewals of leases.
        queue: Runs the statements.
        notifications: Tell that a row has changed.
        account: The name of the account.
        server: The name of this server.
        lease: Seconds within which another server takes a probe over from one that is dead.
    """

    def __init__(
        self,
        clock: IReactorTime,
        queue: PostgresQueue,
        notifications: Notifications,
        account: str,
        server: str,
        lease: float,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._account = account
        self._server = server
        self._lease = lease * _PROBE_LEASE
        self._prober = token_hex(8)
        self._outages: list[AccountOutage] = []
        notifications.subscribe("account", self._changed)
        notifications.on_connected(self._look)

    def of(self, agent: str) -> AccountOutage:
        """
        Return what shares the outages of the account that `agent` uses.
        """
        statements = AccountStatements(self._account, agent, self._server, self._prober)
        outage = AccountOutage(self._clock, self._queue, statements, self._lease)
        self._outages.append(outage)
        return outage

    def _changed(self, account: str) -> None:
        if account == encode_text(self._account):
            self._look()

    def _look(self) -> None:
        for outage in self._outages:
            outage.look()
