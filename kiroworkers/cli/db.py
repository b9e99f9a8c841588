"""
Create or migrate the tables in the database of several servers: ``kiroworkers db upgrade``.

Run `upgrade` before you start the servers of a new version, as a role that may change the tables;
the servers themselves need fewer rights, which --grant gives to their role.  Servers of the
previous version can go on meanwhile.  `status` prints the version of the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kiroworkers.cli.output import print_output
from kiroworkers.errors import InvalidSetting
from kiroworkers.settings import inherited_environment

if TYPE_CHECKING:
    import psycopg

#: The variable with the file, for a command without --database-file.  Servers read it, too.
_VARIABLE = "KIROWORKERS_DATABASE_FILE"

_EPILOG = """\
exit status:
  0    the tables are as this version of the server needs them
  1    they are not, or the database cannot be used
  2    the command line is invalid
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line and return the exit status.

    Args:
        arguments: The arguments; by default those of this process.
    """
    parser = argparse.ArgumentParser(
        "kiroworkers db",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    upgrading = commands.add_parser("upgrade", help="create the tables, or migrate them")
    status = commands.add_parser("status", help="print the version of the tables")
    for command in (upgrading, status):
        command.add_argument(
            "--database-file",
            metavar="FILE",
            default=inherited_environment().get(_VARIABLE),
            help=f"file with the address of the database, postgresql://... [${_VARIABLE}]",
        )
    upgrading.add_argument(
        "--grant",
        metavar="ROLE",
        help="give a role the rights that servers need: to read and write the tables",
    )
    upgrading.add_argument(
        "--print-grants",
        action="store_true",
        help="with --grant: print its SQL statements, and change nothing",
    )
    options = parser.parse_args(arguments)
    if not options.database_file:
        parser.error("--database-file is missing")
    printing = options.command == "upgrade" and options.print_grants
    if printing and not options.grant:
        parser.error("--print-grants needs --grant ROLE")
    try:
        # Only here: psycopg is an extra.
        import psycopg

        from kiroworkers.cluster.address import read_address
        from kiroworkers.cluster.migrate import MigrationFailed
    except ImportError:
        _print_error("this needs psycopg: pip install 'kiroworkers[postgres]'")
        return 1
    try:
        address = read_address(Path(options.database_file), "kiroworkers db")
        with psycopg.connect(address, autocommit=True) as connection:
            if options.command == "status":
                return _status(connection)
            if printing:
                _print_grants(connection, options.grant)
            else:
                _upgrade(connection, options.grant)
    except (InvalidSetting, MigrationFailed) as error:
        _print_error(str(error))
        return 1
    except psycopg.errors.InsufficientPrivilege as error:
        owner = "use the address with the role that owns the tables and the database"
        if options.command == "status":
            owner += ", or give this role its rights: kiroworkers db upgrade --grant ROLE"
        # The first line of the message; the others quote the statement.
        _print_error(f"the database: {error.diag.message_primary or error}; {owner}")
        return 1
    except psycopg.Error as error:
        _print_error(f"the database: {str(error).strip()}")
        return 1
    return 0


def _upgrade(connection: psycopg.Connection, role: str | None) -> None:
    """
    Apply the migrations that the database lacks, and give the role its rights.
    """
    from kiroworkers.cluster import migrate

    applied: list[migrate.Migration] = []
    migrate.upgrade(connection, on_applied=applied.append)
    for migration in applied:
        print_output(f"applied migration {migration.version}: {migration.name}")
    found, latest = migrate.installed(connection), len(migrate.migrations())
    reason = migrate.problem(found, latest)
    if reason is not None:
        raise migrate.MigrationFailed(reason)
    if not applied:
        print_output("the tables are up to date")
    if role is not None:
        migrate.grant(connection, role)
        print_output(f"{role} may read and write the tables")


def _print_grants(connection: psycopg.Connection, role: str) -> None:
    from kiroworkers.cluster.migrate import grants

    for statement in grants(role):
        print_output(f"{statement.as_string(connection)};")


def _status(connection: psycopg.Connection) -> int:
    """
    Print the version of the tables, and return the exit status.
    """
    from kiroworkers.cluster import migrate

    found, latest = migrate.installed(connection), len(migrate.migrations())
    if found is not None:
        print_output(
            f"version of the tables: {found.version}, for servers that were made for version "
            f"{found.oldest_server} or later"
        )
    print_output(f"version that this server was made for: {latest}")
    reason = migrate.problem(found, latest)
    if reason is not None:
        print_output(reason)
        return 1
    migrate.check_rights(connection)
    print_output("this server can use the tables")
    return 0


def _print_error(message: str) -> None:
    print(f"kiroworkers: {message.removeprefix('kiroworkers: ')}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
