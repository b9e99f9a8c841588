"""
Servers that share the outages of an account, with agents and a database in memory or a real one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from kiroworkers.classic import drawing as classic
from kiroworkers.cluster.account_statements import Record, Statement
from kiroworkers.cluster.accounts import AccountOutage
from kiroworkers.jobs.operation_queue import Operation, OperationQueue
from kiroworkers.pool.circuit_breaker import LoginPolicy
from kiroworkers.pool.shared_outage import Outage
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.jobs.support import HeldExecutor
from tests.memory import dispatcher_in, results_of, submit_to

#: Seconds for which a server may probe the account without asking again.
LEASE = 15.0


@define
class MemoryRow:
    """
    What the servers know about the account; the times are those of the database's clock.
    """

    version: int
    outage: Outage | None
    until: float
    reporter: str
    prober: str = ""
    probe_until: float = 0.0


class MemoryAccounts:
    """
    A database with one account.

    Attributes:
        clock: Its clock.
        error: What every statement that writes fails with; None while it works.
        notifications: The number of those that were sent and not passed on yet.
        statements: The names of the statements that were run.
        pause: The seconds that pass within the next statement, before it returns the row.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.error: OSError | None = None
        self.notifications = 0
        self.statements: list[str] = []
        self.pause = 0.0
        self._row: MemoryRow | None = None

    def run(self, name: str, change: Callable[[MemoryRow | None, float], MemoryRow | None]) -> None:
        """
        Change the row; `change` returns None if nothing changes.
        """
        if self.error is not None:
            raise self.error
        self.statements.append(name)
        row = change(self._row, self.clock.seconds())
        if row is not None:
            self._row = row
            self.notifications += 1

    def record(self, server: str) -> Record | None:
        """
        Return the row as `server` reads it.
        """
        self.clock.advance(self.pause)
        self.pause = 0.0
        row, now = self._row, self.clock.seconds()
        if row is None:
            return None
        reporter = "" if row.reporter == server else row.reporter
        outage = row.outage
        if outage is not None:
            outage = evolve(outage, delay=max(0.0, row.until - now), reported_by=reporter)
        left = max(0.0, row.probe_until - now)
        return Record(row.version, outage, reporter, row.prober if left else "", left)


class MemoryStatements:
    """
    The statements about the account in a `MemoryAccounts`; these are `Statements`.
    """

    def __init__(self, server: str) -> None:
        self.prober = f"prober {server}"
        self._server = server

    def read(self) -> Statement:
        return self._statement("read", lambda row, now: None)

    def report(self, outage: Outage) -> Statement:
        def change(row: MemoryRow | None, now: float) -> MemoryRow | None:
            until = now + outage.delay
            if row is not None and row.outage is not None and row.until > now:
                differs = row.outage.kind is not outage.kind or outage.named
                if not (differs and until > row.until):
                    return None
            version = 1 if row is None else row.version + 1
            return MemoryRow(version, outage, until, self._server)

        return self._statement("report", change)

    def end(self, version: int) -> Statement:
        def change(row: MemoryRow | None, now: float) -> MemoryRow | None:
            if row is None or row.version != version or row.outage is None:
                return None
            return MemoryRow(version + 1, None, now, self._server)

        return self._statement("end", change)

    def claim(self, seconds: float) -> Statement:
        def change(row: MemoryRow | None, now: float) -> MemoryRow | None:
            if row is None or row.outage is None or row.until > now:
                return None
            if row.probe_until > now and row.prober not in ("", self.prober):
                return None
            return evolve(row, prober=self.prober, probe_until=now + seconds)

        return self._statement("claim", change)

    def release(self) -> Statement:
        def change(row: MemoryRow | None, now: float) -> MemoryRow | None:
            if row is None or row.prober != self.prober:
                return None
            return evolve(row, prober="", probe_until=0.0)

        return self._statement("release", change)

    def check(self, accounts: MemoryAccounts) -> None:
        accounts.run("check", lambda row, now: None)

    def _statement(
        self, name: str, change: Callable[[MemoryRow | None, float], MemoryRow | None]
    ) -> Statement:
        def run(accounts: MemoryAccounts) -> Record | None:
            accounts.run(name, change)
            return accounts.record(self._server)

        return run


class MemoryEngine:
    """
    Run operations on a `MemoryAccounts`; this is an `Engine`.
    """

    stall_timeout = 5.0
    max_batch = 100

    def __init__(self, accounts: MemoryAccounts) -> None:
        self._accounts = accounts

    def run_together(self, batch: Sequence[Operation[Any]]) -> None:
        for operation in batch:
            try:
                operation.result = operation.function(self._accounts)
            except Exception:
                operation.result = Failure()

    run_each = run_together

    def probe(self, accounts: MemoryAccounts, /) -> None:
        accounts.run("probe", lambda row, now: None)

    def is_storage_error(self, error: Exception) -> bool:
        return isinstance(error, OSError)

    def reason(self, error: Exception) -> str:
        return str(error)

    def upkeep(self) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


