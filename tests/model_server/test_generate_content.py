"""
Tests for `kiroworkers.model_server.generate_content`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server import Message, ModelReply
from kiroworkers.model_server.generate_content import GenerateContentWriter, read
from tests.model_server.samples import HARD_CALL, HARD_STRINGS, HARD_TEXT, values_with

PATH = "/v1beta/models/gemini-2.5-flash:generateContent"


class ReadTests(SynchronousTestCase):
    """
    Tests for `read`.
    """

    def test_conversation(self) -> None:
        """
        Every part is read, and the result of a function is told from the text beside it.
        """
        result = {"id": "f1", "name": "sh", "response": {"output": "a file"}}
        request = read(
            PATH.replace(":g", ":streamG"),
            {
                "systemInstruction": {"role": "user", "parts": [{"text": "Be brief"}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "one"}, {"text": "two"}]},
                    {
                        "role": "model",
                        "parts": [{"functionCall": {"name": "sh", "args": {"command": "ls"}}}],
                    },
                    {
                        "role": "user",
                        "parts": [{"functionResponse": result}, {"text": "a reminder"}],
                    },
                ],
                "tools": [{"functionDeclarations": [{"name": "sh", "description": "Run it"}]}],
            },
        )
        self.assertEqual((request.model, request.stream), ("gemini-2.5-flash", True))
        self.assertEqual((request.tools, request.structured), (("sh",), False))
        self.assertEqual(
            request.messages[:5],
            (
                Message("system", "Be brief"),
                Message("user", "one\ntwo"),
                Message("assistant", "sh\nls"),
                Message("tool", "f1\nsh\na file"),
                Message("user", "a reminder"),
            ),
        )
        self.assertIn("Run it", request.text)

    def test_structured(self) -> None:
        """
        A request for JSON is told from one for text, and one that is no stream from a stream.
        """
        for mime_type, structured in (("application/json", True), ("text/plain", False)):
            request = read(PATH, {"generationConfig": {"responseMimeType": mime_type}})
            self.assertEqual((request.structured, request.stream), (structured, False))

    def test_count(self) -> None:
        """
        A request for a count of tokens may contain a whole request.
        """
        path = "/v1beta/models/m:countTokens"
        inner = {"model": "models/m", "contents": [{"parts": [{"text": "one"}]}]}
        request = read(path, {"generateContentRequest": inner})
        self.assertEqual((request.model, request.messages[0]), ("m", Message("user", "one")))

    @given(
        st.dictionaries(
            st.sampled_from(["systemInstruction", "contents", "tools", "generationConfig"]),
            values_with("role", "parts", "text", "functionResponse", "functionDeclarations"),
        )
    )
    def test_any_body(self, body: Any) -> None:
        """
        A body of any form can be read.
        """
        self.assertIsInstance(read(PATH, body).text, str)


class WriterTests(SynchronousTestCase):
    """
    Tests for `GenerateContentWriter`.
    """

    def parts(self, reply: ModelReply) -> tuple[list[Any], list[Any]]:
        """
        Return the parts in the events of a stream, and the reasons for its end in them.
        """
        stream = b"".join(GenerateContentWriter("m", 7).stream(reply)).decode()
        events = [json.loads(text.removeprefix("data: ")) for text in stream.split("\n\n")[:-1]]
        candidates = [event["candidates"][0] for event in events]
        parts = [part for candidate in candidates for part in candidate["content"]["parts"]]
        return parts, [candidate.get("finishReason") for candidate in candidates]

    def test_stream(self) -> None:
        """
        A stream has the text in pieces, and a call in one piece at its end.
        """
        (*texts, call), reasons = self.parts(HARD_CALL)
        self.assertEqual("".join(part["text"] for part in texts), HARD_TEXT)
        self.assertEqual(call["functionCall"]["name"], "echo")
        self.assertEqual(call["functionCall"]["args"]["text"], HARD_TEXT)
        self.assertEqual(reasons, [None] * len(texts) + ["STOP"])

    def test_hard_strings(self) -> None:
        """
        Each hard string arrives unaltered, streamed or not.
        """
        for name, text in HARD_STRINGS.items():
            parts, _ = self.parts(ModelReply(text))
            self.assertEqual("".join(part["text"] for part in parts), text, name)
            [candidate] = GenerateContentWriter("m", 7).body(ModelReply(text))["candidates"]
            self.assertEqual(candidate["content"]["parts"], [{"text": text}], name)

    def test_line_separators(self) -> None:
        """
        Line and paragraph separators are escaped in a stream: Google's client for JavaScript
        cannot read them otherwise.
        """
        text = "\u2028\u2029"
        stream = b"".join(GenerateContentWriter("m", 7).stream(ModelReply(text))).decode()
        self.assertNotIn("\u2028", stream)
        self.assertNotIn("\u2029", stream)
        parts, _ = self.parts(ModelReply(text))
        self.assertEqual(parts[0], {"text": text})

    def test_endless(self) -> None:
        """
        An endless answer begins with its text and has no end.
        """
        parts, reasons = self.parts(ModelReply("Well", endless=True))
        self.assertEqual((parts, reasons), ([{"text": "Well"}], [None]))
