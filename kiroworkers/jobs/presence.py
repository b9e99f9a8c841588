"""
Describe the servers that work as one service, for operators.

A server without a shared database is a service of its own: `SinglePresence`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from socket import gethostname
from typing import Literal, Protocol, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred, succeed

from kiroworkers import __version__
from kiroworkers.clocks import WallClock
from kiroworkers.jobs.store import StorageStatus
from kiroworkers.pool.agent_groups import AgentGroup

#: What separates the parts of an endpoint string.
_SEPARATOR = re.compile(r"(?<!\\):")

#: The state of a server.  It is ``lost`` if it has not renewed its lease, and ``stopped`` if it
#: said so.
ServerState: TypeAlias = Literal["serving", "draining", "stopped", "lost"]


@frozen
class AgentFacts:
    """
    Hold what a server says of one of its agents.

    Attributes:
        state: The state of the pool.
        workers: The number of workers.
        ready: How many of them can take a request, now or after their current one.
        idle: How many of them are idle.
        queued: The number of live requests that wait for one.
    """

    state: str
    workers: int
    ready: int
    idle: int
    queued: int


@frozen
class ServerInfo:
    """
    Hold what is known about a server.

    Attributes:
        number: The server's number; another one after each start.
        name: Its name.
        version: The version of its program.
        address: The address that it listens at.
        account: The account that its agents use; empty if none was named.
        state: Its state.
        agents: Its agents by their names.
        jobs: The number of jobs that it runs.
        started: When it started, in seconds since the epoch.
        seen: When it was last heard of, in seconds since the epoch.
        silence: How long ago that was, in seconds.
    """

    number: int
    name: str
    version: str
    address: str
    account: str
    state: ServerState
    agents: Mapping[str, AgentFacts]
    jobs: int
    started: float
    seen: float
    silence: float


class Presence(Protocol):
    """
    Tell which servers there are.

    Attributes:
        server_name: The name of this server.
        database: Whether the shared database works; None without one.
    """

    @property
    def server_name(self) -> str:
        """
        Return the name of this server.
        """

    @property
    def database(self) -> StorageStatus | None:
        """
        Return whether the shared database works; None without one.
        """

    def refresh(self) -> Deferred[None]:
        """
        Look which servers there are.

        Returns:
            A Deferred that fires when `servers` is up to date, or that is not possible in
            time.  It does not fail.
        """

    def servers(self) -> Sequence[ServerInfo]:
        """
        Return what was found out last, and the current state of this server; it is among them.

        They are in the order of their names.
        """


def agent_facts(groups: Iterable[AgentGroup]) -> dict[str, AgentFacts]:
    """
    Return the current facts about the agents of this server.
    """
    facts = {}
    for group in groups:
        dispatcher = group.dispatcher
        workers = dispatcher.workers()
        facts[group.name] = AgentFacts(
            dispatcher.state().name,
            len(workers),
            sum(worker.healthy for worker in workers),
            sum(worker.idle for worker in workers),
            dispatcher.queue().length,
        )
    return facts


def server_state(groups: Iterable[AgentGroup]) -> ServerState:
    """
    Return whether this server serves, or finishes what it has accepted.
    """
    states = {group.dispatcher.state().name for group in groups}
    return "draining" if states == {"draining"} else "serving"


class SinglePresence:
    """
    Describe a server without a shared database; this is a `Presence`.

    Args:
        wall_clock: Returns the time in seconds since the epoch.
        groups: The agents and their pools.
        name: The name of the server.
        address: The address that it listens at.
        running_jobs: Returns the number of jobs that it runs.
    """

    def __init__(
        self,
        wall_clock: WallClock,
        groups: Iterable[AgentGroup],
        name: str,
        address: str,
        running_jobs: Callable[[], int],
    ) -> None:
        self._wall_clock = wall_clock
        self._groups = groups
        self._name = name
        self._address = address
        self._running_jobs = running_jobs
        self._started = wall_clock()

    @property
    def server_name(self) -> str:
        """
        Return the name of the server.
        """
        return self._name

    @property
    def database(self) -> None:
        """
        Return None: there is no shared database.
        """
        return

    def refresh(self) -> Deferred[None]:
        """
        Do nothing: the server knows its own state.
        """
        return succeed(None)

    def servers(self) -> Sequence[ServerInfo]:
        """
        Return the current state of the server.
        """
        return [
            ServerInfo(
                number=1,
                name=self._name,
                version=__version__,
                address=self._address,
                account="",
                state=server_state(self._groups),
                agents=agent_facts(self._groups),
                jobs=self._running_jobs(),
                started=self._started,
                seen=self._wall_clock(),
                silence=0.0,
            )
        ]


def shown_address(endpoint: str, machine: Callable[[], str] = gethostname) -> str:
    """
    Return where a server listens, as people write it: ``host:port``, or the path of a socket.

    Args:
        endpoint: The Twisted endpoint string.
        machine: Returns the name of the machine, which stands for all its addresses.
    """
    kind, *arguments = [part.replace("\\", "") for part in _SEPARATOR.split(endpoint)]
    named = dict(part.split("=", 1) for part in arguments if "=" in part)
    place = next((part for part in arguments if "=" not in part), "")
    if kind == "unix":
        return named.get("address", place)
    if kind not in ("tcp", "tcp6", "ssl"):
        return endpoint
    host = named.get("interface", "")
    if host in ("", "0.0.0.0", "::"):
        host = machine()
    return f"[{host}]:{place}" if ":" in host else f"{host}:{place or named.get('port', '')}"


def default_server_name(endpoint: str, machine: Callable[[], str] = gethostname) -> str:
    """
    Return a name for the server at `endpoint`, which other machines and endpoints do not have.

    Args:
        endpoint: The Twisted endpoint string.
        machine: Returns the name of the machine.
    """
    place = re.split("[:/]", shown_address(endpoint, machine))[-1]
    name = f"{machine().partition('.')[0]}-{place.removesuffix('.sock')}"
    return re.sub("[^A-Za-z0-9_-]+", "-", name)
