"""
Tests for `kiroworkers.chat.body`, `form` and `usage`.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import Chat, accept, tokens_in
from kiroworkers.errors import AnswerSchemaMismatch, InvalidInput

#: What a terminal could take for something else than text.
HOSTILE = "!ls\n/quit\n@file\n\x1b[201~\r```\\\u202e\ud800 😀"

#: What bodies and schemas are made of.
KEYWORDS = st.sampled_from(
    [
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "stop",
        "stream",
        "response_format",
        "json_schema",
        "schema",
        "$ref",
        "$id",
        "$defs",
        "$schema",
        "$anchor",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "allOf",
        "anyOf",
        "not",
        "if",
        "then",
        "pattern",
        "format",
        "minimum",
        "maxItems",
        "uniqueItems",
        "contains",
        "prefixItems",
        "additionalProperties",
        "dependentRequired",
        "dependentSchemas",
        "propertyNames",
    ]
)
VALUES = st.sampled_from(
    [None, True, 0, -1.5, "", "user", "object", "string", "json_schema", "#", "#/$defs/x", "(", "x"]
)
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4)
)


def chat_of(*messages: Any, **others: Any) -> Chat:
    """
    The accepted request with these messages.
    """
    return accept({"model": "kiro", "messages": list(messages), **others})


def saying(content: Any) -> dict[str, Any]:
    """
    A message of the user.
    """
    return {"role": "user", "content": content}


class AcceptTests(SynchronousTestCase):
    """
    Tests for `accept`.
    """

    def refusal(self, **changes: Any) -> InvalidInput:
        body = {"model": "kiro", "messages": [saying("Hi")], **changes}
        problem: InvalidInput = self.assertRaises(InvalidInput, accept, body)
        return problem

    def test_messages(self) -> None:
        """
        Messages keep their roles and names; text parts are joined; what else they
        have is left out.
        """
        told = {"id": "1", "name": "add", "arguments": "{}"}
        call = {"id": "1", "function": {"name": "add", "arguments": "{}"}, "type": "function"}
        chat = chat_of(
            {"role": "developer", "content": "Be brief", "weight": 1},
            {**saying([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "name": "x"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
        )
        self.assertEqual(
            list(chat.messages),
            [
                {"role": "developer", "content": "Be brief"},
                {"role": "user", "name": "x", "content": "ab"},
                {"role": "assistant", "tool_calls": [told]},
                {"role": "tool", "content": "42", "tool_call_id": "1"},
            ],
        )

    def test_ignored(self) -> None:
        """
        What only tunes a model, what is null and what nobody knows is ignored.
        """
        plain = chat_of(saying("Hi"))
        others = {
            "temperature": 2,
            "max_tokens": 5,
            "seed": 1,
            "user": "me",
            "made_up": {},
            "n": 1,
            "tools": [],
            "logprobs": False,
            "stop": None,
            "stream": None,
            "modalities": ["text"],
            "response_format": {"type": "text"},
        }
        self.assertEqual(chat_of(saying("Hi"), **others), plain)
        without = {"tools": [{"type": "function"}], "tool_choice": "none"}
        self.assertEqual(chat_of(saying("Hi"), **without), plain)

    def test_refused(self) -> None:
        """
        What is wrong, or cannot be done, is refused by the name of its field.
        """
        image = {"type": "image_url", "image_url": {"url": "data:"}}
        cases: list[tuple[str, dict[str, Any]]] = [
            ("model", {"model": None}),
            ("model", {"model": 4}),
            ("messages", {"messages": None}),
            ("messages", {"messages": []}),
            ("messages[0]", {"messages": ["Hi"]}),
            ("messages[0].role", {"messages": [{"role": "robot", "content": ""}]}),
            ("messages[0].role", {"messages": [{"role": ["user"], "content": ""}]}),
            ("messages[0].name", {"messages": [{**saying("Hi"), "name": 1}]}),
            ("messages[0].content", {"messages": [{"role": "user"}]}),
            ("messages[0].content", {"messages": [saying(1)]}),
            (
                "messages[0].content[1]",
                {"messages": [saying([{"type": "text", "text": ""}, image])]},
            ),
            ("messages[0].content[0]", {"messages": [saying([{"type": "text"}])]}),
            ("messages[0].content[0]", {"messages": [saying(["Hi"])]}),
            ("n", {"n": 2}),
            ("n", {"n": True}),
            ("tools", {"tools": [{}]}),
            ("tools", {"tools": [{}], "tool_choice": "auto"}),
            ("functions", {"functions": [{}]}),
            ("logprobs", {"logprobs": True}),
            ("modalities", {"modalities": ["text", "audio"]}),
            ("stream", {"stream": "yes"}),
            ("stream_options", {"stream_options": True}),
            ("stop", {"stop": ["a"] * 5}),
            ("stop", {"stop": [""]}),
            ("stop", {"stop": {}}),
            ("response_format", {"response_format": "json"}),
            ("response_format.type", {"response_format": {"type": "xml"}}),
            (
                "response_format.json_schema.schema",
                {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            ),
            (
                "messages[0].tool_calls",
                {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
            ),
        ]
        for field, changes in cases:
            problem = self.refusal(**changes)
            self.assertEqual(problem.field, field, problem)
            self.assertIn(field.partition(".")[0], problem.reason)
        self.assertIn("image_url", self.refusal(messages=[saying([image])]).reason)
        self.assertRaises(InvalidInput, accept, [])

    @given(JSON)
    def test_anything(self, body: Any) -> None:
        """
        Whatever a body is, it is accepted, and then makes a prompt, or refused.
        """
        try:
            chat = accept(body)
        except InvalidInput as problem:
            self.assertTrue(problem.reason)
        else:
            self.assertIn("Request: ", chat.prompt({}, "lines"))

    @given(st.dictionaries(KEYWORDS, JSON, max_size=4))
    def test_any_schema(self, schema: Any) -> None:
        """
        So it is with whatever is a schema, which any object can then be checked by.
        """
        form = {"type": "json_schema", "json_schema": {"schema": schema}}
        with contextlib.suppress(InvalidInput):
            chat = chat_of(saying("Hi"), response_format=form)
            with contextlib.suppress(AnswerSchemaMismatch):
                chat.answer({}, '{"type": "object", "x": [1, null, "x", {}]}', False)


class PromptTests(SynchronousTestCase):
    """
    Tests for the prompt.
    """

    def test_data(self) -> None:
        """
        Client text stands in it as JSON alone: no line begins with what means
        something to a terminal, and the conversation can be read back.
        """
        schema = {"type": "object", "title": HOSTILE}
        form: Any = {"type": "json_schema", "json_schema": {"schema": schema}}
        others: Any
        for others in ({}, {"response_format": form}):
            chat = chat_of({**saying(HOSTILE), "name": HOSTILE}, **others)
            lines = chat.prompt({}, "compact").split("\n")
            for line in lines:
                self.assertNotIn(line[:1], ("!", "/", "@", ""))
                self.assertTrue(line.isprintable(), line)
                self.assertNotIn("```", line)
            [request] = [line for line in lines if line.startswith("Request: ")]
            payload = json.loads(request.removeprefix("Request: "))
            self.assertEqual(payload, {"messages": list(chat.messages)})


class ContentTests(SynchronousTestCase):
    """
    Tests for the reply in what an agent said.
    """

    def content(self, chat: Chat, said: str) -> str:
        return chat.content(chat.answer({}, said, False).value)

    def test_text(self) -> None:
        """
        Text is what the member says, to the character; anything else is unfit.
        """
        chat = chat_of(saying("Hi"))
        said = 'So:\n```json\n{"reply": " **a**\\n\\u0060b\\u0060 "}\n```'
        self.assertEqual(self.content(chat, said), " **a**\n`b` ")
        for wrong in ("Hello", '{"reply": 1}', '{"reply": "a", "b": 1}'):
            self.assertRaises(AnswerSchemaMismatch, chat.answer, {}, wrong, False)

    def test_stop(self) -> None:
        """
        A reply ends before the first of the words to stop at.
        """
        chat = chat_of(saying("Hi"), stop=["END", "."])
        self.assertEqual(self.content(chat, '{"reply": "One. Two END"}'), "One")
        self.assertEqual(self.content(chat, '{"reply": "One"}'), "One")
        self.assertFalse(chat.is_read_piecewise)

    def test_object(self) -> None:
        """
        An object is the last that is said.
        """
        chat = chat_of(saying("Hi"), response_format={"type": "json_object"})
        self.assertEqual(
            self.content(chat, 'No {"a": 1} but {"a": {"b": "é"}}'), '{"a": {"b": "é"}}'
        )
        self.assertRaises(AnswerSchemaMismatch, chat.answer, {}, "[1]", False)

    def test_tokens(self) -> None:
        """
        Tokens are estimated from bytes.
        """
        self.assertEqual(
            [tokens_in(each) for each in ("", "a", "abcd", "abcde", "\ud800éé")], [0, 1, 1, 2, 2]
        )
