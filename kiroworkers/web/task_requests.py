"""
Accept and run requests for tasks, whichever protocol they come through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.errors import Evidence, InvalidInput, UnknownModel, UnusableAnswer, WorkError
from kiroworkers.execution import accept, execute
from kiroworkers.jobs.stored_response import StoredResponse
from kiroworkers.offload.call import Runner
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.progress import OnProgress
from kiroworkers.tasks import Task
from kiroworkers.web.errors import error_json
from kiroworkers.web.headers import answer_headers, ignored_header, set_agent_header, set_headers
from kiroworkers.web.jobs import JobRoutes
from kiroworkers.web.request_options import (
    check_model,
    request_options,
    requested_agent,
    requested_model,
)


@frozen
class TaskRequest:
    """
    Hold an accepted request for a task.

    Attributes:
        task: The task.
        group: The agent that is to answer.
        payload: The input, as the task accepted it.
        options: The options, as the client has sent them; those of a job.
        remaining: The options for an execution that begins now: without the time that has passed.
        ignored: The header that names the fields which the task does not know, as `headers` has it.
    """

    task: Task
    group: AgentGroup
    payload: Mapping[str, Any]
    options: RequestOptions
    remaining: RequestOptions
    ignored: Mapping[str, str]


class TaskRequests:
    """
    Accept and run requests for tasks.

    Args:
        clock: Measures how long an input is checked.
        groups: The agents.
        jobs: Runs requests once per idempotency key.
        offload: Runs checks that may take long.
        strict_input: Whether requests are refused that have fields which the task does not know.
    """

    def __init__(
        self,
        clock: IReactorTime,
        groups: AgentGroups,
        jobs: JobRoutes,
        offload: Runner,
        strict_input: bool,
    ) -> None:
        self._clock = clock
        self._groups = groups
        self._jobs = jobs
        self._offload = offload
        self._strict_input = strict_input

    async def accept(
        self, request: IRequest, client: str, task: Task, body: Any, *, is_job: bool = False
    ) -> TaskRequest:
        """
        Return the request for `task` with the input `body`, which is parsed JSON.

        The response gets headers that name the agent and the fields which the task does not know.

        Args:
            request: The HTTP request, whose headers have the options.
            client: The client that sent it.
            task: The task.
            body: The input.
            is_job: Whether it becomes a job although the client does not send ``respond-async``.

        Raises:
            InvalidInput: A header is invalid, or the input does not fit the schema; names it.
            UnknownModel: The agent does not offer the model, or clients may not choose it.
            WorkError: The input cannot be checked in time.
        """
        group = self._group_for(request, task)
        set_agent_header(request, group.name)
        model = self._model_for(request, task, group)
        options = request_options(
            request, client, task.name, task.limits.timeout, model, is_job=is_job
        )
        unknown = task.unknown_fields(body)
        if unknown and self._strict_input:
            raise InvalidInput(unknown[0].path, unknown[0].sentence)
        ignored = ignored_header(unknown)
        set_headers(request, ignored)
        # The body is not kept: the payload is a copy of it.
        payload, remaining = await accept(task, body, options, self._offload, self._clock)
        return TaskRequest(task, group, payload, options, remaining, ignored)

    async def run(
        self,
        request: IRequest,
        accepted: TaskRequest,
        on_progress: OnProgress | None = None,
        *,
        raw: bool = False,
    ) -> StoredResponse:
        """
        Run an `accepted` request, and return the answer, or the error that prevented it.

        Requests with the same idempotency key are run once.

        Args:
            request: The HTTP request.
            accepted: The request for a task.
            on_progress: Called with each step.
            raw: Whether the body also has the agent's own text.

        Raises:
            WorkError: A header is invalid, or the idempotency key does not allow it.
        """

        async def execute(on_progress: OnProgress | None) -> StoredResponse:
            return await self._execute(accepted, on_progress, raw)

        return await self._jobs.run_once(
            request, accepted.payload, accepted.remaining, execute, on_progress
        )

    async def _execute(
        self, accepted: TaskRequest, on_progress: OnProgress | None, raw: bool
    ) -> StoredResponse:
        group, options = accepted.group, accepted.remaining
        try:
            result = await execute(
                group, accepted.task, accepted.payload, options, on_progress, self._offload
            )
        except WorkError as error:
            prompted = options.record.prompted
            status, body = error_json(error, group.dispatcher.queue(), prompted=prompted)
            match error:
                case UnusableAnswer(evidence=Evidence(text=text)) if raw:
                    body["text"] = text
            return StoredResponse(status, body, cacheable=error.code.cacheable)
        answer = result.answer.value
        body = {"answer": answer, "text": result.reply.text} if raw else answer
        return StoredResponse(200, body, answer_headers(result, options.model), cacheable=True)

    def _group_for(self, request: IRequest, task: Task) -> AgentGroup:
        name = requested_agent(request)
        return self._own_group(task) if name is None else self._groups.find(name, "X-Agent")

    def _own_group(self, task: Task) -> AgentGroup:
        return self._groups.default if task.agent is None else self._groups.find(task.agent)

    def _model_for(self, request: IRequest, task: Task, group: AgentGroup) -> str:
        """
        Return the model that is to answer, of the agent of `group`; empty for the agent's own.

        Raises:
            UnknownModel: If the agent does not offer the model, or clients may not choose it.
        """
        name = requested_model(request)
        if name is not None:
            check_model(group, name, "X-Model")
            return name
        if task.model is None or group is not self._own_group(task):
            return ""
        if not group.offers_model(task.model):
            raise UnknownModel("model", task.model, group.name)
        return task.model
