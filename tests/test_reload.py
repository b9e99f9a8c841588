"""
Tests for `kiroworkers.reload`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.reload import Reloader


class ReloaderTests(SynchronousTestCase):
    """
    Tests for `Reloader`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.reads: list[tuple[Callable[[], int], Deferred[int]]] = []
        self.file = 0
        self.applied: list[int] = []
        self.reports: list[bool] = []
        self.reloader = Reloader(
            self.clock, self.in_thread, self.read, self.applied.append, self.reports.append
        )

    def in_thread(self, read: Callable[[], int]) -> Deferred[int]:
        done: Deferred[int] = Deferred()
        self.reads.append((read, done))
        return done

    def read(self) -> int:
        return self.file

    def finish(self) -> None:
        """
        Let the thread finish its only read.
        """
        [(read, done)] = self.reads
        self.reads.clear()
        done.callback(read())

    def test_reload(self) -> None:
        """
        A reload begins at once, and is applied when everything was read.
        """
        self.file = 1
        self.reloader.request()
        self.assertEqual(self.applied, [])
        self.finish()
        self.assertEqual(self.applied, [1])

    def test_report(self) -> None:
        """
        The beginning and the end of each reload are reported, also of one that fails.
        """
        self.reloader.request()
        self.assertEqual(self.reports, [True])
        self.finish()
        self.assertEqual(self.reports, [True, False])
        self.reloader.request()
        self.clock.advance(1)
        [(_, done)] = self.reads
        done.errback(OSError("the disk has failed"))
        self.assertEqual(self.reports, [True, False] * 2)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_merged(self) -> None:
        """
        Any number of requests during a reload, or soon after it, become one more, which
        sees what the last of them asked for.
        """
        self.reloader.request()
        for self.file in range(100):
            self.reloader.request()
        self.finish()
        self.file = 100
        self.reloader.request()
        self.clock.advance(0.9)
        self.assertEqual(self.reads, [])
        self.clock.advance(0.1)
        self.finish()
        self.assertEqual(self.applied, [99, 100])
        self.clock.advance(1)
        self.assertEqual(self.reads, [])

    def test_slow(self) -> None:
        """
        After a reload that took long, the next one follows at once.
        """
        self.reloader.request()
        self.reloader.request()
        self.clock.advance(5)
        self.finish()
        self.clock.advance(0)
        self.finish()
        self.assertEqual(len(self.applied), 2)

    def test_later(self) -> None:
        """
        A request after a while begins another reload at once.
        """
        for _ in range(2):
            self.reloader.request()
            self.finish()
            self.clock.advance(1)
        self.assertEqual(len(self.applied), 2)

    def test_failure(self) -> None:
        """
        A reload that fails is logged, and the next one works.
        """
        self.reloader.request()
        [(_, done)] = self.reads
        self.reads.clear()
        done.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(1)
        self.reloader.request()
        self.finish()
        self.assertEqual(len(self.applied), 1)
