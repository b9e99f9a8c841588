"""
Tests for `kiroworkers.model_server.chat_completions`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server import Message, ModelReply
from kiroworkers.model_server.chat_completions import ChatCompletionsWriter, read
from tests.model_server.samples import HARD_CALL, HARD_STRINGS, HARD_TEXT, values_with

PATH = "/v1/chat/completions"


class ReadTests(SynchronousTestCase):
    """
    Tests for `read`.
    """

    def test_conversation(self) -> None:
        """
        Every message is read with its role, also the calls of tools and their results.
        """
        function = {"name": "bash", "arguments": '{"command": "ls"}'}
        request = read(
            PATH,
            {
                "model": "m",
                "stream": True,
                "messages": [
                    {"role": "developer", "content": "Be brief"},
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "one"},
                            {"type": "text", "text": "two"},
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
                    },
                    {"role": "tool", "tool_call_id": "c1", "content": "a file"},
                    {"role": "user", "content": "three"},
                ],
                "tools": [
                    {"type": "function", "function": {"name": "bash", "description": "Run it"}},
                    {"type": "custom", "custom": {"name": "patch"}},
                ],
            },
        )
        self.assertEqual((request.path, request.model, request.stream), (PATH, "m", True))
        self.assertEqual(request.tools, ("bash", "patch"))
        self.assertFalse(request.structured)
        roles = [message.role for message in request.messages]
        expected = ["system", "user", "assistant", "tool", "user", "tools", "other"]
        self.assertEqual(roles, expected)
        self.assertEqual(request.messages[1], Message("user", "one\ntwo"))
        self.assertIn('{"command": "ls"}', request.messages[2].text)
        self.assertEqual(request.messages[3], Message("tool", "a file"))
        self.assertIn("Run it", request.messages[5].text)

    def test_structured(self) -> None:
        """
        A request for JSON with a schema is told from one for text.
        """
        for kind, structured in (("json_schema", True), ("json_object", True), ("text", False)):
            request = read(PATH, {"messages": [], "response_format": {"type": kind}})
            self.assertEqual(request.structured, structured)

    @given(
        st.dictionaries(
            st.sampled_from(["messages", "tools", "stream", "response_format"]),
            values_with("role", "content", "type", "text", "function", "name"),
        )
    )
    def test_any_body(self, body: Any) -> None:
        """
        A body of any form can be read.
        """
        self.assertIsInstance(read(PATH, body).text, str)


class WriterTests(SynchronousTestCase):
    """
    Tests for `ChatCompletionsWriter`.
    """

    def events(self, reply: ModelReply) -> list[Any]:
        """
        Return the data of the events of a stream; the last is decoded only if it is JSON.
        """
        stream = b"".join(ChatCompletionsWriter("m", 1).stream(reply)).decode()
        data = [event.removeprefix("data: ") for event in stream.split("\n\n")[:-1]]
        return [text if text == "[DONE]" else json.loads(text) for text in data]

    def test_stream(self) -> None:
        """
        A stream has the text and the call's arguments in pieces, which join to the whole.
        """
        *chunks, usage, done = self.events(HARD_CALL)
        self.assertEqual((done, usage["choices"]), ("[DONE]", []))
        self.assertEqual(usage["usage"]["total_tokens"], 2)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        self.assertEqual("".join(delta.get("content", "") for delta in deltas), HARD_TEXT)
        calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
        self.assertEqual((calls[0]["id"], calls[0]["function"]), ("call_1", {"name": "echo"}))
        arguments = "".join(call["function"].get("arguments", "") for call in calls)
        self.assertEqual(json.loads(arguments)["text"], HARD_TEXT)
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        self.assertEqual(reasons, [None] * (len(chunks) - 1) + ["tool_calls"])

    def test_hard_strings(self) -> None:
        """
        Each hard string arrives unaltered, streamed or not.
        """
        for name, text in HARD_STRINGS.items():
            deltas = [
                choice["delta"]
                for chunk in self.events(ModelReply(text))[:-1]
                for choice in chunk["choices"]
            ]
            self.assertEqual("".join(delta.get("content", "") for delta in deltas), text, name)
            [choice] = ChatCompletionsWriter("m", 1).body(ModelReply(text))["choices"]
            self.assertEqual(
                (choice["message"]["content"], choice["finish_reason"]), (text, "stop")
            )

    def test_endless(self) -> None:
        """
        An endless answer begins with its text and has no end.
        """
        chunks = self.events(ModelReply("Well", endless=True))
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        self.assertEqual(deltas, [{"role": "assistant", "content": ""}, {"content": "Well"}])
