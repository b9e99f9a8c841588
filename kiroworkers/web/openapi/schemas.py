"""
What the server says and takes, as JSON Schema; what the tasks say and take is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def record(optional: Iterable[str] = (), **properties: Schema) -> dict[str, Any]:
    """
    An object with these `properties`, all of which are there but the `optional` ones.
    """
    required = [name for name in properties if name not in {*optional}]
    return {"type": "object", "required": required, "properties": properties}


def list_of(schema: Schema) -> dict[str, Any]:
    """
    A list of what fits `schema`.
    """
    return {"type": "array", "items": schema}


def map_of(schema: Schema) -> dict[str, Any]:
    """
    An object with names for what fits `schema`.
    """
    return {"type": "object", "additionalProperties": schema}


def ref(name: str) -> dict[str, Any]:
    """
    The component `name`.
    """
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> dict[str, Any]:
    """
    What fits `schema`, or null.
    """
    kind = schema.get("type")
    if kind is None or {"enum", "const", "not", "allOf", "anyOf", "oneOf"} & schema.keys():
        return {"anyOf": [schema, {"type": "null"}]}
    kinds = [kind] if isinstance(kind, str) else kind
    return {**schema, "type": [*dict.fromkeys((*kinds, "null"))]}


def time(what: str) -> dict[str, Any]:
    """
    Since the epoch, in milliseconds.
    """
    return {"type": "integer", "description": f"{what}, in ms since the epoch."}


def duration(what: str) -> dict[str, Any]:
    """
    In milliseconds.
    """
    return {"type": "integer", "description": f"{what}, in ms."}


_STATES = ("queued", "running", "done", "failed", "cancelled")

_QUEUE = record(length=COUNT, limit=COUNT)

_POOL = record(
    ("retryAfter",),
    state={
        "type": "string",
        "description": "serving, paused, draining, trying, or the kind of trouble that keeps "
        "every session from answering.",
    },
    detail=or_null(TEXT),
    retryAfter={**COUNT, "description": "Seconds until it may be over."},
    workers=COUNT,
    maxWorkers=COUNT,
)

_AGENT = {
    "agentDetail": {**TEXT, "description": "Which program answers, and why that one."},
    "transport": {"type": "string", "enum": ["terminal", "acp"]},
    "pool": ref("Pool"),
    "queue": ref("Queue"),
}

_AGENTS = {
    "agent": {**TEXT, "description": "The first agent: who answers where nobody is named."},
    **_AGENT,
    "agents": map_of(ref("Agent")),
}

_WORKER = record(
    agent=TEXT,
    pid=or_null({"type": "integer"}),
    busy=FLAG,
    status={"type": "string", "enum": ["idle", "busy"]},
    state=TEXT,
    healthy={**FLAG, "description": "Can it take work, now or after its turn?"},
    lastActivity=time("When its session last did something"),
    idleTime=duration("For how long it has been idle"),
    age=duration("For how long its session has run"),
    answered={**COUNT, "description": "Answers of its session."},
    starts={**COUNT, "description": "Sessions that it has started."},
    consecutiveFailures=COUNT,
    lastError=or_null(TEXT),
    lastScreen=or_null(TEXT),
    nextStart=or_null(duration("Until it starts a session again")),
)

_READINESS = {
    "ready": FLAG,
    "workers": {**list_of(TEXT), "description": "Those that are healthy."},
    "error": TEXT,
    "code": TEXT,
}

_ERROR = record(
    ("field", "reasons", "retryAfter", "queue", "worker", "request", "text"),
    error={**TEXT, "description": "One sentence for people."},
    code={**TEXT, "description": "One word for programs."},
    field={**TEXT, "description": "The path of the field, or the header, that is wrong."},
    reasons={**list_of(TEXT), "description": "Why no answer fitted, for each attempt."},
    retryAfter={**COUNT, "description": "Seconds after which to ask again."},
    queue=ref("Queue"),
    worker={**TEXT, "description": "Who answered last: its name in the server's log."},
    request={**COUNT, "description": "The number of the request in the server's log."},
    text={**TEXT, "description": "What the agent said, for operators who ask with raw=1."},
)

_JOB = {
    "id": TEXT,
    "task": TEXT,
    "agent": TEXT,
    "state": {"type": "string", "enum": [*_STATES]},
    "location": {**TEXT, "description": "The path of the job."},
    "created": time("When it was taken"),
    "ended": or_null(time("When it ended")),
    "attempts": COUNT,
}

#: Of OpenAI's own API; more of its fields are taken and ignored.
_PART = {
    "anyOf": [
        record(type={"const": "text"}, text=TEXT),
        record(type={"const": "refusal"}, refusal=TEXT),
    ]
}

_CONTENT = {"anyOf": [TEXT, list_of(_PART)]}

_CALL = record(id=TEXT, function=record(name=TEXT, arguments=TEXT))

_MESSAGE = {
    **record(
        ("name", "tool_call_id", "tool_calls", "content"),
        role={"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]},
        content=or_null(_CONTENT),
        name=or_null(TEXT),
        tool_call_id={"description": "Of a tool's message; which call it answers."},
        tool_calls={"description": "Of an assistant's message; what it asked of tools."},
    ),
    "anyOf": [
        {"required": ["content"], "properties": {"content": _CONTENT}},
        {
            "required": ["tool_calls"],
            "properties": {
                "role": {"const": "assistant"},
                "tool_calls": {**list_of(_CALL), "minItems": 1},
            },
        },
    ],
}

_FORMAT = {
    "anyOf": [
        record(type={"enum": ["text", "json_object"]}),
        record(
            type={"const": "json_schema"},
            json_schema=record(schema={"type": "object", "description": "Of an object."}),
        ),
    ]
}

_STOP = {"type": "string", "minLength": 1}

#: Of a chat completion; `document` says which models there are.
CHAT = record(
    ("response_format", "stream", "stream_options", "stop", "n"),
    model=TEXT,
    messages={**list_of(ref("ChatMessage")), "minItems": 1},
    response_format=or_null(_FORMAT),
    stream=or_null(FLAG),
    stream_options=or_null({"type": "object", "properties": {"include_usage": {}}}),
    stop=or_null({"anyOf": [_STOP, {**list_of(_STOP), "maxItems": 4}]}),
    n=or_null({"const": 1}),
)

_USAGE = record(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)

_COMPLETION = record(
    id=TEXT,
    object={"const": "chat.completion"},
    created={"type": "integer"},
    model=TEXT,
    system_fingerprint=TEXT,
    choices=list_of(
        record(
            index=COUNT,
            message=record(role={"const": "assistant"}, content=TEXT, refusal={"type": "null"}),
            logprobs={"type": "null"},
            finish_reason={"const": "stop"},
        )
    ),
    usage={**_USAGE, "description": "Estimated: agents do not tell it."},
)

#: By the names that a document has for them.
SCHEMAS: Mapping[str, Schema] = {
    "Error": _ERROR,
    "Queue": _QUEUE,
    "Pool": _POOL,
    "Agent": record(**_AGENT),
    "Agents": record(**_AGENTS),
    "Worker": _WORKER,
    "Health": record(
        status={"const": "running"},
        timestamp=time("Now"),
        version=TEXT,
        **_AGENTS,
        workers=map_of(ref("Worker")),
    ),
    "Readiness": record(
        ("error", "code"),
        **_READINESS,
        agents=map_of(record(("error", "code"), **_READINESS)),
    ),
    "Catalogue": record(
        tasks=list_of(
            record(
                name=TEXT,
                title=TEXT,
                description=TEXT,
                method={"const": "POST"},
                path=TEXT,
                agent=or_null(TEXT),
                limits=record(
                    timeout=or_null({"type": "number"}), prompt=or_null({"type": "integer"})
                ),
                input={"type": "object"},
                answer={"type": "object"},
                example=record(input={"type": "object"}, answer={"type": "object"}),
            )
        ),
        agents=list_of(TEXT),
    ),
    "Accepted": record(
        id=TEXT, state={"type": "string", "enum": [*_STATES]}, location=_JOB["location"]
    ),
    "Job": record(
        ("result", "error", "position"),
        **_JOB,
        position={**COUNT, "description": "Of one that waits: the first is 1."},
        result={"type": "object", "description": "Of one that is done: the answer."},
        error={**ref("Error"), "description": "Of one that failed; and its status."},
    ),
    "Jobs": record(
        jobs=list_of(record(**_JOB, client=TEXT)),
        next={**or_null(TEXT), "description": "The path of the next page."},
    ),
    "Requests": record(
        **_AGENTS,
        requests=list_of(
            record(
                id=COUNT,
                agent=TEXT,
                task=TEXT,
                client=TEXT,
                priority={"type": "integer"},
                state={"type": "string", "enum": ["waiting", "running"]},
                worker=or_null(TEXT),
                attempts=COUNT,
                age=duration("Since it came"),
                timeLeft=duration("Until its deadline"),
            )
        ),
    ),
    "WorkerAction": record(worker={**_WORKER, "required": ["name", *_WORKER["required"]]}),
    "ChatMessage": _MESSAGE,
    "ChatCompletion": _COMPLETION,
    "Model": record(id=TEXT, object={"const": "model"}, created={"type": "integer"}, owned_by=TEXT),
    "Models": record(object={"const": "list"}, data=list_of(ref("Model"))),
    "OpenAIError": record(
        error=record(
            message=TEXT,
            type=TEXT,
            param=or_null(TEXT),
            code=TEXT,
        )
    ),
}
