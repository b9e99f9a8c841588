"""
The routes below ``/v1``, which are compatible with OpenAI's and Anthropic's APIs.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest

from kiroworkers.chat import parse_completion, parse_counted, parse_message, parse_response
from kiroworkers.clocks import WallClock
from kiroworkers.errors import ErrorCode
from kiroworkers.offload.call import Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.body import json_body
from kiroworkers.web.chat.anthropic_version import check_version, names_version
from kiroworkers.web.chat.completions import Completion
from kiroworkers.web.chat.handler import ConversationHandler
from kiroworkers.web.chat.messages import Message, count_json
from kiroworkers.web.chat.model_pages import anthropic_model, model_page
from kiroworkers.web.chat.models import ChatModels
from kiroworkers.web.chat.responses import ResponseWriter
from kiroworkers.web.errors import handle_failures, respond
from kiroworkers.web.headers import set_usage_headers
from kiroworkers.web.openapi.responses import (
    CHAT_RESPONSE,
    MESSAGE_RESPONSE,
    MODEL_RESPONSE,
    json_response,
)
from kiroworkers.web.openapi.schemas import ref
from kiroworkers.web.routing import AGENT_FAILURES, RequestBody, route

#: A request for a chat completion.
_EXAMPLE = {
    "model": "default",
    "messages": [{"role": "user", "content": "What can you do?"}],
}

#: A request for a response.
_RESPONSE_EXAMPLE = {"model": "default", "input": "What can you do?"}

#: A request for a message, and one to count its tokens.
_COUNTED_EXAMPLE = {**_EXAMPLE, "system": "Answer in one sentence."}
_MESSAGE_EXAMPLE = {**_COUNTED_EXAMPLE, "max_tokens": 1024}

#: Failures of a request that continues a conversation.
CHAT_FAILURES = (
    ErrorCode.MODEL_NOT_FOUND,
    ErrorCode.UNKNOWN_MODEL,
    ErrorCode.TAKEN_BACK,
    *AGENT_FAILURES,
)


class ChatRoutes:
    """
    Serve conversations in the formats of several APIs, and the list of models.

    Attributes:
        authorizer: Decides which requests are allowed.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        groups: AgentGroups,
        authorizer: Authorizer,
        wall_clock: WallClock,
        offload: Runner = run_here,
    ) -> None:
        self._wall_clock = wall_clock
        self._models = ChatModels(groups)
        self._handler = ConversationHandler(clock, self._models, offload)
        self.authorizer = authorizer
        self._started_at = int(wall_clock())
        self._numbers = count(1)

    @route(
        app,
        "GET",
        "/models",
        scope="ask",
        tag="OpenAI",
        parameters=("AnthropicClient",),
        responses={200: json_response("The models.", ref("AnyModels"))},
    )
    def models(self, request: IRequest, client: str) -> bytes:
        """
        List models.

        Each agent is a model; ``default`` and ``kiroworkers`` are aliases of the default agent.
        The models of an agent that clients may choose are listed as ``AGENT/MODEL``, as far as
        the agent names its models.  Clients that send ``anthropic-version`` get the list as
        Anthropic's API has it, page by page (``limit``, ``after_id``, ``before_id``).
        """
        if names_version(request):
            check_version(request)
            page = model_page([*self._models.names()], self._started_at, request.args)
            return respond(request, 200, page)
        models = [self._model_json(name) for name in self._models.names()]
        return respond(request, 200, {"object": "list", "data": models})

    @route(
        app,
        "GET",
        "/models/<path:name>",
        scope="ask",
        tag="OpenAI",
        parameters=("Model", "AnthropicClient"),
        responses={200: json_response("The model.", ref("AnyModel"))},
        failures=(ErrorCode.MODEL_NOT_FOUND,),
    )
    def model(self, request: IRequest, client: str, name: str) -> bytes:
        """
        Retrieve a model.

        Clients that send ``anthropic-version`` get it as Anthropic's API has it.
        """
        self._models.check(name)
        if names_version(request):
            check_version(request)
            return respond(request, 200, anthropic_model(name, self._started_at))
        return respond(request, 200, self._model_json(name))

    @route(
        app,
        "POST",
        "/chat/completions",
        scope="ask",
        tag="OpenAI",
        parameters=("Timeout", "Priority", "Prefer"),
        body=RequestBody(ref("Chat"), _EXAMPLE),
        responses={200: CHAT_RESPONSE},
        failures=CHAT_FAILURES,
    )
    async def complete(self, request: IRequest, client: str) -> bytes:
        """
        Create a chat completion.

        The agent answers in a fresh conversation: it knows only what is in ``messages``.
        """
        asked = parse_completion(json_body(request))
        writer = Completion(
            self._new_id("chatcmpl-"),
            int(self._wall_clock()),
            asked.conversation.model,
            asked.includes_usage,
        )
        return await self._handler.respond(
            request, client, asked.conversation, writer, streams=asked.streams
        )

    @route(
        app,
        "POST",
        "/responses",
        scope="ask",
        tag="OpenAI",
        parameters=("Timeout", "Priority", "Prefer"),
        body=RequestBody(ref("ResponseRequest"), _RESPONSE_EXAMPLE),
        responses={200: MODEL_RESPONSE},
        failures=CHAT_FAILURES,
    )
    async def create_response(self, request: IRequest, client: str) -> bytes:
        """
        Create a response.

        The agent answers in a fresh conversation: it knows only what is in ``instructions`` and
        ``input``.  Nothing is stored.
        """
        asked = parse_response(json_body(request))
        writer = ResponseWriter(
            self._new_id("resp_"), self._new_id("msg_"), asked, self._wall_clock
        )
        return await self._handler.respond(
            request, client, asked.conversation, writer, streams=asked.streams
        )

    @route(
        app,
        "POST",
        "/messages",
        scope="ask",
        tag="Anthropic",
        parameters=("AnthropicVersion", "Timeout", "Priority", "Prefer"),
        body=RequestBody(ref("MessageRequest"), _MESSAGE_EXAMPLE),
        responses={200: MESSAGE_RESPONSE},
        failures=CHAT_FAILURES,
    )
    async def create_message(self, request: IRequest, client: str) -> bytes:
        """
        Create a message.

        The agent answers in a fresh conversation: it knows only what is in ``system`` and
        ``messages``.
        """
        check_version(request)
        asked = parse_message(json_body(request))
        conversation = asked.conversation
        writer = Message(self._new_id("msg_"), conversation.model, conversation.tokens)
        return await self._handler.respond(
            request, client, conversation, writer, streams=asked.streams
        )

    @route(
        app,
        "POST",
        "/messages/count_tokens",
        scope="ask",
        tag="Anthropic",
        parameters=("AnthropicVersion",),
        body=RequestBody(ref("CountedRequest"), _COUNTED_EXAMPLE),
        responses={
            200: json_response("The estimate.", ref("TokenCount"), "X-Kiroworkers-Usage"),
        },
        failures=(ErrorCode.MODEL_NOT_FOUND,),
    )
    def count_tokens(self, request: IRequest, client: str) -> bytes:
        """
        Estimate the number of tokens in a conversation.

        No agent is asked.
        """
        check_version(request)
        conversation = parse_counted(json_body(request))
        self._models.check(conversation.model)
        set_usage_headers(request)
        return respond(request, 200, count_json(conversation.tokens))

    def _new_id(self, prefix: str) -> str:
        """
        Return the identifier of a new reply.
        """
        return f"{prefix}{int(self._wall_clock() * 1000):x}-{next(self._numbers)}"

    def _model_json(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._started_at,
            "owned_by": "kiroworkers",
        }


handle_failures(ChatRoutes.app, ChatRoutes._log)
