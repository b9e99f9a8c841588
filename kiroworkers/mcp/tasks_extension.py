"""
Describe jobs as the tasks of MCP's extension ``io.modelcontextprotocol/tasks``.

A client that declares the extension gets a task in place of the result of a tool call, asks
for its state, and may cancel it.  A task is a job: its identifier, its owner and the time for
which its result is kept are those of the job.

The extension is part of the protocol's revision 2026-07-28 (SEP-2663).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from kiroworkers.errors import ErrorCode, FailureCode
from kiroworkers.jobs.job import Job, JobFailure
from kiroworkers.mcp.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    McpError,
    invalid_params,
    missing_capability,
)
from kiroworkers.mcp.jsonrpc import RequestId

#: The name under which clients and the server declare the extension.
EXTENSION = "io.modelcontextprotocol/tasks"

#: The extensions in the capabilities of a server or client that knows it.  It has no settings.
EXTENSIONS: Mapping[str, Mapping[str, Any]] = {EXTENSION: {}}

#: The notifications that a subscription to tasks has begun, and of a task's state.
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
STATUS = "notifications/tasks"

#: The name of the identifier of a subscription in the ``_meta`` of its messages.
_SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"

#: The maximum number of tasks that one subscription follows.
MAX_FOLLOWED = 100

#: The longest time for which clients are advised to wait before they ask again, in seconds.
_MAX_POLL_INTERVAL = 30

#: The failures of jobs that a direct call reports as an error of the protocol.
_PROTOCOL_FAILURES: Mapping[FailureCode, int] = {
    ErrorCode.FAULT: INTERNAL_ERROR,
    # The task was removed from the server after the job was accepted.
    ErrorCode.UNKNOWN_TASK: INVALID_PARAMS,
}

#: What the identifier of a task may consist of.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

#: The states of tasks.  An agent asks its client for nothing, so there is no ``input_required``.
TaskStatus: TypeAlias = Literal["working", "completed", "failed", "cancelled"]


def not_declared() -> McpError:
    """
    Return the error for a client that uses the extension and does not declare it.
    """
    message = f"The client must declare the extension {EXTENSION} in the request's capabilities"
    return missing_capability(message, {"extensions": EXTENSIONS})


def unknown_task() -> McpError:
    """
    Return the error for a task that does not exist, or is another client's.
    """
    message = "Task not found: it never existed, is another client's, or was deleted"
    return McpError(INVALID_PARAMS, message, ErrorCode.UNKNOWN_JOB, {"field": "params.taskId"})


def task_id(params: Mapping[str, Any]) -> str:
    """
    Return the identifier of a task in the parameters of a request.

    Raises:
        McpError: There is none, or one that no task can have.
    """
    match params:
        case {"taskId": str(id)}:
            if _ID.fullmatch(id):
                return id
            raise unknown_task()
    raise invalid_params("params.taskId", "params.taskId must be the identifier of a task")


def check_input_responses(params: Mapping[str, Any]) -> None:
    """
    Check the answers to a task's questions in the parameters of ``tasks/update``.

    Raises:
        McpError: They have the wrong type.
    """
    if not isinstance(params.get("inputResponses"), dict):
        raise invalid_params("params.inputResponses", "params.inputResponses must be an object")


def followed_ids(params: Mapping[str, Any]) -> list[str] | None:
    """
    Return the identifiers of the tasks in the parameters of ``subscriptions/listen``, each once.

    Those that no task can have are left out, and those beyond `MAX_FOLLOWED`.  It is None if the
    subscription is not about tasks.

    Raises:
        McpError: The parameters have the wrong type.
    """
    field = "params.notifications"
    notifications = params.get("notifications")
    if not isinstance(notifications, dict):
        raise invalid_params(field, f"{field} must be an object")
    ids = notifications.get("taskIds")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        field += ".taskIds"
        raise invalid_params(field, f"{field} must be an array of strings")
    return [id for id in dict.fromkeys(ids) if _ID.fullmatch(id)][:MAX_FOLLOWED]


def of_subscription(id: RequestId, fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the `fields` of a message of the subscription that the request `id` has begun.
    """
    return {**fields, "_meta": {_SUBSCRIPTION_ID: id}}


def protocol_error(failure: JobFailure) -> int | None:
    """
    Return the error of JSON-RPC with which a direct call fails in the way of `failure`.

    It is None if a direct call has a result of the tool, with ``isError``.
    """
    return _PROTOCOL_FAILURES.get(failure.code)


def task_status(job: Job) -> TaskStatus:
    """
    Return the status of the task that `job` is.
    """
    match job:
        case Job(state="cancelled"):
            return "cancelled"
        case Job(result=JobFailure() as failure) if protocol_error(failure) is not None:
            return "failed"
        case Job(unfinished=True):
            return "working"
    return "completed"


def task_fields(job: Job, now: float, retention: float) -> dict[str, Any]:
    """
    Return the fields that the task `job` has in every status.

    The server keeps an unfinished task for as long as necessary, and then for `retention`.  So
    the time to live of an unfinished task grows: it is what it would be if the task ended now.

    Args:
        job: The job.
        now: The current time in seconds since the epoch.
        retention: Seconds for which results are kept.
    """
    last = now if job.ended is None else job.ended
    fields = {
        "taskId": job.id,
        "status": task_status(job),
        "createdAt": _timestamp(job.created),
        "lastUpdatedAt": _timestamp(job.created if job.ended is None else job.ended),
        # If the clock was set back, the job seems to come from the future.
        "ttlMs": round(1000 * (max(0.0, last - job.created) + retention)),
    }
    message = _message(job)
    if message is not None:
        fields["statusMessage"] = message
    if job.unfinished:
        fields["pollIntervalMs"] = 1000 * min(job.position or 1, _MAX_POLL_INTERVAL)
    return fields


def _message(job: Job) -> str | None:
    """
    Return a sentence about the state of `job`, or None if its status says all.
    """
    match job:
        case Job(state="queued", position=None):
            return "The task waits for a worker"
        case Job(state="queued", position=position):
            return f"The task waits for a worker, at position {position}"
        case Job(state="running", attempts=attempts) if attempts > 1:
            return f"An agent works on the task, in attempt {attempts}"
        case Job(state="running"):
            return "An agent works on the task"
        case Job(state="cancelled"):
            return "The task was cancelled"
        case Job(result=JobFailure(message=message)):
            return message
    return None


def _timestamp(seconds: float) -> str:
    """
    Return a time in seconds since the epoch in ISO 8601.
    """
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
