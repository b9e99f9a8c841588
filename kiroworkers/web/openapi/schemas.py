"""
Define the JSON Schemas of everything the server sends and receives, except the tasks' own.

The functions that make a schema take its description first, so that no field can be
left without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from kiroworkers.chat.completions import MAX_STOPS
from kiroworkers.chat.response_schema import MAX_LENGTH
from kiroworkers.telemetry.request_history import OUTCOMES

Schema: TypeAlias = Mapping[str, Any]

#: Schemas without a description, for parameters and headers, which have one themselves.
STRING: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}

#: Keywords that restrict nothing: a schema with these alone accepts null anyway.
_ANNOTATIONS = {"title", "description", "default", "examples"}

#: Keywords beside which adding "null" to `type` would not be enough to allow null.
_RESTRICTING = {"enum", "const", "not", "allOf", "anyOf", "oneOf"}


def string(description: str, **keywords: Any) -> dict[str, Any]:
    """
    Return the schema of a string.
    """
    return {"type": "string", "description": description, **keywords}


def choice(description: str, *values: str) -> dict[str, Any]:
    """
    Return the schema of a string that is one of `values`.
    """
    return string(description, enum=[*values])


def constant(description: str, value: Any) -> dict[str, Any]:
    """
    Return the schema that only `value` fits.
    """
    return {"const": value, "description": description}


def boolean(description: str) -> dict[str, Any]:
    """
    Return the schema of a boolean.
    """
    return {"type": "boolean", "description": description}


def integer(description: str, **keywords: Any) -> dict[str, Any]:
    """
    Return the schema of a whole number.
    """
    return {"type": "integer", "description": description, **keywords}


def number(description: str) -> dict[str, Any]:
    """
    Return the schema of a number that is not negative.
    """
    return {"type": "number", "description": description, "minimum": 0}


def count(description: str) -> dict[str, Any]:
    """
    Return the schema of a whole number that is not negative.
    """
    return integer(description, minimum=0)


def timestamp(description: str, null: str | None = None) -> dict[str, Any]:
    """
    Return the schema of a time in milliseconds since the Unix epoch.

    Args:
        description: Ends without a period; the unit is appended.
        null: When the value is null instead, such as "until the job ends"; None for never.
    """
    sentence = f"{description}, in milliseconds since the Unix epoch"
    return (
        integer(f"{sentence}.") if null is None else or_null(integer(f"{sentence}; null {null}."))
    )


def duration(description: str, zero: str | None = None) -> dict[str, Any]:
    """
    Return the schema of a duration in milliseconds.

    Args:
        description: Ends without a period; the unit is appended.
        zero: When the value is 0, such as "while there is no session"; None to say nothing.
    """
    sentence = f"{description}, in milliseconds"
    return integer(f"{sentence}." if zero is None else f"{sentence}; 0 {zero}.")


def array(description: str, items: Schema, **keywords: Any) -> dict[str, Any]:
    """
    Return the schema of a list whose items fit `items`.
    """
    return {"type": "array", "description": description, "items": items, **keywords}


def mapping(description: str, values: Schema) -> dict[str, Any]:
    """
    Return the schema of an object with arbitrary names, whose values fit `values`.
    """
    return {"type": "object", "description": description, "additionalProperties": values}


def any_object(description: str) -> dict[str, Any]:
    """
    Return the schema of an object whose properties are described elsewhere.
    """
    return {"type": "object", "description": description}


def record(
    description: str, optional: Iterable[str] = (), /, **properties: Schema
) -> dict[str, Any]:
    """
    Return the schema of an object with these `properties`.

    Args:
        description: A sentence about the object.
        optional: Names of the properties that may be absent; all others are required.
        properties: The schema of each property.
    """
    required = [name for name in properties if name not in {*optional}]
    return {
        "type": "object",
        "description": description,
        "required": required,
        "properties": properties,
    }


def ref(name: str, description: str | None = None) -> dict[str, Any]:
    """
    Return a reference to the schema component `name`.

    Args:
        name: As in `SCHEMAS`.
        description: What the value means in this place; None to leave that to the component.
    """
    reference = {"$ref": f"#/components/schemas/{name}"}
    return reference if description is None else {**reference, "description": description}


def or_null(schema: Schema) -> dict[str, Any]:
    """
    Return a schema that accepts null in addition to what `schema` accepts.
    """
    if schema.keys() <= _ANNOTATIONS:
        return {**schema}
    kind = schema.get("type")
    if kind is None or _RESTRICTING & schema.keys():
        branch = {key: value for key, value in schema.items() if key != "description"}
        nullable: dict[str, Any] = {"anyOf": [branch, {"type": "null"}]}
        if "description" in schema:
            # Readers and tools look for it next to the property's name, not in a branch.
            nullable["description"] = schema["description"]
        return nullable
    kinds = [kind] if isinstance(kind, str) else kind
    return {**schema, "type": [*dict.fromkeys((*kinds, "null"))]}


#: Stand for the schemas of the task that a request is for; `build_document` replaces them.
TASK_INPUT = any_object("The input of the task.")
TASK_ANSWER = any_object("The answer of the task.")

_JOB_STATES = ("queued", "running", "done", "failed", "cancelled")

_JOB_STATE = choice(
    "`queued` and `running` jobs are unfinished; `done`, `failed` and `cancelled` jobs have ended.",
    *_JOB_STATES,
)

_QUEUE = record(
    "A queue of requests that wait for a worker.",
    length=count("Number of requests waiting now."),
    limit=count("Maximum number of requests that may wait (`--backlog`)."),
)

_POOL = record(
    "State and size of an agent's worker pool.",
    ("retryAfter", "reportedBy"),
    state=string(
        "`serving`; `starting` while no worker is ready yet; `failed` when sessions end again and "
        "again or the agent's program is gone; `paused` by an operator; `drained` when an operator "
        "drained every worker; `draining` while the server shuts down; the kind of outage that "
        "keeps every session from answering, such as `login_required` or `throttled`; or `trying` "
        "when the next request will show whether the outage is over."
    ),
    detail=or_null(string("Reason for the state, in a sentence; null while `serving`.")),
    retryAfter=count(
        "Seconds until the agent is tried again. Present only during an outage and while the "
        "pool has `failed`; 0 if it may be tried now."
    ),
    reportedBy=string(
        "Name of the other server that reported the outage. Present only during an outage that "
        "was learned from another server with the same `--account`."
    ),
    workers=count("Minimum number of workers."),
    maxWorkers=count(
        "Maximum number of workers. Equal to `workers` if the pool does not grow on demand."
    ),
)

_PROOF = record(
    "What was proven about a version of an agent (`kiroworkers prove`).",
    level=choice(
        "`exact`; `lossy` if some answers are altered or lost; `leaks` if a conversation may know "
        "of another request; `unsafe` if tools run although they are denied; or `unproven`.",
        "exact",
        "lossy",
        "leaks",
        "unsafe",
        "unproven",
    ),
    date=or_null(string("Day of the proof, such as `2026-11-29`; null without a report.")),
    source=or_null(
        choice(
            "Where the report comes from: the `package` or the operator's `state-dir`; `built-in` "
            "for the offline agent, which is part of the server and needs no report. Null while "
            "`unproven`.",
            "package",
            "state-dir",
            "built-in",
        )
    ),
    failed=array("Names of the checks that failed.", string("Name of a check.")),
)

_CANARY = record(
    "What is known about the version of the agent that is installed. It may be newer than the "
    "version that runs.",
    state=choice(
        "`new` before it is tried; `on_trial` while it is; `accepted` if it may serve; `refused` "
        "if it may not; or `inconclusive` if the trial failed for a reason that says nothing about "
        "the version. Only with `accepted` do new sessions start.",
        "new",
        "on_trial",
        "accepted",
        "refused",
        "inconclusive",
    ),
    version=string("What the program says about its version; empty if it says nothing."),
    detail=string("Reason for the state, in a sentence."),
    turns=count("Turns that trials have cost since the server started."),
    retryAfter=or_null(count("Seconds until it is tried again; null if that is not scheduled.")),
)

_AGENT = {
    "agentDetail": string("The program that answers, and why it was chosen."),
    "transport": choice(
        "How the server talks to the program: through a `terminal`, or by the Agent Client "
        "Protocol (`acp`).",
        "terminal",
        "acp",
    ),
    "proof": ref("Proof", "What was proven about the version of the agent that runs."),
    "canary": or_null(
        ref("Canary", "What is known about the installed version; null without `--canary`.")
    ),
    "pool": ref("Pool", "State and size of the agent's worker pool."),
    "queue": ref("Queue", "The agent's queue of waiting requests."),
}

_AGENTS = {
    "agent": string(
        "Name of the agent that `agentDetail`, `transport`, `pool` and `queue` describe: the first "
        "in `agents`, which is the default agent unless the request asked for another."
    ),
    **_AGENT,
    "agents": mapping("The agents by name.", ref("Agent")),
}

_OUTAGE = {
    "kind": string("Kind of the outage, such as `login_required`, `throttled` or `failed`."),
    "detail": or_null(string("Why, in the agent's words or the server's.")),
    "since": timestamp("When it began"),
}

_WORKER = {
    "agent": string("Name of the agent that the worker runs."),
    "pid": or_null(integer("ID of the root of the session's processes; null while there is none.")),
    "busy": boolean("Whether the worker cannot take a request right now."),
    "status": choice("The same as `busy`, as a word.", "idle", "busy"),
    "state": string(
        "State of the session: `starting`, `idle`, `busy`, `clearing` (discarding the last "
        "conversation), `interrupting` or `settling` (recovering from an aborted request), "
        "`stopping` or `gone`. Without a session: `waiting` for the next start, `failed` after "
        "repeated failures (tried again from time to time), `held` while the agent has an outage "
        "or its new version is not accepted, `drained` by an operator, or `ended` for good."
    ),
    "healthy": boolean("Whether the worker can take a request, now or after its current one."),
    "lastActivity": timestamp(
        "When the session last produced output or received a request, or when it ended"
    ),
    "idleTime": duration("How long the session has been idle", zero="while it is not idle"),
    "age": duration("How long the session has been running", zero="while there is none"),
    "answered": count("Number of answers the worker has given since the server started."),
    "starts": count("Number of sessions the worker has started since the server started."),
    "consecutiveFailures": count(
        "Number of sessions in a row that ended by themselves soon after they started."
    ),
    "lastError": or_null(
        string(
            "Why a session most recently ended unexpectedly; null if none has.  Only operators "
            "see what the agent printed during a turn."
        )
    ),
    "lastScreen": or_null(
        string(
            "Text on the terminal of the last session, if it never became ready; null otherwise."
        )
    ),
    "nextStart": timestamp("When the next session starts", null="if no start is scheduled"),
}

_SERVER = record(
    "A server.",
    name=string("Name of the server. If it was started again, it is listed once."),
    version=string("Version of the server."),
    address=string("Address that it listens at."),
    account=or_null(string("Account that its agents use; null if `--account` names none.")),
    state=choice(
        "`serving`; `draining` while it finishes what it has accepted; `stopped`; or `lost` if it "
        "has not been heard of for so long that others take its jobs. The last two are listed for "
        "ten minutes.",
        "serving",
        "draining",
        "stopped",
        "lost",
    ),
    agents=mapping(
        "Its agents by name.",
        record(
            "An agent.",
            state=string("State of the agent's worker pool, as in `GET /health`."),
            workers=count("Number of workers."),
            ready=count("Number of workers that can take a request, now or after their current."),
            idle=count("Number of idle workers."),
            queue=count("Number of requests that wait for one, without jobs."),
        ),
    ),
    jobs=count("Number of jobs that it runs."),
    started=timestamp("When it started"),
    seen=timestamp("When it was last heard of, by the database's clock"),
    silence=duration("How long ago that was"),
)

_READINESS = {
    "ready": boolean(
        "Whether at least one worker can take a request, now or after its current one."
    ),
    "workers": array("Names of the healthy workers.", STRING),
    "error": string("Why no worker can take a request. Absent if `ready` is true."),
    "code": string("Machine-readable form of `error`. Absent if `ready` is true."),
}

#: What an error may say besides its sentence, its code and its field.
ERROR_DETAILS = {
    "reasons": array(
        "Why the agent's answers were rejected, one reason per attempt. Only with code "
        "`answer_unfit`.",
        STRING,
    ),
    "retryAfter": count("Seconds to wait before trying again. Only if a retry may succeed."),
    "queue": ref("Queue", "The agent's queue of waiting requests, if a retry may succeed."),
    "worker": string(
        "Name of the worker that gave the last unusable answer, as in the server's log."
    ),
    "request": count("Number of the request in the server's log, if its answer was unusable."),
    "requestId": string(
        "Identifier of the request, as in the header `X-Request-ID`. Absent only in jobs."
    ),
}

_ERROR = record(
    "Why a request failed.",
    ("field", *ERROR_DETAILS, "text", "status"),
    error=string("One sentence for people. Its wording may change."),
    code=ref("ErrorCode", "One word for programs. It does not change."),
    field=string("Dotted path of the invalid field, or name of the invalid header or parameter."),
    **ERROR_DETAILS,
    text=string("The agent's own words. Only for operators who ask with `raw=1`."),
    status=integer("HTTP status of the failure. Only in a job and in an `error` event."),
)

_LOCATION = string("Path of the job.")

_JOB = {
    "id": string("Random identifier of the job."),
    "task": string("Name of the task."),
    "agent": string("Name of the agent that answers."),
    "state": _JOB_STATE,
    "location": _LOCATION,
    "created": timestamp("When the job was accepted"),
    "ended": timestamp("When the job ended", null="while it is unfinished"),
    "attempts": count("Number of times the job was given to an agent."),
    "model": or_null(string("The model that the request or its task chose; null if neither did.")),
    "requestId": or_null(
        string(
            "Identifier of the request that created the job; null for a job that an earlier "
            "version of the server accepted."
        )
    ),
}


def _seconds(description: str) -> dict[str, Any]:
    return or_null(number(f"{description}, in seconds; null if it is not known."))


_HISTORY_ENTRY = {
    "id": string("Identifier of the request; an execution of a job has that of its request."),
    "client": or_null(
        string(
            "Name of the client's token, or the client's address if there are no tokens; null if "
            "it was not authorized."
        )
    ),
    "task": or_null(string("Name of the task, or `chat`; null if it is not known.")),
    "agent": or_null(string("Name of the agent; null if none was chosen.")),
    "worker": or_null(string("Name of the last worker that was asked; null for none.")),
    "job": or_null(string("Identifier of the job that was created or executed; null for none.")),
    "state": choice("Whether the request has ended.", "running", "ended"),
    "outcome": or_null(
        choice(
            "How it ended. `answered`; `accepted` as a job; `replayed`, with an earlier answer; "
            "`failed` after it was queued or given to a worker; `rejected` before; or "
            "`cancelled`, by its client or because the server stopped. Null while it runs, or if "
            "the server ended before that was saved.",
            *OUTCOMES,
        )
    ),
    "status": or_null(
        integer("HTTP status; 499 if the client hung up; null while the request runs.")
    ),
    "code": or_null(string("Code of the failure; null without one.")),
    "received": timestamp("When it was received"),
    "ended": timestamp("When it ended", null="while it runs"),
    "wait": _seconds("Time in the queue"),
    "turn": _seconds("Time for which workers were occupied"),
    "firstOutput": _seconds("Time until an agent was first seen to begin its answer"),
    "total": _seconds("Time until the end"),
    "attempts": count("Number of workers that were asked."),
    "repairs": count("Number of times a worker was asked to correct its answer."),
}

_HISTORY_EVENT = record(
    "Something that happened to the request. Further fields depend on its name.",
    name=string("What happened, such as `received`, `started`, `retry` or `ended`."),
    at=number("Time since the request was received, in seconds."),
)

#: Chat completions follow OpenAI's API reference; its other fields are accepted and ignored.
_CONTENT_PART = {
    "anyOf": [
        record(
            "A piece of text.",
            type=constant("Always `text`.", "text"),
            text=string("The text."),
        ),
        record(
            "An earlier refusal of the assistant.",
            type=constant("Always `refusal`.", "refusal"),
            refusal=string("The text of the refusal."),
        ),
    ]
}

_CONTENT = {"anyOf": [STRING, {"type": "array", "items": _CONTENT_PART}]}

_TOOL_CALL = record(
    "A function call that the assistant made.",
    id=string("Identifier of the call."),
    function=record(
        "The function that was called.",
        name=string("Name of the function."),
        arguments=string("Arguments of the call, as JSON text."),
    ),
)

_MESSAGE = {
    **record(
        "A message of a conversation.",
        ("name", "tool_call_id", "tool_calls", "content"),
        role=choice("Who wrote the message.", "system", "developer", "user", "assistant", "tool"),
        content={
            **or_null(_CONTENT),
            "description": "The text, as a string or as a list of parts with `type` `text` or "
            "`refusal`. A user's message may also have parts of the type `image_url` with a data "
            "URL, if the agent accepts images. Null or absent only in an assistant's message that "
            "has `tool_calls`.",
        },
        name=or_null(string("Name of the author. Null is the same as absent.")),
        tool_call_id={
            "description": "Identifier of the call that a message with role `tool` answers."
        },
        tool_calls={
            "description": "Function calls in a message with role `assistant`: objects with `id` "
            "and `function` (`name` and `arguments`). Ignored in other messages."
        },
    ),
    "anyOf": [
        {"required": ["content"], "properties": {"content": _CONTENT}},
        {
            "required": ["tool_calls"],
            "properties": {
                "role": {"const": "assistant"},
                "tool_calls": {"type": "array", "items": _TOOL_CALL, "minItems": 1},
            },
        },
    ],
}

_RESPONSE_FORMAT = {
    "description": "Format of the reply: an object whose `type` is `text` (the default), "
    "`json_object`, or `json_schema` with the schema of an object in `json_schema.schema`. "
    "Null is the same as absent.",
    "anyOf": [
        record(
            "Text, or any JSON object.",
            type={
                "enum": ["text", "json_object"],
                "description": "`text` for plain text, `json_object` for any JSON object.",
            },
        ),
        record(
            "A JSON object that fits a schema.",
            type=constant("Always `json_schema`.", "json_schema"),
            json_schema=record(
                "The schema and its settings; all settings are ignored.",
                schema=any_object(
                    f"JSON Schema of an object, at most {MAX_LENGTH:,} characters long."
                ),
            ),
        ),
    ],
}

_STOP = {"type": "string", "minLength": 1}

#: The request body of a chat completion, for servers of any agent; `build_document` lists
#: the models of one server.
CHAT = record(
    "A request for the next message of a conversation. Fields of OpenAI's API that are not listed "
    "here and only tune a model, such as `temperature`, are accepted and ignored.",
    ("response_format", "stream", "stream_options", "stop", "n"),
    model=string(
        "Name of the agent that answers, or `default` for the default agent. If clients may choose "
        "models (`--models`), a slash and the name of one of the agent's models may follow."
    ),
    messages=array(
        "The conversation so far, oldest message first.", ref("ChatMessage"), minItems=1
    ),
    response_format=or_null(_RESPONSE_FORMAT),
    stream=or_null(
        boolean(
            "Whether to send the reply as server-sent events. Null or absent is the same as false."
        )
    ),
    stream_options=or_null(
        {
            "type": "object",
            "description": "Options for a stream. Null is the same as absent.",
            "properties": {
                "include_usage": {
                    "description": "If true, the stream ends with a chunk that has the `usage`."
                }
            },
        }
    ),
    stop=or_null(
        {
            "description": "Text before which the reply is cut, or a list of up to "
            f"{MAX_STOPS} such texts. Applies to plain text only. Null is the same as absent.",
            "anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}],
        }
    ),
    n=or_null(constant("Number of replies: always 1. Null is the same as absent.", 1)),
)

_COMPLETION = record(
    "The reply to a chat completion request.",
    id=string("Identifier of the completion."),
    object=constant("Always `chat.completion`.", "chat.completion"),
    created=integer("When the request arrived, in seconds since the Unix epoch."),
    model=string("The model that was requested."),
    system_fingerprint=string("Version of the server, and a note that `usage` is estimated."),
    choices=array(
        "The reply, as a list with one item.",
        record(
            "A reply.",
            index=count("Index in the list: always 0."),
            message=record(
                "The assistant's message.",
                role=constant("Always `assistant`.", "assistant"),
                content=string("The reply: text, or JSON text if a JSON format was requested."),
                refusal={"type": "null", "description": "Always null."},
            ),
            logprobs={"type": "null", "description": "Always null."},
            finish_reason=constant("Always `stop`.", "stop"),
        ),
    ),
    usage=record(
        "Estimated token counts, one token per four bytes of text; agents do not report theirs.",
        prompt_tokens=count("Estimated tokens of the request's messages."),
        completion_tokens=count("Estimated tokens of the reply."),
        total_tokens=count("Sum of `prompt_tokens` and `completion_tokens`."),
    ),
)

_TASK = record(
    "A task, and how to call it.",
    name=string("Name of the task, as in its path."),
    title=string("What the task does, in a few words."),
    description=string("What the task does, in a sentence or more."),
    method=constant("HTTP method: always `POST`.", "POST"),
    path=string("Path of the task."),
    agent=or_null(
        string("Agent that answers if a request names none; null for the server's default agent.")
    ),
    model=or_null(
        string("Model that answers if a request names none; null for the agent's default model.")
    ),
    limits=record(
        "Limits of each request to the task.",
        timeout=or_null(
            {
                "type": "number",
                "description": "Maximum time for a request, including its time in the queue, in "
                "seconds; null for the server's limit.",
            }
        ),
        prompt=or_null(
            integer("Maximum length of the prompt, in characters; null if the task sets no limit.")
        ),
    ),
    input=any_object("JSON Schema of the request body."),
    answer=any_object("JSON Schema of the answer."),
    example=record(
        "An example of a request and its answer.",
        input=any_object("A request body."),
        answer=any_object("Its answer."),
    ),
)

_REQUEST = record(
    "A request that is waiting or running, without its contents.",
    id=count("Number of the request in the server's log."),
    agent=string("Name of the agent that answers."),
    task=string("Name of the task, or `chat` for a chat completion."),
    client=string("Name of the client's token, or the client's address if there are no tokens."),
    priority=integer("Priority, from 0 to 9; 9 is the most urgent."),
    state=choice("`waiting` for a worker, or `running` on one.", "waiting", "running"),
    worker=or_null(string("Name of the worker that runs the request; null while it waits.")),
    attempts=count("Number of times the request was given to a worker."),
    age=duration("Time since the request arrived"),
    timeLeft=duration("Time until the request's deadline"),
    model=or_null(string("The model that the request or its task chose; null if neither did.")),
    approval=or_null(
        string("Identifier of the approval that the request waits for; null if it waits for none.")
    ),
)

_APPROVAL_ID = string("Identifier of the approval.")

_DECISION = choice("Whether the agent may use the tool, this one time.", "allow", "deny")

_APPROVAL = record(
    "An agent's request to use a tool.",
    id=_APPROVAL_ID,
    agent=string("Name of the agent."),
    worker=string("Name of the worker."),
    request=count("Number of the client's request in the server's log."),
    question=string("The question in the agent's words, which may quote a client."),
    age=duration("Time since the agent asked"),
    timeLeft=or_null(
        duration("Time until the deadline of the client's request, at which the use is denied")
    ),
)

#: Every schema component except those that `build_document` makes for one server.
SCHEMAS: Mapping[str, Schema] = {
    "Error": _ERROR,
    "Queue": _QUEUE,
    "Pool": _POOL,
    "Proof": _PROOF,
    "Canary": _CANARY,
    "Agent": record("An agent, its worker pool and its queue.", **_AGENT),
    "Agents": record("The state of the agents, or of the one that was asked for.", **_AGENTS),
    "Worker": record("A worker and its session.", **_WORKER),
    "Health": record(
        "The state of the server, its agents and its workers.",
        status=constant("Always `running`.", "running"),
        timestamp=timestamp("The server's current time"),
        version=string("Version of the server."),
        server=string("Name of the server, as in `GET /cluster`."),
        **_AGENTS,
        storage=ref("Storage", "Whether jobs can be stored."),
        workers=mapping("The workers of all agents by name.", ref("Worker")),
    ),
    "Cluster": record(
        "The servers that share the database, and the jobs that wait for them.",
        server=string("Name of the server that answers."),
        timestamp=timestamp("The current time of this server"),
        database=or_null(
            ref("Storage", "Whether this server reaches the database; null without one.")
        ),
        jobs=record(
            "The jobs that wait for any server.",
            queued=count("Their number."),
            oldest=duration("Age of the oldest of those that are next", zero="if none waits"),
        ),
        servers=array("The servers by their names.", ref("Server")),
    ),
    "Server": _SERVER,
    "Readiness": record(
        "Whether the server can take requests.",
        ("error", "code"),
        **_READINESS,
        agents=mapping("The readiness of each agent by name.", ref("AgentReadiness")),
        storage=ref("Storage", "Whether jobs can be stored."),
    ),
    "Storage": record(
        "Whether jobs and idempotency keys can be stored.",
        state=choice("`failing` while the storage fails; the server tries again.", "ok", "failing"),
        reason=or_null(string("What is wrong with the storage.")),
        since=timestamp("When it began to fail", "while it works"),
    ),
    "AgentReadiness": record(
        "Whether one agent can take requests.", ("error", "code"), **_READINESS
    ),
    "Catalogue": record(
        "The tasks and agents of the server.",
        tasks=array("The tasks.", ref("Task")),
        agents=array("Names of the agents; the first is the default.", STRING),
    ),
    "Task": _TASK,
    "Accepted": record(
        "A job that was accepted.",
        id=_JOB["id"],
        state=_JOB_STATE,
        location=_LOCATION,
        requestId=_JOB["requestId"],
    ),
    "Job": record(
        "A job and its outcome.",
        ("result", "error", "position", "usage"),
        **_JOB,
        position=count(
            "Position among the agent's queued jobs by arrival; 1 is the first. Present only while "
            "`queued`."
        ),
        result=any_object("The task's answer. Present only if `done`."),
        usage=record(
            "What the job used. Present only if `done`, and if the agent reported something.",
            credits=or_null(number("Credits; null if the agent does not report them.")),
            contextPercent=or_null(
                number(
                    "Share of the model's context that the conversation filled after the answer, "
                    "in percent; null if the agent does not report it."
                )
            ),
        ),
        error=ref("Error", "Why the job failed, with the HTTP `status`. Present only if `failed`."),
    ),
    "ListedJob": record(
        "A job in a list, without its outcome.",
        **_JOB,
        client=string(
            "Name of the client's token, or the client's address if there are no tokens."
        ),
    ),
    "Jobs": record(
        "A page of jobs.",
        jobs=array("The jobs, newest first.", ref("ListedJob")),
        next=or_null(string("Path of the next page; null on the last page.")),
    ),
    "HistoryEntry": record("A request, without its contents.", **_HISTORY_ENTRY),
    "RequestHistory": record(
        "A request with what happened to it.",
        ("recordings",),
        **_HISTORY_ENTRY,
        events=array("The events, in their order.", _HISTORY_EVENT),
        gaps=array(
            "What is missing of the events.",
            record(
                "Events that are missing.",
                reason=string("Why."),
                events=or_null(count("Their number; null if it is not known.")),
                at=or_null(
                    number(
                        "Seconds from the arrival of the request to the event before the gap; null "
                        "for a gap at the end."
                    )
                ),
            ),
        ),
        recordings=array(
            "Names of the recordings that the request is in, the newest last; those of an earlier "
            "server are only in `GET /recordings`. Present only for operators.",
            STRING,
        ),
        older=or_null(
            string(
                "Path of the next older request with the same identifier, such as the one that "
                "created the job; null if there is none."
            )
        ),
    ),
    "RequestPage": record(
        "A page of the request history.",
        requests=array("The requests, newest first.", ref("HistoryEntry")),
        next=or_null(string("Path of the next page; null on the last page.")),
        dropped=count("Number of requests of all clients that are no longer in the history."),
        gaps=array(
            "Times of which history may be missing, oldest first.",
            record(
                "A time of which history may be missing.",
                reason=string("Why."),
                begins=timestamp("When it begins", null="if that is not known"),
                ends=timestamp("When it ends"),
            ),
        ),
    ),
    "QueuedRequest": _REQUEST,
    "Requests": record(
        "The agents, and the requests that are waiting or running.",
        **_AGENTS,
        requests=array("The requests, in order of arrival.", ref("QueuedRequest")),
    ),
    "Approval": _APPROVAL,
    "Approvals": record(
        "The requests to use a tool that wait for a decision.",
        approvals=array("The requests, oldest first.", ref("Approval")),
    ),
    "Decision": record("A decision about a request to use a tool.", decision=_DECISION),
    "Decided": record(
        "A decision that was made.",
        id=_APPROVAL_ID,
        decision=_DECISION,
    ),
    "Recordings": record(
        "The recordings of sessions.",
        recordings=array(
            "The recordings, newest first.",
            record(
                "A recording of a session.",
                name=string("Name of the recording, for `GET /recordings/{name}`."),
                worker=string("Name of the worker."),
                agent=string("Name of the agent."),
                format={
                    "type": "string",
                    "enum": ["asciicast", "jsonl"],
                    "description": "Format: `asciicast` v3 of a terminal, or JSON lines of a "
                    "protocol.",
                },
                started=timestamp("When the recording began"),
                ended=timestamp("When it ended", null="while it is being written"),
                bytes={**COUNT, "description": "Size of the recording."},
                requests=array(
                    "Identifiers of the requests in it, oldest first, at most the last 100.",
                    STRING,
                ),
            ),
        ),
    ),
    "WorkerAction": record(
        "The worker that the operation applies to.",
        worker=ref(
            "NamedWorker", "The worker as it is now; the operation may still be in progress."
        ),
    ),
    "NamedWorker": record(
        "A worker and its session.", name=string("Name of the worker."), **_WORKER
    ),
    "WatchedState": record(
        "The state of the server, as the page shows it.",
        time=timestamp("The server's current time"),
        version=string("Version of the server."),
        operator=boolean("Whether the request has an operator's rights."),
        cluster=or_null(
            record(
                "The servers that share the database; null without one.",
                server=string("Name of this server."),
                database=ref("Storage", "Whether this server reaches the database."),
                servers=array("The servers by their names.", ref("Server")),
            )
        ),
        agents=mapping(
            "The agents by name.",
            record(
                "An agent, its worker pool, its queue and its outage.",
                **_AGENT,
                outage=or_null(
                    record(
                        "Why the agent cannot answer.",
                        **_OUTAGE,
                        retryAfter=or_null(
                            count("Seconds until the agent is tried again; null if not known.")
                        ),
                    )
                ),
            ),
        ),
        workers=mapping(
            "The workers of all agents by name.",
            record(
                "A worker, its session, and what it does.",
                **_WORKER,
                memory=or_null(count("Bytes of memory of its processes; null if not known.")),
                cpu=or_null(number("Use of processors, in percent of one; null if not known.")),
                view=choice("How its session can be watched.", "terminal", "messages"),
                request=or_null(
                    record(
                        "What it answers; null if nothing.",
                        id=or_null(string("Identifier of the request; null for one of others.")),
                        task=string("Name of the task, or `chat`."),
                        phase=choice(
                            "The last event that began a phase.",
                            "received",
                            "queued",
                            "started",
                            "submitted",
                            "first_output",
                            "tool_asked",
                            "answered",
                            "retry",
                        ),
                        since=timestamp("When the phase began"),
                    )
                ),
            ),
        ),
        queue=array(
            "The first hundred requests of each agent that wait, oldest first; "
            "`agents` has the length of each queue.",
            record(
                "A request that waits.",
                id=or_null(string("Identifier of the request; null for one of others.")),
                task=string("Name of the task, or `chat`."),
                agent=string("Name of the agent."),
                priority=integer("Priority from 0 to 9."),
                age=duration("Time since it arrived"),
            ),
        ),
        approvals=array(
            "What operators must decide; empty for others.",
            ref("Approval"),
        ),
    ),
    "WatchedRequest": record(
        "A request with what happened to it.",
        **{
            **_HISTORY_ENTRY,
            "id": or_null(string("Identifier of the request; null for one of others.")),
        },
        number=count("Number of the request, which tells it from others."),
        events=array("The events, in their order.", _HISTORY_EVENT),
        gaps=array("What is missing of the events.", any_object("As in `GET /requests/{id}`.")),
    ),
    "LoadSample": record(
        "The load in the last two seconds.",
        time=timestamp("When it was sampled"),
        busy=count("Number of workers that answered."),
        workers=count("Number of workers."),
        queued=count("Number of requests that waited."),
        wait=_seconds("Mean time in the queue of requests that ended"),
        first=_seconds("Mean time until their first output"),
        total=_seconds("Mean time until their end"),
        requests=count("Number of requests that ended."),
        failures=count("Number of those that failed."),
    ),
    "Outage": record(
        "A time in which an agent could not answer.",
        agent=string("Name of the agent."),
        **_OUTAGE,
        until=timestamp("When it ended", null="until then"),
    ),
    "SignIn": record(
        "A token, to be exchanged for a session.",
        token=string("The token, from the server's `--token-file`.", minLength=1, maxLength=1000),
    ),
    "Session": record(
        "The rights of a request.",
        needsToken=boolean("Whether requests need a token or a session."),
        signedIn=boolean("Whether the request has a token or a session."),
        name=or_null(string("Name of the token; null without one.")),
        scopes=array("What the request may do.", choice("A scope.", "ask", "watch", "operate")),
        operator=boolean("Whether the request has an operator's rights."),
    ),
    "ChatMessage": _MESSAGE,
    "ChatCompletion": _COMPLETION,
    "Model": record(
        "An agent or one of its models, as a model of OpenAI's API.",
        id=string(
            "Name of the model: an agent's name, an alias of the default agent, or `AGENT/MODEL`."
        ),
        object=constant("Always `model`.", "model"),
        created=integer("When the server started, in seconds since the Unix epoch."),
        owned_by=string("Always `kiroworkers`."),
    ),
    "Models": record(
        "The models.",
        object=constant("Always `list`.", "list"),
        data=array(
            "The models: one per agent, the aliases of the default agent, and the agents' models "
            "that clients may choose.",
            ref("Model"),
        ),
    ),
    "OpenAIError": record(
        "Why a request failed, in the format of OpenAI's API.",
        error=record(
            "The error.",
            ("reasons", "retryAfter", "queue", "worker", "request", "requestId"),
            message=string("One sentence for people. Its wording may change."),
            type=string(
                "Kind of error: `invalid_request_error`, `authentication_error`, "
                "`permission_error`, `rate_limit_error` or `server_error`."
            ),
            param=or_null(
                string("Dotted path of the invalid field, or name of the invalid header; or null.")
            ),
            code=string("One word for programs. It does not change."),
            **ERROR_DETAILS,
        ),
    ),
}
