"""
Create the schema of the shared database, and migrate it to later versions.

The schema's version is that of the last migration that was applied.  Servers of one version may
work on the schema of another: each migration names the oldest version whose servers can work on
the schema that it makes.  So the database is upgraded first, and then one server after the other.
A server never migrates the database itself.

To change the schema, add a file to the folder ``migrations``; never change one that was released.
Servers of the version before must be able to work on the result.  So add columns with defaults,
give a function a new name if its arguments or results change, and leave it to the next version
but one to remove what no server uses any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.resources import files

from attrs import frozen
from psycopg import Connection, sql

from kiroworkers.errors import CannotStart

#: The advisory lock under which the schema is changed.
_LOCK = "SELECT pg_advisory_xact_lock(24, -24)"

_FILE_NAME = re.compile(r"(\d{4})_([a-z_]+)\.sql")
_FIRST_LINE = re.compile(r"-- oldest server: (\d+)\n")

#: The oldest version of PostgreSQL that is supported, as its variable server_version_num.
_MIN_POSTGRES = 140_000

_CREATE = """
    CREATE SCHEMA IF NOT EXISTS kiroworkers;
    REVOKE ALL ON SCHEMA kiroworkers FROM PUBLIC;
    CREATE TABLE IF NOT EXISTS kiroworkers.schema_version (
        version int NOT NULL,
        oldest_server int NOT NULL
    );
"""

#: The rights of a server's role: everything but changes of the schema, also in later versions.
_GRANTS = (
    "GRANT USAGE ON SCHEMA kiroworkers TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA kiroworkers TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON kiroworkers.schema_version FROM {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA kiroworkers "
    "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
)


class MigrationFailed(Exception):
    """
    Raised when the schema cannot be migrated; the message says why.
    """


@frozen
class Migration:
    """
    Hold a script that migrates the schema from one version to the next.

    Attributes:
        version: The version that it makes.
        name: What it is about, in a word or two.
        oldest_server: The oldest version whose servers can work on the result.
        script: The statements.
    """

    version: int
    name: str
    oldest_server: int
    script: str


@frozen
class SchemaVersion:
    """
    Hold the version of a database's schema.

    Attributes:
        version: The version.
        oldest_server: The oldest version whose servers can work on it.
    """

    version: int
    oldest_server: int


def migrations() -> Sequence[Migration]:
    """
    Return all migrations, by version.

    Raises:
        ValueError: A file is not named or does not begin as it must.
    """
    found = []
    for file in (files("kiroworkers.cluster") / "migrations").iterdir():
        if file.name.endswith(".sql"):
            found.append(_migration(file.name, file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("the migrations are not numbered from 1 without a gap")
    return found


def _migration(file_name: str, script: str) -> Migration:
    name, oldest = _FILE_NAME.fullmatch(file_name), _FIRST_LINE.match(script)
    if name is None or oldest is None:
        raise ValueError(f"{file_name}: the name or the first line of a migration is not valid")
    return Migration(int(name[1]), name[2].replace("_", " "), int(oldest[1]), script)


def installed(connection: Connection) -> SchemaVersion | None:
    """
    Return the version of the database's schema, or None if there is none.

    Raises:
        psycopg.Error: The database cannot be read.
    """
    exists = connection.execute(
        "SELECT FROM pg_class JOIN pg_namespace AS n ON relnamespace = n.oid "
        "WHERE nspname = 'kiroworkers' AND relname = 'schema_version'"
    )
    if exists.fetchone() is None:
        return None
    row = connection.execute(
        "SELECT version, oldest_server FROM kiroworkers.schema_version"
    ).fetchone()
    return None if row is None else SchemaVersion(*row)


def problem(
    found: SchemaVersion | None, latest: int, upgrade: str = "kiroworkers db upgrade"
) -> str | None:
    """
    Return why a server cannot work on a schema, or None if it can.

    Args:
        found: The version of the schema; None if there is none.
        latest: The version of the schema for which the server was made.
        upgrade: The command that migrates the schema.
    """
    if found is None:
        return f"the database has no tables yet; run: {upgrade}"
    if found.version < latest:
        return (
            f"the database's schema has version {found.version}, and this server needs "
            f"{latest}; run: {upgrade}"
        )
    if found.version > latest and found.oldest_server > latest:
        return (
            f"the database's schema has version {found.version}, which needs servers for schema "
            f"{found.oldest_server} or later, and this server is for {latest}; "
            "upgrade kiroworkers"
        )
    return None


def check_schema(connection: Connection, upgrade: str = "kiroworkers db upgrade") -> None:
    """
    Check that a server of this version can work on the database's schema.

    Args:
        connection: A connection in autocommit mode.
        upgrade: The command that migrates the schema, for the message.

    Raises:
        CannotStart: It cannot; the message says what to do.
        psycopg.Error: The database cannot be read.
    """
    reason = problem(installed(connection), len(migrations()), upgrade)
    if reason is not None:
        raise CannotStart(f"kiroworkers: {reason}")


def check_rights(connection: Connection) -> None:
    """
    Check that the role of the connection may write the tables, as servers do.

    Raises:
        psycopg.Error: It may not.
    """
    connection.execute("DELETE FROM kiroworkers.keys WHERE false")


def upgrade(
    connection: Connection,
    steps: Sequence[Migration] | None = None,
    on_applied: Callable[[Migration], None] = lambda migration: None,
) -> None:
    """
    Apply the migrations that the database lacks, each in a transaction.

    Several may run this at the same time.

    Args:
        connection: A connection in autocommit mode, of a role that may create the schema.
        steps: All migrations, by version; by default those of this version.
        on_applied: Called with each migration that was applied.

    Raises:
        MigrationFailed: The database is too old, or has another encoding than UTF-8.
        psycopg.Error: A statement failed; its migration was not applied.
    """
    if connection.info.server_version < _MIN_POSTGRES:
        raise MigrationFailed(
            f"PostgreSQL {_MIN_POSTGRES // 10_000} or later is needed, and this is "
            f"{connection.info.server_version // 10_000}"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise MigrationFailed(f"the database's encoding must be UTF8, and is {encoding}")
    for step in migrations() if steps is None else steps:
        with connection.transaction():
            # Statements of servers would wait behind one of ours that waits for a lock.
            connection.execute("SELECT set_config('lock_timeout', '10s', true)")
            connection.execute(_LOCK)
            found = installed(connection)
            if found is not None and found.version >= step.version:
                continue
            if found is None:
                connection.execute(_CREATE)
            connection.execute("SELECT set_config('search_path', 'kiroworkers', true)")
            # The statement's text is a constant of this package.
            connection.execute(sql.SQL(step.script))
            connection.execute("DELETE FROM kiroworkers.schema_version")
            connection.execute(
                "INSERT INTO kiroworkers.schema_version VALUES (%s, %s)",
                (step.version, step.oldest_server),
            )
        on_applied(step)


def grant(connection: Connection, role: str) -> None:
    """
    Give the role of the servers the rights that they need, and no others.

    Args:
        connection: A connection of the role that owns the schema.
        role: The name of the role.

    Raises:
        psycopg.Error: There is no such role, or the schema is another role's.
    """
    with connection.transaction():
        for statement in grants(role):
            connection.execute(statement)


def grants(role: str) -> Sequence[sql.Composed]:
    """
    Return the statements that `grant` executes.
    """
    return [sql.SQL(statement).format(role=sql.Identifier(role)) for statement in _GRANTS]
