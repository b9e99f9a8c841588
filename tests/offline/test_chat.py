"""
Tests for `kiroworkers.offline.chat`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import parse_request
from kiroworkers.offline.__main__ import reply


class ChatTests(SynchronousTestCase):
    """
    Tests for the offline agent's replies to a conversation.
    """

    def content(self, **others: Any) -> str:
        messages = [{"role": "user", "content": "Hello"}]
        chat = parse_request({"model": "offline", "messages": messages, **others})
        return chat.content(
            chat.answer_search({}, reply(chat.prompt({}, "compact")), False).find().value
        )

    def test_honest(self) -> None:
        """
        The agent says that it cannot converse, as text and in an object.
        """
        text = self.content()
        self.assertTrue(text.startswith("offline agent: "), text)
        self.assertIn("5 characters", text)
        answer = json.loads(self.content(response_format={"type": "json_object"}))
        self.assertEqual(answer, {"error": text})

    def test_odd(self) -> None:
        """
        The agent replies to malformed conversations, too.
        """
        odd: Any
        for odd in ({}, {"messages": 3}, {"messages": [1]}, {"messages": [{"content": 1}]}):
            text = reply(f"Task: chat\nRequest: {json.dumps(odd)}")
            self.assertIn("0 characters", text)
