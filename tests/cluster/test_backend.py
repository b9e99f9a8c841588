"""
Tests for `kiroworkers.cluster.backend`, on a real database.
"""

from __future__ import annotations

import time
from pathlib import Path

from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent

from kiroworkers.cluster.backend import ClusterBackend
from kiroworkers.errors import CannotStart
from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.settings import Settings
from tests.postgres import SynchronousDatabaseTestCase


class OpenTests(SynchronousDatabaseTestCase):
    """
    Tests for how `ClusterBackend` opens the database when a server starts.
    """

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp()).resolve()

    def open(self, address: str) -> None:
        """
        Open the database at `address`, as a server does.
        """
        self.file.write_text(address)
        settings = Settings.read({"database-file": str(self.file)}, {})
        executor = ThreadExecutor(reactor)
        backend = ClusterBackend(reactor, time.time, executor, settings, "a")
        self.addCleanup(lambda: self.successResultOf(backend.close()))
        backend.open(None, True, 100, 3600.0)

    def reason(self, address: str) -> str:
        """
        Return why a server cannot start with the database at `address`.
        """
        return str(self.assertRaises(CannotStart, self.open, address))

    def test_read_only(self) -> None:
        """
        A server starts with a database that is read-only at the moment, and says so.
        """
        self.postgres.execute(
            f"ALTER DATABASE {self.database} SET default_transaction_read_only = on"
        )
        with capturedLogs() as logs:
            self.open(self.address)
        [line] = [formatEvent(event) for event in logs if "log_level" in event]
        self.assertIn("read-only transaction", line)

    def test_no_rights(self) -> None:
        """
        A server does not start with a role that has no rights, and says how to grant them.
        """
        role = f"stranger_to_{self.database}"
        self.postgres.execute(f"CREATE ROLE {role} LOGIN")
        self.addCleanup(self.postgres.execute, f"DROP ROLE {role}")
        reason = self.reason(self.postgres.address(self.database, role))
        self.assertIn("permission denied for schema kiroworkers", reason)
        self.assertIn("kiroworkers db upgrade", reason)
        self.assertIn("--grant", reason)

    def test_no_tables(self) -> None:
        """
        A server does not start without tables, and says which command creates them.
        """
        name = self.postgres.create_database(migrated=False)
        self.addCleanup(self.postgres.drop_database, name)
        reason = self.reason(self.postgres.address(name))
        self.assertIn(f"run: kiroworkers db upgrade --database-file {self.file}", reason)

    def test_wrong_address(self) -> None:
        """
        A server does not start if the connection fails for a reason that lasts.
        """
        for option, reason in (
            ("sslmode=require", "does not support SSL"),
            ("sslmode=verify", "invalid sslmode"),
        ):
            self.assertIn(reason, self.reason(f"{self.address}?{option}"))

    def test_unreachable(self) -> None:
        """
        A server starts with a database that cannot be reached at the moment.
        """
        with capturedLogs() as logs:
            self.open("postgresql://127.0.0.1:1/none")
        [line] = [formatEvent(event) for event in logs if "log_level" in event]
        self.assertIn("the database none on 127.0.0.1 cannot be used yet", line)
