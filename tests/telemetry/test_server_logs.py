"""
Tests for `kiroworkers.telemetry.server_logs`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.telemetry.prompt_log import PromptLog
from kiroworkers.telemetry.server_logs import LogOptions, ServerLogs


class ServerLogsTests(SynchronousTestCase):
    """
    Tests for `ServerLogs`.
    """

    def new_logs(self, options: LogOptions) -> ServerLogs:
        logs = ServerLogs(Clock(), options, lambda worker: "the screen")
        self.addCleanup(logs.close)
        self.addCleanup(logs.stop)
        return logs

    def be_slow(self, logs: ServerLogs) -> None:
        """
        Report a request that takes 2 seconds.
        """
        [observer] = logs.request_observers
        record = RequestRecord("id1", task="x", status=200, total=2.0)
        observer.request_event(record, RequestEvent("received", 0.0, {}))
        observer.request_event(record, RequestEvent("ended", 2.0, {}))

    def test_nothing(self) -> None:
        """
        Without options and without a folder, nothing is observed and nothing is opened.
        """
        logs = self.new_logs(LogOptions())
        folder = Path(self.mktemp())
        logs.open(folder)
        logs.start()
        self.assertEqual((logs.session_observers, logs.request_observers), ([], []))
        self.assertIsNone(logs.writer)
        self.assertFalse(folder.exists())

    def test_folder(self) -> None:
        """
        With a folder, the workers' logs and the slow log are written there, until it is closed.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        logs = self.new_logs(LogOptions("json", slow_request=1.0, in_folder=True))
        logs.open(folder)
        logs.start()
        event = {
            "log_format": "{worker}: x",
            "log_level": LogLevel.info,
            "log_namespace": "kiroworkers.tests",
            "log_time": 1.0,
            "worker": "worker1",
        }
        globalLogPublisher(event)
        self.be_slow(logs)
        logs.stop()
        globalLogPublisher(event)
        logs.close()
        files = {file.name: file.read_text() for file in (folder / "logs").iterdir()}
        self.assertEqual({*files}, {"worker1.log", "slow.log"})
        self.assertEqual(files["worker1.log"].count("\n"), 1)
        self.assertIn('"requestId":"id1"', files["slow.log"])

    def test_main_log(self) -> None:
        """
        Without a folder, slow requests and prompts go to the main log.
        """
        logs = self.new_logs(LogOptions(prompts=True, slow_request=1.0))
        [observe] = logs.session_observers
        self.assertIsInstance(observe(SessionInfo("worker1", "kiro", None)), PromptLog)
        with capturedLogs() as events:
            self.be_slow(logs)
        self.assertEqual([event["requestId"] for event in events], ["id1"])
