"""
Tests for `kiroworkers.cluster.accounts`: an outage of an account stops and resumes all servers.
"""

from __future__ import annotations

import time
from functools import partial
from random import Random
from threading import Barrier, Thread
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.account_statements import AccountStatements, Record, Statement
from kiroworkers.cluster.accounts import AccountOutage, AccountOutages
from kiroworkers.errors import FailureKind
from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.pool.shared_outage import Outage
from tests import postgres
from tests.cluster.shared_servers import LEASE, SharedServer, World
from tests.jobs.support import HeldExecutor
from tests.memory import submit_to

#: What an agent says that is throttled for 30 seconds, suspended for 600, or logged out.
THROTTLED = "ThrottlingException"
SUSPENDED = "Your User ID (d-1) temporarily is suspended"
LOGGED_OUT = "Your login session has expired. Please log in again."


class OutageContract:
    """
    What is true of an outage whatever the database is.
    """

    world: World
    assertEqual: Any
    assertTrue: Any
    assertFalse: Any
    assertApproximates: Any
    assertIn: Any

    def three(self, **changes: Any) -> tuple[SharedServer, SharedServer, SharedServer]:
        """
        Start three servers, whose sessions are ready.
        """
        a, b, c = (self.world.add(name, **changes) for name in "abc")
        self.world.advance(1)
        return a, b, c

    def break_account(self, server: SharedServer, text: str = THROTTLED) -> None:
        """
        Let a request to `server` fail because of the account.
        """
        server.submit()
        self.world.settle()
        server.fail(text)
        self.world.settle()

    def states(self) -> list[str]:
        return [server.state for server in self.world.servers]

    def test_opens_everywhere(self) -> None:
        """
        An outage that one server's agent reports stops all servers for the same time, and each
        says who reported it.
        """
        a, b, c = self.three()
        with capturedLogs() as logs:
            self.break_account(a)
        self.assertEqual(self.states(), ["throttled"] * 3)
        for server in (a, b, c):
            self.assertApproximates(server.seconds_left, 30.0, 0.5)
            [error] = server.submit()
            self.assertEqual(error.kind, "throttled")
        by = [server.dispatcher.state().reported_by for server in (a, b, c)]
        self.assertEqual(by, [None, "a", "a"])
        lines = [formatEvent(event) for event in logs]
        own = "kiro: circuit open: throttled: ThrottlingException; next attempt in 30 s"
        self.assertEqual(lines.count(own), 1)
        learned = [line for line in lines if line.endswith("reported by the server a")]
        self.assertEqual(len(learned), 2)
        self.assertEqual(b.dispatcher.worker_pool.circuit_breaker.outages, {"other": 1})
        self.assertEqual((b.asked, c.asked), (0, 0))

    def test_one_probe(self) -> None:
        """
        When the delay is over, exactly one server asks its agent, and its success resumes all.
        """
        servers = self.three()
        self.break_account(servers[0])
        self.world.advance(31)
        self.assertEqual(self.states(), ["trying"] * 3)
        results = [server.submit() for server in servers for _ in range(2)]
        self.world.settle()
        self.assertEqual(sum(server.asked for server in servers), 2)
        self.assertEqual(sum(len(result) for result in results), 5)
        self.assertEqual({result[0].kind for result in results if result}, {"throttled"})
        for server in servers:
            server.answer()
        self.world.settle()
        self.assertEqual(self.states(), ["serving"] * 3)
        self.assertEqual(sum(len(result) for result in results), 6)
        later = [server.submit() for server in servers]
        self.world.settle()
        self.assertEqual((later, sum(server.asked for server in servers)), ([[]] * 3, 5))

    def test_failed_probe(self) -> None:
        """
        The failure of the probe stops all servers again, for twice as long, and for that long
        only.
        """
        a, b, _ = self.three()
        self.break_account(a)
        self.world.advance(31)
        self.break_account(b)
        self.assertEqual(self.states(), ["throttled"] * 3)
        for server in self.world.servers:
            self.assertApproximates(server.seconds_left, 60.0, 0.5)
        self.world.advance(61)
        self.break_account(a)
        self.assertApproximates(b.seconds_left, 120.0, 0.5)

    def test_counts_once(self) -> None:
        """
        Servers that report the same outage before they have heard of one another stop for the
        time of the first report, and it is doubled once.
        """
        a, b, c = self.three()
        self.world.delivers = False
        self.break_account(a)
        self.world.advance(5)
        self.break_account(b)
        self.break_account(c)
        self.world.delivers = True
        self.world.settle()
        for server in (a, b, c):
            self.assertApproximates(server.seconds_left, 25.0, 0.5)
        self.world.advance(26)
        self.break_account(c)
        self.assertApproximates(a.seconds_left, 60.0, 0.5)

    def test_worse_failure(self) -> None:
        """
        A failure of another kind that lasts longer replaces the outage everywhere.
        """
        a, b, _ = self.three()
        b.submit()
        self.break_account(a)
        b.fail(SUSPENDED)
        self.world.settle()
        self.assertEqual(self.states(), ["suspended"] * 3)
        self.assertApproximates(a.seconds_left, 600.0, 0.5)
        self.assertEqual(a.dispatcher.state().reported_by, "b")

    def test_long_probe(self) -> None:
        """
        A probe may last longer than its lease; nobody else probes meanwhile.
        """
        a, b, c = self.three()
        self.break_account(a)
        self.world.advance(31)
        probe = b.submit()
        self.world.advance(3 * LEASE)
        refused = [a.submit(), c.submit()]
        self.world.settle()
        self.assertEqual([len(results) for results in (probe, *refused)], [0, 1, 1])
        self.assertEqual((a.asked, b.asked, c.asked), (1, 1, 0))

    def test_prober_dies(self) -> None:
        """
        If the server that probes dies, another probes once the lease of the probe is over.
        """
        a, b, _ = self.three()
        self.break_account(a)
        self.world.advance(31)
        b.submit()
        self.world.settle()
        b.alive = False
        [error] = a.submit()
        self.assertTrue(0 < error.retry_after <= LEASE)
        self.world.advance(LEASE + 1)
        self.assertEqual(a.state, "trying")
        probe = a.submit()
        self.world.settle()
        self.assertEqual((probe, a.asked), ([], 2))

    def test_prober_stopped(self) -> None:
        """
        A prober that was stopped while another one took over and failed reopens nothing and
        closes nothing: its late answer is about the time before.
        """
        a, b, c = self.three()
        self.break_account(a)
        self.world.advance(31)
        b.submit()
        self.world.settle()
        b.alive = False
        self.world.advance(LEASE + 1)
        self.break_account(a)
        b.alive = True
        b.answer()
        self.world.settle()
        self.assertEqual(self.states(), ["throttled"] * 3)
        self.assertTrue(c.seconds_left > 50.0)

    def test_prober_gives_up(self) -> None:
        """
        If the probe ends without a result, another server may probe at once.
        """
        a, b, _ = self.three()
        self.break_account(a)
        self.world.advance(31)
        probe: Deferred[Any] = submit_to(b.dispatcher, "prompt")
        probe.addErrback(lambda _: None)
        self.world.settle()
        [_] = a.submit()
        probe.cancel()
        self.world.settle()
        self.assertEqual((a.submit(), self.states()), ([], ["trying"] * 3))
        self.world.settle()
        self.assertEqual((a.asked, b.asked), (2, 1))

    def test_new_server(self) -> None:
        """
        A server that starts during an outage knows of it before it starts a session.
        """
        a, _, _ = self.three()
        self.break_account(a)
        new = self.world.add("new")
        waiting = new.submit()
        self.assertEqual(waiting, [])
        self.world.settle()
        self.assertEqual((new.state, new.reactor.programs), ("throttled", []))
        self.assertEqual([error.kind for error in waiting], ["throttled"])
        self.assertEqual(new.dispatcher.state().reported_by, "a")
        self.world.advance(31)
        self.assertEqual(new.state, "trying")
        probe = new.submit()
        self.world.settle()
        self.assertEqual((probe, new.asked), ([], 1))
        new.answer()
        self.world.advance(1)
        self.assertEqual(self.states(), ["serving"] * 4)
        self.assertEqual(len(new.reactor.running), 2)

    def test_without_the_database(self) -> None:
        """
        Without the database each server judges by itself; afterwards the outage that lasts is
        known to all.
        """
        a, b, c = self.three()
        self.world.break_database()
        self.break_account(a)
        self.assertEqual(self.states(), ["throttled", "serving", "serving"])
        self.world.advance(31)
        self.assertEqual(a.state, "trying")
        self.break_account(a)
        self.assertApproximates(a.seconds_left, 60.0, 0.5)
        self.world.repair_database()
        self.world.advance(6)
        self.assertEqual(self.states(), ["throttled"] * 3)
        for server in (b, c):
            self.assertApproximates(server.seconds_left, a.seconds_left, 0.5)

    def test_reported_later(self) -> None:
        """
        An outage that could not be reported is reported once the database is back, with the time
        that is left.
        """
        a, b, _ = self.three()
        self.world.break_database()
        self.break_account(a, SUSPENDED)
        self.world.advance(60)
        self.world.repair_database()
        self.world.advance(6)
        self.assertEqual(self.states(), ["suspended"] * 3)
        self.assertApproximates(a.seconds_left, 534.0, 0.5)
        self.assertApproximates(b.seconds_left, 534.0, 0.5)

    def test_ends_without_the_database(self) -> None:
        """
        An outage whose end a server finds out without the database is over everywhere afterwards.
        """
        a, b, _ = self.three()
        self.break_account(a)
        self.world.break_database()
        self.world.advance(31)
        self.assertEqual(self.states(), ["trying"] * 3)
        b.submit()
        self.world.settle()
        b.answer()
        self.world.settle()
        self.assertEqual(self.states(), ["trying", "serving", "trying"])
        self.world.repair_database()
        self.world.advance(6)
        self.assertEqual(self.states(), ["serving"] * 3)

    def test_stale_end(self) -> None:
        """
        The end that a server found out without the database does not end an outage that others
        have reported since.
        """
        a, b, c = self.three()
        self.break_account(a)
        self.world.advance(31)
        # Only `b` is cut off: its statements do not run.
        b.submit()
        self.world.settle()
        self.assertEqual(b.asked, 1)
        self.world.advance(1)
        held, self.world.servers = self.world.servers, [a, c]
        b.answer()
        b.reactor.advance(0)
        self.assertEqual(b.state, "serving")
        self.world.advance(LEASE + 1)
        self.break_account(c)
        self.world.servers = held
        self.world.settle()
        self.assertEqual(self.states(), ["throttled"] * 3)


