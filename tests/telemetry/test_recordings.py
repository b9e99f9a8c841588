"""
Tests for `kiroworkers.telemetry.recordings` and the files that it writes.
"""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.acp.recording import Frame, read_frames
from kiroworkers.conversations.request_mark import RequestMark, mark_from_json, read_mark
from kiroworkers.conversations.terminal.recording import Chunk, Marker, read_events
from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry.recording_folder import RecordingInUse, UnknownRecording
from kiroworkers.telemetry.recordings import Recordings, SessionRecorder
from kiroworkers.telemetry.redaction import REDACTED

SECRET = 'sk-0123-abc"def'
ENVIRONMENT = (("KIRO_API_KEY", SECRET), ("HOME", "/home/user"))


class StubReactor(Clock):
    """
    Call at once what a thread asks for.
    """

    def callFromThread(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        """
        Call `function`.
        """
        function(*arguments, **more)


class RecordingsTests(SynchronousTestCase):
    """
    Tests for `Recordings`, whose thread is this one.
    """

    def setUp(self) -> None:
        self.reactor = StubReactor()
        self.state = Path(self.mktemp())
        self.state.mkdir()
        self.now = 1_800_000_000.0
        self.recordings = self.make()

    def make(self, max_bytes: int = 1024**2, **options: Any) -> Recordings:
        """
        Return new recordings in the state folder.
        """
        recordings = Recordings(
            self.reactor,
            max_bytes,
            **{"enabled": True, **options},
            wall_clock=lambda: self.now + self.reactor.seconds(),
            start_thread=lambda run: None,
        )
        recordings.open(self.state)
        return recordings

    def observe(
        self, window: tuple[int, int] | None = (24, 80), worker: str = "worker1"
    ) -> SessionRecorder:
        """
        Return the recorder of a new session.
        """
        recorder = self.recordings.observe_session(SessionInfo(worker, "kiro", window, ENVIRONMENT))
        assert recorder is not None
        return recorder

    def end(self, recorder: SessionRecorder) -> None:
        """
        End the session of `recorder`, and write everything.
        """
        recorder.state_changed(SessionState.STOPPING, SessionState.GONE, "exit status 0")
        self.recordings.process()

    def record_something(self, worker: str = "worker1") -> None:
        """
        Record a short session.
        """
        recorder = self.observe(worker=worker)
        recorder.output(b"> ")
        self.end(recorder)

    def ask(self, recorder: SessionRecorder, id: str, answer: str = "") -> None:
        """
        Let a session answer a request.
        """
        record = RequestRecord(id=id, task="story")
        recorder.asked(record, "prompt")
        recorder.typed(b"prompt\r")
        recorder.output(answer.encode())
        recorder.replied(answer)
        data = {"characters": len(answer), "completion": "prompt", "source": "terminal"}
        for name, facts in (("answered", data), ("ended", {})):
            event = RequestEvent(name, self.reactor.seconds(), facts)  # type: ignore[arg-type]
            self.recordings.request_event(record, event)

    def files(self) -> list[Path]:
        """
        Return the recordings in the folder, the oldest first.
        """
        return sorted((self.state / "recordings").iterdir())

    def events(self, path: Path | None = None) -> list[Chunk | Marker]:
        """
        Return the events of a recording of a terminal.
        """
        [only] = self.files() if path is None else [path]
        return list(read_events(only.read_text().splitlines(keepends=True)))

    def frames(self) -> list[Frame]:
        """
        Return the events of the recording of a protocol.
        """
        [path] = self.files()
        return list(read_frames(path.read_text().splitlines(keepends=True)))

    def marks(self, path: Path | None = None) -> list[RequestMark | None]:
        """
        Return the markers of a recording of a terminal.
        """
        return [read_mark(event.label) for event in self.events(path) if isinstance(event, Marker)]

    def listed(self) -> list[dict[str, Any]]:
        """
        Return the list of recordings.
        """
        listed = self.recordings.list(
            lambda info: {"name": info.name, "ended": info.ended, "requests": info.requests}
        )
        self.recordings.process()
        read: list[dict[str, Any]] = json.loads(self.successResultOf(listed))
        return read

    def test_terminal(self) -> None:
        """
        A recording of a terminal has its bytes and times, and its requests as markers.
        """
        recorder = self.observe()
        recorder.output(b"> ")
        self.reactor.advance(1.5)
        self.ask(recorder, "r-1", "answer")
        self.reactor.advance(1)
        self.end(recorder)
        events = self.events()
        self.assertEqual(
            [event for event in events if isinstance(event, Chunk)],
            [
                Chunk(0.0, "o", b"> "),
                Chunk(1.5, "i", b"prompt\r"),
                Chunk(1.5, "o", b"answer"),
            ],
        )
        digest = sha256(b"answer").hexdigest()[:16]
        facts = {"characters": "6", "completion": "prompt", "source": "terminal"}
        self.assertEqual(
            self.marks(),
            [
                RequestMark("session", "", {"worker": "worker1", "agent": "kiro"}),
                RequestMark("asked", "r-1", {"task": "story"}),
                RequestMark("answered", "r-1", {"task": "story", **facts, "sha256": digest}),
                RequestMark("ended", "r-1", {"task": "story", "outcome": "answered"}),
                RequestMark("closed", "", {"reason": "exit status 0"}),
            ],
        )

    def test_private(self) -> None:
        """
        Only the server's user can read recordings, and there is no environment in them.
        """
        recorder = self.observe()
        recorder.output(b"> ")
        self.end(recorder)
        [path] = self.files()
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(path.parent.stat().st_mode & 0o777, 0o700)
        self.assertNotIn("/home/user", path.read_text())

    def test_not_started(self) -> None:
        """
        A session that could not be started leaves no file.
        """
        self.end(self.observe())
        self.assertEqual(self.listed(), [])

    def test_stderr(self) -> None:
        """
        A character of standard error may be cut.
        """
        recorder = self.observe(None)
        for byte in "é".encode():
            recorder.stderr(bytes([byte]))
        self.end(recorder)
        self.assertIn(Frame(0.0, "err", None, "é"), self.frames())

    def test_secret_in_terminal(self) -> None:
        """
        A secret is replaced in output and input, wherever they are cut, and nothing else is.
        """
        text = f"a {SECRET} b sk-0 c {json.dumps(SECRET)[1:-1]} d".encode()
        for cut in range(len(text) + 1):
            recorder = self.observe()
            for part in (text[:cut], text[cut:]):
                recorder.output(part)
                recorder.typed(part)
            self.end(recorder)
            chunks = [event for event in self.events() if isinstance(event, Chunk)]
            for direction in ("i", "o"):
                shown = b"".join(chunk.data for chunk in chunks if chunk.direction == direction)
                self.assertEqual(shown.decode(), f"a {REDACTED} b sk-0 c {REDACTED} d", cut)
            self.files()[0].unlink()

    def test_byte_by_byte(self) -> None:
        """
        A secret that arrives byte by byte is replaced, and the order of events is kept.
        """
        recorder = self.observe()
        for byte in f"x{SECRET}y".encode():
            recorder.output(bytes([byte]))
        recorder.output(b"s")
        recorder.typed(b"1")
        recorder.output(b"ale")
        self.end(recorder)
        chunks = [event for event in self.events() if isinstance(event, Chunk)]
        self.assertEqual(
            b"".join(c.data for c in chunks if c.direction == "o").decode(), f"x{REDACTED}ysale"
        )
        self.assertEqual([chunk.data for chunk in chunks[-3:]], [b"s", b"1", b"ale"])

    def test_secret_in_frames(self) -> None:
        """
        A secret is replaced in messages, also in a text that the agent sends in parts.
        """

        def update(text: str) -> bytes:
            message = {
                "jsonrpc": "2.0",
                "method": "session/update",
                "params": {
                    "sessionId": "s",
                    "update": {
                        "sessionUpdate": "agent_message_chunk",
                        "content": {"type": "text", "text": text},
                    },
                },
            }
            return json.dumps(message).encode() + b"\n"

        call = json.dumps({"id": 1, "result": {SECRET: [f"a{SECRET}b", 1.5, None]}}).encode()
        for cut in range(len(SECRET) + 1):
            recorder = self.observe(None)
            recorder.typed(call + b"\n")
            recorder.output(update("It is " + SECRET[:cut]) + update(SECRET[cut:] + "."))
            recorder.stderr(f"log {SECRET}".encode())
            recorder.output(b"not JSON " + SECRET.encode() + b"\n")
            self.end(recorder)
            frames = self.frames()
            sent, first, second, log, line = [
                frame for frame in frames if frame.direction != "mark"
            ]
            self.assertEqual(
                sent.message, {"id": 1, "result": {REDACTED: [f"a{REDACTED}b", 1.5, None]}}
            )
            texts = [
                frame.message["params"]["update"]["content"]["text"] for frame in (first, second)
            ]
            self.assertEqual("".join(texts), f"It is {REDACTED}.")
            self.assertEqual((log.direction, log.data), ("err", f"log {REDACTED}"))
            self.assertEqual(line.data, f"not JSON {REDACTED}")
            self.files()[0].unlink()

    def test_frames(self) -> None:
        """
        Messages are recorded as they are, however they are cut, with the requests.
        """
        recorder = self.observe(None)
        message = {"jsonrpc": "2.0", "id": 0, "result": {"text": 'é "\n'}}
        line = json.dumps(message).encode() + b"\n"
        for byte in line:
            recorder.output(bytes([byte]))
        recorder.output(b"[NaN]\n" + b"[" * 9999 + b"\n")
        self.reactor.advance(2)
        self.ask(recorder, "r-1", "half a line")
        self.end(recorder)
        frames = self.frames()
        self.assertIn(Frame(0.0, "in", message), frames)
        self.assertIn(Frame(0.0, "in", None, "[NaN]"), frames)
        self.assertIn(Frame(2.0, "in", None, "half a line"), frames)
        marks = [mark_from_json(frame.data) for frame in frames if frame.direction == "mark"]
        self.assertEqual(
            [mark and mark.kind for mark in marks],
            ["session", "asked", "answered", "ended", "closed"],
        )

    def test_long_line(self) -> None:
        """
        A line that is too long for a message is recorded as text in pieces.
        """
        self.recordings = self.make(64 * 1024**2)
        recorder = self.observe(None)
        recorder.output(b"x" * 300_000)
        recorder.output(b"x" * 300_000 + b'\n{"id": 1}\n')
        self.end(recorder)
        texts = [frame.data for frame in self.frames() if isinstance(frame.data, str)]
        self.assertEqual(sum(map(len, texts)), 600_000)
        self.assertEqual(self.frames()[-2].message, {"id": 1})

    def test_continued(self) -> None:
        """
        A long recording goes on in a new file between two requests, and repeats the screen.
        """
        recorder = self.observe()
        for number in range(30):
            self.ask(recorder, f"r-{number}", f"\x1b[2J{number}" + "x" * 9999)
        self.end(recorder)
        first, second, *_ = self.files()
        self.assertLess(first.stat().st_size, 300_000)
        marks = self.marks(second)
        self.assertEqual(marks[1], RequestMark("continued", "", {"previous": first.name}))
        repeated = next(event for event in self.events(second) if isinstance(event, Chunk))
        self.assertTrue(repeated.data.endswith(b"x" * 999))
        last = self.marks(first)[-1]
        self.assertEqual(last and last.kind, "ended")
        named = {id for each in self.listed() for id in each["requests"]}
        self.assertEqual(named, {f"r-{number}" for number in range(30)})

    def test_old(self) -> None:
        """
        A recording of a day goes on in a new file with the next request.
        """
        recorder = self.observe()
        recorder.output(b"> ")
        self.reactor.advance(86401)
        self.ask(recorder, "r-1", "answer")
        self.end(recorder)
        self.assertEqual(len(self.files()), 2)

    def test_bounded(self) -> None:
        """
        The oldest recordings are deleted when there is too much, but never one in use.
        """
        recorders = [self.observe(worker=f"worker{number}") for number in range(3)]
        draw = random.Random(1)
        for number in range(200):
            recorder = draw.choice(recorders)
            recorder.output(b"\x1b[1m" * 5000)
            if number % 7 == 0:
                self.end(recorder)
                recorders.remove(recorder)
                recorders.append(self.observe(worker=f"worker{number}"))
            self.reactor.advance(1)
            self.recordings.process()
            total = sum(path.stat().st_size for path in self.files())
            self.assertLess(total, 1024**2 + 1)
            in_use = {each["name"] for each in self.listed() if each["ended"] is None}
            self.assertLessEqual(in_use, {path.name for path in self.files()})
        self.assertGreater(total, 500_000)

    def test_number(self) -> None:
        """
        There are never more than a number of files.
        """
        self.record_something()
        folder = self.recordings._folder
        assert folder is not None
        folder._max_files = 5
        for _ in range(20):
            self.record_something()
            self.reactor.advance(1)
        self.assertEqual(len(self.files()), 5)

    def test_in_use(self) -> None:
        """
        A recording can be read while it is written, and deleted afterwards.
        """
        recorder = self.observe()
        recorder.output(b"> ")
        self.recordings.process()
        [path] = self.files()
        opening = self.recordings.open_recording(path.name)
        deleting = self.recordings.delete(path.name)
        self.recordings.process()
        opened = self.successResultOf(opening)
        assert opened is not None
        file, size = opened
        with file:
            self.assertEqual(file.read(), path.read_bytes())
        self.assertEqual(size, path.stat().st_size)
        self.failureResultOf(deleting, RecordingInUse)
        self.end(recorder)
        deleting = self.recordings.delete(path.name)
        self.recordings.process()
        self.assertTrue(self.successResultOf(deleting))
        self.assertEqual(self.files(), [])

    def test_names(self) -> None:
        """
        No name leads to another file, and other files are neither listed nor deleted.
        """
        self.record_something(worker="../../worker")
        other = self.state / "recordings" / "other.cast"
        other.write_text("{}")
        (self.state / "recordings" / "20260101T000000Z-link-1.cast").symlink_to(other)
        self.recordings = self.make()
        self.assertEqual(len(self.listed()), 1)
        for name in ("other.cast", "../kiroworkers.lock", "20260101T000000Z-link-1.cast", ""):
            opening, deleting = self.recordings.open_recording(name), self.recordings.delete(name)
            self.recordings.process()
            self.failureResultOf(opening, UnknownRecording)
            self.failureResultOf(deleting, UnknownRecording)

    def test_replaced(self) -> None:
        """
        What somebody has put in a recording's place is not sent: it is no recording.
        """
        self.record_something()
        [path] = self.files()
        name, other = path.name, self.state.absolute() / "other"
        other.write_text("{}")
        path.unlink()
        for replace in (lambda: path.symlink_to(other), lambda: os.mkfifo(path), path.mkdir):
            replace()
            opening = self.recordings.open_recording(name)
            self.recordings.process()
            self.failureResultOf(opening, UnknownRecording)
            path.rmdir() if path.is_dir() else path.unlink()

    def test_folder_in_its_place(self) -> None:
        """
        A folder in a recording's place is not deleted: it is no recording.
        """
        self.record_something()
        self.recordings = self.make(enabled=False)
        self.listed()
        [path] = self.files()
        path.unlink()
        path.mkdir()
        deleting = self.recordings.delete(path.name)
        self.recordings.process()
        self.failureResultOf(deleting, UnknownRecording)
        self.assertTrue(path.is_dir())

    def test_next_server(self) -> None:
        """
        The next server knows the recordings with their requests, also without recording.
        """
        for window in (None, (24, 80)):
            recorder = self.observe(window)
            self.ask(recorder, "r-1", "answer")
            recorder.output(b"cut off by a crash")
            self.reactor.advance(1)
            self.recordings.process()
        self.recordings = self.make(enabled=False)
        self.assertEqual([each["requests"] for each in self.listed()], [["r-1"], ["r-1"]])
        self.assertIsNone(self.recordings.observe_session(SessionInfo("worker1", "kiro", None, ())))

    def test_index(self) -> None:
        """
        A request is found in all files that it is in, until they are deleted.
        """
        for worker in ("worker1", "worker2"):
            recorder = self.observe(worker=worker)
            self.ask(recorder, "r-1", "answer")
            self.end(recorder)
        names = self.recordings.recordings_of("r-1")
        self.assertEqual([*names], [path.name for path in self.files()])
        self.assertEqual(self.recordings.recordings_of("r-2"), ())
        for name in names:
            self.recordings.delete(name)
        self.recordings.process()
        self.assertEqual(self.recordings.recordings_of("r-1"), ())

    def test_failed(self) -> None:
        """
        A request that fails is asked elsewhere, and its end stands where it was asked last.
        """
        record = RequestRecord(id="r-1", task="story")
        first, second = self.observe(worker="worker1"), self.observe(worker="worker2")
        first.asked(record, "prompt")
        retry = RequestEvent("retry", 0.0, {"reason": "session lost", "where": "other_worker"})
        self.recordings.request_event(record, retry)
        second.asked(record, "prompt")
        record.code = "answer_unfit"
        self.recordings.request_event(record, RequestEvent("ended", 0.0, {}))
        for recorder in (first, second):
            self.end(recorder)
        one, two = ([mark and mark.kind for mark in self.marks(path)] for path in self.files())
        self.assertEqual(one, ["session", "asked", "retry", "closed"])
        self.assertEqual(two, ["session", "asked", "ended", "closed"])
        self.assertIn("answer_unfit", self.files()[1].read_text())

    def test_broken(self) -> None:
        """
        The end of a request that broke its session is marked after the session's own end.
        """
        record = RequestRecord(id="r-1", code="session_lost")
        recorder = self.observe()
        recorder.asked(record, "prompt")
        self.end(recorder)
        self.assertIsNone(self.listed()[0]["ended"])
        self.recordings.request_event(record, RequestEvent("ended", 0.0, {}))
        self.assertIsNotNone(self.listed()[0]["ended"])
        kinds = [mark and mark.kind for mark in self.marks()]
        self.assertEqual(kinds, ["session", "asked", "closed", "ended"])

    def test_same_identifier(self) -> None:
        """
        Two requests that run at the same time may have the same identifier.
        """
        records = [RequestRecord(id="r-1", task="story") for _ in range(2)]
        recorders = [self.observe(worker=f"worker{number}") for number in range(2)]
        for record, recorder in zip(records, recorders, strict=True):
            recorder.asked(record, "prompt")
        for recorder in recorders:
            self.end(recorder)
        for record in records:
            self.recordings.request_event(record, RequestEvent("ended", 0.0, {}))
        self.assertTrue(all(each["ended"] for each in self.listed()))
        for path in self.files():
            kinds = [mark and mark.kind for mark in self.marks(path)]
            self.assertEqual(kinds, ["session", "asked", "closed", "ended"])

    def test_too_slow(self) -> None:
        """
        What the thread cannot follow is dropped and declared, and markers are never dropped.
        """
        recorder = self.observe()
        for _ in range(40):
            recorder.output(b"x" * 1024**2)
        recorder.asked(RequestRecord(id="r-1"), "prompt")
        self.recordings.process()
        recorder.output(b"y")
        self.end(recorder)
        gaps = [
            mark
            for path in self.files()
            for mark in self.marks(path)
            if mark and mark.kind == "gap"
        ]
        lost = sum(int(mark.data["pieces"]) for mark in gaps)
        self.assertEqual(lost, 25)
        self.assertEqual(self.recordings.recordings_of("r-1"), (self.files()[-1].name,))

    def test_full_disk(self) -> None:
        """
        When the disk is full, what is lost is declared in a new file, and logged once.
        """
        recorder = self.observe()
        recorder.output(b"before")
        self.recordings.process()
        folder = self.recordings._folder
        assert folder is not None
        append = folder.append

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with capturedLogs() as logged:
            self.patch(folder, "append", fail)
            for _ in range(3):
                recorder.output(b"lost")
                self.recordings.process()
            self.patch(folder, "append", append)
        errors = [event for event in logged if event["log_level"] is LogLevel.error]
        self.assertEqual(len(errors), 1, logged)
        recorder.output(b"after")
        self.end(recorder)
        first, second = self.files()
        self.assertNotIn("lost", first.read_text())
        self.assertIn(RequestMark("gap", "", {"pieces": "3"}), self.marks(second))
        self.assertIn(b"after", [e.data for e in self.events(second) if isinstance(e, Chunk)])

    def test_no_folder(self) -> None:
        """
        Without a state folder, nothing is recorded, and there is nothing to read.
        """
        recordings = Recordings(self.reactor, 1024, enabled=True)
        recordings.open(None)
        self.assertIsNone(recordings.observe_session(SessionInfo("w", "kiro", None, ())))
        self.assertEqual(self.successResultOf(recordings.list(lambda info: info.name)), b"[]")
        self.assertIsNone(self.successResultOf(recordings.open_recording("x")))
        self.assertFalse(self.successResultOf(recordings.delete("x")))
        self.successResultOf(recordings.close())

    def test_close(self) -> None:
        """
        At the end of the server, everything is written and the files are closed.
        """
        recorder = self.observe()
        recorder.output(b"last")
        closed = self.recordings.close()
        self.recordings.process()
        self.successResultOf(closed)
        self.assertIn(b"last", [e.data for e in self.events() if isinstance(e, Chunk)])
        self.assertIsNone(self.recordings.observe_session(SessionInfo("w", "k", None, ())))
