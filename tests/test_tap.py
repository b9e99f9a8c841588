"""
Tests for `kiroworkers.tap` and `server`: what can be told before anything runs.
"""

from __future__ import annotations

from attrs import evolve
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.server import check_tasks
from kiroworkers.settings import AgentCount
from kiroworkers.tap import Options
from kiroworkers.tasks import BadTask, builtin_tasks
from kiroworkers.tasks.task import TaskLimits
from tests.pool.test_agent_groups import group_in


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
        expected = (AgentCount("kiro", 2), AgentCount("offline"), AgentCount("q"))
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

    def test_wrong(self) -> None:
        """
        A task for an agent that does not answer here, or with more time than any
        request has, is refused by its file.
        """
        groups = AgentGroups([group_in("kiro"), group_in("offline")])
        story = evolve(builtin_tasks()["generate-story"], source="mine.toml")
        good = evolve(story, agent="offline", limits=TaskLimits(timeout=120))
        check_tasks({"a": story, "b": good}, groups, 120)
        for wrong, reason in [
            (evolve(story, agent="q"), "agent: 'q' does not answer here, only kiro, offline;"),
            (evolve(story, limits=TaskLimits(timeout=121)), "limits.timeout: is above"),
        ]:
            with self.assertRaises(BadTask) as raised:
                check_tasks({"a": wrong}, groups, 120)
            self.assertIn(f"mine.toml: {reason}", str(raised.exception))
