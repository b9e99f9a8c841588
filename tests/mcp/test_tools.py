"""
Tests for `kiroworkers.mcp.tools` and `kiroworkers.mcp.results`.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp.errors import INVALID_PARAMS, McpError
from kiroworkers.mcp.jsonrpc import Request
from kiroworkers.mcp.results import tool_error, tool_result
from kiroworkers.mcp.tools import ToolList, called_tool, check_cursor, tool_json, unknown_tool
from kiroworkers.tasks import builtin_tasks


class ToolTests(SynchronousTestCase):
    """
    Tests for tasks as tools.
    """

    def test_tool(self) -> None:
        """
        A tool has the task's name, texts and schemas, and an example that fits its schema.
        """
        for task in builtin_tasks().values():
            tool = tool_json(task)
            self.assertEqual(tool["name"], task.name)
            self.assertEqual(tool["title"], task.title)
            self.assertTrue(tool["description"].startswith(task.description))
            self.assertIn(json.dumps(task.example_input, ensure_ascii=False), tool["description"])
            self.assertEqual(tool["outputSchema"], task.answer_schema)
            self.assertEqual(
                {**tool["inputSchema"], "examples": None}, {**task.input_schema, "examples": None}
            )
            [example] = tool["inputSchema"]["examples"]
            Draft202012Validator.check_schema(tool["inputSchema"])
            Draft202012Validator(tool["inputSchema"]).validate(example)

    def test_no_headers(self) -> None:
        """
        A tool asks for no argument to be repeated in a header, but may have one of such a name.
        """
        task = builtin_tasks()["generate-story"]
        marked = {
            "type": "object",
            "properties": {
                "x-mcp-header": {"type": "string", "x-mcp-header": "X"},
                "idea": {"type": "array", "items": {"x-mcp-header": "Y"}},
            },
        }
        schema = tool_json(evolve(task, input_schema=marked))["inputSchema"]
        self.assertEqual(
            schema["properties"],
            {"x-mcp-header": {"type": "string"}, "idea": {"type": "array", "items": {}}},
        )

    def test_list(self) -> None:
        """
        The list has all tasks in their order, and follows changes of the tasks.
        """
        tasks = {**builtin_tasks()}
        tools = ToolList()
        first = tools.of(tasks.values())
        self.assertEqual([tool["name"] for tool in first], [*tasks])
        self.assertIs(tools.of(builtin_tasks().values()), first)
        task = tasks["generate-story"]
        tasks["generate-story"] = evolve(task, title="Another title")
        titles = [tool["title"] for tool in tools.of(tasks.values())]
        self.assertIn("Another title", titles)

    def test_cursor(self) -> None:
        """
        There is only one page.
        """
        check_cursor(Request(1, "tools/list", {"cursor": None}))
        cursor: Any
        for cursor in ("", "2", 5, {}):
            message = Request(1, "tools/list", {"cursor": cursor})
            error = self.assertRaises(McpError, check_cursor, message)
            self.assertEqual(error.code, INVALID_PARAMS)

    def test_call(self) -> None:
        """
        A call has a name and arguments, which may be missing.
        """
        for params in ({"name": "a"}, {"name": "a", "arguments": None}):
            self.assertEqual(called_tool(Request(1, "tools/call", params)), ("a", {}))
        message = Request(1, "tools/call", {"name": "a", "arguments": {"b": 1}})
        self.assertEqual(called_tool(message), ("a", {"b": 1}))

    def test_wrong_call(self) -> None:
        """
        A name that is no string and arguments that are no object are refused.
        """
        for name, wrong in (("name", None), ("name", 5), ("arguments", []), ("arguments", "x")):
            message = Request(1, "tools/call", {"name": "a", name: wrong})
            error = self.assertRaises(McpError, called_tool, message)
            self.assertEqual((error.code, error.data["field"]), (INVALID_PARAMS, f"params.{name}"))

    def test_unknown(self) -> None:
        """
        An unknown tool's name is quoted, and no more than its beginning.
        """
        self.assertIn("'x\\ny'", str(unknown_tool("x\ny")))
        self.assertLess(len(str(unknown_tool("x" * 100_000))), 200)


class ResultTests(SynchronousTestCase):
    """
    Tests for results.
    """

    def test_answer(self) -> None:
        """
        An answer is text and structured content, with how it came about.
        """
        answer = {"title": "Ü", "points": 3}
        result = tool_result(answer, {"Worker": "worker1", "Tools-Denied": "2"})
        self.assertEqual(json.loads(result["content"][0]["text"]), answer)
        self.assertEqual((result["structuredContent"], result["isError"]), (answer, False))
        self.assertEqual(
            result["_meta"], {"kiroworkers/worker": "worker1", "kiroworkers/tools-denied": "2"}
        )

    def test_failure(self) -> None:
        """
        A failure is text for the model, and details for programs.
        """
        result = tool_error({"error": "idea is required", "code": "invalid_input", "field": "idea"})
        self.assertEqual(
            result,
            {
                "content": [{"type": "text", "text": "idea is required"}],
                "isError": True,
                "_meta": {"kiroworkers/error": {"code": "invalid_input", "field": "idea"}},
            },
        )
