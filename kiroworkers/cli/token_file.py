"""
Read the token that a command sends to a server.
"""

from __future__ import annotations

from pathlib import Path

from kiroworkers.settings import inherited_environment

#: The variable with the token, for a command without --token-file.
TOKEN_VARIABLE = "KIROWORKERS_TOKEN"


class InvalidTokenFile(ValueError):
    """
    Raised when a file holds no token that can be sent; the message says why.
    """


def read_token(file: str | None) -> str | None:
    """
    Return the token in `file`, or in the environment if there is no file.

    Args:
        file: The value of --token-file; None without the option.

    Returns:
        The token, or None if there is none to send.

    Raises:
        InvalidTokenFile: The file cannot be read, or does not hold exactly one token.
    """
    if file is None:
        return inherited_environment().get(TOKEN_VARIABLE) or None
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTokenFile(f"--token-file: {error}") from None
    if not token.isascii() or len(token.split()) != 1:
        raise InvalidTokenFile(f"--token-file: {file} must hold one token and nothing else")
    return token
