"""
Tests for `kiroworkers.jobs.webhooks` and `post`, on a clock.
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


class CallbacksTests(SynchronousTestCase):
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
        self.store.ended(id, "cancelled", None, self.clock.seconds())
        job = self.store.get(id)
        assert job is not None
        self.callbacks.tell(job)
        self.clock.advance(0)
        return job

    def test_told(self) -> None:
        """
        The job is posted, signed; once that was heard, no more.
        """
        self.end("a")
        [(url, headers, body, status)] = self.calls
        self.assertEqual((url, json.loads(body)["state"]), ("http://x.example/", "cancelled"))
        self.assertEqual(headers["X-Kiroworkers-Signature"], signature(b"secret", body))
        status.callback(204)
        self.assertEqual(self.store.to_call_back(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_again(self) -> None:
        """
        A call in vain, by its status, a redirect or an error, is made again, each
        time after twice as long, ten times in all.
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
        self.assertEqual(self.store.to_call_back(), [])

    def test_gone(self) -> None:
        """
        Who is gone is not called again.
        """
        self.end("a")
        self.calls[0][-1].callback(410)
        self.assertEqual(self.store.to_call_back(), [])

    def test_next_server(self) -> None:
        """
        What was not told when the server stopped is told by the next one, when it
        is due.
        """
        self.end("under way")
        self.end("due later")
        self.calls[1][-1].callback(500)
        self.callbacks.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.callbacks = self.started()
        self.clock.advance(0)
        self.assertEqual([json.loads(each[2])["id"] for each in self.calls[2:]], ["under way"])
        self.clock.advance(2)
        self.assertEqual(json.loads(self.calls[3][2])["id"], "due later")

    def test_bounded(self) -> None:
        """
        Only so many are called at the same time.
        """
        for number in range(10):
            self.end(str(number))
        self.assertEqual(len(self.calls), 8)
        self.calls[0][-1].callback(200)
        self.assertEqual(len(self.calls), 9)

    def test_forgotten(self) -> None:
        """
        The end of a job that is forgotten is told to nobody.
        """
        self.end("a")
        self.store.remove("a")
        self.calls[0][-1].callback(500)
        self.assertEqual(self.clock.getDelayedCalls(), [])


@implementer(IHostnameResolver)
class Names:
    """
    Every name has these addresses; or, without any, none for ever.
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
        for each in self.addresses:
            kind = IPv6Address if ":" in each else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", each, portNumber))
        if self.addresses:
            resolutionReceiver.resolutionComplete()
        return resolution


class PosterTests(SynchronousTestCase):
    """
    Tests for `WebhookSender`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def post(self, *addresses: str, listed: tuple[str, ...] = (), tries: int = 0) -> Deferred[int]:
        self.reactor.installNameResolver(Names(*addresses))
        poster = WebhookSender(self.reactor, CallbackHosts(listed))
        return poster.post("http://x.example:81/a", {"X-A": "b"}, b"{}", tries)

    def test_looked_at(self) -> None:
        """
        The connection is to the very address that was looked at; the next try takes
        the next.
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
        self.assertEqual([each[0] for each in self.reactor.tcpClients], ["10.0.0.1"])

    def test_hangs_up(self) -> None:
        """
        Nobody who is called can keep the connection, however much is still to come.
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

    def test_patience(self) -> None:
        """
        Who takes too long, to be found or to answer, is given up.
        """
        for addresses in [(), ("93.184.215.14",)]:
            posted = self.post(*addresses)
            self.reactor.advance(9.9)
            self.assertNoResult(posted)
            self.reactor.advance(0.1)
            self.failureResultOf(posted)
