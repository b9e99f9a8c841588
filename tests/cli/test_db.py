"""
Tests for ``kiroworkers db``.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cli.db import main
from tests.postgres import SKIP, postgres


def run(*arguments: str) -> tuple[int, str, str]:
    """
    Run the command; return its exit status, standard output and standard error.
    """
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as errors:
        try:
            status = main(arguments)
        except SystemExit as error:
            assert isinstance(error.code, int)
            status = error.code
    return status, printed.getvalue(), errors.getvalue()


class ArgumentTests(SynchronousTestCase):
    """
    Tests for command lines that lead to no database.
    """

    def test_missing_file(self) -> None:
        """
        Without a file and its variable, the command line is invalid.
        """
        with patch.dict(os.environ):
            os.environ.pop("KIROWORKERS_DATABASE_FILE", None)
            status, _, errors = run("status")
        self.assertEqual(status, 2)
        self.assertIn("--database-file is missing", errors)

    def test_without_role(self) -> None:
        """
        Grants can be printed only for a role.
        """
        status, _, errors = run("upgrade", "--database-file", "x", "--print-grants")
        self.assertEqual(status, 2)
        self.assertIn("--print-grants needs --grant ROLE", errors)

    def test_invalid_file(self) -> None:
        """
        A file without an address is an error, which does not quote the file's content.
        """
        file = Path(self.mktemp())
        file.write_text("mysql://user:secret@host/database")
        status, printed, errors = run("status", "--database-file", str(file))
        self.assertEqual((status, printed), (1, ""))
        self.assertIn(f"--database-file {file}", errors)
        self.assertNotIn("secret", errors)

    def test_unreachable(self) -> None:
        """
        A database that cannot be reached is an error, without a traceback.
        """
        file = Path(self.mktemp())
        file.write_text("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
        status, printed, errors = run("upgrade", "--database-file", str(file))
        self.assertEqual((status, printed), (1, ""))
        self.assertTrue(errors.startswith("kiroworkers: the database: "), errors)

    def test_without_psycopg(self) -> None:
        """
        Without the extra, the command says how to install it.
        """
        with patch.dict(sys.modules, {"psycopg": None}):
            status, printed, errors = run("status", "--database-file", "x")
        self.assertEqual((status, printed), (1, ""))
        self.assertEqual(
            errors, "kiroworkers: this needs psycopg: pip install 'kiroworkers[postgres]'\n"
        )


class DatabaseTests(SynchronousTestCase):
    """
    Tests with a database that has no tables yet.
    """

    skip = SKIP

    def setUp(self) -> None:
        self.postgres = postgres()
        self.database = self.postgres.create_database(migrated=False)
        self.addCleanup(self.postgres.drop_database, self.database)
        self.file = Path(self.mktemp())
        self.file.write_text(f"{self.postgres.address(self.database)}\n")

    def run_command(self, *arguments: str) -> tuple[int, str, str]:
        return run(*arguments, "--database-file", str(self.file))

    def test_upgrade(self) -> None:
        """
        The tables are created once, and `status` tells whether a server can use them.
        """
        status, printed, errors = self.run_command("status")
        self.assertEqual((status, errors), (1, ""))
        self.assertIn("the database has no tables yet; run: kiroworkers db upgrade", printed)
        status, printed, errors = self.run_command("upgrade")
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(printed, "applied migration 1: initial\n")
        status, printed, errors = self.run_command("upgrade")
        self.assertEqual((status, printed, errors), (0, "the tables are up to date\n", ""))
        status, printed, errors = self.run_command("status")
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("this server can use the tables", printed)

    def test_later_version(self) -> None:
        """
        Tables of a later version, on which this server cannot work, are not called up to date.
        """
        self.run_command("upgrade")
        self.postgres.execute(
            "UPDATE kiroworkers.schema_version SET version = 99, oldest_server = 99", self.database
        )
        status, printed, errors = self.run_command("upgrade")
        self.assertEqual((status, printed), (1, ""))
        self.assertIn("version 99, which needs servers for schema 99 or later", errors)

    def test_no_rights(self) -> None:
        """
        A role without rights is told which role to use, in one line.
        """
        role = f"stranger_to_{self.database}"
        self.postgres.execute(f"CREATE ROLE {role} LOGIN")
        self.addCleanup(self.postgres.execute, f"DROP ROLE {role}")
        file = Path(self.mktemp())
        file.write_text(self.postgres.address(self.database, role))
        status, _, errors = run("upgrade", "--database-file", str(file))
        self.assertEqual(status, 1)
        self.assertIn("permission denied for database", errors)
        self.assertIn("the role that owns", errors)
        self.run_command("upgrade")
        status, _, errors = run("status", "--database-file", str(file))
        self.assertEqual((status, errors.count("\n")), (1, 1))
        self.assertIn("permission denied for schema kiroworkers; use the address", errors)
        self.assertIn("kiroworkers db upgrade --grant ROLE", errors)
        self.addCleanup(self.postgres.execute, f"DROP OWNED BY {role}", self.database)
        self.postgres.execute(
            f"GRANT USAGE ON SCHEMA kiroworkers TO {role}; "
            f"GRANT SELECT ON ALL TABLES IN SCHEMA kiroworkers TO {role}",
            self.database,
        )
        status, printed, errors = run("status", "--database-file", str(file))
        self.assertEqual(status, 1)
        self.assertNotIn("can use the tables", printed)
        self.assertIn("permission denied for table", errors)

    def test_variable(self) -> None:
        """
        The file may be named by the variable that servers read.
        """
        with patch.dict(os.environ, {"KIROWORKERS_DATABASE_FILE": str(self.file)}):
            self.assertEqual(run("upgrade")[0], 0)

    def test_grants(self) -> None:
        """
        The statements that --print-grants prints change nothing, and those that are executed give
        the role its rights.
        """
        role = f"role_of_{self.database}"
        self.postgres.execute(f"CREATE ROLE {role}")
        self.addCleanup(self.postgres.execute, f"DROP ROLE {role}")
        self.addCleanup(self.postgres.execute, f"DROP OWNED BY {role}", self.database)
        self.run_command("upgrade")
        may_read = f"SELECT has_table_privilege('{role}', 'kiroworkers.jobs', 'SELECT')"
        status, printed, _ = self.run_command("upgrade", "--grant", role, "--print-grants")
        self.assertEqual(status, 0)
        self.assertIn(f'GRANT USAGE ON SCHEMA kiroworkers TO "{role}";\n', printed)
        self.assertEqual(self.postgres.execute(may_read, self.database), [(False,)])
        status, printed, _ = self.run_command("upgrade", "--grant", role)
        self.assertEqual(status, 0)
        self.assertIn(f"{role} may read and write the tables\n", printed)
        self.assertEqual(self.postgres.execute(may_read, self.database), [(True,)])

    def test_unknown_role(self) -> None:
        """
        A role that does not exist is an error.
        """
        status, _, errors = self.run_command("upgrade", "--grant", "nobody at all")
        self.assertEqual(status, 1)
        self.assertIn('role "nobody at all" does not exist', errors)

    def test_refused(self) -> None:
        """
        A role that may not create the schema is told so, and no table is created.
        """
        role = f"role_of_{self.database}"
        self.postgres.execute(f"CREATE ROLE {role} LOGIN")
        self.addCleanup(self.postgres.execute, f"DROP ROLE {role}")
        self.file.write_text(self.postgres.address(self.database, user=role))
        status, printed, errors = self.run_command("upgrade")
        self.assertEqual((status, printed), (1, ""))
        self.assertIn("permission denied for database", errors)
