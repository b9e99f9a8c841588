"""
Keep the newest output of a session, and show it to those who watch.

A session that nobody watches only costs the copying of its output into a buffer.  A view is made
when somebody begins to watch, and is dropped with the last viewer.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal, Protocol, TypeAlias

from kiroworkers.conversations.acp.messages import MessageReader, ShownMessage, join_messages
from kiroworkers.conversations.terminal.emulator import Emulator

#: The maximum number of bytes that are kept of a session's output.
MAX_OUTPUT = 128 * 1024

#: The size from which on a piece is not joined with the next one.
_MIN_PIECE = 256

#: How far the beginning of what is read is moved on, at most, to a place where text is whole.
_MAX_SHIFT = 4096
_WHOLE = re.compile(rb"\n|(?=\x1b)")

#: The number of bytes that the emulator reads at a time: a few milliseconds.
_STEP = 4096

#: The bytes from the end of the output that an emulator reads at once if it must.
_MAX_AT_ONCE = 8 * 1024

#: The maximum number of messages that are kept, and of characters in them.
_MAX_MESSAGES = 200
_MAX_CHARACTERS = 256 * 1024

#: The size that tools are told for an agent that has no terminal.
_NO_WINDOW = (24, 80)

#: A message for viewers, before it is encoded.
Message: TypeAlias = Mapping[str, Any]

#: Where the bytes of a session with pipes come from.
Side: TypeAlias = Literal["agent", "server"]


class View(Protocol):
    """
    Define what shows a session to all who watch it.
    """

    def add(self, side: Side, data: bytes) -> bool:
        """
        Take in new bytes; return whether there is something new to show, now or later.
        """

    def news(self) -> list[Message] | None:
        """
        Return the messages about what is new; None if there is too much to send it all.
        """

    def catch_up(self, hurry: bool) -> bool:
        """
        Work a few milliseconds for `whole`; return whether that can be called now.

        Args:
            hurry: Whether it must be possible now, even if something may be missing.
        """

    def whole(self) -> list[Message]:
        """
        Return the messages that show everything, to those who have seen nothing yet.
        """


class ShownSession(Protocol):
    """
    Define a session that can be watched.
    """

    def add(self, side: Side, data: bytes) -> None:
        """
        Keep new bytes.
        """

    def view(self) -> View:
        """
        Return a view of the session, from what is kept.
        """

    def text(self) -> str:
        """
        Return what is shown now, as plain text.
        """


class KeptBytes:
    """
    Keep the newest bytes of a session, in the pieces in which they came.

    Attributes:
        pieces: What is kept, with where it comes from.
        size: The number of bytes in it.
        total: The number of all bytes so far.
    """

    def __init__(self) -> None:
        self.pieces: deque[tuple[Side, bytes]] = deque()
        self.size = self.total = 0

    @property
    def has_lost(self) -> bool:
        """
        Return whether bytes were forgotten.
        """
        return self.total > self.size

    def add(self, side: Side, data: bytes) -> None:
        """
        Keep `data`, and forget the oldest pieces if there are too many bytes.
        """
        pieces = self.pieces
        if pieces and len(pieces[-1][1]) < _MIN_PIECE and pieces[-1][0] == side:
            # Each piece is an object of its own, which needs more memory than a few bytes.
            pieces[-1] = (side, pieces[-1][1] + data)
        else:
            pieces.append((side, data))
        self.size += len(data)
        self.total += len(data)
        while self.size > MAX_OUTPUT:
            first_side, first = pieces.popleft()
            self.size -= len(first)
            if not pieces:
                pieces.append((first_side, first[-MAX_OUTPUT:]))
                self.size = MAX_OUTPUT

    def join(self) -> bytes:
        """
        Return all bytes, beginning at a place where they can be read from.
        """
        data = b"".join([data for _, data in self.pieces])
        place = _WHOLE.search(data, 0, _MAX_SHIFT) if self.has_lost else None
        return data if place is None else data[place.end() :]

    def last(self) -> bytes:
        """
        Return the last bytes, at least as many as a character has.
        """
        last = [data for _, data in islice(reversed(self.pieces), 4)]
        return b"".join(reversed(last))[-4:]


class TerminalSession:
    """
    Keep the newest output on a terminal.

    Attributes:
        output: What is kept.
        rows: The terminal's height.
        columns: The terminal's width.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.output = KeptBytes()

    def add(self, side: Side, data: bytes) -> None:
        """
        Keep output.  What is typed is not kept: the agent shows it, or has a reason not to.
        """
        if side == "agent":
            self.output.add(side, data)

    def view(self) -> View:
        """
        Return a view of the terminal.
        """
        return TerminalView(self)

    def text(self) -> str:
        """
        Return the text on the screen, as far as the newest output has drawn it.
        """
        return "\n".join(self.draw_newest().rows()).strip("\n")

    def draw_newest(self) -> Emulator:
        """
        Return an emulator that has read the newest output, as much as it reads at once.
        """
        emulator = Emulator(self.rows, self.columns, 0)
        emulator.feed(self.output.join()[-_MAX_AT_ONCE:], _ignore)
        return emulator


