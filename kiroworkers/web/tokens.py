"""
Tokens that requests bear: who they belong to, and what they are good for.

A file has one token a line::

    # name     scopes          token
    backend    ask             f3b1c9…
    dashboard  watch           0a44d2…
    admin      ask,operate     9c1e07…
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from attrs import field, frozen

from kiroworkers.errors import InvalidSetting

#: What a token may be good for: to ask tasks, to see the server's health, and to
#: control it, which includes seeing.
SCOPES = ("ask", "watch", "operate")

#: Shorter tokens could be guessed.
_SHORTEST = 16


@frozen
class ApiToken:
    """
    Who has a token, and its scopes.  The token itself is not kept.
    """

    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)

    def may(self, scope: str) -> bool:
        """
        Is the token good for `scope`?
        """
        return scope in self.scopes or (scope == "watch" and "operate" in self.scopes)


def read_tokens(path: Path) -> list[ApiToken]:
    """
    The tokens in the file `path`.

    Raises:
        InvalidSetting: naming the line that is wrong, but no token.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidSetting("--token-file", str(path), str(problem)) from None
    tokens: list[ApiToken] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        wrong = _wrong(words, tokens)
        if wrong is not None:
            raise InvalidSetting("--token-file", str(path), f"line {number}: {wrong}")
        name, scopes, token = words
        tokens.append(ApiToken(name, frozenset(scopes.split(",")), _digest(token)))
    if not tokens:
        raise InvalidSetting("--token-file", str(path), "has no token")
    return tokens


def find_token(token: str, tokens: Sequence[ApiToken]) -> ApiToken | None:
    """
    Whose `token` is.  Takes the same time whichever it is.
    """
    digest = _digest(token)
    found = [each for each in tokens if hmac.compare_digest(each.digest, digest)]
    return found[0] if found else None


def _wrong(words: Sequence[str], before: Sequence[ApiToken]) -> str | None:
    if len(words) != 3:
        return "must be a name, scopes and a token"
    name, scopes, token = words
    if any(each.name == name for each in before):
        return f"the name {name!r} is taken"
    unknown = [each for each in scopes.split(",") if each not in SCOPES]
    if unknown:
        return f"{unknown[0]!r} is no scope; there are {', '.join(SCOPES)}"
    if len(token) < _SHORTEST or not token.isascii():
        return f"a token must have at least {_SHORTEST} ASCII characters"
    if any(each.digest == _digest(token) for each in before):
        return "the token is another's"
    return None


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
