"""
What reading a terminal costs: time, growth and memory, for the reader of line
editors and the reader of screens, beside pyte alone, on the same bytes.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import pyte

from bench.figures import median
from bench.report import Figure, Limit
from kiroworkers.conversations import Conversation, load_dialect, new_conversation
from kiroworkers.offline import classic
from kiroworkers.offline.editor import LineEditor
from kiroworkers.tasks import find_answer

QUESTION = "what does reading a terminal cost?"

#: Bytes that a read of a terminal gives at most.
_READ = 65536
_RUNS = 5
_MEGABYTE = 1_000_000
#: What --max-output is without being told.
_KNOB = 8 << 20
_NO_KNOB = 10**9

_LINES = b"\x1b[32mThe quick brown fox\x1b[0m jumps over the lazy dog, again and again.\r\n"
_SPINNER = "".join(f"\r{frame} Thinking..." for frame in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏").encode()
_ROW = "\x1b[38;2;1;2;3m▏\x1b[39m  " + "Some words of an answer. " * 12
_FRAMES = f"\x1b[?2026h\x1b[7A\r\x1b[2K{_ROW}{' ' * 690}\x1b[0m\x1b[?2026l\x1b[7B\x1b[1G".encode()

#: Reads a turn in which these bytes are printed.
Read = Callable[[bytes], object]


def measure() -> list[Figure]:
    """
    The figures.
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
    Speed and growth; sizes are in MB.
    """
    took = {size: _seconds(read, _of_size(piece, size), _runs(size)) for size in sizes}
    few = _of_size(piece, 0.3)
    theirs = _seconds(emulator, few, 3) / len(few)
    speed = 10 / took[10]
    found = [
        Figure(f"{name}, 10 MB", speed, "MB/s", limit),
        Figure(f"{name}, to pyte alone", theirs / (took[10] / (10 * _MEGABYTE)), "x"),
    ]
    for less, more in pairwise(sizes):
        factor = more / less
        grown = took[more] / took[less]
        found.append(
            Figure(f"{name}, {less:g} to {more:g} MB", grown, "x", Limit(most=1.1 * factor))
        )
    return found


def _json() -> list[Figure]:
    """
    One answer of 8 MB, up to its text, and up to its value.
    """
    answer = b'{"title": "' + b"a word and another " * (8 * _MEGABYTE // 19) + b'"}'
    schema = {"type": "object", "required": ["title"]}
    text = answer.decode()
    read = _seconds(editor, answer + b"\r\n", _RUNS)
    found = _seconds(lambda _: find_answer(text, schema), answer, _RUNS)
    size = len(answer) / _MEGABYTE
    return [
        Figure("line editor, one answer of 8 MB of JSON", size / read, "MB/s", Limit(least=30)),
        Figure("that answer found in its text", size / found, "MB/s"),
    ]


def _memory() -> list[Figure]:
    """
    The most that was held at once, against --max-output.
    """
    whole = b'{"title": "' + b"x" * (_KNOB - 200_000) + b'"}\r\n'
    return [
        Figure(
            f"{name}: peak memory to --max-output",
            _peak(read, data) / _KNOB,
            "x",
            Limit(most=most) if most is not None else None,
        )
        for name, read, data, most in (
            ("50 MB of lines", editor, _of_size(_LINES, 50), 2),
            ("50 MB of spinner", editor, _of_size(_SPINNER, 50), 2),
            ("an answer of 8 MiB and its text", editor, whole, None),
            ("1 MB of frames", screen, _of_size(_FRAMES, 1), 2),
        )
    ]


def editor(data: bytes, knob: int = _NO_KNOB) -> None:
    """
    A turn of `data` for the reader of line editors, from the question to the
    answer's text.
    """
    conversation = new_conversation(load_dialect("kiro-classic"), knob)
    prompt = LineEditor(classic.prompt()).open()
    conversation.feed(prompt)
    conversation.ask("hello")
    conversation.feed(b"\x1b[?2004l\r\n")
    _feed(conversation, data)
    conversation.feed(prompt)
    assert conversation.at_prompt, "the turn is over"


def screen(data: bytes, knob: int = _NO_KNOB) -> None:
    """
    `data` for the reader of screens, in a turn.
    """
    conversation = new_conversation(load_dialect("kiro-tui"), knob)
    conversation.feed(b"\x1b[?2026h ask a question or describe a task\x1b[?2026l")
    conversation.on_quiet()
    conversation.ask("hello")
    _feed(conversation, data)


def emulator(data: bytes) -> None:
    """
    `data` for pyte alone, on a screen of the same size.
    """
    stream = pyte.ByteStream(pyte.Screen(1000, 100))
    for start in range(0, len(data), _READ):
        stream.feed(data[start : start + _READ])


def _feed(conversation: Conversation, data: bytes) -> None:
    for start in range(0, len(data), _READ):
        conversation.feed(data[start : start + _READ])


def _of_size(piece: bytes, megabytes: float) -> bytes:
    """
    `piece`, again and again, as a whole, for about so long.
    """
    return piece * max(1, round(megabytes * _MEGABYTE / len(piece)))


def _runs(megabytes: float) -> int:
    """
    What is short is noisy, and soon done.
    """
    return 25 if megabytes < 1 else _RUNS if megabytes < 50 else 3


def _seconds(read: Read, data: bytes, runs: int) -> float:
    """
    How long `read` takes for `data`: the median.
    """
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        read(data)
        took.append(time.perf_counter() - began)
    return median(took)


def _peak(read: Callable[[bytes, int], object], data: bytes) -> int:
    """
    The most bytes that were held while reading `data`, besides it, when so much as
    --max-output may be kept.
    """
    tracemalloc.start()
    try:
        read(data, _KNOB)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
