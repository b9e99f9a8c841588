"""
Find secrets in text that arrives in pieces, and replace them.

A secret may be cut anywhere, so the end of a piece that may be the beginning of a secret is
undecided until the next piece comes::

    >>> stream = RedactingStream(SecretFinder(["hunter22"]))
    >>> stream.feed("password: hun")
    []
    >>> stream.feed("ter22, thanks")
    ['password: [redacted]', ', thanks']

Only the value itself is found, and its forms in JSON and in URLs: not a value that a program
encodes otherwise, or shows in part.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from urllib.parse import quote, urlsplit

#: What stands in the place of a secret.
REDACTED = "[redacted]"

#: Shorter values are not looked for: they would be found in innocent text.
MIN_LENGTH = 6

#: A line of a value with several lines, such as a key in PEM, is looked for by itself if it
#: has at least this length.
_MIN_LINE = 16

#: Names of variables whose values are secret.
_SECRET_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|PRIVATE|AUTH(?!OR)",
    re.IGNORECASE,
)

#: The pattern of --pass-env for all variables, most of which are not secret.
_EVERYTHING = "*"

#: What may be in the midst of a secret on a terminal: line breaks and control sequences.
#: It begins with a set of characters, which makes the search for it twice as fast.
_INVISIBLE = re.compile(r"[\x1b\r\n](?:(?<=\x1b)\[[0-?]*[ -/]*[@-~]|(?<=[\r\n]))")

#: The beginning of a control sequence at the end of a piece.
_CUT_OFF = re.compile(r"\x1b(?:\[[0-?]*[ -/]*)?\Z")

#: The characters of them that may be in the midst of a secret, at least.
_MAX_INVISIBLE = 1024

#: The number of characters that may be undecided; more than any secret has.
_MAX_UNDECIDED = 256 * 1024


def secrets_in(environment: Mapping[str, str], passed: Iterable[str] = ()) -> list[str]:
    """
    Return the secret values of `environment`.

    These are the values of variables whose names say so, of those that the operator passed on
    by name, and the passwords in URLs, such as that of a proxy.

    Args:
        environment: The variables that a session was given.
        passed: The names and patterns of --pass-env, with or without an agent.
    """
    patterns = {entry.rpartition(":")[2] for entry in passed} - {_EVERYTHING}
    found: list[str] = []
    for name, value in environment.items():
        if _SECRET_NAME.search(name) or any(fnmatchcase(name, pattern) for pattern in patterns):
            lines = value.split("\n")
            found.append(value.strip())
            if len(lines) > 1:
                found += (line.strip() for line in lines if len(line.strip()) >= _MIN_LINE)
        elif "@" in value and "://" in value:
            found.append(_password(value))
    return [value for value in dict.fromkeys(found) if len(value) >= MIN_LENGTH]


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""


class SecretFinder:
    """
    Find secrets, in all forms in which they are looked for.

    Args:
        secrets: The values.
        in_terminal: Whether text is what a terminal gets: bytes, with a character for each as
            ``latin-1`` decodes them.  Line breaks and escape sequences in the midst of a secret
            are then passed over, because programs wrap long lines.

    Attributes:
        forms: What is looked for; empty if there is nothing to find.
    """

    def __init__(self, secrets: Iterable[str], *, in_terminal: bool = False) -> None:
        self._in_terminal = in_terminal
        forms: dict[str, None] = {}
        for secret in secrets:
            for form in (
                secret,
                secret.replace("\n", "\r\n"),
                json.dumps(secret)[1:-1],
                json.dumps(secret, ensure_ascii=False)[1:-1],
                json.dumps(secret)[1:-1].replace("/", "\\/"),
                quote(secret, safe=""),
            ):
                if in_terminal:
                    # The environment may hold what is not UTF-8.
                    data = form.encode("utf-8", "surrogateescape").decode("latin-1")
                    forms[_INVISIBLE.sub("", data)] = None
                else:
                    forms[form] = None
        # The longest first, because one may begin with another.
        self.forms = tuple(sorted(filter(None, forms), key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self.forms)))
        self._first = re.compile("|".join({re.escape(form[0]) for form in self.forms}))
        self._last_text = self._last_visible = ""
        self._longest = max(map(len, self.forms), default=0)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """
        Return where the secrets in `text` begin and end.
        """
        visible = self._visible(text)
        # Looking for each in turn is much faster than the pattern where there is none.
        if not any(form in visible for form in self.forms):
            return []
        found = [match.span() for match in self._pattern.finditer(visible)]
        if len(visible) == len(text):
            return found
        positions = _visible_positions(text)
        return [(positions[start], positions[end - 1] + 1) for start, end in found]

    def open_length(self, text: str) -> int:
        """
        Return the length of the longest end of `text` that may be the beginning of a secret.
        """
        if not self.forms:
            return 0
        if self._in_terminal:
            # Half an escape sequence is no reason to decide; most of what is between is short.
            text = text[-2 * self._longest - _MAX_INVISIBLE :]
            whole = _CUT_OFF.sub("", text)
        else:
            whole = text
        visible = self._visible(whole)
        for match in self._first.finditer(visible, max(0, len(visible) - self._longest + 1)):
            end = visible[match.start() :]
            if any(form.startswith(end) and form != end for form in self.forms):
                if len(visible) == len(whole):
                    return len(text) - match.start()
                return len(text) - _visible_positions(whole)[match.start()]
        return 0

    def redact(self, text: str) -> str:
        """
        Return `text` without the secrets in it.
        """
        return _redacted(text, 0, self.spans(text))

    def _visible(self, text: str) -> str:
        """
        Return `text` as it is compared with the secrets.
        """
        if not self._in_terminal:
            return text
        if text != self._last_text:
            # Most texts are looked at twice in a row.
            self._last_text = text
            visible = "".join(_INVISIBLE.split(text))
            self._last_visible = text if len(visible) == len(text) else visible
        return self._last_visible


def _visible_positions(text: str) -> list[int]:
    """
    Return where each character is in `text` that is not passed over.
    """
    positions: list[int] = []
    start = 0
    for match in _INVISIBLE.finditer(text):
        positions += range(start, match.start())
        start = match.end()
    positions += range(start, len(text))
    return positions


class RedactingStream:
    """
    Replace the secrets in a text that arrives in pieces, and keep the pieces apart.

    Args:
        finder: Finds the secrets.
    """

    def __init__(self, finder: SecretFinder) -> None:
        self._finder = finder
        self._pieces: deque[str] = deque()
        self._text = ""

    @property
    def undecided(self) -> int:
        """
        Return the number of pieces that are not decided yet.
        """
        return len(self._pieces)

    def split(self, piece: str) -> tuple[str, str]:
        """
        Return `piece` in two parts, so that little is undecided after both were fed.
        """
        length = min(self._finder.open_length(self._text[-_MAX_UNDECIDED:] + piece), len(piece))
        position = len(piece) - length
        return piece[:position], piece[position:]

    def feed(self, piece: str) -> list[str]:
        """
        Add `piece`, and return the oldest pieces that are decided by now, redacted.

        In a piece in which a secret goes on that began in an earlier one, that part is missing.
        """
        if not self._finder.forms:
            return [piece]
        self._pieces.append(piece)
        self._text += piece
        open_length = self._finder.open_length(self._text)
        if len(self._text) > _MAX_UNDECIDED:
            return self._decide(len(self._text), self._finder.spans(self._text))
        return self._decide(len(self._text) - open_length, self._finder.spans(self._text))

    def flush(self) -> list[str]:
        """
        Return the pieces that were undecided, because no other follows.

        What may be most of a secret is replaced as well.
        """
        spans = self._finder.spans(self._text)
        open_length = self._finder.open_length(self._text)
        start = len(self._text) - open_length
        if open_length >= MIN_LENGTH and all(end <= start for _, end in spans):
            spans.append((start, len(self._text)))
        return self._decide(len(self._text), spans)

    def _decide(self, limit: int, spans: list[tuple[int, int]]) -> list[str]:
        """
        Return the redacted pieces that end at most at `limit`, with all of the secrets in them.
        """
        # Where a piece ends, and how many pieces end there or before.
        position, count, decided = 0, 0, 0
        for number, piece in enumerate(self._pieces, 1):
            position += len(piece)
            if position > limit:
                break
            # A secret that goes on in a piece that is not decided would be forgotten.
            if not any(start < position < end for start, end in spans) or limit == len(self._text):
                count, decided = number, position
        redacted = []
        start = 0
        for _ in range(count):
            piece = self._pieces.popleft()
            redacted.append(_redacted(piece, start, spans))
            start += len(piece)
        self._text = self._text[decided:]
        return redacted


def _redacted(piece: str, start: int, spans: list[tuple[int, int]]) -> str:
    """
    Return `piece`, which begins at `start`, without the secrets at `spans`.
    """
    if not spans:
        return piece
    parts = []
    position, end = start, start + len(piece)
    for first, last in spans:
        if last <= start or first >= end:
            continue
        if first >= start:
            parts += [piece[position - start : first - start], REDACTED]
        position = min(last, end)
    parts.append(piece[position - start :])
    return "".join(parts)
