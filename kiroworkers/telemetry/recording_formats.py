"""
Format the recording of a session, without the secrets that the session was given.

A terminal is recorded as an asciicast, and an agent that speaks a protocol as JSON lines;
docs/recordings.rst describes both.  What may be the beginning of a secret waits until it is
decided, and so does everything after it, because the order of events matters.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import define, frozen

from kiroworkers.conversations.acp.recording import JSONL_FORMAT, JSONL_VERSION
from kiroworkers.conversations.request_mark import ANSWERED, ASKED, RequestMark
from kiroworkers.conversations.terminal.recording import Chunk, Marker, RecordingWriter
from kiroworkers.images import LEFT_OUT, after_base64, without_base64
from kiroworkers.telemetry.redaction import RedactingStream, SecretFinder

#: A longer line is recorded as text in pieces, not as a message, in bytes: it would take long to
#: parse.
_MAX_FRAME = 256 * 1024

#: The events that may wait until a secret is decided.
_MAX_WAITING = 1000

#: How much of the last output is repeated in the next file of a long session, in characters.
_MAX_TAIL = 64 * 1024

#: What erases the whole screen, so that players need nothing before it.
_ERASES = re.compile("\x1bc|\x1b\\[[23]?J|\x1b\\[\\?1049h")

#: The parts of a message of an agent, each of which is a piece of one text.
_TEXT_UPDATES = ("agent_message_chunk", "agent_thought_chunk", "user_message_chunk")


@frozen
class RecordingHeader:
    """
    Hold what the beginning of a recording says.

    Attributes:
        worker: The name of the worker.
        agent: The name of the agent.
        window: The rows and columns of the terminal; None for a protocol.
        started: When the recording begins, in seconds since the epoch.
    """

    worker: str
    agent: str
    window: tuple[int, int] | None
    started: float


class RecordingFormat(Protocol):
    """
    Format the events of one file, in the order in which they happen.

    Each method returns the lines that have become due.  Times are in seconds since the beginning
    of the file.
    """

    def header(self) -> str:
        """
        Return the first line.
        """

    def output(self, seconds: float, data: bytes) -> str:
        """
        Add what the agent has printed.
        """

    def stderr(self, seconds: float, data: bytes) -> str:
        """
        Add what the agent has printed to its standard error.
        """

    def typed(self, seconds: float, data: bytes) -> str:
        """
        Add what was typed into the agent.
        """

    def mark(self, seconds: float, mark: RequestMark) -> str:
        """
        Add a marker.
        """

    def close(self, seconds: float) -> str:
        """
        Return everything that was waiting.
        """

    def tail(self) -> bytes:
        """
        Return the last output, to be repeated at the beginning of the next file.
        """


def new_format(
    header: RecordingHeader, finders: tuple[SecretFinder, SecretFinder]
) -> RecordingFormat:
    """
    Return the format for a session.

    Args:
        header: What is known about the session.
        finders: Find its secrets, in text and in bytes.
    """
    text_finder, byte_finder = finders
    if header.window is None:
        return FramesFormat(header, text_finder)
    return CastFormat(header, text_finder, byte_finder)


@define(eq=False)
class _Waiting:
    """
    Hold an event that is not written yet.

    Attributes:
        write: Returns its lines, given its text.
        text: Its text; None while it is undecided.
    """

    write: Callable[[str], str]
    text: str | None


class _Queue:
    """
    Keep events in their order while some of their texts are undecided.
    """

    def __init__(self) -> None:
        self._events: deque[_Waiting] = deque()
        self._streams: dict[str, tuple[RedactingStream, deque[_Waiting]]] = {}

    def add(self, text: str, write: Callable[[str], str]) -> None:
        """
        Add an event whose text is decided.
        """
        self._events.append(_Waiting(write, text))

    def add_text(
        self, name: str, finder: SecretFinder, text: str, write: Callable[[str], str]
    ) -> None:
        """
        Add an event with text of the stream called `name`; it may be written as two events.
        """
        if not finder.forms:
            self.add(text, write)
            return
        for part in self._stream(name, finder)[0].split(text):
            if part:
                self.add_piece(name, finder, part, write)

    def add_piece(
        self, name: str, finder: SecretFinder, piece: str, write: Callable[[str], str]
    ) -> None:
        """
        Add an event with a piece of the stream called `name`, to be written as one event.
        """
        stream, waiting = self._stream(name, finder)
        event = _Waiting(write, None)
        self._events.append(event)
        waiting.append(event)
        for decided in stream.feed(piece):
            waiting.popleft().text = decided

    def _stream(self, name: str, finder: SecretFinder) -> tuple[RedactingStream, deque[_Waiting]]:
        if name not in self._streams:
            self._streams[name] = (RedactingStream(finder), deque())
        return self._streams[name]

    def flush(self) -> None:
        """
        Decide everything.
        """
        for stream, waiting in self._streams.values():
            for decided in stream.flush():
                waiting.popleft().text = decided
        self._streams.clear()

    def due(self) -> str:
        """
        Return the lines of the events that need not wait.
        """
        if len(self._events) > _MAX_WAITING:
            self.flush()
        lines = []
        while self._events and (text := self._events[0].text) is not None:
            lines.append(self._events.popleft().write(text))
        return "".join(lines)


class CastFormat:
    """
    Record a terminal as an asciicast.
    """

    def __init__(
        self, header: RecordingHeader, text_finder: SecretFinder, byte_finder: SecretFinder
    ) -> None:
        assert header.window is not None, "a protocol has no terminal"
        self._writer = RecordingWriter(
            *header.window,
            title=f"{header.worker} ({header.agent})",
            timestamp=header.started,
        )
        self._text_finder = text_finder
        self._byte_finder = byte_finder
        self._queue = _Queue()
        # The last output, in at least as many characters as are repeated.
        self._tail: deque[str] = deque()
        self._tail_size = 0

    def header(self) -> str:
        """
        Return the first line.
        """
        return self._writer.header()

    def output(self, seconds: float, data: bytes) -> str:
        """
        Add what the agent has printed.
        """

        def write(text: str) -> str:
            self._tail.append(text)
            self._tail_size += len(text)
            while self._tail_size - len(self._tail[0]) >= _MAX_TAIL:
                self._tail_size -= len(self._tail.popleft())
            return self._writer.line(Chunk(seconds, "o", text.encode("latin-1")))

        return self._add("o", data, write)

    def stderr(self, seconds: float, data: bytes) -> str:
        """
        Add what the agent has printed to its standard error, which on a terminal is output.
        """
        return self.output(seconds, data)

    def typed(self, seconds: float, data: bytes) -> str:
        """
        Add what was typed into the agent.
        """

        def write(text: str) -> str:
            return self._writer.line(Chunk(seconds, "i", text.encode("latin-1")))

        return self._add("i", data, write)

    def _add(self, name: str, data: bytes, write: Callable[[str], str]) -> str:
        self._queue.add_text(name, self._byte_finder, data.decode("latin-1"), write)
        return self._queue.due()

    def mark(self, seconds: float, mark: RequestMark) -> str:
        """
        Add a marker.
        """
        # A value of a marker may be what an agent says.
        label = self._text_finder.redact(mark.label())
        self._queue.add(label, lambda text: self._writer.marker(Marker(seconds, text)))
        return self._queue.due()

    def close(self, seconds: float) -> str:
        """
        Return everything that was waiting.
        """
        self._queue.flush()
        return self._queue.due() + self._writer.closing_lines(seconds)

    def tail(self) -> bytes:
        """
        Return the last output, from where the screen was erased or a line begins.
        """
        tail = "".join(self._tail)[-_MAX_TAIL:]
        erased = [match.start() for match in _ERASES.finditer(tail)]
        start = erased[-1] if erased else tail.find("\n") + 1 if len(tail) == _MAX_TAIL else 0
        return tail[start:].encode("latin-1")


class FramesFormat:
    """
    Record the messages of a protocol as JSON lines.
    """

    def __init__(self, header: RecordingHeader, finder: SecretFinder) -> None:
        self._header = header
        self._finder = finder
        self._queue = _Queue()
        self._stderr_decoder = getincrementaldecoder("utf-8")("replace")
        self._lines = {"in": bytearray(), "out": bytearray()}
        # Whether the current line is too long, so that its beginning was recorded already.
        self._is_long = {"in": False, "out": False}
        # Whether the current line goes on with base64 that is left out.
        self._in_base64 = {"in": False, "out": False}

    def header(self) -> str:
        """
        Return the first line.
        """
        header = self._header
        return _line(
            {
                "format": JSONL_FORMAT,
                "version": JSONL_VERSION,
                "timestamp": int(header.started),
                "worker": header.worker,
                "agent": header.agent,
            }
        )

    def output(self, seconds: float, data: bytes) -> str:
        """
        Add what the agent has sent.
        """
        return self._feed(seconds, "in", data)

    def typed(self, seconds: float, data: bytes) -> str:
        """
        Add what was sent to the agent.
        """
        return self._feed(seconds, "out", data)

    def stderr(self, seconds: float, data: bytes) -> str:
        """
        Add what the agent has printed to its standard error.
        """
        text = self._stderr_decoder.decode(data)
        self._add_text(seconds, "err", text)
        return self._queue.due()

    def mark(self, seconds: float, mark: RequestMark) -> str:
        """
        Add a marker.
        """
        if mark.kind in (ASKED, ANSWERED):
            # No text goes on in another turn.
            self._queue.flush()
        data = _redacted(mark.json(), self._finder)
        self._queue.add("", lambda _: _event(seconds, "mark", "data", data))
        return self._queue.due()

    def close(self, seconds: float) -> str:
        """
        Return everything that was waiting, also lines that are not complete.
        """
        for direction, line in self._lines.items():
            if line:
                text = without_base64(bytes(line)).decode("utf-8", "replace")
                self._add_text(seconds, direction, text)
                line.clear()
        self._queue.flush()
        return self._queue.due()

    def tail(self) -> bytes:
        """
        Return nothing: a message has no effect on a later one.
        """
        return b""

    def _feed(self, seconds: float, direction: str, data: bytes) -> str:
        *ends, rest = data.split(b"\n")
        line = self._lines[direction]
        for end in ends:
            self._append(direction, end)
            self._in_base64[direction] = False
            if self._is_long[direction] or len(line) > _MAX_FRAME:
                text = without_base64(bytes(line)).decode("utf-8", "replace")
                self._add_text(seconds, direction, text)
            elif line.strip():
                self._add_line(seconds, direction, without_base64(bytes(line)))
            self._is_long[direction] = False
            line.clear()
        self._append(direction, rest)
        if len(line) > _MAX_FRAME:
            self._is_long[direction] = True
            self._add_text(seconds, direction, line.decode("utf-8", "replace"))
            line.clear()
        return self._queue.due()

    def _append(self, direction: str, part: bytes) -> None:
        """
        Append `part` to the current line, without the base64 that makes it long.
        """
        line = self._lines[direction]
        if self._in_base64[direction]:
            part = after_base64(part)
            self._in_base64[direction] = not part
        line += part
        if len(line) > _MAX_FRAME:
            line[:] = without_base64(bytes(line))
            self._in_base64[direction] = line.endswith(LEFT_OUT)

    def _add_line(self, seconds: float, direction: str, line: bytes) -> None:
        try:
            raw = line.decode().strip()
            # Parsed in any case: what is not JSON must not get into the file.
            frame = json.loads(raw, parse_constant=_refuse)
            chunk = _text_chunk(frame)
            # Without a backslash, each string is in the line as it is.
            is_clean = "\\" not in raw and self._finder.redact(raw) is raw
            if chunk is None:
                encoded = raw if is_clean else _dumps(_redacted(frame, self._finder))
                self._queue.add("", lambda _: _frame_line(seconds, direction, encoded))
                return
        except (ValueError, RecursionError):
            self._add_text(seconds, direction, line.decode("utf-8", "replace"))
            return
        name, content = chunk
        piece = content["text"]

        def write(text: str) -> str:
            if is_clean and text is piece:
                return _frame_line(seconds, direction, raw)
            content["text"] = ""
            redacted = _redacted(frame, self._finder)
            _, content_there = _text_chunk(redacted) or ("", {})
            content_there["text"] = text
            return _frame_line(seconds, direction, _dumps(redacted))

        self._queue.add_piece(f"{direction} {name}", self._finder, piece, write)

    def _add_text(self, seconds: float, direction: str, text: str) -> None:
        self._queue.add_text(
            f"{direction} text",
            self._finder,
            text,
            lambda text: _event(seconds, direction, "data", text),
        )


def _text_chunk(frame: Any) -> tuple[str, dict[str, Any]] | None:
    """
    Return the name and the content of the piece of text in a message, or None if it has none.
    """
    match frame:
        case {
            "method": "session/update",
            "params": {
                "sessionId": str(session),
                "update": {
                    "sessionUpdate": str(kind),
                    "content": {"type": "text", "text": str()} as content,
                },
            },
        } if kind in _TEXT_UPDATES:
            return f"{session} {kind}", content
        case _:
            return None


def _redacted(value: Any, finder: SecretFinder) -> Any:
    """
    Return a JSON value without secrets in its strings and names.
    """
    if not finder.forms:
        return value
    match value:
        case str():
            return finder.redact(value)
        case list():
            return [_redacted(item, finder) for item in value]
        case Mapping():
            return {finder.redact(name): _redacted(item, finder) for name, item in value.items()}
        case _:
            return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _frame_line(seconds: float, direction: str, encoded: str) -> str:
    return f'{{"t":{round(seconds, 6)!r},"dir":"{direction}","frame":{encoded}}}\n'


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _event(seconds: float, direction: str, key: str, value: Any) -> str:
    return _line({"t": round(seconds, 6), "dir": direction, key: value})


def _line(value: Mapping[str, Any]) -> str:
    return _dumps(value) + "\n"
