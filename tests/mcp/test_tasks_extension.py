"""
Tests for `kiroworkers.mcp.tasks_extension`.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import ErrorCode
from kiroworkers.jobs.job import JobAnswer, JobFailure
from kiroworkers.mcp.errors import McpError
from kiroworkers.mcp.tasks_extension import (
    MAX_FOLLOWED,
    check_input_responses,
    followed_ids,
    not_declared,
    task_fields,
    task_id,
)
from tests.jobs.support import new_job

#: The seconds for which the results of the tests are kept.
_HOUR = 3600.0


class TaskFieldsTests(SynchronousTestCase):
    """
    Tests for `task_fields`, of jobs that were created at 1000 s.
    """

    def fields(self, now: float = 1010.0, **fields: Any) -> dict[str, Any]:
        return task_fields(new_job("a", **fields), now, _HOUR)

    def test_queued(self) -> None:
        """
        A queued job is a task that works, with its position.
        """
        self.assertEqual(
            self.fields(position=3),
            {
                "taskId": "a",
                "status": "working",
                "statusMessage": "The task waits for a worker, at position 3",
                "createdAt": "1970-01-01T00:16:40.000Z",
                "lastUpdatedAt": "1970-01-01T00:16:40.000Z",
                "ttlMs": 3610_000,
                "pollIntervalMs": 3000,
            },
        )
        self.assertEqual(self.fields()["statusMessage"], "The task waits for a worker")

    def test_running(self) -> None:
        """
        A job that runs is a task that works; its message has the number of attempts from the
        second one.
        """
        for attempts, message in [
            (1, "An agent works on the task"),
            (2, "An agent works on the task, in attempt 2"),
        ]:
            fields = self.fields(state="running", attempts=attempts)
            self.assertEqual((fields["status"], fields["statusMessage"]), ("working", message))
            self.assertEqual(fields["pollIntervalMs"], 1000)

    def test_ended(self) -> None:
        """
        An ended job is a task with a fixed time to live, that of its result, and without an
        interval between polls.
        """
        answer = JobAnswer({"title": "x"})
        for state, result, status, message in [
            ("done", answer, "completed", None),
            (
                "failed",
                JobFailure(ErrorCode.ANSWER_UNFIT, "It does not fit"),
                "completed",
                "It does not fit",
            ),
            (
                "failed",
                JobFailure(ErrorCode.FAULT, "Internal server error"),
                "failed",
                "Internal server error",
            ),
            ("failed", JobFailure(ErrorCode.UNKNOWN_TASK, "It is gone"), "failed", "It is gone"),
            ("cancelled", None, "cancelled", "The task was cancelled"),
        ]:
            fields = self.fields(now=5000.0, state=state, result=result, ended=1002.5)
            self.assertEqual(fields["status"], status)
            self.assertEqual(fields.get("statusMessage"), message)
            self.assertEqual(fields["lastUpdatedAt"], "1970-01-01T00:16:42.500Z")
            self.assertEqual(fields["ttlMs"], 3602_500)
            self.assertNotIn("pollIntervalMs", fields)

    def test_bounds(self) -> None:
        """
        The interval between polls is half a minute at most, and a job from the future has the
        shortest time to live.
        """
        fields = self.fields(now=10.0, position=1000)
        self.assertEqual((fields["pollIntervalMs"], fields["ttlMs"]), (30_000, 3600_000))


class ReadTests(SynchronousTestCase):
    """
    Tests for the functions that read what clients send.
    """

    def test_not_declared(self) -> None:
        """
        The error for a client without the extension names what it must declare.
        """
        error = not_declared()
        self.assertEqual(error.code, -32021)
        capabilities: Any = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
        self.assertEqual(error.data["requiredCapabilities"], capabilities)

    def test_task_id(self) -> None:
        """
        A text that cannot be an identifier is that of no task, and anything else is invalid; both
        are errors in the parameters.
        """
        self.assertEqual(task_id({"taskId": "5jYw0nQ1p0q_qzUeCk7e-g"}), "5jYw0nQ1p0q_qzUeCk7e-g")
        for id in ("", "a b", "\ud800", "é", "a\n", "../x", "a" * 65, "a\0"):
            error = self.assertRaises(McpError, task_id, {"taskId": id})
            self.assertEqual((error.code, error.failure), (-32602, ErrorCode.UNKNOWN_JOB), repr(id))
        for params in ({}, {"taskId": None}, {"taskId": 5}, {"taskId": ["a"]}):
            error = self.assertRaises(McpError, task_id, params)
            self.assertEqual((error.code, error.failure), (-32602, ErrorCode.INVALID_INPUT))

    def test_input_responses(self) -> None:
        """
        Answers to a task's questions must be an object.
        """
        check_input_responses({"inputResponses": {}})
        check_input_responses({"inputResponses": {"unknown": 5}})
        for params in ({}, {"inputResponses": None}, {"inputResponses": [1]}):
            self.assertRaises(McpError, check_input_responses, params)

    def test_followed(self) -> None:
        """
        A subscription follows each task once that may exist, up to a limit.
        """
        self.assertIsNone(followed_ids({"notifications": {"toolsListChanged": True}}))
        many = [str(number) for number in range(MAX_FOLLOWED + 1)]
        for ids, followed in [
            ([], []), (["b", "a", "\ud800", "b"], ["b", "a"]), (many, many[:-1]),
        ]:  # fmt: skip
            self.assertEqual(followed_ids({"notifications": {"taskIds": ids}}), followed)
        invalid: tuple[object, ...] = ("a", {}, [1], ["a", None], False)
        for params in (
            {},
            {"notifications": ["taskIds"]},
            *({"notifications": {"taskIds": ids}} for ids in invalid),
        ):
            error = self.assertRaises(McpError, followed_ids, params)
            self.assertEqual(error.code, -32602)