class MemoryTests(OutageContract, SynchronousTestCase):
    """
    Tests with a database in memory, and those that do not depend on the database.
    """

    def setUp(self) -> None:
        self.world = World()

    def test_waiting_requests(self) -> None:
        """
        Requests that wait on another server are refused as they are on this one.
        """
        a, b, _ = self.three()
        first = [b.submit(), b.submit()]
        waiting = b.submit()
        self.break_account(a)
        self.assertEqual([len(results) for results in first], [0, 0])
        self.assertEqual([error.kind for error in waiting], ["throttled"])

    def test_earlier_success(self) -> None:
        """
        A turn that began before the outage was known does not end it anywhere.
        """
        a, b, _ = self.three()
        results = b.submit()
        self.break_account(a)
        b.answer()
        self.world.settle()
        self.assertEqual(len(results), 1)
        self.assertEqual(self.states(), ["throttled"] * 3)

    def test_stopped_server(self) -> None:
        """
        A server that stops while it probes lets another probe at once.
        """
        a, b, _ = self.three()
        self.break_account(a)
        self.world.advance(31)
        b.submit()
        self.world.settle()
        b.dispatcher.stopService()
        self.world.settle()
        probe = a.submit()
        self.world.settle()
        self.assertEqual((probe, a.asked), ([], 2))

    def test_withdrawn_claim(self) -> None:
        """
        A request that is cancelled while its server asks for permission leaves nothing behind.
        """
        a, b, _ = self.three()
        self.break_account(a)
        self.world.advance(31)
        probe: Deferred[Any] = submit_to(b.dispatcher, "prompt")
        probe.addErrback(lambda _: None)
        probe.cancel()
        self.world.settle()
        other = a.submit()
        self.world.settle()
        self.assertEqual((other, a.asked, b.asked), ([], 2, 0))

    def test_login(self) -> None:
        """
        While nobody is logged in, one server at a time checks the login; its success resumes all.
        """
        servers = self.three(has_login_check=True)
        self.break_account(servers[0], LOGGED_OUT)
        self.assertEqual(self.states(), ["login_expired"] * 3)
        self.world.advance(3 * 61)
        self.assertEqual(sum(server.checks for server in servers), 3)
        for server in servers:
            server.logged_in = True
        self.world.advance(61)
        self.assertEqual(sum(server.checks for server in servers), 4)
        self.assertEqual(self.states(), ["serving"] * 3)

    def test_failure_at_start(self) -> None:
        """
        If sessions cannot start because of the account, one server starts one, and its success
        resumes all.
        """
        servers = self.three(workers=1)
        for server in servers:
            server.starts_with = SUSPENDED
            server.end_session()
        self.world.advance(10)
        self.assertEqual(self.states(), ["suspended"] * 3)
        started = [len(server.reactor.programs) for server in servers]
        for server in servers:
            server.starts_with = ""
        self.world.settle()
        self.world.advance(600 - 30)
        self.assertEqual([len(server.reactor.programs) for server in servers], started)
        probes: list[int] = []
        while "suspended" in self.states() or "trying" in self.states():
            before = sum(len(server.reactor.programs) for server in servers)
            self.world.advance(1)
            probes.append(sum(len(server.reactor.programs) for server in servers) - before)
        # The first to start is the probe, and its success lets the others start.
        self.assertEqual(self.states(), ["serving"] * 3)
        starts = [len(server.reactor.programs) for server in servers]
        self.assertEqual(sum(starts) - sum(started), 3)

    def test_new_server_after_the_delay(self) -> None:
        """
        A server that starts when the delay is over starts one session, whose request may probe.
        """
        a, _, _ = self.three()
        self.break_account(a)
        self.world.advance(31)
        new = self.world.add("new")
        self.world.settle()
        self.assertEqual(new.state, "trying")
        probe, refused = new.submit(), new.submit()
        self.world.settle()
        self.assertEqual((len(probe), len(refused), new.asked), (0, 1, 1))

    def test_new_server_without_an_outage(self) -> None:
        """
        A server that starts after an outage serves.
        """
        a, b, _ = self.three()
        self.break_account(a)
        self.world.advance(31)
        b.submit()
        self.world.settle()
        b.answer()
        self.world.settle()
        new = self.world.add("new")
        self.world.advance(1)
        self.assertEqual(new.state, "serving")

    def test_starts_without_the_database(self) -> None:
        """
        A server that starts without the database serves.
        """
        self.world.break_database()
        new = self.world.add("new")
        self.world.advance(6)
        self.assertEqual(new.state, "serving")
        results = new.submit()
        self.world.settle()
        self.assertEqual((results, new.asked), ([], 1))

    def test_report_before_a_row(self) -> None:
        """
        A row that was read before the server's own report does not close its circuit.
        """
        a = self.world.add("a")
        self.world.advance(1)
        a.submit()
        a.reactor.advance(0)
        a.outage.look()
        read = a.executor.held
        assert read is not None
        a.fail(THROTTLED)
        a.reactor.advance(0)
        read()
        a.reactor.advance(0)
        self.assertEqual(a.state, "throttled")
        self.world.settle()
        self.assertEqual(a.state, "throttled")

    def test_idle(self) -> None:
        """
        Nobody asks the database for anything while nothing happens, during an outage or not.
        """
        a, _, _ = self.three()
        self.world.accounts.statements.clear()
        self.world.advance(60)
        self.assertEqual(self.world.accounts.statements, [])
        self.break_account(a)
        self.world.accounts.statements.clear()
        self.world.advance(300)
        self.assertEqual(self.world.accounts.statements, [])

    def test_lease_ends_with_a_refusal(self) -> None:
        """
        A server that is refused at the moment at which the reason ends asks again.
        """
        a, b, _ = self.three()
        self.break_account(a)
        self.world.advance(31)
        a.submit()
        self.world.settle()
        a.alive = False
        b.reactor.advance(LEASE)
        probe = b.submit()
        self.world.accounts.pause = LEASE
        self.world.settle()
        self.assertEqual((probe, b.asked), ([], 1))

    def test_any_order(self) -> None:
        """
        Whatever happens in any order, at most one server probes at a time, every request ends, and
        in the end all servers agree.
        """
        for seed in range(6):
            Simulation(self, seed, has_faults=seed % 2 == 1).run(60)

    def test_bug(self) -> None:
        """
        An unexpected error is logged, and leaves the server on its own.
        """
        a = self.world.add("a")
        self.world.advance(1)
        self.world.accounts.error = ValueError("a bug")  # type: ignore[assignment]
        self.break_account(a)
        self.assertEqual(a.state, "throttled")
        self.world.advance(31)
        probe = a.submit()
        self.world.settle()
        self.assertEqual((probe, a.asked), ([], 2))
        self.assertTrue(self.flushLoggedErrors(ValueError))


