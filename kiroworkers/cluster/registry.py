"""
Keep the list of servers in the database, through the queue of operations of a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict
from twisted.internet.defer import Deferred

from kiroworkers.cluster import statements
from kiroworkers.cluster.engine import Connection, PostgresEngine, PostgresQueue
from kiroworkers.cluster.membership import (
    Census,
    HeldJobs,
    Identity,
    OwnFacts,
    QueuedJobs,
    Swept,
)
from kiroworkers.jobs.presence import AgentFacts, ServerInfo
from kiroworkers.jobs.store import StorageStatus

#: The servers by their numbers, with the jobs that they run, and what waits.  A row without a
#: server has the latter alone.  With many clients, the oldest job is looked for among those that
#: have probably waited longest: looking at all takes 70 ms with 1,000 clients.
_CENSUS = b"""
    WITH waiting AS (
        SELECT
            (SELECT coalesce(sum(waiting), 0) FROM queues)::bigint AS number,
            (
                SELECT greatest(0, extract(epoch FROM clock_timestamp()) - min(head.created))
                    FROM (
                        SELECT agent, client FROM queues WHERE waiting > 0 ORDER BY head LIMIT 50
                    ) AS longest
                    CROSS JOIN LATERAL (
                        SELECT created FROM jobs
                            WHERE jobs.agent = longest.agent AND jobs.client = longest.client
                            AND state = 'queued'
                            ORDER BY sort_key, number LIMIT 1
                    ) AS head
            )::float8 AS oldest
    )
    SELECT
        waiting.number, coalesce(waiting.oldest, 0),
        servers.number, name, version, address, account, agents,
        CASE
            WHEN servers.state <> 'stopped' AND lease_until < clock_timestamp() THEN 'lost'
            ELSE servers.state
        END,
        (SELECT count(*) FROM jobs WHERE owner = servers.number AND state = 'running'),
        extract(epoch FROM started)::float8,
        extract(epoch FROM seen)::float8,
        greatest(0, extract(epoch FROM clock_timestamp() - seen))::float8
    FROM waiting LEFT JOIN servers ON true
"""


class PostgresRegistry:
    """
    Keep the servers in a PostgreSQL database; this is a `Registry`.

    Args:
        queue: Runs the operations.
        engine: Counts its connections.
    """

    def __init__(self, queue: PostgresQueue, engine: PostgresEngine) -> None:
        self._queue = queue
        self._engine = engine

    @property
    def status(self) -> StorageStatus:
        """
        Return whether the database works.
        """
        return self._queue.status

    @property
    def connections(self) -> int:
        """
        Return the number of connections that were made so far.
        """
        return self._engine.connections

    # Most of these are given to the queue as operations that only read: it refuses others while
    # the database fails, until it has found out by itself that it works again, and a heartbeat
    # is to be the first thing then.

    def register(self, identity: Identity, seconds: float, facts: OwnFacts) -> Deferred[int]:
        """
        Add a server; see `Registry.register`.
        """
        return self._queue.read(
            lambda connection: statements.register_server(
                connection,
                seconds,
                identity.name,
                identity.version,
                identity.address,
                identity.account,
                facts.state,
                _agents_json(facts),
            )
        )

    def heartbeat(
        self, server: int, seconds: float, facts: OwnFacts, held: HeldJobs
    ) -> Deferred[Sequence[str] | None]:
        """
        Renew the lease of a server; see `Registry.heartbeat`.
        """
        agents = _agents_json(facts)
        return self._queue.read(
            lambda connection: statements.heartbeat(
                connection, server, seconds, facts.state, agents, held.claims, held.complete
            )
        )

    def sweep(self, server: int) -> Deferred[Swept]:
        """
        Queue the jobs of dead servers; see `Registry.sweep`.
        """
        return self._queue.read(lambda connection: Swept(*statements.sweep(connection, server)))

    def census(self) -> Deferred[Census]:
        """
        Return the servers, and how many jobs wait.
        """
        return self._queue.read(_read_census)

    def leave(self, server: int) -> Deferred[None]:
        """
        Record that a server has stopped.
        """
        # Refused while results are kept that could not be stored: if the lease ended before they
        # are, another server would begin their jobs anew.
        return self._queue.write(lambda connection: statements.leave_server(connection, server))


def _read_census(connection: Connection) -> Census:
    rows = connection.execute(_CENSUS).fetchall()
    number, oldest = rows[0][:2]
    servers = [_server(row[2:]) for row in rows if row[2] is not None]
    return Census(servers, QueuedJobs(number, oldest))


def _server(row: Sequence[Any]) -> ServerInfo:
    number, name, version, address, account, agents, state, jobs, started, seen, silence = row
    facts = {agent: _agent_facts(reported) for agent, reported in agents.items()}
    return ServerInfo(
        number, name, version, address, account, state, facts, jobs, started, seen, silence
    )


def _agents_json(facts: OwnFacts) -> dict[str, Any]:
    return {name: asdict(agent) for name, agent in facts.agents.items()}


def _agent_facts(reported: Mapping[str, Any]) -> AgentFacts:
    """
    Return what a server has reported of an agent; another version may report more, or less.
    """
    numbers = (int(reported.get(name, 0)) for name in ("workers", "ready", "idle", "queued"))
    return AgentFacts(str(reported.get("state", "unknown")), *numbers)
