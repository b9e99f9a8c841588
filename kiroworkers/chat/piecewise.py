r"""
A reply, as it is said: the string in ``{"reply": "…"}``, decoded piece by piece::

    >>> reader = ReplyReader()
    >>> [reader.feed(piece) for piece in ('```json\n{"re', 'ply": "One\\', 'ntwo"', '}')]
    ['', 'One', '\ntwo', '']

Nothing is given out that what follows could change: half an escape and half a
surrogate pair wait for the rest.
"""

from __future__ import annotations

import json
import re

_BEFORE = re.compile(r'\{\s*"reply"\s*:\s*"')

#: What may stand before the reply; more is not looked through again and again.
_LONGEST_BEFORE = 10_000

_HIGH = "[\ud800-\udbff]"
_HIGH_ESCAPE = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW_ESCAPE = r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"

#: What is certain of a JSON string: characters, whole escapes, whole pairs.  A first
#: half is only taken with its other one, or when that does not follow.
_CERTAIN = re.compile(
    rf"(?:[^\"\\\ud800-\udbff]|{_HIGH}[^\ud800-\udbff]|\\[^u]"
    rf"|{_HIGH_ESCAPE}{_LOW_ESCAPE}"
    rf"|(?!{_HIGH_ESCAPE})\\u[0-9a-fA-F]{{4}})*"
)


class ReplyReader:
    """
    Is fed what the agent says, cut anywhere, and gives the first reply in it.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._inside = False
        self._over = False

    def feed(self, text: str) -> str:
        """
        What is certain of the reply since the last piece.
        """
        if self._over:
            return ""
        self._rest += text
        if not self._inside:
            before = _BEFORE.search(self._rest, 0, _LONGEST_BEFORE)
            if before is None:
                self._over = len(self._rest) > _LONGEST_BEFORE
                return ""
            self._inside = True
            self._rest = self._rest[before.end() :]
        certain = _CERTAIN.match(self._rest)
        assert certain is not None, "it matches nothing, too"
        self._rest = self._rest[certain.end() :]
        try:
            said: str = json.loads(f'"{certain[0]}"')
        except ValueError:
            # No JSON: a newline as it is, say.
            self._over = True
            return ""
        self._over = self._rest.startswith('"')
        return said
