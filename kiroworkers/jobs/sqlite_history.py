"""
Save the request history in the database of the jobs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from kiroworkers.clocks import WallClock
from kiroworkers.jobs.json_rows import content_from_json, to_json
from kiroworkers.jobs.sqlite_engine import SqliteQueue
from kiroworkers.telemetry.request_history import (
    ENDED_WITHOUT_SAVING,
    HistoryGap,
    SavedEntry,
    SavedHistory,
)


class SqliteHistory:
    """
    Save entries through the queue of the database's operations; this is a `HistoryStorage`.

    Args:
        queue: Runs operations on the database.
        wall_clock: Returns the time in seconds since the epoch.
    """

    def __init__(self, queue: SqliteQueue, wall_clock: WallClock) -> None:
        self._queue = queue
        self._wall_clock = wall_clock

    def save(self, entries: Sequence[SavedEntry], removed: Sequence[int]) -> Deferred[None]:
        """
        Save new and changed entries, and remove others by their numbers.

        Until `end` has succeeded, the next server declares that history may be missing.
        """
        now = self._wall_clock()

        def save(db: sqlite3.Connection) -> None:
            db.execute("UPDATE server SET unsaved = 1, saved_at = ?", (now,))
            for entry in entries:
                db.execute(
                    "INSERT OR REPLACE INTO history VALUES (?, ?, ?)",
                    (entry.number, entry.ended, to_json(entry.content)),
                )
            for number in removed:
                db.execute("DELETE FROM history WHERE number = ?", (number,))

        return self._queue.write(save)

    def end(self) -> Deferred[None]:
        """
        Note that everything has been saved, and that the server ends.
        """

        def end(db: sqlite3.Connection) -> None:
            db.execute("UPDATE server SET unsaved = 0")

        return self._queue.write(end)


def read_history(
    database: sqlite3.Connection, now: float, limit: int, oldest: float
) -> SavedHistory:
    """
    Return the history that earlier servers have saved, and delete what has expired.  This blocks.

    Args:
        database: The database.
        now: The current time in seconds since the epoch.
        limit: The number of entries to keep.
        oldest: The time before which entries and gaps have expired.

    Raises:
        sqlite3.Error: The database cannot be read or written.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        # A server whose clock was ahead must not keep entries for ever.
        database.execute("UPDATE history SET ended = ?1 WHERE ended > ?1", (now,))
        database.execute(
            "INSERT INTO history_gaps SELECT ?, saved_at, ? FROM server WHERE unsaved",
            (ENDED_WITHOUT_SAVING, now),
        )
        database.execute("UPDATE server SET unsaved = 0")
        database.execute("DELETE FROM history_gaps WHERE ends < ?", (oldest,))
        database.execute(
            "DELETE FROM history WHERE ended < ? OR number NOT IN "
            "(SELECT number FROM history ORDER BY number DESC LIMIT ?)",
            (oldest, limit),
        )
        gaps = [
            HistoryGap(*row)
            for row in database.execute(
                "SELECT reason, begins, ends FROM history_gaps ORDER BY ends"
            )
        ]
        rows = database.execute(
            "SELECT number, ended, content FROM history ORDER BY number"
        ).fetchall()
        last = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'history'").fetchone()
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
    entries = [
        SavedEntry(number, ended, content_from_json(content)) for number, ended, content in rows
    ]
    return SavedHistory(0 if last is None else int(last[0]), entries, gaps)
