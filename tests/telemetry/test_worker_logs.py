"""
Tests for `kiroworkers.telemetry.worker_logs` and `kiroworkers.telemetry.prompt_log`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kiroworkers.request_record import RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry import prompt_log
from kiroworkers.telemetry.log_format import json_line, levels_from, text_lines
from kiroworkers.telemetry.log_writer import LogWriter
from kiroworkers.telemetry.prompt_log import PromptLog
from kiroworkers.telemetry.worker_logs import LogFolder, WorkerLogs

INFO = SessionInfo("worker1", "kiro", None)


@implementer(ILogObserver)
class Events:
    """
    Add events to a list.
    """

    def __init__(self, events: list[LogEvent]) -> None:
        self._events = events

    def __call__(self, event: LogEvent) -> None:
        self._events.append(event)


class LogTestCase(SynchronousTestCase):
    """
    Have a folder of logs, whose lines are written at once, as before a `LogWriter` is started.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp())
        self.writer = LogWriter()
        self.folder = LogFolder(self.writer, text_lines)
        self.folder.open(self.path)
        self.addCleanup(self.folder.close)
        self.logs = WorkerLogs(self.folder, self.clock, levels_from("info"), lambda: 1.5)

    def lines(self, name: str = "worker1") -> list[str]:
        """
        Return the lines of a file without their times.
        """
        text = (self.path / f"{name}.log").read_text()
        return [line.partition(" ")[2] for line in text.splitlines()]


class EventTests(LogTestCase):
    """
    Tests for `WorkerLogs` as an observer of the log.
    """

    def event(self, **fields: Any) -> dict[str, Any]:
        return {
            "log_format": "{worker}: x",
            "log_level": LogLevel.info,
            "log_namespace": "kiroworkers.pool.worker",
            "log_time": 1.5,
            **fields,
        }

    def test_events(self) -> None:
        """
        The events of the server that name a worker go to the file of that worker.
        """
        self.assertTrue(verifyObject(ILogObserver, self.logs))
        self.logs(self.event(worker="worker1"))
        self.logs(self.event(worker="worker2"))
        for other in (
            self.event(),
            self.event(worker=7),
            self.event(worker="worker1", log_namespace="another"),
            self.event(worker="worker1", log_level=LogLevel.debug),
            self.event(worker="worker1", record=RequestRecord()),
        ):
            self.logs(other)
        self.assertEqual(self.lines(), ["[kiroworkers.pool.worker#info] worker1: x"])
        self.assertEqual(len(self.lines("worker2")), 1)

    def test_private(self) -> None:
        """
        Only the owner can look into the folder.
        """
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o700)

    def test_without_folder(self) -> None:
        """
        Nothing is written before the folder is open.
        """
        folder = LogFolder(self.writer, text_lines)
        folder.write("worker1", self.event(worker="worker1"))
        self.assertEqual(list(self.path.iterdir()), [])

    def test_names(self) -> None:
        """
        No name leads out of the folder.
        """
        for name in ("../x", "/tmp/x", "", ".", "a/b", "x" * 200):
            self.logs(self.event(worker=name))
        self.assertEqual(list(self.path.iterdir()), [])
        self.assertFalse((self.path.parent / "x.log").exists())

    def test_many_workers(self) -> None:
        """
        However many workers there are, only some files are open, and no line is lost.
        """
        for _ in range(2):
            for number in range(50):
                self.logs(self.event(worker=f"worker{number}"))
        self.assertEqual(len(self.folder._files), 32)
        for number in range(50):
            self.assertEqual(len(self.lines(f"worker{number}")), 2)

    def test_failure(self) -> None:
        """
        A file that cannot be written is reported once in the log of the server.
        """
        (self.path / "worker1.log").mkdir()
        events = self.logged()
        for _ in range(3):
            self.logs(self.event(worker="worker1"))
        [event] = events
        self.assertIn("worker1.log", str(event["file"]))
        self.assertEqual(self.writer.dropped_total, 3)
        self.folder.writer.dropped_notice(3)()
        self.assertEqual(events[1]["dropped"], 3)

    def logged(self) -> list[LogEvent]:
        events: list[LogEvent] = []
        self.patch(LogFolder, "_log", Logger("kiroworkers.tests", observer=Events(events)))
        return events


