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

from kiroworkers.chat import parse_completion
from kiroworkers.clocks import WallClock
from kiroworkers.errors import ErrorCode
from kiroworkers.offload.call import Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.body import json_body
from kiroworkers.web.chat.completions import Completion
from kiroworkers.web.chat.handler import ConversationHandler
from kiroworkers.web.chat.models import ChatModels
from kiroworkers.web.errors import handle_failures, respond
from kiroworkers.web.openapi.responses import CHAT_RESPONSE, json_response
from kiroworkers.web.openapi.schemas import ref
from kiroworkers.web.routing import AGENT_FAILURES, RequestBody, route

#: A request for a chat completion.
_EXAMPLE = {
    "model": "default",
    "messages": [{"role": "user", "content": "What can you do?"}],
}

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
        responses={200: json_response("The models.", ref("Models"))},
    )
    def models(self, request: IRequest, client: str) -> bytes:
        """
        List models.

        Each agent is a model; ``default`` and ``kiroworkers`` are aliases of the default agent.
        The models of an agent that clients may choose are listed as ``AGENT/MODEL``, as far as
        the agent names its models.
        """
        models = [self._model_json(name) for name in self._models.names()]
        return respond(request, 200, {"object": "list", "data": models})

    @route(
        app,
        "GET",
        "/models/<path:name>",
        scope="ask",
        tag="OpenAI",
        parameters=("Model",),
        responses={200: json_response("The model.", ref("Model"))},
        failures=(ErrorCode.MODEL_NOT_FOUND,),
    )
    def model(self, request: IRequest, client: str, name: str) -> bytes:
        """
        Retrieve a model.
        """
        self._models.check(name)
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
