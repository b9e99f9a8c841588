"""
Assemble the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kiroworkers import __version__
from kiroworkers.tasks import Task
from kiroworkers.web.openai.errors import is_openai_path
from kiroworkers.web.openai.routes import DEFAULT_MODELS
from kiroworkers.web.openapi.components import HEADERS, PARAMETERS, TAGS
from kiroworkers.web.openapi.failures import codes_by_status, describe
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

_RETRY_HEADERS = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}


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
    supported = {"Callback": has_callbacks, "AgentModel": bool(models)}
    unsupported = {name for name, is_supported in supported.items() if not is_supported}
    for route in routes:
        if route.tag is None:
            continue
        for task in tasks.values() if _TASK_VARIABLE in route.path else (None,):
            path = route.path if task is None else route.path.replace(_TASK_VARIABLE, task.name)
            operation = _operation(route, task, needs_token, unsupported)
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
            "Workers": _workers(agents),
            "Chat": _chat(agents, models),
            **schemas_of(tasks),
        },
        "responses": {**_failures("", "Error"), **_failures("openai-", "OpenAIError")},
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
            }
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
    route: Route, task: Task | None, needs_token: bool, unsupported: set[str]
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
                str(status): _response(response, task)
                for status, response in route.responses.items()
            },
            **_failure_references(route, needs_token),
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "description": "The request, as JSON.",
            "required": True,
            "content": {JSON: _content(route.body.schema, task, route.body.example)},
        }
    if needs_token and route.scope is not None:
        operation["security"] = [{"token": [scope]} for scope in GRANTED_BY[route.scope]]
    return operation


def _response(response: ResponseDoc, task: Task | None) -> dict[str, Any]:
    documented: dict[str, Any] = {"description": response.description}
    if response.headers:
        documented["headers"] = {
            name: {"$ref": f"#/components/headers/{name}"} for name in response.headers
        }
    if response.content:
        documented["content"] = {
            media_type: _content(schema, task) for media_type, schema in response.content.items()
        }
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
    if task is not None and schema is TASK_INPUT:
        schema, example = ref(f"{task.name}.input"), task.example_input
    elif task is not None and schema is TASK_ANSWER:
        schema, example = ref(f"{task.name}.answer"), task.example_answer
    return {"schema": schema, **({} if example is None else {"example": example})}


def _failure_references(route: Route, needs_token: bool) -> dict[str, Any]:
    statuses = {failure.status for failure in route.failures} - {*route.responses}
    prefix = "openai-" if is_openai_path(route.path) else ""
    return {
        str(status): {"$ref": f"#/components/responses/{prefix}{status}"}
        for status in sorted(statuses)
        if needs_token or status != 401
    }


def _failures(prefix: str, schema: str) -> dict[str, Any]:
    """
    Return a response component for every status of a failure.

    Args:
        prefix: What the names of the components begin with.
        schema: Name of the schema component of the body.
    """
    return {
        f"{prefix}{status}": {
            "description": describe(codes),
            "content": {JSON: {"schema": ref(schema)}},
            **({"headers": _RETRY_HEADERS} if any(code.retryable for code in codes) else {}),
        }
        for status, codes in codes_by_status().items()
    }


def _chat(agents: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """
    Return the schema of a chat completion request, with the server's models.
    """
    names = [*dict.fromkeys((*agents, *DEFAULT_MODELS, *models))]
    model = {**CHAT["properties"]["model"], "enum": names}
    return {**CHAT, "properties": {**CHAT["properties"], "model": model}}


def _workers(agents: Sequence[str]) -> dict[str, Any]:
    return record(
        "A new size for a worker pool.",
        ("agent",),
        workers=integer("Number of workers.", minimum=1, maximum=MAX_WORKERS),
        agent=or_null(choice("Name of the agent; null or absent for the default agent.", *agents)),
    )
