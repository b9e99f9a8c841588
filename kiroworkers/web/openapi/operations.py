"""
What each route takes and returns, as far as the route table does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen

from kiroworkers.pool.fair_queue import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY
from kiroworkers.web.headers import ANSWER_HEADERS
from kiroworkers.web.openapi.schemas import COUNT, STRING, Schema, any_object, ref, string

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

#: Statuses with which any request may fail.
_COMMON_FAILURES = (400, 403, 408, 413, 414, 429, 431, 503)

#: Statuses with which a request that is given to an agent may fail besides.
_AGENT_FAILURES = (415, 502, 504)

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
    "Repairs": "Number of times the agent was told to correct its answer. Absent if 0.",
    "Completion": "How the server knew that the answer was complete: `prompt`, `idle-sign`, "
    "`response` or `quiet`.",
    "Source": "Where the server read the answer: `terminal`, `protocol` or `journal`.",
    "Rejoined": "1 if lines that the terminal had cut were joined. Absent otherwise.",
    "Normalised": "Fields whose values were converted to fit the schema, separated by commas. "
    "Absent if there are none.",
    "Tools-Denied": "Number of tool uses that were denied. Absent if 0.",
    "Tools-Allowed": "Number of tool uses that were allowed. Absent if 0.",
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

#: Headers of every answer of an agent.
_ANSWER_HEADERS = [name for name in HEADERS if name.startswith("X-") and not name.endswith("Usage")]


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
#: the names of the agents that there are.
PARAMETERS: Mapping[str, dict[str, Any]] = {
    "Agent": _header(
        "X-Agent", "Agent that answers. By default the task's agent, or the first.", STRING
    ),
    "Timeout": _header(
        "X-Request-Timeout",
        "Maximum time for the request in seconds, its time in the queue included. It can only "
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
        STRING,
        examples={
            "later": {"summary": "Get a job.", "value": "respond-async"},
            "deadline": {"summary": "Wait at most 30 seconds.", "value": "wait=30"},
        },
    ),
    "IdempotencyKey": _header(
        "Idempotency-Key",
        "Unique value chosen by the client. Requests with the same key and the same body run once "
        "and get the same response.",
        {"type": "string", "pattern": r"^[!#-\[\]-~]{1,255}$"},
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
        {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
    ),
    "Before": _query(
        "before", "Identifier of a job. The page starts with the next older one.", STRING
    ),
    "Id": _path("id", "Identifier of the job."),
    "Worker": _path("name", "Name of the worker.", example="worker1"),
    "Model": _path("name", "Name of the model: an agent's name, or `default`.", example="default"),
}


@frozen
class ResponseDoc:
    """
    Describe a response that does not have the usual format of failures.

    Attributes:
        description: A sentence about the response.
        content: The schema of the body by media type.
        headers: Names of header components.
        links: OpenAPI links by name.
    """

    description: str
    content: Mapping[str, Schema] = Factory(dict)
    headers: tuple[str, ...] = ()
    links: Mapping[str, Any] = Factory(dict)


@frozen
class Operation:
    """
    Describe what a route takes and returns.

    Attributes:
        tag: A key of `TAGS`.
        scope: The scope that a token needs; None if the route needs no token.
        responses: Responses by status, without failures of the usual format.
        parameters: Names of parameter components.
        body: The schema of the request body; None if the route takes none.
        example: An example of the request body.
        more_failures: Statuses of failures besides the common ones.
    """

    tag: str
    scope: str | None
    responses: Mapping[int, ResponseDoc]
    parameters: tuple[str, ...] = ()
    body: Schema | None = None
    example: Mapping[str, Any] | None = None
    more_failures: tuple[int, ...] = ()

    @property
    def failures(self) -> tuple[int, ...]:
        """
        Return the statuses of the failures that have the usual format.
        """
        unauthorized = () if self.scope is None else (401,)
        statuses = {*_COMMON_FAILURES, *unauthorized, *self.more_failures}
        return tuple(sorted(statuses - {*self.responses}))


def _json(description: str, schema: Schema, *headers: str, **links: Any) -> ResponseDoc:
    return ResponseDoc(description, {JSON: schema}, headers, links)


def _answer(description: str, schema: Schema) -> ResponseDoc:
    """
    Describe the answer of a task in each of its formats.
    """
    return ResponseDoc(
        description,
        {
            JSON: schema,
            "text/plain": string("The agent's own words, if the request has `raw=1`."),
            # Without a type: tools would take it for the schema of the whole stream.
            EVENT_STREAM: {
                "description": "Server-sent events, if the request has `Accept: "
                "text/event-stream`. The data of each event is one JSON object: `queued` "
                "(`position`, and `estimate` in seconds), `started` (`worker`, `attempt`), `text` "
                "(`text`, a piece of the agent's words), `retry` (`reason`; discard the text so "
                "far), and at the end either `answer` (the answer) or `error` (the error with its "
                "`status`).",
            },
        },
        (*_ANSWER_HEADERS, "Idempotency-Replayed", "Preference-Applied"),
    )


def _job_link(operation: str, description: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "description": description,
        "parameters": {"id": "$response.body#/id"},
    }


def task_operation(answer: Schema, body: Schema, example: Mapping[str, Any]) -> Operation:
    """
    Describe the route of a task.

    Args:
        answer: The schema of the answer.
        body: The schema of the request body.
        example: An example of the request body.
    """
    accepted = _json(
        "The job, if the request has `Prefer: respond-async`.",
        ref("Accepted"),
        "Location",
        "Preference-Applied",
        "Retry-After",
        "Idempotency-Replayed",
        job=_job_link("job", "Retrieve the job."),
        cancel=_job_link("cancel", "Cancel the job."),
    )
    return Operation(
        "Tasks",
        "ask",
        {200: _answer("The answer.", answer), 202: accepted},
        ("Agent", "Timeout", "Priority", "Prefer", "IdempotencyKey", "Callback", "Raw"),
        body,
        example,
        (404, 409, *_AGENT_FAILURES),
    )


_CHUNKS = {
    "description": "Server-sent events, if `stream` is true: chunks as in OpenAI's API, then "
    "`[DONE]`."
}
_BY_AGENT = ("AgentQuery",)
_WORKER_OPERATION = Operation(
    "Operator",
    "operate",
    {202: _json("The operation was started.", ref("WorkerAction"))},
    ("Worker", "AgentQuery"),
    more_failures=(404,),
)
_POOL_OPERATION = Operation(
    "Operator",
    "operate",
    {200: _json("The agents and their pools.", ref("Agents"))},
    _BY_AGENT,
)

#: Operations by the name of the route's handler.  Those of tasks are made by
#: `task_operation`.
OPERATIONS: Mapping[str, Operation] = {
    "health": Operation(
        "Monitoring", "watch", {200: _json("The state of the server.", ref("Health"))}
    ),
    "ready": Operation(
        "Monitoring",
        None,
        {
            200: _json("At least one worker can take requests.", ref("Readiness")),
            503: _json("No worker can take requests.", ref("Readiness")),
        },
        _BY_AGENT,
    ),
    "catalogue": Operation(
        "Tasks", None, {200: _json("The tasks and the agents.", ref("Catalogue"))}
    ),
    "jobs": Operation(
        "Jobs",
        "ask",
        {200: _json("A page of jobs.", ref("Jobs"))},
        ("Limit", "Before"),
        more_failures=(404,),
    ),
    "job": Operation(
        "Jobs",
        "ask",
        {200: _json("The job.", ref("Job"), "Retry-After")},
        ("Id",),
        more_failures=(404,),
    ),
    "cancel": Operation(
        "Jobs",
        "ask",
        {
            200: _json("The job was unfinished and has been cancelled.", ref("Job")),
            204: ResponseDoc("The job had ended and has been deleted."),
        },
        ("Id",),
        more_failures=(404,),
    ),
    "openapi": Operation(
        "Documentation",
        None,
        {200: _json("The document.", any_object("An OpenAPI 3.1 document."))},
    ),
    "docs": Operation(
        "Documentation", None, {200: ResponseDoc("The page.", {"text/html": STRING})}
    ),
    "queue": Operation(
        "Operator", "operate", {200: _json("The requests.", ref("Requests"))}, _BY_AGENT
    ),
    "pause": _POOL_OPERATION,
    "resume": _POOL_OPERATION,
    "renew": _POOL_OPERATION,
    "set_workers": Operation(
        "Operator",
        "operate",
        {
            202: _json(
                "The number was changed; workers start or stop in the background.", ref("Agents")
            )
        },
        _BY_AGENT,
        ref("Workers"),
        {"workers": 2},
        (415,),
    ),
    "drain": _WORKER_OPERATION,
    "restart": _WORKER_OPERATION,
    "models": Operation("OpenAI", "ask", {200: _json("The models.", ref("Models"))}),
    "model": Operation(
        "OpenAI", "ask", {200: _json("The model.", ref("Model"))}, ("Model",), more_failures=(404,)
    ),
    "complete": Operation(
        "OpenAI",
        "ask",
        {
            200: ResponseDoc(
                "The completion.",
                {JSON: ref("ChatCompletion"), EVENT_STREAM: _CHUNKS},
                (*_ANSWER_HEADERS, "X-Kiroworkers-Usage"),
            )
        },
        ("Timeout", "Priority", "Prefer"),
        ref("Chat"),
        {"model": "default", "messages": [{"role": "user", "content": "What can you do?"}]},
        (404, *_AGENT_FAILURES),
    ),
}
