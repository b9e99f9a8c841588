"""
Tests for `kiroworkers.conversations.acp.jsonrpc`.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.acp.jsonrpc import (
    MAX_VALUES,
    Garbage,
    Notification,
    Reader,
    Request,
    Response,
    error,
    notification,
    read_message,
    request,
    result,
)

TEXT = b"".join(
    (
        request(1, "a", {"x": "größer 🎉"}),
        b"a banner\r\n\n",
        notification("b", {}),
        result("2", {"y": 1}),
        error(3, -32601, "no such thing"),
    )
)
READ = [
    Request(1, "a", {"x": "größer 🎉"}),
    Garbage(b"a banner\r"),
    Notification("b", {}),
    Response("2", {"y": 1}),
    Response(3, {}, {"code": -32601, "message": "no such thing"}),
]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """
    Cut `data` into chunks at `places`.
    """
    ends = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


class ReaderTests(SynchronousTestCase):
    """
    Tests for `Reader`.
    """

    @given(st.lists(st.integers(0, len(TEXT))))
    def test_cut(self, places: list[int]) -> None:
        """
        The messages are the same wherever the bytes are cut, and the sizes of their lines
        add up to all that was written.
        """
        reader = Reader(1000)
        messages = [item for piece in cut(TEXT, places) for item in reader.feed(piece)]
        self.assertEqual([message for message, _ in messages], READ)
        self.assertEqual(sum(size for _, size in messages), len(TEXT) - len(b"\n"))

    @given(st.lists(st.integers(0, 400)))
    def test_too_long(self, places: list[int]) -> None:
        """
        A line longer than the limit is reported once, its rest is skipped, and the next
        line is read.
        """
        reader = Reader(100)
        data = b"[" + b"1," * 150 + b"\n" + notification("after", {})
        messages = [item for piece in cut(data, places) for item in reader.feed(piece)]
        [(garbage, size), (after, _)] = messages
        assert isinstance(garbage, Garbage)
        self.assertTrue(garbage.too_long)
        self.assertLessEqual(len(garbage.start), 100)
        self.assertEqual(size, 100)
        self.assertEqual(after, Notification("after", {}))

    def test_endless(self) -> None:
        """
        A line that never ends is reported once, and is not kept.
        """
        reader = Reader(100)
        messages = [item for _ in range(1000) for item in reader.feed(b"x" * 1000)]
        self.assertEqual(len(messages), 1)

    @settings(max_examples=10, deadline=None)
    @given(st.integers(1000, 70_000), st.sampled_from(["[]", '{"a": [1, "x"]}', "1", '"a, [b]"']))
    def test_too_many_values(self, size: int, value: str) -> None:
        """
        A line with more values than can be read in no time is reported as too long, and the
        next line is read.
        """
        line = f'{{"method": "x", "params": [{", ".join([value] * MAX_VALUES)}, 1]}}\n'.encode()
        data = line + notification("after", {})
        reader = Reader(len(data))
        pieces = (data[start : start + size] for start in range(0, len(data), size))
        [(garbage, _), (after, _)] = [item for piece in pieces for item in reader.feed(piece)]
        assert isinstance(garbage, Garbage)
        self.assertTrue(garbage.too_long)
        self.assertEqual(after, Notification("after", {}))

    @settings(max_examples=10, deadline=None)
    @given(st.integers(1000, 70_000), st.sampled_from([",", "[", '"', "\\", '\\",[', "é"]))
    def test_text_is_no_value(self, size: int, text: str) -> None:
        """
        A line with a long text is read, whatever is in the text.
        """
        data = notification("x", {"text": text * 100_000})
        reader = Reader(len(data))
        pieces = (data[start : start + size] for start in range(0, len(data), size))
        [(message, _)] = [item for piece in pieces for item in reader.feed(piece)]
        self.assertEqual(message, Notification("x", {"text": text * 100_000}))


class MessageTests(SynchronousTestCase):
    """
    Tests for `read_message`.
    """

    def test_no_message(self) -> None:
        """
        JSON, or nearly JSON, that is not a message of the protocol is garbage.
        """
        for text in (
            "[]",
            "1",
            '{"id": true, "result": {}}',
            '{"id": 1.5, "method": "x"}',
            '{"id": null, "method": "x"}',
            '{"id": null, "error": null}',
            '{"method": 3}',
            '{"id": 1, "result": {}',
            '{"id": ' + "9" * 5000 + ', "result": {}}',
            "[" * 100_000,
        ):
            self.assertEqual(read_message(text.encode()), Garbage(text.encode()), text[:50])

    def test_lenient(self) -> None:
        """
        Parts that are missing beside the name of a method or the id are taken to be empty.
        """
        cases: list[tuple[Any, Any]] = [
            ({"id": 1, "method": "x"}, Request(1, "x", {})),
            ({"method": "x", "params": [1]}, Notification("x", {})),
            ({"id": 1, "result": None}, Response(1, {})),
            ({"id": 1}, Response(1, {})),
            ({"id": 1, "error": None, "result": {"a": 1}}, Response(1, {"a": 1})),
            ({"id": 1, "error": "words"}, Response(1, {}, {"message": "words"})),
            ({"id": None, "error": {"code": 1}}, Response(None, {}, {"code": 1})),
        ]
        for message, expected in cases:
            self.assertEqual(read_message(json.dumps(message).encode()), expected)
