"""
Assemble the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kiroworkers import __version__
from kiroworkers.errors import CATALOGUE, FailureCode
from kiroworkers.tasks import Task
from kiroworkers.web.chat.models import DEFAULT_MODELS
from kiroworkers.web.error_formats import error_format
from kiroworkers.web.openapi.anthropic import (
    ANTHROPIC_SCHEMAS,
    COUNTED_REQUEST,
    MESSAGE_REQUEST,
)
from kiroworkers.web.openapi.components import HEADERS, PARAMETERS, TAGS, header_references
from kiroworkers.web.openapi.examples import EXAMPLES
from kiroworkers.web.openapi.failures import (
    FailureResponses,
    describe,
    failure_schemas,
    schema_name,
)
from kiroworkers.web.openapi.mcp import MCP_SCHEMAS
from kiroworkers.web.openapi.model_responses import RESPONSE_REQUEST, RESPONSE_SCHEMAS
from kiroworkers.web.openapi.responses import JSON
from kiroworkers.web.openapi.schemas import (
    CHAT,
    SCHEMAS,
    TASK_ANSWER,
    TASK_INPUT,
    Schema,
    choice,
    integer,
    or_null,
    record,
    ref,
)
from kiroworkers.web.openapi.stream_events import (
    JOB_EVENTS,
    TASK_EVENTS,
    WATCH_EVENTS,
    events_schema,
)
from kiroworkers.web.openapi.task_schemas import schemas_of
from kiroworkers.web.operator import MAX_WORKERS
from kiroworkers.web.routing import ResponseDoc, Route
from kiroworkers.web.tokens import GRANTED_BY

_DESCRIPTION = (
    "kiroworkers keeps sessions of terminal AI agents ready and returns their answers as JSON that "
    "fits a schema. Failures are JSON, too: `error` is a sentence for people, and `code` is a word "
    "for programs."
)

#: The variable part of a path that stands for a task: each task has such a path.
_TASK_VARIABLE = "{task_name}"


def build_document(
    routes: Iterable[Route],
    tasks: Mapping[str, Task],
    agents: Sequence[str],
    needs_token: bool = False,
    has_callbacks: bool = False,
    models: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Return the OpenAPI document of a server.

    Args:
        routes: The routes of the server.
        tasks: The tasks by name.
        agents: Names of the agents; the first is the default.
        needs_token: Whether requests must have a token.
        has_callbacks: Whether the server calls the URL in ``X-Callback``.
        models: The models that clients may choose, as ``AGENT/MODEL``.
    """
    paths: dict[str, dict[str, Any]] = {}
    failures = FailureResponses()
    supported = {"Callback": has_callbacks, "AgentModel": bool(models)}
    unsupported = {name for name, is_supported in supported.items() if not is_supported}
    for route in routes:
        if route.tag is None:
            continue
        for task in tasks.values() if _TASK_VARIABLE in route.path else (None,):
            path = route.path if task is None else route.path.replace(_TASK_VARIABLE, task.name)
            operation = _operation(route, task, needs_token, unsupported, failures)
            paths.setdefault(path, {})[route.method.lower()] = operation
    parameters = {
        name: parameter for name, parameter in PARAMETERS.items() if name not in unsupported
    }
    for name in ("Agent", "AgentQuery"):
        parameters[name] = {**parameters[name], "schema": {"type": "string", "enum": [*agents]}}
    if models:
        names = [*dict.fromkeys(name.partition("/")[2] for name in models)]
        schema = {"type": "string", "enum": names}
        parameters["AgentModel"] = {**parameters["AgentModel"], "schema": schema}
    components: dict[str, Any] = {
        "schemas": {
            **SCHEMAS,
            **ANTHROPIC_SCHEMAS,
            **MCP_SCHEMAS,
            **RESPONSE_SCHEMAS,
            **failure_schemas(),
            "TaskEvents": events_schema("a task", TASK_EVENTS),
            "JobEvents": events_schema("a job", JOB_EVENTS),
            "WatchEvents": events_schema("the stream of the page", WATCH_EVENTS),
            "Workers": _workers(agents),
            "Chat": _with_models(CHAT, agents, models),
            "ResponseRequest": _with_models(RESPONSE_REQUEST, agents, models),
            "MessageRequest": _with_models(MESSAGE_REQUEST, agents, models),
            "CountedRequest": _with_models(COUNTED_REQUEST, agents, models),
            **schemas_of(tasks),
        },
        "responses": failures.components,
        "parameters": parameters,
        "headers": HEADERS,
    }
    if needs_token:
        components["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token from the server's `--token-file`, with the scope that the "
                "operation needs: `ask`, `watch` or `operate`.",
            },
            "apiKey": {
                "type": "apiKey",
                "in": "header",
                "name": "x-api-key",
                "description": "The same token, as clients of Anthropic's API send it. It is not "
                "looked at if there is one in `Authorization`.",
            },
        }
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "kiroworkers",
            "version": __version__,
            "summary": "A pool of terminal AI agents behind an HTTP API.",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": components,
    }


