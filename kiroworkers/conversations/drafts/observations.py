"""
Find what a program's terminal showed each time something was typed, and in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import define, field, frozen

from kiroworkers.conversations.dialects.dialect import Window
from kiroworkers.conversations.terminal.emulator import Emulator
from kiroworkers.conversations.terminal.recording import Chunk
from kiroworkers.conversations.terminal.typed_lines import TypedLine, typed_lines, without_replies

PASTE_ON = b"\x1b[?2004h"
PASTE_OFF = b"\x1b[?2004l"

#: The characters that are kept of what has scrolled off the screen.
_HISTORY = 1_000_000


@frozen
class Frame:
    """
    Hold what the terminal showed at one moment.

    Attributes:
        seconds: The time since the start of the recording.
        before_cursor: The text of the cursor's row, up to the cursor.
        rows: The rows of the screen.
        cursor_row: The index, in `rows`, of the cursor's row.
        title: The window's title.
        state: What the program last said about its state by ``OSC 7501``.
    """

    seconds: float
    before_cursor: str
    rows: tuple[str, ...]
    cursor_row: int
    title: str
    state: str


@define
class Input:
    """
    Hold a line that was typed, and what the program printed before and after it.

    Attributes:
        line: The line.
        seen: What the terminal showed before its first key.
        before: What the program had printed since the previous line.
        pause: The seconds between the last output and the first key.
        after: What the program printed from the last key on, up to the next line.
        frames: What the terminal showed after each piece of that output.
        at_keys: What it showed at each piece of the line's own input.
        signs: The titles and states that the program set in `after`, in order.
    """

    line: TypedLine
    seen: Frame
    before: bytes
    pause: float
    after: bytes = b""
    frames: list[Frame] = field(factory=list)
    at_keys: list[tuple[bytes, Frame]] = field(factory=list)
    signs: list[tuple[str, str]] = field(factory=list)


def observe(chunks: Sequence[Chunk], window: Window) -> list[Input]:
    """
    Return the lines that were typed in a recording, with what the terminal showed.

    Args:
        chunks: The recording.
        window: The rows and columns of the terminal.
    """
    emulator = Emulator(*window, _HISTORY)
    waiting = _lines(chunks)
    line = next(waiting, None)
    inputs: list[Input] = []
    current: Input | None = None
    output = bytearray()
    last_output = 0.0
    signs = emulator.title, emulator.state

    def note_signs(_: bool) -> None:
        nonlocal signs
        if signs != (emulator.title, emulator.state):
            signs = emulator.title, emulator.state
            if inputs:
                inputs[-1].signs.append(signs)

    for index, chunk in enumerate(chunks):
        if chunk.direction == "o":
            emulator.feed(chunk.data, note_signs)
            last_output = chunk.seconds
            output += chunk.data
            if current is None and inputs:
                inputs[-1].after += chunk.data
                inputs[-1].frames.append(_frame(emulator, chunk.seconds))
            continue
        while line is not None and line.first <= index:
            frame = _frame(emulator, chunk.seconds)
            if current is None:
                current = Input(line, frame, bytes(output), chunk.seconds - last_output)
                inputs.append(current)
            if keys := without_replies(chunk.data):
                current.at_keys.append((keys, frame))
            if line.last > index:
                break
            output.clear()
            current, line = None, next(waiting, None)
    return inputs


def _lines(chunks: Sequence[Chunk]) -> Iterator[TypedLine]:
    # Some programs that drive others send a line feed for Enter.
    submits = (b"\r", b"\n")
    lines = list(typed_lines(chunks))
    if not any(line.end == "submitted" for line in lines):
        lines = list(typed_lines(chunks, submits[1]))
    return iter(lines)


def _frame(emulator: Emulator, seconds: float) -> Frame:
    row, column = emulator.cursor
    return Frame(
        seconds,
        emulator.text_before(row, column),
        tuple(emulator.rows()),
        row,
        emulator.title,
        emulator.state,
    )
