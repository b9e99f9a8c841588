r"""
Answer queries for the terminal's identity, its cursor and its colours.

A program may wait for an answer before it shows its prompt.  But an answer is typed, and a
program that did not ask takes it for keys.  The output of an agent may quote a client or a
model, so not every query in it is the program's own::

    >>> queries = TerminalQueries()
    >>> queries.feed(b"\x1b[6n")
    >>> queries.data_to_send()
    b'\x1b[1;1R'

Before the first prompt is typed, nobody can be quoted, so every query is answered at once.
Later, a query is answered only if the program asked one of the same kind before the first
prompt, so that it understands the answer, and only when the program is silent and its cursor
is still on the row of the query.  The number of answers is limited.
"""

from __future__ import annotations

import re

#: The queries that are answered.  Queries for Kitty's keyboard protocol (``CSI ? u``) and for
#: capabilities (``DCS + q``) are not: the terminal has neither, and programs send another query
#: after these to find out that no answer will come.
_QUERY = re.compile(
    r"\x1b\[(?P<device>[>?]?)(?P<status>[56])n"
    r"|\x1b\[(?P<attributes>>?)0?c"
    r"|\x1b\[\?(?P<mode>[0-9]{1,5})\$p"
    r"|\x1b\[>0?(?P<version>q)"
    r"|\x1b\](?P<colour>1[0-2]);\?(?:\x07|\x1b\\)"
)
#: The maximum length of a query.
_MAX_QUERY_LENGTH = 16

#: The maximum number of answers before the first prompt, and in each turn.
_MAX_ANSWERS = 64
_MAX_ANSWERS_IN_TURN = 8

_PRIMARY_ATTRIBUTES = b"\x1b[?62;22c"  # a VT220 with colours
_SECONDARY_ATTRIBUTES = b"\x1b[>1;10;0c"
_VERSION = b"\x1bP>|kiroworkers\x1b\\"
#: Text, background and cursor.
_COLOURS = {
    "10": b"rgb:ffff/ffff/ffff",
    "11": b"rgb:0000/0000/0000",
    "12": b"rgb:ffff/ffff/ffff",
}
_SYNCHRONIZED_UPDATE_MODE = "2026"


def answer_to(query: str, row: int, column: int) -> tuple[str, bytes] | None:
    """
    Return the kind of `query` and the answer to it; None if it is not a query.

    Args:
        query: A complete escape sequence.
        row: The cursor's row, from 0.
        column: The cursor's column, from 0.
    """
    match = _QUERY.fullmatch(query)
    if match is None or match["device"] == ">":
        return None
    if match["status"] == "5":
        return "status", b"\x1b[0n"
    if match["status"] == "6":
        private = match["device"]
        return f"{private}cursor", f"\x1b[{private}{row + 1};{column + 1}R".encode()
    if match["attributes"] is not None:
        attributes = match["attributes"]
        return f"{attributes}attributes", (
            _SECONDARY_ATTRIBUTES if attributes else _PRIMARY_ATTRIBUTES
        )
    if match["mode"] is not None:
        # 2: it is known and off; 0: it is not known.
        value = 2 if match["mode"] == _SYNCHRONIZED_UPDATE_MODE else 0
        return "mode", f"\x1b[?{match['mode']};{value}$y".encode()
    if match["version"] is not None:
        return "version", _VERSION
    colour = match["colour"]
    return "colour", b"\x1b]%b;%b\x1b\\" % (colour.encode(), _COLOURS[colour])


class TerminalQueries:
    """
    Decide which queries of a program are answered, and when.
    """

    def __init__(self) -> None:
        self._prompted = False
        # The kinds of query that the program asked before its first prompt.
        self._kinds: set[str] = set()
        # Answers that are due when the program waits, each with the row of its query.
        self._pending: list[tuple[int, bytes]] = []
        self._answers = b""
        self._answers_left = _MAX_ANSWERS
        self._unread = ""

    def feed(self, data: bytes) -> None:
        """
        Take in output of a program whose cursor is not followed, as if it never moved.

        Args:
            data: The output, which may be cut at any byte.
        """
        text = self._unread + data.decode("latin-1")
        end = 0
        for match in _QUERY.finditer(text):
            self.asked(match[0], 0, 0)
            end = match.end()
        start = text.find("\x1b", max(end, len(text) - _MAX_QUERY_LENGTH))
        self._unread = text[start:] if start >= 0 else ""

    def asked(self, query: str, row: int, column: int, number: int = 0) -> None:
        """
        Take in an escape sequence, which may be a query.

        Args:
            query: The sequence.
            row: The cursor's row on the screen, from 0.
            column: The cursor's column, from 0.
            number: A number for the cursor's row that does not change when the screen scrolls.
        """
        answer = answer_to(query, row, column)
        if answer is None:
            return
        kind, data = answer
        if not self._prompted:
            self._kinds.add(kind)
            self._send(data)
        elif kind in self._kinds:
            self._pending.append((number, data))

    def prompted(self) -> None:
        """
        Note that a prompt is typed.  The output that follows may quote it, or quote a model.
        """
        self._prompted = True
        self._pending.clear()
        self._answers_left = _MAX_ANSWERS_IN_TURN

    def waits(self, number: int = 0) -> bool:
        """
        Return whether a silent program may be waiting for an answer.

        Args:
            number: The number of the row that the cursor is on.
        """
        return self._answers_left > 0 and any(row == number for row, _ in self._pending)

    def on_quiet(self, number: int = 0) -> None:
        """
        Make due the answers that a silent program, whose cursor is on row `number`, waits for.
        """
        pending, self._pending = self._pending, []
        for row, data in pending:
            if row == number:
                self._send(data)

    def data_to_send(self) -> bytes:
        """
        Return the answers to type now.
        """
        answers, self._answers = self._answers, b""
        return answers

    def _send(self, data: bytes) -> None:
        if self._answers_left > 0:
            self._answers_left -= 1
            self._answers += data