class Simulation:
    """
    Let things happen in a random order to servers whose account sometimes cannot be used.

    Args:
        case: The test.
        seed: The seed of the order.
        has_faults: Whether servers and the database stop sometimes.
    """

    def __init__(self, case: MemoryTests, seed: int, has_faults: bool) -> None:
        self.has_faults = has_faults
        self.case, self.seed, self.random = case, seed, Random(seed)
        self.world = World()
        self.servers = [self.world.add(name) for name in "abc"]
        self.world.advance(1)
        self.results: list[list[Any]] = []
        self.works = True
        self.log: list[str] = []

    def run(self, steps: int) -> None:
        actions = [
            self.submit,
            self.submit,
            self.answer,
            self.advance,
            self.advance,
            self.toggle_account,
            self.toggle_notifications,
            self.look,
        ]
        if self.has_faults:
            actions += [self.toggle_server, self.toggle_database]
        for _ in range(steps):
            action = self.random.choice(actions)
            self.log.append(action.__name__)
            action()
            self.check()
        self.end()

    def submit(self) -> None:
        server = self.random.choice(self.servers)
        if server.alive:
            self.results.append(server.submit())
            server.reactor.advance(0)
            self.maybe_settle()

    def answer(self) -> None:
        server = self.random.choice(self.servers)
        if server.alive:
            if self.works:
                server.answer()
            else:
                server.fail(THROTTLED)
            self.maybe_settle()

    def advance(self) -> None:
        self.world.advance(self.random.choice([0.1, 1, 6, 16, 31, 100]))

    def toggle_account(self) -> None:
        self.works = not self.works

    def toggle_server(self) -> None:
        server = self.random.choice(self.servers)
        server.alive = not server.alive

    def toggle_database(self) -> None:
        if self.world.accounts.error is None:
            self.world.break_database()
        else:
            self.world.repair_database()

    def toggle_notifications(self) -> None:
        self.world.delivers = not self.world.delivers
        if self.world.delivers:
            self.look()

    def look(self) -> None:
        for server in self.servers:
            server.outage.look()

    def maybe_settle(self) -> None:
        if self.random.random() < 0.7:
            self.world.settle()

    def check(self) -> None:
        """
        Check that one server probes at most, unless one that does may have stopped.
        """
        if self.has_faults:
            return
        probing = [
            server
            for server in self.servers
            for request in server.dispatcher._requests
            if request.probe is not None and request.probe.active and request.worker is not None
        ]
        self.case.assertTrue(len(probing) <= 1, (self.seed, self.log))

    def end(self) -> None:
        """
        Let everything work again, and check that all servers and requests recover.
        """
        self.works = self.world.delivers = True
        self.world.repair_database()
        for server in self.servers:
            server.alive = True
        self.look()
        self.world.advance(10)
        for _ in range(40):
            for server in self.servers:
                server.answer()
            self.world.advance(10)
            for server in self.servers:
                server.submit()
            self.world.settle()
            states = {server.state for server in self.servers}
            if states == {"serving"}:
                break
        self.case.assertEqual(states, {"serving"}, (self.seed, self.log))
        self.world.advance(150)
        for results in self.results:
            self.case.assertEqual(len(results), 1, (self.seed, self.log))


