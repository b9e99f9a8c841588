"""
Tests for `kiroworkers.web.dashboard.usage`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.dashboard.usage import TreeUsage, Usage, UsageMeter


@frozen
class Used:
    """
    What the test says that processes use.
    """

    memory: int
    cpu: float


class UsageMeterTests(SynchronousTestCase):
    """
    Tests for `UsageMeter`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[Collection[int]] = []
        self.changes = 0
        self.meter = UsageMeter(self.clock, self.measure)

    def measure(self, pids: Collection[int]) -> Deferred[Mapping[int, TreeUsage]]:
        self.asked.append(pids)
        self.measured: Deferred[Mapping[int, TreeUsage]] = Deferred()
        return self.measured

    def changed(self) -> None:
        self.changes += 1

    def refresh(self, usage: Mapping[int, TreeUsage]) -> None:
        self.meter.refresh([*usage], self.changed)
        self.measured.callback(usage)

    def test_percent(self) -> None:
        """
        The use of processors is known from the second measurement on.
        """
        self.assertIsNone(self.meter.of(7))
        self.refresh({7: Used(100, 1.0)})
        self.assertEqual(self.meter.of(7), Usage(100, None))
        self.clock.advance(4)
        self.refresh({7: Used(200, 3.0), 8: Used(5, 9.0)})
        self.assertEqual(self.meter.of(7), Usage(200, 50.0))
        self.assertEqual(self.meter.of(8), Usage(5, None))
        self.assertIsNone(self.meter.of(None))
        self.assertEqual(self.changes, 2)

    def test_ended(self) -> None:
        """
        Processes that have ended leave no negative number, and a session that has ended nothing.
        """
        self.refresh({7: Used(100, 9.0), 8: Used(1, 1.0)})
        self.clock.advance(1)
        self.refresh({7: Used(50, 2.0)})
        self.assertEqual(self.meter.of(7), Usage(50, 0.0))
        self.assertIsNone(self.meter.of(8))

    def test_one_at_a_time(self) -> None:
        """
        A measurement that takes long is waited for.
        """
        self.meter.refresh([7], self.changed)
        self.meter.refresh([7, 8], self.changed)
        self.assertEqual(self.asked, [[7]])
        self.measured.callback({7: Used(1, 1.0)})
        self.meter.refresh([8], self.changed)
        self.assertEqual(self.asked, [[7], [8]])

    def test_failed(self) -> None:
        """
        A measurement that fails is logged, and the next one is made.
        """
        self.meter.refresh([7], self.changed)
        self.measured.errback(OSError("no"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.refresh({7: Used(1, 1.0)})
        self.assertEqual((self.changes, self.meter.of(7)), (1, Usage(1, None)))
