"""
Tests for `kiroworkers.telemetry.log_writer`, with outputs that block and fail as told.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Event

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.telemetry.log_writer import LogWriter


class Output:
    """
    Keep the lines that are written, once that is possible.

    Attributes:
        lines: The lines that were written.
        entered: Set when a line is being written.
        open: Lines wait until this is set.
        fails: How many of the next writes fail.
        written: Gets each line as soon as it was written.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.entered = Event()
        self.open = Event()
        self.fails = 0
        self.written: SimpleQueue[str] = SimpleQueue()

    def write(self, line: str) -> None:
        self.entered.set()
        self.open.wait()
        if self.fails:
            self.fails -= 1
            raise OSError("No space left on device")
        self.lines.append(line)
        self.written.put(line)


class LogWriterTests(SynchronousTestCase):
    """
    Tests for `LogWriter`.
    """

    def setUp(self) -> None:
        self.output = Output()
        self.addCleanup(self.output.open.set)
        self.writer = self.new_writer(retry_delay=0.0)

    def new_writer(self, retry_delay: float) -> LogWriter:
        writer = LogWriter(max_queued=100, retry_delay=retry_delay)

        def notice(lines: int) -> Callable[[], None]:
            return partial(self.output.write, f"{lines} dropped")

        writer.dropped_notice = notice
        return writer

    def submit(self, *lines: str, size: int = 10) -> None:
        for line in lines:
            self.writer.submit(partial(self.output.write, line), size)

    def wait_for(self, lines: int) -> None:
        """
        Wait until this many lines were written.
        """
        for _ in range(lines):
            self.output.written.get()

    def test_before_start(self) -> None:
        """
        Before the writer is started, a line is written at once, and none is lost.
        """
        self.output.open.set()
        self.submit("a", "b")
        self.assertEqual(self.output.lines, ["a", "b"])

    def test_order(self) -> None:
        """
        Lines are written in the order in which they were submitted.
        """
        self.writer.start()
        lines = [str(number) for number in range(10)]
        self.submit(*lines)
        self.output.open.set()
        self.writer.close(60)
        self.assertEqual(self.output.lines, lines)

    def test_blocked(self) -> None:
        """
        While the output blocks, nobody waits: lines that do not fit are dropped, and their
        number is written where they would have been.
        """
        self.writer.start()
        self.submit("first")
        self.output.entered.wait()
        self.submit(*map(str, range(20)))
        self.output.open.set()
        self.wait_for(11)
        self.submit("later")
        self.writer.close(60)
        expected = ["first", *map(str, range(9)), "11 dropped", "later"]
        self.assertEqual(self.output.lines, expected)

    def test_notice_without_another_line(self) -> None:
        """
        The number of dropped lines is written even if no other line follows.
        """
        self.writer.start()
        self.submit("first")
        self.output.entered.wait()
        self.submit("big", size=95)
        self.output.open.set()
        self.writer.close(60)
        self.assertEqual(self.output.lines, ["first", "1 dropped"])

    def test_longer_than_the_queue(self) -> None:
        """
        A line that is longer than the whole queue is written if nothing else waits.
        """
        self.writer.start()
        self.output.open.set()
        self.submit("big", size=1000)
        self.writer.close(60)
        self.assertEqual(self.output.lines, ["big"])

    def test_failing(self) -> None:
        """
        A write that fails is repeated, so that a disk that was full for a while loses
        nothing.
        """
        self.output.open.set()
        self.output.fails = 3
        self.writer.start()
        self.submit("a", "b")
        self.wait_for(2)
        self.assertEqual(self.output.lines, ["a", "b"])
        self.writer.close(60)

    def test_failing_before_start(self) -> None:
        """
        A write that fails before the start loses a line, which is counted.
        """
        self.output.open.set()
        self.output.fails = 1
        self.submit("a")
        self.writer.start()
        self.submit("b")
        self.writer.close(60)
        self.assertEqual(self.output.lines, ["1 dropped", "b"])

    def test_close_while_failing(self) -> None:
        """
        A writer whose output keeps failing can be closed.
        """
        self.writer = self.new_writer(retry_delay=1000.0)
        self.output.open.set()
        self.output.fails = 1000
        self.writer.start()
        self.submit("a", "b")
        self.output.entered.wait()
        self.writer.close(60)
        self.assertEqual(self.output.lines, [])

    def test_close_while_blocked(self) -> None:
        """
        A writer whose output blocks is given up after the timeout.
        """
        self.writer.start()
        self.submit("a")
        self.output.entered.wait()
        self.writer.close(0.01)
        self.assertEqual(self.output.lines, [])

    def test_logging_while_logging(self) -> None:
        """
        A destructor may log at any moment, even while a line is being submitted.
        """
        self.output.open.set()
        self.writer.start()
        with self.writer._lock:
            self.submit("a")
        self.writer.close(60)
        self.assertEqual(self.output.lines, ["a"])