class PostgresWorld(World):
    """
    Servers that share a real database.

    Its clock cannot be set; time passes when the row's times are made earlier.
    """

    def __init__(self, case: postgres.SynchronousDatabaseTestCase) -> None:
        super().__init__()
        self._case = case
        self._connection = case.connect()
        self._listener = case.connect()
        self._listener.add_notify_handler(lambda notification: self._note(notification.payload))
        self._listener.execute("LISTEN kiroworkers")
        self.payloads: list[str] = []
        self._passed = 0.0
        self._cutters: list[postgres.Cutter] = []

    def _note(self, payload: str) -> None:
        self.payloads.append(payload)

    def new_outage(self, name: str, reactor: Any, executor: HeldExecutor) -> AccountOutage:
        from kiroworkers.cluster.engine import PostgresEngine, PostgresQueue

        cutter = postgres.Cutter(self._case.postgres.port)
        self._case.addCleanup(cutter.close)
        self._cutters.append(cutter)
        address = self._case.postgres.address(self._case.database, port=cutter.port)
        engine = PostgresEngine(f"{address}?connect_timeout=2", 5.0)
        self._case.addCleanup(engine.close)
        queue = PostgresQueue(reactor, time.time, executor, engine)
        return AccountOutage(
            reactor, queue, AccountStatements("team", "kiro", name, f"prober {name}"), LEASE
        )

    def notified(self) -> bool:
        self._listener.execute("SELECT 1")
        payloads, self.payloads = self.payloads, []
        return "account team" in payloads

    def break_database(self) -> None:
        for cutter in self._cutters:
            cutter.cut()
        # A server that is added later.
        self._case.addCleanup(setattr, self, "_cutters", [])

    def repair_database(self) -> None:
        for cutter in self._cutters:
            cutter.heal()

    def pass_time(self, seconds: float) -> None:
        self._passed += seconds

    def before_statement(self) -> None:
        passed, self._passed = self._passed, 0.0
        if passed:
            self._connection.execute(
                "UPDATE accounts SET until = until - make_interval(secs => %s), "
                "probe_until = probe_until - make_interval(secs => %s)",
                (passed, passed),
            )


