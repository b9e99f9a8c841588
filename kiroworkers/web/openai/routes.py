"""
The routes below ``/v1``.
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

from kiroworkers.chat import Chat, accept
from kiroworkers.errors import WorkError
from kiroworkers.execution import execute
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
    respond_to_work_error,
)
from kiroworkers.web.headers import answer_headers, set_agent_header, set_headers, set_usage_headers
from kiroworkers.web.openai.completion import Completion, estimated_usage
from kiroworkers.web.openai.errors import openai_error
from kiroworkers.web.openai.stream import ChunkStream
from kiroworkers.web.request_options import request_options

#: Names of whichever agent is the first, where no agent has them.
DEFAULTS = ("default", "kiroworkers")


class OpenAIRoutes:
    """
    Asks an agent of the `groups`; a model is a group's name.
    """

    app = Klein()
    _log = Logger()

    def __init__(self, clock: IReactorTime, groups: AgentGroups, authorizer: Authorizer) -> None:
        self._clock = clock
        self._groups = groups
        self._authorizer = authorizer
        self._began = int(clock.seconds())
        self._numbers = count(1)

    @app.route("/models", methods=["GET"])
    def models(self, request: IRequest) -> bytes:
        """
        Who can be asked.
        """
        self._authorizer.authorize(request, "ask")
        names = dict.fromkeys((*self._groups.names, *DEFAULTS))
        data = [self._described(name) for name in names]
        return respond(request, 200, {"object": "list", "data": data})

    @app.route("/models/<name>", methods=["GET"])
    def model(self, request: IRequest, name: str) -> bytes:
        """
        One of them.
        """
        self._authorizer.authorize(request, "ask")
        self._group_of(name)
        return respond(request, 200, self._described(name))

    @app.route("/chat/completions", methods=["POST"])
    async def complete(self, request: IRequest) -> bytes:
        """
        The reply to a conversation, in a fresh one of the agent's.
        """
        client = self._authorizer.authorize(request, "ask")
        chat = accept(json_body(request))
        group = self._group_of(chat.model)
        set_agent_header(request, group.name)
        set_usage_headers(request)
        options = request_options(request, client, "chat")
        now = self._clock.seconds()
        number = f"chatcmpl-{int(now * 1000):x}-{next(self._numbers)}"
        completion = Completion(number, int(now), chat.model)
        if chat.streams:
            return await self._stream(request, group, chat, options, completion)
        try:
            outcome = await execute(group, chat, {}, options)
        except WorkError as problem:
            return respond_to_work_error(request, problem, group.pool.queue())
        set_headers(request, answer_headers(outcome))
        content = chat.content(outcome.found.value)
        usage = estimated_usage(chat.messages, content)
        return respond(request, 200, completion.whole(content, usage))

    async def _stream(
        self,
        request: IRequest,
        group: AgentGroup,
        chat: Chat,
        options: RequestOptions,
        completion: Completion,
    ) -> bytes:
        # A terminal is only read line by line, and a reply is one line of JSON.
        piecewise = chat.is_read_piecewise and group.agent.dialect.transport == "acp"
        stream = ChunkStream(self._clock, request, completion, piecewise)
        try:
            outcome = await execute(group, chat, {}, options, stream.on_progress)
            content = chat.content(outcome.found.value)
            usage = estimated_usage(chat.messages, content) if chat.tells_usage else None
            if not stream.finish(content, usage):
                stream.fail(_TAKEN_BACK)
        except WorkError as problem:
            if not stream.begun:
                return respond_to_work_error(request, problem, group.pool.queue())
            stream.fail(openai_error(*error_json(problem, group.pool.queue())))
        except CancelledError:
            # The client hung up.
            raise
        except Exception:
            if not stream.begun:
                raise
            log_internal_error(self._log, request, Failure())
            body = {"error": INTERNAL_ERROR.sentence, "code": INTERNAL_ERROR.code}
            stream.fail(openai_error(INTERNAL_ERROR.status, body))
        finally:
            stream.close()
        return b""

    def _group_of(self, model: str) -> AgentGroup:
        for group in self._groups:
            if group.name == model:
                return group
        if model in DEFAULTS:
            return self._groups.default
        names = ", ".join((*self._groups.names, DEFAULTS[0]))
        raise HttpError(
            404, "model_not_found", f"There is no model {model[:100]!r}; there are {names}"
        )

    def _described(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._began,
            "owned_by": "kiroworkers",
        }


#: Why a stream ends whose beginning was no answer's.
_TAKEN_BACK = openai_error(
    502,
    {
        "error": "The agent took back what it had said, and then said something else",
        "code": "taken_back",
    },
)

handle_failures(OpenAIRoutes.app, OpenAIRoutes._log)
