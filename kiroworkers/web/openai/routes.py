"""
The routes below ``/v1``, which are compatible with OpenAI's API.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from kiroworkers.chat import ChatRequest, parse_request
from kiroworkers.clocks import WallClock
from kiroworkers.errors import ErrorCode, UnknownModel, WorkError
from kiroworkers.execution import execute, within_deadline
from kiroworkers.offload.call import Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.body import json_body
from kiroworkers.web.errors import (
    INTERNAL_ERROR,
    HttpError,
    error_json,
    handle_failures,
    log_internal_error,
    respond,
    respond_to_error,
)
from kiroworkers.web.headers import answer_headers, set_agent_header, set_headers, set_usage_headers
from kiroworkers.web.openai.completion import Completion, estimate_usage
from kiroworkers.web.openai.errors import openai_error
from kiroworkers.web.openai.stream import ChunkStream
from kiroworkers.web.openapi.responses import CHAT_RESPONSE, json_response
from kiroworkers.web.openapi.schemas import ref
from kiroworkers.web.request_options import (
    check_model,
    may_choose,
    model_names,
    request_options,
)
from kiroworkers.web.routing import AGENT_FAILURES, RequestBody, route

#: Models that stand for the default agent, unless an agent has that name.
DEFAULT_MODELS = ("default", "kiroworkers")

#: Longest name of an unknown model that an error quotes, in characters.
_MAX_QUOTED_NAME = 100

#: A request for a chat completion.
_EXAMPLE = {
    "model": "default",
    "messages": [{"role": "user", "content": "What can you do?"}],
}

#: The error of a stream whose text was sent and is not the beginning of the valid answer.
_RETRACTED = openai_error(
    *error_json(
        HttpError(
            ErrorCode.TAKEN_BACK,
            "The agent was asked again and gave a different answer after part of the first one "
            "had been sent",
        )
    )
)


class OpenAIRoutes:
    """
    Serve chat completions and the list of models.

    Each agent is a model with the agent's name, and ``AGENT/MODEL`` is a model of the agent.

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
        self._clock = clock
        self._wall_clock = wall_clock
        self._offload = offload
        self._groups = groups
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
        names = dict.fromkeys((*self._groups.names, *DEFAULT_MODELS))
        models = [self._model_json(name) for name in (*names, *model_names(self._groups))]
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
        group, model = self._resolve(name)
        if model and not may_choose(group, model):
            reason = UnknownModel("model", model, group.name)
            raise HttpError(ErrorCode.MODEL_NOT_FOUND, str(reason))
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
        failures=(
            ErrorCode.MODEL_NOT_FOUND,
            ErrorCode.UNKNOWN_MODEL,
            ErrorCode.TAKEN_BACK,
            *AGENT_FAILURES,
        ),
    )
    async def complete(self, request: IRequest, client: str) -> bytes:
        """
        Create a chat completion.

        The agent answers in a fresh conversation: it knows only what is in ``messages``.
        """
        chat = parse_request(json_body(request))
        group, model = self._resolve(chat.model)
        if model:
            check_model(group, model, "model")
        options = request_options(request, client, "chat", model=model)
        if chat.schema_check is not None:
            check = self._offload(chat.schema_check, client, refusable=True)
            _, options = await within_deadline(check, options, self._clock)
        set_agent_header(request, group.name)
        set_usage_headers(request)
        now = self._wall_clock()
        identifier = f"chatcmpl-{int(now * 1000):x}-{next(self._numbers)}"
        completion = Completion(identifier, int(now), chat.model)
        if chat.streams:
            return await self._stream(request, group, chat, options, completion)
        try:
            result = await execute(group, chat, {}, options, offload=self._offload)
        except WorkError as error:
            return respond_to_error(request, error, group.dispatcher.queue())
        set_headers(request, answer_headers(result, model))
        content = chat.content(result.answer.value)
        usage = estimate_usage(chat.messages, content)
        return respond(request, 200, completion.whole(content, usage))

    async def _stream(
        self,
        request: IRequest,
        group: AgentGroup,
        chat: ChatRequest,
        options: RequestOptions,
        completion: Completion,
    ) -> bytes:
        # A terminal is read line by line, and a reply is one line of JSON.
        incremental = chat.can_stream_incrementally and group.agent.dialect.transport == "acp"
        stream = ChunkStream(self._clock, request, completion, incremental)
        try:
            result = await execute(group, chat, {}, options, stream.on_progress, self._offload)
            content = chat.content(result.answer.value)
            usage = estimate_usage(chat.messages, content) if chat.includes_usage else None
            if not await stream.finish(content, usage):
                await stream.fail(_RETRACTED)
        except WorkError as error:
            if not stream.started:
                return respond_to_error(request, error, group.dispatcher.queue())
            await stream.fail(openai_error(*error_json(error, group.dispatcher.queue())))
        except CancelledError:
            # The client closed the connection.
            raise
        except Exception:
            if not stream.started:
                raise
            log_internal_error(self._log, request, Failure())
            await stream.fail(openai_error(*error_json(INTERNAL_ERROR)))
        finally:
            stream.close()
        return b""

    def _resolve(self, model: str) -> tuple[AgentGroup, str]:
        """
        Return the group of the agent that `model` names, and the name of the agent's own model.

        The name of the own model is empty if `model` only names the agent.  It is not checked.

        Raises:
            HttpError: If there is no such agent.
        """
        group = self._find_group(model)
        if group is not None:
            return group, ""
        agent, _, own_model = model.partition("/")
        group = self._find_group(agent)
        if group is not None and own_model:
            return group, own_model
        names = ", ".join((*self._groups.names, DEFAULT_MODELS[0]))
        raise HttpError(
            ErrorCode.MODEL_NOT_FOUND,
            f"Unknown model {model[:_MAX_QUOTED_NAME]!r}; the models are {names}",
        )

    def _find_group(self, agent: str) -> AgentGroup | None:
        for group in self._groups:
            if group.name == agent:
                return group
        return self._groups.default if agent in DEFAULT_MODELS else None

    def _model_json(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._started_at,
            "owned_by": "kiroworkers",
        }


handle_failures(OpenAIRoutes.app, OpenAIRoutes._log)
