"""
Name the revisions of MCP that the server speaks.

The newest one is stateless: each request says what it needs in its ``_meta``.  The older ones begin
with a handshake, ``initialize``, whose result is kept in a session.
"""

from __future__ import annotations

#: The revision without a handshake.
STATELESS = "2026-07-28"

#: The revisions with a handshake, newest first.
HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26")

#: All revisions, newest first.
SUPPORTED = (STATELESS, *HANDSHAKE)


def negotiated(requested: str) -> str:
    """
    Return the revision of a session whose client prefers `requested`.

    A client that cannot speak it ends the session.
    """
    return requested if requested in HANDSHAKE else HANDSHAKE[0]
