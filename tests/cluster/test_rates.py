"""
Tests for `kiroworkers.cluster.rates`: a client's requests are counted across servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
from typing import Any

from attrs import frozen
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.rates import SharedRates, count_requests
from kiroworkers.jobs.operation_queue import OperationQueue
from kiroworkers.web.rate_limiter import RateLimiter
from tests import postgres
from tests.cluster.shared_servers import MemoryAccounts, MemoryEngine
from tests.jobs.support import HeldExecutor

#: A bucket of five requests that regains one every two seconds.
PER_MINUTE, BURST, INTERVAL = 30, 5, 2.0


@frozen
class Server:
    """
    What limits the requests to one server.
    """

    limiter: RateLimiter
    executor: HeldExecutor

    def take(self, client: str = "a", times: int = 1) -> int:
        """
        Send requests of `client`, and return how many are allowed.
        """
        return sum(self.limiter.take(client) == 0 for _ in range(times))


class MemoryRates:
    """
    The buckets of all clients, as the database has them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.full_at: dict[str, float] = {}
        self.told: list[Mapping[str, float]] = []
        self.tidied = 0

    def count(
        self, accounts: MemoryAccounts, costs: Mapping[str, float], depth: float, tidy: bool
    ) -> dict[str, float]:
        accounts.run("count", lambda row, now: None)
        now = self._clock.seconds()
        self.told.append(costs)
        self.tidied += tidy
        for client, cost in costs.items():
            after = max(now, self.full_at.get(client, now)) + cost
            self.full_at[client] = min(after, now + 2 * depth)
        return {client: self.full_at[client] - now for client in costs}


class SharedRatesTests(SynchronousTestCase):
    """
    Tests for `SharedRates`, whose statements run when the test says so.
    """

    def setUp(self) -> None:
        self.clock, self.accounts = Clock(), MemoryAccounts()
        self.rates = MemoryRates(self.clock)

    def add(self) -> Server:
        executor = HeldExecutor()
        queue: OperationQueue[Any] = OperationQueue(
            self.clock, self.clock.seconds, executor, MemoryEngine(self.accounts)
        )
        limiter = RateLimiter(self.clock, PER_MINUTE, BURST)
        SharedRates(self.clock, queue, self.rates.count).share(limiter)
        return Server(limiter, executor)

    def settle(self, *servers: Server) -> None:
        """
        Run all statements, one at a time.
        """
        for server in servers:
            while server.executor.held is not None:
                server.executor.run()
                self.clock.advance(0)

    def test_other_server(self) -> None:
        """
        What a client has sent to one server counts on another one as soon as that has told the
        database of a request.
        """
        first, second = self.add(), self.add()
        self.assertEqual(first.take(times=4), 4)
        self.settle(first)
        self.assertEqual(second.take(), 1)
        self.settle(second)
        self.assertEqual(second.take(), 0)
        self.assertEqual(second.limiter.take("a"), 2)
        self.assertEqual(second.take("b"), 1)

    def test_together(self) -> None:
        """
        What is counted while a statement is under way is told by one statement after it.
        """
        server = self.add()
        server.take("a", 2)
        server.take("b")
        server.take("a")
        self.settle(server)
        self.assertEqual(self.rates.told, [{"a": 2.0}, {"a": 4.0, "b": 2.0}])

    def test_counted_meanwhile(self) -> None:
        """
        A response that does not include the last requests does not hide them.
        """
        first, second = self.add(), self.add()
        first.take(times=2)
        self.settle(first)
        second.take(times=3)
        second.executor.run()
        self.assertEqual(second.take(times=3), 0)

    def test_one_after_another(self) -> None:
        """
        A client that sends to all servers in turn, as often as they let it, gets its rate and no
        more than one request of each server above that.
        """
        servers = [self.add() for _ in range(3)]
        allowed, seconds = 0, 600
        for step in range(seconds * 5):
            server = servers[step % 3]
            allowed += server.take()
            self.settle(*servers)
            self.clock.advance(0.2)
        rate = seconds / INTERVAL
        self.assertTrue(rate <= allowed <= rate + BURST + 3, allowed)

    def test_at_the_same_time(self) -> None:
        """
        What servers let through before they have heard of one another is owed: a client that
        always sends to all at once gets no more than its rate in the long run.
        """
        servers = [self.add() for _ in range(3)]
        allowed, seconds = 0, 600
        for _ in range(seconds * 5):
            allowed += sum(server.take() for server in servers)
            self.settle(*servers)
            self.clock.advance(0.2)
        rate = seconds / INTERVAL
        self.assertTrue(0.95 * rate <= allowed <= rate + 3 * BURST, allowed)

    def test_bounded_debt(self) -> None:
        """
        A client waits at most until its bucket was refilled twice.
        """
        servers = [self.add() for _ in range(10)]
        self.assertEqual(sum(server.take(times=9) for server in servers), 50)
        self.settle(*servers)
        waits = {server.limiter.take("a") for server in servers[2:]}
        self.assertEqual(waits, {12})
        self.clock.advance(12)
        self.assertEqual(servers[9].take(times=2), 1)

    def test_without_the_database(self) -> None:
        """
        Without the database each server limits what it has counted, and is not more lenient
        afterwards.
        """
        first, second = self.add(), self.add()
        self.accounts.error = OSError("gone")
        self.assertEqual((first.take(times=9), second.take(times=4)), (5, 4))
        self.settle(first, second)
        self.assertEqual((first.take(), second.take()), (0, 1))
        self.settle(first, second)
        self.accounts.error = None
        self.clock.advance(INTERVAL)
        self.settle(first, second)
        self.assertEqual(first.take(times=2), 1)
        self.settle(first)
        self.assertEqual((first.take(), self.rates.told), (0, [{"a": 2.0}]))

    def test_many_clients(self) -> None:
        """
        A statement tells of at most 500 clients.
        """
        server = self.add()
        for number in range(1200):
            server.take(str(number))
        self.settle(server)
        self.assertEqual([len(told) for told in self.rates.told], [1, 500, 500, 199])

    def test_tidies(self) -> None:
        """
        Full buckets are forgotten once a minute, while requests are counted.
        """
        server = self.add()
        for _ in range(150):
            server.take()
            self.settle(server)
            self.clock.advance(1)
        self.assertEqual(self.rates.tidied, 2)

    def test_bug(self) -> None:
        """
        An unexpected error is logged, and the limits of this server remain.
        """
        server = self.add()
        self.accounts.error = ValueError("a bug")  # type: ignore[assignment]
        self.assertEqual(server.take(times=9), 5)
        self.settle(server)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(server.take(), 0)


