"""
Tests for `kiroworkers.tap` and `server`: what can be told before anything runs.
"""

from __future__ import annotations

from attrs import evolve
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import CannotStart
from kiroworkers.groups import Groups
from kiroworkers.server import check_tasks
from kiroworkers.settings import Staffing
from kiroworkers.tap import Options
from kiroworkers.tasks import builtin_tasks
from tests.test_groups import group_in


class OptionsTests(SynchronousTestCase):
    """
    Tests for `Options`.
    """

    def test_agents(self) -> None:
        """
        The flag may be given again, and names another agent.
        """
        options = Options()
        options.parseOptions(["--agent", "kiro=2", "--agent=offline,q"])
        expected = (Staffing("kiro", 2), Staffing("offline"), Staffing("q"))
        self.assertEqual(options.settings.agent, expected)

    def test_not_twice(self) -> None:
        """
        It may not name the same one again.
        """
        with self.assertRaises(UsageError) as raised:
            Options().parseOptions(["--agent", "q=2", "--agent", "q=1"])
        self.assertIn("another agent named q", str(raised.exception))


class TaskTests(SynchronousTestCase):
    """
    Tests for `check_tasks`.
    """

    def test_agents(self) -> None:
        """
        A task for an agent that does not answer here is no start.
        """
        groups = Groups([group_in("kiro"), group_in("offline")])
        story = builtin_tasks()["generate-story"]
        check_tasks([story, evolve(story, agent="offline")], groups)
        with self.assertRaises(CannotStart) as raised:
            check_tasks([evolve(story, agent="q")], groups)
        self.assertIn("task generate-story is for the agent 'q'", str(raised.exception))
        self.assertIn("only kiro, offline;", str(raised.exception))