def _operation(
    route: Route,
    task: Task | None,
    needs_token: bool,
    unsupported: set[str],
    failures: FailureResponses,
) -> dict[str, Any]:
    """
    Return the operation object of `route`, or of `task` if `route` is that of tasks.
    """
    if task is None:
        name, summary, description = route.name, route.summary, route.description
    else:
        name, description = f"ask-{task.name}", task.description
        summary = task.title.rstrip(".") + "."
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [route.tag],
        "summary": summary,
        **({"description": description} if description else {}),
        "parameters": [
            {"$ref": f"#/components/parameters/{parameter}"}
            for parameter in route.parameters
            if parameter not in unsupported
        ],
        "responses": {
            **{
                str(status): _response(response, task, _failures_of(route, status))
                for status, response in route.responses.items()
            },
            **{
                str(status): reference
                for status, reference in failures.by_status(
                    _documented_failures(route, needs_token), error_format(route.path)
                ).items()
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "description": "The request, as JSON.",
            "required": True,
            "content": {JSON: _content(route.body.schema, task, route.body.example)},
        }
    if needs_token:
        scopes = () if route.scope is None else GRANTED_BY[route.scope]
        operation["security"] = [
            {scheme: [scope]} for scheme in ("token", "apiKey") for scope in scopes
        ]
    return operation


def _failures_of(route: Route, status: int) -> list[FailureCode]:
    """
    Return the failures of `route` with `status`.
    """
    return [code for code in CATALOGUE if code in route.failures and status in code.statuses]


def _documented_failures(route: Route, needs_token: bool) -> list[FailureCode]:
    """
    Return the failures of `route` that have no response of their own.
    """
    own = {*route.responses} if needs_token else {*route.responses, 401}
    return [code for code in route.failures if code.status not in own]


def _response(
    response: ResponseDoc, task: Task | None, failures: Sequence[FailureCode]
) -> dict[str, Any]:
    """
    Return the response object of `response`, or of one of the `failures` with its status.
    """
    documented: dict[str, Any] = {"description": response.description}
    if failures:
        documented["description"] += f"\n\n{describe(failures)}"
    documented["headers"] = header_references(response.headers)
    if response.content:
        documented["content"] = {
            media_type: _content(schema, task) for media_type, schema in response.content.items()
        }
    for code in failures:
        content = documented["content"][JSON]
        content["schema"] = {"anyOf": [content["schema"], ref(schema_name(code))]}
    if response.links:
        documented["links"] = response.links
    return documented


def _content(
    schema: Schema, task: Task | None, example: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    Return the media type object for `schema`.

    If `schema` stands for a schema of `task`, that one is used, with the task's example.
    """
    if example is None:
        example = EXAMPLES.get(str(schema.get("$ref", "")).rpartition("/")[2])
    if task is not None and schema is TASK_INPUT:
        schema, example = ref(f"{task.name}.input"), task.example_input
    elif task is not None and schema is TASK_ANSWER:
        schema, example = ref(f"{task.name}.answer"), task.example_answer
    return {"schema": schema, **({} if example is None else {"example": example})}


def _with_models(schema: Schema, agents: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """
    Return the `schema` of a request to continue a conversation, with the server's models.
    """
    names = [*dict.fromkeys((*agents, *DEFAULT_MODELS, *models))]
    model = {**schema["properties"]["model"], "enum": names}
    return {**schema, "properties": {**schema["properties"], "model": model}}


def _workers(agents: Sequence[str]) -> dict[str, Any]:
    return record(
        "A new size for a worker pool.",
        ("agent",),
        workers=integer("Number of workers.", minimum=1, maximum=MAX_WORKERS),
        agent=or_null(choice("Name of the agent; null or absent for the default agent.", *agents)),
    )
