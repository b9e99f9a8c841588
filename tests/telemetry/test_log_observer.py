"""
Tests for `kiroworkers.telemetry.log_observer`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import syslog
from functools import partial
from io import StringIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

from twisted.logger import ILogObserver, LogLevel, textFileLogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from kiroworkers.telemetry import log_observer as module
from kiroworkers.telemetry.log_observer import dropped_text, log_observer
from kiroworkers.telemetry.log_writer import LogWriter


def event(text: str) -> dict[str, Any]:
    """
    Return the event of a log message.
    """
    return {
        "log_format": "{text}",
        "log_level": LogLevel.info,
        "log_namespace": "tests",
        "log_time": 1.5,
        "text": text,
    }


class FileTests(SynchronousTestCase):
    """
    Tests for a log that goes to a file.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.writer = LogWriter()
        previous = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self.addCleanup(signal.signal, signal.SIGUSR1, previous)
        self.observer = log_observer(self.writer, str(self.path), None, foreground=False)

    def test_interface(self) -> None:
        """
        The observer is one that twistd accepts.
        """
        self.assertTrue(verifyObject(ILogObserver, self.observer))

    def test_format(self) -> None:
        """
        Lines look like those that twistd writes itself.
        """
        twistd = StringIO()
        for text in ("plain", "two words", ""):
            textFileLogObserver(twistd)(event(text))
            self.observer(event(text))
        self.assertEqual(self.path.read_text(), twistd.getvalue())

    def test_control_characters(self) -> None:
        """
        No control character or change of the text's direction reaches the log.
        """
        self.observer(event("a\x1b[2Jb\x9bc\u202ed\rE\nf"))
        line = self.path.read_text()
        self.assertIn(r"a\x1b[2Jb\x9bc\u202ed\rE\nf" + "\n", line)

    def test_traceback(self) -> None:
        """
        Only a traceback, the message's own or that of a failure, has several lines.
        """
        own = {**event(""), "log_format": "{text}:\n{traceback}", "traceback": "one\n  two\x9b"}
        self.observer(own)
        self.assertIn(":\n\tone\n\t  two\\x9b\n", self.path.read_text())
        self.observer({**event("a\nb"), "log_failure": Failure(ValueError("c\x1b"))})
        self.assertRegex(self.path.read_text(), r"a\\nb\n\tTraceback .*\n\t.*ValueError: c\\x1b\n")

    def test_any_text(self) -> None:
        """
        Text that UTF-8 cannot represent is logged all the same.
        """
        self.observer(event("\udcff"))
        self.assertIn("udcff", self.path.read_text())

    def test_rotation(self) -> None:
        """
        SIGUSR1 begins a new file.
        """
        self.observer(event("old"))
        signal.raise_signal(signal.SIGUSR1)
        self.observer(event("new"))
        rotated = self.path.with_name(f"{self.path.name}.1")
        self.assertIn("old", rotated.read_text())
        self.assertIn("new", self.path.read_text())
        self.assertNotIn("old", self.path.read_text())

    def test_dropped(self) -> None:
        """
        The number of dropped lines is logged as a line of its own.
        """
        self.writer.dropped_notice(1234)()
        line = self.path.read_text()
        self.assertRegex(line, r"^\d{4}-.* \[kiroworkers\.log#warn\] 1,234 line\(s\)")

    def test_cannot_open(self) -> None:
        """
        A log file that cannot be opened is an error at the start.
        """
        with self.assertRaises(OSError):
            log_observer(self.writer, str(self.path / "missing"), None, foreground=False)
        with self.assertRaises(ValueError):
            log_observer(self.writer, "-", None, foreground=False)


class DescriptorTests(SynchronousTestCase):
    """
    Tests for a log that goes to a pipe.
    """

    def test_does_not_block(self) -> None:
        """
        Where a pipe is set not to block, a full one delays the writer and loses nothing.
        """
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, read_end)
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(write_end, False)
        data, done = b"x" * 10_000, Event()
        output = module._Descriptor(write_end)

        def write() -> None:
            output.write(data)
            os.close(write_end)
            done.set()

        Thread(target=write).start()
        received = b"".join(iter(partial(os.read, read_end, 1000), b""))
        done.wait()
        self.assertEqual(received, data)


class SyslogTests(SynchronousTestCase):
    """
    Tests for a log that goes to syslog.
    """

    def test_lines(self) -> None:
        """
        Each line is sent as twistd sends it, by the writer and without control characters.
        """
        sent: list[tuple[int, str]] = []
        self.patch(syslog, "syslog", lambda priority, line: sent.append((priority, line)))
        writer = LogWriter()
        observer = log_observer(writer, "", "prefix", foreground=False)
        self.assertTrue(verifyObject(ILogObserver, observer))
        writer.start()
        observer(event("one\x1b\ntwo"))
        writer.close(60)
        self.assertEqual(
            sent,
            [
                (syslog.LOG_INFO, r"[-] one\x1b\ntwo"),
            ],
        )
        writer.dropped_notice(2)()
        self.assertEqual(sent[-1], (syslog.LOG_WARNING, dropped_text(2)))
