"""
Measure what reading a terminal costs: time, growth and memory.

The reader of line editors and the reader of screens are measured beside pyte alone,
on the same bytes.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import pyte

from bench.figures import median
from bench.report import Figure, Limit
from kiroworkers.classic import drawing as classic
from kiroworkers.classic.editor import LineEditor
from kiroworkers.conversations import Conversation, load_dialect, new_conversation
from kiroworkers.tasks import find_answer

QUESTION = "what does reading a terminal cost?"

#: The most bytes that one read of a terminal returns.
_READ = 65536
_RUNS = 5
_MEGABYTE = 1_000_000
#: The default of --max-output.
_MAX_OUTPUT = 8 << 20
_NO_LIMIT = 10**9

_LINES = b"\x1b[32mThe quick brown fox\x1b[0m jumps over the lazy dog, again and again.\r\n"
_SPINNER = "".join(f"\r{frame} Thinking..." for frame in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏").encode()
_ROW = "\x1b[38;2;1;2;3m▏\x1b[39m  " + "Some words of an answer. " * 12
_FRAMES = f"\x1b[?2026h\x1b[7A\r\x1b[2K{_ROW}{' ' * 690}\x1b[0m\x1b[?2026l\x1b[7B\x1b[1G".encode()

#: A function that reads a turn in which these bytes are printed.
Read = Callable[[bytes], object]


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    return [
        *_of("line editor, coloured lines", _LINES, editor, (0.1, 1, 10, 50), Limit(least=30)),
        *_of("line editor, spinner", _SPINNER, editor, (0.1, 1, 10, 50), Limit(least=30)),
        *_of("screen, frames of one row", _FRAMES, screen, (0.1, 1, 10), None),
        *_json(),
        *_memory(),
    ]


def _of(
    name: str, piece: bytes, read: Read, sizes: tuple[float, ...], limit: Limit | None
) -> list[Figure]:
    """
    Return the figures for speed and growth; sizes are in MB.
    """
    took = {size: _seconds(read, _of_size(piece, size), _runs(size)) for size in sizes}
    few = _of_size(piece, 0.3)
    theirs = _seconds(emulator, few, 3) / len(few)
    speed = 10 / took[10]
    figures = [
        Figure(f"{name}, 10 MB", speed, "MB/s", limit),
        Figure(f"{name}, to pyte alone", theirs / (took[10] / (10 * _MEGABYTE)), "x"),
    ]
    for less, more in pairwise(sizes):
        factor = more / less
        grown = took[more] / took[less]
        figures.append(
            Figure(f"{name}, {less:g} to {more:g} MB", grown, "x", Limit(most=1.1 * factor))
        )
    return figures


def _json() -> list[Figure]:
    """
    Measure one answer of 8 MB: reading its text, and finding its value.
    """
    answer = b'{"title": "' + b"a word and another " * (8 * _MEGABYTE // 19) + b'"}'
    schema = {"type": "object", "required": ["title"]}
    text = answer.decode()
    read = _seconds(editor, answer + b"\r\n", _RUNS)
    figures = _seconds(lambda _: find_answer(text, schema), answer, _RUNS)
    size = len(answer) / _MEGABYTE
    return [
        Figure("line editor, one answer of 8 MB of JSON", size / read, "MB/s", Limit(least=30)),
        Figure("that answer found in its text", size / figures, "MB/s"),
    ]


def _memory() -> list[Figure]:
    """
    Measure peak memory relative to --max-output.
    """
    answer = b'{"title": "' + b"x" * (_MAX_OUTPUT - 200_000) + b'"}\r\n'
    return [
        Figure(
            f"{name}: peak memory to --max-output",
            _peak(read, data) / _MAX_OUTPUT,
            "x",
            Limit(most=most) if most is not None else None,
        )
        for name, read, data, most in (
            ("50 MB of lines", editor, _of_size(_LINES, 50), 2),
            ("50 MB of spinner", editor, _of_size(_SPINNER, 50), 2),
            ("an answer of 8 MiB and its text", editor, answer, None),
            ("1 MB of frames", screen, _of_size(_FRAMES, 1), 2),
        )
    ]


def editor(data: bytes, max_output: int = _NO_LIMIT) -> None:
    """
    Read a turn that prints `data` as a line editor, from the prompt to the answer.
    """
    conversation = new_conversation(load_dialect("kiro-classic"), max_output)
    prompt = LineEditor(classic.prompt()).open()
    conversation.feed(prompt)
    conversation.ask("hello")
    conversation.feed(b"\x1b[?2004l\r\n")
    _feed(conversation, data)
    conversation.feed(prompt)
    assert conversation.at_prompt, "the turn is over"


def screen(data: bytes, max_output: int = _NO_LIMIT) -> None:
    """
    Read a turn that prints `data` as a screen.
    """
    conversation = new_conversation(load_dialect("kiro-tui"), max_output)
    conversation.feed(b"\x1b[?2026h ask a question or describe a task\x1b[?2026l")
    conversation.on_quiet()
    conversation.ask("hello")
    _feed(conversation, data)


def emulator(data: bytes) -> None:
    """
    Feed `data` to pyte alone, on a screen of the same size.
    """
    stream = pyte.ByteStream(pyte.Screen(1000, 100))
    for start in range(0, len(data), _READ):
        stream.feed(data[start : start + _READ])


def _feed(conversation: Conversation, data: bytes) -> None:
    for start in range(0, len(data), _READ):
        conversation.feed(data[start : start + _READ])


def _of_size(piece: bytes, megabytes: float) -> bytes:
    """
    Repeat `piece` as a whole, up to about so many megabytes.
    """
    return piece * max(1, round(megabytes * _MEGABYTE / len(piece)))


def _runs(megabytes: float) -> int:
    """
    Return how often to measure: short runs are noisy and soon over.
    """
    return 25 if megabytes < 1 else _RUNS if megabytes < 50 else 3


def _seconds(read: Read, data: bytes, runs: int) -> float:
    """
    Return the median time that `read` takes for `data`.
    """
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        read(data)
        took.append(time.perf_counter() - began)
    return median(took)


def _peak(read: Callable[[bytes, int], object], data: bytes) -> int:
    """
    Return the peak memory while reading `data`, without `data` itself.

    As much is kept as --max-output allows.
    """
    tracemalloc.start()
    try:
        read(data, _MAX_OUTPUT)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
