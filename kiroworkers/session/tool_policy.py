"""
Define what happens when an agent asks to use a tool.
"""

from __future__ import annotations

from enum import Enum


class ToolPolicy(Enum):
    """
    Represent who decides about an agent's requests to use a tool.

    `DENY` and `ALLOW` answer each request at once.  With `ASK`, an operator decides about each
    request; one that is undecided at the deadline is denied.

    With `DENY` and `ASK`, an agent may read without asking.  After any other use without asking
    (a write, a command, access to the network, or an unknown use) the turn fails and the session
    ends.  A read that is not known to be inside the session's folder is only logged as a warning,
    because few agents say where they read, and nearly all read something for each prompt.
    """

    DENY = "deny"
    ASK = "ask"
    ALLOW = "allow"
