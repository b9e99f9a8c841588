"""
Keep recordings in a folder, bounded in size and in number.

Everything here waits for the disk, so it is used in a thread.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, TypeAlias

from attrs import define, field, frozen

from kiroworkers.clocks import WallClock
from kiroworkers.conversations.request_mark import RequestMark, mark_from_json, read_mark

#: The maximum number of files.
MAX_FILES = 2000

#: The maximum number of requests that are listed with one file: the last ones.
MAX_REQUESTS = 10_000

#: The number of requests for which is known where they are recorded, and of files of each.
_MAX_INDEXED, _MAX_NAMES = 10_000, 10

#: The name of a recording; nothing else in the folder is touched.
NAME = re.compile(
    r"\d{8}T\d{6}Z-[A-Za-z0-9_][A-Za-z0-9._-]{0,99}-\d{1,6}\.(?:cast|jsonl)", re.ASCII
)

#: The marker at the beginning of a file, with the worker and the agent.
SESSION = "session"

#: The longest line that is searched for a marker, in bytes.
_MAX_MARK_LINE = 8192

#: A file that is opened for reading, without a buffer.
RawFile: TypeAlias = FileIO

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)


class RecordingInUse(Exception):
    """
    Raised when a recording cannot be deleted, because it is being written.
    """


class UnknownRecording(Exception):
    """
    Raised when there is no recording of a name.
    """


@frozen
class RecordingInfo:
    """
    Describe a recording.

    Attributes:
        name: The name of its file.
        worker: The name of the worker.
        agent: The name of the agent.
        format: ``asciicast`` or ``jsonl``.
        started: When it began, in seconds since the epoch.
        ended: When it ended; None while it is being written.
        bytes: Its size.
        requests: The identifiers of the requests in it, in their order.
    """

    name: str
    worker: str
    agent: str
    format: str
    started: float
    ended: float | None
    bytes: int
    requests: tuple[str, ...]


@define(eq=False)
class RecordingFile:
    """
    Hold what is known about one file.

    Attributes:
        name: Its name.
        started: When it began, in seconds since the epoch.
        bytes: Its size.
        descriptor: The open file; None if it is not being written.
        ended: When it was written last, in seconds since the epoch.
        worker: The name of the worker.
        agent: The name of the agent.
        requests: The identifiers of the requests in it; the values mean nothing.
        searched: Whether the facts above are known.
    """

    name: str
    started: float
    bytes: int = 0
    descriptor: int | None = None
    ended: float = 0.0
    worker: str = ""
    agent: str = ""
    requests: dict[str, None] = field(factory=dict)
    searched: bool = False

    @property
    def format(self) -> str:
        """
        Return the format, as clients read it.
        """
        return "asciicast" if self.name.endswith(".cast") else "jsonl"

    def add_request(self, id: str) -> None:
        """
        Note that the request `id` is in the recording.
        """
        if id not in self.requests and len(self.requests) >= MAX_REQUESTS:
            del self.requests[next(iter(self.requests))]
        self.requests[id] = None

    def info(self) -> RecordingInfo:
        """
        Return the description.
        """
        return RecordingInfo(
            self.name,
            self.worker,
            self.agent,
            self.format,
            self.started,
            self.ended if self.descriptor is None else None,
            self.bytes,
            tuple(self.requests),
        )


class RecordingFolder:
    """
    Create, find, read and delete recordings.

    Args:
        path: The folder, which exists.
        max_bytes: The size of all recordings together.
        wall_clock: Returns the seconds since the epoch.
        max_files: The number of recordings.

    Attributes:
        files: The files by name, the oldest first.
        by_request: The names of the files that a request is in, by its identifier; only for
            requests that were recorded since the folder was opened.
    """

    def __init__(
        self, path: Path, max_bytes: int, wall_clock: WallClock, max_files: int = MAX_FILES
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._wall_clock = wall_clock
        self.by_request: dict[str, tuple[str, ...]] = {}
        self.files: dict[str, RecordingFile] = {}
        self._bytes = 0
        for name, status in sorted(_regular_files(path)):
            started = datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            file = RecordingFile(name, started.timestamp(), status.st_size, ended=status.st_mtime)
            self.files[name] = file
            self._bytes += file.bytes

    def create(self, worker: str, agent: str, suffix: str) -> RecordingFile:
        """
        Create a file, which only this user can read.

        Args:
            worker: The name of the worker.
            agent: The name of the agent.
            suffix: ``cast`` or ``jsonl``.

        Raises:
            OSError: If it cannot be created.
        """
        started = self._wall_clock()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started))
        base = f"{moment}-{_UNSAFE.sub('_', worker).lstrip('.-') or '_'}"[:100]
        number = 1
        while True:
            name = f"{base}-{number}.{suffix}"
            try:
                descriptor = os.open(
                    self._path / name,
                    os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC,
                    0o600,
                )
            except FileExistsError:
                number += 1
                continue
            file = RecordingFile(name, started, 0, descriptor, started, worker, agent)
            file.searched = True
            self.files[name] = file
            return file

    def append(self, file: RecordingFile, text: str) -> None:
        """
        Write `text` to the end of `file`, all of it or nothing.

        Raises:
            OSError: If it cannot be written.
        """
        assert file.descriptor is not None, "the file is being written"
        data = memoryview(text.encode())
        try:
            written = 0
            while written < len(data):
                written += os.write(file.descriptor, data[written:])
        except OSError:
            # Half a line would make the rest unreadable.
            with suppress(OSError):
                os.ftruncate(file.descriptor, file.bytes)
                os.lseek(file.descriptor, file.bytes, os.SEEK_SET)
            raise
        file.bytes += len(data)
        self._bytes += len(data)

    def note_request(self, id: str, file: RecordingFile) -> None:
        """
        Note that the request `id` is recorded in `file`.
        """
        file.add_request(id)
        names = self.by_request.get(id, ())
        if file.name not in names:
            if not names and len(self.by_request) >= _MAX_INDEXED:
                del self.by_request[next(iter(self.by_request))]
            self.by_request[id] = (*names[1 - _MAX_NAMES :], file.name)

    def close(self, file: RecordingFile) -> None:
        """
        End `file`, and remove it if nothing could be written to it.
        """
        if file.descriptor is not None:
            with suppress(OSError):
                os.close(file.descriptor)
            file.descriptor, file.ended = None, self._wall_clock()
            if not file.bytes:
                self._remove(file)

    @property
    def _is_too_large(self) -> bool:
        """
        Return whether there is more than there may be.
        """
        return self._bytes > self._max_bytes or len(self.files) > self._max_files

    def make_room(self) -> bool:
        """
        Delete the oldest files until there is no more than there may be.

        Return False if there are still too many bytes, because the rest is being written.
        """
        closed = [file for file in self.files.values() if file.descriptor is None]
        for file in closed:
            if not self._is_too_large:
                return True
            self._remove(file)
        return self._bytes <= self._max_bytes

    def delete(self, name: str) -> None:
        """
        Delete a recording.

        Raises:
            UnknownRecording: There is none of that name, or a folder is in its place.
            RecordingInUse: It is being written.
            OSError: It cannot be deleted.
        """
        file = self._find(name)
        if file.descriptor is not None:
            raise RecordingInUse(name)
        try:
            self._remove(file)
        except IsADirectoryError:
            raise UnknownRecording(name) from None

    def open(self, name: str) -> tuple[RawFile, int]:
        """
        Return a recording as a file to read from, and its size now.

        Raises:
            UnknownRecording: There is none of that name, or something else is in its place.
        """
        file = self._find(name)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path / name, flags)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                raise UnknownRecording(name) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnknownRecording(name)
        # A file object is closed, too, if nobody waits for it any more.
        return RawFile(descriptor, "r"), file.bytes

    def list(self) -> list[RecordingInfo]:
        """
        Return the descriptions of all recordings, the newest first.
        """
        for file in self.files.values():
            if not file.searched:
                self._search(file)
        return [file.info() for file in reversed(self.files.values())]

    def _find(self, name: str) -> RecordingFile:
        # Not by looking for the path: a name from outside must not lead anywhere else.
        file = self.files.get(name)
        if file is None:
            raise UnknownRecording(name)
        return file

    def _remove(self, file: RecordingFile) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path / file.name)
        del self.files[file.name]
        self._bytes -= file.bytes
        for id in file.requests:
            names = tuple(name for name in self.by_request.get(id, ()) if name != file.name)
            if names:
                self.by_request[id] = names
            else:
                self.by_request.pop(id, None)

    def _search(self, file: RecordingFile) -> None:
        """
        Read the facts in the markers of a file that an earlier server wrote.
        """
        file.searched = True
        with suppress(OSError), open(self._path / file.name, "rb") as opened:
            for mark in _marks(opened):
                if mark.kind == SESSION:
                    file.worker = mark.data.get("worker", "")
                    file.agent = mark.data.get("agent", "")
                elif mark.request:
                    file.add_request(mark.request)


def _regular_files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(path) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name):
                with suppress(OSError, ValueError):
                    status = entry.stat(follow_symlinks=False)
                    datetime.strptime(entry.name[:16], "%Y%m%dT%H%M%SZ")
                    if stat.S_ISREG(status.st_mode):
                        yield entry.name, status


def _marks(lines: Iterator[bytes] | Any) -> Iterator[RequestMark]:
    """
    Yield the markers in the lines of a recording.
    """
    for line in lines:
        # Most lines are ruled out without parsing them.
        if len(line) > _MAX_MARK_LINE or not (b'"m"' in line or b'"mark"' in line):
            continue
        mark: RequestMark | None = None
        try:
            match json.loads(line):
                case [_, "m", str(label)]:
                    mark = read_mark(label)
                case {"dir": "mark", "data": Mapping() as data}:
                    mark = mark_from_json(data)
        except ValueError:
            continue
        if mark is not None:
            yield mark
