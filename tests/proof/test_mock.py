"""
Tests that prove the stand-in for Kiro, which reads its model's answers from a file.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from kiroworkers.agents.choice import choose_agent
from kiroworkers.agents.program import read_output
from kiroworkers.agents.spec import AgentSpec
from kiroworkers.proof.checks.catalogue import select
from kiroworkers.proof.prover import Target, prove
from kiroworkers.proof.report import Outcome, Report
from tests.programs import environment, folder_outside, install_fake_kiro
from tests.servers import start_similar_python

real: Any = reactor


class MockTests(TestCase):
    """
    Tests for `prove` with answers from a file.
    """

    timeout = 300

    async def prove(self, version: str, transport: str) -> Report:
        """
        Prove a version of the stand-in, and return the report.
        """
        folder = folder_outside(self)
        path = install_fake_kiro(folder / "bin")
        script = folder / "bin" / "kiro-cli"
        # Its own variables do not reach an agent that is proven.
        script.write_text(script.read_text().replace("exec", f"FAKEKIRO_VERSION={version} exec"))
        variables = environment(PATH=path)
        agent = choose_agent(AgentSpec(agent="kiro"), variables, read_output)
        self.assertEqual(agent.dialect.transport, transport)
        target = Target("kiro", agent.name, agent.dialect, agent.version)
        checks = select(["exact", "clear"], [])
        return await prove(real, target, checks, variables, start_python=start_similar_python)

    async def test_classic(self) -> None:
        """
        On the terminal all hard strings are equal; what a model server would have to see is
        skipped.
        """
        report = await self.prove("2.11.0", "terminal")
        self.assertEqual((report.model, report.level), ("mock", None), report)
        self.assertEqual(
            [check.outcome for check in report.checks],
            [Outcome.PASSED, Outcome.PASSED, Outcome.PASSED, Outcome.SKIPPED],
        )

    async def test_acp(self) -> None:
        """
        Over ACP they are as well.
        """
        report = await self.prove("2.28.0", "acp")
        self.assertEqual((report.model, report.level), ("mock", None), report)