class PostgresTests(OutageContract, postgres.SynchronousDatabaseTestCase):
    """
    Tests with a real database.
    """

    def setUp(self) -> None:
        super().setUp()
        self.world = PostgresWorld(self)


class ConcurrencyTests(postgres.SynchronousDatabaseTestCase):
    """
    Tests for statements of many servers at the same time.
    """

    def run_together(self, *statements: Statement) -> list[Record]:
        """
        Run each statement on a connection of its own, all at the same time.
        """
        records: list[Record] = []
        barrier = Barrier(len(statements))

        def run(statement: Statement, connection: Any) -> None:
            barrier.wait()
            record = statement(connection)
            assert record is not None
            records.append(record)

        threads = [Thread(target=run, args=(statement, self.connect())) for statement in statements]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return records

    def servers(self) -> list[AccountStatements]:
        return [AccountStatements("team", "kiro", f"s{n}", f"prober {n}") for n in range(10)]

    def test_one_report_counts(self) -> None:
        """
        Of reports of the same outage at the same time, one counts, and all servers learn of it.
        """
        outage = Outage(FailureKind.THROTTLED, "no", False, 1, 30.0)
        records = self.run_together(*(server.report(outage) for server in self.servers()))
        self.assertEqual({record.version for record in records}, {1})
        reporters = [record.reporter for record in records]
        self.assertEqual(reporters.count(""), 1)
        self.assertEqual(len(set(reporters)), 2)

    def test_one_claim_is_granted(self) -> None:
        """
        Of claims at the same time, one is granted, and the others learn by whom it is held.
        """
        servers = self.servers()
        connection = self.connect()
        servers[0].report(Outage(FailureKind.THROTTLED, "no", False, 1, 0.0))(connection)
        for _ in range(5):
            records = self.run_together(*(server.claim(LEASE) for server in servers))
            [prober] = {record.prober for record in records}
            self.assertIn(prober, {server.prober for server in servers})
            for server in servers:
                server.release()(connection)

    def test_texts(self) -> None:
        """
        Any text that an agent prints can be shared, also one that PostgreSQL cannot store.
        """
        [server, other, *_] = self.servers()
        text = "\0 \ud800 \\u0000 é"
        connection = self.connect()
        server.report(Outage(FailureKind.THROTTLED, text, True, 3, 30.0, True))(connection)
        record = other.read()(connection)
        assert record is not None
        assert record.outage is not None
        self.assertApproximates(record.outage.delay, 30.0, 1.0)
        expected = Outage(FailureKind.THROTTLED, text, True, 3, 0.0, reported_by="s0")
        self.assertEqual(evolve(record.outage, delay=0.0), expected)

    def test_unknown_kind(self) -> None:
        """
        An outage of a kind that only a later version knows is none for this one.
        """
        server, connection = self.servers()[0], self.connect()
        server.report(Outage(FailureKind.THROTTLED, "no", False, 1, 30.0))(connection)
        connection.execute("UPDATE accounts SET kind = 'of a later version'")
        record = server.read()(connection)
        assert record is not None
        self.assertIdentical(record.outage, None)

    def test_other_accounts(self) -> None:
        """
        Other agents and other accounts have outages of their own.
        """
        connection = self.connect()
        outage = Outage(FailureKind.THROTTLED, "no", False, 1, 30.0)
        self.servers()[0].report(outage)(connection)
        for account, agent in (("team", "claude"), ("other", "kiro")):
            statements = AccountStatements(account, agent, "s1", "prober")
            self.assertIdentical(statements.read()(connection), None)


