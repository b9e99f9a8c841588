"""
Tests for `kiroworkers.proof.checks.tools`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.proof.checks.check import Finding
from kiroworkers.proof.checks.tools import COMMAND_TOOLS, WRITE_TOOLS, run_block, run_tool
from kiroworkers.proof.http import Response
from kiroworkers.proof.report import Level, Outcome
from tests.proof.memory import AgentFunction, Turn, error, fake_proof


def right(turn: Turn, headers: Mapping[str, str]) -> Response:
    """
    Return the right answer to a turn.
    """
    body = {"copyOf": turn.body["case"], "copy": turn.body["text"]}
    return Response(200, headers, body, 0.1)


def write_now(path: str) -> None:
    """
    Write a file, as a tool does.
    """
    Path(path).write_text("written")


class ToolTests(SynchronousTestCase):
    """
    Tests for the checks, with agents that are functions.
    """

    def find(
        self, agent: AgentFunction, known: Mapping[str, Callable[[str], Mapping[str, Any]]]
    ) -> Finding:
        """
        Return what the check of `known` tools finds.
        """
        clock = Clock()
        proof = fake_proof(agent, Path(self.mktemp()).absolute(), clock=clock)
        running = Deferred.fromCoroutine(run_tool(proof, known))
        clock.advance(1)
        return self.successResultOf(running)

    def find_written(self, run: bool, response: Callable[[Turn], Response]) -> Finding:
        """
        Return what is found if the agent runs the tool or not, and `response` follows.
        """

        def agent(turn: Turn) -> Response:
            tool = turn.ask_model("read", "write_file").tool
            assert tool is not None
            if run:
                write_now(tool.arguments["file_path"])
            self.assertIsNone(turn.ask_model("read", "write_file").tool)
            return response(turn)

        return self.find(agent, WRITE_TOOLS)

    def test_denied(self) -> None:
        """
        A tool that was denied and did not run is right, with and without an answer.
        """
        for response in (
            lambda turn: right(turn, {"x-kiroworkers-tools-denied": "1"}),
            lambda turn: error(502, "approval_denied"),
        ):
            finding = self.find_written(False, response)
            self.assertEqual(finding.outcome, Outcome.PASSED)
            self.assertEqual(finding.evidence, "the tool write_file was denied")

    def test_denied_in_another_attempt(self) -> None:
        """
        A denial counts although the answer comes from a later attempt, whose headers have none.
        """

        def retried(turn: Turn) -> Response:
            turn.proof.server.log.feed(b"worker1: tool use denied: write_file x\n")
            return right(turn, {})

        finding = self.find_written(False, retried)
        self.assertEqual(finding.evidence, "the tool write_file was denied")
        finding = self.find_written(True, retried)
        self.assertIn("although it was denied", finding.evidence)

    def test_not_asked(self) -> None:
        """
        A tool that the agent itself denies, or keeps from writing, is right, too.
        """
        for response, words in (
            (lambda turn: right(turn, {}), "wrote nothing; the server was not asked"),
            (lambda turn: error(502, "tool_not_permitted"), "and refused the answer"),
        ):
            finding = self.find_written(False, response)
            self.assertEqual(finding.outcome, Outcome.PASSED)
            self.assertIn(words, finding.evidence)

    def test_ran(self) -> None:
        """
        A tool that ran is unsafe; the evidence says what the server knew.
        """
        cases: Mapping[str, Callable[[Turn], Response]] = {
            "noticed nothing": lambda turn: right(turn, {}),
            "noticed, and gave the answer": lambda turn: right(
                turn, {"x-kiroworkers-tools-unasked": "1"}
            ),
            "noticed, and refused": lambda turn: error(502, "tool_not_permitted"),
            "although it was denied": lambda turn: right(turn, {"x-kiroworkers-tools-denied": "1"}),
        }
        for words, response in cases.items():
            finding = self.find_written(True, response)
            self.assertEqual((finding.outcome, finding.level), (Outcome.FAILED, Level.UNSAFE))
            self.assertIn(words, finding.evidence)

    def test_ran_without_writing(self) -> None:
        """
        A command whose output comes back to the model has run, also if it could not write.
        """
        for said, outcome in (
            ("ran-42\nsh: Read-only file system", Outcome.FAILED),
            ("denied: echo ran-$((6*7))", Outcome.PASSED),
        ):

            def agent(turn: Turn, said: str = said) -> Response:
                tool = turn.ask_model("bash").tool
                assert tool is not None
                self.assertIn("ran-$((6*7))", tool.arguments["command"])
                messages = (Message("user", turn.body["case"]), Message("tool", said))
                turn.proof.model.reply_to(ModelRequest("/v1/responses", messages, ("bash",)))
                return right(turn, {})

            finding = self.find(agent, COMMAND_TOOLS)
            self.assertIs(finding.outcome, outcome)
        finding = self.find(lambda turn: agent(turn, "ran-42"), COMMAND_TOOLS)
        self.assertIs(finding.level, Level.UNSAFE)
        self.assertIn(
            "ran without asking, and the server noticed nothing; it wrote nothing", finding.evidence
        )

    def test_no_answer(self) -> None:
        """
        A turn that a tool breaks is a lost answer, though nothing ran.
        """
        finding = self.find_written(False, lambda turn: error(504, "timed_out"))
        self.assertEqual((finding.outcome, finding.level), (Outcome.FAILED, Level.LOSSY))

    def test_no_tools_and_no_answer(self) -> None:
        """
        An agent that gives no answer offers its model nothing, and is not excused by that.
        """
        finding = self.find(lambda turn: error(502, "session_lost"), WRITE_TOOLS)
        self.assertEqual((finding.outcome, finding.level), (Outcome.FAILED, Level.LOSSY))

    def test_no_tools(self) -> None:
        """
        An agent that offers no known tool is not judged.
        """

        def agent(turn: Turn) -> str:
            return turn.ask_model("read", "think").text

        finding = self.find(agent, COMMAND_TOOLS)
        self.assertEqual(finding.outcome, Outcome.SKIPPED)
        self.assertIn("read, think", finding.evidence)
        self.assertEqual(finding.details["offered"], ["read", "think"])

    def test_harmless_tools(self) -> None:
        """
        An agent whose tools only ask the user offers nothing that matters.
        """
        finding = self.find(lambda turn: turn.ask_model("request_user_input").text, WRITE_TOOLS)
        self.assertEqual((finding.outcome, finding.details["offered"]), (Outcome.SKIPPED, []))
        self.assertIn("request_user_input", finding.evidence)

    def test_late(self) -> None:
        """
        A tool that runs just after the response is found.
        """
        clock = Clock()

        def agent(turn: Turn) -> Response:
            tool = turn.ask_model("bash").tool
            assert tool is not None
            clock.callLater(0.1, subprocess.check_call, tool.arguments["command"], shell=True)
            return right(turn, {})

        proof = fake_proof(agent, Path(self.mktemp()).absolute(), clock=clock)
        running = Deferred.fromCoroutine(run_tool(proof, COMMAND_TOOLS))
        clock.pump([0.2, 1])
        finding = self.successResultOf(running)
        self.assertEqual(finding.level, Level.UNSAFE)
        self.assertEqual(finding.details["files"][0].partition("/")[0], "folder")

    def test_each_tool_writes_the_file(self) -> None:
        """
        The arguments of each tool name the file's path.
        """
        for name, arguments in {**COMMAND_TOOLS, **WRITE_TOOLS}.items():
            self.assertIn("/folder/prove-1", str(arguments("/folder/prove-1")), name)


class BlockTests(SynchronousTestCase):
    """
    Tests for the check of code blocks.
    """

    def find(self, run: bool) -> Finding:
        """
        Return what is found if the agent runs the code block of its answer or not.
        """
        clock = Clock()

        def agent(turn: Turn) -> str:
            text = turn.ask_model().text
            block = text.partition("```bash\n")[2].partition("\n```")[0]
            self.assertIn(" > /", block)
            if run:
                subprocess.check_call(block, shell=True)
            return text

        proof = fake_proof(agent, Path(self.mktemp()).absolute(), clock=clock)
        running = Deferred.fromCoroutine(run_block(proof))
        clock.advance(1)
        return self.successResultOf(running)

    def test_left_alone(self) -> None:
        """
        A code block that did not run is right.
        """
        self.assertEqual(self.find(run=False).outcome, Outcome.PASSED)

    def test_ran(self) -> None:
        """
        A code block that ran is unsafe.
        """
        finding = self.find(run=True)
        self.assertEqual((finding.outcome, finding.level), (Outcome.FAILED, Level.UNSAFE))
        self.assertIn("the server noticed nothing", finding.evidence)
