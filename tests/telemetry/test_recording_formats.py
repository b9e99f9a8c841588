"""
Tests for `kiroworkers.telemetry.recording_formats`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.acp.recording import Frame, read_frames
from kiroworkers.conversations.request_mark import RequestMark
from kiroworkers.conversations.terminal.recording import Chunk, Marker, read_events
from kiroworkers.telemetry.recording_formats import (
    CastFormat,
    FramesFormat,
    RecordingHeader,
    new_format,
)
from kiroworkers.telemetry.redaction import SecretFinder

SECRETS = ["hunter22", "sk-abcabcabd"]

#: Pieces of output and input, many of which end like the beginning of a secret.
PIECES = st.lists(
    st.tuples(
        st.sampled_from("oim"),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"h", b"hunter2", b"2", b"hunter22", b"sk-abcabcab", b"d", b"c"]),
        ),
    ),
    max_size=12,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def format_of(window: tuple[int, int] | None) -> Any:
    """
    Return a format with secrets to find.
    """
    header = RecordingHeader("worker1", "kiro", window, 0.0)
    return new_format(header, (SecretFinder(SECRETS), SecretFinder(SECRETS, in_terminal=True)))


class CastFormatTests(SynchronousTestCase):
    """
    Tests for `CastFormat`.
    """

    @given(PIECES)
    def test_any(self, pieces: list[tuple[str, bytes]]) -> None:
        """
        All bytes but the secrets are read back, and markers stay between the same bytes.
        """
        cast = format_of((24, 80))
        self.assertIsInstance(cast, CastFormat)
        text = cast.header()
        for number, (kind, data) in enumerate(pieces):
            match kind:
                case "o":
                    text += cast.output(number, data)
                case "i":
                    text += cast.typed(number, data)
                case _:
                    text += cast.mark(number, RequestMark("asked", f"r-{number}"))
        text += cast.close(len(pieces))
        events = list(read_events(text.splitlines(keepends=True)))
        finder = SecretFinder(SECRETS, in_terminal=True)
        for direction in ("o", "i"):
            whole = b"".join(data for kind, data in pieces if kind == direction).decode("latin-1")
            read = b"".join(
                event.data
                for event in events
                if isinstance(event, Chunk) and event.direction == direction
            ).decode("latin-1")
            if finder.open_length(whole) < 6:
                self.assertEqual(read, finder.redact(whole))
            for secret in SECRETS:
                self.assertNotIn(secret, read)
        self.assertEqual(
            [event.seconds for event in events if isinstance(event, Marker)],
            [number for number, (kind, _) in enumerate(pieces) if kind == "m"],
        )
        times = [event.seconds for event in events]
        self.assertEqual(times, sorted(times))


class FramesFormatTests(SynchronousTestCase):
    """
    Tests for `FramesFormat`.
    """

    @given(
        st.lists(st.tuples(st.dictionaries(st.just("a"), JSON), st.booleans()), max_size=4),
        st.integers(1, 50),
    )
    def test_any(self, messages: list[tuple[Any, bool]], size: int) -> None:
        """
        All messages are read back, however they are encoded and cut.
        """
        frames = format_of(None)
        self.assertIsInstance(frames, FramesFormat)
        stream = b"".join(
            json.dumps(message, ensure_ascii=ascii).encode("utf-8", "surrogatepass") + b"\n"
            for message, ascii in messages
        )
        text, position = frames.header(), 0
        while position < len(stream):
            text += frames.output(1.0, stream[position : position + size])
            position += size
        text += frames.close(2.0)
        read = list(read_frames(text.splitlines(keepends=True)))
        self.assertEqual([frame.message for frame in read], [message for message, _ in messages])

    def frames(self, pieces: list[tuple[str, bytes]]) -> list[Frame]:
        """
        Return the events of a recording of `pieces`, each with its direction.
        """
        frames = format_of(None)
        text = frames.header()
        for direction, data in pieces:
            text += (frames.output if direction == "in" else frames.typed)(1.0, data)
        text += frames.close(2.0)
        self.assertNotIn("A" * 100, text)
        return list(read_frames(text.splitlines(keepends=True)))

    def test_images(self) -> None:
        """
        An image that an agent sends, such as a picture that its tool has read, is left out.
        """
        message = {
            "content": {"type": "image", "data": "A" * 4000, "mimeType": "image/png"},
            "a": 1,
        }
        line = json.dumps(message).encode() + b"\n"
        left_out = {**message, "content": {**message["content"], "data": "(base64 left out)"}}  # type: ignore[dict-item]
        for direction in ("in", "out"):
            [frame] = self.frames([(direction, line)])
            self.assertEqual((frame.direction, frame.message), (direction, left_out))

    @given(st.integers(1, 300_000))
    @settings(max_examples=10)
    def test_large_images(self, size: int) -> None:
        """
        A message that is long because of images is recorded as a message, however it is cut, and
        so is the one after it.
        """
        block = {"type": "image", "data": "A" * 700_000 + "==", "mimeType": "image/png"}
        line = json.dumps({"content": [block, {"text": "between"}, block], "a": 1}).encode()
        stream = line + b'\n{"next": 1}\n'
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        if size < 1000:
            pieces = [stream[:size], stream[size:]]
        first, second = self.frames([("in", piece) for piece in pieces])
        block["data"] = "(base64 left out)"
        self.assertEqual(first.message, {"content": [block, {"text": "between"}, block], "a": 1})
        self.assertEqual(second.message, {"next": 1})

    def test_cut_image(self) -> None:
        """
        The line after base64 that ends with its line is recorded as a whole.
        """
        start = b"data:image/png;base64," + b"A" * 300_000
        for ending in (b"AAA==", b"", b"="):
            read = self.frames([("in", start), ("in", ending + b"\nnext words\n")])
            text = "".join(frame.data for frame in read)
            self.assertEqual(text, "data:image/png;base64,(base64 left out)next words")