class PostgresTests(postgres.SynchronousDatabaseTestCase):
    """
    Tests with a real database.
    """

    def setUp(self) -> None:
        super().setUp()
        self.connection = self.connect()

    def level(self, cost: float) -> float:
        return count_requests(self.connection, {"a": cost}, 1000.0)["a"]

    def test_count(self) -> None:
        """
        The costs of a client's requests add up, and time pays them back.
        """
        self.assertApproximates(self.level(200.0), 200.0, 5.0)
        self.assertApproximates(self.level(300.0), 500.0, 5.0)
        self.connection.execute("UPDATE rates SET full_at = full_at - interval '400 s'")
        self.assertApproximates(self.level(50.0), 150.0, 5.0)
        self.connection.execute("UPDATE rates SET full_at = full_at - interval '1 h'")
        self.assertApproximates(self.level(100.0), 100.0, 5.0)

    def test_bounded(self) -> None:
        """
        A client owes at most one bucket more than there is.
        """
        self.assertApproximates(self.level(10_000.0), 2000.0, 5.0)
        self.assertApproximates(self.level(10_000.0), 2000.0, 5.0)

    def test_names(self) -> None:
        """
        Any name of a client can be counted, also one that PostgreSQL cannot store as it is.
        """
        names = ["a", "\0", "\ud800", "\\", "é", "x" * 3000]
        levels = count_requests(self.connection, dict.fromkeys(names, 1.0), 10.0)
        self.assertEqual(sorted(levels), sorted(names))

    def test_at_the_same_time(self) -> None:
        """
        Nothing is lost when many servers count the same clients at once, in any order, and
        forget others meanwhile.
        """
        clients = [str(number) for number in range(20)]

        def count(connection: Any, order: list[str], tidy: bool) -> None:
            for _ in range(25):
                count_requests(connection, dict.fromkeys(order, 10.0), 1e6, tidy)

        connections = [self.connect() for _ in range(4)]
        threads = [
            Thread(target=count, args=(connection, clients[:: (-1) ** number], number == 0))
            for number, connection in enumerate(connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        levels = count_requests(self.connection, dict.fromkeys(clients, 0.0), 1e6)
        self.assertTrue(940.0 < min(levels.values()) <= max(levels.values()) <= 1000.0, levels)
        self.assertTrue(max(levels.values()) - min(levels.values()) < 5.0, levels)

    def test_forgets(self) -> None:
        """
        Clients whose buckets are full again take no room.
        """
        count_requests(self.connection, {"a": 1.0, "b": 100.0}, 100.0)
        self.connection.execute("UPDATE rates SET full_at = full_at - interval '2 s'")
        count_requests(self.connection, {"c": 1.0}, 100.0, True)
        rows = self.connection.execute("SELECT client FROM rates ORDER BY client").fetchall()
        self.assertEqual(rows, [("b",), ("c",)])
