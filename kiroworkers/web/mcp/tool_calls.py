"""
List the tasks as tools, and run the calls of tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.errors import WorkError
from kiroworkers.mcp import progress
from kiroworkers.mcp.progress import ProgressNotes
from kiroworkers.mcp.results import tool_error, tool_result
from kiroworkers.mcp.server_info import cacheable
from kiroworkers.mcp.tools import ToolList, called_tool, check_cursor, unknown_tool
from kiroworkers.pool.progress import OnProgress, Progress
from kiroworkers.tasks import Task
from kiroworkers.web.errors import error_json, with_request_id
from kiroworkers.web.mcp.call import Call
from kiroworkers.web.mcp.tasks import TasksExtension
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.task_requests import TaskRequests


class ToolCalls:
    """
    Handle ``tools/list`` and ``tools/call``.

    Args:
        tasks: The tasks by their names.  They may change while the server runs.
        requests: Accepts and runs the calls.
        extension: Makes jobs of the calls of clients that can wait for a job.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        requests: TaskRequests,
        extension: TasksExtension,
    ) -> None:
        self._tasks = tasks
        self._requests = requests
        self._extension = extension
        self._tools = ToolList()

    async def list_all(self, call: Call) -> Mapping[str, Any]:
        """
        Return all tools.
        """
        check_cursor(call.message)
        result = {"tools": self._tools.of(self._tasks.values())}
        return cacheable(result) if call.is_stateless else result

    async def run(self, call: Call) -> Mapping[str, Any]:
        """
        Return the answer of a task, or why there is none.

        A client that can wait for a job gets one.

        Raises:
            McpError: There is no such tool, or a parameter has the wrong type.
        """
        name, arguments = called_tool(call.message)
        task = self._tasks.get(name)
        if task is None:
            raise unknown_tool(name)
        is_job = call.has_extension(self._extension.identifier)
        try:
            accepted = await self._requests.accept(
                call.request, call.client, task, arguments, is_job=is_job
            )
            if is_job:
                return await self._extension.make_task(call, accepted)
            response = await self._requests.run(call.request, accepted, _on_progress(call))
        except WorkError as error:
            _, body = error_json(error)
            return _failed(call, body)
        if response.status != 200:
            return _failed(call, response.body)
        agent = {"Agent": accepted.group.name}
        return tool_result(response.body, {**agent, **response.headers, **accepted.ignored})


def _failed(call: Call, body: Mapping[str, Any]) -> Mapping[str, Any]:
    record = record_of(call.request)
    record.fail(body["code"], body["error"])
    return tool_error(with_request_id(body, record.id))


def _on_progress(call: Call) -> OnProgress | None:
    """
    Return what sends the progress of `call` to its client, if that has asked for it.
    """
    stream = call.stream
    if stream is None or call.progress_token is None:
        return None
    notes = ProgressNotes(call.progress_token)

    def on_progress(change: Progress) -> None:
        for params in notes.of(change):
            stream.notify(progress.METHOD, params)

    return on_progress
