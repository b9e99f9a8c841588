r"""
Read the string in ``{"reply": "…"}`` incrementally.

The reader decodes a text reply while the agent still produces it::

    >>> reader = ReplyReader()
    >>> [reader.feed(piece) for piece in ('```json\n{"re', 'ply": "One\\', 'ntwo"', '}')]
    ['', 'One', '\ntwo', '']

It returns no text that later input could change: half an escape or half a surrogate
pair waits for its other half.
"""

from __future__ import annotations

import json
import re

_REPLY_START = re.compile(r'\{\s*"reply"\s*:\s*"')

#: Characters in which the reply must start.  Without a limit, each piece would cause the
#: whole text before it to be searched again.
_MAX_PREAMBLE = 10_000

_HIGH = "[\ud800-\udbff]"
_LOW = "[\udc00-\udfff]"
_HIGH_ESCAPE = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW_ESCAPE = r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"

#: Matches where no escape of a low surrogate begins, not even an incomplete one.
_NO_LOW_ESCAPE = r"(?=[^\\]|\\[^u]|\\u(?![dD][c-fC-F])[0-9a-fA-F]{2})"

#: The part of a JSON string that later input cannot change: characters, complete escapes
#: and complete surrogate pairs.  A high surrogate is matched only together with the low one
#: after it, or when something else follows.
_COMPLETE = re.compile(
    rf"(?:[^\"\\\ud800-\udbff]|{_HIGH}(?:{_LOW}|(?=[^\udc00-\udfff]))|\\[^u]"
    rf"|{_HIGH_ESCAPE}(?:{_LOW_ESCAPE}|{_NO_LOW_ESCAPE})"
    rf"|(?!{_HIGH_ESCAPE})\\u[0-9a-fA-F]{{4}})*"
)


class ReplyReader:
    """
    Read the first reply in an agent's output, which may be cut anywhere.
    """

    def __init__(self) -> None:
        self._unread = ""
        self._in_reply = False
        self._finished = False

    def feed(self, text: str) -> str:
        """
        Return what `text`, the next piece of output, adds to the reply.

        The result is empty before the reply, after it, and after a string that is not JSON.
        """
        if self._finished:
            return ""
        self._unread += text
        if not self._in_reply:
            start = _REPLY_START.search(self._unread, 0, _MAX_PREAMBLE)
            if start is None:
                self._finished = len(self._unread) > _MAX_PREAMBLE
                return ""
            self._in_reply = True
            self._unread = self._unread[start.end() :]
        complete = _COMPLETE.match(self._unread)
        assert complete is not None, "the pattern also matches the empty string"
        self._unread = self._unread[complete.end() :]
        try:
            decoded: str = json.loads(f'"{complete[0]}"')
        except ValueError:
            # Not JSON: for example, a literal newline in the string.
            self._finished = True
            return ""
        self._finished = self._unread.startswith('"')
        return decoded
