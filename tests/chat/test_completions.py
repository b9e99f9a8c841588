"""
Tests for `kiroworkers.chat.completions`, `conversation`, `reply_format` and `usage`.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import Conversation, estimate_tokens, parse_completion
from kiroworkers.errors import AnswerSchemaMismatch, InvalidInput
from kiroworkers.images import MAX_IMAGES, image_from_base64
from kiroworkers.tasks import ParsedAnswer

#: The beginning of an image, as base64 text.
GIF = "R0lGODlhAQABAAAAACw="

#: Text that a terminal could take for a command or a control sequence.
HOSTILE = "!ls\n/quit\n@file\n\x1b[201~\r```\\\u202e\ud800 😀"

#: Names in random bodies and schemas.
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


def answer_in(chat: Conversation, output: str) -> ParsedAnswer:
    """
    Return the answer to `chat` in an agent's output.
    """
    return chat.answer_search({}, output, False).find()


def chat_of(*messages: Any, **others: Any) -> Conversation:
    """
    Return the accepted request with these messages.
    """
    body = {"model": "kiro", "messages": list(messages), **others}
    return parse_completion(body).conversation


def user_message(content: Any) -> dict[str, Any]:
    """
    Return a message of the user.
    """
    return {"role": "user", "content": content}


class AcceptTests(SynchronousTestCase):
    """
    Tests for `parse_completion`.
    """

    def error_for(self, **changes: Any) -> InvalidInput:
        body = {"model": "kiro", "messages": [user_message("Hi")], **changes}
        problem: InvalidInput = self.assertRaises(InvalidInput, parse_completion, body)
        return problem

    def test_messages(self) -> None:
        """
        Messages keep their roles and names, text parts are joined, and unknown fields are
        left out.
        """
        accepted_call = {"id": "1", "name": "add", "arguments": "{}"}
        call = {"id": "1", "function": {"name": "add", "arguments": "{}"}, "type": "function"}
        chat = chat_of(
            {"role": "developer", "content": "Be brief", "weight": 1},
            {
                **user_message([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
                "name": "x",
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
        )
        self.assertEqual(
            list(chat.messages),
            [
                {"role": "developer", "content": "Be brief"},
                {"role": "user", "name": "x", "content": "ab"},
                {"role": "assistant", "tool_calls": [accepted_call]},
                {"role": "tool", "content": "42", "tool_call_id": "1"},
            ],
        )

    def test_ignored(self) -> None:
        """
        Fields that only tune a model, null and unknown fields are ignored.
        """
        plain = chat_of(user_message("Hi"))
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
        self.assertEqual(chat_of(user_message("Hi"), **others), plain)
        without = {"tools": [{"type": "function"}], "tool_choice": "none"}
        self.assertEqual(chat_of(user_message("Hi"), **without), plain)

    def test_refused(self) -> None:
        """
        A field that is invalid or not supported is rejected by name.
        """
        file = {"type": "file", "file": {"file_id": "f"}}
        cases: list[tuple[str, dict[str, Any]]] = [
            ("model", {"model": None}),
            ("model", {"model": 4}),
            ("messages", {"messages": None}),
            ("messages", {"messages": []}),
            ("messages[0]", {"messages": ["Hi"]}),
            ("messages[0].role", {"messages": [{"role": "robot", "content": ""}]}),
            ("messages[0].role", {"messages": [{"role": ["user"], "content": ""}]}),
            ("messages[0].name", {"messages": [{**user_message("Hi"), "name": 1}]}),
            ("messages[0].content", {"messages": [{"role": "user"}]}),
            ("messages[0].content", {"messages": [user_message(1)]}),
            (
                "messages[0].content[1]",
                {"messages": [user_message([{"type": "text", "text": ""}, file])]},
            ),
            ("messages[0].content[0]", {"messages": [user_message([{"type": "text"}])]}),
            ("messages[0].content[0]", {"messages": [user_message(["Hi"])]}),
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
            problem = self.error_for(**changes)
            self.assertEqual(problem.field, field, problem)
            self.assertIn(field.partition(".")[0], problem.reason)
        self.assertIn("type 'file'", self.error_for(messages=[user_message([file])]).reason)
        self.assertRaises(InvalidInput, parse_completion, [])

    def test_images(self) -> None:
        """
        A user's images keep their order, and each message says where they are.  An image must be a
        data URL; other roles have none.
        """
        picture = {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{GIF}"}}
        chat = chat_of(
            user_message([{"type": "text", "text": "Compare"}, picture, picture]),
            {"role": "assistant", "content": "They differ"},
            user_message([picture]),
        )
        contents = [message["content"] for message in chat.messages]
        self.assertEqual(
            [content.split() for content in contents],
            [["Compare", "[image", "1]", "[image", "2]"], ["They", "differ"], ["[image", "3]"]],
        )
        self.assertEqual(
            [(image.media_type, image.data, image.field) for image in chat.images],
            [
                ("image/gif", GIF, f"messages[{message}].content[{part}].image_url.url")
                for message, part in [(0, 1), (0, 2), (2, 0)]
            ],
        )
        url = {"type": "image_url", "image_url": {"url": "https://example.org/x.gif"}}
        for role, part, field in [
            ("user", url, ".image_url.url"),
            ("user", {"type": "image_url"}, ".image_url.url"),
            ("system", picture, ""),
            ("tool", picture, ""),
        ]:
            problem = self.error_for(messages=[{"role": role, "content": [part]}])
            self.assertEqual(problem.field, f"messages[0].content[0]{field}")
        problem = self.error_for(messages=[user_message([picture] * (MAX_IMAGES + 1))])
        self.assertEqual(problem.field, f"messages[0].content[{MAX_IMAGES}].image_url.url")

    @given(JSON)
    def test_anything(self, body: Any) -> None:
        """
        Any JSON is either rejected or accepted as a request that makes a prompt.
        """
        try:
            chat = parse_completion(body).conversation
        except InvalidInput as problem:
            self.assertTrue(problem.reason)
        else:
            self.assertIn("Request: ", chat.prompt({}, "lines"))

    @given(st.dictionaries(KEYWORDS, JSON, max_size=4))
    def test_any_schema(self, schema: Any) -> None:
        """
        Any JSON is either rejected as a schema or accepted as one that can check an object.
        """
        form = {"type": "json_schema", "json_schema": {"schema": schema}}
        with contextlib.suppress(InvalidInput):
            chat = chat_of(user_message("Hi"), response_format=form)
            assert chat.schema_check is not None
            chat.schema_check.result(chat.schema_check.run())
            with contextlib.suppress(AnswerSchemaMismatch):
                answer_in(chat, '{"type": "object", "x": [1, null, "x", {}]}')


class PromptTests(SynchronousTestCase):
    """
    Tests for the prompt.
    """

    def test_data(self) -> None:
        """
        Client text enters the prompt only as JSON: no line begins with what a terminal takes
        for a command, and the conversation can be read back.
        """
        schema = {"type": "object", "title": HOSTILE}
        form: Any = {"type": "json_schema", "json_schema": {"schema": schema}}
        others: Any
        for others in ({}, {"response_format": form}):
            chat = chat_of({**user_message(HOSTILE), "name": HOSTILE}, **others)
            lines = chat.prompt({}, "compact").split("\n")
            for line in lines:
                self.assertNotIn(line[:1], ("!", "/", "@", ""))
                self.assertTrue(line.isprintable(), line)
                self.assertNotIn("```", line)
            [request] = [line for line in lines if line.startswith("Request: ")]
            payload = json.loads(request.removeprefix("Request: "))
            self.assertEqual(payload, {"messages": list(chat.messages)})

    def test_images(self) -> None:
        """
        Only the prompt of a conversation with images says what stands for them.
        """
        sentence = "- The text [image N] in a message stands for the image with that number"
        chat = chat_of(user_message("See [image 1]"))
        self.assertNotIn(sentence, chat.prompt({}, "compact"))
        image = image_from_base64("image/gif", GIF, "f")
        lines = evolve(chat, images=(image,)).prompt({}, "compact").split("\n")
        self.assertEqual(sum(line.startswith(sentence) for line in lines), 1)
        self.assertNotIn(GIF, "".join(lines))


class ContentTests(SynchronousTestCase):
    """
    Tests for the reply that an agent's output holds.
    """

    def content(self, chat: Conversation, output: str) -> str:
        return chat.reply(answer_in(chat, output).value).content

    def test_text(self) -> None:
        """
        A text reply is exactly the string in the object; other output is a mismatch.
        """
        chat = chat_of(user_message("Hi"))
        output = 'So:\n```json\n{"reply": " **a**\\n\\u0060b\\u0060 "}\n```'
        self.assertEqual(self.content(chat, output), " **a**\n`b` ")
        for wrong in ("Hello", '{"reply": 1}', '{"reply": "a", "b": 1}'):
            self.assertRaises(AnswerSchemaMismatch, answer_in, chat, wrong)

    def test_stop(self) -> None:
        """
        A text reply is cut before the first stop string in it.
        """
        chat = chat_of(user_message("Hi"), stop=["END", "."])
        self.assertEqual(self.content(chat, '{"reply": "One. Two END"}'), "One")
        self.assertEqual(self.content(chat, '{"reply": "One"}'), "One")
        self.assertFalse(chat.can_stream_incrementally)

    def test_first_stop(self) -> None:
        """
        The stop string that begins first counts, and of two at the same place the one listed first.
        """
        for stops, content, cut in [
            (["ND", "END"], "x END", ("x ", "END")),
            (["END", "ND"], "x END", ("x ", "END")),
            (["E", "END"], "x END", ("x ", "E")),
            (["END", "E"], "x END", ("x ", "END")),
            (["x"], "x END", ("", "x")),
            (["a", "x"], "xa", ("", "x")),
            (["a", "D"], "x END", ("x EN", "D")),
            (["a"], "", ("", None)),
        ]:
            reply = chat_of(user_message("Hi"), stop=stops).reply({"reply": content})
            self.assertEqual((reply.content, reply.stop), cut)

    def test_object(self) -> None:
        """
        A JSON reply is the last object in the output.
        """
        chat = chat_of(user_message("Hi"), response_format={"type": "json_object"})
        self.assertEqual(
            self.content(chat, 'No {"a": 1} but {"a": {"b": "é"}}'), '{"a": {"b": "é"}}'
        )
        self.assertRaises(AnswerSchemaMismatch, answer_in, chat, "[1]")

    def test_tokens(self) -> None:
        """
        Tokens are estimated from bytes.
        """
        self.assertEqual(
            [estimate_tokens(text) for text in ("", "a", "abcd", "abcde", "\ud800éé")],
            [0, 1, 1, 2, 2],
        )

    def test_tokens_of_calls(self) -> None:
        """
        The names and arguments of tool calls count like texts.
        """
        call = {"id": "1", "function": {"name": "find", "arguments": "12345678"}}
        chat = chat_of(user_message("abcd"), {"role": "assistant", "tool_calls": [call]})
        self.assertEqual(chat.tokens, 4)

    def test_quoted(self) -> None:
        """
        An error quotes the type of a part without its control characters.
        """
        part = {"type": "\x1b[31m\ud800"}
        problem = self.assertRaises(InvalidInput, chat_of, user_message([part]))
        self.assertTrue(problem.reason.isprintable(), problem)
