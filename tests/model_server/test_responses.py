"""
Tests for `kiroworkers.model_server.responses`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server import Message, ModelReply
from kiroworkers.model_server.content import BadRequest
from kiroworkers.model_server.responses import ResponsesWriter, read
from tests.model_server.samples import HARD_CALL, HARD_STRINGS, HARD_TEXT, values_with

PATH = "/v1/responses"


class ReadTests(SynchronousTestCase):
    """
    Tests for `read`.
    """

    def test_conversation(self) -> None:
        """
        Every item is read with its role, also reasoning, the calls of tools and their results.
        """
        request = read(
            PATH,
            {
                "model": "m",
                "instructions": "Be brief",
                "stream": True,
                "input": [
                    {"type": "message", "role": "developer", "content": "Rules"},
                    {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                    {"type": "function_call", "call_id": "c1", "name": "sh", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c1", "output": "a file"},
                    {
                        "type": "custom_tool_call_output",
                        "call_id": "c2",
                        "output": [{"type": "input_text", "text": "a list"}],
                    },
                ],
                "tools": [{"type": "function", "name": "sh", "description": "Run it"}],
                "metadata": {"note": "a note"},
            },
        )
        self.assertEqual((request.model, request.stream, request.tools), ("m", True, ("sh",)))
        self.assertEqual(
            request.messages[:7],
            (
                Message("system", "Be brief"),
                Message("system", "Rules"),
                Message("user", "one"),
                Message("assistant", "hm"),
                Message("assistant", "sh\n{}"),
                Message("tool", "a file"),
                Message("tool", "a list"),
            ),
        )
        self.assertIn("Run it", request.text)
        self.assertIn("a note", request.text)

    def test_text_input(self) -> None:
        """
        An input that is a string is a message of the user; a format asks for JSON.
        """
        text = {"format": {"type": "json_schema", "name": "n", "schema": {}}}
        request = read(PATH, {"input": "hello", "text": text})
        self.assertEqual(request.messages[0], Message("user", "hello"))
        self.assertEqual((request.structured, request.stream), (True, False))

    def test_continued(self) -> None:
        """
        A request is refused if it continues a conversation that it does not contain.
        """
        with self.assertRaises(BadRequest) as caught:
            read(PATH, {"input": "and now?", "previous_response_id": "resp_1"})
        self.assertEqual(caught.exception.status, 400)
        self.assertEqual(caught.exception.code, "previous_response_not_found")

    @given(
        st.dictionaries(
            st.sampled_from(["instructions", "input", "tools", "text", "model"]),
            values_with("role", "content", "type", "text", "output", "summary"),
        )
    )
    def test_any_body(self, body: Any) -> None:
        """
        A body of any form can be read.
        """
        self.assertIsInstance(read(PATH, body).text, str)


class WriterTests(SynchronousTestCase):
    """
    Tests for `ResponsesWriter`.
    """

    def events(self, reply: ModelReply) -> list[Any]:
        """
        Return the data of the events of a stream, after checking their names and numbers.
        """
        stream = b"".join(ResponsesWriter("m", 7).stream(reply)).decode()
        events = []
        for text in stream.split("\n\n")[:-1]:
            name, data = text.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            self.assertEqual(name, f"event: {events[-1]['type']}")
        numbers = [event["sequence_number"] for event in events]
        self.assertEqual(numbers, list(range(len(events))))
        return events

    def deltas(self, events: list[Any], kind: str) -> str:
        return "".join(event["delta"] for event in events if event["type"] == f"{kind}.delta")

    def test_stream(self) -> None:
        """
        A stream has a message and a call, each in pieces and then whole.
        """
        events = self.events(HARD_CALL)
        self.assertEqual(self.deltas(events, "response.output_text"), HARD_TEXT)
        arguments = self.deltas(events, "response.function_call_arguments")
        self.assertEqual(json.loads(arguments)["text"], HARD_TEXT)
        response = events[-1]["response"]
        self.assertEqual(
            (events[-1]["type"], response["status"]), ("response.completed", "completed")
        )
        message, call = response["output"]
        self.assertEqual(message["content"][0]["text"], HARD_TEXT)
        self.assertEqual((call["name"], call["call_id"]), ("echo", "call_7"))
        self.assertEqual(call["arguments"], arguments)
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        self.assertEqual(done, [message, call])

    def test_hard_strings(self) -> None:
        """
        Each hard string arrives unaltered, streamed or not.
        """
        for name, text in HARD_STRINGS.items():
            events = self.events(ModelReply(text))
            self.assertEqual(self.deltas(events, "response.output_text"), text, name)
            [item] = ResponsesWriter("m", 7).body(ModelReply(text))["output"]
            self.assertEqual(item["content"][0]["text"], text, name)

    def test_endless(self) -> None:
        """
        An endless answer begins with its text and has no end.
        """
        kinds = [event["type"] for event in self.events(ModelReply("Well", endless=True))]
        self.assertEqual(kinds[-1], "response.output_text.delta")
        self.assertNotIn("response.output_text.done", kinds)