class _Follower:
    """
    A circuit breaker that remembers what it has learned.
    """

    def __init__(self) -> None:
        self.outage: Outage | None = None
        self.learned: Deferred[Outage | None] = Deferred()

    def learn(self, outage: Outage | None, ended_by: str = "", /) -> None:
        if outage is None and self.outage is None:
            return
        self.outage = outage
        learned, self.learned = self.learned, Deferred()
        learned.callback(outage)

    def may_probe(self) -> None:
        raise AssertionError("it has not asked")

    def current_outage(self) -> Outage | None:
        return self.outage


class NotificationTests(postgres.DatabaseTestCase):
    """
    Tests with real connections, threads and notifications.
    """

    timeout = 60.0

    async def test_all_learn(self) -> None:
        """
        Servers learn of an outage and of its end by notifications alone.
        """
        from twisted.internet import reactor

        from kiroworkers.cluster.engine import PostgresEngine, PostgresQueue
        from kiroworkers.cluster.notifications import Notifications

        followers = []
        shared = []
        for name in "abc":
            engine = PostgresEngine(self.address, 5.0)
            queue = PostgresQueue(reactor, time.time, ThreadExecutor(reactor), engine)
            self.addCleanup(queue.close)
            notifications = Notifications(reactor, self.address, 5.0)
            connected: Deferred[None] = Deferred()
            notifications.on_connected(partial(connected.callback, None))
            outages = AccountOutages(reactor, queue, notifications, "team", name, LEASE)
            notifications.startService()
            self.addCleanup(notifications.stopService)
            outage, follower = outages.of("kiro"), _Follower()
            known = outage.follow(follower)
            assert known is not None
            await known
            await connected
            followers.append(follower)
            shared.append(outage)
        a, b, c = followers
        a.outage = Outage(FailureKind.THROTTLED, "no", False, 1, 30.0)
        learning = [b.learned, c.learned]
        shared[0].publish()
        for outage_learned in [await learned for learned in learning]:
            assert outage_learned is not None
            self.assertEqual(outage_learned.reported_by, "a")
            self.assertApproximates(outage_learned.delay, 30.0, 1.0)
        b.outage = None
        shared[1].publish()
        for follower in (a, c):
            # One of them learns of its own report first.
            while follower.outage is not None:
                await follower.learned
