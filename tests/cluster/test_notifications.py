"""
Tests for `kiroworkers.cluster.notifications`, on a real database.
"""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.logger import (
    ILogObserver,
    LogEvent,
    capturedLogs,
    formatEvent,
    globalLogPublisher,
)
from zope.interface import provider

from kiroworkers.cluster.notifications import Notifications
from tests.postgres import Cutter, DatabaseTestCase, postgres


class NotificationTests(DatabaseTestCase):
    """
    Tests for `Notifications`.
    """

    def setUp(self) -> None:
        super().setUp()
        self.other = self.connect()

    def started(self, address: str) -> tuple[Notifications, DeferredQueue[str]]:
        """
        Return running notifications, and what happens: notifications, and the connections made.
        """
        happened: DeferredQueue[str] = DeferredQueue()
        notifications = Notifications(reactor, address, 1.0)
        notifications.subscribe("queued", happened.put)
        notifications.on_connected(lambda: happened.put("(connected)"))
        notifications.startService()
        self.addCleanup(notifications.stopService)
        return notifications, happened

    def notify(self, payload: str) -> None:
        self.other.execute("SELECT pg_notify('kiroworkers', %s)", (payload,))

    async def test_received(self) -> None:
        """
        A subscriber is called with the arguments of its topic, whatever they are.
        """
        notifications, happened = self.started(self.address)
        self.assertFalse(notifications.connected)
        self.assertEqual(await happened.get(), "(connected)")
        self.assertTrue(notifications.connected)
        for payload in ("queued kiro", "ended x", "queuedx", "queued", "queued é é"):
            self.notify(payload)
        self.assertEqual([await happened.get() for _ in range(3)], ["kiro", "", "é é"])

    async def test_subscriber_fails(self) -> None:
        """
        The bug of one subscriber is logged, and the others are called.
        """
        notifications, happened = self.started(self.address)
        await happened.get()
        notifications.subscribe("broken", lambda argument: [][0])
        notifications.subscribe("broken", happened.put)
        self.notify("broken x")
        self.assertEqual(await happened.get(), "x")
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

    async def test_connected_again(self) -> None:
        """
        A connection that ends is made again, and subscribers learn that something may be lost.
        """
        _, happened = self.started(self.address)
        await happened.get()
        with capturedLogs() as logs:
            self.other.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            self.assertEqual(await happened.get(), "(connected)")
        self.notify("queued again")
        self.assertEqual(await happened.get(), "again")
        lines = [formatEvent(event) for event in logs if event["log_namespace"] != "twisted"]
        self.assertEqual(len(lines), 2, lines)
        self.assertIn("database: notifications are not received: ", lines[0])
        self.assertEqual(lines[1], "database: notifications are received again")

    async def test_unreachable(self) -> None:
        """
        Without a database, the connection is made once there is one.
        """
        cutter = Cutter(postgres().port)
        self.addCleanup(cutter.close)
        cutter.cut()
        address = self.address.replace(str(postgres().port), str(cutter.port))
        failed: Deferred[None] = Deferred()

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if "are not received" in formatEvent(event):
                failed.callback(None)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        notifications, happened = self.started(address)
        await failed
        self.assertFalse(notifications.connected)
        cutter.heal()
        self.assertEqual(await happened.get(), "(connected)")

    async def test_stopped_while_connecting(self) -> None:
        """
        A connection that is made after the stop is closed.
        """
        notifications = Notifications(reactor, self.address, 1.0)
        notifications.startService()
        connecting = notifications._connecting
        notifications.stopService()
        assert connecting is not None
        await connecting
        self.assertFalse(notifications.connected)
