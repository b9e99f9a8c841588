"""
Tests for `kiroworkers.cluster.migrate` and the migrations.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise
from threading import Barrier
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import CannotStart
from kiroworkers.jobs.job import JobAnswer
from tests.postgres import SKIP, SynchronousDatabaseTestCase, postgres

if SKIP is None:
    import psycopg

    from kiroworkers.cluster import migrate, statements
    from kiroworkers.cluster.migrate import Migration, SchemaVersion

_VERSIONS = "SELECT version, oldest_server FROM kiroworkers.schema_version"


class MigrationTests(SynchronousTestCase):
    """
    Tests for `migrations`, `problem` and the scripts.
    """

    skip = SKIP

    def test_versions(self) -> None:
        """
        Each migration can be used by servers of the version before, and begins at 1.
        """
        steps = migrate.migrations()
        self.assertEqual(steps[0].version, 1)
        for step in steps:
            self.assertIn(step.oldest_server, (step.version, step.version - 1))

    def test_comments(self) -> None:
        """
        Each function and each table has a comment that says what it is for.
        """
        for step in migrate.migrations():
            lines = ["", *step.script.splitlines()]
            for before, line in pairwise(lines):
                if re.match(r"CREATE (UNLOGGED TABLE|TABLE|VIEW|FUNCTION)", line):
                    with_table_before = before == ");" or before.startswith("CREATE")
                    self.assertTrue(before.startswith("--") or with_table_before, line)

    def test_problem(self) -> None:
        """
        A server can work on its own version of the schema, and on later ones that say so.
        """
        can_use = [(3, 3), (3, 2), (4, 3), (4, 2)]
        cannot = {(2, 2): "kiroworkers db upgrade", (4, 4): "upgrade kiroworkers"}
        for version, oldest in can_use:
            self.assertIsNone(migrate.problem(SchemaVersion(version, oldest), 3))
        for (version, oldest), advice in cannot.items():
            reason = migrate.problem(SchemaVersion(version, oldest), 3)
            assert reason is not None
            self.assertIn(advice, reason)
        self.assertIn("run: x", migrate.problem(None, 3, "x") or "")


class UpgradeTests(SynchronousTestCase):
    """
    Tests with a database that has no schema yet.
    """

    skip = SKIP

    def setUp(self) -> None:
        self.numbers = count(1)
        self.postgres = postgres()
        self.database = self.postgres.create_database(migrated=False)
        self.addCleanup(self.postgres.drop_database, self.database)

    def connect(self) -> psycopg.Connection[Any]:
        address = self.postgres.address(self.database)
        connection = psycopg.connect(address, autocommit=True)
        self.addCleanup(connection.close)
        return connection

    def versions(self) -> list[tuple[Any, ...]]:
        return self.postgres.execute(_VERSIONS, self.database)

    def test_upgrade(self) -> None:
        """
        An empty database gets the current schema; before, no server can start.
        """
        connection = self.connect()
        with self.assertRaises(CannotStart) as caught:
            migrate.check_schema(connection)
        self.assertIn("kiroworkers db upgrade", str(caught.exception))
        migrate.upgrade(connection)
        migrate.check_schema(connection)
        last = migrate.migrations()[-1]
        self.assertEqual(self.versions(), [(last.version, last.oldest_server)])

    def test_together(self) -> None:
        """
        Several that upgrade a database at the same time apply each migration once.
        """
        barrier = Barrier(4)
        applied: list[Migration] = []

        def run(connection: psycopg.Connection[Any]) -> None:
            barrier.wait()
            migrate.upgrade(connection, on_applied=applied.append)

        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(run, [self.connect() for _ in range(4)]):
                pass
        self.assertEqual(applied, [*migrate.migrations()])

    def test_failure(self) -> None:
        """
        A migration that fails changes nothing, and those before it are kept.
        """
        first = migrate.migrations()[0]
        bad = evolve(first, version=2, script="CREATE TABLE extra (x int); SELECT 1 / 0")
        connection = self.connect()
        self.assertRaises(psycopg.Error, migrate.upgrade, connection, [first, bad])
        self.assertEqual(self.versions(), [(1, 1)])
        exists = connection.execute("SELECT to_regclass('kiroworkers.extra')").fetchone()
        self.assertEqual(exists, (None,))

    def test_encoding(self) -> None:
        """
        A database whose encoding lacks some characters is refused.
        """
        self.postgres.execute(
            "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        )
        self.addCleanup(self.postgres.drop_database, "latin")
        with (
            psycopg.connect(self.postgres.address("latin"), autocommit=True) as connection,
            self.assertRaises(migrate.MigrationFailed) as raised,
        ):
            migrate.upgrade(connection)
        self.assertEqual(
            str(raised.exception), "the database's encoding must be UTF8, and is LATIN1"
        )

    def test_next_version(self) -> None:
        """
        A later migration is applied while a server of this version works on the schema, and the
        server goes on; it cannot start on a schema that needs later servers.
        """
        steps = migrate.migrations()
        number = len(steps)
        later = Migration(number + 1, "more", number, "ALTER TABLE jobs ADD extra int DEFAULT 1")
        upgrading, connection = self.connect(), self.connect()
        migrate.upgrade(upgrading)
        connection.execute("SET search_path = kiroworkers")
        server = statements.register_server(connection, 60.0, "one", "1", "", "", "serving", {})
        # As often as psycopg and PostgreSQL need to prepare all statements.
        for _ in range(8):
            self.run_job(connection, server)
        migrate.upgrade(upgrading, [*steps, later])
        for _ in range(8):
            self.run_job(connection, server)
        migrate.check_schema(connection)
        too_new = evolve(later, version=number + 2, oldest_server=number + 1, script="SELECT 1")
        migrate.upgrade(upgrading, [*steps, later, too_new])
        with self.assertRaises(CannotStart) as caught:
            migrate.check_schema(connection)
        self.assertIn("upgrade kiroworkers", str(caught.exception))

    def run_job(self, connection: psycopg.Connection[Any], server: int) -> None:
        """
        Do with jobs what a server does, through all functions that concern them.
        """
        first, second = f"job{next(self.numbers)}", f"job{next(self.numbers)}"
        for id in (first, second):
            connection.execute(
                "SELECT FROM add_job(%s, 'ann', 'kiro', 'task', '{}', NULL, 5, NULL, NULL, '', "
                "'', '', 99, 9999, 9999)",
                (id,),
            )
        [job] = statements.claim_jobs(connection, server, {"kiro": 1})
        values = (connection, server, job.job.id, job.claims)
        statements.release_job(*values, 0, 0, first=True)
        [job] = statements.claim_jobs(connection, server, {"kiro": 1})
        held = {first: job.claims}
        self.assertEqual(
            statements.heartbeat(connection, server, 60.0, "serving", {}, held, complete=True), []
        )
        values = (connection, server, job.job.id, job.claims)
        self.assertIsNotNone(statements.end_job(*values, 1, "done", JobAnswer({})))
        self.assertIsNotNone(statements.cancel_job(connection, second, server, 1.0))
        statements.sweep(connection, server)


class RightsTests(SynchronousDatabaseTestCase):
    """
    Tests for `grant`.
    """

    def setUp(self) -> None:
        super().setUp()
        self.role = f"server_of_{self.database}"
        owner = self.connect()
        owner.execute(f"CREATE ROLE {self.role} LOGIN".encode())
        self.addCleanup(self.postgres.execute, f"DROP ROLE {self.role}")
        self.addCleanup(self.postgres.execute, f"DROP OWNED BY {self.role}", self.database)
        migrate.grant(owner, self.role)
        self.db = self.connect(self.postgres.address(self.database, user=self.role))

    def test_enough(self) -> None:
        """
        The role can do all that servers do.
        """
        migrate.check_schema(self.db)
        server = statements.register_server(self.db, 60.0, "one", "1", "", "", "serving", {})
        for id in ("a", "b"):
            self.db.execute(
                "SELECT FROM add_job(%s, 'ann', 'kiro', 'task', '{}', NULL, 5, NULL, NULL, '', "
                "'', '', 9, 99, 99, %s, 'f')",
                (id, id),
            )
        self.assertEqual(len(statements.claim_jobs(self.db, server, {"kiro": 1})), 1)
        self.assertEqual(
            statements.heartbeat(self.db, server, 60.0, "serving", {}, {"a": 1}, complete=True), []
        )
        statements.release_job(self.db, server, "a", 1, 0, 0, first=True)
        [job] = statements.claim_jobs(self.db, server, {"kiro": 1})
        values = (self.db, server, job.job.id, job.claims, 1)
        self.assertIsNotNone(statements.end_job(*values, "done", JobAnswer({})))
        self.assertIsNotNone(statements.cancel_job(self.db, "b", server, 1.0))
        self.db.execute("SELECT reserve_key(%s, 'ann', 'task', 'k', 'f')", (server,))
        self.db.execute("SELECT save_response(%s, 'ann', 'task', 'k', 'f', '{}')", (server,))
        self.db.execute("SELECT delete_expired(now_seconds(), 10)")
        statements.leave_server(self.db, server)
        self.assertEqual(statements.sweep(self.db, server), (0, 0))

    def test_no_more(self) -> None:
        """
        The role cannot change the schema or its version.
        """
        for statement in (
            "CREATE TABLE extra (x int)",
            "ALTER TABLE jobs ADD extra int",
            "DROP FUNCTION now_seconds()",
            "TRUNCATE jobs",
            "UPDATE schema_version SET version = 9",
            "INSERT INTO schema_version VALUES (9, 9)",
        ):
            with self.assertRaises(psycopg.errors.InsufficientPrivilege, msg=statement):
                self.db.execute(statement.encode())

    def test_others(self) -> None:
        """
        A role without grants cannot read anything.
        """
        owner = self.connect()
        other = f"other_of_{self.database}"
        owner.execute(f"CREATE ROLE {other} LOGIN".encode())
        self.addCleanup(self.postgres.execute, f"DROP ROLE {other}")
        stranger = self.connect(self.postgres.address(self.database, user=other))
        with self.assertRaises(psycopg.errors.InsufficientPrivilege):
            stranger.execute("SELECT FROM kiroworkers.jobs")
