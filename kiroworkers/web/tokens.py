"""
Read the tokens that authorize requests, with their names and scopes, from a file.

The file has one token per line::

    # name     scopes          token
    backend    ask             f3b1c9…
    dashboard  watch           0a44d2…
    admin      ask,operate     9c1e07…
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import field, frozen

from kiroworkers.errors import InvalidSetting

#: What a request may need a token for: to run tasks, to read the server's health, to operate
#: the server, or to read and delete jobs.
Scope: TypeAlias = Literal["ask", "watch", "operate", "jobs"]

#: The scopes that a token may have, each of which allows what the request needs.
GRANTED_BY: Mapping[Scope, tuple[Scope, ...]] = {
    "ask": ("ask",),
    "watch": ("watch", "operate"),
    "operate": ("operate",),
    # A client sees its own jobs, and an operator sees all.
    "jobs": ("ask", "operate"),
}

#: The scopes that a token may have.
SCOPES: tuple[Scope, ...] = ("ask", "watch", "operate")

#: Characters; a shorter token could be guessed.
_MIN_LENGTH = 16


@frozen
class ApiToken:
    """
    Hold the name and the scopes of a token, but only a digest of the token itself.

    Attributes:
        name: The client that the token belongs to.
        scopes: What the token allows, from `SCOPES`.
        digest: The token's SHA-256 digest.
    """

    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)

    def allows(self, scope: Scope) -> bool:
        """
        Return whether the token allows what `scope` stands for.
        """
        return not self.scopes.isdisjoint(GRANTED_BY[scope])


def read_tokens(path: Path) -> list[ApiToken]:
    """
    Return the tokens in the file at `path`.

    Raises:
        InvalidSetting: The file cannot be read, has no token or has an invalid line.  The
            message names the line but shows no token.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting("--token-file", str(path), str(error)) from None
    tokens: list[ApiToken] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        problem = _problem(words, tokens)
        if problem is not None:
            raise InvalidSetting("--token-file", str(path), f"line {number}: {problem}")
        name, scopes, token = words
        tokens.append(ApiToken(name, frozenset(scopes.split(",")), _digest(token)))
    if not tokens:
        raise InvalidSetting("--token-file", str(path), "contains no token")
    return tokens


def find_token(token: str, tokens: Sequence[ApiToken]) -> ApiToken | None:
    """
    Return the entry of `tokens` for `token`, or None if it is unknown.

    The comparison takes the same time for every token, so that timing reveals nothing.
    """
    if not token.isascii():
        # As all tokens are; and what is not may not even have an encoding.
        return None
    digest = _digest(token)
    matches = [known for known in tokens if hmac.compare_digest(known.digest, digest)]
    return matches[0] if matches else None


def _problem(words: Sequence[str], previous: Sequence[ApiToken]) -> str | None:
    """
    Return what is wrong with the line of these `words`, or None.
    """
    if len(words) != 3:
        return "must be a name, scopes and a token"
    name, scopes, token = words
    if any(earlier.name == name for earlier in previous):
        return f"the name {name!r} is already in use"
    unknown = [scope for scope in scopes.split(",") if scope not in SCOPES]
    if unknown:
        return f"unknown scope {unknown[0]!r}; the scopes are {', '.join(SCOPES)}"
    if len(token) < _MIN_LENGTH or not token.isascii():
        return f"a token must have at least {_MIN_LENGTH} ASCII characters"
    if any(earlier.digest == _digest(token) for earlier in previous):
        return "the token is already in use"
    return None


def _digest(token: str) -> bytes:
    return sha256(token.encode("ascii")).digest()
