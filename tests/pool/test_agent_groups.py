"""
Tests for `kiroworkers.pool.agent_groups`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import InvalidInput
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import pool_in, watched


def group_in(name: str, reactor: MemoryReactor | None = None, **changes: Any) -> AgentGroup:
    """
    A group of that name whose programs run in `reactor`.
    """
    reactor = reactor or MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
    agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {}, name)
    return AgentGroup(agent, pool_in(reactor, called=f"{name}-worker", **changes))


class GroupsTests(SynchronousTestCase):
    """
    Tests for `AgentGroups`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.first = group_in("kiro", self.reactor, workers=1)
        self.second = group_in("q", self.reactor, workers=1)
        self.groups = AgentGroups([self.first, self.second])
        for group in self.groups:
            group.pool.startService()
        self.reactor.advance(0)

    def ask(self, group: AgentGroup, prompt: str) -> list[Any]:
        result = watched(group.pool.submit(prompt))
        self.reactor.advance(0)
        return result

    def answer(self, prompt: str) -> None:
        [program] = [each for each in self.reactor.programs if prompt in each.typed]
        program.say("answer")
        self.reactor.advance(0)

    def drain(self, timeout: float) -> list[Any]:
        return watched(Deferred.fromCoroutine(self.groups.drain(timeout)))

    def test_names(self) -> None:
        """
        A group is found by its name; the first answers where none is given, and
        what is none names its field and the names that are.
        """
        self.assertEqual(self.groups.names, ("kiro", "q"))
        self.assertIs(self.groups.default, self.first)
        self.assertIs(self.groups.named("q"), self.second)
        self.assertEqual(self.groups.chosen(None), (self.first, self.second))
        self.assertEqual(self.groups.chosen("q"), (self.second,))
        wrong: list[object] = ["Q", "", ["q"], {}, 1]
        for name in wrong:
            with self.assertRaises(InvalidInput) as raised:
                self.groups.named(name, "X-Agent")
            self.assertEqual(raised.exception.field, "X-Agent")
            self.assertEqual(str(raised.exception), "X-Agent must be one of: kiro, q")

    def test_drain(self) -> None:
        """
        All are drained when each is, and all at the same time.
        """
        answers = [self.ask(self.first, "a"), self.ask(self.second, "b")]
        drained = self.drain(30)
        self.assertTrue(all(group.pool.draining for group in self.groups))
        self.answer("a")
        self.assertEqual(drained, [])
        self.answer("b")
        self.assertEqual((drained, [len(each) for each in answers]), ([True], [1, 1]))

    def test_only_for_so_long(self) -> None:
        """
        One that has not finished in time is enough to say so.
        """
        self.ask(self.second, "b")
        drained = self.drain(30)
        self.reactor.advance(29)
        self.assertEqual(drained, [])
        self.reactor.advance(1)
        self.assertEqual(drained, [False])

    def test_hurry(self) -> None:
        """
        In a hurry nobody waits for any of them, nor for their sessions.
        """
        for group in self.groups:
            self.ask(group, group.name)
        drained = self.drain(30)
        self.groups.hurry()
        self.reactor.advance(0)
        self.assertEqual((drained, self.reactor.running), ([False], set()))

    def test_renew(self) -> None:
        """
        Each has new sessions.
        """
        pids = set(self.reactor.running)
        self.groups.renew("said so")
        self.reactor.pump([0] * 5)
        self.assertEqual((len(self.reactor.running), self.reactor.running & pids), (2, set()))
