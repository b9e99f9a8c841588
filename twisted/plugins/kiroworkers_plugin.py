"""
Lets `twistd` find kiroworkers.  Read whenever twistd lists its plugins, so it
imports nothing but the name of the place to look.
"""

from twisted.application.service import ServiceMaker

kiroworkers = ServiceMaker(
    "kiroworkers",
    "kiroworkers.tap",
    "A warm pool of terminal AI agents (Kiro CLI) behind typed JSON endpoints.",
    "kiroworkers",
)
