"""
Describe tasks as tools, and read the parameters of ``tools/list`` and ``tools/call``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kiroworkers.errors import ErrorCode
from kiroworkers.mcp.errors import INVALID_PARAMS, McpError, invalid_params, quoted
from kiroworkers.mcp.jsonrpc import Request
from kiroworkers.tasks import Task

#: What is true of every task: it answers a question and changes nothing at the client, but an
#: answer costs a turn and may differ each time, and the agent's model is somewhere else.
_ANNOTATIONS = {
    "readOnlyHint": True,
    "destructiveHint": False,
    "idempotentHint": False,
    "openWorldHint": True,
}

#: The keyword with which a schema asks clients to repeat an argument in a header.  The server reads
#: no such headers, so it does not ask for them.
_HEADER_KEYWORD = "x-mcp-header"


def tool_json(task: Task) -> dict[str, Any]:
    """
    Return `task` as a tool.

    The example of its input is in the description, which models read, and in the schema.
    """
    example = json.dumps(task.example_input, ensure_ascii=False)
    return {
        "name": task.name,
        "title": task.title,
        "description": f"{task.description}\n\nExample of the arguments: {example}",
        "inputSchema": {
            **_without_headers(task.input_schema),
            "examples": [task.example_input],
        },
        "outputSchema": task.answer_schema,
        "annotations": {"title": task.title, **_ANNOTATIONS},
    }


class ToolList:
    """
    Keep the list of tools until the tasks change.
    """

    def __init__(self) -> None:
        self._tasks: tuple[Task, ...] = ()
        self._tools: list[dict[str, Any]] = []

    def of(self, tasks: Iterable[Task]) -> list[dict[str, Any]]:
        """
        Return `tasks` as tools, in their order.
        """
        current = tuple(tasks)
        if current != self._tasks:
            self._tools = [*map(tool_json, current)]
        # Equal tasks that were read again are compared once; the same tasks take no time.
        self._tasks = current
        return self._tools


def check_cursor(message: Request) -> None:
    """
    Check that ``tools/list`` asks for the first page: all tools are on it.

    Raises:
        McpError: It asks for another one.
    """
    if message.params.get("cursor") is not None:
        field = "params.cursor"
        raise invalid_params(field, f"{field} is unknown: all tools are on one page")


def called_tool(message: Request) -> tuple[str, Mapping[str, Any]]:
    """
    Return the name and the arguments of a call of a tool.

    Raises:
        McpError: They have the wrong types.
    """
    name = message.params.get("name")
    if not isinstance(name, str):
        raise invalid_params("params.name", "params.name must be a string")
    arguments = message.params.get("arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise invalid_params("params.arguments", "params.arguments must be an object")
    return name, arguments


def unknown_tool(name: str) -> McpError:
    """
    Return the error for a call of a tool that does not exist.
    """
    message = f"Unknown tool {quoted(name)}; tools/list has the names"
    return McpError(INVALID_PARAMS, message, ErrorCode.UNKNOWN_TASK, {"field": "params.name"})


def _without_headers(schema: Any) -> Any:
    """
    Return `schema` without the keyword `_HEADER_KEYWORD`, wherever a schema may have it.
    """
    if isinstance(schema, Mapping):
        return {
            name: _without_headers(member)
            for name, member in schema.items()
            if not (name == _HEADER_KEYWORD and isinstance(member, str))
        }
    if isinstance(schema, list):
        return [*map(_without_headers, schema)]
    return schema
