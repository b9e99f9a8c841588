"""
What each route takes and gives, beside what stands in the route table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen

from kiroworkers.pool.fair_queue import LEAST_URGENT, MOST_URGENT
from kiroworkers.web.headers import ANSWER_HEADERS
from kiroworkers.web.openapi.schemas import COUNT, TEXT, Schema, ref

JSON = "application/json"
EVENTS = "text/event-stream"

#: What any request may be refused with.
_COMMON_HEADERS = (400, 403, 408, 413, 414, 429, 431, 503)

#: What one that costs a turn may fail with besides.
_OF_TURNS = (415, 502, 504)

TAGS: Mapping[str, str] = {
    "Tasks": "One question each, and an answer that fits its schema.",
    "Jobs": "Requests whose answers are asked for later.",
    "OpenAI": "For clients of OpenAI's API: each call is one fresh conversation.",
    "Watching": "How the server is.",
    "Operating": "What needs the operator's word.",
    "Description": "This API, described.",
}

_MEANINGS = {
    "Agent": "The agent that answered.",
    "Worker": "The worker that answered.",
    "Attempts": "How many workers it took.",
    "Repairs": "How often the agent was asked to put its answer right.",
    "Completion": "How the end of the answer was known.",
    "Source": "Where the answer was read.",
    "Rejoined": "1 where lines that the terminal had cut were joined.",
    "Normalised": "The fields that were brought into the schema's form.",
    "Tools-Denied": "How many uses of tools were denied.",
    "Tools-Allowed": "How many uses of tools were allowed.",
    "Usage": "estimated: so are the numbers of tokens.",
}

#: By the names of the components.
HEADERS: Mapping[str, Any] = {
    **{
        name.decode(): {
            "description": _MEANINGS[name.decode().removeprefix("X-Kiroworkers-")],
            "schema": TEXT,
        }
        for name in ANSWER_HEADERS
    },
    "Idempotency-Replayed": {
        "description": "true where the answer is that of an earlier request with the same key.",
        "schema": {"const": "true"},
    },
    "Location": {"description": "The path of the job.", "schema": TEXT},
    "Preference-Applied": {"description": "What of Prefer was followed.", "schema": TEXT},
    "Retry-After": {"description": "Seconds after which to ask again.", "schema": COUNT},
}

_OF_ANSWERS = [name for name in HEADERS if name.startswith("X-") and not name.endswith("Usage")]


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
        "schema": TEXT,
        **more,
    }


#: By the names of the components.  ``Agent`` and ``AgentQuery`` choose from the
#: names that answer here.
PARAMETERS: Mapping[str, dict[str, Any]] = {
    "Agent": _header("X-Agent", "Who is to answer.", TEXT),
    "Timeout": _header(
        "X-Request-Timeout",
        "Seconds that the answer may take, the wait included.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "Priority": _header(
        "X-Priority",
        f"From {LEAST_URGENT} to {MOST_URGENT}, the most urgent.",
        {"type": "integer", "minimum": 0, "maximum": 9},
    ),
    "Prefer": _header(
        "Prefer",
        "respond-async to get a job at once; wait=N for a deadline of N seconds (RFC 7240).",
        TEXT,
        examples={"later": {"value": "respond-async"}, "deadline": {"value": "wait=30"}},
    ),
    "IdempotencyKey": _header(
        "Idempotency-Key",
        "The same key and body get the same answer, and cost one turn.",
        {"type": "string", "pattern": r"^[!#-\[\]-~]{1,255}$"},
    ),
    "Callback": _header(
        "X-Callback",
        "With respond-async: the URL that is told of the job's end, signed with HMAC-SHA256.",
        {"type": "string", "format": "uri"},
    ),
    "Raw": _query(
        "raw",
        "For operators: 1 to see what the agent said, as text, where the answer comes at once.",
        {"type": "string", "enum": ["0", "1"]},
    ),
    "AgentQuery": _query("agent", "Only this agent.", TEXT),
    "Limit": _query(
        "limit",
        "So many jobs, at most.",
        {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
    ),
    "Before": _query("before", "The id of a job: those that are older.", TEXT),
    "Id": _path("id", "The id of a job."),
    "Worker": _path("name", "The name of a worker.", example="worker1"),
    "Model": _path("name", "The name of an agent, or default.", example="default"),
}


@frozen
class ResponseDoc:
    """
    One that is no failure of the usual form.

    Attributes:
        content: schemas by media types.
        headers: the names of components.
    """

    description: str
    content: Mapping[str, Schema] = Factory(dict)
    headers: tuple[str, ...] = ()
    links: Mapping[str, Any] = Factory(dict)


@frozen
class Operation:
    """
    What one route takes and gives.

    Attributes:
        scope: what a token must be good for; None where none is needed.
        parameters: the names of components.
        example: of the body.
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
        The statuses of failures.
        """
        of_scope = () if self.scope is None else (401,)
        return tuple(sorted({*_COMMON_HEADERS, *of_scope, *self.more_failures} - {*self.responses}))


def _json(description: str, schema: Schema, *headers: str, **links: Any) -> ResponseDoc:
    return ResponseDoc(description, {JSON: schema}, headers, links)


def _asking_for(what: Schema, description: str) -> ResponseDoc:
    return ResponseDoc(
        description,
        {
            JSON: what,
            "text/plain": {"type": "string", "description": "With raw=1: what the agent said."},
            # Of what type: tools take this for the schema of all the text, or of an event.
            EVENTS: {
                "description": "With Accept: text/event-stream. Events, each with one line of "
                "JSON: queued (position, estimate), started (worker, attempt), text (text), "
                "retry (reason), and at last answer (the answer) or error (the error and its "
                "status).",
            },
        },
        (*_OF_ANSWERS, "Idempotency-Replayed", "Preference-Applied"),
    )


def _link(operation: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"id": "$response.body#/id"}}


def task(answer: Schema, body: Schema, example: Mapping[str, Any]) -> Operation:
    """
    What the route of a task takes and gives.
    """
    accepted = _json(
        "With Prefer: respond-async: a job was made.",
        ref("Accepted"),
        "Location",
        "Preference-Applied",
        "Retry-After",
        "Idempotency-Replayed",
        job=_link("job"),
        cancel=_link("cancel"),
    )
    return Operation(
        "Tasks",
        "ask",
        {200: _asking_for(answer, "The answer."), 202: accepted},
        ("Agent", "Timeout", "Priority", "Prefer", "IdempotencyKey", "Callback", "Raw"),
        body,
        example,
        (404, 409, *_OF_TURNS),
    )


_CHUNKS = {"description": "With stream: chunks, as OpenAI's API has them, then [DONE]."}
_ALL = _json("The agents, as they are now.", ref("Agents"))
_BY_AGENT = ("AgentQuery",)
_ON_WORKER = Operation(
    "Operating",
    "operate",
    {202: _json("It will be done.", ref("WorkerAction"))},
    ("Worker", "AgentQuery"),
    more_failures=(404,),
)
_ON_POOLS = Operation("Operating", "operate", {200: _ALL}, _BY_AGENT)

#: By the names of the routes; that of tasks is made for each of them by `task`.
OPERATIONS: Mapping[str, Operation] = {
    "health": Operation("Watching", "watch", {200: _json("It runs.", ref("Health"))}),
    "ready": Operation(
        "Watching",
        None,
        {
            200: _json("A worker can take work.", ref("Readiness")),
            503: _json("None can.", ref("Readiness")),
        },
        _BY_AGENT,
    ),
    "catalogue": Operation("Tasks", None, {200: _json("The tasks.", ref("Catalogue"))}),
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
            200: _json("It was unfinished, and is cancelled.", ref("Job")),
            204: ResponseDoc("It had ended, and is forgotten."),
        },
        ("Id",),
        more_failures=(404,),
    ),
    "openapi": Operation("Description", None, {200: _json("The description.", {"type": "object"})}),
    "docs": Operation(
        "Description", None, {200: ResponseDoc("A page for people.", {"text/html": TEXT})}
    ),
    "queue": Operation(
        "Operating", "operate", {200: _json("The requests.", ref("Requests"))}, _BY_AGENT
    ),
    "pause": _ON_POOLS,
    "resume": _ON_POOLS,
    "renew": _ON_POOLS,
    "set_workers": Operation(
        "Operating",
        "operate",
        {202: _json("The agent will have so many.", ref("Agents"))},
        _BY_AGENT,
        ref("Workers"),
        {"workers": 2},
        (415,),
    ),
    "drain": _ON_WORKER,
    "restart": _ON_WORKER,
    "models": Operation("OpenAI", "ask", {200: _json("Who can be asked.", ref("Models"))}),
    "model": Operation(
        "OpenAI", "ask", {200: _json("It.", ref("Model"))}, ("Model",), more_failures=(404,)
    ),
    "complete": Operation(
        "OpenAI",
        "ask",
        {
            200: ResponseDoc(
                "The reply; in chunks of server-sent events where stream is true.",
                {JSON: ref("ChatCompletion"), EVENTS: _CHUNKS},
                (*_OF_ANSWERS, "X-Kiroworkers-Usage"),
            )
        },
        ("Timeout", "Priority", "Prefer"),
        ref("Chat"),
        {"model": "default", "messages": [{"role": "user", "content": "What can you do?"}]},
        (404, *_OF_TURNS),
    ),
}
