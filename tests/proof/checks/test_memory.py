"""
Tests for `kiroworkers.proof.checks.memory`.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.proof.checks.check import CheckFailed
from kiroworkers.proof.checks.memory import memory_call, saved_memory
from kiroworkers.proof.report import Outcome
from tests.proof.memory import ProofTestCase


def request(text: str, *tools: str) -> ModelRequest:
    """
    Return a request that offers `tools`.
    """
    return ModelRequest("/v1/messages", (Message("system", text),), tools)


class MemoryCallTests(SynchronousTestCase):
    """
    Tests for `memory_call`.
    """

    def test_tool(self) -> None:
        """
        A tool for memories is called with the text.
        """
        call = memory_call(request("", "bash", "save_memory"), "/proof", "my project")
        assert call is not None
        self.assertEqual((call.name, call.arguments), ("save_memory", {"fact": "my project"}))

    def test_folder(self) -> None:
        """
        A folder that the agent names is written to, if it is the agent's own.
        """
        text = "Your memory is at `/proof/home/.claude/projects/-a/memory/`."
        call = memory_call(request(text, "Write"), "/proof", "my project")
        assert call is not None
        path = "/proof/home/.claude/projects/-a/memory/MEMORY.md"
        self.assertEqual(call.arguments, {"file_path": path, "content": "my project"})
        self.assertIsNone(memory_call(request(text, "Write"), "/other", "my project"))

    def test_none(self) -> None:
        """
        An agent without such a tool, or without a folder, has no memory to save to.
        """
        self.assertIsNone(
            memory_call(request("in-memory /proof/memoryless", "Write"), "/proof", "")
        )
        self.assertIsNone(memory_call(request("/proof/memory", "bash"), "/proof", ""))


class SavedMemoryTests(ProofTestCase):
    """
    Tests for `saved_memory`.
    """

    def test_no_answer(self) -> None:
        """
        An agent that offers no memory must still answer.
        """
        finding = self.successResultOf(Deferred.fromCoroutine(saved_memory(self.new_proof())))
        self.assertIs(finding.outcome, Outcome.SKIPPED)
        self.server.answer = lambda case: (502, {"code": "session_lost", "error": "It ended"})
        asking = Deferred.fromCoroutine(saved_memory(self.new_proof()))
        failure = self.failureResultOf(asking, CheckFailed)
        self.assertIs(failure.value.finding.outcome, Outcome.FAILED)
