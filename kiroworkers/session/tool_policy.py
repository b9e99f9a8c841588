"""
Define what happens when an agent asks to use a tool.
"""

from __future__ import annotations

from enum import Enum


class ToolPolicy(Enum):
    """
    Represent who decides about an agent's requests to use a tool.

    `DENY` and `ALLOW` decide all of them at once.  With `ASK` an operator decides about each;
    one that is undecided at the request's deadline is denied.

    With `DENY` and `ASK`, an agent that uses a tool without asking may only have read.  After
    anything else (a write, a command, access to the network, or what is not known to be one of
    these) the turn fails and the session ends.  A read outside the session's folder, or one
    that is not known to be inside, is logged as a warning: few agents tell where they read, and
    nearly all read something for each prompt.
    """

    DENY = "deny"
    ASK = "ask"
    ALLOW = "allow"
