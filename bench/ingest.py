"""
What reading a terminal costs: megabytes a second, for the reader of line editors
and the reader of screens, beside pyte alone, on the same bytes in one run::

    python -m bench.ingest
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pyte

from kiroworkers.offline import classic
from kiroworkers.offline.editor import LineEditor
from kiroworkers.terminal import load_dialect, new_conversation

#: Bytes that a read of a terminal gives at most.
READ = 65536
RUNS = 5
MEGABYTE = 1_000_000

LINE = b"\x1b[32mThe quick brown fox\x1b[0m jumps over the lazy dog, again and again.\r\n"
SPINNER = "".join(f"\r{frame} Thinking..." for frame in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏").encode()
JSON = b'{"title": "' + b"a word and another " * 50_000 + b'"}\r\n'
ROW = "\x1b[38;2;1;2;3m▏\x1b[39m  " + "Some words of an answer. " * 12
FRAME = f"\x1b[?2026h\x1b[7A\r\x1b[2K{ROW}{' ' * 690}\x1b[0m\x1b[?2026l\x1b[7B\x1b[1G".encode()


def of_size(piece: bytes, size: int) -> bytes:
    """
    `piece`, again and again, until it is `size` bytes long.
    """
    return (piece * (size // len(piece) + 1))[:size]


def seconds(feed: Callable[[bytes], object], data: bytes) -> float:
    """
    How long `feed` takes for `data`, read by read.
    """
    began = time.perf_counter()
    for start in range(0, len(data), READ):
        feed(data[start : start + READ])
    return time.perf_counter() - began


def editor(data: bytes) -> float:
    """
    The seconds of a turn of `data` for the reader of line editors, from the
    question to the answer's text.
    """
    conversation = new_conversation(load_dialect("kiro-classic"), 10**9)
    prompt = LineEditor(classic.prompt()).open()
    conversation.feed(prompt)
    conversation.ask("hello")
    took = seconds(conversation.feed, b"\x1b[?2004l\r\n" + data + prompt)
    assert conversation.at_prompt, "the turn is over"
    return took


def screen(data: bytes) -> float:
    """
    The seconds of drawing `data` for the reader of screens, in a turn.
    """
    conversation = new_conversation(load_dialect("kiro-tui"), 10**9)
    conversation.feed(b"\x1b[?2026h ask a question or describe a task\x1b[?2026l")
    conversation.silent()
    conversation.ask("hello")
    return seconds(conversation.feed, data)


def emulator(data: bytes) -> float:
    """
    The seconds of drawing `data` for pyte alone, on a screen of the same size.
    """
    return seconds(pyte.ByteStream(pyte.Screen(1000, 100)).feed, data)


def main() -> None:
    """
    Print the table.
    """
    print(f"{'':34}{'MB/s':>8}{'ratio to pyte':>15}")
    for name, piece, reader, size in [
        ("line editor, coloured lines", LINE, editor, 10 * MEGABYTE),
        ("line editor, spinner", SPINNER, editor, 10 * MEGABYTE),
        ("line editor, lines of 1 MB of JSON", JSON, editor, 10 * MEGABYTE),
        ("screen, frames of one row", FRAME, screen, MEGABYTE),
        ("screen, coloured lines", LINE, screen, MEGABYTE),
    ]:
        data = of_size(piece, size)
        few = data[: MEGABYTE // 2]
        ours = median(reader(data) for _ in range(RUNS)) / len(data)
        theirs = median(emulator(few) for _ in range(RUNS)) / len(few)
        print(f"{name:34}{1 / ours / MEGABYTE:8.1f}{theirs / ours:14.0f}x")


if __name__ == "__main__":
    main()
