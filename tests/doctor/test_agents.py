"""
Tests for `kiroworkers.doctor.agents`; `tests.doctor.test_examine` has those with agents.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.doctor.agents import AgentCommands
from tests.programs import environment, folder_outside


class AgentCommandsTests(SynchronousTestCase):
    """
    Tests for `AgentCommands`.
    """

    def setUp(self) -> None:
        self.log = folder_outside(self) / "log"
        self.commands = AgentCommands()

    def run_command(self, number: int) -> str:
        command = ["sh", "-c", f"echo {number} >> {self.log}; echo version {number}"]
        return self.commands.get_output(command, environment())

    def test_once(self) -> None:
        """
        A command is run once, and its output is returned again.
        """
        outputs = [self.run_command(number) for number in (1, 2, 1)]
        self.assertEqual(outputs, ["version 1\n", "version 2\n", "version 1\n"])
        self.assertEqual(self.log.read_text(), "1\n2\n")

    def test_stopped(self) -> None:
        """
        After `stop`, no command is run.
        """
        self.commands.stop()
        self.assertEqual(self.run_command(1), "")
        self.assertFalse(self.log.exists())
