"""
Define the shared parts of the OpenAPI document: its groups, headers and parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.pool.fair_queue import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY
from kiroworkers.web.headers import ANSWER_HEADERS
from kiroworkers.web.jobs import DEFAULT_LIMIT, KEY_PATTERN, MAX_LIMIT
from kiroworkers.web.openapi.schemas import COUNT, STRING, Schema

#: Groups of operations, in the order in which the API page shows them.
TAGS: Mapping[str, str] = {
    "Tasks": "Send a request to a task and get an answer that fits the task's schema.",
    "Jobs": "Manage asynchronous requests, whose results are fetched later.",
    "OpenAI": "Use clients of OpenAI's API. Each call is one turn in a fresh conversation.",
    "Monitoring": "Check the health and the readiness of the server.",
    "Operator": "Manage pools and workers while the server runs.",
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
    "Retry-After": {
        "description": "Seconds to wait before the next request.",
        "schema": COUNT,
    },
}


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
    "Limit": _query(
        "limit",
        "Maximum number of jobs on the page.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    "Before": _query(
        "before", "Identifier of a job. The page starts with the next older one.", STRING
    ),
    "Id": _path("id", "Identifier of the job."),
    "ApprovalId": _path("id", "Identifier of the approval."),
    "Worker": _path("name", "Name of the worker.", example="worker1"),
    "Model": _path(
        "name",
        "Name of the model: an agent's name, `default`, or `AGENT/MODEL`. A slash may be encoded.",
        example="default",
    ),
}
