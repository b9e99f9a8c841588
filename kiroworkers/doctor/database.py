"""
Check the database of several servers.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from kiroworkers.doctor.finding import Finding, failure, ok, warning
from kiroworkers.errors import CannotStart, InvalidSetting

if TYPE_CHECKING:
    import psycopg

_NAME = "database"

_UPGRADE = "kiroworkers db upgrade --database-file FILE --grant ROLE"


def check_database(file: Path | None) -> Finding:
    """
    Check that the server can use the database.  This blocks.

    Args:
        file: The file of --database-file; None without the option.
    """
    if file is None:
        return ok(_NAME, "this server's own, in the state folder (no --database-file)")
    try:
        # Only here: psycopg is an extra.
        import psycopg

        from kiroworkers.cluster.address import describe, read_address
    except ImportError:
        return failure(
            _NAME, "--database-file needs psycopg", "Run pip install 'kiroworkers[postgres]'"
        )
    try:
        address = read_address(file, "kiroworkers doctor")
    except InvalidSetting as error:
        return failure(_NAME, f"{file}: {error.reason}", "Correct the file")
    where = describe(address)
    try:
        with psycopg.connect(address, autocommit=True) as connection:
            finding = _check_connection(connection, where)
    except psycopg.errors.InsufficientPrivilege as error:
        reason = error.diag.message_primary
        return failure(_NAME, f"{where}: {reason}", f"Run {_UPGRADE} as the tables' owner")
    except psycopg.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        return failure(_NAME, f"{where}: {reason}", "Correct the address, or start the database")
    if file.stat().st_mode & stat.S_IROTH:
        return warning(_NAME, f"{file}: any user can read it", f"Run chmod o-r {file}")
    return finding


def _check_connection(connection: psycopg.Connection, where: str) -> Finding:
    """
    Check the tables, and what protects them.

    Raises:
        psycopg.Error: The database cannot be used.
    """
    from kiroworkers.cluster.migrate import check_rights, check_schema

    try:
        check_schema(connection, _UPGRADE)
    except CannotStart as error:
        reason = str(error).removeprefix("kiroworkers: ")
        return failure(_NAME, f"{where}: {reason}", "Do that before you start the server")
    check_rights(connection)
    role, owner = connection.execute(
        "SELECT current_user, pg_get_userbyid(nspowner) FROM pg_namespace "
        "WHERE nspname = 'kiroworkers'"
    ).fetchone() or ("", "")
    if role == owner:
        return warning(
            _NAME,
            f"{where}: the role {role} owns the tables, so it can drop them",
            "Use another one in --database-file; kiroworkers db upgrade --grant gives it rights",
        )
    # Empty for a UNIX socket.
    host = connection.info.hostaddr
    is_local = not host or host == "::1" or host.startswith("127.")
    if not connection.pgconn.ssl_in_use and not is_local:
        return warning(
            _NAME,
            f"{where}: the connection is not encrypted",
            "Write sslmode=verify-full into the address",
        )
    return ok(_NAME, f"{where}, as {role}")
