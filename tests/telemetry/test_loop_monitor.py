"""
Tests for kiroworkers.telemetry.loop_monitor.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from socket import socketpair
from typing import Any

from attrs import define, field
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.pollreactor import PollReactor
from twisted.internet.protocol import Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock, LoopingCall
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from kiroworkers.telemetry.loop_monitor import LoopMonitor
from tests.programs import DescriptorReader


@define
class ProcessorTime:
    """
    Provide times that advance only when a callback says so.

    Attributes:
        cpu: The CPU time of the thread, in seconds.
        wall: The time that is never set back, in seconds.
    """

    cpu: float = 100.0
    wall: float = 5000.0

    def compute(self, seconds: float) -> None:
        self.cpu += seconds
        self.wall += seconds

    def wait(self, seconds: float) -> None:
        self.wall += seconds


@define(eq=False)
class Descriptor:
    """
    Represent a connection whose protocol handles its data by `handler`.
    """

    handler: Callable[[], object]
    protocol: Protocol = field(factory=Protocol)

    def doRead(self) -> None:
        self.handler()


class MemoryReactor(Clock):
    """
    Handle descriptors as Twisted's reactors do, without any.
    """

    def _doReadOrWrite(self, descriptor: Descriptor, fd: int, event: int) -> None:
        descriptor.doRead()

    def handle(self, descriptor: Descriptor) -> None:
        self._doReadOrWrite(descriptor, 7, 1)

    def callFromThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        # As asyncio's reactor does.
        self.callLater(0, function, *args, **kwargs)


class MonitorTestCase(SynchronousTestCase):
    """
    Measure the callbacks of a reactor with times that advance only on demand.
    """

    def setUp(self) -> None:
        self.time = ProcessorTime()
        self.reactor: Any = MemoryReactor()
        self.lines: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            self.lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def monitor(self) -> LoopMonitor:
        monitor = LoopMonitor(
            self.reactor, lambda: self.time.cpu, lambda: self.time.wall, 0.05, 0.5
        )
        monitor.startService()
        self.addCleanup(lambda: monitor.stopService() if monitor.running else None)
        return monitor


class LoopMonitorTests(MonitorTestCase):
    """
    Tests for `LoopMonitor`.
    """

    def test_delayed_call(self) -> None:
        """
        A delayed call that uses more CPU time than the limit is logged once, by its function.
        """
        monitor = self.monitor()
        self.reactor.callLater(1, self.time.compute, 0.083)
        self.reactor.advance(1)
        self.assertEqual(
            self.lines,
            [
                f"event loop: 83 ms of CPU in {__name__}.ProcessorTime.compute "
                "(83 ms, 0 ms of garbage collection)"
            ],
        )
        self.assertEqual((monitor.slow, monitor.stalled), (1, 0))

    def test_collection_meanwhile(self) -> None:
        """
        A garbage collection that comes while earlier ones are counted breaks nothing.
        """
        monitor = self.monitor()
        gc.collect()
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        for _ in range(20):
            self.reactor.callLater(1, self.time.compute, 0.083)
            gc.set_threshold(1)
            self.reactor.advance(1)
        self.assertEqual(monitor.slow, 20)

    def test_within_limit(self) -> None:
        """
        Callbacks are measured each by itself: many short ones in a row exceed no limit.
        """
        monitor = self.monitor()
        for _ in range(20):
            self.reactor.callLater(1, self.time.compute, 0.04)
            self.reactor.callFromThread(self.time.compute, 0.04)
        descriptor = Descriptor(lambda: self.time.compute(0.04))
        for _ in range(20):
            self.reactor.handle(descriptor)
        self.reactor.advance(1)
        self.assertEqual((self.lines, monitor.slow, monitor.worst), ([], 0, None))

    def test_call_from_thread(self) -> None:
        """
        A call from another thread is measured once, with its arguments passed on.
        """
        calls: list[Any] = []

        def record(*args: Any, **kwargs: Any) -> None:
            self.time.compute(0.06)
            calls.append((args, kwargs))

        monitor = self.monitor()
        self.reactor.callFromThread(record, 1, two=2)
        self.reactor.advance(0)
        self.assertEqual(calls, [((1,), {"two": 2})])
        self.assertIn("60 ms of CPU in ", self.lines[0])
        self.assertIn("record", self.lines[0])
        self.assertEqual(monitor.slow, 1)

    def test_descriptor(self) -> None:
        """
        An event of a descriptor is logged by the class of the protocol that handled it.
        """
        self.monitor()
        self.reactor.handle(Descriptor(lambda: self.time.compute(0.051)))
        self.assertIn("51 ms of CPU in twisted.internet.protocol.Protocol", self.lines[0])

    def test_stall(self) -> None:
        """
        A callback that waits is reported as a stall, not as one that uses the processor.
        """
        monitor = self.monitor()
        self.reactor.callLater(0, self.time.wait, 0.7)
        self.reactor.advance(0)
        self.assertEqual(
            self.lines,
            [
                f"event loop: waited in {__name__}.ProcessorTime.wait for 700 ms, "
                "of which 0 ms of CPU"
            ],
        )
        self.assertEqual((monitor.slow, monitor.stalled), (0, 1))

    def test_worst(self) -> None:
        """
        The worst callback is kept, and every one above the limit is counted.
        """
        monitor = self.monitor()
        for seconds in (0.06, 0.4, 0.1):
            self.reactor.callLater(0, self.time.compute, seconds)
        self.reactor.advance(0)
        name = "tests.telemetry.test_loop_monitor.ProcessorTime.compute"
        self.assertEqual(monitor.slow, 3)
        assert monitor.worst is not None
        self.assertEqual((monitor.worst.name, round(monitor.worst.cpu, 6)), (name, 0.4))

    def test_exception(self) -> None:
        """
        A callback that fails is measured as well, and its exception is passed on.
        """

        def fail() -> None:
            self.time.compute(0.06)
            raise ValueError("bad")

        monitor = self.monitor()
        self.reactor.callLater(0, fail)
        self.assertRaises(ValueError, self.reactor.advance, 0)
        self.assertEqual(monitor.slow, 1)

    def test_looping_call(self) -> None:
        """
        A round of a `LoopingCall` is named by the function that it calls.
        """
        loop = LoopingCall(self.time.compute, 0.06)
        loop.clock = self.reactor
        self.monitor()
        loop.start(1, now=False)
        self.reactor.advance(1)
        loop.stop()
        self.assertIn("ProcessorTime.compute", self.lines[0])

    def test_garbage_collection(self) -> None:
        """
        The share of garbage collection in a callback is told.
        """
        monitor = self.monitor()

        def work(phase: str, info: object) -> None:
            # It is called after the monitor when a collection begins, and so counts for it.
            if phase == "start":
                self.time.compute(0.02)

        def collect() -> None:
            gc.callbacks.append(work)
            gc.collect()
            gc.callbacks.remove(work)
            self.time.compute(0.04)

        self.reactor.callLater(0, collect)
        self.reactor.advance(0)
        assert monitor.worst is not None
        self.assertAlmostEqual(monitor.worst.collection, 0.02)
        # The collection may end what an earlier test left, which is logged as well.
        self.assertIn("20 ms of garbage collection", self.lines[-1])

    def test_cancelled(self) -> None:
        """
        A delayed call can be cancelled and postponed as usual.
        """
        self.monitor()
        call = self.reactor.callLater(1, self.time.compute, 1)
        call.reset(5)
        self.reactor.advance(4)
        call.cancel()
        self.reactor.advance(4)
        self.assertEqual(self.time, ProcessorTime())

    def test_stops(self) -> None:
        """
        Afterwards the reactor has its own methods again, and nothing is measured.
        """
        monitor = self.monitor()
        self.assertIn("callLater", vars(self.reactor))
        collectors = len(gc.callbacks)
        monitor.stopService()
        for name in ("callLater", "callFromThread", "_doReadOrWrite"):
            self.assertNotIn(name, vars(self.reactor))
        self.assertEqual(len(gc.callbacks), collectors - 1)

    def test_other_reactor(self) -> None:
        """
        Of a reactor that handles descriptors in another way, only the rest is measured, and
        that is logged.
        """
        self.reactor = Clock()
        monitor = self.monitor()
        self.assertEqual(
            self.lines,
            [
                "event loop: Clock does not tell when it handles a file descriptor, so only "
                "its delayed calls and calls from threads are measured"
            ],
        )
        self.reactor.callLater(0, self.time.compute, 0.06)
        self.reactor.advance(0)
        self.assertEqual(monitor.slow, 1)


class ReactorTests(MonitorTestCase):
    """
    Tests for `LoopMonitor` with Twisted's reactors.
    """

    def check(self, reactor: Any) -> None:
        """
        Fail unless a descriptor's event, a delayed call and a call from a thread are measured.
        """
        self.reactor = reactor
        monitor = self.monitor()
        reading, writing = socketpair()
        steps: list[str] = []

        def read() -> None:
            steps.append(reading.recv(1).decode())
            self.time.compute(0.06)
            reactor.callLater(0, delayed)

        def delayed() -> None:
            self.time.compute(0.07)
            reactor.callFromThread(end)

        def end() -> None:
            self.time.compute(0.08)
            steps.append("end")

        reader: Any = DescriptorReader(reactor, reading.fileno(), read)
        writing.send(b"x")
        # One for each of the three callbacks, and more for those of the reactor itself.
        for _ in range(10):
            reactor.iterate(0)
        reactor.removeReader(reader)
        reading.close()
        writing.close()
        monitor.stopService()
        self.assertEqual((steps, monitor.slow), (["x", "end"], 3), self.lines)
        self.assertIn("tests.programs.DescriptorReader", self.lines[0])
        for descriptor in reactor.removeAll() + list(reactor._internalReaders):
            descriptor.connectionLost(Failure(ConnectionDone()))

    def test_epoll(self) -> None:
        """
        The reactor of epoll is measured in full.
        """
        self.check(EPollReactor())

    def test_poll(self) -> None:
        """
        The reactor of poll is measured in full.
        """
        self.check(PollReactor())

    def test_select(self) -> None:
        """
        The reactor of select is measured in full.
        """
        self.check(SelectReactor())

    def test_asyncio(self) -> None:
        """
        The reactor of asyncio is measured in full.
        """
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        self.check(AsyncioSelectorReactor(loop))
