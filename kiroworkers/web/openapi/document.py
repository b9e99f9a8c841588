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
from kiroworkers.web.openapi.failures import MEANINGS, codes_by_status
from kiroworkers.web.openapi.operations import (
    HEADERS,
    JSON,
    OPERATIONS,
    PARAMETERS,
    TAGS,
    Operation,
    ResponseDoc,
    task_operation,
)
from kiroworkers.web.openapi.routes import Route
from kiroworkers.web.openapi.schemas import (
    CHAT,
    SCHEMAS,
    Schema,
    choice,
    integer,
    or_null,
    record,
    ref,
)
from kiroworkers.web.openapi.task_schemas import schemas_of

_DESCRIPTION = (
    "kiroworkers keeps sessions of terminal AI agents ready and returns their answers as JSON that "
    "fits a schema. Failures are JSON, too: `error` is a sentence for people, and `code` is a word "
    "for programs."
)

#: The route that serves all tasks, and the variable part of its path.
_TASK_ROUTE, _TASK_NAME = "answer", "{name}"

#: Routes that only serve the files of the API page, or redirect to it.
_UNDOCUMENTED_ROUTES = ("start", "asset")

_RETRY_HEADERS = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}


def build_document(
    routes: Iterable[Route],
    tasks: Mapping[str, Task],
    agents: Sequence[str],
    needs_token: bool = False,
    has_callbacks: bool = False,
) -> dict[str, Any]:
    """
    Return the OpenAPI document of a server.

    Args:
        routes: The routes of the server.
        tasks: The tasks by name.
        agents: Names of the agents; the first is the default.
        needs_token: Whether requests must have a token.
        has_callbacks: Whether the server calls the URL in ``X-Callback``.
    """
    paths: dict[str, dict[str, Any]] = {}
    unsupported = set() if has_callbacks else {"Callback"}
    for route in routes:
        if route.name in _UNDOCUMENTED_ROUTES:
            continue
        for task in tasks.values() if route.name == _TASK_ROUTE else (None,):
            path = route.path if task is None else route.path.replace(_TASK_NAME, task.name)
            operation = _operation(route, task, needs_token, unsupported)
            paths.setdefault(path, {})[route.method.lower()] = operation
    parameters = {
        name: parameter for name, parameter in PARAMETERS.items() if name not in unsupported
    }
    for name in ("Agent", "AgentQuery"):
        parameters[name] = {**parameters[name], "schema": {"type": "string", "enum": [*agents]}}
    components: dict[str, Any] = {
        "schemas": {
            **SCHEMAS,
            "Workers": _workers(agents),
            "Chat": _chat(agents),
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
    Return the operation object of `route`, or of `task` at the route of tasks.
    """
    if task is None:
        operation, name = OPERATIONS[route.name], route.name
        summary, description = route.summary, route.description
    else:
        name = f"ask-{task.name}"
        answer, body = ref(f"{task.name}.answer"), ref(f"{task.name}.input")
        operation = task_operation(answer, body, task.example_input)
        summary, description = task.title.rstrip(".") + ".", task.description
    documented: dict[str, Any] = {
        "operationId": name,
        "tags": [operation.tag],
        "summary": summary,
        **({"description": description} if description else {}),
        "parameters": [
            {"$ref": f"#/components/parameters/{parameter}"}
            for parameter in operation.parameters
            if parameter not in unsupported
        ],
        "responses": {
            **{
                str(status): _response(response, task)
                for status, response in operation.responses.items()
            },
            **_failure_references(operation, route.path, needs_token),
        },
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": operation.body}
        if operation.example is not None:
            content["example"] = operation.example
        documented["requestBody"] = {
            "description": "The request, as JSON.",
            "required": True,
            "content": {JSON: content},
        }
    if needs_token and operation.scope is not None:
        documented["security"] = [{"token": [operation.scope]}]
    return documented


def _response(response: ResponseDoc, task: Task | None) -> dict[str, Any]:
    documented: dict[str, Any] = {"description": response.description}
    if response.headers:
        documented["headers"] = {
            name: {"$ref": f"#/components/headers/{name}"} for name in response.headers
        }
    if response.content:
        documented["content"] = {
            media_type: {"schema": schema, **_example(schema, task)}
            for media_type, schema in response.content.items()
        }
    if response.links:
        documented["links"] = response.links
    return documented


def _example(schema: Schema, task: Task | None) -> dict[str, Any]:
    if task is None or schema != ref(f"{task.name}.answer"):
        return {}
    return {"example": task.example_answer}


def _failure_references(operation: Operation, path: str, needs_token: bool) -> dict[str, Any]:
    prefix = "openai-" if is_openai_path(path) else ""
    return {
        str(status): {"$ref": f"#/components/responses/{prefix}{status}"}
        for status in operation.failures
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
            "description": f"{MEANINGS[status]} Codes: {', '.join(f'`{code}`' for code in codes)}.",
            "content": {JSON: {"schema": ref(schema)}},
            **({"headers": _RETRY_HEADERS} if status in (429, 503) else {}),
        }
        for status, codes in codes_by_status().items()
    }


def _chat(agents: Sequence[str]) -> dict[str, Any]:
    """
    Return the schema of a chat completion request, with the models that there are.
    """
    models = [*dict.fromkeys((*agents, *DEFAULT_MODELS))]
    model = {**CHAT["properties"]["model"], "enum": models}
    return {**CHAT, "properties": {**CHAT["properties"], "model": model}}


def _workers(agents: Sequence[str]) -> dict[str, Any]:
    return record(
        "A new size for a worker pool.",
        ("agent",),
        workers=integer("Number of workers.", minimum=1, maximum=512),
        agent=or_null(choice("Name of the agent; null or absent for the default agent.", *agents)),
    )
