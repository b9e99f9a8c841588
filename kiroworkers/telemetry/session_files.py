"""
Write the recording of a session to files; used in a thread.
"""

from __future__ import annotations

import hashlib
from math import inf
from typing import Any

from kiroworkers.conversations.request_mark import (
    ANSWERED,
    ASKED,
    CLOSED,
    CONTINUED,
    ENDED,
    GAP,
    RETRY,
    RequestMark,
)
from kiroworkers.session.observer import SessionInfo
from kiroworkers.telemetry.recording_folder import SESSION, RecordingFile, RecordingFolder
from kiroworkers.telemetry.recording_formats import RecordingFormat, RecordingHeader, new_format
from kiroworkers.telemetry.redaction import SecretFinder

#: Seconds after which a recording goes on in a new file when no request runs.
_MAX_AGE = 86400.0


class SessionFiles:
    """
    Write the files of one session, one after the other.

    Args:
        folder: Keeps the files.
        info: What is known about the session.
        finders: Find its secrets, in text and in bytes.
        max_file: The size after which a file is ended when no request runs, in bytes.

    Attributes:
        pending_bytes: The size of what is not written yet.
    """

    def __init__(
        self,
        folder: RecordingFolder,
        info: SessionInfo,
        finders: tuple[SecretFinder, SecretFinder],
        max_file: int,
    ) -> None:
        self._folder = folder
        self._info = info
        self._finders = finders
        self._max_file = max_file
        self._file: RecordingFile | None = None
        self._format: RecordingFormat | None = None
        self._began = 0.0
        self._now = 0.0
        self._text: list[str] = []
        self.pending_bytes = 0
        # What could not be written, and how much of that the next write declares.
        self._lost_pieces = self._declared = 0
        self._pieces = 0
        self._asking: str | None = None
        self._has_ended = False
        self._digest = ""

    @property
    def bytes(self) -> int:
        """
        Return the size of the file that is being written.
        """
        return 0 if self._file is None else self._file.bytes

    @property
    def is_complete(self) -> bool:
        """
        Return whether the session has ended, and so has its last request.

        A request ends a moment after the session that it broke.
        """
        return self._has_ended and not self._asking

    def handle(self, now: float, kind: str, data: Any) -> None:
        """
        Add what has happened to the recording.
        """
        self._now = now
        if kind == "end":
            self._has_ended = True
            if self._file is None:
                # A session that did not even start has nothing to show.
                return
        mark: RequestMark | None = data if kind == "mark" else None
        if mark is not None and mark.kind == ASKED:
            self._rotate_if_due(self._max_file, _MAX_AGE)
            self._asking = mark.request
        try:
            format = self._open()
        except OSError:
            self._lost_pieces += 1
            raise
        seconds = now - self._began
        match kind:
            case "output":
                self._add(format.output(seconds, data))
            case "stderr":
                self._add(format.stderr(seconds, data))
            case "typed":
                self._add(format.typed(seconds, data))
            case "reply":
                text = self._finders[0].redact(data)
                self._digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
            case "gap":
                pieces, size = data
                self._mark(RequestMark(GAP, "", {"pieces": str(pieces), "bytes": str(size)}))
            case "end":
                self._mark(RequestMark(CLOSED, "", {"reason": data} if data else {}))
            case _ if mark is not None:
                self._handle_mark(mark)
        self._pieces += 1
        # In the midst of a request only if there is no end to it.
        self._rotate_if_due(2 * self._max_file)

    def _handle_mark(self, mark: RequestMark) -> None:
        if mark.request and self._file is not None:
            self._folder.note_request(mark.request, self._file)
        if mark.kind == ANSWERED and self._digest:
            mark = RequestMark(mark.kind, mark.request, {**mark.data, "sha256": self._digest})
            self._digest = ""
        if mark.kind in (ENDED, RETRY) and mark.request == self._asking:
            self._asking = None
        self._mark(mark)

    def _open(self) -> RecordingFormat:
        """
        Return the format of the file that is being written; begin one if there is none.
        """
        if self._format is not None:
            return self._format
        info = self._info
        suffix = "jsonl" if info.window is None else "cast"
        file = self._file = self._folder.create(info.worker, info.agent, suffix)
        self._began = self._now
        header = RecordingHeader(info.worker, info.agent, info.window, file.started)
        self._format = new_format(header, self._finders)
        self._add(self._format.header())
        self._mark(RequestMark(SESSION, "", {"worker": info.worker, "agent": info.agent}))
        if self._lost_pieces:
            self._mark(RequestMark(GAP, "", {"pieces": str(self._lost_pieces)}))
            self._declared, self._lost_pieces = self._lost_pieces, 0
        return self._format

    def _mark(self, mark: RequestMark) -> None:
        if self._format is not None:
            self._add(self._format.mark(self._now - self._began, mark))

    def _add(self, text: str) -> None:
        if text:
            self._text.append(text)
            self.pending_bytes += len(text)

    def _rotate_if_due(self, max_size: int, max_age: float = inf) -> None:
        """
        Begin a new file if this one is larger than `max_size` bytes, or older than `max_age`.
        """
        if self._file is None:
            return
        size = self._file.bytes + self.pending_bytes
        if size > max_size or self._now - self._began > max_age:
            self.rotate(repeat=True)

    def rotate(self, *, repeat: bool) -> None:
        """
        End this file, and go on in a new one.

        Args:
            repeat: Whether the new one begins with the last output.

        Raises:
            OSError: If that fails.
        """
        if self._file is None or self._format is None:
            return
        tail = self._format.tail()[-(self._max_file // 16) :] if repeat else b""
        previous = self._file.name
        self.close()
        format = self._open()
        self._mark(RequestMark(CONTINUED, "", {"previous": previous}))
        if tail:
            self._add(format.output(0.0, tail))
        self._note_asking()
        self.write()

    def _note_asking(self) -> None:
        if self._asking and self._file is not None:
            self._folder.note_request(self._asking, self._file)

    def write(self) -> None:
        """
        Write what is pending.  If that fails, it is lost, and the next file says so.

        Raises:
            OSError: If it cannot be written.
        """
        if self._file is None or not self._text:
            return
        pieces, self._pieces = self._pieces, 0
        text, self._text, self.pending_bytes = "".join(self._text), [], 0
        try:
            self._folder.append(self._file, text)
        except OSError:
            self._lost_pieces += max(1, pieces) + self._declared
            self._declared = 0
            # Another file is begun, because the times after a gap would be wrong.
            self._folder.close(self._file)
            self._file = self._format = None
            raise
        self._declared = 0

    def close(self) -> None:
        """
        End the file.

        Raises:
            OSError: If the rest cannot be written.
        """
        if self._file is not None and self._format is not None:
            self._add(self._format.close(self._now - self._began))
            self.write()
            self._folder.close(self._file)
            self._file = self._format = None
