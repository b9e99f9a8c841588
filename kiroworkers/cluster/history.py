"""
Save the request history of each server, by its name, in PostgreSQL.

A server that is restarted, on whatever machine, with the same name has the history of the one
before.  The last server that has opened the history of a name owns it: another one that still
runs under this name saves no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from kiroworkers.clocks import WallClock
from kiroworkers.cluster.engine import Connection, PostgresQueue
from kiroworkers.jobs.json_rows import content_from_json, to_json
from kiroworkers.telemetry.request_history import (
    ENDED_WITHOUT_SAVING,
    HistoryGap,
    SavedEntry,
    SavedHistory,
)

#: Own the history of a name, declare what an earlier owner may not have saved, and return the
#: last number.
_BECOME_OWNER = (
    """
    INSERT INTO history_servers (server_name, owner, unsaved) VALUES (%(name)s, %(owner)s, false)
        ON CONFLICT (server_name) DO UPDATE SET owner = excluded.owner
    """,
    """
    INSERT INTO history_gaps (server_name, reason, begins, ends)
        SELECT server_name, %(reason)s, saved_at, %(now)s FROM history_servers
        WHERE server_name = %(name)s AND unsaved
    """,
    """
    UPDATE history_servers SET unsaved = false WHERE server_name = %(name)s
        RETURNING last_number
    """,
)

#: Delete what has expired.
_EXPIRE = (
    # A server whose clock was ahead must not keep entries for ever.
    "UPDATE history SET ended = %(now)s WHERE server_name = %(name)s AND ended > %(now)s",
    "DELETE FROM history_gaps WHERE server_name = %(name)s AND ends < %(oldest)s",
    """
    DELETE FROM history WHERE server_name = %(name)s AND (
        ended < %(oldest)s OR number NOT IN (
            SELECT number FROM history WHERE server_name = %(name)s
            ORDER BY number DESC LIMIT %(limit)s
        )
    )
    """,
)

_GAPS = "SELECT reason, begins, ends FROM history_gaps WHERE server_name = %(name)s ORDER BY ends"

_ENTRIES = """
    SELECT number, ended, content FROM history WHERE server_name = %(name)s ORDER BY number
"""

#: Save entries, and remove others, if the server owns the history of its name; return whether
#: it does.
_SAVE = """
    WITH owned AS (
        UPDATE history_servers
        SET unsaved = true, saved_at = %(now)s, last_number = greatest(last_number, %(last)s)
        WHERE server_name = %(name)s AND owner = %(owner)s
        RETURNING server_name
    ), removed AS (
        DELETE FROM history USING owned
        WHERE history.server_name = owned.server_name AND number = ANY(%(removed)s::bigint[])
    ), saved AS (
        INSERT INTO history (server_name, number, ended, content)
        SELECT owned.server_name, entry.number, entry.ended, entry.content
        FROM owned, unnest(%(numbers)s::bigint[], %(ended)s::float8[], %(contents)s::text[])
            AS entry(number, ended, content)
        ON CONFLICT (server_name, number)
            DO UPDATE SET ended = excluded.ended, content = excluded.content
    )
    SELECT EXISTS (SELECT FROM owned)
"""


class HistoryTakenOver(Exception):
    """
    Raised when another server has opened the history of the same name.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"another server has the name {self.name}; set --server-name"


class PostgresHistory:
    """
    Save entries through the queue of the database's operations; this is a `HistoryStorage`.

    Call `read` first.  If the database could not be reached then, the entries are saved with
    numbers that follow those of the earlier servers.

    Args:
        queue: Runs operations on the database.
        wall_clock: Returns the time in seconds since the epoch.
        name: The name of this server.
        owner: A number that no other server has chosen.
    """

    def __init__(self, queue: PostgresQueue, wall_clock: WallClock, name: str, owner: int) -> None:
        self._queue = queue
        self._wall_clock = wall_clock
        self._name = name
        self._owner = owner
        # What is added to the numbers of entries; None until the history is this server's.
        self._offset: int | None = None

    def read(self, db: Connection, limit: int, oldest: float) -> SavedHistory:
        """
        Return the history that earlier servers have saved, and own it.  This blocks.

        Delete the entries and gaps that have expired.

        Args:
            db: The connection.
            limit: The number of entries to keep.
            oldest: The time before which entries and gaps have expired.

        Raises:
            psycopg.Error: The database cannot be read or written.
        """
        values = {
            "name": self._name,
            "now": self._wall_clock(),
            "limit": limit,
            "oldest": oldest,
        }
        # No server with another name waits for the locks of this transaction.
        with db.transaction():
            last = self._become_owner(db)
            for statement in _EXPIRE:
                db.execute(statement, values)
            gaps = db.execute(_GAPS, values).fetchall()
            rows = db.execute(_ENTRIES, values).fetchall()
        self._offset = 0
        entries = [
            SavedEntry(number, ended, content_from_json(content)) for number, ended, content in rows
        ]
        return SavedHistory(last, entries, [HistoryGap(*gap) for gap in gaps])

    def save(self, entries: Sequence[SavedEntry], removed: Sequence[int]) -> Deferred[None]:
        """
        Save new and changed entries, and remove others by their numbers.

        Until `end` has succeeded, the next server of the same name declares that history may be
        missing.

        Returns:
            A Deferred that fails with `HistoryTakenOver` or `StorageUnavailable` if they cannot
            be saved.
        """
        gone = set(removed)
        saved = [entry for entry in entries if entry.number not in gone]
        now = self._wall_clock()

        def save(db: Connection) -> None:
            if self._offset is None:
                with db.transaction():
                    last = self._become_owner(db)
                self._offset = last
            offset = self._offset
            values = {
                "name": self._name,
                "owner": self._owner,
                "now": now,
                "last": offset + max((entry.number for entry in entries), default=0),
                "removed": [offset + number for number in gone],
                "numbers": [offset + entry.number for entry in saved],
                "ended": [entry.ended for entry in saved],
                "contents": [to_json(entry.content) for entry in saved],
            }
            [[is_owner]] = db.execute(_SAVE, values)
            if not is_owner:
                raise HistoryTakenOver(self._name)

        return self._queue.write(save)

    def end(self) -> Deferred[None]:
        """
        Note that everything has been saved, and that the server ends.
        """

        def end(db: Connection) -> None:
            db.execute(
                "UPDATE history_servers SET unsaved = false WHERE server_name = %s AND owner = %s",
                (self._name, self._owner),
            )

        return self._queue.write(end)

    def _become_owner(self, db: Connection) -> int:
        """
        Own the history, within a transaction, and return the last number in it.
        """
        values = {
            "name": self._name,
            "owner": self._owner,
            "now": self._wall_clock(),
            "reason": ENDED_WITHOUT_SAVING,
        }
        for statement in _BECOME_OWNER:
            result = db.execute(statement, values)
        [[last]] = result
        return int(last)
