r"""
Make text from clients and agents safe to print on a terminal or to write into a log.

Characters that control a terminal, end a line or change the direction of text are replaced
by their escape sequences, so that they can be read but do nothing::

    >>> clean_text("Run \x9b2J\n\u202etxt.exe")
    'Run \\x9b2J\\n\\u202etxt.exe'
"""

from __future__ import annotations

import re

#: C0 and C1 controls and DEL, marks and overrides of the direction of text (Unicode Standard
#: Annex 9), separators of lines and paragraphs, and surrogates, which no encoding allows.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

#: The same characters, except the tab and the line feed.
_UNSAFE_IN_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))

#: A string literal of Python.  An apostrophe within a word begins none.
_QUOTED = re.compile(
    r"""(?<!\w)(?:'(?:[^'\\]|\\.)*+(?:'|\\?$)|"(?:[^"\\]|\\.)*+(?:"|\\?$))""", re.DOTALL
)


def clean_text(text: str) -> str:
    """
    Return `text` as one line without control characters.
    """
    return _UNSAFE.sub(_escape, text)


def clean_lines(text: str) -> str:
    """
    Return `text` without control characters other than tabs and the ends of its lines.

    It is for text whose line breaks are known to be harmless, such as a traceback.
    """
    return _UNSAFE_IN_LINES.sub(_escape, text)


def clean_json(text: str) -> str:
    """
    Return `text`, which is JSON, with control characters replaced by JSON's own escapes.

    Tabs and the ends of lines stay, and so does the value that it encodes.
    """
    return _UNSAFE_IN_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def without_quotes(text: str) -> str:
    """
    Return `text` with an ellipsis in place of each literal that it quotes.

    A sentence about an answer quotes it as `repr` does, and may be cut within the quote::

        >>> without_quotes("title: 'My idea' does not match '^x$', and 'My ot…")
        "title: '…' does not match '…', and '…'"
    """
    return _QUOTED.sub("'…'", text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
