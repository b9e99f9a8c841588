"""
A list of servers in memory, for tests of what operators see.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve
from twisted.internet.defer import Deferred, succeed

from kiroworkers.jobs.presence import AgentFacts, ServerInfo
from kiroworkers.jobs.store import StorageStatus

#: A server with two agents.
RED = ServerInfo(
    number=1,
    name="red",
    version="1.2",
    address="10.0.0.1:8080",
    account="team",
    state="serving",
    agents={
        "kiro": AgentFacts("serving", workers=3, ready=2, idle=1, queued=4),
        "offline": AgentFacts("paused", workers=1, ready=1, idle=1, queued=0),
    },
    jobs=2,
    started=1000.5,
    seen=1060.0,
    silence=0.0,
)

#: Another one, which cannot be heard.
BLUE = evolve(RED, number=2, name="blue", account="", state="lost", jobs=0, silence=12.25)


class MemoryPresence:
    """
    Know servers that the test names; this is a `Presence`.

    Attributes:
        known: The servers that are known.
        found: The servers that the next refresh finds.
    """

    server_name = "red"

    def __init__(self, *found: ServerInfo) -> None:
        self.database: StorageStatus | None = StorageStatus()
        self.known: list[ServerInfo] = []
        self.found = [*found]
        self.refreshes = 0

    def refresh(self) -> Deferred[None]:
        self.refreshes += 1
        self.known = self.found
        return succeed(None)

    def servers(self) -> Sequence[ServerInfo]:
        return self.known
