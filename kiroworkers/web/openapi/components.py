"""
Define the shared parts of the OpenAPI document: its groups, headers and parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kiroworkers.jobs.job_events import EVENT_ID_PATTERN
from kiroworkers.mcp.revisions import SUPPORTED
from kiroworkers.pool.fair_queue import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY
from kiroworkers.telemetry.request_history import OUTCOMES
from kiroworkers.web.chat.anthropic_version import VERSIONS
from kiroworkers.web.headers import ANSWER_HEADERS
from kiroworkers.web.history import MAX_BEFORE
from kiroworkers.web.jobs import KEY_PATTERN
from kiroworkers.web.openapi.schemas import COUNT, STRING, Schema
from kiroworkers.web.request_ids import REQUEST_ID_PATTERN
from kiroworkers.web.request_options import DEFAULT_LIMIT, MAX_LIMIT

#: Groups of operations, in the order in which the API page shows them.
TAGS: Mapping[str, str] = {
    "Tasks": "Send a request to a task and get an answer that fits the task's schema.",
    "Jobs": "Manage asynchronous requests, whose results are fetched later.",
    "OpenAI": "Use clients of OpenAI's API. Each call is one turn in a fresh conversation.",
    "Anthropic": "Use clients of Anthropic's API. Each call is one turn in a fresh conversation.",
    "MCP": "Call tasks as tools of the Model Context Protocol.",
    "Monitoring": "Check the health and the readiness of the server, and follow requests.",
    "Recordings": "Read what sessions showed and what was typed into them.",
    "Operator": "Manage pools and workers while the server runs.",
    "Page": "Sign in to the page at `/`, and feed it.",
    "Documentation": "Read this documentation.",
}

_ANSWER_HEADER_DESCRIPTIONS = {
    "Agent": "Name of the agent that answered.",
    "Worker": "Name of the worker that answered.",
    "Attempts": "Number of attempts: 2 if the first worker failed or gave no valid answer.",
    "Repairs": "Number of times the agent was told, in the same conversation, to correct an answer "
    "that did not fit. Absent if 0.",
    "Completion": "How the server knew that the answer was complete. `prompt`: the agent's line "
    "editor reads again, which is exact to the byte. `response`: the agent's protocol says so, "
    "which is as exact. `idle-sign`: the agent shows that it is idle, and draws nothing more. "
    "`quiet`: the output looks like a prompt and then stops; only for programs without a dialect "
    "of their own.",
    "Sample": "`1` if the agent says that its answer is only a sample, as the offline agent does "
    "for tasks that it has no rules for. Absent otherwise.",
    "Source": "Where the server read the answer: `terminal`, `protocol`, or the agent's own "
    "`journal`.",
    "Rejoined": "`1` if the terminal had cut lines of the answer, and only one way to join them "
    "fits the schema. Absent otherwise.",
    "Normalised": "Fields whose values were converted, because they had one possible meaning: "
    "another letter case, a number in a string, or a string in place of a list of strings. They "
    "are percent-encoded and separated by commas, at most 20. Absent if there are none.",
    "Tools-Denied": "Number of tool uses that were denied. Absent if 0.",
    "Tools-Allowed": "Number of tool uses that were allowed. Absent if 0.",
    "Tools-Unasked": "Number of tools that the agent used without asking. Absent if 0.",
    "Model": "The model that the request or its task chose. Absent if neither did.",
    "Credits": "Credits that the request used, as the agent reported them. Absent if it did not.",
    "Context": "Share of the model's context that the conversation filled after the answer, in "
    "percent, as the agent reported it. Absent if it did not.",
    "Usage": "Always `estimated`: the token counts are estimates.",
}

#: Header components by name.
HEADERS: Mapping[str, Any] = {
    **{
        name.decode(): {
            "description": _ANSWER_HEADER_DESCRIPTIONS[
                name.decode().removeprefix("X-Kiroworkers-")
            ],
            "schema": STRING,
        }
        for name in ANSWER_HEADERS
    },
    "Idempotency-Replayed": {
        "description": "`true` if the response repeats that of an earlier request with the same "
        "`Idempotency-Key`. Absent otherwise.",
        "schema": {"const": "true"},
    },
    "X-Kiroworkers-Ignored": {
        "description": "Fields of the input that the task does not know, percent-encoded and "
        "separated by commas; at most 20. They are not checked. Absent if there are none.",
        "schema": STRING,
    },
    "Location": {"description": "Path of the job.", "schema": STRING},
    "Preference-Applied": {
        "description": "The part of the request's `Prefer` header that was honoured.",
        "schema": STRING,
    },
    "Set-Cookie": {
        "description": "The cookie `kiroworkers_session`, which only browsers need.",
        "schema": STRING,
    },
    "Mcp-Session-Id": {
        "description": "Identifier of the new session, if the request was `initialize`.",
        "schema": STRING,
    },
    "Retry-After": {
        "description": "Seconds to wait before the next request.",
        "schema": COUNT,
    },
    "X-Request-ID": {
        "description": "Identifier of the request: the client's own `X-Request-ID` (1 to 128 "
        "letters, digits, dots, underscores and hyphens), else the trace of its `traceparent`, "
        "else a new one. The log and the request history name it.",
        "schema": {"type": "string", "pattern": f"^{REQUEST_ID_PATTERN}$"},
    },
}

#: An identifier of a request, for examples.
EXAMPLE_REQUEST_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def header_references(names: Iterable[str]) -> dict[str, Any]:
    """
    Return references to the header components `names`, and to the one of every response.
    """
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-ID")}


def _header(name: str, description: str, schema: Schema, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": schema, **more}


def _query(name: str, description: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _path(name: str, description: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": STRING,
        **more,
    }


_ANTHROPIC_VERSION = {"type": "string", "enum": [*VERSIONS]}

_EVENT_ID = {"type": "string", "pattern": f"^{EVENT_ID_PATTERN}$"}

#: Parameter components by name.  `build_document` adds to ``Agent`` and ``AgentQuery``
#: the names of the server's agents.
PARAMETERS: Mapping[str, dict[str, Any]] = {
    "Agent": _header(
        "X-Agent", "Agent that answers. By default the task's agent, or the first.", STRING
    ),
    "AgentModel": _header(
        "X-Model",
        "Model of the agent that answers, among those that clients may choose (`--models`). By "
        "default the task's model, or the agent's own.",
        STRING,
    ),
    "Timeout": _header(
        "X-Request-Timeout",
        "Maximum time for the request in seconds, including its time in the queue. It can only "
        "shorten the server's own limit.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "Priority": _header(
        "X-Priority",
        f"Priority from {MIN_PRIORITY} to {MAX_PRIORITY}; {MAX_PRIORITY} is the most urgent. "
        f"The default is {DEFAULT_PRIORITY}.",
        {"type": "integer", "minimum": MIN_PRIORITY, "maximum": MAX_PRIORITY},
    ),
    "Prefer": _header(
        "Prefer",
        "`respond-async` to get a job at once instead of waiting for the answer (tasks only), or "
        "`wait=N` to wait at most N seconds for it. See RFC 7240.",
        # Swagger UI would send an example of the parameter itself unless the reader deletes it.
        {**STRING, "examples": ["respond-async", "wait=30"]},
    ),
    "IdempotencyKey": _header(
        "Idempotency-Key",
        "Unique value chosen by the client. Requests with the same key and the same body run once "
        "and get the same response.",
        {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
    ),
    "Callback": _header(
        "X-Callback",
        "URL to which the server sends the job when it has ended, signed with HMAC-SHA256. "
        "Requires `Prefer: respond-async`.",
        {"type": "string", "format": "uri"},
    ),
    "Raw": _query(
        "raw",
        "1 to get the agent's own words as plain text instead of the JSON answer. For operators "
        "only. Ignored for jobs.",
        {"type": "string", "enum": ["0", "1"]},
    ),
    "AgentQuery": _query("agent", "Name of an agent, to restrict the request to it.", STRING),
    "WorkerQuery": {**_query("worker", "Name of a worker.", STRING), "required": True},
    "McpVersion": _header(
        "MCP-Protocol-Version",
        "Revision of MCP. With 2026-07-28, the server compares it with the body.",
        {"type": "string", "enum": [*SUPPORTED]},
    ),
    "McpMethod": _header(
        "Mcp-Method", "The `method` of the body. Required with revision 2026-07-28.", STRING
    ),
    "McpName": _header(
        "Mcp-Name",
        "The `params.name` of `tools/call`, or the `params.taskId` of a method of tasks. Required "
        "with revision 2026-07-28.",
        STRING,
    ),
    "McpSession": _header(
        "Mcp-Session-Id",
        "Identifier of the session that `initialize` has begun. Required with older revisions than "
        "2026-07-28.",
        STRING,
    ),
    "EndedMcpSession": _header(
        "Mcp-Session-Id", "Identifier of the session to end.", STRING, required=True
    ),
    "Limit": _query(
        "limit",
        "Maximum number of entries on the page.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    "Before": _query(
        "before", "Identifier of a job. The page starts with the next older one.", STRING
    ),
    "Id": _path("id", "Identifier of the job."),
    "LastEventId": _header(
        "Last-Event-ID",
        "The `id` of the last event that the client has seen. The stream continues after it.",
        _EVENT_ID,
    ),
    "After": _query("after", "The same as the header `Last-Event-ID`, which prevails.", _EVENT_ID),
    "RequestId": _path("id", "Identifier of the request: its `X-Request-ID`."),
    "BeforeRequest": _query(
        "before",
        "Number from the path in `next` or `older`. Only older requests are considered.",
        {**COUNT, "maximum": MAX_BEFORE},
    ),
    "LastWorkerQuery": _query("worker", "Only requests that this worker was asked last.", STRING),
    "TaskQuery": _query("task", "Only requests to this task, or `chat`.", STRING),
    "OutcomeQuery": _query(
        "outcome", "Only requests that ended in this way.", {"type": "string", "enum": [*OUTCOMES]}
    ),
    "ApprovalId": _path("id", "Identifier of the approval."),
    "Worker": _path("name", "Name of the worker.", example="worker1"),
    "RecordingName": _path(
        "name", "Name of the recording.", example="20260115T093012Z-worker1-1.cast"
    ),
    "Model": _path(
        "name",
        "Name of the model: an agent's name, `default`, or `AGENT/MODEL`. A slash may be encoded.",
        example="default",
    ),
    "AnthropicVersion": _header(
        "anthropic-version",
        "Version of Anthropic's API that the client expects.",
        _ANTHROPIC_VERSION,
        required=True,
    ),
    "AnthropicClient": _header(
        "anthropic-version",
        "Version of Anthropic's API, which its clients send. The response is in its format then.",
        _ANTHROPIC_VERSION,
    ),
}
