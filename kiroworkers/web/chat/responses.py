"""
Make the JSON of responses in the format of OpenAI's Responses API, and their events.

Agents do not report token counts, so these are estimated; the header ``X-Kiroworkers-Usage``
says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, field

from kiroworkers.chat import ChatReply, ResponseRequest, Usage
from kiroworkers.clocks import WallClock
from kiroworkers.web.chat.errors import openai_error
from kiroworkers.web.events import json_event

#: Where the only part of the only message is in a response.
_PLACE = {"output_index": 0, "content_index": 0}


@define
class ResponseWriter:
    """
    Make the JSON of one response, whole or as events; this is a `ReplyWriter`.

    Each event has a number, so events must be made in the order in which they are sent.

    Attributes:
        id: Identifier of the response.
        message_id: Identifier of the message in the response.
        asked: The request for the response.
        wall_clock: Tells when the response was created and completed.
    """

    id: str
    message_id: str
    asked: ResponseRequest
    _wall_clock: WallClock
    _created: int = field(init=False)
    _events: int = field(default=0, init=False)

    @_created.default
    def _now(self) -> int:
        return int(self._wall_clock())

    def whole(self, reply: ChatReply) -> dict[str, Any]:
        """
        Return the whole response.
        """
        return self._response(
            "completed",
            output=[self._message("completed", [_part(reply.content)])],
            usage=_usage_json(reply.usage),
            completed_at=self._now(),
        )

    def opening(self) -> Iterator[bytes]:
        """
        Yield the events that begin the response, its only message and the part of that.
        """
        yield from self._begin()
        item = self._message("in_progress", [])
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._part_event("response.content_part.added", part=_part(""))

    def text(self, text: str) -> bytes:
        """
        Return the event that adds `text` to the part.
        """
        return self._part_event("response.output_text.delta", delta=text, logprobs=[])

    def closing(self, reply: ChatReply) -> Iterator[bytes]:
        """
        Yield the events that end the stream of `reply`, whose text was sent.
        """
        part = _part(reply.content)
        yield self._part_event("response.output_text.done", text=reply.content, logprobs=[])
        yield self._part_event("response.content_part.done", part=part)
        item = self._message("completed", [part])
        yield self._event("response.output_item.done", output_index=0, item=item)
        yield self._event("response.completed", response=self.whole(reply))

    def error(self, status: int, body: Mapping[str, Any]) -> bytes:
        """
        Return the events that end the stream of a request that failed.

        OpenAI documents the members of the event ``error`` at its top, but sends them in its
        member ``error``, without which its clients raise nothing.  A failed response has one of
        OpenAI's own codes; its ``type`` is that of this server.

        Args:
            status: HTTP status of the failure.
            body: The error, as in `openai_error`.
        """
        # The stream may have begun with a comment.
        begin = [] if self._events else [*self._begin()]
        error = openai_error(status, body)["error"]
        shown = {name: error[name] for name in ("message", "param")}
        code = "rate_limit_exceeded" if status == 429 else "server_error"
        failed = self._response("failed", error={"code": code, **shown, "type": error["code"]})
        return b"".join(
            (
                *begin,
                self._event("error", code=error["code"], **shown, error=error),
                self._event("response.failed", response=failed),
            )
        )

    def _begin(self) -> Iterator[bytes]:
        """
        Yield the events that begin the response.
        """
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, response=self._response("in_progress"))

    def _part_event(self, kind: str, **members: Any) -> bytes:
        return self._event(kind, item_id=self.message_id, **_PLACE, **members)

    def _event(self, kind: str, **members: Any) -> bytes:
        """
        Return the next event, whose name is also in its data.
        """
        number, self._events = self._events, self._events + 1
        return json_event({"type": kind, "sequence_number": number, **members}, kind)

    def _message(self, status: str, content: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.message_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _response(
        self,
        status: str,
        *,
        output: list[Mapping[str, Any]] | None = None,
        usage: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        completed_at: int | None = None,
    ) -> dict[str, Any]:
        """
        Return the response as it is at `status`.

        Settings that are ignored have the values that say so.
        """
        asked = self.asked
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "completed_at": completed_at,
            "status": status,
            "error": error,
            "incomplete_details": None,
            "model": asked.conversation.model,
            "instructions": asked.instructions,
            "output": output or [],
            "usage": usage,
            "metadata": asked.metadata,
            "text": {"format": asked.text_format},
            "tools": [],
            "tool_choice": asked.tool_choice,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "background": False,
            "truncation": "disabled",
            "reasoning": {"effort": None, "summary": None},
            "max_output_tokens": None,
            "max_tool_calls": None,
            "temperature": None,
            "top_p": None,
            "top_logprobs": 0,
            "service_tier": None,
            "user": None,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage_json(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total,
    }
