"""
Record sessions in files, in a thread of its own.

The event loop only puts what happens into a queue, so neither the disk nor the search for
secrets makes it wait.  If the thread cannot follow, pieces are dropped; their number stands in
the recording in their place.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, TypeAlias, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.conversations.request_mark import ANSWERED, ASKED, ENDED, RETRY, RequestMark
from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry.recording_folder import RawFile, RecordingFolder, RecordingInfo
from kiroworkers.telemetry.redaction import SecretFinder, secrets_in
from kiroworkers.telemetry.session_files import SessionFiles

_T = TypeVar("_T")

#: The folder of recordings, below the state folder.
RECORDINGS: Final = "recordings"

#: What may wait for the thread, in bytes.
_MAX_QUEUED = 16 * 1024**2

#: What an event takes besides its data, about.
_OVERHEAD = 200

#: Seconds for which events are gathered before the thread writes them: it would compete with the
#: event loop for the interpreter at each of them.
_GATHER_TIME = 0.1

#: The size after which a recording goes on in a new file when no request runs; in the midst of
#: one, after twice that size.
_MAX_FILE = 16 * 1024**2

#: Files are never kept smaller than this, so that small limits make no crowd of files.
_MIN_FILE = 64 * 1024

#: Seconds that a server that stops waits for what is still to be written.
_CLOSE_TIMEOUT = 5.0

#: The size of what is written at once, about.
_BATCH = 256 * 1024

#: A file that is being written is not ended to make room if it is smaller.
_MIN_ROTATED = 4096

#: The requests that run, of which it is known who records them.
_MAX_REQUESTS = 10_000

#: What happens in a session with data of some size.
_WITH_DATA = frozenset(("output", "stderr", "typed", "reply"))

#: Something that happens in a session: its recorder, the time, the kind and the data.
_SessionEvent: TypeAlias = tuple["SessionRecorder", float, str, Any]


class Recordings:
    """
    Record sessions, and serve what was recorded.

    It observes sessions and requests.  Until `open` is called, nothing is recorded.

    Args:
        reactor: Tells the time, and is called from the thread.
        max_bytes: The size of all recordings.
        enabled: Whether to record.
        pass_env: The names and patterns of --pass-env, whose values are secret.
        wall_clock: Returns the seconds since the epoch.
        start_thread: Runs a function in a thread; tests call `process` instead.

    Attributes:
        enabled: Whether sessions are recorded.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        max_bytes: int,
        *,
        enabled: bool,
        pass_env: Iterable[str] = (),
        wall_clock: WallClock = time.time,
        start_thread: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.enabled = enabled
        self._reactor = reactor
        self._seconds: Callable[[], float] = reactor.seconds
        self._max_bytes = max_bytes
        self._max_file = max(_MIN_FILE, min(_MAX_FILE, max_bytes // 8))
        self._pass_env = tuple(pass_env)
        self._wall_clock = wall_clock
        self._start_thread = start_thread or _start_daemon
        self._path: Path | None = None
        self._started = False
        # Between the loop and the thread.
        self._queue: deque[_SessionEvent | Callable[[], None]] = deque()
        self._wake = Event()
        self._closing = Event()
        self._bytes_queued = 0
        self._bytes_processed = 0
        # The requests that run, with the sessions that record them; used by the loop only.  Not
        # by identifier: clients may give several requests the same.
        self._running: dict[RequestRecord, SessionRecorder] = {}
        # Used by the thread only.
        self._folder: RecordingFolder | None = None
        self._files: dict[SessionRecorder, SessionFiles] = {}
        self._last_problem = ""

    def open(self, state: Path | None) -> None:
        """
        Use the folder for recordings below `state`; None if there is no such folder.  Blocks.

        Raises:
            OSError: If it cannot be used.
        """
        if state is None:
            self.enabled = False
            return
        path = state / RECORDINGS
        if self.enabled:
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)
        if path.is_dir():
            self._path = path

    # Called by sessions and requests, in the event loop.

    def observe_session(self, info: SessionInfo) -> SessionRecorder | None:
        """
        Return what records a new session; None if nothing is recorded.
        """
        if not self.enabled or self._path is None:
            return None
        recorder = SessionRecorder(self)
        # Finding out which values are secret is for the thread.
        self.put(recorder, "start", info, 0)
        return recorder

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        """
        Mark in a recording that a request is answered, is asked elsewhere, or has ended.
        """
        if event.name not in ("answered", "retry", "ended"):
            return
        recorder = self._running.get(record)
        if recorder is None:
            return
        data = {"task": record.task or "", **{name: str(event.data[name]) for name in event.data}}
        match event.name:
            case "answered":
                kind = ANSWERED
            case "retry":
                kind = RETRY
            case _:
                kind = ENDED
                del self._running[record]
                data = {"task": record.task or "", "outcome": record.outcome}
                if record.code is not None:
                    data["code"] = record.code
        self.put(recorder, "mark", RequestMark(kind, record.id, data), 0)

    def asked(self, recorder: SessionRecorder, record: RequestRecord | None) -> None:
        """
        Mark that a session is being asked.
        """
        if record is None or not record.id:
            self.put(recorder, "mark", RequestMark(ASKED), 0)
            return
        running = self._running
        if record not in running and len(running) >= _MAX_REQUESTS:
            del running[next(iter(running))]
        running[record] = recorder
        data = {"task": record.task} if record.task else {}
        self.put(recorder, "mark", RequestMark(ASKED, record.id, data), 0)

    def put(self, recorder: SessionRecorder, kind: str, data: Any, size: int) -> None:
        """
        Queue what has happened in a session, or drop it if the thread cannot follow.
        """
        queue = self._queue
        # What has no size is rare, and too important to be lost.
        if size and self._bytes_queued - self._bytes_processed + size > _MAX_QUEUED:
            recorder.lost_pieces += 1
            recorder.lost_bytes += size
            return
        size += _OVERHEAD
        now = self._seconds()
        if recorder.lost_pieces:
            lost = (recorder.lost_pieces, recorder.lost_bytes)
            recorder.lost_pieces = recorder.lost_bytes = 0
            queue.append((recorder, now, "gap", lost))
        self._bytes_queued += size
        queue.append((recorder, now, kind, data))
        if not self._wake.is_set():
            self._wake_thread()

    def recordings_of(self, request_id: str) -> tuple[str, ...]:
        """
        Return the names of the recordings that a request of this server's life is in.
        """
        # The thread only ever replaces the values.
        return () if self._folder is None else self._folder.by_request.get(request_id, ())

    # Called by the routes, in the event loop.

    def list(self, encode: Callable[[RecordingInfo], Any]) -> Deferred[bytes]:
        """
        Return a Deferred of all recordings as a list in JSON, the newest first.

        Args:
            encode: Returns what is shown of a recording.
        """

        def encoded(folder: RecordingFolder) -> bytes:
            # One by one: a long call of a C function would stop the event loop.
            return f"[{','.join(_dumps(encode(info)) for info in folder.list())}]".encode()

        return self._call(encoded, b"[]")

    def open_recording(self, name: str) -> Deferred[tuple[RawFile, int] | None]:
        """
        Return a Deferred of a file to read a recording from, and its size now.

        It fails with `UnknownRecording`, or fires with None if there are no recordings at all.
        """
        return self._call(lambda folder: folder.open(name), None)

    def delete(self, name: str) -> Deferred[bool]:
        """
        Delete a recording.

        The Deferred fails with `UnknownRecording` or `RecordingInUse`, or fires with False if
        there are no recordings at all.
        """

        def delete(folder: RecordingFolder) -> bool:
            folder.delete(name)
            return True

        return self._call(delete, False)

    def close(self) -> Deferred[None]:
        """
        Write what is left, and end the thread; it takes no more.
        """
        self.enabled = False
        if not self._started:
            return succeed(None)
        closed: Deferred[None] = self._call(lambda folder: self._close_files(), None)
        self._closing.set()
        # A disk that hangs must not keep the server from stopping.
        closed.addTimeout(_CLOSE_TIMEOUT, self._reactor)
        return closed.addErrback(lambda failure: None)

    def _call(self, function: Callable[[RecordingFolder], _T], default: _T) -> Deferred[_T]:
        """
        Call `function` in the thread, after everything that is queued.
        """
        if self._path is None or self._closing.is_set():
            return succeed(default)
        result: Deferred[_T] = Deferred()

        def call() -> None:
            try:
                value = function(self._open_folder())
            except Exception:
                self._reactor.callFromThread(result.errback, Failure())
            else:
                self._reactor.callFromThread(result.callback, value)

        self._queue.append(call)
        self._wake_thread()
        return result

    def _wake_thread(self) -> None:
        self._wake.set()
        if not self._started:
            # Not before: twistd forks, and changes the user.
            self._started = True
            self._start_thread(self._run)

    # Called in the thread.

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(_GATHER_TIME)
            self._wake.clear()
            try:
                self.process()
            except Exception as problem:
                # Nothing would be recorded any more.
                self._report(f"internal error while recording: {problem!r}")
            if self._closing.is_set() and not self._queue:
                return

    def process(self) -> None:
        """
        Write everything that is queued.
        """
        queue = self._queue
        touched: set[SessionFiles] = set()
        while queue:
            item = queue.popleft()
            if callable(item):
                self._write(touched)
                item()
                continue
            recorder, now, kind, data = item
            size = len(data) if kind in _WITH_DATA else 0
            if kind != "gap":
                self._bytes_processed += size + _OVERHEAD
            try:
                self._handle(recorder, now, kind, data, touched)
            except OSError as problem:
                self._report(f"cannot write recordings: {problem}")
            except Exception as problem:
                self._report(f"internal error while recording: {problem!r}")
        self._write(touched)

    def _handle(
        self,
        recorder: SessionRecorder,
        now: float,
        kind: str,
        data: Any,
        touched: set[SessionFiles],
    ) -> None:
        if kind == "start":
            values = secrets_in(dict(data.environment), self._pass_env)
            finders = SecretFinder(values), SecretFinder(values, in_terminal=True)
            self._files[recorder] = SessionFiles(self._open_folder(), data, finders, self._max_file)
            return
        session = self._files.get(recorder)
        if session is None:
            return
        touched.add(session)
        session.handle(now, kind, data)
        if session.is_complete:
            touched.discard(session)
            del self._files[recorder]
            session.close()
            self._make_room()
        elif session.pending_bytes > _BATCH:
            self._write({session})

    def _write(self, sessions: set[SessionFiles]) -> None:
        for session in sessions:
            try:
                session.write()
            except OSError as problem:
                self._report(f"cannot write recordings: {problem}")
        sessions.clear()
        self._make_room()

    def _make_room(self) -> None:
        folder = self._folder
        try:
            while folder is not None and not folder.make_room():
                # Only files are left that are being written: end the largest.
                largest = max(self._files.values(), key=lambda each: each.bytes, default=None)
                if largest is None or largest.bytes <= _MIN_ROTATED:
                    return
                largest.rotate(repeat=False)
        except OSError as problem:
            self._report(f"cannot delete old recordings: {problem}")

    def _close_files(self) -> None:
        for session in self._files.values():
            try:
                session.close()
            except OSError as problem:
                self._report(f"cannot write recordings: {problem}")
        self._files.clear()

    def _open_folder(self) -> RecordingFolder:
        if self._folder is None:
            assert self._path is not None, "there is a folder"
            self._folder = RecordingFolder(self._path, self._max_bytes, self._wall_clock)
        return self._folder

    def _report(self, problem: str) -> None:
        """
        Log a problem, once until there is another one.
        """
        if problem != self._last_problem:
            self._last_problem = problem
            self._reactor.callFromThread(self._log.error, "{problem}", problem=problem)


class SessionRecorder:
    """
    Record one session, as its `SessionObserver`.

    Attributes:
        lost_pieces: The number of events that were dropped and are not declared yet.
        lost_bytes: Their data.
    """

    __slots__ = ("_recordings", "lost_bytes", "lost_pieces")

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self.lost_pieces = self.lost_bytes = 0

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        End the recording when the session is gone.
        """
        if new is SessionState.GONE:
            self._recordings.put(self, "end", reason, 0)

    def output(self, data: bytes) -> None:
        """
        Record what the agent has printed.
        """
        self._recordings.put(self, "output", data, len(data))

    def stderr(self, data: bytes) -> None:
        """
        Record what the agent has printed to its standard error.
        """
        self._recordings.put(self, "stderr", data, len(data))

    def typed(self, data: bytes) -> None:
        """
        Record what was typed into the agent.
        """
        self._recordings.put(self, "typed", data, len(data))

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Mark that the agent is being asked.
        """
        self._recordings.asked(self, record)

    def replied(self, text: str) -> None:
        """
        Take the agent's reply, whose digest is a part of the next marker.
        """
        self._recordings.put(self, "reply", text, len(text))


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _start_daemon(run: Callable[[], None]) -> None:
    # Not joined: it may hang in a write.
    Thread(target=run, name="recordings", daemon=True).start()
