"""
Put together the logs that a server has besides the main one.

They are those of its workers, of prompts and answers, and of slow requests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import globalLogPublisher

from kiroworkers.telemetry.log_format import json_line, levels_from, text_lines
from kiroworkers.telemetry.log_writer import LogWriter
from kiroworkers.telemetry.observers import ObserveSession, RequestObserver
from kiroworkers.telemetry.prompt_log import PromptLog
from kiroworkers.telemetry.slow_log import SlowLog
from kiroworkers.telemetry.worker_logs import LogFolder, WorkerLogs

#: The name of the folder of the logs in the state folder.
LOGS = "logs"


@frozen
class LogOptions:
    """
    Hold what an operator wants to be logged.

    Attributes:
        format: The format of lines: ``text`` or ``json``.
        level: The name of the least severe level that is logged.
        prompts: Whether prompts and answers are logged.
        slow_request: The seconds after which a request is described; 0 for none.
        in_folder: Whether there is a state folder that stays.
    """

    format: str = "text"
    level: str = "info"
    prompts: bool = False
    slow_request: float = 0.0
    in_folder: bool = False


class ServerLogs:
    """
    Make the logs of one server, and open and close them together.

    Args:
        clock: Measures durations and schedules calls.
        options: What is to be logged.
        last_screen: Returns the text that a worker's agent shows.

    Attributes:
        session_observers: What observes sessions for these logs.
        request_observers: What observes requests for them.
        writer: Writes the files; None without a folder.
    """

    def __init__(
        self, clock: IReactorTime, options: LogOptions, last_screen: Callable[[str], str]
    ) -> None:
        self.session_observers: list[ObserveSession] = []
        self.request_observers: list[RequestObserver] = []
        self.writer: LogWriter | None = None
        self._folder: LogFolder | None = None
        self._workers: WorkerLogs | None = None
        self._slow: SlowLog | None = None
        if options.in_folder:
            self.writer = LogWriter()
            self._folder = LogFolder(
                self.writer, json_line if options.format == "json" else text_lines
            )
            self._workers = WorkerLogs(self._folder, clock, levels_from(options.level))
            self.session_observers.append(self._workers.observe_session)
        if options.prompts:
            self.session_observers.append(PromptLog)
        if options.slow_request:
            write = (
                globalLogPublisher if self._folder is None else partial(self._folder.write, "slow")
            )
            self._slow = SlowLog(clock, options.slow_request, last_screen, write)
            self.request_observers.append(self._slow)

    def open(self, state_dir: Path) -> None:
        """
        Make the folder of the logs in `state_dir`.  Blocks.

        Raises:
            OSError: It cannot be made.
        """
        if self._folder is not None:
            self._folder.open(state_dir / LOGS)

    def start(self) -> None:
        """
        Begin to write.
        """
        if self._folder is not None and self._workers is not None:
            self._folder.start()
            globalLogPublisher.addObserver(self._workers)

    def stop(self) -> None:
        """
        Take no more events.
        """
        if self._slow is not None:
            self._slow.close()
        if self._workers is not None:
            globalLogPublisher.removeObserver(self._workers)

    def close(self) -> None:
        """
        Write what is left.  Blocks.
        """
        if self._folder is not None:
            self._folder.close()
