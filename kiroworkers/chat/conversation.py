"""
Represent a conversation, whichever API it came through.

Each API has a module that reads its request bodies into a `Conversation`: `completions` (OpenAI's
chat completions), `responses` (OpenAI's Responses) and `messages` (Anthropic's Messages).  All
that an agent is asked, and what its answer means, is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from kiroworkers.chat.reply_format import JsonFormat, TextFormat, chat_prompt
from kiroworkers.chat.response_schema import SchemaCheck
from kiroworkers.chat.usage import Usage, estimate_tokens
from kiroworkers.images import Image
from kiroworkers.tasks import AnswerSearch
from kiroworkers.tasks.task import AnswerLayout


@frozen
class ChatReply:
    """
    Hold the reply to a conversation.

    Attributes:
        content: The text, or the JSON text of an object.
        stop: The stop string before which the text was cut; None if it is whole.
        usage: The estimated token counts.
    """

    content: str
    stop: str | None
    usage: Usage


@frozen
class Conversation:
    """
    Hold an accepted request for the next message of a conversation.

    It is a `Promptable` whose payload is not used: all that it needs is in its fields.

    Attributes:
        model: Name of the model: an agent's name or an alias, or one of these with a slash and
            the name of a model of the agent.
        messages: The conversation so far.  Each message has a ``role`` (system, developer, user,
            assistant or tool) and, except for tool calls, its ``content`` as one string.
        reply_format: The format of the reply.
        stops: Stop strings; a text reply is cut before the first of them that it contains.
        images: The images in the messages, in their order.  In its message, the text ``[image N]``
            stands for the image with the number N, from 1.
    """

    model: str
    messages: tuple[Mapping[str, Any], ...]
    reply_format: TextFormat | JsonFormat
    stops: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()

    def prompt(self, payload: Mapping[str, Any], layout: AnswerLayout) -> str:
        """
        Return the prompt to send to the agent; see `Promptable.prompt`.
        """
        return chat_prompt(self.reply_format, self.messages, layout, has_images=bool(self.images))

    def answer_search(
        self,
        payload: Mapping[str, Any],
        text: str,
        wrapped: bool,
        styled: tuple[int, ...] = (),
    ) -> AnswerSearch:
        """
        Return the search for the answer in the agent's output; see `Promptable.answer_search`.
        """
        return self.reply_format.answer_search(text, wrapped, styled)

    def answer_schema_for(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return the schema of the agent's answer; see `Promptable.answer_schema_for`.
        """
        return self.reply_format.answer_schema()

    @property
    def schema_check(self) -> SchemaCheck | None:
        """
        Return the check of the client's schema, which must pass before the request is used.

        None if there is no such schema.
        """
        return self.reply_format.check if isinstance(self.reply_format, JsonFormat) else None

    @property
    def can_stream_incrementally(self) -> bool:
        """
        Return whether the reply may be sent before all of it is known.

        This is the case for text without stop strings.  An object is checked as a whole,
        and a stop string may be cut between two pieces.
        """
        return isinstance(self.reply_format, TextFormat) and not self.stops

    def reply(self, answer: Mapping[str, Any]) -> ChatReply:
        """
        Return the reply that `answer`, the value of a parsed answer, holds.
        """
        content = self.reply_format.content(answer)
        stop = None
        if isinstance(self.reply_format, TextFormat):
            end = len(content)
            for text in self.stops:
                # Later ones count only if they begin earlier.
                found = content.find(text, 0, end - 1 + len(text))
                if found >= 0:
                    end, stop = found, text
            content = content[:end]
        return ChatReply(content, stop, Usage(self.tokens, estimate_tokens(content)))

    @property
    def tokens(self) -> int:
        """
        Return the estimated number of tokens in the texts and tool calls of the messages.

        The instructions that the server adds to the prompt are not counted.
        """
        contents = (message.get("content", "") for message in self.messages)
        calls = (call for message in self.messages for call in message.get("tool_calls", ()))
        texts = (*contents, *(call[name] for call in calls for name in ("name", "arguments")))
        return sum(map(estimate_tokens, texts))
