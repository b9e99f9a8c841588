"""
Connections to SQLite whose storage fails when a test says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

Fault: TypeAlias = Literal["full", "io", "locked"]

#: The error of each fault, as SQLite words it, and its extended code.
_ERRORS: dict[Fault, tuple[str, int]] = {
    "full": ("database or disk is full", sqlite3.SQLITE_FULL),
    "io": ("disk I/O error", sqlite3.SQLITE_IOERR_WRITE),
    "locked": ("database is locked", sqlite3.SQLITE_BUSY),
}

#: What begins a statement that changes the database.
_WRITES = ("INSERT", "UPDATE", "DELETE", "COMMIT", "PRAGMA user_version =", "PRAGMA incremental")


class Faults:
    """
    Make connections fail as their storage would.

    Attributes:
        fault: What is wrong with the storage; None while it works.
        strikes: Decides for each statement whether the fault affects it.
        failures: The number of statements that have failed.
        connection: The class of the connections.
    """

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.strikes: Callable[[], bool] = lambda: True
        self.failures = 0
        faults = self

        class FaultyConnection(sqlite3.Connection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                faults.check(statement.lstrip())
                return super().execute(statement, *values)

        self.connection: type[sqlite3.Connection] = FaultyConnection

    def check(self, statement: str) -> None:
        """
        Fail if the fault affects `statement`.

        Raises:
            sqlite3.OperationalError: It does.
        """
        if self.fault is None or statement.startswith("ROLLBACK"):
            return
        if self.fault == "locked" and not statement.startswith("BEGIN"):
            return
        if self.fault == "full" and not statement.startswith(_WRITES):
            return
        if self.strikes():
            self.failures += 1
            message, code = _ERRORS[self.fault]
            error = sqlite3.OperationalError(message)
            error.sqlite_errorcode = code
            raise error