class SessionTests(LogTestCase):
    """
    Tests for the observer of a session.
    """

    def setUp(self) -> None:
        super().setUp()
        log = self.logs.observe_session(INFO)
        assert log is not None
        self.session = log

    def test_turn(self) -> None:
        """
        A turn is one line with the request and the time in each state.
        """
        states = SessionState
        session, clock = self.session, self.clock
        clock.advance(1.25)
        session.state_changed(states.STARTING, states.IDLE, "")
        clock.advance(60)
        session.asked(RequestRecord("id1"), "prompt")
        session.state_changed(states.IDLE, states.BUSY, "")
        clock.advance(3.5)
        session.replied("answer")
        session.state_changed(states.BUSY, states.ANSWERED, "")
        session.state_changed(states.ANSWERED, states.CLEARING, "")
        clock.advance(0.1)
        session.state_changed(states.CLEARING, states.IDLE, "")
        clock.advance(5)
        session.state_changed(states.IDLE, states.STOPPING, "its successor is ready")
        session.state_changed(states.STOPPING, states.GONE, "exit code 0\x1b")
        prefix = "[kiroworkers.session#info] worker1: "
        self.assertEqual(
            self.lines(),
            [
                f"{prefix}starting -> idle (starting 1.250 s)",
                f"{prefix}clearing -> idle, request id1 (idle 60.000 s, busy 3.500 s, "
                "answered 0.000 s, clearing 0.100 s)",
                f"{prefix}idle -> stopping: its successor is ready (idle 5.000 s)",
                rf"{prefix}stopping -> gone: exit code 0\x1b (stopping 0.000 s)",
            ],
        )

    def test_json(self) -> None:
        """
        The facts of a turn are fields in JSON.
        """
        folder = LogFolder(self.writer, json_line)
        folder.open(self.path)
        self.addCleanup(folder.close)
        logs = WorkerLogs(folder, self.clock, levels_from("info"), lambda: 1.5)
        session = logs.observe_session(INFO)
        assert session is not None
        session.asked(RequestRecord("id1"), "prompt")
        session.state_changed(SessionState.BUSY, SessionState.GONE, "exit code 1")
        value = json.loads((self.path / "worker1.log").read_text())
        self.assertEqual((value["old"], value["new"]), ("busy", "gone"))
        self.assertEqual((value["requestId"], value["reason"]), ("id1", "exit code 1"))

    def test_level(self) -> None:
        """
        With a higher level, sessions are not observed.
        """
        logs = WorkerLogs(self.folder, self.clock, levels_from("warn"))
        self.assertIsNone(logs.observe_session(INFO))

    def test_standard_error(self) -> None:
        """
        What the agent prints to standard error is in lines without escape sequences.
        """
        self.session.stderr(b"\x1b[31mone\x1b[0m\ntw")
        self.session.stderr("o \xe9\x9b\r\n\n".encode() + b"\xff three")
        self.session.asked(RequestRecord("id1"), "prompt")
        self.session.state_changed(SessionState.BUSY, SessionState.GONE, "")
        prefix = "[kiroworkers.stderr#info] "
        expected = [f"{prefix}one", rf"{prefix}two é\x9b", f"{prefix}\ufffd three"]
        self.assertEqual([line for line in self.lines() if "stderr" in line], expected)

    def test_long_line(self) -> None:
        """
        A line of standard error that never ends is cut.
        """
        self.session.stderr(b"x" * 5000)
        [line] = self.lines()
        self.assertIn("x… (2,952 more characters)", line)

    def test_flood(self) -> None:
        """
        Of a flood on standard error, the beginning is kept, and the rest is counted.
        """
        for _ in range(100):
            self.session.stderr(b"line\n" * 1000)
        self.assertEqual(len(self.lines()), 3_000)
        self.clock.advance(1)
        self.session.stderr(b"later\n")
        prefix = "[kiroworkers.stderr"
        self.assertEqual(
            self.lines()[-2:],
            [
                f"{prefix}#warn] 97,000 line(s) of standard error were dropped here: there were "
                "too many",
                f"{prefix}#info] later",
            ],
        )

    def test_flood_at_the_end(self) -> None:
        """
        Dropped lines are declared at the end of a turn even if no other line follows.
        """
        self.session.stderr(b"x\n" * 200_000)
        self.session.state_changed(SessionState.BUSY, SessionState.IDLE, "")
        self.assertIn("200,000 line(s)", self.lines()[0])

    def test_repeated_write(self) -> None:
        """
        If a write is repeated because it failed, no line is lost or doubled.
        """
        writes: list[Any] = []
        self.patch(self.writer, "submit", lambda write, size: writes.append(write))
        self.session.stderr(b"one\ntw")
        self.session.stderr(b"o\n")
        path = self.path / "worker1.log"
        path.mkdir()
        with self.assertRaises(OSError):
            writes[0]()
        path.rmdir()
        for write in writes:
            write()
        self.assertEqual([line[-3:] for line in self.lines()], ["one", "two"])

    def test_ignored(self) -> None:
        """
        What goes over the terminal is not logged.
        """
        self.session.output(b"x\n")
        self.session.typed(b"x\n")
        self.assertEqual(list(self.path.iterdir()), [])


class PromptTests(SynchronousTestCase):
    """
    Tests for `PromptLog`.
    """

    def test_prompts(self) -> None:
        """
        Prompts and answers are events with the worker and the request, and are cut.
        """
        events: list[LogEvent] = []
        log = PromptLog(INFO)
        self.patch(prompt_log, "_log", Logger("kiroworkers.prompts", observer=Events(events)))
        log.asked(RequestRecord("id1"), "Say\x1b hello")
        log.replied("x" * 5000)
        log.asked(None, "the server's own")
        log.state_changed(SessionState.IDLE, SessionState.BUSY, "")
        for ignored in (log.output, log.stderr, log.typed):
            ignored(b"x")
        asked, replied, own = (text_lines(event).partition("] ")[2] for event in events)
        self.assertEqual(asked, "worker1: prompt of request id1: Say\\x1b hello\n")
        self.assertTrue(replied.startswith("worker1: answer to request id1: xxx"))
        self.assertIn("x… (904 more characters)", replied)
        self.assertIn("request -: the server's own", own)
        self.assertEqual([event["worker"] for event in events], ["worker1"] * 3)
