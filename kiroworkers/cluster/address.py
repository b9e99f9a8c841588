"""
Read the address of the database that --database-file names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from kiroworkers.errors import InvalidSetting

_NAME = "--database-file"

#: What an address begins with.
_SCHEMES = ("postgresql://", "postgres://")

#: How an address is to be written that libpq understands, or understands wrongly.
_ESCAPES = "in a password, write %, @, / and ? as %25, %40, %2F and %3F"

#: Parameters of a connection, where the address does not set them.  A connection that broke
#: silently is noticed within these seconds (``tcp_user_timeout``: milliseconds).
_DEFAULTS: Mapping[str, str | int] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "client_encoding": "utf8",
}


def read_address(file: Path, application: str = "kiroworkers") -> str:
    """
    Return the address in `file` as a connection string of libpq.

    The variables of libpq, such as PGPASSFILE, complete it when a connection is made.

    Args:
        file: Holds one address, with white space around it or not.
        application: The name under which the database lists the connection.

    Raises:
        InvalidSetting: The file cannot be read, or holds no address.  The message does not quote
            the address, which may contain a password.
    """
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(_NAME, str(file), str(error)) from None
    if not text.startswith(_SCHEMES):
        problem = "must contain an address that begins with postgresql://"
        raise InvalidSetting(_NAME, str(file), problem)
    try:
        given = conninfo_to_dict(text)
    except ProgrammingError:
        # Its message may quote what it does not understand.
        problem = f"contains an address that libpq does not understand; {_ESCAPES}"
        raise InvalidSetting(_NAME, str(file), problem) from None
    # Parts of a password that is not escaped end up here, and messages would quote them.
    if "@" in str(given.get("host", "")):
        raise InvalidSetting(
            _NAME, str(file), f"contains an address with more than one @; {_ESCAPES}"
        )
    if not all(port.isdecimal() for port in str(given.get("port", "")).split(",") if port):
        raise InvalidSetting(_NAME, str(file), f"contains a port that is no number; {_ESCAPES}")
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
    defaults["fallback_application_name"] = application
    return make_conninfo(text, **defaults)


def describe(address: str) -> str:
    """
    Return the hosts and the database of a connection string, without a user and a password.
    """
    given = conninfo_to_dict(address)
    host = given.get("host") or given.get("hostaddr") or "the default host"
    return f"{given.get('dbname') or 'the default database'} on {host}"
