"""
Tests for `kiroworkers.model_server.messages`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server import Message, ModelReply
from kiroworkers.model_server.messages import MessagesWriter, read
from tests.model_server.samples import HARD_CALL, HARD_STRINGS, HARD_TEXT, values_with

PATH = "/v1/messages"


class ReadTests(SynchronousTestCase):
    """
    Tests for `read`.
    """

    def test_conversation(self) -> None:
        """
        Every block is read, and the result of a tool is told from the text beside it.
        """
        request = read(
            PATH,
            {
                "model": "m",
                "stream": True,
                "system": [
                    {"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}
                ],
                "messages": [
                    {"role": "user", "content": "one"},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "hm", "signature": "s"},
                            {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"c": "ls"}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t1",
                                "content": [{"type": "text", "text": "a file"}],
                            },
                            {"type": "tool_result", "tool_use_id": "t2", "content": "another"},
                            {"type": "text", "text": "a reminder"},
                        ],
                    },
                ],
                "tools": [{"name": "Bash", "description": "Run it", "input_schema": {}}],
                "metadata": {"user_id": "somebody"},
            },
        )
        self.assertEqual((request.model, request.stream, request.tools), ("m", True, ("Bash",)))
        system, *messages, tools, other = request.messages
        self.assertEqual(system, Message("system", "Be brief"))
        self.assertEqual(
            messages,
            [
                Message("user", "one"),
                Message("assistant", "hm\ns\nBash\nls"),
                Message("tool", "a file\nanother"),
                Message("user", "a reminder"),
            ],
        )
        self.assertIn("Run it", tools.text)
        self.assertIn("somebody", other.text)

    def test_structured(self) -> None:
        """
        A request for JSON with a schema is told from one for text.
        """
        schema = {"type": "json_schema", "schema": {}}
        self.assertTrue(read(PATH, {"output_format": schema}).structured)
        self.assertTrue(read(PATH, {"output_config": {"format": schema}}).structured)
        self.assertFalse(read(PATH, {"output_config": {"effort": "low"}}).structured)

    @given(
        st.dictionaries(
            st.sampled_from(["system", "messages", "tools", "model", "output_config"]),
            values_with("role", "content", "type", "text", "input", "name"),
        )
    )
    def test_any_body(self, body: Any) -> None:
        """
        A body of any form can be read.
        """
        self.assertIsInstance(read(PATH, body).text, str)


class WriterTests(SynchronousTestCase):
    """
    Tests for `MessagesWriter`.
    """

    def events(self, reply: ModelReply) -> list[Any]:
        """
        Return the data of the events of a stream, after checking their names.
        """
        stream = b"".join(MessagesWriter("m", 7).stream(reply)).decode()
        events = []
        for text in stream.split("\n\n")[:-1]:
            name, data = text.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            self.assertEqual(name, f"event: {events[-1]['type']}")
        return events

    def test_stream(self) -> None:
        """
        A stream has a text and the use of a tool, each in pieces, and the reason of its end.
        """
        events = self.events(HARD_CALL)
        outline = [event["type"] for event in events if event["type"] != "content_block_delta"]
        block = ["content_block_start", "content_block_stop"]
        expected = ["message_start", *block, *block, "message_delta", "message_stop"]
        self.assertEqual(outline, expected)
        deltas = [event for event in events if event["type"] == "content_block_delta"]
        text = "".join(event["delta"].get("text", "") for event in deltas if event["index"] == 0)
        self.assertEqual(text, HARD_TEXT)
        parts = [event["delta"]["partial_json"] for event in deltas if event["index"] == 1]
        self.assertEqual(json.loads("".join(parts))["text"], HARD_TEXT)
        starts = [event for event in events if event["type"] == "content_block_start"]
        use = {"type": "tool_use", "id": "toolu_7", "name": "echo", "input": {}}
        self.assertEqual(starts[1]["content_block"], use)
        self.assertEqual(events[-2]["delta"]["stop_reason"], "tool_use")

    def test_hard_strings(self) -> None:
        """
        Each hard string arrives unaltered, streamed or not.
        """
        for name, text in HARD_STRINGS.items():
            events = self.events(ModelReply(text))
            pieces = [event["delta"].get("text", "") for event in events if "delta" in event]
            self.assertEqual("".join(pieces), text, name)
            body = MessagesWriter("m", 7).body(ModelReply(text))
            self.assertEqual(body["content"], [{"type": "text", "text": text}], name)
            self.assertEqual(body["stop_reason"], "end_turn")

    def test_endless(self) -> None:
        """
        An endless answer begins with its text and has no end.
        """
        kinds = [event["type"] for event in self.events(ModelReply("Well", endless=True))]
        self.assertEqual(kinds, ["message_start", "content_block_start", "content_block_delta"])
