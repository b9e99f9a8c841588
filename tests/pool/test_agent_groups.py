"""
Tests for `kiroworkers.pool.agent_groups`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import InvalidInput
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import MemoryAcp, dispatcher_in, results_of, submit_to, why


def group_in(name: str, reactor: MemoryReactor | None = None, **changes: Any) -> AgentGroup:
    """
    A group of that name whose programs run in `reactor`.
    """
    reactor = reactor or MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
    agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {}, name)
    return AgentGroup(agent, dispatcher_in(reactor, name_prefix=f"{name}-worker", **changes))


class AgentGroupsTests(SynchronousTestCase):
    """
    Tests for `AgentGroups`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.first = group_in("kiro", self.reactor, workers=1)
        self.second = group_in("q", self.reactor, workers=1)
        self.groups = AgentGroups([self.first, self.second])
        for group in self.groups:
            group.dispatcher.startService()
        self.reactor.advance(0)

    def ask(self, group: AgentGroup, prompt: str) -> list[Any]:
        result = results_of(submit_to(group.dispatcher, prompt))
        self.reactor.advance(0)
        return result

    def answer(self, prompt: str) -> None:
        [program] = [running for running in self.reactor.programs if prompt in running.typed]
        program.say("answer")
        self.reactor.advance(0)

    def drain(self, timeout: float) -> list[Any]:
        return results_of(Deferred.fromCoroutine(self.groups.drain(timeout)))

    def test_names(self) -> None:
        """
        A group is found by its name, and the first is the default; an unknown name is
        an error that tells the field and the known names.
        """
        self.assertEqual(self.groups.names, ("kiro", "q"))
        self.assertIs(self.groups.default, self.first)
        self.assertIs(self.groups.find("q"), self.second)
        self.assertEqual(self.groups.select(None), (self.first, self.second))
        self.assertEqual(self.groups.select("q"), (self.second,))
        wrong: list[object] = ["Q", "", ["q"], {}, 1]
        for name in wrong:
            with self.assertRaises(InvalidInput) as raised:
                self.groups.find(name, "X-Agent")
            self.assertEqual(raised.exception.field, "X-Agent")
            self.assertEqual(str(raised.exception), "X-Agent must be one of: kiro, q")

    def test_drain(self) -> None:
        """
        All groups drain at the same time, and are drained when the last one is.
        """
        answers = [self.ask(self.first, "a"), self.ask(self.second, "b")]
        drained = self.drain(30)
        self.assertTrue(all(group.dispatcher.draining for group in self.groups))
        self.answer("a")
        self.assertEqual(drained, [])
        self.answer("b")
        self.assertEqual((drained, [len(results) for results in answers]), ([True], [1, 1]))

    def test_drain_times_out(self) -> None:
        """
        A drain fails if one group has not finished in time.
        """
        self.ask(self.second, "b")
        drained = self.drain(30)
        self.reactor.advance(29)
        self.assertEqual(drained, [])
        self.reactor.advance(1)
        self.assertEqual(drained, [False])

    def test_stop_now(self) -> None:
        """
        `stop_now` waits neither for requests nor for agents to quit.
        """
        for group in self.groups:
            self.ask(group, group.name)
        drained = self.drain(30)
        self.groups.stop_now()
        self.reactor.advance(0)
        self.assertEqual((drained, self.reactor.running), ([False], set()))

    def test_restart_workers(self) -> None:
        """
        Every worker of every group gets a new session.
        """
        pids = set(self.reactor.running)
        self.groups.restart_workers(why("an operator asked for it"))
        self.reactor.pump([0] * 5)
        self.assertEqual((len(self.reactor.running), self.reactor.running & pids), (2, set()))


class SeesImages(MemoryAcp):
    """
    An agent that says that it accepts images.
    """

    accepts_images = True


class ImagesTests(SynchronousTestCase):
    """
    Tests for `AgentGroup.accepts_images`.
    """

    def accepts(self, *programs: Callable[[], MemoryKiro], dialect: str = "acp") -> list[bool]:
        """
        Return whether a group accepts images before and after `programs` are ready.
        """
        waiting = iter(programs)
        reactor = MemoryReactor(lambda: next(waiting)())
        agent = Agent(load_dialect(dialect), "chosen", "/bin/agent", (), {}, "agent")
        session = {"dialect": dialect}
        group = AgentGroup(agent, dispatcher_in(reactor, workers=len(programs), session=session))
        group.dispatcher.startService()
        before = group.accepts_images
        reactor.pump([0, 0])
        return [before, group.accepts_images]

    def test_accepts(self) -> None:
        """
        An agent may accept images until a session shows that it does not.
        """
        self.assertEqual(self.accepts(MemoryAcp, MemoryAcp), [True, False])
        self.assertEqual(self.accepts(SeesImages), [True, True])
        self.assertEqual(self.accepts(MemoryAcp, SeesImages), [True, True])

    def test_terminal(self) -> None:
        """
        An agent with a terminal never accepts images.
        """

        def silent() -> MemoryKiro:
            return MemoryKiro(lambda prompt: None)

        self.assertEqual(self.accepts(silent, dialect="kiro-classic"), [False, False])
