"""
Tests for `kiroworkers.telemetry.log_observer`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import syslog
from functools import partial
from io import StringIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

from twisted.logger import ILogObserver, LogLevel, LogPublisher, textFileLogObserver
from twisted.python.failure import Failure
from twisted.python.log import LogPublisher as LegacyPublisher
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


class StandardOutputTests(SynchronousTestCase):
    """
    Tests for a log that goes to standard output.
    """

    def setUp(self) -> None:
        self.file = self.enterContext(Path(self.mktemp()).open("w+", encoding="ascii"))
        self.patch(sys, "stdout", self.file)
        state = os.fstat(self.file.fileno())
        self.stream = f"{state.st_dev}:{state.st_ino}"

    def written(self, stream: str, **options: str) -> str:
        """
        Return what is written for an event if JOURNAL_STREAM is `stream`.
        """
        observer = log_observer(
            LogWriter(),
            "",
            None,
            foreground=True,
            environment={"JOURNAL_STREAM": stream},
            **options,
        )
        observer(event("é"))
        self.file.seek(0)
        return Path(self.file.name).read_text("utf-8")

    def test_journal(self) -> None:
        """
        If standard output is the journal, lines have a priority and no time.
        """
        self.assertEqual(self.written(self.stream), "<6>[tests#info] \\xe9\n")

    def test_inherited_journal(self) -> None:
        """
        A variable of the journal that another program has set means nothing.
        """
        for stream in ("1:2", "", "x", "1:", "1:x"):
            self.file.truncate(0)
            self.assertRegex(self.written(stream), r"^\d{4}-\S+ \[tests#info\]")

    def test_json(self) -> None:
        """
        JSON is in UTF-8, whatever the locale.
        """
        self.assertIn('"message":"é"', self.written("", format="json"))

    def test_journal_json(self) -> None:
        """
        JSON has a priority for the journal, which removes it.
        """
        line = self.written(self.stream, format="json")
        self.assertEqual(json.loads(line.removeprefix("<6>"))["message"], "é")


class LevelTests(SynchronousTestCase):
    """
    Tests for --log-level.
    """

    def test_filter(self) -> None:
        """
        Events below the level are not even formatted, and those of other libraries count too.
        """
        path = Path(self.mktemp())
        observer = log_observer(LogWriter(), str(path), None, foreground=True, level="warn")
        formatted: list[str] = []

        class Field:
            def __str__(self) -> str:
                formatted.append("now")
                return "text"

        observer({**event("x"), "text": Field()})
        publisher = LogPublisher(observer)
        legacy = LegacyPublisher(observerPublisher=publisher, publishPublisher=publisher)
        legacy.msg("not shown")
        legacy.msg("shown", isError=True)
        observer({**event("x"), "text": Field(), "log_level": LogLevel.warn})
        self.assertEqual(formatted, ["now"])
        [first, second] = path.read_text().splitlines()
        self.assertIn("shown", first)
        self.assertIn("[tests#warn] text", second)


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
                (syslog.LOG_INFO, r"[tests#info] one\x1b\ntwo"),
            ],
        )
        writer.dropped_notice(2)()
        self.assertEqual(
            sent[-1], (syslog.LOG_WARNING, f"[kiroworkers.log#warn] {dropped_text(2)}")
        )

    def test_priorities(self) -> None:
        """
        Each line of a failure has the priority of its event; JSON is one line.
        """
        sent: list[tuple[int, str]] = []
        self.patch(syslog, "syslog", lambda priority, line: sent.append((priority, line)))
        failed = {**event("x"), "log_level": LogLevel.error, "traceback": "one\ntwo"}
        log_observer(LogWriter(), "", "prefix", foreground=False)(failed)
        error = syslog.LOG_ERR
        self.assertEqual(sent, [(error, "[tests#error] x"), (error, "\tone"), (error, "\ttwo")])
        sent.clear()
        log_observer(LogWriter(), "", "prefix", foreground=False, format="json")(failed)
        [(priority, line)] = sent
        self.assertEqual((priority, json.loads(line)["traceback"]), (error, "one\ntwo"))