class TerminalView:
    """
    Show a terminal.  The screen is drawn by an emulator, only when somebody needs all of it.

    Args:
        session: The session with the terminal.
    """

    def __init__(self, session: TerminalSession) -> None:
        self._session = session
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._decode = _decoder()
        self._emulator: Emulator | None = None
        # The number of bytes of all output up to what the emulator is given, and what it has
        # not read of that.
        self._position = 0
        self._unread = b""

    def add(self, side: Side, data: bytes) -> bool:
        """
        Take in new output.
        """
        if side == "server":
            return False
        if self._unsent_size <= MAX_OUTPUT:
            self._unsent.append(data)
            self._unsent_size += len(data)
        return True

    def news(self) -> list[Message] | None:
        """
        Return the output since the last call as one message.

        A character that was cut follows with the next one.
        """
        too_much = self._unsent_size > MAX_OUTPUT
        text = "" if too_much else self._decode(b"".join(self._unsent))
        self._unsent.clear()
        self._unsent_size = 0
        if too_much:
            return None
        return [{"type": "output", "data": text}] if text else []

    def catch_up(self, hurry: bool) -> bool:
        """
        Let the emulator read a part of the output that it has not read yet.
        """
        session, output = self._session, self._session.output
        if hurry:
            self._emulator = session.draw_newest()
            self._unread, self._position = b"", output.total
            return True
        if not self._unread:
            new = output.total - self._position
            if self._emulator is None or new > output.size:
                self._emulator = Emulator(session.rows, session.columns, 0)
                self._unread = output.join()
            elif new:
                self._unread = output.join()[-new:]
            self._position = output.total
        data, self._unread = self._unread[:_STEP], self._unread[_STEP:]
        assert self._emulator is not None, "it was made above"
        self._emulator.feed(data, _ignore)
        return not self._unread and self._position == output.total

    def whole(self) -> list[Message]:
        """
        Return the screen; what `news` returns from now on comes after it.
        """
        assert self._emulator is not None, "it has caught up"
        # A character that was cut is drawn by nobody yet.
        self._decode = _decoder()
        self._decode(unfinished_character(self._session.output.last()))
        rows, columns = self._session.rows, self._session.columns
        data = self._emulator.redraw()
        return [{"type": "screen", "data": data, "columns": columns, "rows": rows}]


class ProtocolSession:
    """
    Keep the newest frames of an agent that speaks a protocol, in both directions.
    """

    def __init__(self) -> None:
        self.frames = KeptBytes()

    def add(self, side: Side, data: bytes) -> None:
        """
        Keep the bytes of frames.
        """
        self.frames.add(side, data)

    def view(self) -> View:
        """
        Return a view of the messages.
        """
        return ProtocolView(self.frames)

    def text(self) -> str:
        """
        Return the last messages as plain text.
        """
        return "\n".join(f"{message.role}: {message.text}" for message in self.messages())

    def messages(self) -> list[ShownMessage]:
        """
        Return the last messages.
        """
        return ProtocolView(self.frames).messages


class ProtocolView:
    """
    Show the messages of a conversation.

    Attributes:
        messages: The last messages.

    Args:
        frames: The newest bytes so far.
    """

    def __init__(self, frames: KeptBytes) -> None:
        self.messages: list[ShownMessage] = []
        self._unsent: list[ShownMessage] = []
        self._reader = MessageReader(incomplete=frames.has_lost)
        for side, data in frames.pieces:
            self._keep(self._read(side, data))

    def add(self, side: Side, data: bytes) -> bool:
        """
        Take in bytes of frames.
        """
        new = self._read(side, data)
        self._keep(new)
        if len(self._unsent) <= _MAX_MESSAGES:
            join_messages(self._unsent, iter(new))
        return bool(new)

    def news(self) -> list[Message] | None:
        """
        Return the messages since the last call.
        """
        unsent, self._unsent = self._unsent, []
        return None if len(unsent) > _MAX_MESSAGES else [*map(_message, unsent)]

    def catch_up(self, hurry: bool) -> bool:
        """
        Return that there is nothing to do.
        """
        return True

    def whole(self) -> list[Message]:
        """
        Return the last messages, after one that replaces all that were sent before.
        """
        rows, columns = _NO_WINDOW
        first: Message = {"type": "screen", "data": "", "columns": columns, "rows": rows}
        return [first, *map(_message, self.messages)]

    def _read(self, side: Side, data: bytes) -> list[ShownMessage]:
        read = self._reader.received if side == "agent" else self._reader.sent
        return read(data)

    def _keep(self, new: list[ShownMessage]) -> None:
        """
        Add messages to those that are kept, and forget the oldest.
        """
        kept = self.messages
        for message in new:
            place = _place_of(kept, message)
            if place is None:
                join_messages(kept, iter((message,)))
            else:
                kept[place] = message
        size = sum(len(message.text) for message in kept)
        while len(kept) > 1 and (len(kept) > _MAX_MESSAGES or size > _MAX_CHARACTERS):
            size -= len(kept.pop(0).text)


def _place_of(messages: list[ShownMessage], tool: ShownMessage) -> int | None:
    """
    Return the place of what is known about `tool`; None if nothing is, or it is no tool.
    """
    if tool.role == "tool":
        for place in range(len(messages) - 1, -1, -1):
            if (messages[place].role, messages[place].id) == ("tool", tool.id):
                return place
    return None


def _message(message: ShownMessage) -> Message:
    return {
        "type": "message",
        "role": message.role,
        "text": message.text,
        "id": message.id,
        "status": message.status,
    }


def unfinished_character(data: bytes | bytearray) -> bytes:
    """
    Return the bytes at the end of `data` that are the beginning of a character in UTF-8.
    """
    for count, byte in _last_bytes(data):
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return bytes(data[-count:]) if length > count else b""
        if byte < 0x80:
            break
    return b""


def _last_bytes(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    for count in range(1, min(3, len(data)) + 1):
        yield count, data[-count]


def _decoder() -> Any:
    return getincrementaldecoder("utf-8")("replace").decode


def _ignore(complete: bool) -> None:
    """
    Do nothing at a moment when the screen can be inspected.
    """
