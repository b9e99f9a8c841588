"""
Tests for `kiroworkers.jobs.webhooks` and `webhook_sender`, on a clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from twisted.internet._resolver import HostResolution
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kiroworkers.jobs.job import Job, Webhook
from kiroworkers.jobs.ssrf import CallbackHosts
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.webhook_sender import TargetRefused, WebhookSender
from kiroworkers.jobs.webhooks import Webhooks, signature
from tests.jobs.support import new_job


class WebhooksTests(SynchronousTestCase):
    """
    Tests for `Webhooks`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = JobStore()
        self.store.open(None)
        self.addCleanup(self.store.close)
        self.calls: list[tuple[str, Mapping[str, str], bytes, Deferred[int]]] = []
        self.callbacks = self.started()

    def started(self) -> Webhooks:
        def post(url: str, headers: Mapping[str, str], body: bytes, tries: int) -> Deferred[int]:
            self.calls.append((url, headers, body, Deferred()))
            return self.calls[-1][-1]

        callbacks = Webhooks(
            self.clock, self.store, post, lambda job: {"id": job.id, "state": job.state}, b"secret"
        )
        callbacks.startService()
        return callbacks

    def end(self, id: str) -> Job:
        self.store.add(new_job(id, callback=Webhook("http://x.example/")))
        self.store.mark_ended(id, "cancelled", None, self.clock.seconds())
        job = self.store.get(id)
        assert job is not None
        self.callbacks.schedule(job)
        self.clock.advance(0)
        return job

    def test_delivered(self) -> None:
        """
        The job is posted with a signature, and once only if the call succeeds.
        """
        self.end("a")
        [(url, headers, body, status)] = self.calls
        self.assertEqual((url, json.loads(body)["state"]), ("http://x.example/", "cancelled"))
        self.assertEqual(headers["X-Kiroworkers-Signature"], signature(b"secret", body))
        status.callback(204)
        self.assertEqual(self.store.pending_webhooks(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_retried(self) -> None:
        """
        A call that fails, by its status, a redirect or an error, is made again, each time
        after twice as long, ten times in all.
        """
        self.end("a")
        delay = 2.0
        for number in range(10):
            self.assertEqual(len(self.calls), number + 1)
            status = self.calls[-1][-1]
            if number % 3:
                status.callback((500, 302)[number % 2])
            else:
                status.errback(OSError("refused"))
            self.clock.advance(delay - 0.1)
            self.assertEqual(len(self.calls), number + 1)
            self.clock.advance(0.1)
            delay *= 2
        self.assertEqual(len(self.calls), 10)
        self.assertEqual(self.store.pending_webhooks(), [])

    def test_gone(self) -> None:
        """
        A receiver that answers 410 is not called again.
        """
        self.end("a")
        self.calls[0][-1].callback(410)
        self.assertEqual(self.store.pending_webhooks(), [])

    def test_next_server(self) -> None:
        """
        Calls that are outstanding when a server stops are made by the next one when they
        are due.
        """
        self.end("under way")
        self.end("due later")
        self.calls[1][-1].callback(500)
        self.callbacks.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.callbacks = self.started()
        self.clock.advance(0)
        self.assertEqual(
            [json.loads(body)["id"] for _, _, body, _ in self.calls[2:]], ["under way"]
        )
        self.clock.advance(2)
        self.assertEqual(json.loads(self.calls[3][2])["id"], "due later")

    def test_bounded(self) -> None:
        """
        The number of calls at a time is limited.
        """
        for number in range(10):
            self.end(str(number))
        self.assertEqual(len(self.calls), 8)
        self.calls[0][-1].callback(200)
        self.assertEqual(len(self.calls), 9)

    def test_forgotten(self) -> None:
        """
        The webhook of a job that was deleted is not called again.
        """
        self.end("a")
        self.store.delete("a")
        self.calls[0][-1].callback(500)
        self.assertEqual(self.clock.getDelayedCalls(), [])


@implementer(IHostnameResolver)
class StaticResolver:
    """
    Resolve every name to the same addresses or, if there are none, never.
    """

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution = HostResolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        for address in self.addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
        if self.addresses:
            resolutionReceiver.resolutionComplete()
        return resolution


class WebhookSenderTests(SynchronousTestCase):
    """
    Tests for `WebhookSender`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def post(self, *addresses: str, listed: tuple[str, ...] = (), tries: int = 0) -> Deferred[int]:
        self.reactor.installNameResolver(StaticResolver(*addresses))
        poster = WebhookSender(self.reactor, CallbackHosts(listed))
        return poster.post("http://x.example:81/a", {"X-A": "b"}, b"{}", tries)

    def test_checked_address(self) -> None:
        """
        The connection goes to an address that was checked; the next attempt uses the next
        address.
        """
        self.post("93.184.215.14", "93.184.215.15")
        self.post("93.184.215.14", "93.184.215.15", tries=1)
        called = [(host, port) for host, port, *_ in self.reactor.tcpClients]
        self.assertEqual(called, [("93.184.215.14", 81), ("93.184.215.15", 81)])

    def test_private(self) -> None:
        """
        A name with a private address is not connected to, unless it is listed.
        """
        for addresses in [("127.0.0.1",), ("93.184.215.14", "::1"), ("::ffff:10.0.0.1",)]:
            self.failureResultOf(self.post(*addresses), TargetRefused)
        self.failureResultOf(self.post("10.0.0.1", listed=("y.example",)), TargetRefused)
        self.assertEqual(self.reactor.tcpClients, [])
        self.post("10.0.0.1", listed=("x.example",))
        self.assertEqual([host for host, *_ in self.reactor.tcpClients], ["10.0.0.1"])

    def test_hangs_up(self) -> None:
        """
        The connection is closed after the response's headers, however much is to follow.
        """
        for end in (b"Content-Length: 0\r\n\r\n", b"Content-Length: 1000\r\n\r\nand so on"):
            posted = self.post("93.184.215.14")
            *_, factory, _, _ = self.reactor.tcpClients[-1]
            called = factory.buildProtocol(None)
            assert called is not None
            transport = StringTransport()
            called.makeConnection(transport)
            self.reactor.pump([0, 0, 0])
            called.dataReceived(b"HTTP/1.1 200 OK\r\n" + end)
            self.assertEqual(self.successResultOf(posted), 200)
            self.assertTrue(transport.disconnected)

    def test_timeout(self) -> None:
        """
        A call fails if the name resolution or the response takes too long.
        """
        for addresses in [(), ("93.184.215.14",)]:
            posted = self.post(*addresses)
            self.reactor.advance(9.9)
            self.assertNoResult(posted)
            self.reactor.advance(0.1)
            self.failureResultOf(posted)