class SharedServer:
    """
    A server with one agent, which answers when the test says so.

    Attributes:
        name: Its name.
        reactor: Its clock and its agents' processes.
        executor: Runs its statements, when the test says so or in `World.settle`.
        logged_in: What its login check finds out.
        checks: How often it did.
        alive: Whether its time goes on.
    """

    def __init__(
        self,
        name: str,
        new_outage: Callable[[Any, HeldExecutor], AccountOutage],
        *,
        has_login_check: bool = False,
        **changes: Any,
    ) -> None:
        self.name = name
        self.reactor = MemoryReactor(self._new_program)
        self.executor = HeldExecutor()
        self.starts_with = ""
        self.logged_in, self.checks = False, 0
        self.alive = True
        self.outage = new_outage(self.reactor, self.executor)
        login = LoginPolicy(self._check, 60.0) if has_login_check else LoginPolicy()
        self.dispatcher = dispatcher_in(
            self.reactor, shared_outage=self.outage, login=login, **{"workers": 2, **changes}
        )
        self.dispatcher.startService()

    @property
    def state(self) -> str:
        return self.dispatcher.state().name

    @property
    def asked(self) -> int:
        """
        Return the number of prompts that its agents received.
        """
        lines = [line for program in self.reactor.programs for line in program.typed]
        return lines.count("prompt")

    @property
    def seconds_left(self) -> float:
        """
        Return the seconds until the agent may be probed.
        """
        outage = self.dispatcher.worker_pool.circuit_breaker.current_outage()
        assert outage is not None
        return outage.delay

    def submit(self) -> list[Any]:
        """
        Send a request, and return a list that gets its result.
        """
        return results_of(submit_to(self.dispatcher, "prompt"))

    def answer(self) -> None:
        """
        Answer every running turn.
        """
        for program in self._answering():
            program.say("answer")

    def fail(self, text: str) -> None:
        """
        Let every running turn fail, and show a prompt.
        """
        for program in self._answering():
            program.print(f"{classic.SPINNER_GONE}{text}\n\n")
            program.show_prompt()

    def end_session(self, number: int = 0) -> None:
        """
        Let the process of a session end that has not been asked.
        """
        self.reactor.programs[number].process.end(signal=9)

    def _answering(self) -> list[Any]:
        running = self.reactor.running
        return [
            program
            for program in list(self.reactor.programs)
            if program.answering and program.process.pid in running
        ]

    def _new_program(self) -> MemoryKiro:
        return FailsAtStart(self.starts_with) if self.starts_with else MemoryKiro(lambda _: None)

    def _check(self) -> Any:
        self.checks += 1
        return succeed(self.logged_in)


class FailsAtStart(MemoryKiro):
    """
    A program that prints a text instead of a prompt, and exits.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def begin(self) -> None:
        self.print(f"{self._text}\n")
        self.process.reactor.callLater(0, self.process.end, 1)


class World:
    """
    Servers that share a `MemoryAccounts`; `settle` lets everything happen that can.
    """

    def __init__(self) -> None:
        self.accounts = MemoryAccounts()
        self.servers: list[SharedServer] = []
        self.delivers = True

    def add(self, name: str, **changes: Any) -> SharedServer:
        """
        Start a server.
        """
        server = SharedServer(name, lambda *parts: self.new_outage(name, *parts), **changes)
        self.servers.append(server)
        return server

    def new_outage(self, name: str, reactor: Any, executor: HeldExecutor) -> AccountOutage:
        queue: OperationQueue[Any] = OperationQueue(
            reactor, time.time, executor, MemoryEngine(self.accounts)
        )
        return AccountOutage(reactor, queue, MemoryStatements(name), LEASE)

    def settle(self) -> None:
        """
        Run statements and pass on notifications until nothing is left to do.
        """
        running = True
        while running:
            running = False
            for server in self.servers:
                if not server.alive:
                    continue
                server.reactor.advance(0)
                while server.executor.held is not None:
                    self.before_statement()
                    server.executor.run()
                    server.reactor.advance(0)
                    running = True
            if running and self.delivers and self.notified():
                for server in self.servers:
                    server.outage.look()

    def before_statement(self) -> None:
        """
        Prepare the database for a statement that is about to run.
        """

    def notified(self) -> bool:
        """
        Return whether there were notifications since the last call.
        """
        notifications, self.accounts.notifications = self.accounts.notifications, 0
        return notifications > 0

    def break_database(self) -> None:
        """
        Let every statement fail.
        """
        self.accounts.error = OSError("the database is gone")

    def repair_database(self) -> None:
        """
        Let statements work again.
        """
        self.accounts.error = None

    def pass_time(self, seconds: float) -> None:
        """
        Let the database's time pass.
        """
        self.accounts.clock.advance(seconds)

    def advance(self, seconds: float) -> None:
        """
        Let time pass for the database and for all servers that are alive.
        """
        self.settle()
        steps = max(1, round(seconds))
        for _ in range(steps):
            self.pass_time(seconds / steps)
            for server in self.servers:
                if server.alive:
                    server.reactor.advance(seconds / steps)
            self.settle()
