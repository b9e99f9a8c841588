"""
Make the statements about the outages of accounts, and read the rows that they return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from attrs import frozen

from kiroworkers.cluster.rows import decode_text, encode_text
from kiroworkers.errors import FailureKind
from kiroworkers.pool.shared_outage import Outage

if TYPE_CHECKING:
    from kiroworkers.cluster.engine import Connection

_COLUMNS = (
    "version, kind, detail, at_start, openings, delay, reporter, coalesce(prober, ''), "
    "coalesce(probe_left, 0)"
)


@frozen
class Record:
    """
    Hold what all servers know about the account of an agent.

    Attributes:
        version: Changes whenever an outage begins, changes or ends.
        outage: The outage; None if there is none.
        reporter: The server that has reported the last change.
        prober: The server that probes the agent; empty if none does.
        probe_left: Seconds for which the others wait for the prober.
    """

    version: int
    outage: Outage | None
    reporter: str
    prober: str = ""
    probe_left: float = 0.0


#: Does something in the database, and returns the row that results; None if there is none.
Statement: TypeAlias = Callable[[Any], Record | None]


class Statements(Protocol):
    """
    Make the statements about the account of one agent.

    Attributes:
        prober: Distinguishes this server from all others, also from an earlier one of its name.
    """

    prober: str

    def read(self) -> Statement:
        """
        Return a statement that changes nothing.
        """

    def report(self, outage: Outage, /) -> Statement:
        """
        Return a statement that reports `outage`.
        """

    def end(self, version: int, /) -> Statement:
        """
        Return a statement that ends the outage, if the row still has `version`.
        """

    def claim(self, seconds: float, /) -> Statement:
        """
        Return a statement that asks for permission to probe the agent for some seconds.
        """

    def release(self) -> Statement:
        """
        Return a statement that gives up that permission.
        """

    def check(self, connection: Any, /) -> None:
        """
        Raise an error if the database cannot be written.
        """


class AccountStatements:
    """
    Make the statements for PostgreSQL; these are `Statements`.

    Args:
        account: The name of the account.
        agent: The name of the agent.
        server: The name of this server.
        prober: Distinguishes this server from all others, also from an earlier one of its name.
    """

    def __init__(self, account: str, agent: str, server: str, prober: str) -> None:
        self._key = (encode_text(account), encode_text(agent))
        self._server = encode_text(server)
        self.prober = prober

    def read(self) -> Statement:
        """
        Return a statement that changes nothing.
        """
        query = f"SELECT {_COLUMNS} FROM outages WHERE name = %s AND agent = %s"
        return lambda connection: self._run(connection, query, self._key)

    def report(self, outage: Outage) -> Statement:
        """
        Return a statement that reports `outage`.
        """
        arguments = (
            *self._key,
            outage.kind.value,
            encode_text(outage.detail),
            outage.at_start,
            outage.openings,
            outage.delay,
            outage.named,
            self._server,
        )
        return self._function("report_outage", arguments)

    def end(self, version: int) -> Statement:
        """
        Return a statement that ends the outage, if the row still has `version`.
        """
        return self._function("end_outage", (*self._key, version, self._server))

    def claim(self, seconds: float) -> Statement:
        """
        Return a statement that asks for permission to probe the agent for some seconds.
        """
        return self._function("claim_probe", (*self._key, self.prober, seconds))

    def release(self) -> Statement:
        """
        Return a statement that gives up that permission.
        """
        return self._function("release_probe", (*self._key, self.prober))

    def check(self, connection: Connection, /) -> None:
        """
        Delete no row.
        """
        connection.execute("DELETE FROM accounts WHERE false")

    def _function(self, name: str, arguments: tuple[Any, ...]) -> Statement:
        places = ", ".join(["%s"] * len(arguments))
        query = f"SELECT {_COLUMNS} FROM {name}({places})"
        return lambda connection: self._run(connection, query, arguments)

    def _run(self, connection: Connection, query: str, arguments: tuple[Any, ...]) -> Record | None:
        row = connection.execute(query, arguments).fetchone()
        return None if row is None else self._record(row)

    def _record(self, row: tuple[Any, ...]) -> Record:
        version, kind, detail, at_start, openings, delay, reporter, prober, probe_left = row
        reporter = "" if reporter == self._server else decode_text(reporter)
        # A later version may know other kinds; this one finds out by itself then.
        known_kind = next((known for known in FailureKind if known.value == kind), None)
        if known_kind is None:
            return Record(version, None, reporter, prober, probe_left)
        detail = decode_text(detail)
        outage = Outage(known_kind, detail, at_start, openings, delay, reported_by=reporter)
        return Record(version, outage, reporter, prober, probe_left)
