"""
The description, put together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kiroworkers import __version__
from kiroworkers.tasks import Task
from kiroworkers.web.openai.errors import is_openai_path
from kiroworkers.web.openai.routes import DEFAULTS
from kiroworkers.web.openapi.failures import MEANING, codes
from kiroworkers.web.openapi.operations import (
    HEADERS,
    JSON,
    OPERATIONS,
    PARAMETERS,
    TAGS,
    Operation,
    ResponseDoc,
    task,
)
from kiroworkers.web.openapi.routes import Route
from kiroworkers.web.openapi.schemas import CHAT, SCHEMAS, Schema, or_null, record, ref
from kiroworkers.web.openapi.task_schemas import schemas_of

_ABOUT = (
    "Warm sessions of terminal agents that answer with typed JSON. Failures are JSON as well: "
    "`error` is a sentence, `code` a word for programs."
)

#: The route of each task, and what is variable in it.
_TASK, _NAME = "answer", "{name}"

#: Routes that only lead to pages, or away.
_OF_PAGES = ("start", "asset")


def document(
    routes: Iterable[Route],
    tasks: Mapping[str, Task],
    agents: Sequence[str],
    needs_token: bool = False,
    calls_back: bool = False,
) -> dict[str, Any]:
    """
    The API that has these `routes`, `tasks` and names of `agents`.

    Args:
        needs_token: must a request bear one?
        calls_back: can it ask to be called back?
    """
    paths: dict[str, dict[str, Any]] = {}
    absent = set() if calls_back else {"Callback"}
    for route in routes:
        if route.name in _OF_PAGES:
            continue
        named = {each.name: each for each in tasks.values()} if route.name == _TASK else {"": None}
        for name, each in named.items():
            path = route.path if each is None else route.path.replace(_NAME, name)
            found = _operation(route, each, needs_token, absent)
            paths.setdefault(path, {})[route.method.lower()] = found
    parameters = {name: each for name, each in PARAMETERS.items() if name not in absent}
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
                "description": "A token of --token-file that is good for what the operation needs: "
                "ask, watch or operate.",
            }
        }
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "kiroworkers",
            "version": __version__,
            "summary": "A pool of terminal agents",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": each} for name, each in TAGS.items()],
        "paths": paths,
        "components": components,
    }


def _operation(
    route: Route, about: Task | None, needs_token: bool, absent: set[str]
) -> dict[str, Any]:
    if about is None:
        operation, name = OPERATIONS[route.name], route.name
        summary, description = route.summary, route.description
    else:
        name = f"ask-{about.name}"
        answer, body = ref(f"{about.name}.answer"), ref(f"{about.name}.input")
        operation = task(answer, body, about.example_input)
        summary, description = about.title, about.description
    found: dict[str, Any] = {
        "operationId": name,
        "tags": [operation.tag],
        "summary": summary,
        "description": description,
        "parameters": [
            {"$ref": f"#/components/parameters/{each}"}
            for each in operation.parameters
            if each not in absent
        ],
        "responses": {
            **{str(code): _response(each, about) for code, each in operation.responses.items()},
            **_failures_of(operation, route.path, needs_token),
        },
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": operation.body}
        if operation.example is not None:
            content["example"] = operation.example
        found["requestBody"] = {"required": True, "content": {JSON: content}}
    if needs_token and operation.scope is not None:
        found["security"] = [{"token": [operation.scope]}]
    return found


def _response(response: ResponseDoc, about: Task | None) -> dict[str, Any]:
    found: dict[str, Any] = {"description": response.description}
    if response.headers:
        found["headers"] = {
            name: {"$ref": f"#/components/headers/{name}"} for name in response.headers
        }
    if response.content:
        found["content"] = {
            kind: {"schema": schema, **_example(schema, about)}
            for kind, schema in response.content.items()
        }
    if response.links:
        found["links"] = response.links
    return found


def _example(schema: Schema, about: Task | None) -> dict[str, Any]:
    if about is None or schema != ref(f"{about.name}.answer"):
        return {}
    return {"example": about.example_answer}


def _failures_of(operation: Operation, path: str, needs_token: bool) -> dict[str, Any]:
    prefix = "openai-" if is_openai_path(path) else ""
    return {
        str(status): {"$ref": f"#/components/responses/{prefix}{status}"}
        for status in operation.failures
        if needs_token or status != 401
    }


def _failures(prefix: str, kind: str) -> dict[str, Any]:
    """
    A response for every status that a failure can have.
    """
    return {
        f"{prefix}{status}": {
            "description": f"{MEANING[status]} Codes: {', '.join(found)}.",
            "content": {JSON: {"schema": ref(kind)}},
            **({"headers": _RETRY} if status in (429, 503) else {}),
        }
        for status, found in codes().items()
    }


_RETRY = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}


def _chat(agents: Sequence[str]) -> dict[str, Any]:
    names = [*dict.fromkeys((*agents, *DEFAULTS))]
    model = {"type": "string", "enum": names, "description": "Who is to answer."}
    return {**CHAT, "properties": {**CHAT["properties"], "model": model}}


def _workers(agents: Sequence[str]) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": 512}
    agent = or_null({"type": "string", "enum": [*agents]})
    return record(("agent",), workers=number, agent=agent)
