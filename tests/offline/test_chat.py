"""
Tests for `kiroworkers.offline.chat`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import accept
from kiroworkers.offline.__main__ import reply


class ChatTests(SynchronousTestCase):
    """
    Tests for what the offline agent replies to a conversation.
    """

    def content(self, **others: Any) -> str:
        messages = [{"role": "user", "content": "Hello"}]
        chat = accept({"model": "offline", "messages": messages, **others})
        return chat.content(chat.answer({}, reply(chat.prompt({}, "compact")), False).value)

    def test_honest(self) -> None:
        """
        It says what it is, in words and in any object.
        """
        said = self.content()
        self.assertTrue(said.startswith("offline agent: "), said)
        self.assertIn("5 characters", said)
        found = json.loads(self.content(response_format={"type": "json_object"}))
        self.assertEqual(found, {"error": said})

    def test_odd(self) -> None:
        """
        It bears whatever is pasted as a conversation.
        """
        odd: Any
        for odd in ({}, {"messages": 3}, {"messages": [1]}, {"messages": [{"content": 1}]}):
            said = reply(f"Task: chat\nRequest: {json.dumps(odd)}")
            self.assertIn("0 characters", said)
