"""
Tests for `kiroworkers.jobs.presence`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers import __version__
from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.jobs.presence import (
    AgentFacts,
    Presence,
    SinglePresence,
    agent_facts,
    default_server_name,
    server_state,
    shown_address,
)
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import dispatcher_in


def machine() -> str:
    """
    Return the name of a machine.
    """
    return "box7.example.org"


class NameTests(SynchronousTestCase):
    """
    Tests for the names and addresses of servers.
    """

    def test_address(self) -> None:
        """
        An address is shown as people write it, with the machine's name in place of all addresses.
        """
        for endpoint, address in [
            ("tcp:8080:interface=127.0.0.1:backlog=5", "127.0.0.1:8080"),
            ("tcp:8080:interface=0.0.0.0", "box7.example.org:8080"),
            ("tcp:port=80", "box7.example.org:80"),
            (r"tcp6:8080:interface=\:\:", "box7.example.org:8080"),
            (r"tcp6:8080:interface=\:\:1", "[::1]:8080"),
            ("unix:/run/kiro/api.sock:mode=600", "/run/kiro/api.sock"),
            ("unix:address=/run/kiro/api.sock", "/run/kiro/api.sock"),
            ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ]:
            self.assertEqual(shown_address(endpoint, machine), address)

    def test_name(self) -> None:
        """
        The default name of a server is one word, which no other machine and endpoint have.
        """
        for endpoint, name in [
            ("tcp:8080:interface=127.0.0.1", "box7-8080"),
            (r"tcp6:8081:interface=\:\:1", "box7-8081"),
            ("unix:/run/my kiro/the api.sock", "box7-the-api"),
            ("systemd:domain=INET:index=0", "box7-index-0"),
        ]:
            self.assertEqual(default_server_name(endpoint, machine), name)
        self.assertRegex(default_server_name("tcp:8080"), r"^[A-Za-z0-9_-]+-8080$")


class SinglePresenceTests(SynchronousTestCase):
    """
    Tests for `SinglePresence`, and for what a server says of itself.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: None))
        self.reactor.advance(1000)
        self.dispatcher = dispatcher_in(self.reactor)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        self.groups = AgentGroups([AgentGroup(agent, self.dispatcher)])
        self.dispatcher.startService()
        self.reactor.advance(0)

    def test_itself(self) -> None:
        """
        A server without a shared database knows itself, as it is now.
        """
        clock = Clock()
        clock.advance(500)
        presence: Presence = SinglePresence(clock.seconds, self.groups, "a", "b:80", lambda: 3)
        clock.advance(5)
        self.successResultOf(presence.refresh())
        [server] = presence.servers()
        self.assertEqual((presence.server_name, presence.database), ("a", None))
        self.assertEqual((server.name, server.address, server.jobs), ("a", "b:80", 3))
        self.assertEqual((server.version, server.state), (__version__, "serving"))
        self.assertEqual((server.started, server.seen, server.silence), (500.0, 505.0, 0.0))
        self.assertEqual(server.agents, agent_facts(self.groups))

    def test_agents(self) -> None:
        """
        Busy workers are ready, and not idle; waiting requests are counted.
        """
        for _ in range(3):
            self.dispatcher.submit("hello", RequestOptions())
        [facts] = agent_facts(self.groups).values()
        self.assertEqual(facts, AgentFacts("serving", workers=2, ready=2, idle=0, queued=1))

    def test_draining(self) -> None:
        """
        A server that finishes its requests is draining.
        """
        self.assertEqual(server_state(self.groups), "serving")
        self.dispatcher.submit("hello", RequestOptions())
        self.dispatcher.drain(60)
        self.assertEqual(server_state(self.groups), "draining")
        self.dispatcher.skip_drain()
