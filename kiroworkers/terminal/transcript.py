"""
What a person looking at the terminal would have read, as plain text::

    >>> plain(b"\\r\\xe2\\xa0\\x8b Thinking...\\x1b[2K\\x1b[1GDone.\\r\\n")
    'Done.\\n'

Written for line interfaces, which print from top to bottom and rewrite at most
the line they are on.  A rewritten line counts as its last writing; cursor
movements between lines are not followed.  The cost is linear in the length.
"""

from __future__ import annotations

import re

#: Erasing the line or going back to its first column: what follows replaces it.
_LINE_AGAIN = re.compile(rb"\x1b\[(?:2K|1?G)")

#: CSI, OSC (ended by BEL or ST), DCS/SOS/PM/APC, charset and two-byte escapes.
#: A string that is never ended is dropped up to the end of its line.
_ESCAPES = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]*[ -/]*[@-~]"
    rb"|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"
    rb"|[PX^_][^\x1b\r\n]*(?:\x1b\\)?"
    rb"|[ -/]+[0-~]"
    rb"|[0-~]"
    rb")"
)
#: All but tab, newline and carriage return.
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\r"))


def plain(data: bytes) -> str:
    """
    The text in `data`, without escapes, its newlines as ``\\n``.  Bytes that
    are not UTF-8 become U+FFFD.
    """
    data = _ESCAPES.sub(b"", _LINE_AGAIN.sub(b"\r", data)).translate(None, _CONTROLS)
    shown = (line.rstrip(b"\r").rpartition(b"\r")[2] for line in data.split(b"\n"))
    return b"\n".join(shown).decode("utf-8", "replace")
