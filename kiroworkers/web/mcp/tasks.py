"""
Serve MCP's extension for tasks: calls of tools whose results their clients fetch later.

A task is a job.  So it survives a restart of the server, and clients of REST see it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.clocks import WallClock
from kiroworkers.errors import ErrorCode
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure
from kiroworkers.jobs.service import JobService
from kiroworkers.mcp.results import tool_error, tool_result
from kiroworkers.mcp.server_info import complete
from kiroworkers.mcp.tasks_extension import (
    ACKNOWLEDGED,
    EXTENSION,
    EXTENSIONS,
    STATUS,
    check_input_responses,
    followed_ids,
    not_declared,
    of_subscription,
    protocol_error,
    task_fields,
    task_id,
    unknown_task,
)
from kiroworkers.web.errors import HttpError, error_json, with_request_id
from kiroworkers.web.headers import decimal
from kiroworkers.web.jobs import JobRoutes
from kiroworkers.web.mcp.call import Call, Method
from kiroworkers.web.mcp.task_subscription import TaskSubscription
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.task_requests import TaskRequest


class TasksExtension:
    """
    Make jobs of calls of tools, and handle the methods of the extension.

    A client sees its own tasks, and an operator sees all.

    Attributes:
        identifier: The name of the extension.
        settings: Its settings in the capabilities of the server.
        methods: The handlers of its methods.

    Args:
        wall_clock: Returns the time in seconds since the epoch.
        job_service: Stores and runs the jobs.
        jobs: Creates and finds them.
    """

    def __init__(self, wall_clock: WallClock, job_service: JobService, jobs: JobRoutes) -> None:
        self._wall_clock = wall_clock
        self._job_service = job_service
        self._jobs = jobs
        self.identifier = EXTENSION
        self.settings = EXTENSIONS[EXTENSION]
        self.methods: Mapping[str, Method] = {
            "tasks/get": self._get,
            "tasks/update": self._update,
            "tasks/cancel": self._cancel,
            "subscriptions/listen": self._listen,
        }

    async def make_task(self, call: Call, accepted: TaskRequest) -> Mapping[str, Any]:
        """
        Make a job of an `accepted` call of a tool, and return it as a task.

        Raises:
            WorkError: It cannot become a job, as `JobRoutes.accept` says.
        """
        job = await self._jobs.accept(
            call.request, accepted.group.name, accepted.payload, accepted.options
        )
        return {"resultType": "task", **self._fields(job)}

    async def _get(self, call: Call) -> Mapping[str, Any]:
        """
        Return the state of a task, with its result if it has ended.
        """
        return self._detailed(await self._find(call))

    async def _update(self, call: Call) -> Mapping[str, Any]:
        """
        Ignore answers to the questions of a task, because it has none.
        """
        await self._find(call)
        check_input_responses(call.params)
        return {}

    async def _cancel(self, call: Call) -> Mapping[str, Any]:
        """
        Cancel a task if it is unfinished.
        """
        job = await self._find(call)
        if job.unfinished:
            await self._job_service.runner.cancel(job)
        return {}

    async def _listen(self, call: Call) -> Mapping[str, Any]:
        """
        Send the state of tasks whenever it changes, until all of them have ended.
        """
        wanted = followed_ids(call.params)
        if wanted is not None:
            _check_declared(call)
        stream = call.stream
        if stream is None:
            raise HttpError(
                ErrorCode.NOT_ACCEPTABLE, "Accept text/event-stream to listen to notifications"
            )
        ids = [id for id in wanted or () if await self._is_visible(call, id)]
        subscription = call.message.id
        notifications = {} if wanted is None else {"taskIds": ids}
        stream.notify(ACKNOWLEDGED, of_subscription(subscription, {"notifications": notifications}))

        def send(job: Job) -> None:
            stream.notify(STATUS, of_subscription(subscription, self._detailed(job)))

        service = self._job_service
        await TaskSubscription(service.store, service.events, send, stream.drained).run(ids)
        return of_subscription(subscription, {})

    async def _find(self, call: Call) -> Job:
        """
        Return the job of the task that `call` names.

        Raises:
            McpError: The client has not declared the extension, or there is no such task.
        """
        _check_declared(call)
        job = await self._find_job(call, task_id(call.params))
        if job is None:
            raise unknown_task()
        record_of(call.request).job = job.id
        return job

    async def _is_visible(self, call: Call, id: str) -> bool:
        return await self._find_job(call, id) is not None

    async def _find_job(self, call: Call, id: str) -> Job | None:
        """
        Return the job `id` if the client may see it.
        """
        try:
            return await self._jobs.find(call.request, call.client, id)
        except HttpError as error:
            assert error.code is ErrorCode.UNKNOWN_JOB, "it has no other"
            return None

    def _fields(self, job: Job) -> dict[str, Any]:
        return task_fields(job, self._wall_clock(), self._job_service.job_ttl)

    def _detailed(self, job: Job) -> dict[str, Any]:
        """
        Return `job` as a task, with its result or error if it has ended.
        """
        return {**self._fields(job), **_outcome(job)}


def _check_declared(call: Call) -> None:
    if not call.has_extension(EXTENSION):
        raise not_declared()


def _outcome(job: Job) -> dict[str, Any]:
    """
    Return what a direct call would have got: ``result`` or ``error``; nothing if there is none.
    """
    match job.result:
        case JobAnswer() as answer:
            return {"result": complete(tool_result(answer.value, _facts(job, answer)))}
        case JobFailure() as failure:
            _, error = error_json(failure)
            body = with_request_id(error, job.request_id)
            code = protocol_error(failure)
            if code is None:
                return {"result": complete(tool_error(body))}
            data = {name: value for name, value in body.items() if name != "error"}
            return {"error": {"code": code, "message": body["error"], "data": data}}
    return {}


def _facts(job: Job, answer: JobAnswer) -> dict[str, str]:
    """
    Return how an answer came about, as the headers of REST say it of a direct answer.

    Facts that were not stored with the answer are left out.
    """
    facts = {
        "Agent": job.agent,
        "Worker": answer.worker,
        "Attempts": None if answer.attempts is None else str(answer.attempts),
        "Repairs": str(answer.repairs) if answer.repairs else None,
        "Model": job.model or None,
        "Credits": None if answer.credits is None else decimal(answer.credits),
        "Context": None if answer.context_percent is None else decimal(answer.context_percent),
    }
    return {name: value for name, value in facts.items() if value is not None}
