"""
Tests for `kiroworkers.chat.messages`.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import Conversation, MessageRequest, parse_counted, parse_message
from kiroworkers.chat.reply_format import JsonFormat, TextFormat
from kiroworkers.errors import InvalidInput
from kiroworkers.images import MAX_IMAGES, Image

#: The beginnings of images, as base64 text.
GIF = "R0lGODlhAQABAAAAACw="
PNG = "iVBORw0KGgoAAAANSUhEUg=="

_NAMES = st.sampled_from(
    [
        *("model", "messages", "role", "content", "type", "text", "system", "max_tokens"),
        *("stop_sequences", "stream", "output_config", "output_format", "format", "schema"),
        *("tools", "tool_choice", "thinking", "container", "tool_use_id", "id", "name", "input"),
        *("is_error", "source", "data", "media_type", "metadata"),
    ]
)
_VALUES = st.sampled_from(
    [
        *(None, True, 0, 1, -1.5, "", "user", "assistant", "system", "text", "image", "base64"),
        *("tool_use", "tool_result", "json_schema", "none", "auto", "\ud800"),
    ]
)
_JSON = st.recursive(
    _VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5)
)


def user(content: Any) -> dict[str, Any]:
    """
    Return a message of the user.
    """
    return {"role": "user", "content": content}


def text(words: str) -> dict[str, Any]:
    """
    Return a block of text.
    """
    return {"type": "text", "text": words}


def image(data: str, media_type: str = "image/gif") -> dict[str, Any]:
    """
    Return a block with an image.
    """
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source}


def body_with(*messages: Any, **others: Any) -> dict[str, Any]:
    """
    Return a request body, with one message of the user unless others are given.
    """
    messages = messages or (user("Hi"),)
    return {"model": "kiro", "max_tokens": 10, "messages": [*messages], **others}


def conversation_of(*messages: Any, **others: Any) -> Conversation:
    """
    Return the conversation in such a body.
    """
    return parse_message(body_with(*messages, **others)).conversation


class MessageTests(SynchronousTestCase):
    """
    Tests for what is accepted.
    """

    def test_texts(self) -> None:
        """
        The system prompt becomes the first message, and blocks of text become paragraphs.
        """
        conversation = conversation_of(
            user([text("One"), {**text("Two"), "cache_control": {"type": "ephemeral"}}]),
            {"role": "assistant", "content": [{**text("Yes"), "citations": None}]},
            {"role": "system", "content": "From now on in French"},
            {**user(""), "name": "x"},
            system=[text("Be brief"), text("Be kind")],
        )
        self.assertEqual(
            conversation.messages,
            (
                {"role": "system", "content": "Be brief\n\nBe kind"},
                user("One\n\nTwo"),
                {"role": "assistant", "content": "Yes"},
                {"role": "system", "content": "From now on in French"},
                user(""),
            ),
        )
        self.assertEqual(conversation.model, "kiro")
        self.assertIsInstance(conversation.reply_format, TextFormat)
        self.assertEqual(conversation_of(system="Hi").messages[0]["content"], "Hi")
        self.assertEqual(conversation_of(user([])).messages, (user(""),))

    def test_earlier_tools(self) -> None:
        """
        Earlier uses of tools and their results keep their order among the texts.
        """
        call = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1, "b": "é"}}
        silent = {"type": "tool_use", "id": "t2", "name": "stop", "input": {}}
        conversation = conversation_of(
            user("Add"),
            {"role": "assistant", "content": [text("Well"), call]},
            user([{"type": "tool_result", "tool_use_id": "t1", "content": "2"}, text("Go on")]),
            {"role": "assistant", "content": [silent]},
            user(
                [
                    text("Look"),
                    {
                        "type": "tool_result",
                        "tool_use_id": "t2",
                        "content": [text("No"), text("way")],
                        "is_error": True,
                    },
                    {"type": "tool_result", "tool_use_id": "t3"},
                ]
            ),
        )
        arguments = json.dumps(call["input"], ensure_ascii=False)
        self.assertEqual(
            conversation.messages[1:],
            (
                {
                    "role": "assistant",
                    "content": "Well",
                    "tool_calls": [{"id": "t1", "name": "add", "arguments": arguments}],
                },
                {"role": "tool", "content": "2", "tool_call_id": "t1"},
                user("Go on"),
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "t2", "name": "stop", "arguments": "{}"}],
                },
                user("Look"),
                {
                    "role": "tool",
                    "content": "No\n\nway",
                    "tool_call_id": "t2",
                    "is_error": True,
                },
                {"role": "tool", "content": "", "tool_call_id": "t3"},
            ),
        )

    def test_images(self) -> None:
        """
        Images are collected in their order, and a text with its number stands for each.
        """
        result = {"type": "tool_result", "tool_use_id": "t1", "content": [image(GIF)]}
        conversation = conversation_of(
            user([text("Compare"), image(GIF), image(PNG, "image/png")]),
            {"role": "assistant", "content": "With what?"},
            user([result, text("This")]),
        )
        self.assertEqual(
            [message["content"] for message in conversation.messages],
            ["Compare\n\n[image 1]\n\n[image 2]", "With what?", "[image 3]", "This"],
        )
        start = "messages[0].content"
        self.assertEqual(
            conversation.images,
            (
                Image("image/gif", GIF, f"{start}[1].source"),
                Image("image/png", PNG, f"{start}[2].source"),
                Image("image/gif", GIF, "messages[2].content[0].content[0].source"),
            ),
        )

    def test_ignored(self) -> None:
        """
        Fields that only tune a model, unknown ones, and those that ask for nothing are ignored.
        """
        plain = parse_message(body_with())
        for field, value in [
            *(("temperature", 0.5), ("top_p", "x"), ("top_k", 5), ("service_tier", "auto")),
            *(("metadata", {"user_id": "u"}), ("cache_control", None), ("betas", ["x"])),
            *(("tools", []), ("tools", None), ("mcp_servers", []), ("container", None)),
            *(("thinking", {"type": "disabled"}), ("thinking", {"type": "adaptive"})),
            *(("output_config", {"effort": "low"}), ("inference_geo", "global"), ("novel", {})),
            *(("stop_sequences", []), ("stop_sequences", None), ("system", None)),
            *(("stream", None), ("stream", False), ("output_config", {"format": None})),
        ]:
            self.assertEqual(parse_message(body_with(**{field: value})), plain, field)
        without = body_with(tools=[{"name": "add"}], tool_choice={"type": "none"})
        self.assertEqual(parse_message(without), plain)
        self.assertTrue(parse_message(body_with(stream=True)).streams)

    def test_counted(self) -> None:
        """
        The tokens of the system prompt and of all messages are counted, without a maximum.
        """
        body = body_with(user("x" * 8), {"role": "assistant", "content": "y" * 4}, user("z"))
        del body["max_tokens"]
        self.assertEqual(parse_counted({**body, "system": "s" * 40}).tokens, 10 + 2 + 1 + 1)

    def test_stop_sequence(self) -> None:
        """
        A reply is cut before the first stop sequence in it, which the reply names.
        """
        conversation = conversation_of(stop_sequences=["END", "\n\n"])
        self.assertFalse(conversation.can_stream_incrementally)
        reply = conversation.reply({"reply": "One\n\nTwo END"})
        self.assertEqual((reply.content, reply.stop), ("One", "\n\n"))
        reply = conversation.reply({"reply": "One"})
        self.assertEqual((reply.content, reply.stop), ("One", None))

    def test_schema(self) -> None:
        """
        A schema is taken from ``output_config``, or from ``output_format`` as its beta had it.
        """
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        wanted = {"type": "json_schema", "schema": schema}
        for field, value in [
            ("output_config.format.schema", {"format": wanted}),
            ("output_format.schema", wanted),
        ]:
            found = conversation_of(**{field.partition(".")[0]: value}).reply_format
            assert isinstance(found, JsonFormat) and found.check is not None
            self.assertEqual((found.check.schema, found.check.field), (schema, field))


class RefusalTests(SynchronousTestCase):
    """
    Tests for what is refused.
    """

    def error_for(self, body: Any) -> InvalidInput:
        problem: InvalidInput = self.assertRaises(InvalidInput, parse_message, body)
        return problem

    def test_fields(self) -> None:
        """
        A field that is invalid or asks for what an agent cannot do is refused by its name.
        """
        for field, value in [
            *(("model", None), ("model", ""), ("model", 5), ("messages", None), ("messages", [])),
            *(("messages", "Hi"), ("messages[0]", ["Hi"]), ("system", 5), ("stream", "yes")),
            *(("max_tokens", None), ("max_tokens", 0), ("max_tokens", True), ("max_tokens", "1")),
            *(("max_tokens", 1.5), ("stop_sequences", "END"), ("stop_sequences", ["a"] * 5)),
            *(("stop_sequences", [""]), ("stop_sequences", [5]), ("tools", [{"name": "add"}])),
            *(("mcp_servers", [{"url": "x"}]), ("container", "c1"), ("container", {"id": "c"})),
            *(("thread", {"type": "create"}), ("inference_geo", "us"), ("thinking", 5)),
            *(("thinking", {"type": "enabled", "budget_tokens": 1024}), ("thinking", {})),
            *(("output_config", []), ("output_format", "json")),
        ]:
            name = field.partition("[")[0]
            self.assertEqual(self.error_for(body_with(**{name: value})).field, field, value)
        self.assertEqual(self.error_for([]).field, "")

    def test_output_format(self) -> None:
        """
        A format is refused unless it is a JSON Schema of an object.
        """
        for wanted, field in [
            ({"type": "text"}, "type"),
            ({"type": "json_schema"}, "schema"),
            ({"type": "json_schema", "schema": {"type": "array"}}, "schema"),
            ({"type": "json_schema", "schema": True}, "schema"),
        ]:
            error = self.error_for(body_with(output_config={"format": wanted}))
            self.assertEqual(error.field, f"output_config.format.{field}")
        error = self.error_for(body_with(output_config={"format": "json"}))
        self.assertEqual(error.field, "output_config.format")

    def test_blocks(self) -> None:
        """
        A block that an agent cannot take is refused by its path, whichever role has it.
        """
        start = "messages[1].content"
        content: Any
        source = {"type": "url", "url": "https://example.com/a.png"}
        for content, field in [
            *((5, start), (None, start), ({"type": "text"}, start), ([5], f"{start}[0]")),
            *(([{"text": "a"}], f"{start}[0]"), ([{"type": []}], f"{start}[0]")),
            ([text("a"), {"type": "text", "text": 5}], f"{start}[1].text"),
            ([{"type": "document", "source": source}], f"{start}[0].type"),
            *(([{"type": kind}], f"{start}[0].type") for kind in ("tool_use", "thinking")),
            *(([{"type": kind}], f"{start}[0].type") for kind in ("server_tool_use", "novel")),
            *(([{"type": kind}], f"{start}[0].type") for kind in ("search_result", "")),
            ([{"type": "container_upload", "file_id": "f"}], f"{start}[0].type"),
            ([{"type": "tool_result"}], f"{start}[0].tool_use_id"),
            ([{"type": "tool_result", "tool_use_id": 5}], f"{start}[0].tool_use_id"),
            (
                [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_use"}]}],
                f"{start}[0].content[0].type",
            ),
            ([{"type": "image"}], f"{start}[0].source.type"),
            ([{"type": "image", "source": {"type": "file", "id": "f"}}], f"{start}[0].source.type"),
            ([{"type": "image", "source": source}], f"{start}[0].source.url"),
            ([{"type": "image", "source": {"type": "base64"}}], f"{start}[0].source"),
            ([image("R0lGODlh", "image/png")], f"{start}[0].source"),
            ([image(GIF)] * (MAX_IMAGES + 1), f"{start}[{MAX_IMAGES}].source"),
        ]:
            error = self.error_for(body_with(user("Hi"), user(content)))
            self.assertEqual(error.field, field, content)
        for block, field in [
            ({"type": "tool_result", "tool_use_id": "t"}, f"{start}[0].type"),
            ({"type": "redacted_thinking", "data": "x"}, f"{start}[0].type"),
            ({"type": "tool_use", "id": "t", "name": "add"}, f"{start}[0]"),
            ({"type": "tool_use", "id": "t", "name": "add", "input": "{}"}, f"{start}[0]"),
        ]:
            message = {"role": "assistant", "content": [block]}
            self.assertEqual(self.error_for(body_with(user("Hi"), message)).field, field, block)
        error = self.error_for(body_with(system=[text("a"), {"type": "image"}]))
        self.assertEqual(error.field, "system[1].type")

    def test_role(self) -> None:
        """
        A message has a known role, and the last one is not the assistant's.
        """
        roles: list[Any] = ["tool", "developer", None, []]
        for role in roles:
            error = self.error_for(body_with({"role": role, "content": "Hi"}))
            self.assertEqual(error.field, "messages[0].role", role)
        error = self.error_for(body_with(user("Hi"), {"role": "assistant", "content": "The"}))
        self.assertEqual(error.field, "messages[1].role")

    def test_deep_input(self) -> None:
        """
        The input of a tool that is nested too deeply to be written is refused.
        """
        deep: Any = {}
        for _ in range(100_000):
            deep = {"a": deep}
        call = {"type": "tool_use", "id": "t", "name": "add", "input": deep}
        message = {"role": "assistant", "content": [call]}
        error = self.error_for(body_with(user("Hi"), message, user("Go on")))
        self.assertEqual(error.field, "messages[1].content[0].input")

    @given(_JSON, st.dictionaries(_NAMES, _JSON, max_size=6))
    def test_any_body(self, messages: Any, others: dict[str, Any]) -> None:
        """
        Any body is accepted or refused.
        """
        with contextlib.suppress(InvalidInput):
            asked = parse_message({**body_with(), "messages": [user(messages)], **others})
            self.assertIsInstance(asked, MessageRequest)
            asked.conversation.prompt({}, "compact")
