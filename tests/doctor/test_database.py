"""
Tests for `kiroworkers.doctor.database`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.doctor.database import check_database
from kiroworkers.doctor.finding import Finding, Outcome
from tests.postgres import SKIP, postgres


class CheckTests(SynchronousTestCase):
    """
    Tests for `check_database`.
    """

    def check(self, address: str, mode: int = 0o600) -> Finding:
        file = Path(self.mktemp())
        file.write_text(address)
        file.chmod(mode)
        finding = check_database(file)
        self.assertNotIn("secret", f"{finding.detail} {finding.advice}")
        return finding

    def assert_outcome(self, outcome: Outcome, part: str, finding: Finding) -> None:
        self.assertIs(finding.outcome, outcome, finding)
        self.assertIn(part, f"{finding.detail} {finding.advice}")


class WithoutDatabaseTests(CheckTests):
    """
    Tests for options that lead to no database.
    """

    def test_no_database(self) -> None:
        """
        A server without the option is right; one without psycopg is not.
        """
        self.assert_outcome(Outcome.OK, "no --database-file", check_database(None))
        with patch.dict(sys.modules, {"psycopg": None}):
            finding = self.check("postgresql://ann:secret@db1/kiro")
        self.assert_outcome(Outcome.FAILURE, "pip install 'kiroworkers[postgres]'", finding)

    def test_address(self) -> None:
        """
        A file without an address, and a database that cannot be reached, are failures.
        """
        self.assert_outcome(Outcome.FAILURE, "begins with postgresql://", self.check("secret"))
        finding = self.check("postgresql://ann:secret@127.0.0.1:1/kiro")
        self.assert_outcome(Outcome.FAILURE, "kiro on 127.0.0.1: connection failed", finding)


class DatabaseTests(CheckTests):
    """
    Tests with a real database.
    """

    skip = SKIP

    def setUp(self) -> None:
        self.postgres = postgres()

    def create(self, migrated: bool) -> str:
        name = self.postgres.create_database(migrated=migrated)
        self.addCleanup(self.postgres.drop_database, name)
        return name

    def test_no_tables(self) -> None:
        """
        A database without tables is a failure, with the command that creates them.
        """
        finding = self.check(self.postgres.address(self.create(migrated=False)))
        self.assert_outcome(Outcome.FAILURE, "no tables yet; run: kiroworkers db upgrade", finding)

    def test_roles(self) -> None:
        """
        The role needs the rights of a server, and should not own the tables; the file should be
        private.
        """
        database = self.create(migrated=True)
        finding = self.check(self.postgres.address(database))
        self.assert_outcome(Outcome.WARNING, "owns the tables", finding)
        role = f"role_of_{database}"
        self.postgres.execute(f"CREATE ROLE {role} LOGIN")
        self.addCleanup(self.postgres.execute, f"DROP ROLE {role}")
        self.addCleanup(self.postgres.execute, f"DROP OWNED BY {role}", database)
        address = self.postgres.address(database, role)
        finding = self.check(address)
        self.assert_outcome(Outcome.FAILURE, "permission denied for schema", finding)
        self.assert_outcome(Outcome.FAILURE, "--grant ROLE", finding)
        self.postgres.execute(f"GRANT USAGE ON SCHEMA kiroworkers TO {role}", database)
        self.postgres.execute(
            f"GRANT SELECT ON ALL TABLES IN SCHEMA kiroworkers TO {role}", database
        )
        finding = self.check(address)
        self.assert_outcome(Outcome.FAILURE, "permission denied for table", finding)
        self.postgres.execute(
            f"GRANT DELETE ON ALL TABLES IN SCHEMA kiroworkers TO {role}", database
        )
        self.assert_outcome(Outcome.OK, f"as {role}", self.check(address))
        self.assert_outcome(Outcome.WARNING, "chmod o-r", self.check(address, mode=0o644))
