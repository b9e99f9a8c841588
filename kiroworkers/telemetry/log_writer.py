"""
Write the log in a thread of its own, so that no output makes the event loop wait.

A pipe that nobody reads, a terminal that was stopped, a full disk and a busy syslog
delay only that thread.  Lines wait for it in a queue of bounded size; those that do not
fit are dropped, and their number is logged in their place.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, RLock, Thread

from attrs import frozen

#: The longest queue, in bytes: about ten thousand lines.
_MAX_QUEUED = 2 * 1024**2

#: Seconds for which lines are gathered after others were written.
_GATHER_TIME = 0.1

#: Seconds after which a write that failed, such as one to a full disk, is tried again.
_RETRY_DELAY = 1.0

#: Seconds that the process waits at its end for lines that are still to be written.
_EXIT_TIMEOUT = 2.0

#: Writes one line; raises if that failed and may work later.
Write = Callable[[], None]


@frozen
class _Entry:
    """
    Hold a line that waits to be written.

    Attributes:
        write: Writes it.
        size: Its length in bytes.
        lines: The number of lines that are lost if it is not written.
    """

    write: Write
    size: int
    lines: int


class LogWriter:
    """
    Write lines in the order in which they were submitted, in a thread of its own.

    Until `start` is called, lines are written at once by whoever submits them: twistd
    forks before the server starts, and a thread does not survive that.

    Args:
        max_queued: The longest queue, in bytes.
        retry_delay: Seconds after which a write that failed is repeated.

    Attributes:
        dropped_notice: Takes a number of dropped lines, and returns the function that writes
            the notice about them.
        dropped_total: The number of lines that were dropped so far.
    """

    def __init__(self, max_queued: int = _MAX_QUEUED, retry_delay: float = _RETRY_DELAY) -> None:
        self.dropped_notice: Callable[[int], Write] = lambda lines: lambda: None
        self._max_queued = max_queued
        self._retry_delay = retry_delay
        # Any thread may log, and so may a destructor in the midst of `submit`: this queue
        # and this lock allow for both.
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._lock = RLock()
        self._bytes_submitted = 0
        self._bytes_written = 0
        self._dropped = 0
        self.dropped_total = 0
        self._closing = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """
        Start the thread, and stop it when the process exits.
        """
        if self._thread is None:
            # Not joined at exit: it may hang in a write.
            self._thread = Thread(target=self._run, name="log writer", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def submit(self, write: Write, size: int) -> None:
        """
        Write a line soon, or drop it if the queue is full.

        Args:
            write: Writes it.
            size: Its length in bytes.
        """
        entry = _Entry(write, size, 1)
        if self._thread is None:
            try:
                write()
            except Exception:
                self._drop()
            return
        with self._lock:
            queued = self._bytes_submitted - self._bytes_written
            if queued and queued + size > self._max_queued:
                self._drop()
                return
            self._bytes_submitted += size
            notice = self._notice()
            if notice is not None:
                self._queue.put(notice)
            self._queue.put(entry)

    def close(self, timeout: float = _EXIT_TIMEOUT) -> None:
        """
        Write the lines that are left, stop the thread, and drop what comes later.

        Args:
            timeout: The longest wait, in seconds; after that, lines are lost.
        """
        if self._thread is not None:
            self._closing.set()
            self._queue.put(None)
            self._thread.join(timeout)

    def _drop(self) -> None:
        self._dropped += 1
        self.dropped_total += 1

    def _notice(self) -> _Entry | None:
        """
        Return the notice of the lines dropped since the last one, or None.
        """
        with self._lock:
            lines, self._dropped = self._dropped, 0
        return _Entry(self.dropped_notice(lines), 0, lines) if lines else None

    def _run(self) -> None:
        """
        Write lines until the writer is closed.
        """
        while (entry := self._queue.get()) is not None:
            self._write(entry)
            if self._queue.empty():
                self._write_notice()
                # Gather lines meanwhile: this thread would compete with the event loop for
                # the interpreter at each of them.
                self._closing.wait(_GATHER_TIME)
        self._write_notice()

    def _write_notice(self) -> None:
        notice = self._notice()
        if notice is not None:
            self._write(notice)

    def _write(self, entry: _Entry) -> None:
        """
        Write `entry`, again and again until that works or the writer is closed.
        """
        while True:
            try:
                entry.write()
            except Exception:
                # Not logged: the log is what does not work.
                if self._closing.wait(self._retry_delay):
                    with self._lock:
                        self._dropped += entry.lines
                    break
            else:
                break
        self._bytes_written += entry.size
