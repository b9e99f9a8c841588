"""
A model server of OpenAI's protocol on loopback, for agents that are real: it
answers a chat completion as the stand-ins do.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.fakeline import answer_line


class Completions(Resource):
    """
    ``POST /v1/chat/completions``; the last message is the prompt.

    @ivar conversations: the messages of each request so far.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.conversations: list[list[str]] = []
        self._waiting: list[Any] = []

    def render_POST(self, request: Any) -> Any:
        """
        Answer, in one piece or as a stream of events.
        """
        asked = json.load(request.content)
        messages = [each["content"] for each in asked["messages"]]
        self.conversations.append(messages)
        request.setHeader(b"content-type", b"text/event-stream")
        if "[[silent]]" in messages[-1]:
            request.notifyFinish().addErrback(lambda _: None)
            self._waiting.append(request)
            request.write(self._event({"content": "Well"}))
            return NOT_DONE_YET
        said = answer_line(messages[-1])
        if not asked.get("stream"):
            request.setHeader(b"content-type", b"application/json")
            message = {"role": "assistant", "content": said}
            return json.dumps(self._body({"message": message})).encode()
        for start in range(0, len(said), 40):
            request.write(self._event({"content": said[start : start + 40]}))
        request.write(self._event({}, finish="stop"))
        return b"data: [DONE]\n\n"

    def _event(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        body = self._body({"delta": delta, "finish_reason": finish})
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    def _body(self, choice: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "fake-model",
            "choices": [{"index": 0, **choice}],
        }


def model_server(completions: Completions) -> Site:
    """
    What to listen with.
    """
    return Site(completions)
