"""
Tests for `kiroworkers.chat.responses`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import ResponseRequest, parse_response
from kiroworkers.chat.reply_format import JsonFormat, TextFormat
from kiroworkers.chat.responses import MAX_NAME, MAX_PAIRS, MAX_VALUE
from kiroworkers.errors import InvalidInput
from kiroworkers.images import MAX_IMAGES

#: The beginning of an image, as base64 text.
GIF = "R0lGODlhAQABAAAAACw="

_NAMES = st.sampled_from(
    [
        *("model", "input", "role", "content", "type", "text", "instructions", "format", "schema"),
        *("stream", "metadata", "tools", "tool_choice", "include", "call_id", "name", "output"),
        *("arguments", "refusal", "image_url", "file_id", "prompt", "id"),
    ]
)
_VALUES = st.sampled_from(
    [
        *(None, True, 0, -1.5, "", "user", "assistant", "message", "input_text", "output_text"),
        *("input_image", "reasoning", "function_call", "function_call_output", "json_schema"),
        *("none", "auto", "\ud800", f"data:image/gif;base64,{GIF}"),
    ]
)
_JSON = st.recursive(
    _VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5)
)


def parsed(input: Any = "Hi", **others: Any) -> ResponseRequest:
    """
    Return the accepted request with this input.
    """
    return parse_response({"model": "kiro", "input": input, **others})


def user(*parts: Any) -> dict[str, Any]:
    """
    Return a message of the user with these parts.
    """
    return {"role": "user", "content": [*parts]}


def text(words: str, kind: str = "input_text") -> dict[str, Any]:
    """
    Return a part with text.
    """
    return {"type": kind, "text": words}


class AcceptTests(SynchronousTestCase):
    """
    Tests for requests that are accepted.
    """

    def messages(self, *items: Any, **others: Any) -> list[Any]:
        """
        Return the messages of the conversation with these items.
        """
        return [*parsed([*items], **others).conversation.messages]

    def test_text(self) -> None:
        """
        Input that is a string is a message of the user, and instructions come before it.
        """
        asked = parsed("Hi", instructions="Be brief")
        self.assertEqual(
            asked.conversation.messages,
            ({"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}),
        )
        self.assertEqual((asked.instructions, asked.conversation.model), ("Be brief", "kiro"))
        self.assertEqual(parsed("Hi").conversation.messages, ({"role": "user", "content": "Hi"},))

    def test_messages(self) -> None:
        """
        Messages keep their roles, and their parts are joined.  What an earlier response had in its
        output is accepted as it was.
        """
        earlier = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "phase": "final_answer",
            "content": [
                {**text("One", "output_text"), "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": " no"},
            ],
        }
        self.assertEqual(
            self.messages(
                {"type": "message", "role": "developer", "content": "Be brief"},
                user(text("a"), text("b")),
                earlier,
                {"type": None, "role": "system", "content": [text("Now")]},
            ),
            [
                {"role": "developer", "content": "Be brief"},
                {"role": "user", "content": "ab"},
                {"role": "assistant", "content": "One no"},
                {"role": "system", "content": "Now"},
            ],
        )

    def test_functions(self) -> None:
        """
        Calls of functions and their output are a part of the conversation, as in chat completions;
        reasoning is not.
        """
        self.assertEqual(
            self.messages(
                user(text("Add")),
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"},
                {"type": "function_call", "call_id": "1", "name": "add", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "42"},
                {"type": "function_call_output", "call_id": "2", "output": [text("4"), text("3")]},
            ),
            [
                {"role": "user", "content": "Add"},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "name": "add", "arguments": "{}"}],
                },
                {"role": "tool", "content": "42", "tool_call_id": "1"},
                {"role": "tool", "content": "43", "tool_call_id": "2"},
            ],
        )

    def test_images(self) -> None:
        """
        Images of the user and of functions keep their order, and the text says where they are.
        """
        picture = {"type": "input_image", "image_url": f"data:image/gif;base64,{GIF}"}
        output = {"type": "function_call_output", "call_id": "1", "output": [picture]}
        asked = parsed([user(text("See"), {**picture, "detail": "low", "file_id": None}), output])
        contents = [message["content"] for message in asked.conversation.messages]
        self.assertEqual(contents, ["See\n[image 1]\n", "\n[image 2]\n"])
        self.assertEqual(
            [(image.data, image.field) for image in asked.conversation.images],
            [(GIF, "input[0].content[1].image_url"), (GIF, "input[1].output[0].image_url")],
        )

    def test_formats(self) -> None:
        """
        The format of the reply is that of `text.format`, which the response repeats.
        """
        for wanted in (
            None,
            {},
            {"format": None},
            {"format": {"type": "text"}, "verbosity": "low"},
        ):
            asked = parsed(text=wanted)
            self.assertEqual(asked.conversation.reply_format, TextFormat())
            self.assertEqual(asked.text_format, {"type": "text"})
        asked = parsed(text={"format": {"type": "json_object"}})
        self.assertEqual(asked.conversation.reply_format, JsonFormat())
        schema = {"type": "object", "required": ["size"]}
        form = {"type": "json_schema", "schema": schema, "description": "A size"}
        for name, shown in [({"name": "size"}, "size"), ({}, "reply")]:
            asked = parsed(text={"format": {**form, **name}})
            check = asked.conversation.schema_check
            assert check is not None
            self.assertEqual((check.schema, check.field), (schema, "text.format.schema"))
            self.assertEqual(
                asked.text_format,
                {"type": "json_schema", "name": shown, "schema": schema, "strict": True},
            )

    def test_ignored(self) -> None:
        """
        Fields that only tune a model or the storage, null and unknown fields are ignored.
        """
        others = {
            "temperature": 2,
            "max_output_tokens": 5,
            "reasoning": {"effort": "high"},
            "store": True,
            "truncation": "auto",
            "include": ["reasoning.encrypted_content"],
            "service_tier": "flex",
            "prompt_cache_key": "x",
            "parallel_tool_calls": True,
            "user": "me",
            "made_up": {},
            "stream_options": {"include_obfuscation": False},
            "tools": [],
            "top_logprobs": 0,
            "background": False,
            "previous_response_id": None,
            "conversation": None,
            "stream": None,
            "metadata": None,
            "instructions": None,
            "tool_choice": "auto",
        }
        self.assertEqual(parsed(**others), parsed())
        without = parsed(tools=[{"type": "function"}], tool_choice="none")
        self.assertEqual(without.conversation, parsed().conversation)
        self.assertEqual((without.tool_choice, parsed().tool_choice), ("none", "auto"))

    def test_repeated(self) -> None:
        """
        The response repeats the metadata.
        """
        pairs = {f"{number:{MAX_NAME}}": "v" * MAX_VALUE for number in range(MAX_PAIRS)}
        self.assertEqual(parsed(metadata=pairs).metadata, pairs)
        self.assertTrue(parsed(stream=True).streams)


class RefuseTests(SynchronousTestCase):
    """
    Tests for requests that are refused.
    """

    def error_for(self, **changes: Any) -> InvalidInput:
        problem: InvalidInput = self.assertRaises(InvalidInput, parsed, **changes)
        return problem

    def test_fields(self) -> None:
        """
        A field that is invalid or not supported is refused by name.
        """
        cases: list[tuple[str, dict[str, Any]]] = [
            ("model", {"model": None}),
            ("model", {"model": 4}),
            ("input", {"input": None}),
            ("input", {"input": {}}),
            ("input", {"input": []}),
            ("input", {"input": [{"type": "reasoning"}]}),
            ("instructions", {"instructions": [user(text("Hi"))]}),
            ("stream", {"stream": "yes"}),
            ("text", {"text": "json"}),
            ("text.format", {"text": {"format": "json"}}),
            ("text.format.type", {"text": {"format": {"type": "xml"}}}),
            ("text.format.name", {"text": {"format": {"type": "json_schema", "name": 1}}}),
            ("text.format.schema", {"text": {"format": {"type": "json_schema", "name": "x"}}}),
            ("metadata", {"metadata": []}),
            ("metadata", {"metadata": {"a": 1}}),
            ("metadata", {"metadata": {"a": "v" * (MAX_VALUE + 1)}}),
            ("metadata", {"metadata": {"n" * (MAX_NAME + 1): "v"}}),
            ("metadata", {"metadata": {str(number): "" for number in range(MAX_PAIRS + 1)}}),
            ("previous_response_id", {"previous_response_id": "resp_1"}),
            ("conversation", {"conversation": {"id": "conv_1"}}),
            ("background", {"background": True}),
            ("prompt", {"prompt": {"id": "pmpt_1"}}),
            ("moderation", {"moderation": {"model": "omni"}}),
            ("top_logprobs", {"top_logprobs": 3}),
            ("tools", {"tools": [{"type": "web_search"}]}),
            ("tools", {"tools": {"type": "web_search"}, "tool_choice": "auto"}),
            ("tool_choice", {"tool_choice": "required"}),
            ("tool_choice", {"tool_choice": ["none"]}),
            ("include", {"include": ["message.output_text.logprobs"]}),
        ]
        for field, changes in cases:
            problem = self.error_for(**changes)
            self.assertEqual(problem.field, field, problem)
            self.assertIn(field, problem.reason)
        self.assertRaises(InvalidInput, parse_response, [])

    def test_items(self) -> None:
        """
        An item or a part that is invalid or not supported is refused by its place.
        """
        picture = {"type": "input_image", "image_url": f"data:image/gif;base64,{GIF}"}
        cases: list[tuple[str, Any]] = [
            ("", "Hi"),
            (".role", {}),
            (".role", {"role": "tool", "content": "Hi"}),
            (".role", {"role": ["user"], "content": "Hi"}),
            (".role", {"id": "msg_1"}),
            (".type", {"type": "item_reference", "id": "msg_1"}),
            (".type", {"type": "computer_call"}),
            (".type", {"type": ["message"], "role": "user"}),
            (".content", {"role": "user"}),
            (".content", {"role": "user", "content": 1}),
            (".content[0]", user("Hi")),
            (".content[0]", user({"type": ["input_text"]})),
            (".content[0].text", user({"type": "input_text"})),
            (".content[1].type", user(text("Hi"), text("Hi", "output_text"))),
            (".content[0].type", user({"type": "input_audio", "input_audio": {}})),
            (".content[0].type", user({"type": "input_file", "file_id": "file_1"})),
            (".content[0].type", {"role": "system", "content": [picture]}),
            (".content[0].type", {"role": "assistant", "content": [picture]}),
            (".content[0].refusal", {"role": "assistant", "content": [{"type": "refusal"}]}),
            (".content[0].file_id", user({"type": "input_image", "file_id": "file_1"})),
            (".content[0].image_url", user({"type": "input_image"})),
            (
                ".content[0].image_url",
                user({"type": "input_image", "image_url": "https://example.org/x.gif"}),
            ),
            (f".content[{MAX_IMAGES}].image_url", user(*[picture] * (MAX_IMAGES + 1))),
            ("", {"type": "function_call", "call_id": "1", "name": "add"}),
            (".output", {"type": "function_call_output", "call_id": "1"}),
            (".call_id", {"type": "function_call_output", "output": "42"}),
            (
                ".output[0].type",
                {"type": "function_call_output", "call_id": "1", "output": [{"type": "refusal"}]},
            ),
        ]
        for place, item in cases:
            problem = self.error_for(input=[user(text("Hi")), item])
            self.assertEqual(problem.field, f"input[1]{place}", problem)
            self.assertIn("input[1]", problem.reason)

    @given(_JSON)
    def test_anything(self, body: Any) -> None:
        """
        Any JSON is either refused or accepted as a request that makes a prompt.
        """
        for changes in ({}, {"model": "kiro"}, {"model": "kiro", "input": body}):
            try:
                asked = parse_response({**body, **changes} if isinstance(body, dict) else body)
            except InvalidInput as problem:
                self.assertTrue(problem.reason)
            else:
                self.assertIn("Request: ", asked.conversation.prompt({}, "lines"))
        try:
            asked = parsed([body])
        except InvalidInput as problem:
            self.assertTrue(problem.reason)
        else:
            self.assertIn("Request: ", asked.conversation.prompt({}, "lines"))
