"""
Keep a log of each worker in the state folder, with what its agents print to standard error.

The lines are written in a thread of their own, apart from the log of the server: neither waits
for the other.  What agents print is limited, and so are the files.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from zope.interface import implementer

from kiroworkers.clocks import WallClock
from kiroworkers.conversations.transcript import plain_text
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry.log_format import Format, bounded, level_of
from kiroworkers.telemetry.log_writer import LogWriter, Write
from kiroworkers.telemetry.rotated_file import RotatedFile

#: The number of bytes that an agent may print to standard error at once, and in each second.  A
#: line counts as so many bytes more, because its time and its source are written as well.
_STDERR_BURST = 256 * 1024
_STDERR_RATE = 16 * 1024
_LINE_COST = 64

#: The longest line of it in characters; without a line end, this many bytes are a line.
_MAX_STDERR_LINE = 2048

#: What can name a file.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")

#: The largest number of files that are open at the same time.
_MAX_OPEN = 32

#: The states between two turns, and those in which a session ends.
_AT_REST = (SessionState.IDLE, SessionState.STARTING)
_ENDING = (SessionState.STOPPING, SessionState.GONE)


class LogFolder:
    """
    Write log events to files in a folder, in a thread of its own.

    Args:
        writer: Runs the writes in its thread.
        format: Formats the events.

    Attributes:
        writer: Runs the writes in its thread.
    """

    _log = Logger()

    def __init__(self, writer: LogWriter, format: Format) -> None:
        self.writer = writer
        self._format = format
        self._path: Path | None = None
        self._failing = False
        # Used by the thread only; the file that was written last is the last one.
        self._files: OrderedDict[str, RotatedFile] = OrderedDict()
        writer.dropped_notice = self._dropped_notice

    def open(self, path: Path) -> None:
        """
        Make the folder.  Blocks.

        Raises:
            OSError: It cannot be made.
        """
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        self._path = path

    def start(self) -> None:
        """
        Start the thread.
        """
        self.writer.start()

    def close(self) -> None:
        """
        Write what is left, and stop the thread.  Blocks.
        """
        self.writer.close()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def write(self, name: str, event: LogEvent) -> None:
        """
        Append `event` to the file `name`.log soon.
        """
        data = self._format(event).encode("utf-8", "backslashreplace")
        if data:
            self.writer.submit(partial(self.append, name, data), len(data))

    def write_later(self, name: str, events: Callable[[], list[LogEvent]], size: int) -> None:
        """
        Append the events that `events` returns; it is called in the thread.

        Args:
            name: The name of the file.
            events: Returns the events; called once, even if the write is repeated.
            size: About their size in bytes.
        """

        @cache
        def data() -> bytes:
            return "".join(map(self._format, events())).encode("utf-8", "backslashreplace")

        def write() -> None:
            self.append(name, data())

        self.writer.submit(write, size)

    def append(self, name: str, data: bytes) -> None:
        """
        Append `data` to the file `name`.log.  Blocks.

        Raises:
            OSError: It cannot be written.
        """
        if self._path is None or not data:
            return
        file = self._files.get(name)
        if file is None:
            if not _NAME.fullmatch(name):
                return  # It would be a file elsewhere.
            file = self._files[name] = RotatedFile(self._path / f"{name}.log")
            if len(self._files) > _MAX_OPEN:
                _, oldest = self._files.popitem(last=False)
                oldest.close()
        else:
            self._files.move_to_end(name)
        try:
            file.write(data)
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._log.warn(
                    "{file} cannot be written ({error}); this is tried again, and lines may be "
                    "lost",
                    file=self._path / f"{name}.log",
                    error=str(error),
                )
            raise
        self._failing = False

    def _dropped_notice(self, lines: int) -> Write:
        def write() -> None:
            self._log.warn(
                "{dropped} line(s) of the workers' logs were dropped, because they could not be "
                "written in time",
                dropped=lines,
            )

        return write


@implementer(ILogObserver)
class WorkerLogs:
    """
    Write a log for each worker, as ``worker1.log``.

    As an observer of the log, it gets the events that concern a worker; as an `ObserveSession`,
    it observes the worker's sessions.

    Args:
        folder: The folder of the logs.
        clock: Measures durations.
        levels: The levels that are logged.
        wall_clock: Returns the current time in seconds since the epoch.
    """

    def __init__(
        self,
        folder: LogFolder,
        clock: IReactorTime,
        levels: frozenset[str],
        wall_clock: WallClock = time.time,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._levels = levels
        self._wall_clock = wall_clock

    def __call__(self, event: LogEvent) -> None:
        """
        Write `event`, if it concerns a worker.
        """
        worker = event.get("worker")
        if type(worker) is str and level_of(event) in self._levels and "record" not in event:
            namespace = event.get("log_namespace")
            if isinstance(namespace, str) and namespace.startswith("kiroworkers."):
                self._folder.write(worker, event)

    def observe_session(self, info: SessionInfo) -> _SessionLog | None:
        """
        Return the observer of a new session; None if none of its lines would be written.
        """
        if "info" not in self._levels:
            return None
        return _SessionLog(info.worker, self._folder, self._clock, self._wall_clock)


class _SessionLog:
    """
    Write what happens in one session to the log of its worker.
    """

    def __init__(
        self, worker: str, folder: LogFolder, clock: IReactorTime, wall_clock: WallClock
    ) -> None:
        self._worker = worker
        self._folder = folder
        self._clock = clock
        self._wall_clock = wall_clock
        self._request = ""
        self._since = clock.seconds()
        self._phases: list[str] = []
        # How much may be printed to standard error at the moment.
        self._allowance = float(_STDERR_BURST)
        self._counted_at = self._since
        self._dropped = 0
        # Used by the thread only.
        self._rest = b""

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        Write a line when a turn is over, and when the session starts or ends.
        """
        now = self._clock.seconds()
        if old in _AT_REST:
            self._phases.clear()
        self._phases.append(f"{old.value} {now - self._since:.3f} s")
        self._since = now
        if new in _AT_REST or new in _ENDING or reason:
            self._flush_stderr(new is SessionState.GONE)
            self._write_phases(old, new, reason)

    def _write_phases(self, old: SessionState, new: SessionState, reason: str) -> None:
        because = ": {reason}" if reason else ""
        about = ", request {requestId}" if self._request else ""
        format = f"{{worker}}: {{old}} -> {{new}}{because}{about} ({{phases}})"
        event = self._event("session", format, LogLevel.info)
        event.update(
            old=old.value,
            new=new.value,
            reason=reason,
            requestId=self._request,
            phases=", ".join(self._phases),
        )
        self._folder.write(self._worker, event)
        self._phases.clear()
        if new is SessionState.IDLE:
            self._request = ""

    def output(self, data: bytes) -> None:
        """
        Ignore what the agent has printed.
        """

    def stderr(self, data: bytes) -> None:
        """
        Write what the agent has printed to standard error, as far as that is not too much.
        """
        now = self._clock.seconds()
        refilled = self._allowance + (now - self._counted_at) * _STDERR_RATE
        self._allowance = min(float(_STDERR_BURST), refilled)
        self._counted_at = now
        lines = data.count(b"\n")
        cost = len(data) + lines * _LINE_COST
        if cost > self._allowance:
            self._dropped += lines or 1
            return
        self._allowance -= cost
        self._write_stderr(data)

    def typed(self, data: bytes) -> None:
        """
        Ignore what was typed.
        """

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Remember which request the turn belongs to.
        """
        self._request = "" if record is None else record.id

    def replied(self, text: str) -> None:
        """
        Ignore the reply.
        """

    def _flush_stderr(self, ended: bool) -> None:
        if self._dropped or ended:
            self._write_stderr(b"", ended)

    def _write_stderr(self, data: bytes, ended: bool = False) -> None:
        """
        Have the thread write the lines in `data`, and how many were dropped before them.
        """
        dropped, self._dropped = self._dropped, 0
        event = self._event("stderr", "{text}", LogLevel.info)
        event["requestId"] = self._request
        events = partial(self._stderr_events, event, data, dropped, ended)
        self._folder.write_later(self._worker, events, len(data))

    def _stderr_events(
        self, event: LogEvent, data: bytes, dropped: int, ended: bool
    ) -> list[LogEvent]:
        """
        Return an event for each complete line; the rest of `data` waits.
        """
        events: list[LogEvent] = []
        *lines, rest = (self._rest + data).split(b"\n")
        if ended or len(rest) > _MAX_STDERR_LINE:
            lines.append(rest)
            rest = b""
        self._rest = rest
        for line in lines:
            text = plain_text(line).strip("\n")
            if text:
                events.append({**event, "text": bounded(text, _MAX_STDERR_LINE)})
        if dropped:
            note = f"{dropped:,} line(s) of standard error were dropped here: there were too many"
            events.insert(0, {**event, "text": note, "log_level": LogLevel.warn})
        return events

    def _event(self, source: str, format: str, level: object) -> LogEvent:
        return {
            "log_time": self._wall_clock(),
            "log_level": level,
            "log_namespace": f"kiroworkers.{source}",
            "log_format": format,
            "worker": self._worker,
        }
