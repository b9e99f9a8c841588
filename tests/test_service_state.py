"""
Tests for `kiroworkers.service_state`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.service_state import service_state
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.pool.test_agent_groups import group_in


class ServiceStateTests(SynchronousTestCase):
    """
    Tests for `service_state`.
    """

    def start(self, *mute: bool) -> tuple[MemoryReactor, AgentGroups]:
        """
        Start one agent for each of `mute`, with one worker, which shows a prompt unless mute.
        """
        kinds = iter(mute)

        def program() -> MemoryKiro:
            kiro = MemoryKiro()
            kiro.mute = next(kinds)
            return kiro

        reactor = MemoryReactor(program)
        names = ("kiro", "q")[: len(mute)]
        groups = AgentGroups([group_in(name, reactor, workers=1) for name in names])
        for group in groups:
            group.dispatcher.startService()
        return reactor, groups

    def test_ready(self) -> None:
        """
        The server has started when a session has shown its prompt.
        """
        reactor, groups = self.start(False)
        changes: list[str] = []
        [group] = groups
        group.dispatcher.worker_pool.on_change = lambda: changes.append(
            service_state(groups).status
        )
        before = service_state(groups)
        self.assertEqual(
            (before.started, before.status), (False, "0 of 1 workers ready (starting)")
        )
        reactor.advance(0)
        after = service_state(groups)
        self.assertEqual((after.started, after.status), (True, "1 of 1 workers ready"))
        self.assertEqual(changes[-1], after.status)

    def test_failed(self) -> None:
        """
        The server has started when its first session has failed, because it goes on trying.
        """
        reactor, groups = self.start(True)
        [group] = groups
        changes: list[bool] = []
        group.dispatcher.worker_pool.on_change = lambda: changes.append(
            service_state(groups).started
        )
        reactor.advance(0)
        self.assertFalse(service_state(groups).started)
        [program] = reactor.programs
        program.process.end(1)
        reactor.advance(0)
        state = service_state(groups)
        self.assertEqual((state.started, state.status), (True, "0 of 1 workers ready (starting)"))
        self.assertEqual(changes[-1], True)

    def test_several_agents(self) -> None:
        """
        One ready session of any agent is enough, and each agent is named.
        """
        reactor, groups = self.start(True, False)
        reactor.advance(0)
        state = service_state(groups)
        self.assertTrue(state.started)
        self.assertEqual(
            state.status, "kiro: 0 of 1 workers ready (starting); q: 1 of 1 workers ready"
        )
