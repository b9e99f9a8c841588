"""
Tests for `kiroworkers.model_server.content`, and for what all protocols do with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server.content import all_text, member, objects_in, text_of, word
from kiroworkers.model_server.protocols import find_endpoint

#: For each path, a body with a number after an at sign in every place for a text, and where no
#: protocol has one.
BODIES: Mapping[str, Any] = {
    "/v1/chat/completions": {
        "messages": [
            {"role": "system", "content": "@1"},
            {"role": "user", "name": "@2", "content": [{"type": "text", "text": "@3"}]},
            {"role": "user", "content": [{"type": "unheard-of", "x": {"type": ["@4"]}}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "@5"}}, "@6"]},
            {"role": "assistant", "content": None, "refusal": "@7", "reasoning_content": "@8"},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c", "function": {"name": "@9", "arguments": '{"type": "@10"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "@11"}]},
            {"role": "unheard-of", "content": "@12"},
        ],
        "tools": [{"type": "function", "function": {"name": "@13", "description": "@14"}}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"title": "@15"}}},
        "metadata": {"title": "@16"},
    },
    "/v1/responses": {
        "instructions": "@1",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "@2"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "@3"}]},
            {"type": "reasoning", "content": [{"type": "x", "text": "@4"}], "secret": "@5"},
            {"type": "function_call", "name": "@6", "arguments": "@7", "call_id": "c"},
            {"type": "function_call_output", "call_id": "c", "output": "@8"},
            {"type": "local_shell_call", "action": {"type": "exec", "command": ["@9"]}},
            {"type": "mcp_call", "arguments": "@10", "output": "@11"},
            {"type": "unheard-of", "x": [{"role": "@12"}]},
        ],
        "tools": [{"type": "namespace", "tools": [{"name": "@13", "description": "@14"}]}],
        "text": {"format": {"type": "json_schema", "schema": {"title": "@15"}}},
        "prompt_cache_key": "@16",
    },
    "/v1/messages": {
        "system": [{"type": "text", "text": "@1"}, {"type": "x", "y": "@2"}],
        "messages": [
            {"role": "user", "content": "@3"},
            {"role": "user", "content": [{"type": "text", "text": "@4"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "@5"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "input": {"id": "@6"}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": "@7"}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": "@8"}]},
                    {"type": "document", "source": {"type": "text", "data": "@9"}},
                    {"type": "web_search_tool_result", "content": [{"title": "@10"}]},
                ],
            },
        ],
        "tools": [{"name": "@11", "description": "@12", "input_schema": {"title": "@13"}}],
        "output_config": {"format": {"type": "json_schema", "schema": {"title": "@14"}}},
        "metadata": {"user_id": "@15"},
    },
    "/v1beta/models/m:generateContent": {
        "systemInstruction": {"role": "user", "parts": [{"text": "@1"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "@2"}, {"inlineData": {"data": "@3"}}]},
            {"role": "model", "parts": [{"text": "@4", "thought": True}]},
            {"role": "model", "parts": [{"functionCall": {"name": "@5", "args": {"id": "@6"}}}]},
            {"role": "user", "parts": [{"functionResponse": {"response": {"type": "@7"}}}]},
            {"role": "unheard-of", "parts": [{"x": ["@8"]}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "@9", "description": "@10"}]}],
        "generationConfig": {"responseSchema": {"title": "@11"}},
        "labels": {"title": "@12"},
    },
}


class CompletenessTests(SynchronousTestCase):
    """
    Tests for what the reader of each protocol does not lose.
    """

    def test_every_text(self) -> None:
        """
        Every text of a request is in `ModelRequest.text`, wherever the agent put it.
        """
        for path, body in BODIES.items():
            endpoint = find_endpoint(path)
            assert endpoint is not None
            given = set(re.findall(r"@\d+", repr(body)))
            self.assertGreater(len(given), 10)
            found = set(re.findall(r"@\d+", endpoint.read(path, body).text))
            self.assertEqual(found, given, path)


class TextTests(SynchronousTestCase):
    """
    Tests for `text_of`, `all_text`, and what they need.
    """

    def test_marks(self) -> None:
        """
        The keys that describe a message or a part are not in its text; the same keys elsewhere are.
        """
        part = {"type": "text", "id": "1", "text": "a", "cache_control": {"type": "ephemeral"}}
        message = {"role": "user", "content": [part, {"type": "tool_use", "input": {"id": "b"}}]}
        self.assertEqual(text_of(message), "a\nb")
        self.assertEqual(text_of("a"), "a")
        self.assertEqual(text_of(None), "")

    def test_order(self) -> None:
        """
        Strings come in the order of the JSON, joined with line feeds.
        """
        self.assertEqual(all_text(["a", {"x": "b", "y": ["c", 1, None]}, "", "d"]), "a\nb\nc\nd")

    def test_deep(self) -> None:
        """
        Deeply nested values are read.
        """
        value: Any = "a"
        for _ in range(10_000):
            value = [{"x": value}]
        self.assertEqual(all_text(value), "a")

    def test_other_types(self) -> None:
        """
        Values of other types than expected have no objects, members or words.
        """
        self.assertEqual(objects_in([1, {"a": 1}, "x"]), [{"a": 1}])
        self.assertEqual(objects_in({"a": 1}), [{"a": 1}])
        self.assertEqual(objects_in("x"), [])
        self.assertEqual(member({"a": {"b": 1}}, "a", "b"), 1)
        self.assertIsNone(member({"a": 1}, "a", "b"))
        self.assertEqual((word("a"), word(1)), ("a", ""))
